// SPDX-License-Identifier: MIT
// Guarded floating-point arithmetic: WebAssembly's result where it is provably SSE's, the exact host operation everywhere else (Intel SDM volume 1, chapter 11).
//
// WebAssembly rounds to nearest, knows no exception flags and leaves NaN payloads open. An operation is taken from WebAssembly when no operand is denormal,
// the result is finite and not tiny, rounding is to nearest, all exceptions are masked, and the precision flag is already set (it is sticky: an inexact
// result sets it and it stays until software clears MXCSR) or the operation is visibly exact. In every other case the host computes value and flags exactly.

import { ST } from '../cpu/layout.ts';
import {
  and,
  bitsOf,
  f32,
  f64,
  i32,
  i64,
  ltU,
  ne,
  op,
  or,
  select,
  shl,
  shrU,
  sub,
  v128,
  xor,
  type Expr,
  wrap,
  geU,
} from '../wasm/expr.ts';
import type { Local } from '../wasm/function.ts';
import type { ValType } from '../wasm/opcodes.ts';
import { ensureOrdinary, isBounded } from './simd-bounds.ts';
import { sseRequest, SseOp, type SseOpCode } from './simd-host.ts';
import type { Stage } from './stage.ts';

/** Four shapes of operands: one lane as f32 or f64, or a vector of lanes. */
export interface Shape {
  readonly wasm: 'f32' | 'f64' | 'f32x4' | 'f64x2';
  readonly double: boolean;
  readonly packed: boolean;
  readonly lanes: number;
  /** Type in which operands and results travel: bits for scalars. */
  readonly type: ValType;
}

export const scalarSingle: Shape = { wasm: 'f32', double: false, packed: false, lanes: 1, type: 'i32' };
export const scalarDouble: Shape = { wasm: 'f64', double: true, packed: false, lanes: 1, type: 'i64' };
export const packedSingle: Shape = { wasm: 'f32x4', double: false, packed: true, lanes: 4, type: 'v128' };
export const packedDouble: Shape = { wasm: 'f64x2', double: true, packed: true, lanes: 2, type: 'v128' };

/** Bits of a scalar as a WebAssembly float; a vector as it is. */
export const toFloat = (shape: Shape, bits: Expr): Expr =>
  shape.packed ? bits : (bits.float ?? op(shape.double ? 'f64.reinterpret_i64' : 'f32.reinterpret_i32', bits));
export const toBits = (shape: Shape, value: Expr): Expr =>
  shape.packed ? value : op(shape.double ? 'i64.reinterpret_f64' : 'i32.reinterpret_f32', value);

/** A constant in every lane. */
export function number(shape: Shape, value: number): Expr {
  if (!shape.packed) return shape.double ? f64(value) : f32(value);
  const lane = new Uint8Array(shape.double ? new Float64Array([value]).buffer : new Float32Array([value]).buffer);
  return v128(Array.from({ length: 16 }, (_, i) => lane[i % lane.length]!));
}

/** `name` of the shape: `f64.add`, `f32x4.lt`. Comparisons give a condition: i32 for scalars, a mask for vectors. */
export const apply = (shape: Shape, name: string, ...args: Expr[]): Expr => op(`${shape.wasm}.${name}`, ...args);
export const both = (shape: Shape, a: Expr, b: Expr): Expr => op(shape.packed ? 'v128.and' : 'i32.and', a, b);
export const either = (shape: Shape, a: Expr, b: Expr): Expr => op(shape.packed ? 'v128.or' : 'i32.or', a, b);
/** Whether a condition holds in any lane, i32. */
export const any = (shape: Shape, condition: Expr): Expr => (shape.packed ? op('v128.any_true', condition) : condition);
/** Lanes in which `condition` does not hold. */
export const negated = (shape: Shape, condition: Expr): Expr =>
  shape.packed ? op('v128.not', condition) : op('i32.eqz', condition);

const smallestNormal = (shape: Shape): number => (shape.double ? 2 ** -1022 : 2 ** -126);

/** Denormal lanes of bound bits (any lane when a vector), as a condition. */
export function denormal(shape: Shape, bits: Expr): Expr {
  if (shape.packed) {
    const small = apply(shape, 'lt', apply(shape, 'abs', bits), number(shape, smallestNormal(shape)));
    return both(shape, small, apply(shape, 'ne', bits, number(shape, 0)));
  }
  // 0 < magnitude < smallest normal: shifting the sign out and subtracting 1 puts zero and the rest above the range.
  if (shape.double) return ltU(sub(shl(bits, i64(1)), i64(1)), i64(0x1f_ffff_ffff_ffffn));
  return ltU(sub(shl(bits, i32(1)), i32(1)), i32(0x00ff_ffff));
}

/** Infinite or NaN lanes. */
export function nonFinite(shape: Shape, value: Expr): Expr {
  return negated(shape, apply(shape, 'lt', apply(shape, 'abs', value), number(shape, Infinity)));
}

/** Lanes whose value is at most the smallest normal number: rounding may have brought it there from below. */
export function tiny(shape: Shape, value: Expr, limit = smallestNormal(shape)): Expr {
  return apply(shape, 'le', apply(shape, 'abs', value), number(shape, limit));
}

export const nonZero = (shape: Shape, value: Expr): Expr => apply(shape, 'ne', value, number(shape, 0));
export const isNan = (shape: Shape, value: Expr): Expr => apply(shape, 'ne', value, value);

/** MXCSR with everything that the fast path depends on: precision flag, masks, rounding. */
export const Control = { select: 0x7fa0, fast: 0x1fa0, precisionClear: 0x1f80 } as const;

/** Bound MXCSR bits that decide between fast and slow path. */
export const control = (s: Stage): Expr => s.let(and(s.mxcsr?.() ?? s.get('i32.load', ST.mxcsr), i32(Control.select)));

export interface HostRequest {
  readonly op: SseOpCode;
  readonly shape: Shape;
  readonly a: Expr;
  readonly b?: Expr;
  /** Run-time `extra` field of the request (i32). */
  readonly extra?: Expr;
  /** Lanes when not the shape's. */
  readonly lanes?: number;
  /** Fixed `extra` field. */
  readonly fixed?: number;
}

function putOperand(s: Stage, value: Expr, offset: number): void {
  s.put(`${value.type}.store`, offset, value);
}

/**
 * Calls the host operation `sse` (simd-host.ts); its result is read with `hostResult`. It touches only xt0, xt1, work and MXCSR, and may raise #XM: no
 * guest state may have been written before. Called inside `f.if`.
 */
export function callHost(s: Stage, request: HostRequest): void {
  putOperand(s, request.a, ST.xt0);
  if (request.b) putOperand(s, request.b, ST.xt1);
  const fixed = sseRequest(request.op, request.shape.double, request.lanes ?? request.shape.lanes, request.fixed ?? 0);
  s.put('i32.store', ST.work, request.extra ? or(i32(fixed), shl(request.extra, i32(16))) : i32(fixed));
  s.host('sse');
}

export const hostResult = (s: Stage, type: ValType): Expr => s.get(`${type}.load`, ST.xt0);

/**
 * Writes `result` by the host's computation when `special` holds, or when MXCSR asks for more than the fast path gives and `exact` (computed only
 * then) does not show that it makes no difference.
 */
export function guard(s: Stage, result: Local, special: Expr, exact: () => Expr, request: HostRequest): void {
  const bound = s.let(special);
  const state = control(s);
  s.f.if(or(bound, ne(state, i32(Control.fast))), () => {
    s.f.if(or(or(bound, ne(state, i32(Control.precisionClear))), op('i32.eqz', exact())), () => {
      callHost(s, request);
      s.f.set(result, hostResult(s, result.type));
    });
  });
}

/** Exponents between which a product, quotient or sum of two numbers is finite and not tiny: far from both ends of the format. */
const ordinaryExponent = { double: 500, single: 60 } as const;

/**
 * Conditions (i32) of which none holds when all lanes of bound bits have magnitudes from 2^-n to 2^n, with n from `ordinaryExponent`, and `fast`
 * (i64) is all ones; one does when it is 0.
 */
function extraordinary(shape: Shape, bits: readonly Expr[], fast: Expr): Expr[] {
  const n = shape.double ? ordinaryExponent.double : ordinaryExponent.single;
  if (shape.packed) {
    const magnitudes = bits.map((b) => apply(shape, 'abs', b));
    const most = number(shape, 2 ** n);
    const [first, second = first] = magnitudes as [Expr, Expr?];
    // pmin shows a NaN in its first operand, pmax(second, first) one in the second.
    const least = apply(
      shape,
      'ge',
      magnitudes.length > 1 ? apply(shape, 'pmin', first, second) : first,
      number(shape, 2 ** -n),
    );
    const greatest = apply(
      shape,
      'le',
      magnitudes.length > 1 ? apply(shape, 'pmax', second, first) : first,
      fast.constant === undefined ? op('v128.and', most, op('i64x2.splat', fast)) : most,
    );
    return [op('i32.eqz', op('i32x4.all_true', op('v128.and', least, greatest)))];
  }
  // With the sign shifted out, one unsigned comparison tests both ends.
  return bits.map((b): Expr => {
    if (!shape.double) {
      const limit = and(i32((2 * n) << 24), wrap(fast));
      return geU(sub(shl(b, i32(1)), i32((127 - n) << 24)), limit);
    }
    const limit = and(i64(BigInt(2 * n) << 53n), fast);
    return geU(sub(shl(b, i64(1)), i64(BigInt(1023 - n) << 53n)), limit);
  });
}

/** `careful` is emitted for everything but ordinary operands under an MXCSR that asks for nothing. */
function unlessOrdinary(s: Stage, shape: Shape, bits: readonly Expr[], careful: () => void): void {
  const { f } = s;
  const fast = s.fastSse?.();
  if (!fast) {
    const odd = extraordinary(shape, bits, i64(-1)).reduce((x, y) => or(x, y));
    f.ifUnlikely(or(odd, ne(control(s), i32(Control.fast))), careful);
    return;
  }
  f.block((done) => {
    f.block((odd) => {
      for (const condition of extraordinary(shape, bits, fast)) f.brIfUnlikely(odd, condition);
      f.br(done);
    });
    careful();
  });
}

/**
 * True (i32) when exceptions to be raised (bits as in MXCSR, i32) would change something: one is unmasked or its flag is not set yet.
 */
export function raisesNews(s: Stage, flags: Expr): Expr {
  const mxcsr = s.let(s.get('i32.load', ST.mxcsr));
  return and(flags, xor(and(mxcsr, shrU(mxcsr, i32(7))), i32(-1)));
}

/** All lanes have only the upper half of their significand in use: products of two such values are exact. */
function shortSignificand(shape: Shape, bits: Expr, lowBits: bigint): Expr {
  if (!shape.packed) return and(bits, shape.double ? i64(lowBits) : i32(Number(lowBits)));
  const mask = Array.from({ length: 16 }, (_, i) =>
    Number((lowBits >> BigInt(8 * (i % (shape.double ? 8 : 4)))) & 0xffn),
  );
  return op('v128.and', bits, v128(mask));
}

/** No bits set, i32. */
const none = (bits: Expr): Expr =>
  bits.type === 'v128' ? op('i32.eqz', op('v128.any_true', bits)) : op(`${bits.type}.eqz`, bits);

/** Lower halves of the significands of a and b are clear: a sufficient test for an exact product. */
function shortProduct(shape: Shape, a: Expr, b: Expr): Expr {
  const low = shape.double ? 0x7ff_ffffn : 0xfffn;
  return and(none(shortSignificand(shape, a, low)), none(shortSignificand(shape, b, low)));
}

export type Arithmetic = 'add' | 'sub' | 'mul' | 'div' | 'sqrt' | 'min' | 'max' | 'addsub';

/** Whether the result of a finite operation on normal numbers is exact; may say no where it is. i32. */
function isExact(s: Stage, shape: Shape, name: Arithmetic, a: Expr, b: Expr, result: Expr): Expr {
  const r = toFloat(shape, result);
  const fa = toFloat(shape, a);
  const equal = (x: Expr, y: Expr): Expr => op('i32.eqz', any(shape, apply(shape, 'ne', x, y)));
  switch (name) {
    case 'add':
    case 'sub': {
      // Knuth's TwoSum: the rounding error of a sum is itself a number.
      const fb = s.let(name === 'add' ? toFloat(shape, b) : apply(shape, 'neg', toFloat(shape, b)));
      const part = s.let(apply(shape, 'sub', r, fa));
      const error = apply(
        shape,
        'add',
        apply(shape, 'sub', fa, apply(shape, 'sub', r, part)),
        apply(shape, 'sub', fb, part),
      );
      return equal(error, number(shape, 0));
    }
    case 'mul':
      return shortProduct(shape, a, b);
    case 'div':
      return and(shortProduct(shape, result, b), equal(apply(shape, 'mul', r, toFloat(shape, b)), fa));
    case 'sqrt':
      return and(shortProduct(shape, result, result), equal(apply(shape, 'mul', r, r), fa));
    default:
      return i32(0);
  }
}

/** Result of an arithmetic operation on bound bits; flags and exceptions included. For SQRT, `b` is ignored. */
export function arithmetic(s: Stage, shape: Shape, name: Arithmetic, a: Expr, b: Expr): Expr {
  const fa = toFloat(shape, a);
  const fb = toFloat(shape, b);
  const request: HostRequest = { op: SseOp[name], shape, a, b };
  if (name === 'min' || name === 'max') {
    const chosen = s.f.local(shape.type);
    minMax(s, shape, name, a, b, chosen, request);
    return chosen;
  }
  // A scalar result stays a float: the next operation is likely to want it so.
  const place = s.f.local(shape.packed ? 'v128' : shape.double ? 'f64' : 'f32');
  const result = shape.packed ? place : bitsOf(place);
  const bounds = s.bounds?.();
  if (bounds && isBounded(name)) {
    ensureOrdinary(s, bounds, shape, name, a, name === 'sqrt' ? a : b, result);
    s.f.set(place, name === 'sqrt' ? apply(shape, name, fa) : apply(shape, name, fa, fb));
    return result;
  }
  if (name === 'sqrt') {
    s.f.set(place, apply(shape, 'sqrt', fa));
    const odd = either(shape, denormal(shape, a), nonFinite(shape, toFloat(shape, result)));
    guard(s, place, any(shape, odd), () => isExact(s, shape, name, a, b, result), request);
    return result;
  }
  if (name === 'addsub') {
    // Only in the fast path may the subtraction be the addition of the negated lane: a NaN keeps its sign.
    const sign = v128(
      Array.from({ length: 16 }, (_, i) => (i % (shape.double ? 16 : 8) === (shape.double ? 7 : 3) ? 0x80 : 0)),
    );
    const addend = s.let(op('v128.xor', b, sign));
    s.f.set(place, apply(shape, 'add', a, addend));
    const odd = either(
      shape,
      either(shape, denormal(shape, a), denormal(shape, b)),
      either(shape, nonFinite(shape, result), denormal(shape, result)),
    );
    guard(s, place, any(shape, odd), () => isExact(s, shape, 'add', a, addend, result), request);
    return result;
  }
  s.f.set(place, apply(shape, name, fa, fb));
  const r = toFloat(shape, result);
  const operands = either(shape, denormal(shape, a), denormal(shape, b));
  let odd = either(shape, operands, nonFinite(shape, r));
  // A sum is never inexact when tiny, but a denormal one matters to flush-to-zero; products and quotients underflow.
  if (name === 'add' || name === 'sub') odd = either(shape, odd, denormal(shape, result));
  else if (name === 'mul')
    odd = either(shape, odd, both(shape, tiny(shape, r), both(shape, nonZero(shape, fa), nonZero(shape, fb))));
  else odd = either(shape, odd, both(shape, tiny(shape, r), nonZero(shape, fa)));
  unlessOrdinary(s, shape, [a, b], () =>
    guard(s, place, any(shape, odd), () => isExact(s, shape, name, a, b, result), request),
  );
  return result;
}

/** The second operand unless the first compares below (above) it; NaNs and denormals go to the host for their flags. Rounding does not matter. */
function minMax(
  s: Stage,
  shape: Shape,
  name: 'min' | 'max',
  a: Expr,
  b: Expr,
  result: Local,
  request: HostRequest,
): void {
  const fa = toFloat(shape, a);
  const fb = toFloat(shape, b);
  if (shape.packed) s.f.set(result, apply(shape, name === 'min' ? 'pmin' : 'pmax', b, a));
  else {
    const first = apply(shape, name === 'min' ? 'lt' : 'gt', fa, fb);
    s.f.set(result, select(first, a, b));
  }
  const unordered = either(shape, isNan(shape, fa), isNan(shape, fb));
  const odd = either(shape, unordered, either(shape, denormal(shape, a), denormal(shape, b)));
  s.f.if(any(shape, odd), () => {
    callHost(s, request);
    s.f.set(result, hostResult(s, result.type));
  });
}
