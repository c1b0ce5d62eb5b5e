// SPDX-License-Identifier: MIT
// Random x87 states for the differential tests, in the record format of reference-cpu.c, and their way into and out of a vCPU block.

import { ST } from '../../cpu/layout.ts';
import { encodingOf, dataAt, stateAt, type Form, type TestMachine } from './test-stage.ts';

/** Offsets in a record; `image` is the start of an FXSAVE area. */
export const Layout = {
  code: 1,
  flags: 16,
  rax: 24,
  signal: 28,
  image: 32,
  registers: 64,
  memory: 192,
  bytes: 320,
} as const;
const Image = { control: 0, status: 2, tags: 4, opcode: 6, instruction: 8, data: 16 } as const;
export const statusFlags = 0x8d5;

/** A small deterministic generator (xorshift32). */
export class Random {
  private state: number;
  constructor(seed: number) {
    this.state = seed | 0 || 1;
  }
  u32(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x >>> 0;
  }
  below(n: number): number {
    return this.u32() % n;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

export interface Extended {
  readonly m: bigint;
  readonly se: number;
}

const top = 1n << 63n;
const allOnes = (1n << 64n) - 1n;

const specials: readonly Extended[] = [
  { m: 0n, se: 0 },
  { m: top, se: 0x3fff },
  { m: top, se: 0x7fff },
  { m: top | (1n << 62n), se: 0x7fff },
  { m: top | (1n << 62n) | 5n, se: 0x7fff },
  { m: top | 1n, se: 0x7fff },
  { m: top | (1n << 61n), se: 0x7fff },
  { m: allOnes, se: 0x7fff },
  { m: 1n, se: 0 },
  { m: top - 1n, se: 0 },
  { m: 1n << 40n, se: 0 },
  { m: top, se: 0 },
  { m: top | 3n, se: 0 },
  { m: 0n, se: 0x3fff },
  { m: 1n << 62n, se: 0x4000 },
  { m: 0n, se: 0x7fff },
  { m: 1n << 62n, se: 0x7fff },
  { m: allOnes, se: 0x7ffe },
  { m: top, se: 0x7ffe },
  { m: top, se: 1 },
  { m: allOnes, se: 1 },
  { m: top, se: 2 },
  { m: top, se: 0x403e },
  { m: allOnes, se: 0x403d },
  { m: allOnes, se: 0x403e },
  { m: top, se: 0x401e },
  { m: allOnes << 32n, se: 0x401d },
  { m: 0xc000000000000000n, se: 0x3fff },
  { m: top, se: 0x3ffe },
  { m: top | 1n, se: 0x3ffe },
  { m: top, se: 0x3ffd },
  { m: 0xc90fdaa22168c235n, se: 0x4000 },
  { m: 0xde0b6b3a7640000n << 4n, se: 0x403a },
];

/** Significand with structure: random, few ones, long runs, trailing zeros. */
function significand(r: Random): bigint {
  switch (r.below(6)) {
    case 0:
      return BigInt.asUintN(64, top | ((1n << BigInt(r.below(64))) + (1n << BigInt(r.below(64)))));
    case 1:
      return BigInt.asUintN(64, allOnes << BigInt(r.below(64))) | top;
    case 2:
      return BigInt.asUintN(64, (r.u64() | top) & (allOnes << BigInt(r.pick([11, 40, 32, 10, 12, 39, 41]))));
    case 3:
      return allOnes ^ (1n << BigInt(r.below(63)));
    default:
      return r.u64() | top;
  }
}

/** A number of any kind, biased to what rounding and range checks care about. */
export function extended(r: Random): Extended {
  const sign = r.below(2) << 15;
  const kind = r.below(20);
  if (kind < 5) {
    const v = r.pick(specials);
    return { m: v.m, se: v.se | sign };
  }
  if (kind < 6) return { m: r.u64() >> BigInt(1 + r.below(63)), se: sign };
  const m = significand(r);
  if (kind < 8) return { m, se: sign | r.below(0x7fff) };
  if (kind < 9) return { m, se: sign | (1 + r.below(130)) };
  if (kind < 10) return { m, se: sign | (0x7ffe - r.below(130)) };
  if (kind < 12) {
    // Integers and halves of moderate size.
    const bits = r.below(66);
    const keep = BigInt.asUintN(64, allOnes << BigInt(Math.max(0, 63 - bits - r.below(2))));
    return { m: (m & keep) | top, se: sign | (0x3fff + bits) };
  }
  // Around the ranges of single and double, and around one.
  if (kind < 13)
    return { m, se: sign | (0x3fff + r.pick([-1022, 1023, -126, 127, -150, -1075, 63, 31, 15]) + r.below(9) - 4) };
  return { m, se: sign | (0x3fff - 70 + r.below(140)) };
}

function memoryOperand(r: Random, view: DataView, at: number, form: Form): void {
  for (let i = 0; i < 128; i += 4) view.setUint32(at + i, r.u32(), true);
  const { name } = form.insn;
  const kind = form.entry.operands[0]?.size;
  if (kind === 't') {
    if (name === 'fbld') {
      for (let i = 0; i < 9; i++) view.setUint8(at + i, r.below(10) | (r.below(10) << 4));
      if (r.chance(20)) for (let i = r.below(9); i < 9; i++) view.setUint8(at + i, 0);
      view.setUint8(at + 9, r.chance(80) ? r.below(2) << 7 : r.u32());
      return;
    }
    const v = extended(r);
    view.setBigUint64(at, v.m, true);
    view.setUint16(at + 8, v.se, true);
    return;
  }
  if (kind === 'n') {
    view.setUint16(at, controlWord(r), true);
    return;
  }
  if (name === 'fldcw') {
    view.setUint16(at, r.chance(80) ? controlWord(r) : r.u32(), true);
    return;
  }
  if (!r.chance(50)) return;
  if (/^fi/.test(name)) {
    view.setBigInt64(
      at,
      r.pick([0n, 1n, -1n, 0x7fffn, -0x8000n, 0x7fffffffn, -0x80000000n, -(1n << 63n), (1n << 63n) - 1n, 1n << 62n]),
      true,
    );
    return;
  }
  const wide = kind === 'q';
  const largest = wide ? 0x7ff : 0xff;
  const places = wide ? 52 : 23;
  const exponent = r.pick([0, 0, 1, largest, largest, largest - 1, largest >> 1, (largest >> 1) + r.below(40) - 20]);
  const fraction = r.chance(30)
    ? 0n
    : r.chance(30)
      ? 1n << BigInt(r.below(places))
      : r.u64() & ((1n << BigInt(places)) - 1n);
  const bits = (BigInt(exponent) << BigInt(places)) | fraction | (BigInt(r.below(2)) << (wide ? 63n : 31n));
  if (wide) view.setBigUint64(at, bits, true);
  else view.setUint32(at, Number(bits), true);
}

function controlWord(r: Random): number {
  const masks = r.chance(70) ? 0x3f : r.u32() & 0x3f;
  return 0x40 | masks | (r.pick([0, 2, 3, 3, 3]) << 8) | (r.below(4) << 10);
}

/** Operand pairs whose exponents are close or whose sum cancels are rare among independent numbers: makes ST(0) depend on another register. */
function relate(r: Random, a: Extended): Extended {
  const se = (a.se & 0x7fff) + r.below(5) - 2;
  if (se <= 0 || se >= 0x7fff) return a;
  const m = r.chance(50) ? significand(r) : BigInt.asUintN(64, a.m + BigInt(r.below(5) - 2)) | top;
  return { m, se: se | (r.below(2) << 15) };
}

export interface CaseOptions {
  /** Percentage of cases with random empty registers. */
  readonly emptyPercent?: number;
  /** Replaces ST(0) and ST(1). */
  readonly operands?: (r: Random) => readonly Extended[];
}

/** Fills the record at `at` with a random state for the form; returns the ST(i) index in its code. */
export function makeCase(r: Random, form: Form, view: DataView, at: number, options: CaseOptions = {}): number {
  for (let i = 0; i < Layout.bytes; i += 4) view.setUint32(at + i, 0, true);
  const index = form.indexed ? r.below(8) : 0;
  const code = encodingOf(form, index);
  view.setUint8(at, code.length);
  code.forEach((b, i) => view.setUint8(at + Layout.code + i, b));
  view.setUint32(at + Layout.flags, 0x202 | (r.u32() & statusFlags), true);
  const fcw = controlWord(r);
  const masked = fcw & 0x3f;
  // Sticky flags that are already set; rarely an unmasked one, which is then pending.
  let fsw = (r.u32() & 0x7f00) | (r.u32() & r.u32() & (r.chance(3) ? 0x3f : masked));
  if (fsw & ~masked & 0x3f) fsw |= 0x8080;
  view.setUint16(at + Layout.image + Image.control, fcw, true);
  view.setUint16(at + Layout.image + Image.status, fsw, true);
  view.setUint32(at + Layout.image + 28, 0xffff, true);
  view.setUint32(at + Layout.image + 24, 0x1f80, true);
  const values: Extended[] = Array.from({ length: 8 }, () => extended(r));
  const other = form.indexed ? index : 1;
  if (r.chance(30)) values[0] = relate(r, values[other]!);
  options.operands?.(r).forEach((v, i) => (values[i] = v));
  values.forEach((v, i) => {
    view.setBigUint64(at + Layout.registers + 16 * i, v.m, true);
    view.setUint16(at + Layout.registers + 16 * i + 8, v.se, true);
  });
  let full: number;
  const topNumber = (fsw >> 11) & 7;
  if (r.chance(options.emptyPercent ?? 10)) full = r.u32() & 0xff;
  else
    full =
      0xff & ~(r.chance(90) ? 1 << ((topNumber + 7) & 7) : 0) & (r.chance(30) ? 0xff : ~(1 << ((topNumber + 6) & 7)));
  if (form.indexed && !r.chance(10)) full |= 1 << ((topNumber + index) & 7);
  view.setUint8(at + Layout.image + Image.tags, full);
  memoryOperand(r, view, at + Layout.memory, form);
  return index;
}

/** Puts a record's state into the machine. */
export function load(machine: TestMachine, view: DataView, at: number): void {
  const v = machine.view;
  const image = at + Layout.image;
  const fsw = view.getUint16(image + Image.status, true);
  const topNumber = (fsw >> 11) & 7;
  v.setUint32(stateAt + ST.fcw, view.getUint16(image + Image.control, true), true);
  v.setUint32(stateAt + ST.fsw, fsw & ~0x3800, true);
  v.setUint32(stateAt + ST.ftop, topNumber, true);
  v.setUint32(stateAt + ST.ftag, view.getUint8(image + Image.tags) ^ 0xff, true);
  for (let i = 0; i < 8; i++) {
    const to = stateAt + ST.fpr + 16 * ((topNumber + i) & 7);
    v.setBigUint64(to, view.getBigUint64(at + Layout.registers + 16 * i, true), true);
    v.setUint16(to + 8, view.getUint16(at + Layout.registers + 16 * i + 8, true), true);
  }
  for (let i = 0; i < 128; i++) v.setUint8(dataAt + i, view.getUint8(at + Layout.memory + i));
  v.setUint32(stateAt + ST.fz, view.getUint32(at + Layout.flags, true), true);
  v.setUint32(stateAt + ST.gpr, 0, true);
  for (const field of [ST.fip, ST.fdp, ST.fopcode, ST.cr0]) v.setBigUint64(stateAt + field, 0n, true);
}

export interface Outcome {
  readonly vector: number;
  readonly fcw: number;
  readonly fsw: number;
  readonly tags: number;
  readonly registers: readonly string[];
  readonly memory: string;
  readonly flags: number;
  readonly ax: number;
}

const show = (view: DataView, at: number): string =>
  `${view
    .getUint16(at + 8, true)
    .toString(16)
    .padStart(4, '0')}:${view.getBigUint64(at, true).toString(16).padStart(16, '0')}`;

const hex = (view: DataView, at: number, bytes: number): string =>
  Array.from({ length: bytes }, (_, i) =>
    view
      .getUint8(at + i)
      .toString(16)
      .padStart(2, '0'),
  ).join('');

/** What the machine's state became. */
export function machineOutcome(machine: TestMachine, vector: number): Outcome {
  const v = machine.view;
  const topNumber = v.getUint32(stateAt + ST.ftop, true);
  return {
    vector,
    fcw: v.getUint32(stateAt + ST.fcw, true),
    fsw: v.getUint32(stateAt + ST.fsw, true) | (topNumber << 11),
    tags: v.getUint32(stateAt + ST.ftag, true) ^ 0xff,
    registers: Array.from({ length: 8 }, (_, i) => show(v, stateAt + ST.fpr + 16 * ((topNumber + i) & 7))),
    memory: hex(v, dataAt, 128),
    flags: v.getUint32(stateAt + ST.fz, true) & statusFlags,
    ax: v.getUint16(stateAt + ST.gpr, true),
  };
}

const vectorOfSignal: Record<number, number> = { 0: -1, 4: 6, 8: 16 };

/** What the record says that the processor did. After a fault its state means nothing. */
export function recordOutcome(view: DataView, at: number): Outcome {
  const image = at + Layout.image;
  return {
    vector: vectorOfSignal[view.getUint32(at + Layout.signal, true)] ?? -2,
    fcw: view.getUint16(image + Image.control, true),
    fsw: view.getUint16(image + Image.status, true),
    tags: view.getUint8(image + Image.tags),
    registers: Array.from({ length: 8 }, (_, i) => show(view, at + Layout.registers + 16 * i)),
    memory: hex(view, at + Layout.memory, 128),
    flags: view.getUint32(at + Layout.flags, true) & statusFlags,
    ax: view.getUint16(at + Layout.rax, true),
  };
}
