// SPDX-License-Identifier: MIT
// Exact SSE floating-point arithmetic on bit patterns: every rounding mode, DAZ, FTZ, NaN rule and exception flag (IEEE 754-2019; Intel SDM volume 1, chapters 4.8-4.9, 11.5).
//
// The generated code computes with WebAssembly's own arithmetic and comes here only when that could differ from SSE in value or flags, so clarity and
// exactness come before speed: significands are BigInts, results are computed exactly and rounded once.

/** MXCSR fields. */
export const Mxcsr = {
  invalid: 0x01,
  denormal: 0x02,
  zeroDivide: 0x04,
  overflow: 0x08,
  underflow: 0x10,
  precision: 0x20,
  flags: 0x3f,
  denormalsAreZero: 0x40,
  masks: 0x1f80,
  rounding: 0x6000,
  flushToZero: 0x8000,
} as const;

/** Rounding directions as in MXCSR.RC and the immediate of ROUNDPS. */
export const Rounding = { nearest: 0, down: 1, up: 2, zero: 3 } as const;

/** A binary interchange format. */
export interface Format {
  readonly bits: number;
  /** Bits of the significand, hidden bit included. */
  readonly precision: number;
  readonly fractionMask: bigint;
  readonly hidden: bigint;
  readonly quietBit: bigint;
  readonly signBit: bigint;
  readonly infinity: bigint;
  readonly maxFinite: bigint;
  readonly defaultNan: bigint;
  /** Exponent of the least significant bit of a denormal. */
  readonly minExponent: number;
  readonly maxBiased: number;
}

function format(bits: number, precision: number): Format {
  const fraction = BigInt(precision - 1);
  const maxBiased = (1 << (bits - precision)) - 1;
  const infinity = BigInt(maxBiased) << fraction;
  const signBit = 1n << BigInt(bits - 1);
  const quietBit = 1n << (fraction - 1n);
  return {
    bits,
    precision,
    fractionMask: (1n << fraction) - 1n,
    hidden: 1n << fraction,
    quietBit,
    signBit,
    infinity,
    maxFinite: infinity - 1n,
    defaultNan: signBit | infinity | quietBit,
    minExponent: 3 - precision - ((maxBiased + 1) >> 1),
    maxBiased,
  };
}

export const single = format(32, 24);
export const double = format(64, 53);

const isNan = (f: Format, x: bigint): boolean => (x & ~f.signBit) > f.infinity;
const isSignalling = (f: Format, x: bigint): boolean => isNan(f, x) && (x & f.quietBit) === 0n;
const isZero = (f: Format, x: bigint): boolean => (x & ~f.signBit) === 0n;
const isInfinite = (f: Format, x: bigint): boolean => (x & ~f.signBit) === f.infinity;
const isDenormal = (f: Format, x: bigint): boolean => !isZero(f, x) && (x & f.infinity) === 0n;
const quiet = (f: Format, x: bigint): bigint => x | f.quietBit;

/** A finite value: (-1)^negative * significand * 2^exponent. */
interface Finite {
  readonly negative: boolean;
  readonly significand: bigint;
  readonly exponent: number;
}

function unpack(f: Format, x: bigint): Finite {
  const biased = Number((x & f.infinity) >> BigInt(f.precision - 1));
  const fraction = x & f.fractionMask;
  return {
    negative: (x & f.signBit) !== 0n,
    significand: biased ? fraction | f.hidden : fraction,
    exponent: f.minExponent + (biased ? biased - 1 : 0),
  };
}

function bitLength(x: bigint): number {
  let rest = x;
  let length = 0;
  while (rest > 0xffffffffn) {
    rest >>= 32n;
    length += 32;
  }
  return length + 32 - Math.clz32(Number(rest));
}

/** floor(sqrt(n)) for n > 0, by Newton's iteration from above. */
function integerSqrt(n: bigint): bigint {
  let x = 1n << BigInt((bitLength(n) + 1) >> 1);
  for (;;) {
    const next = (x + n / x) >> 1n;
    if (next >= x) return x;
    x = next;
  }
}

/** The state of one instruction's arithmetic: control fields of MXCSR in, exception flags out. */
export class SseArithmetic {
  readonly mxcsr: number;
  readonly rounding: number;
  readonly daz: boolean;
  /** Exception flags raised so far (bits 0-5). */
  flags = 0;

  constructor(mxcsr: number) {
    this.mxcsr = mxcsr;
    this.rounding = (mxcsr & Mxcsr.rounding) >> 13;
    this.daz = (mxcsr & Mxcsr.denormalsAreZero) !== 0;
  }

  /** Rounds `significand * 2^exponent` to a multiple of 2^lsb; returns the multiple and whether it is inexact. */
  private roundTo(v: Finite, lsb: number, rounding: number): { units: bigint; inexact: boolean } {
    const drop = lsb - v.exponent;
    if (drop <= 0) return { units: v.significand << BigInt(-drop), inexact: false };
    const shift = BigInt(drop);
    const units = v.significand >> shift;
    const rest = v.significand - (units << shift);
    if (rest === 0n) return { units, inexact: false };
    const half = 1n << (shift - 1n);
    let up: boolean;
    if (rounding === Rounding.nearest) up = rest > half || (rest === half && (units & 1n) === 1n);
    else up = rounding === (v.negative ? Rounding.down : Rounding.up);
    return { units: up ? units + 1n : units, inexact: true };
  }

  /** Rounds a nonzero exact value (or one whose lowest bit is sticky, far below the format's precision) to the format. */
  private round(f: Format, v: Finite): bigint {
    const sign = v.negative ? f.signBit : 0n;
    const top = bitLength(v.significand) + v.exponent;
    const unbounded = this.roundTo(v, top - f.precision, this.rounding);
    const leading = top + (bitLength(unbounded.units) > f.precision ? 1 : 0);
    const smallest = f.minExponent + f.precision;
    if (leading < smallest) {
      // Tiny after rounding, as SSE defines it. An exact denormal is no underflow unless the exception is unmasked or flushing is asked for.
      const masked = (this.mxcsr & (Mxcsr.underflow << 7)) !== 0;
      if (!masked) {
        this.flags |= Mxcsr.underflow | (unbounded.inexact ? Mxcsr.precision : 0);
        return sign;
      }
      if (this.mxcsr & Mxcsr.flushToZero) {
        this.flags |= Mxcsr.underflow | Mxcsr.precision;
        return sign;
      }
      const { units, inexact } = this.roundTo(v, f.minExponent, this.rounding);
      if (inexact) this.flags |= Mxcsr.underflow | Mxcsr.precision;
      return sign | units;
    }
    if (unbounded.inexact) this.flags |= Mxcsr.precision;
    const biased = leading - smallest + 1;
    if (biased >= f.maxBiased) {
      const masked = (this.mxcsr & (Mxcsr.overflow << 7)) !== 0;
      this.flags |= Mxcsr.overflow | (masked ? Mxcsr.precision : 0);
      const toInfinity =
        this.rounding === Rounding.nearest || this.rounding === (v.negative ? Rounding.down : Rounding.up);
      return sign | (toInfinity ? f.infinity : f.maxFinite);
    }
    const units = leading > top ? unbounded.units >> 1n : unbounded.units;
    return sign | (BigInt(biased) << BigInt(f.precision - 1)) | (units & f.fractionMask);
  }

  /** DAZ: a denormal operand becomes a zero of its sign. */
  private operand(f: Format, x: bigint): bigint {
    return this.daz && isDenormal(f, x) ? x & f.signBit : x;
  }

  private noteDenormal(f: Format, ...operands: bigint[]): void {
    if (operands.some((x) => isDenormal(f, x))) this.flags |= Mxcsr.denormal;
  }

  private invalid(f: Format): bigint {
    this.flags |= Mxcsr.invalid;
    return f.defaultNan;
  }

  /** The result when an operand is a NaN: the first NaN operand, quieted. */
  private propagate(f: Format, a: bigint, b: bigint): bigint {
    if (isSignalling(f, a) || isSignalling(f, b)) this.flags |= Mxcsr.invalid;
    return quiet(f, isNan(f, a) ? a : b);
  }

  add(f: Format, first: bigint, second: bigint, subtract = false): bigint {
    const a = this.operand(f, first);
    const b = this.operand(f, second);
    if (isNan(f, a) || isNan(f, b)) return this.propagate(f, a, b);
    const addend = subtract ? b ^ f.signBit : b;
    if (isInfinite(f, a) || isInfinite(f, b)) {
      if (isInfinite(f, a) && isInfinite(f, b) && a !== addend) return this.invalid(f);
      this.noteDenormal(f, a, b);
      return isInfinite(f, a) ? a : addend;
    }
    this.noteDenormal(f, a, b);
    const x = unpack(f, a);
    const y = unpack(f, addend);
    const exponent = Math.min(x.exponent, y.exponent);
    const signed = (v: Finite): bigint => {
      const units = v.significand << BigInt(v.exponent - exponent);
      return v.negative ? -units : units;
    };
    const sum = signed(x) + signed(y);
    if (sum === 0n) {
      // Like-signed zeros keep their sign; any other exact zero is positive unless rounding down.
      if (isZero(f, a) && isZero(f, addend) && a === addend) return a;
      return this.rounding === Rounding.down ? f.signBit : 0n;
    }
    return this.round(f, { negative: sum < 0n, significand: sum < 0n ? -sum : sum, exponent });
  }

  multiply(f: Format, first: bigint, second: bigint): bigint {
    const a = this.operand(f, first);
    const b = this.operand(f, second);
    if (isNan(f, a) || isNan(f, b)) return this.propagate(f, a, b);
    const sign = (a ^ b) & f.signBit;
    if (isInfinite(f, a) || isInfinite(f, b)) {
      if (isZero(f, a) || isZero(f, b)) return this.invalid(f);
      this.noteDenormal(f, a, b);
      return sign | f.infinity;
    }
    this.noteDenormal(f, a, b);
    if (isZero(f, a) || isZero(f, b)) return sign;
    const x = unpack(f, a);
    const y = unpack(f, b);
    return this.round(f, {
      negative: sign !== 0n,
      significand: x.significand * y.significand,
      exponent: x.exponent + y.exponent,
    });
  }

  divide(f: Format, first: bigint, second: bigint): bigint {
    const a = this.operand(f, first);
    const b = this.operand(f, second);
    if (isNan(f, a) || isNan(f, b)) return this.propagate(f, a, b);
    const sign = (a ^ b) & f.signBit;
    if (isInfinite(f, a)) {
      if (isInfinite(f, b)) return this.invalid(f);
      this.noteDenormal(f, b);
      return sign | f.infinity;
    }
    if (isInfinite(f, b)) {
      this.noteDenormal(f, a);
      return sign;
    }
    if (isZero(f, b)) {
      if (isZero(f, a)) return this.invalid(f);
      this.flags |= Mxcsr.zeroDivide;
      return sign | f.infinity;
    }
    this.noteDenormal(f, a, b);
    if (isZero(f, a)) return sign;
    const x = unpack(f, a);
    const y = unpack(f, b);
    // Enough quotient bits for one rounding, the remainder as a sticky bit below them.
    const shift = Math.max(0, bitLength(y.significand) - bitLength(x.significand)) + f.precision + 4;
    const numerator = x.significand << BigInt(shift);
    const quotient = numerator / y.significand;
    const sticky = quotient * y.significand === numerator ? 0n : 1n;
    return this.round(f, {
      negative: sign !== 0n,
      significand: (quotient << 1n) | sticky,
      exponent: x.exponent - y.exponent - shift - 1,
    });
  }

  sqrt(f: Format, operand: bigint): bigint {
    const a = this.operand(f, operand);
    if (isNan(f, a)) return this.propagate(f, a, a);
    if (isZero(f, a)) return a;
    if (a & f.signBit) return this.invalid(f);
    if (isInfinite(f, a)) return a;
    this.noteDenormal(f, a);
    const x = unpack(f, a);
    let shift = 2 * f.precision + 8 - bitLength(x.significand);
    if ((x.exponent - shift) & 1) shift++;
    const radicand = x.significand << BigInt(shift);
    const root = integerSqrt(radicand);
    const sticky = root * root === radicand ? 0n : 1n;
    return this.round(f, {
      negative: false,
      significand: (root << 1n) | sticky,
      exponent: (x.exponent - shift) / 2 - 1,
    });
  }

  /** MIN and MAX: the second operand when either is a NaN or both are zero. */
  minMax(f: Format, first: bigint, second: bigint, max: boolean): bigint {
    const a = this.operand(f, first);
    const b = this.operand(f, second);
    if (isNan(f, a) || isNan(f, b)) {
      this.flags |= Mxcsr.invalid;
      return b;
    }
    this.noteDenormal(f, a, b);
    const order = this.order(f, a, b);
    return (max ? order > 0 : order < 0) ? a : b;
  }

  /** -1, 0 or 1 for numbers. */
  private order(f: Format, a: bigint, b: bigint): number {
    const key = (x: bigint): bigint => ((x & f.signBit) !== 0n ? -(x & ~f.signBit) : x);
    const x = key(a);
    const y = key(b);
    return x < y ? -1 : x > y ? 1 : 0;
  }

  /** -1, 0, 1, or 2 for unordered; a quiet NaN is invalid only when `signalling`. */
  compare(f: Format, first: bigint, second: bigint, signalling: boolean): number {
    const a = this.operand(f, first);
    const b = this.operand(f, second);
    if (isNan(f, a) || isNan(f, b)) {
      if (signalling || isSignalling(f, a) || isSignalling(f, b)) this.flags |= Mxcsr.invalid;
      return 2;
    }
    this.noteDenormal(f, a, b);
    return this.order(f, a, b);
  }

  /** CMPPS predicates 0-7: eq lt le unord neq nlt nle ord. */
  predicate(f: Format, a: bigint, b: bigint, predicate: number): boolean {
    const kind = predicate & 3;
    const order = this.compare(f, a, b, kind === 1 || kind === 2);
    const holds = kind === 0 ? order === 0 : kind === 1 ? order === -1 : kind === 2 ? order <= 0 : order === 2;
    return holds !== ((predicate & 4) !== 0);
  }

  /** Conversion to a signed integer of `bits` bits; out of range gives the integer indefinite value. */
  toInteger(f: Format, operand: bigint, bits: number, rounding: number): bigint {
    const a = this.operand(f, operand);
    const limit = 1n << BigInt(bits - 1);
    if (!isNan(f, a) && !isInfinite(f, a)) {
      const v = unpack(f, a);
      const { units, inexact } = this.roundTo(v, 0, rounding);
      const value = v.negative ? -units : units;
      if (value >= -limit && value < limit) {
        if (inexact) this.flags |= Mxcsr.precision;
        return value;
      }
    }
    this.flags |= Mxcsr.invalid;
    return -limit;
  }

  fromInteger(f: Format, value: bigint): bigint {
    if (value === 0n) return 0n;
    return this.round(f, { negative: value < 0n, significand: value < 0n ? -value : value, exponent: 0 });
  }

  convert(from: Format, to: Format, operand: bigint): bigint {
    const a = this.operand(from, operand);
    const sign = (a & from.signBit) !== 0n ? to.signBit : 0n;
    if (isNan(from, a)) {
      if (isSignalling(from, a)) this.flags |= Mxcsr.invalid;
      const shift = to.precision - from.precision;
      const fraction = quiet(from, a) & from.fractionMask;
      return sign | to.infinity | (shift > 0 ? fraction << BigInt(shift) : fraction >> BigInt(-shift));
    }
    if (isInfinite(from, a)) return sign | to.infinity;
    if (isZero(from, a)) return sign;
    this.noteDenormal(from, a);
    return this.round(to, unpack(from, a));
  }

  /** ROUNDPS and its kin: to an integral value; `quietInexact` suppresses the precision exception. */
  roundToIntegral(f: Format, operand: bigint, rounding: number, quietInexact: boolean): bigint {
    const a = this.operand(f, operand);
    if (isNan(f, a)) return this.propagate(f, a, a);
    if (isInfinite(f, a) || isZero(f, a)) return a;
    const v = unpack(f, a);
    if (v.exponent >= 0) return a;
    const { units, inexact } = this.roundTo(v, 0, rounding);
    if (inexact && !quietInexact) this.flags |= Mxcsr.precision;
    const sign = a & f.signBit;
    if (units === 0n) return sign;
    const length = bitLength(units);
    const biased = BigInt(length - f.precision - f.minExponent + 1);
    return sign | (biased << BigInt(f.precision - 1)) | ((units << BigInt(f.precision - length)) & f.fractionMask);
  }
}
