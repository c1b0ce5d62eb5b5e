// SPDX-License-Identifier: MIT
// Operand classes of 80-bit arithmetic: NaNs, unsupported formats, infinities, denormals (Intel SDM volume 1, sections 4.8.3 and 8.2).

import {
  add,
  and,
  eq,
  eqz,
  geS,
  gtU,
  i32,
  i64,
  load,
  ltS,
  ltU,
  ne,
  or,
  select,
  shl,
  sub,
  type Expr,
} from '../../wasm/expr.ts';
import type { Callee, FunctionBuilder, Local } from '../../wasm/function.ts';
import type { Kernel } from '../kernel.ts';
import { exponentMask, Fsw, indefinite, isMasked, quietBit, raise, setExponent, Work, work32 } from './registers.ts';

export const exponentField = (signAndExponent: Expr): Expr => and(signAndExponent, i32(exponentMask));

/** Neither zero, denormal, infinity, NaN nor unsupported. `exponent` is without sign. */
export const isNormal = (significand: Expr, exponent: Expr): Expr =>
  and(ltU(sub(exponent, i32(1)), i32(0x7ffe)), ltS(significand, i64(0)));
/** A nonzero exponent without integer bit: formats that only the 8087 knew. */
export const isUnsupported = (significand: Expr, exponent: Expr): Expr =>
  and(ne(exponent, i32(0)), geS(significand, i64(0)));
export const isInfinite = (exponent: Expr): Expr => eq(exponent, i32(exponentMask));
const isNan = (significand: Expr, exponent: Expr): Expr =>
  and(eq(exponent, i32(exponentMask)), ne(shl(significand, i64(1)), i64(0)));
const isQuiet = (significand: Expr): Expr => ne(and(significand, i64(quietBit)), i64(0));

/** Stores the real indefinite as a result's exponent; the significand is the expression. */
export function indefiniteResult(f: FunctionBuilder, s: Expr): Expr {
  setExponent(f, s, i32(indefinite.exponent));
  return i64(indefinite.significand);
}

/**
 * (state, significand and exponent of a, the same of b) -> 1 when one of them is a NaN or unsupported: then the masked result is in `Work.second`
 * (significand) and `Work.exponent`, and invalid is raised where due. Of two NaNs the quiet one wins, then the larger significand, then the positive one.
 */
export const selectNan: Kernel = {
  name: 'float80.selectNan',
  params: ['i32', 'i64', 'i32', 'i64', 'i32'],
  results: ['i32'],
  build: (f) => {
    const [s, a, aSe, b, bSe] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
    const ae = f.let(exponentField(aSe));
    const be = f.let(exponentField(bSe));
    const finish = (significand: Expr) => {
      f.store('i64.store', s, significand, Work.second);
      f.return(i32(1));
    };
    f.if(or(isUnsupported(a, ae), isUnsupported(b, be)), () => {
      raise(f, s, Fsw.invalid);
      finish(indefiniteResult(f, s));
    });
    const aNan = f.let(isNan(a, ae));
    const bNan = f.let(isNan(b, be));
    f.if(eqz(or(aNan, bNan)), () => f.return(i32(0)));
    const aSignals = f.let(and(aNan, eqz(isQuiet(a))));
    const bSignals = f.let(and(bNan, eqz(isQuiet(b))));
    f.if(or(aSignals, bSignals), () => raise(f, s, Fsw.invalid));
    const larger = select(ne(aSignals, bSignals), bSignals, or(gtU(a, b), and(eq(a, b), eqz(and(aSe, i32(0x8000))))));
    const takeA = f.let(select(and(aNan, bNan), larger, aNan));
    setExponent(f, s, select(takeA, aSe, bSe));
    finish(or(select(takeA, a, b), i64(quietBit)));
  },
};

/** Calls `selectNan` and returns its result from the kernel under construction when there is one. */
export function returnNan(
  f: FunctionBuilder,
  callee: (k: Kernel) => Callee,
  s: Expr,
  a: Expr,
  aSe: Expr,
  b: Expr,
  bSe: Expr,
): void {
  f.if(f.callExpr(callee(selectNan), s, a, aSe, b, bSe), () => f.return(load('i64.load', s, Work.second)));
}

const isDenormal = (significand: Expr, exponent: Expr): Expr => and(eqz(exponent), ne(significand, i64(0)));

/** True when one of the operands is denormal, also in the format that it had in memory. Exponents are without sign. */
export function anyDenormal(s: Expr, a: Expr, ae: Expr, b?: Expr, be?: Expr): Expr {
  const first = or(isDenormal(a, ae), ne(work32(s, Work.denormal), i32(0)));
  return b && be ? or(first, isDenormal(b, be)) : first;
}

/** Raises the denormal exception; unmasked, the kernel returns at once, for the operation does not happen. Exponents are without sign. */
export function checkDenormals(f: FunctionBuilder, s: Expr, a: Expr, ae: Expr, b?: Expr, be?: Expr): void {
  f.if(anyDenormal(s, a, ae, b, be), () => {
    raise(f, s, Fsw.denormal);
    f.if(eqz(isMasked(s, Fsw.denormal)), () => f.return(...(f.results[0] === 'i64' ? [i64(0)] : [i32(0)])));
  });
}

/** Exponent of a denormal as a number: 1 instead of 0. */
export function denormalExponent(f: FunctionBuilder, exponent: Local): void {
  f.set(exponent, add(exponent, eqz(exponent)));
}

/** Raises invalid and returns the indefinite from the kernel under construction. */
export function returnInvalid(f: FunctionBuilder, s: Expr): void {
  raise(f, s, Fsw.invalid);
  f.return(indefiniteResult(f, s));
}
