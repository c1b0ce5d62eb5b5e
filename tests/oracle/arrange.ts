// SPDX-License-Identifier: MIT
// Prepares inputs for instructions whose interesting behaviour chance would rarely reach: counts, divisors, stack contents, jump targets.

import { DATA_BASE, PAGE } from './case.ts';
import type { CaseBuilder } from './builder.ts';
import type { Operands } from './encoder.ts';
import type { Form } from './forms/form.ts';
import { integer } from './random.ts';

export interface Arrangement {
  b: CaseBuilder;
  form: Form;
  operands: Operands;
  /** Number of this unit and of all units. */
  index: number;
  count: number;
  last: boolean;
  base: Uint8Array;
  fx: Uint8Array;
}

/** Changes initial registers and memory (before the first instruction) or prepends helper instructions (later). */
export function arrange(a: Arrangement): void {
  const t = a.form.traits;
  if (t.has('rep') || t.has('repcc')) strings(a);
  if ((t.has('rep') || t.has('repcc')) && a.b.mode === 64 && a.operands.prefixes.includes(0x67)) narrow(a);
  if (t.has('divide')) divide(a);
  if (t.has('compare')) compare(a);
  if (t.has('bitoffset') && typeof a.operands.rm !== 'number') bitOffset(a);
  if (t.has('target')) target(a);
  if (t.has('popf')) popf(a);
  if (t.has('xlat') || t.has('di') || t.has('leave')) pointers(a);
  if (t.has('counter')) counter(a);
  if (t.has('strings')) explicitLengths(a);
  if (t.has('mxcsr') || t.has('fcw') || t.has('fenv') || t.has('fxrstor')) controlImages(a);
  if (t.has('shift')) vectorCount(a);
  // With a memory operand Intel leaves x87 mode and AMD does not: an MMX instruction before it (pand mm0, mm0) makes that the same.
  if (t.has('mmxfirst') && typeof a.operands.rm !== 'number') a.b.prepend([0x0f, 0xdb, 0xc0], 'pand 0F DB /r');
}

/** mov r32, imm32 (B8+r) before the instruction. */
function load(a: Arrangement, register: number, value: number): void {
  const bytes = register > 7 ? [0x41] : [];
  bytes.push(0xb8 | (register & 7), value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff);
  a.b.prepend(bytes, 'mov B8+r iv');
  a.b.known[register] = false;
}

function set(a: Arrangement, register: number, value: bigint): void {
  a.b.gpr[register] = a.b.mode === 32 ? BigInt.asUintN(32, value) : value;
}

function strings(a: Arrangement): void {
  const { b } = a;
  const { r } = b;
  const count = r.chance(0.75) ? r.below(40) : r.chance(0.9) ? r.below(9000) : -1;
  if (b.first) {
    if (r.chance(0.95)) set(a, 1, count < 0 ? integer(r) : BigInt(count));
    for (const n of [6, 7]) if (r.chance(0.85)) set(a, n, BigInt(b.address(8, r.chance(0.5))));
    // Overlapping and equal areas.
    if (r.chance(0.3)) set(a, 7, b.gpr[6] + BigInt(r.below(33) - 16));
    if (a.form.name === 'scas' && r.chance(0.5)) set(a, 0, 0n);
  } else {
    if (r.chance(0.8)) load(a, 1, count < 0 ? r.u32() : count);
    if (r.chance(0.4)) load(a, 7, b.address(64, a.last));
    if (r.chance(0.3)) load(a, 6, b.address(64, a.last));
  }
}

/** With 32-bit addresses the upper halves of RCX, RSI and RDI are cleared at the latest by the first turn, on Intel's even where there is none: they begin so. */
function narrow(a: Arrangement): void {
  const { b } = a;
  for (const n of [1, 6, 7]) {
    if (b.first) set(a, n, BigInt.asUintN(32, b.gpr[n]));
    else b.prepend([0x89, 0xc0 | (n << 3) | n], 'mov 89 /r');
  }
}

/** Quotients that fit: the upper half is zero, the sign, or small. */
function divide(a: Arrangement): void {
  const { b } = a;
  const { r } = b;
  if (r.chance(0.25)) return;
  if (a.operands.size === 'b') {
    const value = r.chance(0.5) ? r.below(256) : r.below(4096) - 2048;
    if (b.first) set(a, 0, (b.gpr[0] & ~0xffffn) | BigInt(value & 0xffff));
    else load(a, 0, value);
  } else if (b.first) {
    const width = { w: 16, d: 32, q: 64 }[a.operands.size] ?? 32;
    const negative = ((b.gpr[0] >> BigInt(width - 1)) & 1n) === 1n;
    set(
      a,
      2,
      a.form.name === 'idiv' ? BigInt.asUintN(64, negative ? -1n : 0n) : BigInt(r.chance(0.7) ? 0 : r.below(16)),
    );
  } else load(a, 2, 0);
}

/** Comparisons that succeed. */
function compare(a: Arrangement): void {
  const { b, operands } = a;
  if (!b.first || !b.r.chance(0.5)) return;
  if (typeof operands.rm === 'number') {
    if (operands.rm !== 4) set(a, operands.rm, b.gpr[0]);
    return;
  }
  const address = a.b.knownAddress(a.operands);
  if (address === undefined) return;
  const bytes = { b: 1, w: 2, d: 4, q: 8 }[operands.size] ?? 8;
  if (a.form.memoryBytes < 8) b.patchInteger(address, b.gpr[0], bytes);
  else {
    const half = a.form.memoryBytes / 2;
    b.patchInteger(address, b.gpr[0], half);
    b.patchInteger(address + half, b.gpr[2], half);
  }
}

/** Bit offsets that stay within the data pages, on either side of the operand. */
function bitOffset(a: Arrangement): void {
  const { b, operands } = a;
  const m = operands.rm;
  if (typeof m === 'number' || !b.r.chance(0.75)) return;
  const offset = b.r.below(2 * 8 * PAGE) - 8 * PAGE;
  if (operands.reg === 4) return;
  if (!b.first) load(a, operands.reg, offset >= 0 ? offset : offset & 0xffff);
  else if (m.base !== operands.reg && m.index !== operands.reg)
    set(a, operands.reg, BigInt.asUintN(64, BigInt(offset)));
}

/** Indirect jumps and returns: a label in a register, in memory or on the stack; sometimes an address where nothing may run. */
function target(a: Arrangement): void {
  const { b, form, operands } = a;
  const { r } = b;
  const width = b.mode / 8;
  const label = Math.min(a.count, a.index + 1 + r.below(4));
  const wild = a.last && r.chance(0.15);
  const wildTarget = r.chance(0.6) ? BigInt(b.address(1, true)) : BigInt.asUintN(b.mode, integer(r));
  if (form.name === 'ret') {
    if (!b.first) {
      push(a, (place) => b.whenPlaced(label, place));
      return;
    }
    const stack = Number(BigInt.asUintN(32, b.gpr[4]));
    if (b.gpr[4] >= 0x100000000n) return;
    if (wild) b.patchInteger(stack, wildTarget, width);
    else placeInMemory(a, stack, label, width);
    return;
  }
  if (typeof operands.rm !== 'number') {
    const address = a.b.knownAddress(a.operands);
    if (address === undefined) return;
    if (wild) b.patchInteger(address, wildTarget, width);
    else placeInMemory(a, address, label, width);
    return;
  }
  const register = operands.rm;
  if (b.first) {
    if (wild) set(a, register, wildTarget);
    else b.whenPlaced(label, (address) => set(a, register, BigInt(address)));
    // The register is no pointer any more, and its value is not yet known to operands.
    b.known[register] = false;
    return;
  }
  load(a, register, 0);
  const at = b.code.length - 4;
  b.whenPlaced(label, (address) => putInteger(b.code, at, address));
}

function placeInMemory(a: Arrangement, address: number, label: number, width: number): void {
  const data = new Uint8Array(width);
  if (a.b.patch(address, data)) a.b.whenPlaced(label, (value) => new DataView(data.buffer).setUint32(0, value, true));
}

function putInteger(code: number[], at: number, value: number): void {
  for (let i = 0; i < 4; i++) code[at + i] = (value >> (8 * i)) & 0xff;
}

/** push imm32 before the instruction, the immediate filled in now or by `place`. */
function push(a: Arrangement, place: (put: (value: number) => void) => void): void {
  a.b.prepend([0x68, 0, 0, 0, 0], 'push 68 iz');
  const at = a.b.code.length - 4;
  a.b.known[4] = false;
  place((value) => putInteger(a.b.code, at, value));
}

/** Flag images without TF (the harness is no debugger) and AC (Linux reports alignment checks, a PV guest has them masked). */
function popf(a: Arrangement): void {
  const { b } = a;
  const flags = b.r.u32() & ~0x40100;
  if (!b.first) {
    push(a, (put) => {
      put(flags & 0x7fffffff);
    });
    return;
  }
  const safe = DATA_BASE + 16 + 8 * b.r.below(1000);
  if (b.gpr[4] < BigInt(DATA_BASE) || b.gpr[4] >= BigInt(DATA_BASE + 2 * PAGE - 8)) set(a, 4, BigInt(safe));
  b.patchInteger(Number(b.gpr[4]), BigInt(flags), 4);
}

function pointers(a: Arrangement): void {
  const { b, form } = a;
  if (!b.r.chance(0.8)) return;
  const register = form.traits.has('xlat') ? 3 : form.traits.has('leave') ? 5 : 7;
  const address = b.address(form.traits.has('xlat') ? 256 : 16, a.last);
  if (b.first) set(a, register, BigInt(address));
  else load(a, register, address);
}

function counter(a: Arrangement): void {
  const { b } = a;
  if (b.r.chance(0.5)) return;
  if (b.first) set(a, 1, b.r.pick([0n, 1n, 2n, 0x100000000n, 0x100000001n, 0x10000n]));
  else load(a, 1, b.r.below(3));
}

/** PCMPESTRx lengths: around the sixteen bytes of an operand. */
function explicitLengths(a: Arrangement): void {
  const { b } = a;
  if (!b.first) return;
  for (const register of [0, 2]) if (b.r.chance(0.7)) set(a, register, BigInt.asUintN(64, BigInt(b.r.below(44) - 22)));
}

/** Control words and images in memory: reserved MXCSR bits fault, so most images get valid ones. */
function controlImages(a: Arrangement): void {
  const { b, form } = a;
  const { r } = b;
  const address = a.b.knownAddress(a.operands);
  if (address === undefined) return;
  const t = form.traits;
  if (t.has('mxcsr')) {
    // Bit 17 is AMD's misaligned-SSE mode, which Intel reserves: never set.
    const valid = r.chance(0.85);
    b.patchInteger(address, BigInt(valid ? r.u32() & 0xffff : (r.u32() & ~0x20000) >>> 0), 4);
  } else if (t.has('fxrstor')) {
    const data = new Uint8Array(8);
    new DataView(data.buffer).setUint32(
      0,
      r.chance(0.9) ? (r.chance(0.7) ? 0x1f80 : r.u32() & 0xffbf) : (r.u32() & ~0x20000) >>> 0,
      true,
    );
    b.patch(address + 24, data);
    if (r.chance(0.7)) b.patchInteger(address, BigInt(0x37f | (r.below(8) << 27)), 4);
  } else if (r.chance(0.6)) {
    b.patchInteger(
      address,
      BigInt(0x340 | (r.u32() & 0xc00) | (r.chance(0.8) ? 0x3f : r.u32() & 0x3f)),
      t.has('fcw') ? 2 : 4,
    );
  }
}

/** Shift counts of MMX and SSE shifts lie in a vector: small ones in the second operand of the first instruction. */
function vectorCount(a: Arrangement): void {
  const { b, form, operands, fx } = a;
  if (!b.first || form.immediates.length > 0 || b.r.chance(0.3)) return;
  const count = BigInt(b.r.below(70));
  if (typeof operands.rm !== 'number') {
    const address = a.b.knownAddress(a.operands);
    if (address !== undefined) b.patchInteger(address, count, 8);
    return;
  }
  const at = form.rmClass === 'xmm' ? 160 + 16 * operands.rm : 32 + 16 * ((operands.rm - top(fx)) & 7);
  new DataView(fx.buffer).setBigUint64(at, count, true);
}

/** TOP of an FXSAVE image: MMX register n is physical register n, the image is ordered by stack position. */
function top(fx: Uint8Array): number {
  return (fx[3] >> 3) & 7;
}
