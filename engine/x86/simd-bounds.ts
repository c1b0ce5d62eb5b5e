// SPDX-License-Identifier: MIT
// SSE arithmetic on numbers whose sizes are known: far from both ends of the format, WebAssembly's results are SSE's (Intel SDM volume 1, chapter 11).
//
// Numbers that are zero or neither huge nor tiny have sums, products, quotients and roots that are finite and not tiny, and raise no exception but precision,
// whose flag is set already when MXCSR is `Control.fast`. How large a result can be follows from how large the operands are, so that only some
// numbers of a calculation have to be looked at: those from memory, and those that have been multiplied too often since.

import { eqz, geU, i32, i64, ltS, ne, op, shl, shrU, sub, wrap, type Expr } from '../wasm/expr.ts';
import type { Arithmetic, Shape } from './simd-float.ts';
import { zeros } from './simd-operands.ts';
import type { Stage } from './stage.ts';

/** A number is zero, or its magnitude lies from 2^-`exponent` to 2^`exponent`. */
export interface Bound {
  readonly exponent: number;
  readonly isNonZero: boolean;
}

/** What a stage knows of the numbers that an instruction computes with, and its way out where they are not such as was assumed. */
export interface Bounds {
  /** What is known of all lanes of a value together; undefined when that is nothing. */
  of(shape: Shape, value: Expr): Bound | undefined;
  set(shape: Shape, value: Expr, bound: Bound): void;
  /** Makes sure that MXCSR is `Control.fast`. */
  needFastControl(): void;
  /** The same 64 bits twice as a vector. */
  constant(value: bigint): Expr;
  /** Emits the way out: the interpreter does the instruction. */
  leave(): void;
}

interface Format {
  readonly isDouble: boolean;
  /** `Bound.exponent` of numbers that have been looked at: a power of two. */
  readonly ordinary: number;
  /** The largest one of results. */
  readonly largest: number;
  /** Bits behind the first of a significand: so much smaller than its operands a difference can be. */
  readonly fraction: number;
  readonly bias: number;
}

const double: Format = { isDouble: true, ordinary: 128, largest: 1000, fraction: 52, bias: 1023 };
const single: Format = { isDouble: false, ordinary: 32, largest: 120, fraction: 23, bias: 127 };

type Bounded = Exclude<Arithmetic, 'min' | 'max' | 'addsub'>;

export const isBounded = (name: Arithmetic): name is Bounded => name !== 'min' && name !== 'max' && name !== 'addsub';

/** `Bound.exponent` of a result. */
function exponentOf(name: Bounded, { fraction }: Format, a: number, b: number): number {
  if (name === 'sqrt') return Math.ceil(a / 2);
  return name === 'mul' || name === 'div' ? a + b : Math.max(a, b) + fraction;
}

/** Makes sure that WebAssembly's result for bound operands will be SSE's, or leaves; notes what is known of `result` then. For SQRT, `b` is `a`. */
export function ensureOrdinary(
  s: Stage,
  bounds: Bounds,
  shape: Shape,
  name: Bounded,
  a: Expr,
  b: Expr,
  result: Expr,
): void {
  const format = shape.double ? double : single;
  bounds.needFastControl();
  const exponent = (value: Expr): number => bounds.of(shape, value)?.exponent ?? Infinity;
  const unchecked = new Set<Expr>();
  const assumed = (value: Expr): number => (unchecked.has(value) ? format.ordinary : exponent(value));
  while (exponentOf(name, format, assumed(a), assumed(b)) > format.largest)
    unchecked.add(assumed(a) >= assumed(b) ? a : b);
  if (unchecked.size > 0) check(s, bounds, shape, format, [...unchecked]);
  const isNonZero = (value: Expr): boolean => bounds.of(shape, value)?.isNonZero === true;
  if (name === 'div' && !isNonZero(b)) {
    s.f.ifUnlikely(hasZero(shape, b), () => bounds.leave());
    bounds.set(shape, b, { exponent: exponent(b), isNonZero: true });
  }
  if (name === 'sqrt') s.f.ifUnlikely(hasSign(shape, a), () => bounds.leave());
  bounds.set(shape, result, {
    exponent: exponentOf(name, format, exponent(a), exponent(b)),
    isNonZero: name !== 'add' && name !== 'sub' && isNonZero(a) && isNonZero(b),
  });
}

/** Leaves unless all lanes are zero or ordinary. */
function check(s: Stage, bounds: Bounds, shape: Shape, format: Format, values: readonly Expr[]): void {
  const { ordinary } = format;
  // The same number may be both operands.
  const different = values.filter((value) => {
    const known = bounds.of(shape, value);
    if (known && known.exponent <= ordinary) return false;
    bounds.set(shape, value, { exponent: ordinary, isNonZero: known?.isNonZero === true });
    return true;
  });
  if (shape.packed) checkVectors(s, bounds, format, different);
  else for (const value of different) checkScalar(s, bounds, format, value);
}

function checkScalar(s: Stage, bounds: Bounds, format: Format, bits: Expr): void {
  const { isDouble, bias, ordinary, fraction } = format;
  // Sign and exponent are in the upper half; with the sign shifted out, one unsigned comparison tests both ends.
  const magnitude = shl(isDouble ? wrap(shrU(bits, i64(32))) : bits, i32(1));
  const unit = isDouble ? fraction - 31 : fraction + 1;
  const isOdd = geU(sub(magnitude, i32((bias - ordinary) << unit)), i32((2 * ordinary) << unit));
  const isNotZero = isDouble ? ne(shl(bits, i64(1)), i64(0)) : shl(bits, i32(1));
  s.f.ifUnlikely(isOdd, () => s.f.if(isNotZero, () => bounds.leave()));
}

/** The same lane over and over, as 64 bits. */
const repeated = (isDouble: boolean, lane: bigint): bigint =>
  isDouble ? BigInt.asUintN(64, lane) : BigInt.asUintN(32, lane) * 0x1_0000_0001n;

function checkVectors(s: Stage, bounds: Bounds, format: Format, values: readonly Expr[]): void {
  const { isDouble, bias, ordinary, fraction } = format;
  const lanes = isDouble ? 'i64x2' : 'i32x4';
  // Without its sign and relative to the smallest ordinary number, which becomes the smallest integer, a number is ordinary below some limit.
  const unit = BigInt(fraction + 1);
  const smallest = 1n << (isDouble ? 63n : 31n);
  const start = bounds.constant(repeated(isDouble, (BigInt(bias - ordinary) << unit) + smallest));
  const last = bounds.constant(repeated(isDouble, smallest + (BigInt(2 * ordinary) << unit) - 1n));
  const magnitude = (value: Expr): Expr => op(`${lanes}.shl`, value, i32(1));
  const isOdd = (value: Expr): Expr => op(`${lanes}.gt_s`, op(`${lanes}.sub`, magnitude(value), start), last);
  const any = (mask: (value: Expr) => Expr): Expr =>
    op(
      `${lanes}.bitmask`,
      values.map(mask).reduce((x, y) => op('v128.or', x, y)),
    );
  s.f.ifUnlikely(any(isOdd), () => {
    const isNoNumber = (value: Expr): Expr =>
      op('v128.andnot', isOdd(value), op(`${lanes}.eq`, magnitude(value), zeros()));
    s.f.if(any(isNoNumber), () => bounds.leave());
  });
}

/** Whether a lane is zero, i32. */
function hasZero(shape: Shape, value: Expr): Expr {
  if (!shape.packed) return eqz(shl(value, shape.double ? i64(1) : i32(1)));
  const lanes = shape.double ? 'i64x2' : 'i32x4';
  return op('v128.any_true', op(`${lanes}.eq`, op(`${lanes}.shl`, value, i32(1)), zeros()));
}

/** Whether a lane's sign is set, i32. */
function hasSign(shape: Shape, value: Expr): Expr {
  if (shape.packed) return op(shape.double ? 'i64x2.bitmask' : 'i32x4.bitmask', value);
  return shape.double ? ltS(value, i64(0)) : ltS(value, i32(0));
}
