// SPDX-License-Identifier: MIT
// Where makers differ, either answer passes and a third one does not: told by hand, because the processor at hand gives one of them only.

import { describe, expect, it } from 'vitest';
import { BASE_BYTES, CODE_BASE, DATA_BASE, PAGE, STATUS } from './case.ts';
import type { Case, Mode, Result } from './case.ts';
import { differences, incomparable } from './compare.ts';
import { makeCase, RSP } from './plain-case.ts';

const base = new Uint8Array(BASE_BYTES);

interface Told {
  readonly form: string;
  readonly mode?: Mode;
  readonly size?: string;
  readonly more?: Partial<Case>;
}

/** A case of one instruction of two bytes; what it is made of is nobody's business here. */
function caseOf({ form, mode = 64, size = '', more = {} }: Told): Case {
  return makeCase('f3aa', {}, { steps: [{ offset: 0, form, size, undefinedAfter: 0 }], ...more }, mode);
}

const HERE = BigInt(CODE_BASE + 0x100);

/** How the case ended: completed, unless told otherwise. */
function ended(more: Partial<Result> = {}): Result {
  const { gpr, fx, rflags } = makeCase('90');
  const done = { status: STATUS.done, vector: 0, error: 0, cr2: 0n, rip: HERE + 2n };
  return { ...done, gpr: gpr.slice(), rflags, fx: fx.slice(), changes: new Map(), ...more };
}

const faulted = (vector: number, more: Partial<Result> = {}): Result =>
  ended({ status: STATUS.exception, vector, rip: HERE, ...more });
const pageFault = (cr2: bigint, more: Partial<Result> = {}): Result => faulted(14, { cr2, error: 6, ...more });
const generalProtection = (more: Partial<Result> = {}): Result => faulted(13, more);

/** A result with bytes changed in its x87 and SSE image. */
function withFx(result: Result, at: number, bytes: readonly number[]): Result {
  result.fx.set(bytes, at);
  return result;
}

const tell = (c: Case, native: Result, engine: Result): string[] =>
  differences(c, base, native, engine).map((d) => d.what);
const hole = BigInt(DATA_BASE + 3 * PAGE);

describe('what makers do differently', () => {
  it('an x87 store with an unmasked exception need not access memory, one without has to', () => {
    const c = caseOf({ form: 'fstp D9 /3' });
    const unmasked = withFx(pageFault(hole), 0, [0x40, 0x03]);
    expect(tell(c, ended(), unmasked)).toEqual([]);
    expect(tell(c, ended(), pageFault(hole))).toEqual(['outcome']);
    expect(tell(caseOf({ form: 'fld D9 /0' }), ended(), unmasked)).toEqual(['outcome']);
  });

  it('MOVSXD to 16 bits may read two bytes, to 32 bits not', () => {
    const c = (size: string): Case => caseOf({ form: 'movsxd 63 /r', size });
    expect(tell(c('w'), ended(), pageFault(hole))).toEqual([]);
    expect(tell(c('d'), ended(), pageFault(hole))).toEqual(['outcome']);
  });

  it('BOUND may stop at the lower limit', () => {
    const c = caseOf({ form: 'bound 62 /r', mode: 32 });
    expect(tell(c, faulted(5), pageFault(hole))).toEqual([]);
    expect(tell(c, faulted(6), pageFault(hole))).toEqual(['outcome']);
  });

  it('an operand across 4 GiB may meet a page fault, one below it the limit never', () => {
    const c = caseOf({ form: 'fsubr DC /5', mode: 32 });
    expect(tell(c, pageFault(0xfffffffbn), generalProtection())).toEqual([]);
    expect(tell(c, pageFault(0xfffffff8n), generalProtection())).toEqual(['outcome']);
    expect(tell(c, ended(), generalProtection())).toEqual(['outcome']);
  });

  it('CMPS may name either of its operands, LODS has one', () => {
    expect(tell(caseOf({ form: 'cmps A6' }), pageFault(hole), pageFault(0n))).toEqual([]);
    expect(tell(caseOf({ form: 'cmps A6' }), generalProtection(), pageFault(0n))).toEqual([]);
    expect(tell(caseOf({ form: 'cmps A6' }), pageFault(hole), ended())).toEqual(['outcome']);
    expect(tell(caseOf({ form: 'lods AC' }), pageFault(hole), pageFault(0n))).toEqual(['cr2']);
  });

  it('PUSH of a segment register may leave the upper half of its place alone, and only that', () => {
    const slot = Number(RSP);
    const pushed = (value: bigint): Result => ended({ changes: new Map([[slot, value]]) });
    const c = (mode: Mode): Case => caseOf({ form: 'push 0F A0', size: 'n', mode });
    expect(tell(c(32), pushed(0x1234002bn), pushed(0x2bn))).toEqual([]);
    expect(tell(c(32), pushed(0x1234002bn), pushed(0x23n))).toHaveLength(1);
    expect(tell(c(64), pushed(0x1234002bn), pushed(0x2bn))).toHaveLength(1);
    expect(tell(c(32), ended(), pageFault(hole))).toEqual([]);
    expect(tell(c(64), ended(), pageFault(hole))).toEqual(['outcome']);
  });

  it('a call that faults may have written its return address, and nothing else', () => {
    const c = caseOf({ form: 'call FF /2' });
    const wrote = (address: number): Result => generalProtection({ changes: new Map([[address, 1n]]) });
    expect(tell(c, wrote(Number(RSP) - 8), generalProtection())).toEqual([]);
    expect(tell(c, wrote(Number(RSP) - 16), generalProtection())).toHaveLength(1);
    expect(tell(caseOf({ form: 'push 50+r' }), wrote(Number(RSP) - 8), generalProtection())).toHaveLength(1);
  });

  it('ten bytes may be written as far as the page goes that faults', () => {
    const c = caseOf({ form: 'fbstp DF /6' });
    const wrote = (address: number): Result => pageFault(hole, { changes: new Map([[address, 1n]]) });
    expect(tell(c, wrote(Number(hole) - 8), pageFault(hole))).toEqual([]);
    expect(tell(c, wrote(Number(hole) - 24), pageFault(hole))).toHaveLength(1);
  });

  it('a repeated store over itself says nothing, one elsewhere does', () => {
    const wrote = (address: number): Result => ended({ changes: new Map([[address, 1n]]) });
    const c = caseOf({ form: 'stos AA', size: 'b' });
    expect(incomparable(c, wrote(CODE_BASE + 0x100))).toBe(true);
    expect(incomparable(c, wrote(CODE_BASE + 0x108))).toBe(false);
    const single = caseOf({ form: 'stos AA', size: 'b', more: { code: Uint8Array.of(0x90, 0xaa) } });
    expect(incomparable(single, wrote(CODE_BASE + 0x100))).toBe(false);
  });

  it('a dot product may give any NaN for a NaN, and no number', () => {
    const c = caseOf({ form: 'dpps 66 0F 3A 40 /r ib', more: { tolerance: 'nan' } });
    const quiet = withFx(ended(), 160, [1, 0, 0xc0, 0x7f]);
    expect(tell(c, quiet, withFx(ended(), 160, [2, 0, 0xc0, 0xff]))).toEqual([]);
    expect(tell(c, quiet, withFx(ended(), 160, [0, 0, 0x80, 0x7f]))).toEqual(['xmm0']);
    expect(tell(caseOf({ form: 'addps 0F 58 /r' }), quiet, withFx(ended(), 160, [2, 0, 0xc0, 0xff]))).toEqual(['xmm0']);
    const wide = withFx(ended(), 160, [1, 0, 0, 0, 0, 0, 0xf8, 0x7f]);
    const d = caseOf({ form: 'dppd 66 0F 3A 41 /r ib', more: { tolerance: 'nan' } });
    expect(tell(d, wide, withFx(ended(), 160, [0, 1, 0, 0, 0, 0, 0xf8, 0x7f]))).toEqual([]);
    expect(tell(d, wide, withFx(ended(), 160, [1, 0, 0, 0, 0, 0, 0xf0, 0x3f]))).toEqual(['xmm0']);
  });

  it('an approximate result may be just below the normal numbers or just not', () => {
    const c = caseOf({ form: 'fsin D9 FE', more: { tolerance: 'transcendental' } });
    const result = (status: number, exponent: number): Result =>
      withFx(withFx(ended(), 2, [status]), 32, [0, 0, 0, 0, 0, 0, 0, 0x80, exponent, 0]);
    expect(tell(c, result(0x22, 1), result(0x32, 1))).toEqual([]);
    expect(tell(c, result(0x22, 1), result(0x20, 1))).toEqual(['fsw']);
  });
});
