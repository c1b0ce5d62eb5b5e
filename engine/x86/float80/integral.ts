// SPDX-License-Identifier: MIT
// Rounding to integral values, scaling, splitting, exact remainders and comparison of 80-bit numbers (Intel SDM volume 1, sections 8.3.5 to 8.3.9).

import {
  add,
  and,
  eq,
  eqz,
  extendS,
  extendU,
  geS,
  geU,
  gtU,
  i32,
  i64,
  load,
  ltS,
  ne,
  or,
  select,
  shl,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../../wasm/expr.ts';
import type { FunctionBuilder } from '../../wasm/function.ts';
import type { Kernel } from '../kernel.ts';
import { fromInteger } from './convert.ts';
import {
  checkDenormals,
  denormalExponent,
  exponentField,
  isInfinite,
  isNormal,
  returnInvalid,
  returnNan,
  selectNan,
} from './operands.ts';
import {
  clearConditions,
  exponentBias,
  exponentMask,
  Fsw,
  integerBit,
  Precision,
  raise,
  roundingControl,
  setExponent,
  Work,
  work32,
} from './registers.ts';
import { normalize, roundAndPack, roundsUp } from './round.ts';

function exponentLocal(f: FunctionBuilder, signAndExponent: Expr) {
  const e = f.local('i32');
  f.set(e, exponentField(signAndExponent));
  return e;
}

/** (state, a, exponent) -> a rounded to an integer in the direction of the control word. */
export const roundToIntegral: Kernel = {
  name: 'float80.roundToIntegral',
  params: ['i32', 'i64', 'i32'],
  results: ['i64'],
  build: (f, callee) => {
    const [s, a, aSe] = [f.param(0), f.param(1), f.param(2)];
    const e = exponentLocal(f, aSe);
    const sign = f.let(shrU(aSe, i32(15)));
    const same = () => {
      setExponent(f, s, aSe);
      f.return(a);
    };
    f.if(eqz(isNormal(a, e)), () => {
      returnNan(f, callee, s, a, aSe, a, aSe);
      f.if(or(eqz(a), isInfinite(e)), same);
      checkDenormals(f, s, a, e);
    });
    f.if(geS(e, i32(exponentBias + 63)), same);
    const unit = f.local('i64');
    const fraction = f.local('i64');
    const up = f.local('i32');
    f.if(
      ltS(e, i32(exponentBias)),
      () => {
        // Below one: the fraction's first bit weighs a half only for exponent -1.
        f.set(fraction, select(eq(e, i32(exponentBias - 1)), a, i64(1)));
        f.set(up, f.callExpr(callee(roundsUp), roundingControl(s), sign, i32(0), fraction));
        f.set(a, select(up, i64(integerBit), i64(0)));
        f.set(e, select(up, i32(exponentBias), i32(0)));
      },
      () => {
        const places = f.let(extendU(sub(e, i32(exponentBias - 1))));
        f.set(unit, shl(i64(1), sub(i64(64), places)));
        f.set(fraction, shl(a, places));
        f.set(up, f.callExpr(callee(roundsUp), roundingControl(s), sign, ne(and(a, unit), i64(0)), fraction));
        f.set(a, and(a, sub(i64(0), unit)));
        f.if(up, () => {
          f.set(a, add(a, unit));
          f.if(eqz(a), () => {
            f.set(a, i64(integerBit));
            f.set(e, add(e, i32(1)));
          });
        });
      },
    );
    f.if(ne(fraction, i64(0)), () => raise(f, s, or(i32(Fsw.precision), select(up, i32(Fsw.c1), i32(0)))));
    setExponent(f, s, or(shl(sign, i32(15)), e));
    f.return(a);
  },
};

/** Largest change of exponent that matters; more overflows or underflows all the same. */
const scaleLimit = 0x10000;

/** (state, a, exponent of a, b, exponent of b) -> a x 2^trunc(b). */
export const scaleKernel: Kernel = {
  name: 'float80.scale',
  params: ['i32', 'i64', 'i32', 'i64', 'i32'],
  results: ['i64'],
  build: (f, callee) => {
    const [s, a, aSe, b, bSe] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
    const ae = exponentLocal(f, aSe);
    const be = exponentLocal(f, bSe);
    const sign = f.let(and(aSe, i32(0x8000)));
    const negative = f.let(shrU(bSe, i32(15)));
    const same = () => {
      setExponent(f, s, aSe);
      f.return(a);
    };
    f.if(eqz(and(isNormal(a, ae), isNormal(b, be))), () => {
      returnNan(f, callee, s, a, aSe, b, bSe);
      f.if(and(isInfinite(be), select(negative, isInfinite(ae), eqz(a))), () => returnInvalid(f, s));
      checkDenormals(f, s, a, ae, b, be);
      f.if(or(isInfinite(ae), eqz(a)), same);
      f.if(isInfinite(be), () => {
        setExponent(f, s, or(sign, select(negative, i32(0), i32(exponentMask))));
        f.return(select(negative, i64(0), i64(integerBit)));
      });
      f.if(eqz(be), () => f.set(b, i64(0)));
      denormalExponent(f, ae);
      normalize(f, a, ae);
    });
    const change = f.local('i32');
    f.set(change, i32(scaleLimit));
    f.if(ltS(be, i32(exponentBias + 16)), () =>
      f.set(
        change,
        select(ltS(be, i32(exponentBias)), i32(0), wrap(shrU(b, extendU(sub(i32(exponentBias + 63), be))))),
      ),
    );
    f.if(negative, () => f.set(change, sub(i32(0), change)));
    f.return(
      f.callExpr(callee(roundAndPack), s, i32(Precision.extended), shrU(sign, i32(15)), add(ae, change), a, i64(0)),
    );
  },
};

/** (state, a, exponent) -> a's significand as a number in [1, 2); a's exponent as a number in `Work.second`. */
export const extractKernel: Kernel = {
  name: 'float80.extract',
  params: ['i32', 'i64', 'i32'],
  results: ['i64'],
  build: (f, callee) => {
    const [s, a, aSe] = [f.param(0), f.param(1), f.param(2)];
    const e = exponentLocal(f, aSe);
    const sign = f.let(and(aSe, i32(0x8000)));
    const second = (significand: Expr, exponent: Expr) => {
      f.store('i64.store', s, significand, Work.second);
      f.store('i32.store', s, exponent, Work.secondExponent);
    };
    f.if(eqz(isNormal(a, e)), () => {
      f.if(f.callExpr(callee(selectNan), s, a, aSe, a, aSe), () => {
        second(load('i64.load', s, Work.second), work32(s, Work.exponent));
        f.return(load('i64.load', s, Work.second));
      });
      setExponent(f, s, aSe);
      f.if(isInfinite(e), () => {
        second(i64(integerBit), i32(exponentMask));
        f.return(a);
      });
      f.if(eqz(a), () => {
        raise(f, s, Fsw.zeroDivide);
        second(i64(integerBit), i32(0x8000 | exponentMask));
        f.return(a);
      });
      checkDenormals(f, s, a, e);
      denormalExponent(f, e);
      normalize(f, a, e);
    });
    const exponent = f.let(f.callExpr(callee(fromInteger), s, extendS(sub(e, i32(exponentBias)))));
    second(exponent, work32(s, Work.exponent));
    setExponent(f, s, or(sign, i32(exponentBias)));
    f.return(a);
  },
};

/**
 * (state, 1 = round the quotient to nearest or 0 = truncate it, a, exponent of a, b, exponent of b) -> remainder; condition codes into `Work.flags`. Exponents
 * that differ by 64 or more are brought closer by 32 to 63 per execution, and C2 says so.
 */
export const remainderKernel: Kernel = {
  name: 'float80.remainder',
  params: ['i32', 'i32', 'i64', 'i32', 'i64', 'i32'],
  results: ['i64'],
  build: (f, callee) => {
    const [s, nearest, a, aSe, b, bSe] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4), f.param(5)];
    const ae = exponentLocal(f, aSe);
    const be = exponentLocal(f, bSe);
    const sign = f.local('i32');
    f.set(sign, shrU(aSe, i32(15)));
    f.if(eqz(and(isNormal(a, ae), isNormal(b, be))), () => {
      returnNan(f, callee, s, a, aSe, b, bSe);
      f.if(or(isInfinite(ae), eqz(b)), () => returnInvalid(f, s));
      checkDenormals(f, s, a, ae, b, be);
      clearConditions(f, s, Fsw.c0 | Fsw.c3);
      f.if(eqz(a), () => {
        setExponent(f, s, aSe);
        f.return(a);
      });
      denormalExponent(f, ae);
      normalize(f, a, ae);
      f.if(isInfinite(be), () => {
        f.return(f.callExpr(callee(roundAndPack), s, i32(Precision.extended), sign, ae, a, i64(0)));
      });
      denormalExponent(f, be);
      normalize(f, b, be);
    });
    clearConditions(f, s, Fsw.c0 | Fsw.c3);
    const distance = f.let(sub(ae, be));
    const quotient = f.local('i64');
    const carry = f.local('i32');
    const count = f.local('i32');
    f.set(quotient, i64(0));
    f.if(geS(distance, i32(0)), () => {
      const partial = f.let(geS(distance, i32(64)));
      f.set(count, select(partial, or(and(distance, i32(0x1f)), i32(0x20)), distance));
      f.set(ae, sub(ae, count));
      f.set(carry, i32(0));
      f.if(partial, () => raise(f, s, Fsw.c2));
      f.loop((again) => {
        f.set(quotient, shl(quotient, i64(1)));
        f.if(or(carry, geU(a, b)), () => {
          f.set(a, sub(a, b));
          f.set(quotient, or(quotient, i64(1)));
        });
        f.if(count, () => {
          f.set(carry, wrap(shrU(a, i64(63))));
          f.set(a, shl(a, i64(1)));
          f.set(count, sub(count, i32(1)));
          f.br(again);
        });
      });
      f.if(partial, () => {
        f.if(eqz(a), () => {
          setExponent(f, s, shl(sign, i32(15)));
          f.return(a);
        });
        normalize(f, a, ae);
        f.return(f.callExpr(callee(roundAndPack), s, i32(Precision.extended), sign, ae, a, i64(0)));
      });
    });
    f.if(nearest, () => {
      // Remainder against half of b; exponents -1 and 0 are the ones that can exceed it.
      const twice = f.local('i32');
      f.set(twice, i32(0));
      f.if(
        geS(distance, i32(0)),
        () => f.set(twice, or(gtU(a, sub(b, a)), and(eq(a, sub(b, a)), wrap(and(quotient, i64(1)))))),
        () => f.if(eq(distance, i32(-1)), () => f.set(twice, gtU(a, b))),
      );
      f.if(twice, () => {
        // b - a, with a at half the weight when its exponent is one less.
        f.if(
          geS(distance, i32(0)),
          () => f.set(a, sub(b, a)),
          () => f.set(a, sub(shl(b, i64(1)), a)),
        );
        f.set(quotient, add(quotient, i64(1)));
        f.set(sign, xor(sign, i32(1)));
      });
    });
    const bit = (n: bigint, flag: number) => select(ne(and(quotient, i64(n)), i64(0)), i32(flag), i32(0));
    raise(f, s, or(or(bit(1n, Fsw.c1), bit(2n, Fsw.c3)), bit(4n, Fsw.c0)));
    f.if(eqz(a), () => {
      setExponent(f, s, shl(sign, i32(15)));
      f.return(a);
    });
    normalize(f, a, ae);
    f.return(f.callExpr(callee(roundAndPack), s, i32(Precision.extended), sign, ae, a, i64(0)));
  },
};
