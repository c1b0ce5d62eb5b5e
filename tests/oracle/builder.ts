// SPDX-License-Identifier: MIT
// A case under construction: code, labels, what is known of the registers, undefined flags; and the choice of memory operands.

import { CODE_BASE, DATA_BASE, PAGE } from './case.ts';
import type { Mode, Patch, Step } from './case.ts';
import { effectiveAddress, encode } from './encoder.ts';
import type { MemoryOperand, Operands } from './encoder.ts';
import type { Form } from './forms/form.ts';
import type { Random } from './random.ts';
import { dataAddress } from './state.ts';
import { flagEffect } from './undefined-bits.ts';

/** A value that becomes known when the code is laid out: the address of unit `label` (or the end). */
interface Fixup {
  label: number;
  put: (address: number) => void;
}

const X87_COMPARISON = /^f(u?comi?p{0,2}|icomp?|tst)$/;

export class CaseBuilder {
  readonly r: Random;
  readonly mode: Mode;
  readonly gpr: BigUint64Array;
  readonly codeOffset: number;
  readonly code: number[] = [];
  readonly steps: Step[] = [];
  readonly patches: Patch[] = [];
  readonly ignoredMemory: [number, number][] = [];
  /** An invalid operation or denormal operand of the x87 may be unmasked. */
  x87Unmasked = false;
  tolerance: 'reciprocal' | 'transcendental' | 'nan' | undefined;
  /** Registers that still hold their initial value. */
  readonly known: boolean[] = new Array<boolean>(16).fill(true);
  undefinedFlags = 0;
  /** Code offsets of the units: an instruction with the helper instructions before it. Branches go from unit to unit. */
  private readonly units: number[] = [];
  /** Highest unit a forward branch may skip to: until there nothing is certainly defined. */
  private skipUntil = 0;
  private readonly fixups: Fixup[] = [];

  constructor(r: Random, mode: Mode, gpr: BigUint64Array, codeOffset: number) {
    this.r = r;
    this.mode = mode;
    this.gpr = gpr;
    this.codeOffset = codeOffset;
  }

  /** True before the first instruction: registers and memory can still be arranged for it. */
  get first(): boolean {
    return this.steps.length === 0;
  }

  get here(): number {
    return CODE_BASE + this.codeOffset + this.code.length;
  }

  /** Starts a unit: what is appended from here on can be the target of a branch. */
  begin(): void {
    this.units.push(this.code.length);
  }

  /** Appends machine code that belongs to the step about to be emitted (a helper instruction before it). */
  prepend(bytes: number[], name: string): void {
    this.steps.push({ offset: this.code.length, form: name, size: '', undefinedAfter: this.undefinedFlags });
    this.code.push(...bytes);
  }

  /** Encodes one instruction and accounts for what it changes. */
  emit(form: Form, operands: Operands, count: number | undefined): void {
    const offset = this.code.length;
    const effect = flagEffect(form, operands.size, count);
    // With the exception unmasked the SDM leaves the condition codes alone; AMD sets them all the same.
    if (this.x87Unmasked && X87_COMPARISON.test(form.name)) {
      effect.undefined |= effect.defines;
      effect.defines = 0;
    }
    if (['fcw', 'fenv', 'fxrstor'].some((t) => form.traits.has(t))) this.x87Unmasked = true;
    if (this.units.length > this.skipUntil) this.undefinedFlags &= ~effect.defines;
    this.undefinedFlags |= effect.undefined;
    this.code.push(...encode(form, operands, this.mode, this.here));
    const memory = this.knownAddress(operands);
    this.steps.push({
      offset,
      form: form.key,
      size: operands.size,
      undefinedAfter: this.undefinedFlags,
      ...(memory === undefined ? {} : { address: memory }),
    });
    const rm = typeof operands.rm === 'number' ? operands.rm : -1;
    const byteRegister = operands.size === 'b' && rm > 3 && rm < 8 ? rm - 4 : rm;
    if ((form.writes === 'rm' || form.writes === 'both') && rm >= 0 && (form.rmClass === 'gpr' || form.plus === 'r')) {
      this.known[rm] = this.known[byteRegister] = false;
    }
    if ((form.writes === 'reg' || form.writes === 'both') && form.regClass === 'gpr') {
      this.known[operands.reg] = false;
      if (operands.size === 'b' && operands.reg > 3 && operands.reg < 8) this.known[operands.reg - 4] = false;
    }
    const t = form.traits;
    if (t.has('axdx')) this.known[0] = this.known[2] = false;
    if (t.has('si')) this.known[6] = false;
    if (t.has('di') && form.family === 'string') this.known[7] = false;
    if (t.has('rep') || t.has('repcc') || t.has('counter') || t.has('strings')) this.known[1] = false;
    if (t.has('stack')) this.known[4] = false;
    if (t.has('leave') || t.has('enter')) this.known[5] = false;
    if (form.name === 'popa') this.known.fill(false);
  }

  /** Address of the instruction's memory operand when the registers it uses still hold their initial values. */
  knownAddress(operands: Operands): number | undefined {
    const m = operands.rm;
    if (typeof m === 'number' || m.word !== undefined) return undefined;
    if (!m.rip && ((m.base >= 0 && !this.known[m.base]) || (m.index >= 0 && !this.known[m.index]))) return undefined;
    const bits = this.mode === 32 || operands.prefixes.includes(0x67) ? 32 : 64;
    const address = effectiveAddress(m, this.gpr, bits);
    return address < 0x100000000n ? Number(address) : undefined;
  }

  /** Calls `put` with the address of unit `label` once the code is complete. */
  whenPlaced(label: number, put: (address: number) => void): void {
    this.fixups.push({ label, put });
    this.skipUntil = Math.max(this.skipUntil, label);
  }

  /** Resolves labels. Units beyond the last mean the end of the code. */
  finish(): void {
    for (const { label, put } of this.fixups) {
      const offset = label < this.units.length ? this.units[label] : this.code.length;
      put(CODE_BASE + this.codeOffset + offset);
    }
  }

  /** Puts bytes at a data address before the case, when that memory is writable and a patch is free. */
  patch(address: number, data: Uint8Array): boolean {
    const offset = address - DATA_BASE;
    const inside = (from: number, to: number): boolean => offset >= from && offset + data.length <= to;
    if (this.patches.length >= 8 || !(inside(0, 2 * PAGE) || inside(4 * PAGE, 5 * PAGE))) return false;
    this.patches.push({ offset, data });
    return true;
  }

  /** Same for one little-endian integer. */
  patchInteger(address: number, value: bigint, bytes: number): boolean {
    const data = new Uint8Array(bytes);
    for (let i = 0; i < bytes; i++) data[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    return this.patch(address, data);
  }

  /** A general register for an explicit operand; pointers are usually spared. `byteNumbers`: 4..7 may mean AH..BH. */
  register(byteNumbers: boolean): number {
    const limit = this.mode === 32 ? 8 : 16;
    for (let tries = 0; tries < 6; tries++) {
      const n = this.r.below(limit);
      if (n === 4 && !byteNumbers && this.r.chance(0.9)) continue;
      const v = this.gpr[n];
      const pointer = v >= BigInt(DATA_BASE - PAGE) && v < BigInt(DATA_BASE + 6 * PAGE);
      if (!pointer || this.r.chance(0.15)) return n;
    }
    return this.r.below(limit);
  }

  /** A memory operand whose address is `target`, through registers of known value where that can be encoded. */
  memoryAt(target: number, bits: 64 | 32): MemoryOperand {
    const { r, mode } = this;
    for (let tries = 0; tries < 8; tries++) {
      const m: MemoryOperand = { base: -1, index: -1, scale: 0, disp: 0, wide: r.chance(0.1), rip: false };
      const kind = r.below(8);
      if (kind === 0) {
        m.rip = mode === 64 && r.chance(0.6);
        m.disp = target;
        return m;
      }
      const limit = mode === 32 ? 8 : 16;
      if (kind < 6 || kind === 7) {
        m.base = r.below(limit);
        if (!this.known[m.base]) continue;
      }
      if (kind > 3) {
        m.index = r.below(limit);
        m.scale = r.below(4) as 0;
        if (m.index === 4 || !this.known[m.index]) continue;
      }
      const rest = BigInt.asIntN(bits, BigInt(target) - effectiveAddress(m, this.gpr, bits));
      if (rest < -0x80000000n || rest > 0x7fffffffn) continue;
      m.disp = Number(rest);
      return m;
    }
    return { base: -1, index: -1, scale: 0, disp: target, wide: false, rip: mode === 64 && this.r.chance(0.5) };
  }

  /** A 16-bit memory operand of 32-bit mode. Its address is below 64 KiB, where nothing is mapped: useful to LEA and to faults. */
  memory16(): MemoryOperand {
    const { r } = this;
    const disp = (r.chance(0.5) ? r.below(256) - 128 : (r.u32() << 16) >> 16) | 0;
    return { base: -1, index: -1, scale: 0, disp, wide: r.chance(0.3), rip: false, word: r.below(8) };
  }

  /** Any memory operand at all: what LEA computes with, or an access that nearly always faults. */
  memoryAnywhere(): MemoryOperand {
    const { r } = this;
    const limit = this.mode === 32 ? 8 : 16;
    const index = r.chance(0.5) ? r.below(limit) : -1;
    const disp = r.chance(0.5) ? r.below(256) - 128 : r.u32() | 0;
    return {
      base: r.chance(0.85) ? r.below(limit) : -1,
      index: index === 4 ? -1 : index,
      scale: r.below(4) as 0,
      disp,
      wide: r.chance(0.1),
      rip: false,
    };
  }

  /** Chooses where a memory operand of `bytes` bytes lies. `last`: nothing follows, so a fault costs nothing. */
  address(bytes: number, last: boolean): number {
    return dataAddress(this.r, bytes, !last && this.r.chance(0.9));
  }
}
