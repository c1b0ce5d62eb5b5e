// SPDX-License-Identifier: MIT
// x87 transcendental instructions on the host, correctly rounded (Intel SDM volume 1, sections 8.3.7 to 8.3.10; volume 2 for each instruction).

import { Fsw } from './registers.ts';
import {
  arctangent,
  cosine,
  divide,
  exp2Minus1,
  log2,
  log2Plus1,
  magnitude,
  multiply,
  negate,
  pi,
  reduceAngle,
  sine,
  sum,
  type Real,
} from './real.ts';
import {
  HostRegisters,
  infinity,
  isDenormal,
  isInfinite,
  isNegative,
  isZero,
  one,
  quietIndefinite,
  toReal,
  zero,
  type Extended,
} from './host-registers.ts';

/** Angles from here on are out of range: C2 is set and nothing else happens. */
const angleLimit = 0x403e;

/** ST(0) = f(ST(0)); undefined: an unmasked exception stopped it. */
function unary(r: HostRegisters, f: (x: Extended) => Extended | undefined): void {
  if (r.isEmpty(0)) {
    r.flags |= Fsw.invalid | Fsw.stackFault;
    if (r.commit()) r.write(0, quietIndefinite);
    return;
  }
  const x = r.read(0);
  const result = r.nanOf(x) ?? f(x);
  if (r.commit() && result) r.write(0, result);
}

/** ST(1) = f(ST(0), ST(1)), then pops. */
function binary(r: HostRegisters, f: (x: Extended, y: Extended) => Extended | undefined): void {
  let result: Extended | undefined;
  if (r.isEmpty(0) || r.isEmpty(1)) {
    r.flags |= Fsw.invalid | Fsw.stackFault;
    result = quietIndefinite;
  } else {
    const x = r.read(0);
    const y = r.read(1);
    result = r.nanOf(x, y) ?? f(x, y);
  }
  if (!r.commit() || !result) return;
  r.write(1, result);
  r.pop();
}

function exponential(r: HostRegisters): void {
  unary(r, (x) => {
    if (isZero(x)) return x;
    if (isInfinite(x)) return isNegative(x) ? { ...one, exponent: one.exponent | 0x8000 } : x;
    if (r.denormalStops(x)) return undefined;
    const value = toReal(x);
    // Outside [-1, 1] the result is undefined by the manuals: the operand stays, as on the processors of the tests. The bounds count as inexact.
    if (magnitude(value) >= 0) {
      r.flags |= Fsw.precision;
      if (x.significand !== 1n << 63n || x.exponent !== (one.exponent | 0x8000)) return x;
      return { significand: 1n << 63n, exponent: 0xbffe };
    }
    return r.round(exp2Minus1(value));
  });
}

/** y times a logarithm that is `undefined` for zero. */
function scaledLogarithm(r: HostRegisters, y: Extended, logarithm: Real | undefined, exact: boolean): Extended {
  if (!logarithm) return zero(isNegative(y));
  if (isInfinite(y)) return infinity(isNegative(y) !== logarithm.negative);
  if (isZero(y)) return zero(isNegative(y) !== logarithm.negative);
  const result = r.round(multiply(toReal(y), logarithm), !exact);
  // The processors do not tell that a power of two has an exact logarithm.
  r.flags |= Fsw.precision;
  if (isDenormal(result)) r.flags |= Fsw.underflow;
  return result;
}

function logarithm(r: HostRegisters): void {
  binary(r, (x, y) => {
    if (isZero(x)) {
      if (isZero(y)) return r.invalid();
      if (isInfinite(y)) return infinity(!isNegative(y));
      r.flags |= Fsw.zeroDivide;
      return infinity(!isNegative(y));
    }
    if (isNegative(x)) return r.invalid();
    if (isInfinite(x)) {
      if (isZero(y)) return r.invalid();
      if (r.denormalStops(y)) return undefined;
      return infinity(isNegative(y));
    }
    const isOne = x.significand === 1n << 63n && x.exponent === one.exponent;
    if (isInfinite(y) && isOne) return r.invalid();
    if (r.denormalStops(x, y)) return undefined;
    const value = toReal(x);
    return scaledLogarithm(r, y, log2(value), (value.mantissa & (value.mantissa - 1n)) === 0n);
  });
}

function logarithmPlus1(r: HostRegisters): void {
  binary(r, (x, y) => {
    if (isZero(x)) {
      if (isInfinite(y)) return r.invalid();
      if (r.denormalStops(y)) return undefined;
      return zero(isNegative(x) !== isNegative(y));
    }
    if (isInfinite(x)) {
      if (isNegative(x) || isZero(y)) return r.invalid();
      if (r.denormalStops(y)) return undefined;
      return infinity(isNegative(y));
    }
    if (r.denormalStops(x, y)) return undefined;
    const value = toReal(x);
    if (value.negative && magnitude(value) >= 0) {
      // Undefined by the manuals: the operand stays, as on the processors of the tests.
      if (isInfinite(y)) return infinity(!isNegative(y));
      if (isZero(y)) return zero(!isNegative(y));
      r.flags |= Fsw.precision;
      return x;
    }
    return scaledLogarithm(r, y, log2Plus1(value), false);
  });
}

/** Quotient angle: atan2(ST(1), ST(0)). */
function arctangentOfQuotient(r: HostRegisters): void {
  binary(r, (x, y) => {
    const negative = isNegative(y);
    const signed = (v: Real): Extended => r.round({ ...v, negative });
    const quarters = (n: number): Real => ({
      negative: false,
      mantissa: pi.mantissa * BigInt(n),
      exponent: pi.exponent - 2,
    });
    if (r.denormalStops(x, y)) return undefined;
    if (isInfinite(y)) return signed(quarters(isInfinite(x) ? (isNegative(x) ? 3 : 1) : 2));
    if (isZero(y)) return isNegative(x) ? signed(pi) : zero(negative);
    if (isInfinite(x)) return isNegative(x) ? signed(pi) : zero(negative);
    if (isZero(x)) return signed(quarters(2));
    const a: Real = { ...toReal(y), negative: false };
    const b: Real = { ...toReal(x), negative: false };
    const distance = magnitude(a) - magnitude(b);
    const steep = distance > 0 || (distance === 0 && sum(a, negate(b))?.negative === false);
    const acute = arctangent(steep ? divide(b, a) : divide(a, b));
    if (!steep && !isNegative(x)) return signed(acute);
    // Away from the axis the small angle only disturbs a multiple of pi/2.
    const axis = steep ? quarters(2) : pi;
    const away = Math.abs(distance) > 300 ? { ...acute, mantissa: 1n, exponent: -330 } : acute;
    return signed(sum(axis, { ...away, negative: !(steep && isNegative(x)) })!);
  });
}

interface SineCosine {
  readonly sin: Real | undefined;
  readonly cos: Real | undefined;
}

function sineCosine(x: Extended): SineCosine {
  const { quadrant, rest } = reduceAngle(toReal(x));
  const s = rest && sine(rest);
  const c: Real = rest ? cosine(rest) : { negative: false, mantissa: 1n, exponent: 0 };
  switch (quadrant) {
    case 0:
      return { sin: s, cos: c };
    case 1:
      return { sin: c, cos: s && negate(s) };
    case 2:
      return { sin: s && negate(s), cos: negate(c) };
    default:
      return { sin: negate(c), cos: s };
  }
}

const outOfRange = (x: Extended): boolean => !isInfinite(x) && (x.exponent & 0x7fff) >= angleLimit;

/** FSIN and FCOS. */
function circular(r: HostRegisters, which: 'sin' | 'cos'): void {
  r.setConditions(Fsw.c2);
  unary(r, (x) => {
    if (isInfinite(x)) return r.invalid();
    if (outOfRange(x)) {
      r.setConditions(0, Fsw.c2);
      return x;
    }
    if (isZero(x)) return which === 'sin' ? x : one;
    if (r.denormalStops(x)) return undefined;
    return r.round(sineCosine(x)[which]!);
  });
}

/** FSINCOS and FPTAN: two results, ST(0) replaced by the first, the second pushed. */
function circularPair(r: HostRegisters, f: (x: Extended) => readonly [Extended, Extended]): void {
  r.setConditions(Fsw.c2);
  let results: readonly [Extended, Extended] | undefined;
  const underflow = r.isEmpty(0);
  if (underflow || !r.isEmpty(7)) {
    r.flags |= Fsw.invalid | Fsw.stackFault | (underflow ? 0 : Fsw.c1);
    results = [quietIndefinite, quietIndefinite];
  } else {
    const x = r.read(0);
    const nan = r.nanOf(x);
    if (nan) results = [nan, nan];
    else if (isInfinite(x)) results = [r.invalid(), quietIndefinite];
    else if (outOfRange(x)) {
      r.setConditions(Fsw.c1, Fsw.c2);
      return;
    } else if (isZero(x)) results = [x, one];
    else if (!r.denormalStops(x)) results = f(x);
  }
  if (!r.commit() || !results) return;
  r.write(0, results[0]);
  r.push(results[1]);
}

/** Operations of the descriptions in x87-transcendental.ts, by the name that they pass to the stage. `base`: address of the vCPU's state block in `view`. */
export const x87HostOps: Record<string, (view: DataView, base: number) => void> = {
  'x87.f2xm1': (view, base) => exponential(new HostRegisters(view, base)),
  'x87.fyl2x': (view, base) => logarithm(new HostRegisters(view, base)),
  'x87.fyl2xp1': (view, base) => logarithmPlus1(new HostRegisters(view, base)),
  'x87.fpatan': (view, base) => arctangentOfQuotient(new HostRegisters(view, base)),
  'x87.fsin': (view, base) => circular(new HostRegisters(view, base), 'sin'),
  'x87.fcos': (view, base) => circular(new HostRegisters(view, base), 'cos'),
  'x87.fsincos': (view, base) => {
    const r = new HostRegisters(view, base);
    circularPair(r, (x) => {
      const { sin, cos } = sineCosine(x);
      // C1 tells how the sine was rounded.
      const second = r.round(cos!);
      r.flags &= ~Fsw.c1;
      return [r.round(sin!), second];
    });
  },
  'x87.fptan': (view, base) => {
    const r = new HostRegisters(view, base);
    circularPair(r, (x) => {
      const { sin, cos } = sineCosine(x);
      return [r.round(divide(sin!, cos!)), one];
    });
  },
};
