// SPDX-License-Identifier: MIT
// Every MMX and SSE description against the same instruction on the real processor, with operands, immediates and MXCSR values chosen to hit the special cases.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ST } from '../cpu/layout.ts';
import { isDotProduct, sameButForNans } from './simd-any-nan.ts';
import { buildMachine, dataAt, formsOf, regNumber, rmNumber, stateAt, type Form } from './simd-test-stage.ts';
import { simdInstructions } from './simd.ts';

/** Cases per form; more find rarer things. */
const casesPerForm = Number(process.env['SIMD_CASES'] ?? 60);

/** Offsets in a record of simd-native.c. */
const Rec = {
  xmm: 0,
  mm: 48,
  gpr: 72,
  flags: 104,
  mxcsr: 112,
  vector: 116,
  codeBytes: 120,
  code: 128,
  immediate: 143,
  memory: 144,
  offset: 272,
  bytes: 280,
} as const;
const memoryBytes = 128;

/** State that the harness does not carry, or addresses that only one side knows: tested by hand in simd.test.ts. */
const untested = /^(fxsave|fxrstor|ldmxcsr|emms|prefetch|lfence|mfence|sfence|clflush|maskmov)/;
/** Their bits differ between processors: compared within a relative error. */
const approximate = /^(rcp|rsqrt)/;

/** Mulberry32. */
class Random {
  private state: number;
  constructor(seed: number) {
    this.state = seed;
  }
  u32(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  }
  below(n: number): number {
    return this.u32() % n;
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
}

const random = new Random(20_240_229);
const scratch = new DataView(new ArrayBuffer(8));

// prettier-ignore
const singles = [
  0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xff812345, 0x7fd54321, 1, 0x80000001,
  0x007fffff, 0x00800000, 0x80800000, 0x00800001, 0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000, 0x4effffff, 0xcf000001, 0x5f000000, 0xdf000000,
  0x5effffff, 0x3effffff, 0x3f000000,
];
// prettier-ignore
const doubles = [
  0n, 1n << 63n, 0x3ff0000000000000n, 0x7ff0000000000000n, 0xfff0000000000000n, 0x7ff8000000000000n, 0xfff8000000000000n, 0x7ff0000000000001n,
  0xfff123456789abcdn, 0x7ffabcdef1234567n, 1n, 0x8000000000000001n, 0x000fffffffffffffn, 0x0010000000000000n, 0x7fefffffffffffffn,
  0x41e0000000000000n, 0xc1e0000000000000n, 0xc1e0000000200000n, 0x41dfffffffc00000n, 0x41dfffffffe00000n, 0x43e0000000000000n, 0xc3e0000000000000n,
  0x43dfffffffffffffn, 0x3810000000000000n, 0x380fffffffffffffn, 0x380fffffefffffffn, 0x36a0000000000000n, 0x47efffffe0000000n, 0x47effffff0000000n,
  0x3fe0000000000000n, 0x3fdfffffffffffffn,
];

/** Bits of a single: specials, small integers and halves, and exponents around the ends of the ranges that matter. */
function single(): number {
  const [first, count] = random.pick([
    [0, 1],
    [1, 30],
    [60, 10],
    [120, 40],
    [225, 30],
    [0, 255],
  ] as const);
  switch (random.below(5)) {
    case 0:
      return random.pick(singles);
    case 1:
      scratch.setFloat32(0, (random.below(4000) - 2000) / 2);
      return scratch.getUint32(0);
    default:
      return (
        ((random.u32() & 0x80000000) |
          ((first + random.below(count)) << 23) |
          (random.u32() & random.pick([0x7fffff, 0x7ff000]))) >>>
        0
      );
  }
}

function double(): bigint {
  const [first, count] = random.pick([
    [0, 1],
    [1, 60],
    [500, 30],
    [865, 40],
    [1015, 75],
    [1990, 56],
    [0, 2047],
  ] as const);
  switch (random.below(5)) {
    case 0:
      return random.pick(doubles);
    case 1:
      scratch.setFloat64(0, (random.below(4000) - 2000) / 2);
      return scratch.getBigUint64(0);
    default:
      return (
        (random.u64() & (1n << 63n)) |
        (BigInt(first + random.below(count)) << 52n) |
        (random.u64() & random.pick([0xfffffffffffffn, 0xffffff8000000n]))
      );
  }
}

/** Fills `count` bytes with singles, doubles, or bytes and text. */
function fill(out: DataView, at: number, count: number): void {
  const kind = random.below(6);
  for (let i = 0; i < count; i += 8) {
    if (kind < 2) {
      out.setUint32(at + i, single(), true);
      out.setUint32(at + i + 4, single(), true);
    } else if (kind < 4) out.setBigUint64(at + i, double(), true);
    else {
      const choice =
        kind === 4
          ? [0, 1, 0x7f, 0x80, 0xff, random.below(256), 4, 17]
          : [97, 98, 99, 97, 98, 99, 97, 98, 99, 97, 98, 0];
      for (let k = 0; k < 8; k++) out.setUint8(at + i + k, random.pick(choice));
    }
  }
}

function mxcsr(): number {
  const rounding = random.below(3) ? 0 : random.u32() & 0x6000;
  switch (random.below(4)) {
    case 0:
      return 0x1f80 | rounding;
    case 1:
      return 0x1fa0 | rounding;
    case 2:
      return 0x1f80 | rounding | (random.u32() & 0x3f);
    default:
      return ((random.below(3) ? 0x1f80 : random.u32() & 0x1f80) | rounding | (random.u32() & 0x807f)) >>> 0;
  }
}

/** Machine code of a form with its operands in the stage's registers, memory at [rsi]. */
function encode(form: Form, immediate: number): number[] {
  const e = form.entry;
  const code: number[] = [];
  if (e.prefix === '66' || (form.size === 16 && e.sizeLetter === 'v')) code.push(0x66);
  if (e.prefix === 'F3') code.push(0xf3);
  if (e.prefix === 'F2') code.push(0xf2);
  if ('yv'.includes(e.sizeLetter || '-') ? form.size === 64 : e.w === 1) code.push(0x48);
  code.push(...[[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]][e.map]!, e.opcode);
  if (e.hasModrm) code.push((form.memory ? 6 : 0xc0 | rmNumber) | ((e.reg >= 0 ? e.reg : regNumber) << 3));
  if (e.operands.some((o) => o.kind === 'I')) code.push(immediate);
  return code;
}

function makeRecord(form: Form): Uint8Array {
  const record = new Uint8Array(Rec.bytes);
  const d = new DataView(record.buffer);
  for (let i = 0; i < 3; i++) fill(d, Rec.xmm + 16 * i, 16);
  if (random.below(4) === 0) record.copyWithin(Rec.xmm + 16, Rec.xmm + 32, Rec.xmm + 48);
  for (let i = 0; i < 3; i++) fill(d, Rec.mm + 8 * i, 8);
  for (let i = 0; i < 3; i++)
    d.setBigUint64(
      Rec.gpr + 8 * i,
      random.below(2) ? BigInt.asUintN(64, BigInt(random.below(40) - 20)) : random.u64(),
      true,
    );
  d.setBigUint64(Rec.flags, BigInt(0x202 | (random.u32() & 0x8d5)), true);
  d.setUint32(Rec.mxcsr, mxcsr(), true);
  fill(d, Rec.memory, 64);
  fill(d, Rec.memory + 64, 64);
  const offset = random.below(10) ? 16 : random.below(32);
  d.setBigUint64(Rec.offset, BigInt(offset), true);
  if (/^ps[rl]/.test(form.insn.name) && random.below(3))
    for (const at of [Rec.xmm + 32, Rec.mm + 16, Rec.memory + offset])
      d.setBigUint64(at, BigInt(random.below(70)), true);
  const immediate = random.below(3) ? random.below(256) : random.below(32);
  const code = encode(form, immediate);
  record.set(code, Rec.code);
  d.setBigUint64(Rec.codeBytes, BigInt(code.length), true);
  record[Rec.immediate] = immediate;
  return record;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).reverse().toString('hex');
const pieces: readonly (readonly [string, number, number, number])[] = [0, 1, 2].flatMap((i) => [
  [`xmm${i}`, Rec.xmm + 16 * i, ST.xmm + 16 * i, 16] as const,
  [`mm${i}`, Rec.mm + 8 * i, ST.fpr + 16 * i, 8] as const,
  [`gpr${i}`, Rec.gpr + 8 * i, ST.gpr + 8 * i, 8] as const,
]);

/** Within 3 * 2^-12 of each other: both sides may be off by half of that. Everything but numbers must agree exactly. */
function closeEnough(a: Uint8Array, b: Uint8Array): boolean {
  const [x, y] = [a, b].map((v) => new DataView(v.slice().buffer)) as [DataView, DataView];
  return [0, 4, 8, 12].every((at) => {
    if (x.getUint32(at) === y.getUint32(at)) return true;
    const [p, q] = [x.getFloat32(at, true), y.getFloat32(at, true)];
    return p * q > 0 && Math.abs(p - q) <= Math.abs(q) * 3 * 2 ** -12;
  });
}

/** Runs a record through the description and tells what differs from the processor's answer. */
function differences(
  machine: ReturnType<typeof buildMachine>,
  form: Form,
  given: Uint8Array,
  answer: Uint8Array,
): string[] {
  const { view, bytes } = machine;
  const before = new DataView(given.buffer);
  const after = new DataView(answer.slice().buffer);
  bytes.fill(0, stateAt, dataAt);
  view.setUint32(stateAt + ST.cr4, 0x600, true);
  for (const [, from, to, count] of pieces) bytes.set(given.subarray(from, from + count), stateAt + to);
  view.setBigUint64(stateAt + ST.gpr + 48, BigInt(dataAt) + before.getBigUint64(Rec.offset, true), true);
  view.setUint32(stateAt + ST.fz, before.getUint32(Rec.flags, true), true);
  view.setUint32(stateAt + ST.mxcsr, before.getUint32(Rec.mxcsr, true), true);
  view.setUint8(stateAt + ST.t0, given[Rec.immediate]!);
  bytes.set(given.subarray(Rec.memory, Rec.memory + memoryBytes), dataAt);
  const vector = machine.run(form.name);
  const found: string[] = [];
  const compare = (what: string, ours: string, native: string): void => {
    if (ours !== native) found.push(`${what}: ${ours}, processor ${native}`);
  };
  compare('exception', String(vector), String(after.getInt32(Rec.vector, true)));
  for (const [name, at, ours, count] of pieces) {
    const [a, b] = [bytes.subarray(stateAt + ours, stateAt + ours + count), answer.subarray(at, at + count)];
    if (approximate.test(form.insn.name) && count === 16 && closeEnough(a, b)) continue;
    if (isDotProduct(form.insn.name) && count === 16 && sameButForNans(form.insn.name, a, b)) continue;
    compare(name, hex(a), hex(b));
  }
  compare(
    'memory',
    hex(bytes.subarray(dataAt, dataAt + memoryBytes)),
    hex(answer.subarray(Rec.memory, Rec.memory + memoryBytes)),
  );
  compare(
    'mxcsr',
    view.getUint32(stateAt + ST.mxcsr, true).toString(16),
    after.getUint32(Rec.mxcsr, true).toString(16),
  );
  compare(
    'flags',
    (view.getUint32(stateAt + ST.fz, true) & 0x8d5).toString(16),
    (after.getUint32(Rec.flags, true) & 0x8d5).toString(16),
  );
  return found;
}

const canRun = process.platform === 'linux' && process.arch === 'x64' && !spawnSync('gcc', ['--version']).error;

describe.skipIf(!canRun)('SIMD descriptions and the processor', () => {
  function runNative(records: readonly Uint8Array[]): Uint8Array {
    const directory = mkdtempSync(join(tmpdir(), 'simd-native-'));
    try {
      const program = join(directory, 'simd-native');
      const source = join(import.meta.dirname, 'simd-native.c');
      const gcc = spawnSync('gcc', ['-O1', '-Wall', '-Wextra', '-mno-red-zone', '-o', program, source], {
        encoding: 'utf8',
      });
      expect(gcc.stderr).toBe('');
      const result = spawnSync(program, { input: Buffer.concat(records), maxBuffer: 2 ** 30 });
      expect([result.status, result.signal]).toEqual([0, null]);
      return new Uint8Array(result.stdout);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  it.each([
    ['immediates known at run time', undefined],
    ['a constant immediate of 0x1b', 0x1b],
    ['a constant immediate of 0xe6', 0xe6],
  ])('agree: %s', (_, constant) => {
    const forms = simdInstructions
      .filter((i) => !untested.test(i.name))
      .flatMap((i) => formsOf(i, constant))
      .filter((f) => constant === undefined || f.entry.operands.some((o) => o.kind === 'I'));
    const machine = buildMachine(forms);
    const cases = forms.flatMap((form) =>
      Array.from({ length: casesPerForm }, () => {
        const record = makeRecord(form);
        if (constant !== undefined) {
          record.set(encode(form, constant), Rec.code);
          record[Rec.immediate] = constant;
        }
        return { form, record };
      }),
    );
    const answers = runNative(cases.map((c) => c.record));
    expect(answers.length).toBe(cases.length * Rec.bytes);
    const failures: string[] = [];
    cases.forEach(({ form, record }, i) => {
      const found = differences(machine, form, record, answers.subarray(i * Rec.bytes, (i + 1) * Rec.bytes));
      if (found.length && failures.length < 20)
        failures.push(`${form.insn.name} (${form.name}), case ${hex(record)}: ${found.join('; ')}`);
    });
    expect(failures).toEqual([]);
  });
});
