// SPDX-License-Identifier: MIT
// Elementary functions of binary numbers with about 190 good bits, for correctly rounded x87 transcendentals (Intel SDM volume 1, section 8.3.10).

/** A nonzero number (-1)^negative x mantissa x 2^exponent, mantissa > 0. */
export interface Real {
  readonly negative: boolean;
  readonly mantissa: bigint;
  readonly exponent: number;
}

/** Fraction bits of series sums. */
const F = 192;
const one = 1n << BigInt(F);
/** Fraction bits for argument reduction, which is exact: the angle has at most 65, pi/2 has 67. */
const reductionBits = 128;

export const bitLength = (n: bigint): number => {
  const text = n.toString(16);
  return text.length * 4 - Math.clz32(parseInt(text[0]!, 16)) + 28;
};

const shift = (n: bigint, by: number): bigint => (by >= 0 ? n << BigInt(by) : n >> BigInt(-by));

/** Position of the leading one: floor(log2 |r|). */
export const magnitude = (r: Real): number => bitLength(r.mantissa) - 1 + r.exponent;

/** Signed fixed-point value with `bits` fraction bits. */
const toFixed = (r: Real, bits: number): bigint => {
  const n = shift(r.mantissa, r.exponent + bits);
  return r.negative ? -n : n;
};

/** From fixed point; `value` must not be zero. */
const fromFixed = (value: bigint, bits: number): Real => ({
  negative: value < 0n,
  mantissa: value < 0n ? -value : value,
  exponent: -bits,
});

export const multiply = (a: Real, b: Real): Real => ({
  negative: a.negative !== b.negative,
  mantissa: a.mantissa * b.mantissa,
  exponent: a.exponent + b.exponent,
});

/** a / b with at least F bits. */
export function divide(a: Real, b: Real): Real {
  const extra = F + Math.max(0, bitLength(b.mantissa) - bitLength(a.mantissa)) + 1;
  return {
    negative: a.negative !== b.negative,
    mantissa: (a.mantissa << BigInt(extra)) / b.mantissa,
    exponent: a.exponent - b.exponent - extra,
  };
}

/** The exact sum; undefined when it is zero. The exponents must not be far apart. */
export function sum(a: Real, b: Real): Real | undefined {
  const exponent = Math.min(a.exponent, b.exponent);
  const value = toFixed(a, -exponent) + toFixed(b, -exponent);
  return value === 0n ? undefined : fromFixed(value, -exponent);
}

export const negate = (a: Real): Real => ({ ...a, negative: !a.negative });

/** sum of x^(2k+1) / (2k+1), or with alternating signs, for x = 1/n in fixed point of `bits`. */
function arcSeries(n: bigint, bits: number, alternating: boolean): bigint {
  let power = (1n << BigInt(bits)) / n;
  let total = power;
  const square = n * n;
  for (let k = 3n; power !== 0n; k += 2n) {
    power /= alternating ? -square : square;
    total += power / k;
  }
  return total;
}

/** pi by Machin's formula, ln 2 by inverse hyperbolic tangents, with 16 guard bits. */
const machinPi = (bits: number): bigint =>
  (16n * arcSeries(5n, bits + 16, true) - 4n * arcSeries(239n, bits + 16, true)) >> 16n;
const logarithmOfTwo = (bits: number): bigint =>
  (18n * arcSeries(26n, bits + 16, false) -
    2n * arcSeries(4801n, bits + 16, false) +
    8n * arcSeries(8749n, bits + 16, false)) >>
  16n;

const ln2: Real = fromFixed(logarithmOfTwo(256), 256);
export const pi: Real = fromFixed(machinPi(256), 256);
/** Half of the pi of 66 significant bits by which processors reduce angles: results are those of that pi, not of the true one. */
const halfPi = 0xc90fdaa22168c234cn << BigInt(reductionBits - 67);

/** 2^x - 1 for |x| <= 1, x nonzero. */
export function exp2Minus1(x: Real): Real {
  const t = multiply(x, ln2);
  const fixed = toFixed(t, F);
  let term = one;
  let total = one;
  for (let k = 2n; term !== 0n && term !== -1n; k++) {
    term = ((term * fixed) >> BigInt(F)) / k;
    total += term;
  }
  return multiply(t, fromFixed(total, F));
}

/** log2((1 + z) / (1 - z)) for |z| < 0.2, z nonzero. */
function log2Ratio(z: Real): Real {
  const fixed = toFixed(z, F);
  const square = (fixed * fixed) >> BigInt(F);
  let power = one;
  let total = one;
  for (let k = 3n; power !== 0n; k += 2n) {
    power = (power * square) >> BigInt(F);
    total += power / k;
  }
  return divide(multiply({ ...z, exponent: z.exponent + 1 }, fromFixed(total, F)), ln2);
}

const integer = (n: number): Real => ({ negative: n < 0, mantissa: BigInt(Math.abs(n)), exponent: 0 });

/** log2(x) for x > 0; undefined when it is zero. Exact for powers of two. */
export function log2(x: Real): Real | undefined {
  const length = bitLength(x.mantissa);
  // x = m x 2^e with m in [0.71, 1.42).
  let e = x.exponent + length - 1;
  const fraction = Number(shift(x.mantissa, 53 - length)) / 2 ** 52;
  if (fraction > Math.SQRT2) e++;
  const m: Real = { negative: false, mantissa: x.mantissa, exponent: x.exponent - e };
  const difference = sum(m, { negative: true, mantissa: 1n, exponent: 0 });
  if (!difference) return e === 0 ? undefined : integer(e);
  const part = log2Ratio(divide(difference, sum(m, integer(1))!));
  return e === 0 ? part : sum(integer(e), part);
}

/** log2(1 + x) for x > -1, x nonzero. */
export function log2Plus1(x: Real): Real | undefined {
  const size = magnitude(x);
  // Below 2^-250 the quotient x / (2 + x) is x / 2 to any precision asked for.
  if (size < -250) return log2Ratio({ ...x, exponent: x.exponent - 1 });
  if (size < -2) return log2Ratio(divide(x, sum(integer(2), x)!));
  const y = sum(integer(1), x);
  return y && log2(y);
}

export interface Reduced {
  /** x = quadrant x pi/2 + rest, |rest| <= pi/4. */
  readonly quadrant: number;
  /** Undefined when zero. */
  readonly rest: Real | undefined;
}

/** Reduces an angle below 2^63 to a quadrant and a rest. */
export function reduceAngle(x: Real): Reduced {
  if (magnitude(x) < -1) return { quadrant: 0, rest: x };
  const fixed = toFixed(x, reductionBits);
  const doubled = 2n * fixed + halfPi;
  let quadrant = doubled / (2n * halfPi);
  if (doubled < 0n) quadrant -= 1n;
  const rest = fixed - quadrant * halfPi;
  return { quadrant: Number(quadrant & 3n), rest: rest === 0n ? undefined : fromFixed(rest, reductionBits) };
}

/** Alternating series 1 - t/(a(a+1)) + t^2/(a(a+1)(a+2)(a+3)) ... in fixed point. */
function circular(square: bigint, first: bigint): bigint {
  // Below the resolution the sum still is less than one, which directed rounding must see.
  if (square === 0n) return one - 1n;
  let term = one;
  let total = one;
  for (let k = first; term !== 0n && term !== -1n; k += 2n) {
    term = -((term * square) >> BigInt(F)) / (k * (k + 1n));
    total += term;
  }
  return total;
}

const squareOf = (r: Real): bigint => {
  const fixed = toFixed(r, F);
  return (fixed * fixed) >> BigInt(F);
};

/** sin and cos of |r| <= pi/4, r nonzero. */
export const sine = (r: Real): Real => multiply(r, fromFixed(circular(squareOf(r), 2n), F));
export const cosine = (r: Real): Real => fromFixed(circular(squareOf(r), 1n), F);

/** atan(z) for 0 <= z <= 0.07 by its series. */
function arctangentSeries(z: Real): Real {
  const square = squareOf(z);
  let power = one;
  let total = square === 0n ? one - 1n : one;
  for (let k = 3n; power !== 0n && power !== -1n; k += 2n) {
    power = -((power * square) >> BigInt(F));
    total += power / k;
  }
  return multiply(z, fromFixed(total, F));
}

const steps = 8;
const tableEntries: Real[] = [];

/** atan(k / 8), by halving the angle until the series is quick. */
function tabulated(k: number): Real {
  return (tableEntries[k] ??= byHalving({ negative: false, mantissa: BigInt(k), exponent: -3 }, 4));
}

/** atan(z) = 2 atan(z / (1 + sqrt(1 + z^2))). */
function byHalving(z: Real, times: number): Real {
  if (times === 0) return arctangentSeries(z);
  const bits = 256;
  const fixed = toFixed(z, bits);
  const root = integerSquareRoot((1n << BigInt(2 * bits)) + fixed * fixed);
  const half = fromFixed((fixed << BigInt(bits)) / ((1n << BigInt(bits)) + root), bits);
  const result = byHalving(half, times - 1);
  return { ...result, exponent: result.exponent + 1 };
}

function integerSquareRoot(n: bigint): bigint {
  let x = 1n << BigInt((bitLength(n) + 1) >> 1);
  for (;;) {
    const next = (x + n / x) >> 1n;
    if (next >= x) return x;
    x = next;
  }
}

/** atan(z) for 0 < z <= 1. */
export function arctangent(z: Real): Real {
  if (magnitude(z) < -5) return arctangentSeries(z);
  // z may have hundreds of bits: enough of them for a step of the table.
  const k = Math.round(Number(toFixed(z, 20)) / (2 ** 20 / steps));
  if (k === 0) return arctangentSeries(z);
  const c: Real = { negative: false, mantissa: BigInt(k), exponent: -3 };
  const difference = sum(z, negate(c));
  if (!difference) return tabulated(k);
  const ratio = divide(difference, sum(integer(1), multiply(z, c))!);
  return sum(tabulated(k), arctangentSeries(ratio))!;
}
