// SPDX-License-Identifier: MIT
// The x87 register stack, control and status words as the kernels see them (Intel SDM volume 1, section 8.1).

import { ST } from '../../cpu/layout.ts';
import { add, and, i32, i64, load, or, rotl, shl, shrU, type Expr } from '../../wasm/expr.ts';
import type { FunctionBuilder } from '../../wasm/function.ts';

/** Bits of the status word. The low six are also the masks of the control word. */
export const Fsw = {
  invalid: 0x01,
  denormal: 0x02,
  zeroDivide: 0x04,
  overflow: 0x08,
  underflow: 0x10,
  precision: 0x20,
  exceptions: 0x3f,
  stackFault: 0x40,
  /** ES and B, which always agree. */
  summary: 0x8080,
  c0: 0x100,
  c1: 0x200,
  c2: 0x400,
  c3: 0x4000,
} as const;

/** Rounding control, bits 10-11 of the control word. */
export const Rounding = { nearest: 0, down: 1, up: 2, zero: 3 } as const;

/** Precision control, bits 8-9 of the control word. The reserved value 1 acts as 3. */
export const Precision = { single: 0, double: 2, extended: 3 } as const;

/** State-block offsets that the kernels use between themselves; the significand of a result is the kernel's value. */
export const Work = {
  /** Sign and exponent that go with a returned significand. */
  exponent: ST.work,
  /** Exceptions, SF and C1 of the instruction so far, in their status-word places. */
  flags: ST.work + 4,
  /** Nonzero when a memory operand was denormal in its own format. */
  denormal: ST.work + 8,
  /** 1 when a store to memory may happen (no unmasked exception forbids it). */
  store: ST.work + 12,
  /** A memory operand converted to 80 bits. */
  operand: ST.work + 16,
  operandExponent: ST.work + 24,
  /** Second significand of kernels with two results. */
  second: ST.work + 32,
  secondExponent: ST.work + 40,
} as const;

export const exponentMask = 0x7fff;
export const exponentBias = 0x3fff;
/** The integer bit: set in every normal number. */
export const integerBit = -0x8000000000000000n;
export const quietBit = 0x4000000000000000n;
/** The real indefinite: what masked invalid operations give. */
export const indefinite = { significand: -0x4000000000000000n, exponent: 0xffff } as const;

export const work32 = (s: Expr, offset: number): Expr => load('i32.load', s, offset);
export const setWork32 = (f: FunctionBuilder, s: Expr, offset: number, value: Expr): void =>
  f.store('i32.store', s, value, offset);
export const setExponent = (f: FunctionBuilder, s: Expr, value: Expr): void =>
  f.store('i32.store', s, value, Work.exponent);

/** Forgets what an earlier instruction left in the work area. */
export function begin(f: FunctionBuilder, s: Expr): void {
  f.store('i64.store', s, i64(0), Work.flags);
}

/** Adds exceptions (or C1) to those of this instruction. */
export function raise(f: FunctionBuilder, s: Expr, flags: number | Expr): void {
  setWork32(f, s, Work.flags, or(work32(s, Work.flags), typeof flags === 'number' ? i32(flags) : flags));
}

export const controlWord = (s: Expr): Expr => load('i32.load', s, ST.fcw);
export const roundingControl = (s: Expr): Expr => and(shrU(controlWord(s), i32(10)), i32(3));
export const precisionControl = (s: Expr): Expr => and(shrU(controlWord(s), i32(8)), i32(3));
/** Nonzero when an exception is masked. */
export const isMasked = (s: Expr, exception: number): Expr => and(controlWord(s), i32(exception));

/** Number of the physical register that is ST(i). */
export const physical = (s: Expr, i: Expr): Expr => and(add(load('i32.load', s, ST.ftop), i), i32(7));
/** 1 when a physical register is empty. */
export const isEmpty = (s: Expr, register: Expr): Expr => and(shrU(load('i32.load', s, ST.ftag), register), i32(1));

const slot = (s: Expr, register: Expr): Expr => add(s, shl(register, i32(4)));
export const significandOf = (s: Expr, register: Expr): Expr => load('i64.load', slot(s, register), ST.fpr);
export const exponentOf = (s: Expr, register: Expr): Expr => load('i32.load16_u', slot(s, register), ST.fpr + 8);

/** Fills a physical register and marks it full. */
export function writeRegister(f: FunctionBuilder, s: Expr, register: Expr, significand: Expr, exponent: Expr): void {
  f.store('i64.store', slot(s, register), significand, ST.fpr);
  f.store('i32.store16', slot(s, register), exponent, ST.fpr + 8);
  f.store('i32.store', s, and(load('i32.load', s, ST.ftag), rotl(i32(-2), register)), ST.ftag);
}

/** Marks ST(0) empty and increments TOP. */
export function pop(f: FunctionBuilder, s: Expr): void {
  const top = load('i32.load', s, ST.ftop);
  f.store('i32.store', s, or(load('i32.load', s, ST.ftag), shl(i32(1), top)), ST.ftag);
  f.store('i32.store', s, and(add(top, i32(1)), i32(7)), ST.ftop);
}

/** Clears condition codes that an instruction sets anew. */
export function clearConditions(f: FunctionBuilder, s: Expr, bits: number): void {
  f.store('i32.store', s, and(load('i32.load', s, ST.fsw), i32(~bits)), ST.fsw);
}
