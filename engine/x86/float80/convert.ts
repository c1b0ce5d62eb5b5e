// SPDX-License-Identifier: MIT
// Conversions between 80-bit numbers and the formats of memory operands: single, double, integers (Intel SDM volume 1, sections 4.2.2 and 8.1.6).

import {
  add,
  and,
  eq,
  eqz,
  extendU,
  geS,
  geU,
  gtS,
  i32,
  i64,
  leS,
  leU,
  ne,
  op,
  or,
  select,
  shl,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../../wasm/expr.ts';
import type { Kernel } from '../kernel.ts';
import { exponentField, isInfinite, isUnsupported } from './operands.ts';
import {
  exponentBias,
  exponentMask,
  Fsw,
  integerBit,
  isMasked,
  quietBit,
  raise,
  Rounding,
  roundingControl,
  setExponent,
  setWork32,
  Work,
} from './registers.ts';
import { normalize, roundsUp } from './round.ts';

/**
 * (state, bits, 1 = double or 0 = single) -> significand, exact; signalling NaNs stay so. A denormal sets `Work.denormal`: whoever consumes the operand raises
 * the exception.
 */
export const fromFloat: Kernel = {
  name: 'float80.fromFloat',
  params: ['i32', 'i64', 'i32'],
  results: ['i64'],
  build: (f) => {
    const [s, bits, wide] = [f.param(0), f.param(1), f.param(2)];
    const fractionBits = f.let(select(wide, i64(52), i64(23)));
    const largest = f.let(select(wide, i32(0x7ff), i32(0xff)));
    const exponent = f.local('i32');
    const significand = f.local('i64');
    f.set(exponent, and(wrap(shrU(bits, fractionBits)), largest));
    f.set(significand, shl(bits, sub(i64(63), fractionBits)));
    const sign = f.let(shl(wrap(shrU(bits, select(wide, i64(63), i64(31)))), i32(15)));
    const finish = (e: Expr) => {
      setExponent(f, s, or(sign, e));
      f.return(significand);
    };
    f.if(eqz(exponent), () => {
      f.set(significand, shl(significand, i64(1)));
      f.if(eqz(significand), () => finish(i32(0)));
      setWork32(f, s, Work.denormal, i32(1));
      normalize(f, significand, exponent);
      finish(add(exponent, sub(i32(exponentBias), shrU(largest, i32(1)))));
    });
    f.set(significand, or(significand, i64(integerBit)));
    f.if(eq(exponent, largest), () => finish(i32(exponentMask)));
    finish(add(exponent, sub(i32(exponentBias), shrU(largest, i32(1)))));
  },
};

/** (state, integer) -> significand, exact. */
export const fromInteger: Kernel = {
  name: 'float80.fromInteger',
  params: ['i32', 'i64'],
  results: ['i64'],
  build: (f) => {
    const [s, value] = [f.param(0), f.param(1)];
    const sign = f.let(wrap(shrU(value, i64(63))));
    f.if(eqz(value), () => {
      setExponent(f, s, i32(0));
      f.return(i64(0));
    });
    f.if(sign, () => f.set(value, sub(i64(0), value)));
    const n = f.let(op('i64.clz', value));
    setExponent(f, s, or(shl(sign, i32(15)), sub(i32(exponentBias + 63), wrap(n))));
    f.return(shl(value, n));
  },
};

/** (state, significand, exponent, 1 = double or 0 = single) -> bits of the rounded number. Raises invalid, overflow, underflow, precision. */
export const toFloat: Kernel = {
  name: 'float80.toFloat',
  params: ['i32', 'i64', 'i32', 'i32'],
  results: ['i64'],
  build: (f, callee) => {
    const [s, significand, signAndExponent, wide] = [f.param(0), f.param(1), f.param(2), f.param(3)];
    const keep = f.let(select(wide, i64(53), i64(24)));
    const largest = f.let(select(wide, i32(0x7ff), i32(0xff)));
    const fractionBits = f.let(sub(keep, i64(1)));
    const infinity = f.let(shl(extendU(largest), fractionBits));
    const sign = f.let(shrU(signAndExponent, i32(15)));
    const signBit = f.let(shl(extendU(sign), select(wide, i64(63), i64(31))));
    const e = f.local('i32');
    f.set(e, exponentField(signAndExponent));
    f.if(isUnsupported(significand, e), () => {
      raise(f, s, Fsw.invalid);
      f.return(or(shl(i64(1), select(wide, i64(63), i64(31))), or(infinity, shl(i64(1), sub(keep, i64(2))))));
    });
    const dropped = f.let(sub(i64(64), keep));
    f.if(isInfinite(e), () => {
      f.if(eqz(shl(significand, i64(1))), () => f.return(or(signBit, infinity)));
      f.if(eqz(and(significand, i64(quietBit))), () => raise(f, s, Fsw.invalid));
      const payload = shrU(and(or(significand, i64(quietBit)), i64(~integerBit)), dropped);
      f.return(or(signBit, or(infinity, payload)));
    });
    f.if(eqz(significand), () => f.return(signBit));
    f.set(e, add(e, eqz(e)));
    normalize(f, significand, e);
    f.set(e, sub(e, sub(i32(exponentBias), shrU(largest, i32(1)))));
    const fraction = f.local('i64');
    const up = f.local('i32');
    const tiny = f.local('i32');
    const control = f.let(roundingControl(s));
    const setUp = () => {
      f.set(fraction, shl(significand, keep));
      f.set(up, f.callExpr(callee(roundsUp), control, sign, wrap(and(shrU(significand, dropped), i64(1))), fraction));
    };
    setUp();
    f.set(tiny, i32(0));
    f.if(leS(e, i32(0)), () => {
      // As in roundAndPack: rounding with an unbounded exponent decides.
      const allOnes = eqz(xor(shrU(significand, dropped), shrU(i64(-1), dropped)));
      f.set(tiny, eqz(and(and(eqz(e), up), allOnes)));
      f.if(and(tiny, eqz(isMasked(s, Fsw.underflow))), () => {
        // Nothing is stored, so nothing is rounded either.
        raise(f, s, Fsw.underflow);
        f.return(i64(0));
      });
      const n = f.let(sub(i32(1), e));
      f.if(
        geS(n, i32(64)),
        () => f.set(significand, i64(1)),
        () => {
          const count = f.let(extendU(n));
          f.set(significand, or(shrU(significand, count), extendU(ne(shl(significand, sub(i64(64), count)), i64(0)))));
        },
      );
      setUp();
      f.set(e, i32(1));
    });
    // The integer bit of a normal number adds one to the exponent field; so does a carry.
    const magnitude = f.let(
      add(add(shl(extendU(sub(e, i32(1))), fractionBits), shrU(significand, dropped)), extendU(up)),
    );
    f.if(or(gtS(e, largest), geU(magnitude, infinity)), () => {
      raise(f, s, Fsw.overflow);
      f.if(eqz(isMasked(s, Fsw.overflow)), () => f.return(i64(0)));
      const toInfinity = f.let(
        select(
          eqz(control),
          i32(1),
          select(eq(control, i32(Rounding.down)), sign, and(eqz(sign), eq(control, i32(Rounding.up)))),
        ),
      );
      raise(f, s, or(i32(Fsw.precision), select(toInfinity, i32(Fsw.c1), i32(0))));
      f.return(or(signBit, sub(infinity, extendU(eqz(toInfinity)))));
    });
    f.if(ne(fraction, i64(0)), () =>
      raise(
        f,
        s,
        or(i32(Fsw.precision), or(select(up, i32(Fsw.c1), i32(0)), select(tiny, i32(Fsw.underflow), i32(0)))),
      ),
    );
    f.return(or(signBit, magnitude));
  },
};

/** (state, significand, exponent, bits of the integer, 1 = truncate) -> the integer (upper bits: its sign). Raises invalid or precision. */
export const toInteger: Kernel = {
  name: 'float80.toInteger',
  params: ['i32', 'i64', 'i32', 'i32', 'i32'],
  results: ['i64'],
  build: (f, callee) => {
    const [s, significand, signAndExponent, bits, truncate] = [
      f.param(0),
      f.param(1),
      f.param(2),
      f.param(3),
      f.param(4),
    ];
    const e = f.let(exponentField(signAndExponent));
    const sign = f.let(shrU(signAndExponent, i32(15)));
    const smallest = f.let(shl(i64(-1), extendU(sub(bits, i32(1)))));
    const invalid = () => {
      raise(f, s, Fsw.invalid);
      f.return(smallest);
    };
    f.if(or(isUnsupported(significand, e), geS(e, i32(exponentBias + 64))), invalid);
    const fraction = f.local('i64');
    const count = f.let(sub(i32(exponentBias + 63), e));
    f.set(fraction, i64(0));
    f.if(
      geS(count, i32(64)),
      () => {
        f.set(fraction, select(eq(count, i32(64)), significand, extendU(ne(significand, i64(0)))));
        f.set(significand, i64(0));
      },
      () =>
        f.if(count, () => {
          f.set(fraction, shl(significand, extendU(sub(i32(64), count))));
          f.set(significand, shrU(significand, extendU(count)));
        }),
    );
    const control = select(truncate, i32(Rounding.zero), roundingControl(s));
    const up = f.let(f.callExpr(callee(roundsUp), control, sign, wrap(and(significand, i64(1))), fraction));
    f.set(significand, add(significand, extendU(up)));
    // -2^(n-1) is in range, +2^(n-1) is not.
    const limit = f.let(sub(sub(i64(0), smallest), extendU(eqz(sign))));
    f.if(eqz(leU(significand, limit)), invalid);
    f.if(ne(fraction, i64(0)), () => raise(f, s, or(i32(Fsw.precision), select(up, i32(Fsw.c1), i32(0)))));
    f.return(select(sign, sub(i64(0), significand), significand));
  },
};
