// SPDX-License-Identifier: MIT
// Moves to, from and within the register stack: loads, stores, constants, exchange, packed decimals (Intel SDM volume 1, sections 8.1.6, 8.3.2 and 4.7).

import { ST } from '../../cpu/layout.ts';
import {
  add,
  and,
  eqz,
  extendU,
  gtU,
  i32,
  i64,
  mul,
  ne,
  op,
  or,
  select,
  shl,
  shrU,
  sub,
  wrap,
  type Expr,
} from '../../wasm/expr.ts';
import type { Callee, FunctionBuilder } from '../../wasm/function.ts';
import type { Kernel } from '../kernel.ts';
import { blocksRegister, blocksStore, commit, popTimes, pushResult, pushTarget, returnUnderflow } from './commit.ts';
import { fromFloat, fromInteger, toFloat, toInteger } from './convert.ts';
import { exponentField } from './operands.ts';
import {
  begin,
  clearConditions,
  controlWord,
  exponentMask,
  exponentOf,
  Fsw,
  indefinite,
  isEmpty,
  physical,
  quietBit,
  raise,
  setExponent,
  setWork32,
  significandOf,
  Work,
  work32,
  writeRegister,
} from './registers.ts';

type CalleeOf = (k: Kernel) => Callee;

/** (state, bits, 1 = double or 0 = single): pushes a number from memory. */
export const pushFloat: Kernel = {
  name: 'x87.pushFloat',
  params: ['i32', 'i64', 'i32'],
  results: [],
  build: (f, callee) => {
    const s = f.param(0);
    begin(f, s);
    const target = pushTarget(f, callee, s);
    setWork32(f, s, Work.denormal, i32(0));
    const m = f.local('i64');
    f.set(m, f.callExpr(callee(fromFloat), s, f.param(1), f.param(2)));
    const nan = and(
      op('i32.eq', exponentField(work32(s, Work.exponent)), i32(exponentMask)),
      ne(shl(m, i64(1)), i64(0)),
    );
    f.if(and(nan, eqz(and(m, i64(quietBit)))), () => {
      raise(f, s, Fsw.invalid);
      f.set(m, or(m, i64(quietBit)));
    });
    // A denormal is loaded even when its exception is unmasked.
    f.if(work32(s, Work.denormal), () => {
      raise(f, s, Fsw.denormal);
      f.call(callee(commit), s, i32(blocksRegister));
      writeRegister(f, s, target, m, work32(s, Work.exponent));
      f.store('i32.store', s, target, ST.ftop);
      f.return();
    });
    pushResult(f, callee, s, target, m);
  },
};

/** (state, integer): pushes it. */
export const pushInteger: Kernel = {
  name: 'x87.pushInteger',
  params: ['i32', 'i64'],
  results: [],
  build: (f, callee) => {
    const s = f.param(0);
    begin(f, s);
    const target = pushTarget(f, callee, s);
    pushResult(f, callee, s, target, f.let(f.callExpr(callee(fromInteger), s, f.param(1))));
  },
};

/** (state, significand, sign and exponent): pushes these bits. */
export const pushBits: Kernel = {
  name: 'x87.pushBits',
  params: ['i32', 'i64', 'i32'],
  results: [],
  build: (f, callee) => {
    const s = f.param(0);
    begin(f, s);
    const target = pushTarget(f, callee, s);
    setExponent(f, s, f.param(2));
    pushResult(f, callee, s, target, f.param(1));
  },
};

/** (state, index): pushes ST(index). */
export const pushRegister: Kernel = {
  name: 'x87.pushRegister',
  params: ['i32', 'i32'],
  results: [],
  build: (f, callee) => {
    const s = f.param(0);
    begin(f, s);
    const source = f.let(physical(s, f.param(1)));
    // Underflow goes before overflow.
    f.if(isEmpty(s, source), () => {
      raise(f, s, Fsw.invalid | Fsw.stackFault);
      setExponent(f, s, i32(indefinite.exponent));
      pushResult(f, callee, s, f.let(physical(s, i32(7))), i64(indefinite.significand));
      f.return();
    });
    const target = pushTarget(f, callee, s);
    setExponent(f, s, exponentOf(s, source));
    pushResult(f, callee, s, target, significandOf(s, source));
  },
};

/** (state, index): ST(index) = ST(0), then pops; with ST(0) empty it only pops. The undocumented FSTP at D9 D8. */
export const storeRegisterQuietly: Kernel = {
  name: 'x87.storeRegisterQuietly',
  params: ['i32', 'i32'],
  results: [],
  build: (f) => {
    const s = f.param(0);
    const top = f.let(physical(s, i32(0)));
    clearConditions(f, s, Fsw.c1);
    f.if(eqz(isEmpty(s, top)), () =>
      writeRegister(f, s, physical(s, f.param(1)), significandOf(s, top), exponentOf(s, top)),
    );
    popTimes(f, s, i32(1));
  },
};

/** (state, index, pops): ST(index) = ST(0). */
export const storeRegister: Kernel = {
  name: 'x87.storeRegister',
  params: ['i32', 'i32', 'i32'],
  results: [],
  build: (f, callee) => {
    const [s, index, pops] = [f.param(0), f.param(1), f.param(2)];
    const top = f.let(physical(s, i32(0)));
    const target = f.let(physical(s, index));
    begin(f, s);
    returnUnderflow(f, callee, s, isEmpty(s, top), target, () => popTimes(f, s, pops));
    clearConditions(f, s, Fsw.c1);
    writeRegister(f, s, target, significandOf(s, top), exponentOf(s, top));
    popTimes(f, s, pops);
  },
};

/** A kernel that converts ST(0) for a store to memory: leaves in `Work.store` whether it may happen; `storeDone` commits it. */
function storeKernel(
  name: string,
  params: Kernel['params'],
  indefiniteValue: (f: FunctionBuilder) => Expr,
  convert: (f: FunctionBuilder, callee: CalleeOf, s: Expr, top: Expr) => Expr,
): Kernel {
  return {
    name,
    params: ['i32', ...params],
    results: ['i64'],
    build: (f, callee) => {
      const s = f.param(0);
      begin(f, s);
      const top = f.let(physical(s, i32(0)));
      const value = f.local('i64');
      f.if(
        isEmpty(s, top),
        () => {
          raise(f, s, Fsw.invalid | Fsw.stackFault);
          setExponent(f, s, i32(indefinite.exponent));
          f.set(value, indefiniteValue(f));
        },
        () => f.set(value, convert(f, callee, s, top)),
      );
      const unmasked = and(
        op('i32.xor', and(controlWord(s), i32(blocksStore)), i32(blocksStore)),
        work32(s, Work.flags),
      );
      setWork32(f, s, Work.store, eqz(unmasked));
      f.return(value);
    },
  };
}

/** (state, 1 = double or 0 = single) -> bits. */
export const storeFloat = storeKernel(
  'x87.storeFloat',
  ['i32'],
  (f) => select(f.param(1), i64(0xfff8000000000000n), i64(0xffc00000n)),
  (f, callee, s, top) => f.callExpr(callee(toFloat), s, significandOf(s, top), exponentOf(s, top), f.param(1)),
);

/** (state, bits of the integer, 1 = truncate) -> integer. */
export const storeInteger = storeKernel(
  'x87.storeInteger',
  ['i32', 'i32'],
  (f) => shl(i64(-1), extendU(sub(f.param(1), i32(1)))),
  (f, callee, s, top) =>
    f.callExpr(callee(toInteger), s, significandOf(s, top), exponentOf(s, top), f.param(1), f.param(2)),
);

/** (state) -> significand; the other 16 bits in `Work.exponent`. */
export const storeExtended = storeKernel(
  'x87.storeExtended',
  [],
  () => i64(indefinite.significand),
  (f, _callee, s, top) => {
    setExponent(f, s, exponentOf(s, top));
    return significandOf(s, top);
  },
);

/** Low 64 bits of the packed decimal indefinite; above them are ones. */
const decimalIndefinite = 0xc000000000000000n;
const largestDecimal = 999_999_999_999_999_999n;

/** (state) -> 16 low digits of the packed decimal; sign and the two high digits (16 bits) in `Work.exponent`. */
export const storeDecimal = storeKernel(
  'x87.storeDecimal',
  [],
  () => i64(decimalIndefinite),
  (f, callee, s, top) => {
    const se = f.let(exponentOf(s, top));
    const value = f.local('i64');
    f.set(value, f.callExpr(callee(toInteger), s, significandOf(s, top), se, i32(64), i32(0)));
    f.if(and(se, i32(0x8000)), () => f.set(value, sub(i64(0), value)));
    f.if(
      gtU(value, i64(largestDecimal)),
      () => {
        setWork32(f, s, Work.flags, i32(Fsw.invalid));
        setExponent(f, s, i32(indefinite.exponent));
        f.set(value, i64(decimalIndefinite));
      },
      () => {
        const digits = f.local('i64');
        const shift = f.local('i64');
        const rest = f.local('i64');
        f.set(digits, i64(0));
        f.set(shift, i64(0));
        f.set(rest, value);
        f.loop((again) => {
          f.set(digits, or(digits, shl(op('i64.rem_u', rest, i64(10)), shift)));
          f.set(rest, op('i64.div_u', rest, i64(10)));
          f.set(shift, add(shift, i64(4)));
          f.brIf(again, ne(shift, i64(64)));
        });
        const high = f.let(wrap(rest));
        const packed = or(shl(op('i32.div_u', high, i32(10)), i32(4)), op('i32.rem_u', high, i32(10)));
        setExponent(f, s, or(and(se, i32(0x8000)), packed));
        f.set(value, digits);
      },
    );
    return value;
  },
);

/** (state, pops): what remains of a store once memory has been written (or need not be). */
export const storeDone: Kernel = {
  name: 'x87.storeDone',
  params: ['i32', 'i32'],
  results: [],
  build: (f, callee) => {
    const [s, pops] = [f.param(0), f.param(1)];
    f.if(f.callExpr(callee(commit), s, i32(blocksStore)), () => popTimes(f, s, pops));
  },
};

/** (state, low 64 bits, high 16 bits): pushes a packed decimal. Digits above nine count as they are. */
export const pushDecimal: Kernel = {
  name: 'x87.pushDecimal',
  params: ['i32', 'i64', 'i32'],
  results: [],
  build: (f, callee) => {
    const [s, low, high] = [f.param(0), f.param(1), f.param(2)];
    begin(f, s);
    const target = pushTarget(f, callee, s);
    const value = f.local('i64');
    const shift = f.local('i64');
    f.set(value, extendU(add(mul(and(shrU(high, i32(4)), i32(15)), i32(10)), and(high, i32(15)))));
    f.set(shift, i64(60));
    f.loop((again) => {
      f.set(value, add(mul(value, i64(10)), and(shrU(low, shift), i64(15))));
      f.set(shift, sub(shift, i64(4)));
      f.brIf(again, op('i64.ge_s', shift, i64(0)));
    });
    const m = f.let(f.callExpr(callee(fromInteger), s, value));
    setExponent(f, s, or(work32(s, Work.exponent), and(high, i32(0x8000))));
    pushResult(f, callee, s, target, m);
  },
};

/** (state, index): ST(0) and ST(index) change places; empty ones count as indefinite when that is masked. */
export const exchange: Kernel = {
  name: 'x87.exchange',
  params: ['i32', 'i32'],
  results: [],
  build: (f, callee) => {
    const s = f.param(0);
    begin(f, s);
    const top = f.let(physical(s, i32(0)));
    const other = f.let(physical(s, f.param(1)));
    f.if(or(isEmpty(s, top), isEmpty(s, other)), () => {
      raise(f, s, Fsw.invalid | Fsw.stackFault);
      f.if(eqz(f.callExpr(callee(commit), s, i32(blocksRegister))), () => f.return());
      for (const register of [top, other]) {
        f.if(isEmpty(s, register), () =>
          writeRegister(f, s, register, i64(indefinite.significand), i32(indefinite.exponent)),
        );
      }
    });
    clearConditions(f, s, Fsw.c1);
    const m = f.let(significandOf(s, top));
    const se = f.let(exponentOf(s, top));
    writeRegister(f, s, top, significandOf(s, other), exponentOf(s, other));
    writeRegister(f, s, other, m, se);
  },
};

/** (state, index, condition): ST(0) = ST(index) when the condition holds. */
export const conditionalMove: Kernel = {
  name: 'x87.conditionalMove',
  params: ['i32', 'i32', 'i32'],
  results: [],
  build: (f, callee) => {
    const [s, index, condition] = [f.param(0), f.param(1), f.param(2)];
    begin(f, s);
    const top = f.let(physical(s, i32(0)));
    const source = f.let(physical(s, index));
    returnUnderflow(f, callee, s, or(isEmpty(s, top), isEmpty(s, source)), top);
    f.if(condition, () => writeRegister(f, s, top, significandOf(s, source), exponentOf(s, source)));
  },
};
