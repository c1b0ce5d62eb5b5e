// SPDX-License-Identifier: MIT
// Rounding to the precision and in the direction of the control word, with overflow and underflow (Intel SDM volume 1, sections 4.8.4 and 8.5).

import {
  add,
  and,
  eq,
  eqz,
  extendU,
  geS,
  gtS,
  gtU,
  i32,
  i64,
  leS,
  ltS,
  ltU,
  ne,
  op,
  or,
  select,
  shl,
  shrU,
  sub,
  wrap,
  xor,
} from '../../wasm/expr.ts';
import type { FunctionBuilder, Local } from '../../wasm/function.ts';
import type { Kernel } from '../kernel.ts';
import { Fsw, integerBit, isMasked, Precision, raise, Rounding, roundingControl, setExponent } from './registers.ts';

/** (rounding control, sign, odd, fraction aligned to bit 63) -> 1 when the magnitude is rounded up. */
export const roundsUp: Kernel = {
  name: 'float80.roundsUp',
  params: ['i32', 'i32', 'i32', 'i64'],
  results: ['i32'],
  build: (f) => {
    const [control, sign, odd, fraction] = [f.param(0), f.param(1), f.param(2), f.param(3)];
    f.if(eqz(fraction), () => f.return(i32(0)));
    f.if(eqz(control), () => f.return(or(gtU(fraction, i64(integerBit)), and(eq(fraction, i64(integerBit)), odd))));
    f.return(select(eq(control, i32(Rounding.down)), sign, and(eqz(sign), eq(control, i32(Rounding.up)))));
  },
};

/** Shifts the 128-bit number hi:lo right by `count` >= 0; bits that fall off are kept as a sticky lowest bit. */
export function shiftRightSticky(f: FunctionBuilder, hi: Local, lo: Local, count: Local): void {
  f.if(geS(count, i32(64)), () => {
    f.set(lo, or(hi, extendU(ne(lo, i64(0)))));
    f.set(hi, i64(0));
    f.set(count, sub(count, i32(64)));
    f.if(geS(count, i32(64)), () => {
      f.set(lo, extendU(ne(lo, i64(0))));
      f.set(count, i32(0));
    });
  });
  f.if(count, () => {
    const n = extendU(count);
    const back = extendU(sub(i32(64), count));
    f.set(lo, or(or(shl(hi, back), shrU(lo, n)), extendU(ne(shl(lo, back), i64(0)))));
    f.set(hi, shrU(hi, n));
  });
}

/** Moves the leading one of a nonzero significand to bit 63 and lowers the exponent by as much. */
export function normalize(f: FunctionBuilder, significand: Local, exponent: Local): void {
  f.if(geS(significand, i64(0)), () => {
    const n = f.let(op('i64.clz', significand));
    f.set(exponent, sub(exponent, wrap(n)));
    f.set(significand, shl(significand, n));
  });
}

/** Exponent distance of the results that unmasked overflow and underflow leave in registers. */
const wrapBias = 0x6000;

/**
 * (state, precision control, sign, biased exponent, hi, lo) -> significand; sign and exponent in `Work.exponent`.
 * The value is hi.lo x 2^(exponent - bias) with the point behind bit 63 of hi; hi is normalised, lo may end in a sticky bit.
 */
export const roundAndPack: Kernel = {
  name: 'float80.roundAndPack',
  params: ['i32', 'i32', 'i32', 'i32', 'i64', 'i64'],
  results: ['i64'],
  build: (f, callee) => {
    const [s, precision, sign, exponent, hi, lo] = [
      f.param(0),
      f.param(1),
      f.param(2),
      f.param(3),
      f.param(4),
      f.param(5),
    ];
    const keep = f.let(
      select(
        eq(precision, i32(Precision.single)),
        i64(24),
        select(eq(precision, i32(Precision.double)), i64(53), i64(64)),
      ),
    );
    const unit = f.let(shl(i64(1), sub(i64(64), keep)));
    const rest = f.let(sub(unit, i64(1)));
    const control = f.let(roundingControl(s));
    const fraction = f.local('i64');
    const tiny = f.local('i32');
    const up = f.local('i32');
    const count = f.local('i32');
    const full = eq(keep, i64(64));
    const setFraction = () => f.set(fraction, select(full, lo, or(shl(hi, keep), extendU(ne(lo, i64(0))))));
    const setUp = () => f.set(up, f.callExpr(callee(roundsUp), control, sign, ne(and(hi, unit), i64(0)), fraction));
    f.set(tiny, i32(0));
    setFraction();
    f.if(leS(exponent, i32(0)), () => {
      // Tininess is found after rounding with an unbounded exponent: only a carry out of exponent 0 escapes it.
      setUp();
      f.set(tiny, eqz(and(and(eqz(exponent), up), eq(or(hi, rest), i64(-1)))));
      f.if(
        and(tiny, eqz(isMasked(s, Fsw.underflow))),
        () => {
          raise(f, s, Fsw.underflow);
          f.set(tiny, i32(0));
          f.set(exponent, add(exponent, i32(wrapBias)));
          f.if(leS(exponent, i32(0)), () => {
            raise(f, s, Fsw.precision);
            setExponent(f, s, shl(sign, i32(15)));
            f.return(i64(0));
          });
        },
        () => {
          f.set(count, sub(i32(1), exponent));
          shiftRightSticky(f, hi, lo, count);
          setFraction();
          f.set(exponent, i32(0));
        },
      );
    });
    setUp();
    f.set(hi, and(hi, xor(rest, i64(-1))));
    f.if(up, () => {
      f.set(hi, add(hi, unit));
      f.if(ltU(hi, unit), () => {
        f.set(hi, i64(integerBit));
        f.set(exponent, add(exponent, i32(1)));
      });
    });
    f.if(and(eqz(exponent), ltS(hi, i64(0))), () => f.set(exponent, i32(1)));
    f.if(gtS(exponent, i32(0x7ffe)), () => {
      raise(f, s, Fsw.overflow);
      const toInfinity = f.let(
        select(
          eqz(control),
          i32(1),
          select(eq(control, i32(Rounding.down)), sign, and(eqz(sign), eq(control, i32(Rounding.up)))),
        ),
      );
      f.if(
        isMasked(s, Fsw.overflow),
        () => {
          raise(f, s, or(i32(Fsw.precision), select(toInfinity, i32(Fsw.c1), i32(0))));
          setExponent(f, s, or(shl(sign, i32(15)), add(i32(0x7ffe), toInfinity)));
          f.return(select(toInfinity, i64(integerBit), xor(rest, i64(-1))));
        },
        () => {
          f.set(exponent, sub(exponent, i32(wrapBias)));
          f.if(gtS(exponent, i32(0x7ffe)), () => {
            // Too far even for that: only FSCALE gets here.
            raise(f, s, Fsw.precision | Fsw.c1);
            setExponent(f, s, or(shl(sign, i32(15)), i32(0x7fff)));
            f.return(i64(integerBit));
          });
        },
      );
    });
    f.if(ne(fraction, i64(0)), () =>
      raise(
        f,
        s,
        or(i32(Fsw.precision), or(select(up, i32(Fsw.c1), i32(0)), select(tiny, i32(Fsw.underflow), i32(0)))),
      ),
    );
    setExponent(f, s, or(shl(sign, i32(15)), exponent));
    f.return(hi);
  },
};
