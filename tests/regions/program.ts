// SPDX-License-Identifier: MIT
// Random 64-bit guest programs with control flow: what only translated regions can get wrong.

import { integer, type Random } from '../oracle/random.ts';
import { instruction } from './instructions.ts';
import { rbx } from './registers.ts';

/** Where programs and their data lie; the pages around are not mapped. */
export const CODE = 0x400000;
export const CODE_PAGES = 3;
export const DATA = 0x10000000;
/** Two writable pages, one read-only page, a hole. */
export const DATA_PAGES = 3;
export const STACK = 0x20000000;
/** Loads walk down this page until they leave it: no program runs for ever, and no flags are touched by counting. */
export const FUEL = 0x30000000;

const rsp = 4;
const r13 = 13;
const r14 = 14;
const r15 = 15;
export interface Program {
  /** The code pages, one after the other. */
  readonly code: Uint8Array;
  /** Addresses of the basic blocks: where the program can be entered. */
  readonly blocks: readonly number[];
  readonly registers: readonly bigint[];
  readonly flags: number;
  readonly xmm: Uint8Array;
  readonly mxcsr: number;
  readonly data: Uint8Array;
  /** Instructions per call of `run`. */
  readonly budget: number;
  /** True when the program writes to its own code. */
  readonly modifiesCode: boolean;
}

/** An assembler with labels, for the few forms that programs are made of. */
export class Writer {
  /** INT3 wherever nothing else is. */
  readonly bytes = new Uint8Array(CODE_PAGES * 4096).fill(0xcc);
  at = 0;
  readonly fixups: { at: number; label: number; after: number; short: boolean; delta: number }[] = [];
  /** Bytes that may be replaced: position and how. */
  readonly patchable: { at: number; kind: 'immediate' | 'condition' | 'incdec' }[] = [];

  put(...bytes: number[]): void {
    for (const b of bytes) this.bytes[this.at++] = b & 0xff;
  }

  imm(value: number | bigint, bytes: number): void {
    const v = BigInt.asUintN(8 * bytes, BigInt(value));
    for (let i = 0; i < bytes; i++) this.put(Number((v >> BigInt(8 * i)) & 0xffn));
  }

  /** Loads a register with 64 bits. */
  load(register: number, value: bigint | number): void {
    this.put(0x48 | (register >> 3), 0xb8 | (register & 7));
    this.imm(value, 8);
  }

  /** A short branch, whose displacement ends at `from`, leads here. */
  land(from: number): void {
    this.bytes[from - 1] = this.at - from;
  }

  /** Opcode with ModRM; `rm` a register number, or [base + disp] in memory. */
  modrm(
    opcode: readonly number[],
    reg: number,
    rm: number | { base: number; index?: number; scale?: number; disp: number },
    o: { wide?: boolean; prefix?: number; forceRex?: boolean } = {},
  ): void {
    if (o.prefix) this.put(o.prefix);
    const memory = typeof rm === 'object' ? rm : undefined;
    const low = memory ? memory.base : (rm as number);
    const index = memory?.index ?? -1;
    const rex =
      (o.wide ? 8 : 0) |
      (reg & 8 ? 4 : 0) |
      (index >= 8 ? 2 : 0) |
      (low & 8 ? 1 : 0) |
      (o.forceRex || false ? 0x40 : 0);
    if (rex) this.put(0x40 | rex);
    this.put(...opcode);
    const r = (reg & 7) << 3;
    if (!memory) this.put(0xc0 | r | (low & 7));
    else if (index >= 0 || (low & 7) === 4) {
      this.put(0x84 | r, ((memory.scale ?? 0) << 6) | ((index >= 0 ? index & 7 : 4) << 3) | (low & 7));
      this.imm(memory.disp, 4);
    } else {
      this.put(0x80 | r | (low & 7));
      this.imm(memory.disp, 4);
    }
  }

  /** A 32-bit (or, when `short`, 8-bit) displacement to a label, given later. */
  displacement(label: number, short: boolean, delta = 0): void {
    this.fixups.push({ at: this.at, label, after: this.at + (short ? 1 : 4), short, delta });
    this.at += short ? 1 : 4;
  }
}

/** Counts down by a load that faults when the fuel is used up: without touching a flag, or with the flags of an instruction before at stake. */
function useFuel(w: Writer, r: Random): void {
  w.modrm([0x8d], r15, { base: r15, disp: -16 }, { wide: true });
  const opcode = r.chance(0.6) ? 0x8b : r.pick([0x03, 0x13, 0x2b, 0x1b, 0x33, 0x3b, 0x39, 0x85]);
  w.modrm([opcode], r14, { base: r15, disp: 0 }, { wide: true });
}

function terminator(w: Writer, r: Random, n: number, count: number): void {
  const target = r.below(count);
  // Rarely into the middle of an instruction.
  const delta = r.chance(0.02) ? 1 + r.below(4) : 0;
  const dice = r.below(100);
  if (dice < 45) {
    w.patchable.push({ at: w.at + 1, kind: 'condition' });
    w.put(0x0f, 0x80 | r.below(16));
    w.displacement(target, false, delta);
  } else if (dice < 55) {
    w.put(0xe9);
    w.displacement(target, false, delta);
  } else if (dice < 65) {
    w.put(0xe8);
    w.displacement(target, false, delta);
  } else if (dice < 75) w.put(0xc3);
  else if (dice < 79) {
    // A short branch over nothing or over one byte.
    w.put(0x70 | r.below(16), r.below(2), 0x90);
  } else if (dice < 83) {
    // An indirect jump or call to a block.
    w.put(0x48, 0x8d, 0x05);
    w.displacement(target, false, delta);
    w.put(0xff, r.pick([0xe0, 0xd0]));
  } else if (dice < 86) {
    w.put(0xb9);
    w.imm(1 + r.below(3), 4);
    w.put(r.pick([0xe0, 0xe1, 0xe2, 0xe3]), 0);
  } else if (dice < 88) w.put(0xcc);
  else if (dice < 89) w.put(r.pick([0xf4, 0xfa, 0xd7, 0x99]), r.pick([0x90, 0x0f]));
  // (Not RDTSC: its answer differs from run to run.)
  else if (dice < 91) w.put(0x0f, r.pick([0xa2, 0x0b, 0x05]));
  void n;
}

/** A store that changes an instruction somewhere in the program. */
function patch(w: Writer, r: Random): boolean {
  if (w.patchable.length === 0) return false;
  const { at, kind } = r.pick(w.patchable);
  const old = w.bytes[at]!;
  const value = kind === 'immediate' ? r.below(256) : kind === 'condition' ? 0x80 | r.below(16) : old ^ 8;
  // mov byte [rip + d], value
  w.put(0xc6, 0x05);
  const next = w.at + 5;
  w.imm(at - next, 4);
  w.put(value);
  return true;
}

/** Makes a program. */
export function makeProgram(r: Random): Program {
  const w = new Writer();
  const count = 2 + r.below(r.chance(0.3) ? 24 : 8);
  const starts: number[] = [];
  const modifies = r.chance(0.25);
  let modified = false;
  // Somewhere in the first page, perhaps so that the code runs across into the next.
  w.at = r.chance(0.4) ? 0x1000 - 20 - r.below(200) : r.below(0x400);
  for (let n = 0; n < count; n++) {
    if (r.chance(0.04) && w.at < 0x1800) w.at = 0x1000 + r.below(0x800);
    starts.push(w.at);
    useFuel(w, r);
    for (let k = r.below(r.chance(0.2) ? 16 : 6); k > 0; k--) {
      instruction(w, r);
      if (modifies && r.chance(0.15)) modified = patch(w, r) || modified;
    }
    terminator(w, r, n, count);
  }
  w.put(0xcc);
  for (const f of w.fixups) {
    const value = starts[f.label]! + f.delta - f.after;
    for (let i = 0; i < (f.short ? 1 : 4); i++) w.bytes[f.at + i] = (value >> (8 * i)) & 0xff;
  }
  return {
    code: w.bytes,
    blocks: starts.map((at) => CODE + at),
    modifiesCode: modified,
    ...makeInput(r, modified),
  };
}

/** The same code with other registers, data and budget: what takes long is its translation. */
export function withOtherInput(p: Program, r: Random): Program {
  return { ...p, ...makeInput(r, p.modifiesCode) };
}

export function makeInput(
  r: Random,
  modifiesCode: boolean,
): Pick<Program, 'registers' | 'flags' | 'xmm' | 'mxcsr' | 'data' | 'budget'> {
  const registers = Array.from({ length: 16 }, () => integer(r));
  registers[rsp] = BigInt(STACK + 0x800);
  registers[rbx] = BigInt(DATA);
  registers[r13] = BigInt(8 * r.below(32));
  // Every change of code means translating it again.
  registers[r15] = BigInt(FUEL + 16 * (1 + r.below(modifiesCode ? 6 : r.chance(0.2) ? 250 : 40)));
  const data = new Uint8Array(DATA_PAGES * 4096);
  const words = new BigUint64Array(data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = i % 8 < 5 ? integer(r) : BigInt(r.u32());
  const xmm = new Uint8Array(256);
  const lanes = new BigUint64Array(xmm.buffer);
  for (let i = 0; i < 32; i++) lanes[i] = integer(r);
  return {
    registers,
    flags: (r.u32() & 0x8d5) | 2,
    xmm,
    data,
    budget: r.chance(0.5) ? 2000 : r.below(12),
    mxcsr: r.chance(0.7) ? 0x1fa0 : 0x1f80,
  };
}
