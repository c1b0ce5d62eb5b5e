// SPDX-License-Identifier: MIT
// Addition, multiplication, division and square root of 80-bit numbers (Intel SDM volume 1, sections 4.8.3.5, 4.9 and 8.3).

import {
  add,
  and,
  eq,
  eqz,
  extendU,
  gtU,
  i32,
  i64,
  leU,
  ltS,
  ltU,
  mul,
  ne,
  op,
  or,
  select,
  shl,
  shrS,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../../wasm/expr.ts';
import type { FunctionBuilder } from '../../wasm/function.ts';
import type { ValType } from '../../wasm/opcodes.ts';
import type { Kernel } from '../kernel.ts';
import {
  checkDenormals,
  denormalExponent,
  exponentField,
  isInfinite,
  isNormal,
  returnInvalid,
  returnNan,
} from './operands.ts';
import {
  exponentBias,
  exponentMask,
  Fsw,
  integerBit,
  precisionControl,
  raise,
  Rounding,
  roundingControl,
  setExponent,
  Work,
  work32,
} from './registers.ts';
import { normalize, roundAndPack, shiftRightSticky } from './round.ts';

const low32 = (e: Expr): Expr => and(e, i64(0xffffffffn));
const high32 = (e: Expr): Expr => shrU(e, i64(32));

/** Upper 64 bits of the unsigned product. */
export const multiplyHigh: Kernel = {
  name: 'multiplyHigh',
  params: ['i64', 'i64'],
  results: ['i64'],
  build: (f) => {
    const al = f.let(low32(f.param(0)));
    const ah = f.let(high32(f.param(0)));
    const bl = f.let(low32(f.param(1)));
    const bh = f.let(high32(f.param(1)));
    const middle = f.let(add(mul(ah, bl), high32(mul(al, bl))));
    const other = f.let(add(mul(al, bh), low32(middle)));
    f.return(add(add(mul(ah, bh), high32(middle)), high32(other)));
  },
};

/** (hi, lo, divisor) -> quotient of hi:lo / divisor, for hi < divisor and bit 63 of the divisor set: two digits of 32 bits, each estimated from the upper half. */
export const divide128: Kernel = {
  name: 'divide128',
  params: ['i64', 'i64', 'i64'],
  results: ['i64'],
  build: (f) => {
    const [hi, lo, divisor] = [f.param(0), f.param(1), f.param(2)];
    const dh = f.let(high32(divisor));
    const dl = f.let(low32(divisor));
    const rest = f.local('i64');
    const digitOf = (upper: Expr, next: Expr): Expr => {
      const digit = f.local('i64');
      f.set(digit, op('i64.div_u', upper, dh));
      f.set(rest, sub(upper, mul(digit, dh)));
      // The estimate is at most two too large.
      f.loop((again) => {
        f.if(or(ne(high32(digit), i64(0)), gtU(mul(digit, dl), or(shl(rest, i64(32)), next))), () => {
          f.set(digit, sub(digit, i64(1)));
          f.set(rest, add(rest, dh));
          f.brIf(again, eqz(high32(rest)));
        });
      });
      return digit;
    };
    const first = digitOf(hi, f.let(high32(lo)));
    const remainder = f.let(sub(or(shl(hi, i64(32)), high32(lo)), mul(first, divisor)));
    const second = digitOf(remainder, f.let(low32(lo)));
    f.return(add(shl(first, i64(32)), second));
  },
};

const binaryParams: readonly ValType[] = ['i32', 'i64', 'i32', 'i64', 'i32'];

interface Unpacked {
  readonly ae: ReturnType<FunctionBuilder['local']>;
  readonly be: ReturnType<FunctionBuilder['local']>;
}

function unpack(f: FunctionBuilder, aSe: Expr, bSe: Expr): Unpacked {
  const ae = f.local('i32');
  const be = f.local('i32');
  f.set(ae, exponentField(aSe));
  f.set(be, exponentField(bSe));
  return { ae, be };
}

/** (state, negate b, a, exponent of a, b, exponent of b) -> a + b or a - b. A NaN keeps its sign when b is negated. */
export const addKernel: Kernel = {
  name: 'float80.add',
  params: ['i32', 'i32', 'i64', 'i32', 'i64', 'i32'],
  results: ['i64'],
  build: (f, callee) => {
    const [s, negate, a, aSe, b, bSe] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4), f.param(5)];
    const { ae, be } = unpack(f, aSe, bSe);
    const aSign = f.local('i32');
    const bSign = f.local('i32');
    f.set(aSign, shrU(aSe, i32(15)));
    f.set(bSign, xor(shrU(bSe, i32(15)), negate));
    const zeroSign = () => eq(roundingControl(s), i32(Rounding.down));
    const pack = (sign: Expr, exponent: Expr, hi: Expr, lo: Expr) =>
      f.return(f.callExpr(callee(roundAndPack), s, precisionControl(s), sign, exponent, hi, lo));
    f.if(eqz(and(and(isNormal(a, ae), isNormal(b, be)), eqz(work32(s, Work.denormal)))), () => {
      returnNan(f, callee, s, a, aSe, b, bSe);
      f.if(and(and(isInfinite(ae), isInfinite(be)), ne(aSign, bSign)), () => returnInvalid(f, s));
      checkDenormals(f, s, a, ae, b, be);
      f.if(isInfinite(ae), () => {
        setExponent(f, s, aSe);
        f.return(a);
      });
      f.if(isInfinite(be), () => {
        setExponent(f, s, or(shl(bSign, i32(15)), i32(exponentMask)));
        f.return(b);
      });
      denormalExponent(f, ae);
      denormalExponent(f, be);
      f.if(eqz(or(a, b)), () => {
        setExponent(f, s, shl(select(eq(aSign, bSign), aSign, zeroSign()), i32(15)));
        f.return(i64(0));
      });
      f.if(eqz(a), () => {
        normalize(f, b, be);
        pack(bSign, be, b, i64(0));
      });
      normalize(f, a, ae);
      f.if(eqz(b), () => pack(aSign, ae, a, i64(0)));
      normalize(f, b, be);
    });
    // The larger magnitude goes first.
    const distance = f.local('i32');
    f.set(distance, sub(ae, be));
    f.if(or(ltS(distance, i32(0)), and(eqz(distance), ltU(a, b))), () => {
      const m = f.let(a);
      f.set(a, b);
      f.set(b, m);
      const sign = f.let(aSign);
      f.set(aSign, bSign);
      f.set(bSign, sign);
      f.set(ae, be);
      f.set(distance, sub(i32(0), distance));
    });
    const lo = f.local('i64');
    f.set(lo, i64(0));
    shiftRightSticky(f, b, lo, distance);
    f.if(
      eq(aSign, bSign),
      () => {
        f.set(b, add(a, b));
        f.if(ltU(b, a), () => {
          f.set(lo, or(or(shl(b, i64(63)), shrU(lo, i64(1))), and(lo, i64(1))));
          f.set(b, or(shrU(b, i64(1)), i64(integerBit)));
          f.set(ae, add(ae, i32(1)));
        });
      },
      () => {
        f.set(b, sub(sub(a, b), extendU(ne(lo, i64(0)))));
        f.set(lo, sub(i64(0), lo));
        f.if(eqz(or(b, lo)), () => {
          setExponent(f, s, shl(zeroSign(), i32(15)));
          f.return(i64(0));
        });
        f.if(eqz(b), () => {
          f.set(b, lo);
          f.set(lo, i64(0));
          f.set(ae, sub(ae, i32(64)));
        });
        const n = f.let(op('i64.clz', b));
        f.if(ne(n, i64(0)), () => {
          f.set(b, or(shl(b, n), shrU(lo, sub(i64(64), n))));
          f.set(lo, shl(lo, n));
          f.set(ae, sub(ae, wrap(n)));
        });
      },
    );
    pack(aSign, ae, b, lo);
  },
};

/** (state, a, exponent of a, b, exponent of b) -> a x b. */
export const multiplyKernel: Kernel = {
  name: 'float80.multiply',
  params: binaryParams,
  results: ['i64'],
  build: (f, callee) => {
    const [s, a, aSe, b, bSe] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
    const { ae, be } = unpack(f, aSe, bSe);
    const sign = f.let(shrU(xor(aSe, bSe), i32(15)));
    f.if(eqz(and(and(isNormal(a, ae), isNormal(b, be)), eqz(work32(s, Work.denormal)))), () => {
      returnNan(f, callee, s, a, aSe, b, bSe);
      const infinite = f.let(or(isInfinite(ae), isInfinite(be)));
      const zero = f.let(or(eqz(a), eqz(b)));
      f.if(and(infinite, zero), () => returnInvalid(f, s));
      checkDenormals(f, s, a, ae, b, be);
      f.if(or(infinite, zero), () => {
        setExponent(f, s, or(shl(sign, i32(15)), select(infinite, i32(exponentMask), i32(0))));
        f.return(select(infinite, i64(integerBit), i64(0)));
      });
      denormalExponent(f, ae);
      denormalExponent(f, be);
      normalize(f, a, ae);
      normalize(f, b, be);
    });
    const hi = f.local('i64');
    const lo = f.local('i64');
    f.set(hi, f.callExpr(callee(multiplyHigh), a, b));
    f.set(lo, mul(a, b));
    f.set(ae, sub(add(ae, be), i32(exponentBias - 1)));
    f.if(op('i64.ge_s', hi, i64(0)), () => {
      f.set(hi, or(shl(hi, i64(1)), shrU(lo, i64(63))));
      f.set(lo, shl(lo, i64(1)));
      f.set(ae, sub(ae, i32(1)));
    });
    f.return(f.callExpr(callee(roundAndPack), s, precisionControl(s), sign, ae, hi, lo));
  },
};

/** (state, a, exponent of a, b, exponent of b) -> a / b. */
export const divideKernel: Kernel = {
  name: 'float80.divide',
  params: binaryParams,
  results: ['i64'],
  build: (f, callee) => {
    const [s, a, aSe, b, bSe] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
    const { ae, be } = unpack(f, aSe, bSe);
    const sign = f.let(shrU(xor(aSe, bSe), i32(15)));
    const infinityResult = () => {
      setExponent(f, s, or(shl(sign, i32(15)), i32(exponentMask)));
      f.return(i64(integerBit));
    };
    f.if(eqz(and(and(isNormal(a, ae), isNormal(b, be)), eqz(work32(s, Work.denormal)))), () => {
      returnNan(f, callee, s, a, aSe, b, bSe);
      f.if(or(and(isInfinite(ae), isInfinite(be)), eqz(or(a, b))), () => returnInvalid(f, s));
      f.if(and(eqz(b), eqz(isInfinite(ae))), () => {
        raise(f, s, Fsw.zeroDivide);
        infinityResult();
      });
      checkDenormals(f, s, a, ae, b, be);
      f.if(isInfinite(ae), infinityResult);
      f.if(or(eqz(a), isInfinite(be)), () => {
        setExponent(f, s, shl(sign, i32(15)));
        f.return(i64(0));
      });
      denormalExponent(f, ae);
      denormalExponent(f, be);
      normalize(f, a, ae);
      normalize(f, b, be);
    });
    const hi = f.local('i64');
    const lo = f.local('i64');
    f.set(ae, add(sub(ae, be), i32(exponentBias)));
    f.if(
      ltU(a, b),
      () => {
        f.set(hi, a);
        f.set(lo, i64(0));
        f.set(ae, sub(ae, i32(1)));
      },
      () => {
        f.set(hi, shrU(a, i64(1)));
        f.set(lo, shl(a, i64(63)));
      },
    );
    const quotient = f.let(f.callExpr(callee(divide128), hi, lo, b));
    const rest = f.let(sub(lo, mul(quotient, b)));
    // Remainder below, at or above half of the divisor: round bit and sticky bit.
    const half = f.let(sub(b, rest));
    const roundBit = select(leU(half, rest), i64(integerBit), i64(0));
    f.set(lo, select(eqz(rest), i64(0), or(roundBit, extendU(ne(half, rest)))));
    f.return(f.callExpr(callee(roundAndPack), s, precisionControl(s), sign, ae, quotient, lo));
  },
};

/** (state, a, exponent of a) -> square root: 32 bits of it from f64, 32 more by one division, the rest decides the rounding. */
export const squareRootKernel: Kernel = {
  name: 'float80.squareRoot',
  params: ['i32', 'i64', 'i32'],
  results: ['i64'],
  build: (f, callee) => {
    const [s, a, aSe] = [f.param(0), f.param(1), f.param(2)];
    const e = f.local('i32');
    f.set(e, exponentField(aSe));
    f.if(or(eqz(isNormal(a, e)), shrU(aSe, i32(15))), () => {
      returnNan(f, callee, s, a, aSe, a, aSe);
      f.if(or(eqz(a), eq(aSe, i32(exponentMask))), () => {
        setExponent(f, s, aSe);
        f.return(a);
      });
      f.if(shrU(aSe, i32(15)), () => returnInvalid(f, s));
      checkDenormals(f, s, a, e);
      denormalExponent(f, e);
      normalize(f, a, e);
    });
    // Even powers of two use a/2 as the upper half of the radicand, odd ones a.
    const odd = f.let(and(sub(e, i32(exponentBias)), i32(1)));
    f.set(e, add(shrS(sub(e, i32(exponentBias)), i32(1)), i32(exponentBias)));
    const hi = f.let(select(odd, a, shrU(a, i64(1))));
    const lo = f.let(select(odd, i64(0), shl(a, i64(63))));
    // Upper root: floor(sqrt(hi)), at most one off from f64.
    const root = f.local('i64');
    f.set(root, op('i64.trunc_sat_f64_u', op('f64.sqrt', op('f64.convert_i64_u', hi))));
    f.if(ne(high32(root), i64(0)), () => f.set(root, i64(0xffffffffn)));
    f.if(gtU(mul(root, root), hi), () => f.set(root, sub(root, i64(1))));
    const rest = f.local('i64');
    f.set(rest, sub(hi, mul(root, root)));
    const halfNext = f.let(or(shl(rest, i64(31)), shrU(lo, i64(33))));
    const quotient = f.let(op('i64.div_u', halfNext, root));
    const u = f.let(or(shl(sub(halfNext, mul(quotient, root)), i64(1)), and(high32(lo), i64(1))));
    f.set(root, add(shl(root, i64(32)), quotient));
    const square = f.let(mul(quotient, quotient));
    const restLow = f.local('i64');
    const restHigh = f.local('i64');
    f.set(restLow, or(shl(u, i64(32)), low32(lo)));
    // quotient may be 2^32, whose square is 2^64.
    f.set(restHigh, sub(sub(high32(u), high32(quotient)), extendU(ltU(restLow, square))));
    f.set(restLow, sub(restLow, square));
    f.if(ltS(restHigh, i64(0)), () => {
      f.set(root, sub(root, i64(1)));
      const low = f.let(or(shl(root, i64(1)), i64(1)));
      f.set(restLow, add(restLow, low));
      f.set(restHigh, add(add(restHigh, shrU(root, i64(63))), extendU(ltU(restLow, low))));
    });
    const above = or(ne(restHigh, i64(0)), gtU(restLow, root));
    const fraction = select(eqz(or(restHigh, restLow)), i64(0), select(above, i64(integerBit + 1n), i64(1)));
    f.return(f.callExpr(callee(roundAndPack), s, precisionControl(s), i32(0), e, root, fraction));
  },
};
