// SPDX-License-Identifier: MIT
// Multiplication and division (Intel SDM volume 2: MUL, IMUL, DIV, IDIV), and the 128-bit arithmetic that they need.

import {
  add,
  and,
  eqz,
  extendU,
  geU,
  i32,
  i64,
  ltU,
  mul,
  ne,
  op,
  or,
  shl,
  shrS,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../wasm/expr.ts';
import { setResultFlags, signExtend } from './flags.ts';
import type { IntSize, Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

const low32 = (e: Expr) => and(e, i64(0xffffffffn));
const high32 = (e: Expr) => shrU(e, i64(32));

/** Upper 64 bits of the unsigned product of two bound i64 values. */
export function multiplyHighU(s: Pick<Stage, 'let'>, a: Expr, b: Expr): Expr {
  const al = s.let(low32(a));
  const ah = s.let(high32(a));
  const bl = s.let(low32(b));
  const bh = s.let(high32(b));
  const middle = s.let(add(mul(ah, bl), high32(mul(al, bl))));
  const other = s.let(add(mul(al, bh), low32(middle)));
  return s.let(add(add(mul(ah, bh), high32(middle)), high32(other)));
}

function multiplyHighS(s: Pick<Stage, 'let'>, a: Expr, b: Expr): Expr {
  const unsigned = multiplyHighU(s, a, b);
  const correction = add(and(shrS(a, i64(63)), b), and(shrS(b, i64(63)), a));
  return s.let(sub(unsigned, correction));
}

/** CF = OF = `overflow`; the other flags are undefined: set from the low half as the processors of the tests do not, hence masked there. */
function setMultiplyFlags(s: Stage, low: Expr, overflow: Expr): void {
  const o = s.forFlags(overflow);
  setResultFlags(s, s.size, low);
  s.setCf(o);
  s.setOfBit31(shl(o, i32(31)));
  s.setAfBit4(i32(0));
}

function wideMultiply(signed: boolean): (s: Stage) => void {
  return (s) => {
    const { size } = s;
    const a = s.gpr(0, size);
    const b = s.read(0);
    if (size === 64) {
      const low = s.let(mul(a, b));
      const high = signed ? multiplyHighS(s, a, b) : multiplyHighU(s, a, b);
      s.setGpr(0, 64, low);
      s.setGpr(2, 64, high);
      setMultiplyFlags(s, low, ne(high, signed ? shrS(low, i64(63)) : i64(0)));
      return;
    }
    const wide = (v: Expr) => (signed ? signExtend(size, v) : extendU(v));
    const product = s.let(mul(wide(a), wide(b)));
    const low = s.let(wrap(product));
    if (size === 8) s.setGpr(0, 16, low);
    else {
      s.setGpr(0, size, low);
      s.setGpr(2, size, wrap(shrU(product, i64(size))));
    }
    const fits = signed ? signExtend(size, low) : and(product, i64((1n << BigInt(size)) - 1n));
    setMultiplyFlags(s, low, ne(product, fits));
  };
}

function truncatedMultiply(first: number, second: number): (s: Stage) => void {
  return (s) => {
    const { size } = s;
    const a = s.read(first);
    const b = s.read(second);
    if (size === 64) {
      const low = s.let(mul(a, b));
      s.write(0, low);
      if (s.flagsDead) return;
      const high = multiplyHighS({ let: (value) => s.forFlags(value) }, a, b);
      setMultiplyFlags(s, low, ne(high, shrS(low, i64(63))));
      return;
    }
    const low = s.let(mul(a, b));
    s.write(0, low);
    const product = s.forFlags(mul(signExtend(size, a), signExtend(size, b)));
    setMultiplyFlags(s, low, ne(product, signExtend(size, low)));
  };
}

const divideError = 0;

/** Quotient and remainder of high:low / divisor, unsigned, high < divisor: shift-and-subtract, 64 steps; the common high = 0 is direct. */
function divide128(s: Stage, high: Expr, low: Expr, divisor: Expr): { quotient: Expr; remainder: Expr } {
  const { f } = s;
  const q = f.local('i64');
  const r = f.local('i64');
  const n = f.local('i32');
  const top = f.local('i64');
  f.if(
    eqz(high),
    () => {
      f.set(q, op('i64.div_u', low, divisor));
      f.set(r, op('i64.rem_u', low, divisor));
    },
    () => {
      f.set(q, low);
      f.set(r, high);
      f.set(n, i32(64));
      f.loop((again) => {
        f.set(top, shrU(r, i64(63)));
        f.set(r, or(shl(r, i64(1)), shrU(q, i64(63))));
        f.set(q, shl(q, i64(1)));
        f.if(or(wrap(top), geU(r, divisor)), () => {
          f.set(r, sub(r, divisor));
          f.set(q, or(q, i64(1)));
        });
        f.set(n, sub(n, i32(1)));
        f.brIf(again, n);
      });
    },
  );
  return { quotient: q, remainder: r };
}

/** The dividend of sizes up to 32 as one i64. */
function dividend(s: Stage, size: IntSize, signed: boolean): Expr {
  if (size === 8) {
    const ax = s.gpr(0, 16);
    return s.let(signed ? signExtend(16, ax) : extendU(ax));
  }
  const whole = or(shl(extendU(s.gpr(2, size)), i64(size)), extendU(s.gpr(0, size)));
  return s.let(size === 16 && signed ? op('i64.extend32_s', whole) : whole);
}

function storeDivision(s: Stage, size: IntSize, quotient: Expr, remainder: Expr): void {
  if (size === 8) {
    s.setGpr(0, 16, or(and(wrap(quotient), i32(0xff)), shl(and(wrap(remainder), i32(0xff)), i32(8))));
    return;
  }
  const narrow = (v: Expr) => (size === 64 ? v : wrap(v));
  s.setGpr(0, size, narrow(quotient));
  s.setGpr(2, size, narrow(remainder));
}

function divideUnsigned(s: Stage): void {
  const { size, f } = s;
  const divisor = s.let(extendU(s.read(0)));
  f.if(eqz(divisor), () => s.fault(divideError));
  if (size === 64) {
    const high = s.gpr(2, 64);
    f.if(geU(high, divisor), () => s.fault(divideError));
    const { quotient, remainder } = divide128(s, high, s.gpr(0, 64), divisor);
    storeDivision(s, 64, quotient, remainder);
    return;
  }
  const n = dividend(s, size, false);
  const quotient = s.let(op('i64.div_u', n, divisor));
  f.if(ne(shrU(quotient, i64(size)), i64(0)), () => s.fault(divideError));
  storeDivision(s, size, quotient, s.let(op('i64.rem_u', n, divisor)));
}

function divideSigned(s: Stage): void {
  const { size, f } = s;
  const divisor = s.let(signExtend(size, s.read(0)));
  f.if(eqz(divisor), () => s.fault(divideError));
  if (size === 64) {
    const high = s.gpr(2, 64);
    const low = s.gpr(0, 64);
    const negative = s.let(shrS(high, i64(63)));
    // |dividend|: invert and add one when negative.
    const absLow = s.let(sub(xor(low, negative), negative));
    const absHigh = s.let(add(xor(high, negative), and(extendU(eqz(absLow)), and(negative, i64(1)))));
    const sign = s.let(shrS(divisor, i64(63)));
    const absDivisor = s.let(sub(xor(divisor, sign), sign));
    f.if(geU(absHigh, absDivisor), () => s.fault(divideError));
    const { quotient, remainder } = divide128(s, absHigh, absLow, absDivisor);
    const differ = s.let(xor(sign, negative));
    // The magnitude may reach 2^63 only for a negative quotient.
    f.if(ltU(add(i64(0x7fffffffffffffffn), and(differ, i64(1))), quotient), () => s.fault(divideError));
    storeDivision(s, 64, s.let(sub(xor(quotient, differ), differ)), s.let(sub(xor(remainder, negative), negative)));
    return;
  }
  const n = dividend(s, size, true);
  // i64.div_s traps on the most negative dividend by -1, whose quotient does not fit anyway.
  f.if(and(op('i64.eq', n, i64(-0x8000000000000000n)), op('i64.eq', divisor, i64(-1))), () => s.fault(divideError));
  const quotient = s.let(op('i64.div_s', n, divisor));
  f.if(ne(quotient, signExtend(size, wrap(quotient))), () => s.fault(divideError));
  storeDivision(s, size, quotient, s.let(op('i64.rem_s', n, divisor)));
}

const multiplyOptions = { writes: 'oszapc', undefinedFlags: 'szap', plainFlags: true } as const;
const divideOptions = { undefinedFlags: 'oszapc', faults: true } as const;

export const multiplyInstructions: readonly Instruction[] = [
  insn('mul', ['F6/4 Eb', 'F7/4 Ev'], 'r', multiplyOptions, wideMultiply(false)),
  insn('imul-wide', ['F6/5 Eb', 'F7/5 Ev'], 'r', multiplyOptions, wideMultiply(true)),
  insn('imul', '0F AF Gv,Ev', 'xr', { ...multiplyOptions, hot: true }, truncatedMultiply(0, 1)),
  insn(
    'imul-immediate',
    ['69 Gv,Ev,Iz', '6B Gv,Ev,Ibs'],
    'wrr',
    { ...multiplyOptions, hot: true },
    truncatedMultiply(1, 2),
  ),
  insn('div', ['F6/6 Eb', 'F7/6 Ev'], 'r', divideOptions, divideUnsigned),
  insn('idiv', ['F6/7 Eb', 'F7/7 Ev'], 'r', divideOptions, divideSigned),
];
