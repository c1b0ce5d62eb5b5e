// SPDX-License-Identifier: MIT
// Compares what a case left behind natively and in the engine, leaving out what the architecture leaves open.
//
// Left out, with the reason (where makers differ and a case may end either way, see makers.ts):
// - flags and x87 condition codes that the last instructions leave undefined (undefined-bits.ts), RF and TF (the kernel sets RF in signal frames);
// - FOP, FIP, FDP: AMD saves them only with a pending exception, Intel always; MXCSR_MASK: AMD has bit 17, Intel not;
// - error-code bit 0 of page faults in the kernel's half: Linux sets it for every such fault, to hide its page tables;
// - registers 8-15 and the upper halves of the others in 32-bit mode, which cannot be observed there;
// - which byte of an image (FXSAVE, FNSAVE, FLDENV and the like) a page fault names: AMD names the last, the manuals none;
// - MASKMOVDQU and MASKMOVQ that fault: whether an empty mask faults, and at which byte, is up to the CPU (SDM vol. 2);
// - x87 operands that are accessed in parts and lie across 4 GiB: AMD accesses the first part before it checks the limit for the last;
// - PUSHA and POPA that fault half-way: AMD has changed some registers by then;
// - FPREM and FPREM1 that did not finish (C2), for how far one step reduces is up to the CPU, or that were invalid;
// - status flags where repeated CMPS or SCAS fault: those of the last comparison, but on AMD those of before behind some 2000 elements (SDM vol. 2: always);
// - conversions between MMX and XMM registers that raise #XM: AMD has marked the x87 registers valid by then, which is not documented;
// - SSE operands across 4 GiB in the stack segment: AMD looks at the alignment (#GP) before the limit (#SS);
// - #AC: Linux reports misaligned accesses with AC set, a PV guest has them masked (POPF gets images without AC, but cases can overwrite them);
// - page faults in the engine at addresses where the native process has its own stack and libraries, or what leads into cases and out of them;
// - cases that end with MXCSR bit 17 set (AMD's misaligned-SSE mode, reserved on Intel), and cases that do not end.

import { sameButForNans } from '../../engine/x86/simd-any-nan.ts';
import { DATA_BASE, memoryBefore, PAGE, STATUS, STUB } from './case.ts';
import type { Case, Result } from './case.ts';
import {
  accessesMore,
  anyFaultWill,
  isRepeated,
  memoryBytesOf,
  openMemory,
  overwritesItself,
  stepAt,
} from './makers.ts';
import { X87_CODES } from './undefined-bits.ts';

export interface Difference {
  /** Register, flag, address or aspect. */
  what: string;
  native: string;
  engine: string;
}

type Note = (what: string, a: bigint | number, b: bigint | number) => void;

const NAMES = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
];
/** Status flags, DF, NT, AC, ID. */
const COMPARED_FLAGS = 0x244cd5;
const STATUS_FLAGS = 0x8d5;
/** First address that Linux counts as the kernel's: the last page of the lower half belongs to no process. */
const KERNEL_HALF = (1n << 47n) - 4096n;
/** From here on the native process may have memory that is none of the case's. */
const HARNESS_MEMORY = 0x5500_0000_0000n;
const MISALIGNED_SSE = 0x20000;
/** UE in the x87 status word, UM in the control word: unmasked, results that are too small are scaled. */
const UNDERFLOW = 0x10;
const ALIGNMENT_CHECK = 17;

/** True when a native result says nothing about the architecture. */
export function incomparable(c: Case, native: Result): boolean {
  if (native.status === STATUS.timeout || (u32(native.fx, 24) & MISALIGNED_SSE) !== 0) return true;
  if (native.status === STATUS.exception && native.vector === ALIGNMENT_CHECK) return true;
  const status = u16(native.fx, 2);
  const notANumber = (u16(native.fx, 40) & 0x7fff) === 0x7fff;
  if (PARTIAL_REMAINDER.test(c.steps.at(-1)?.form ?? '') && ((status & 0x401) !== 0 || notANumber)) return true;
  if (native.changes.size > 0 && overwritesItself(c, native)) return true;
  if (isBarelyNormal(c, native.fx) && (u16(native.fx, 0) & UNDERFLOW) === 0) return true;
  const step = stepAt(c, native);
  const form = step?.form ?? '';
  if (/^(pusha|popa) /.test(form)) return true;
  const parts = memoryBytesOf(step);
  if (c.mode === 32 && native.vector === 14 && isInParts(parts) && native.cr2 + BigInt(parts) > 1n << 32n) return true;
  return form.startsWith('maskmov') || (native.vector === 19 && MMX_CONVERSION.test(form));
}

/** A case ended in the middle of a repeated comparison. */
function comparesHalfWay(c: Case, result: Result): boolean {
  const step = stepAt(c, result);
  return step !== undefined && /^(cmps|scas) /.test(step.form) && isRepeated(c, step);
}

const PARTIAL_REMAINDER = /^fprem1? /;
const MMX_CONVERSION = /^cvt(t?p[sd]2pi|pi2p[sd]) /;

/** Memory operands of this size have to be aligned. */
const ALIGNED = 16;
/** Larger ones are images of registers. Those, and x87's operands of 80 bits, are accessed in parts. */
const isInParts = (bytes: number): boolean => bytes > 8 && bytes !== ALIGNED;

/** What differs; empty when the engine did what the CPU did. */
export function differences(c: Case, base: Uint8Array, native: Result, engine: Result): Difference[] {
  const found: Difference[] = [];
  const note = (what: string, a: bigint | number, b: bigint | number): void => {
    if (a !== b) found.push({ what, native: hex(a), engine: hex(b) });
  };
  if (accessesMore(c, native, engine)) return [];
  const isEitherFault = anyFaultWill(c, native, engine);
  if (!isEitherFault && (native.status !== engine.status || native.vector !== engine.vector)) {
    if (c.mode === 64 && engine.vector === 14 && engine.cr2 >= HARNESS_MEMORY && engine.cr2 < KERNEL_HALF) return [];
    if (engine.vector === 14 && engine.cr2 >= STUB[64] && engine.cr2 < STUB[64] + 2 * PAGE) return [];
    const isAligned = memoryBytesOf(stepAt(c, native)) === ALIGNED;
    if (c.mode === 32 && native.vector === 13 && engine.vector === 12 && isAligned) return [];
    return [{ what: 'outcome', native: outcome(native), engine: outcome(engine) }];
  }
  note('rip', native.rip, engine.rip);
  if (!isEitherFault) compareFault(c, native, engine, note);

  const registers = c.mode === 64 ? 16 : 8;
  for (let n = 0; n < registers; n++) {
    if (c.mode === 64) note(NAMES[n], native.gpr[n], engine.gpr[n]);
    else note(NAMES[n].replace('r', 'e'), native.gpr[n] & 0xffffffffn, engine.gpr[n] & 0xffffffffn);
  }
  const undef = undefinedBits(c, native);
  const flags = COMPARED_FLAGS & ~undef & ~(comparesHalfWay(c, native) ? STATUS_FLAGS : 0);
  note('rflags', native.rflags & flags, engine.rflags & flags);
  compareFx(c, native, engine, (undef & X87_CODES) >>> 16, note);
  compareMemory(c, base, native, engine, note);
  return found;
}

/** Error code and address of what the case ended with. */
function compareFault(c: Case, native: Result, engine: Result, note: Note): void {
  if (native.vector !== 14) {
    note('error code', native.error, engine.error);
    return;
  }
  const image = memoryBytesOf(stepAt(c, native)) > ALIGNED;
  if (!image) note('cr2', native.cr2, engine.cr2);
  const mask = image || native.cr2 >= KERNEL_HALF ? ~1 : ~0;
  note('error code', native.error & mask, engine.error & mask);
}

/** FLAG bits with no defined value where the case ended. */
function undefinedBits(c: Case, result: Result): number {
  const steps = c.steps;
  if (steps.length === 0) return 0;
  if (result.status === STATUS.done) return steps[steps.length - 1].undefinedAfter;
  const here = stepAt(c, result);
  const at = here ? steps.indexOf(here) : -1;
  // Inside or outside the code (a wild jump): any of the steps may have been the last one.
  if (at < 0) return steps.reduce((mask, s) => mask | s.undefinedAfter, 0);
  return steps[at].undefinedAfter | (at > 0 ? steps[at - 1].undefinedAfter : 0);
}

function compareFx(c: Case, native: Result, engine: Result, undefinedCodes: number, note: Note): void {
  const a = native.fx;
  const b = engine.fx;
  note('fcw', u16(a, 0), u16(b, 0));
  const undefinedStatus = undefinedCodes | (isBarelyNormal(c, a) ? UNDERFLOW : 0);
  note('fsw', u16(a, 2) & ~undefinedStatus, u16(b, 2) & ~undefinedStatus);
  note('ftag (1 = valid)', a[4], b[4]);
  note('mxcsr', u32(a, 24), u32(b, 24));
  for (let n = 0; n < 8; n++) {
    const at = 32 + 16 * n;
    if (same(a, b, at, 10) || (c.tolerance === 'transcendental' && closeExtended(a, b, at))) continue;
    note(`st(${n})`, u80(a, at), u80(b, at));
  }
  const vectors = c.mode === 64 ? 16 : 8;
  for (let n = 0; n < vectors; n++) {
    const at = 160 + 16 * n;
    if (same(a, b, at, 16) || (c.tolerance === 'reciprocal' && closeSingles(a, b, at))) continue;
    const dotProduct = c.tolerance === 'nan' ? c.steps.at(-1)?.form : undefined;
    if (dotProduct && sameButForNans(dotProduct, a.subarray(at, at + 16), b.subarray(at, at + 16))) continue;
    note(`xmm${n}`, u128(a, at), u128(b, at));
  }
}

function compareMemory(c: Case, base: Uint8Array, native: Result, engine: Result, note: Note): void {
  if (native.changes.size === 0 && engine.changes.size === 0) return;
  const ignored = c.ignoredMemory.map(([offset, length]) => [DATA_BASE + offset, length] as const);
  const open = [...ignored, ...openMemory(c, native)];
  for (const address of new Set([...native.changes.keys(), ...engine.changes.keys()])) {
    const a = native.changes.get(address);
    const b = engine.changes.get(address);
    if (a === b) continue;
    const mask = comparedBytes(open, address);
    // A side that left the word alone has there what was there before.
    const before = (): bigint => u64(memoryBefore(c, base, address, 8), 0);
    note(`[0x${address.toString(16)}]`, (a ?? before()) & mask, (b ?? before()) & mask);
  }
}

/** Mask of the bytes of a word that count. */
function comparedBytes(open: readonly (readonly [address: number, bytes: number])[], address: number): bigint {
  let mask = 0xffffffffffffffffn;
  for (const [from, length] of open) {
    for (let i = 0; i < 8; i++) {
      const at = address + i - from;
      if (at >= 0 && at < length) mask &= ~(0xffn << BigInt(8 * i));
    }
  }
  return mask;
}

/** RCP and RSQRT promise a relative error of 1.5 * 2^-12 each way (SDM vol. 2); two conforming CPUs differ by twice that at most. */
function closeSingles(a: Uint8Array, b: Uint8Array, at: number): boolean {
  const x = new Float32Array(a.slice(at, at + 16).buffer);
  const y = new Float32Array(b.slice(at, at + 16).buffer);
  for (let i = 0; i < 4; i++) {
    if (u32(a, at + 4 * i) === u32(b, at + 4 * i)) continue;
    if (!(Math.abs(x[i] - y[i]) <= Math.abs(x[i]) * 3 * 2 ** -12)) return false;
  }
  return true;
}

/** Transcendental results promise an error below one unit in the last place; two conforming CPUs differ by two at most. */
function closeExtended(a: Uint8Array, b: Uint8Array, at: number): boolean {
  if (((a[at + 9] ^ b[at + 9]) & 0x80) !== 0) return false;
  const distance = magnitude(a, at) - magnitude(b, at);
  return distance >= -2n && distance <= 2n;
}

/** An approximate result may be one unit off, and with it be just a normal number or just none. FPTAN and FSINCOS leave it in ST(1). */
function isBarelyNormal(c: Case, fx: Uint8Array): boolean {
  if (c.tolerance !== 'transcendental') return false;
  const at = /^(fptan|fsincos) /.test(c.steps.at(-1)?.form ?? '') ? 48 : 32;
  return (u16(fx, at + 8) & 0x7fff) <= 1;
}

/** Exponent and significand as one integer that counts representable numbers. */
function magnitude(bytes: Uint8Array, at: number): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, 10);
  return (BigInt(view.getUint16(8, true) & 0x7fff) << 63n) + (view.getBigUint64(0, true) & 0x7fffffffffffffffn);
}

function same(a: Uint8Array, b: Uint8Array, at: number, length: number): boolean {
  for (let i = at; i < at + length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function u16(b: Uint8Array, at: number): number {
  return b[at] | (b[at + 1] << 8);
}

function u32(b: Uint8Array, at: number): number {
  return (u16(b, at) | (u16(b, at + 2) << 16)) >>> 0;
}

function u64(b: Uint8Array, at: number): bigint {
  return BigInt(u32(b, at)) | (BigInt(u32(b, at + 4)) << 32n);
}

function u80(b: Uint8Array, at: number): bigint {
  return u64(b, at) | (BigInt(u16(b, at + 8)) << 64n);
}

function u128(b: Uint8Array, at: number): bigint {
  return u64(b, at) | (u64(b, at + 8) << 64n);
}

function hex(v: bigint | number): string {
  return `0x${v.toString(16)}`;
}

const VECTORS: Readonly<Record<number, string>> = {
  0: '#DE',
  1: '#DB',
  3: '#BP',
  4: '#OF',
  5: '#BR',
  6: '#UD',
  7: '#NM',
  11: '#NP',
  12: '#SS',
  13: '#GP',
  14: '#PF',
  16: '#MF',
  17: '#AC',
  19: '#XM',
};

/** One phrase: how a case ended. */
export function outcome(r: Result): string {
  if (r.status === STATUS.done) return 'completed';
  if (r.status === STATUS.timeout) return 'did not end';
  const at = `at rip 0x${r.rip.toString(16)}`;
  const detail = r.vector === 14 ? `(error ${r.error}, cr2 0x${r.cr2.toString(16)})` : `(error ${r.error})`;
  return `${VECTORS[r.vector] ?? `vector ${r.vector}`} ${detail} ${at}`;
}
