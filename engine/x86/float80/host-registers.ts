// SPDX-License-Identifier: MIT
// The x87 state for operations that the host computes: operands, correctly rounded results, exceptions (Intel SDM volume 1, chapter 8).

import { ST } from '../../cpu/layout.ts';
import { exponentBias, exponentMask, Fsw, indefinite, Rounding } from './registers.ts';
import { bitLength, type Real } from './real.ts';

/** An 80-bit number: significand as unsigned 64 bits, sign and exponent. */
export interface Extended {
  readonly significand: bigint;
  readonly exponent: number;
}

const integerBit = 1n << 63n;
const quietBit = 1n << 62n;
const allOnes = (1n << 64n) - 1n;
const signBit = 0x8000;

export const isNegative = (x: Extended): boolean => (x.exponent & signBit) !== 0;
export const isZero = (x: Extended): boolean => (x.exponent & exponentMask) === 0 && x.significand === 0n;
export const isInfinite = (x: Extended): boolean =>
  (x.exponent & exponentMask) === exponentMask && x.significand === integerBit;
export const isDenormal = (x: Extended): boolean => (x.exponent & exponentMask) === 0 && x.significand !== 0n;
const isUnsupported = (x: Extended): boolean =>
  (x.exponent & exponentMask) !== 0 && (x.significand & integerBit) === 0n;
const isNan = (x: Extended): boolean =>
  (x.exponent & exponentMask) === exponentMask && (x.significand & (integerBit - 1n)) !== 0n;
const isSignalling = (x: Extended): boolean => isNan(x) && (x.significand & quietBit) === 0n;

export const zero = (negative: boolean): Extended => ({ significand: 0n, exponent: negative ? signBit : 0 });
export const infinity = (negative: boolean): Extended => ({
  significand: integerBit,
  exponent: exponentMask | (negative ? signBit : 0),
});
export const one: Extended = { significand: integerBit, exponent: exponentBias };
export const quietIndefinite: Extended = {
  significand: BigInt.asUintN(64, indefinite.significand),
  exponent: indefinite.exponent,
};

/** A finite nonzero number as a Real. */
export function toReal(x: Extended): Real {
  const exponent = Math.max(1, x.exponent & exponentMask) - exponentBias - 63;
  return { negative: isNegative(x), mantissa: x.significand, exponent };
}

/** Distance of the exponents that unmasked overflow and underflow leave. */
const wrapBias = 0x6000;

/** The status of one instruction over a vCPU's state block at `base`. */
export class HostRegisters {
  private readonly view: DataView;
  private readonly base: number;
  readonly control: number;
  flags = 0;

  constructor(view: DataView, base: number) {
    this.view = view;
    this.base = base;
    this.control = view.getUint32(base + ST.fcw, true);
  }

  private field(offset: number): number {
    return this.view.getUint32(this.base + offset, true);
  }
  private setField(offset: number, value: number): void {
    this.view.setUint32(this.base + offset, value, true);
  }
  private physical(i: number): number {
    return (this.field(ST.ftop) + i) & 7;
  }

  isEmpty(i: number): boolean {
    return ((this.field(ST.ftag) >> this.physical(i)) & 1) !== 0;
  }
  read(i: number): Extended {
    const at = this.base + ST.fpr + 16 * this.physical(i);
    return { significand: this.view.getBigUint64(at, true), exponent: this.view.getUint16(at + 8, true) };
  }
  write(i: number, x: Extended): void {
    const register = this.physical(i);
    const at = this.base + ST.fpr + 16 * register;
    this.view.setBigUint64(at, x.significand, true);
    this.view.setUint16(at + 8, x.exponent, true);
    this.setField(ST.ftag, this.field(ST.ftag) & ~(1 << register));
  }
  pop(): void {
    this.setField(ST.ftag, this.field(ST.ftag) | (1 << this.physical(0)));
    this.setField(ST.ftop, this.physical(1));
  }
  /** Makes room for a push: what was ST(i) is ST(i+1) then. */
  push(x: Extended): void {
    this.setField(ST.ftop, this.physical(7));
    this.write(0, x);
  }

  isMasked(exception: number): boolean {
    return (this.control & exception) !== 0;
  }
  setConditions(clear: number, set = 0): void {
    this.setField(ST.fsw, (this.field(ST.fsw) & ~clear) | set);
  }

  /** Merges the exceptions into the status word; true when the results count. */
  commit(): boolean {
    const unmasked = this.flags & ~this.control & Fsw.exceptions;
    this.setConditions(Fsw.c1, this.flags | (unmasked ? Fsw.summary : 0));
    return (unmasked & (Fsw.invalid | Fsw.denormal | Fsw.zeroDivide)) === 0;
  }

  /** The masked response to an invalid operation. */
  invalid(): Extended {
    this.flags |= Fsw.invalid;
    return quietIndefinite;
  }

  /** The result when an operand is a NaN or unsupported; undefined when none is. */
  nanOf(a: Extended, b: Extended = a): Extended | undefined {
    if (isUnsupported(a) || isUnsupported(b)) return this.invalid();
    if (!isNan(a) && !isNan(b)) return undefined;
    if (isSignalling(a) || isSignalling(b)) this.flags |= Fsw.invalid;
    let chosen = isNan(a) ? a : b;
    if (isNan(a) && isNan(b)) {
      if (isSignalling(a) !== isSignalling(b)) chosen = isSignalling(a) ? b : a;
      else if (a.significand !== b.significand) chosen = a.significand > b.significand ? a : b;
      else chosen = isNegative(a) ? b : a;
    }
    return { significand: chosen.significand | quietBit, exponent: chosen.exponent };
  }

  /** Raises the denormal exception where due; true when the operation must not go on. */
  denormalStops(...operands: Extended[]): boolean {
    if (!operands.some(isDenormal)) return false;
    this.flags |= Fsw.denormal;
    return !this.isMasked(Fsw.denormal);
  }

  private roundsUp(negative: boolean, odd: boolean, rest: bigint, half: bigint): boolean {
    switch ((this.control >> 10) & 3) {
      case Rounding.nearest:
        return rest > half || (rest === half && odd);
      case Rounding.down:
        return negative && rest !== 0n;
      case Rounding.up:
        return !negative && rest !== 0n;
      default:
        return false;
    }
  }

  /** Rounds to 64 bits as the control word says, with overflow, underflow, precision and C1. `inexact`: the mantissa was cut, its lowest bit is sticky. */
  round(x: Real, inexact = true): Extended {
    const sign = x.negative ? signBit : 0;
    let mantissa = (x.mantissa << 8n) | (inexact ? 1n : 0n);
    let length = bitLength(mantissa);
    if (length < 66) {
      mantissa <<= BigInt(66 - length);
      length = 66;
    }
    const extra = length - 64;
    let exponent = x.exponent - 8 + bitLength((x.mantissa << 8n) | (inexact ? 1n : 0n)) - 1 + exponentBias;
    let cut = extra;
    let tiny = false;
    const roundAt = (places: number): { value: bigint; up: boolean; rest: bigint } => {
      const n = BigInt(places);
      const value = mantissa >> n;
      const rest = mantissa - (value << n);
      const up = this.roundsUp(x.negative, (value & 1n) !== 0n, rest, 1n << (n - 1n));
      return { value: value + (up ? 1n : 0n), up, rest };
    };
    if (exponent <= 0) {
      const unbounded = roundAt(cut);
      tiny = exponent < 0 || unbounded.value <= allOnes;
      if (tiny && !this.isMasked(Fsw.underflow)) {
        this.flags |= Fsw.underflow;
        tiny = false;
        exponent += wrapBias;
        if (exponent <= 0) {
          this.flags |= Fsw.precision;
          return zero(x.negative);
        }
      } else {
        cut = extra + Math.min(1 - exponent, length + 2);
        exponent = 0;
      }
    }
    const { value: whole, up, rest } = roundAt(cut);
    let value = whole;
    if (value > allOnes) {
      value >>= 1n;
      exponent++;
    }
    if (exponent === 0 && value & integerBit) exponent = 1;
    if (exponent > 0x7ffe) {
      this.flags |= Fsw.overflow;
      if (this.isMasked(Fsw.overflow)) {
        const mode = (this.control >> 10) & 3;
        const toInfinity = mode === Rounding.nearest || mode === (x.negative ? Rounding.down : Rounding.up);
        this.flags |= Fsw.precision | (toInfinity ? Fsw.c1 : 0);
        return toInfinity ? infinity(x.negative) : { significand: allOnes, exponent: 0x7ffe | sign };
      }
      exponent -= wrapBias;
      if (exponent > 0x7ffe) {
        this.flags |= Fsw.precision | Fsw.c1;
        return infinity(x.negative);
      }
    }
    if (rest !== 0n) this.flags |= Fsw.precision | (up ? Fsw.c1 : 0) | (tiny ? Fsw.underflow : 0);
    return { significand: value, exponent: exponent | sign };
  }
}
