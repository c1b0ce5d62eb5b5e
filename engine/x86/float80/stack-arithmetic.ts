// SPDX-License-Identifier: MIT
// Arithmetic and comparison on the register stack: operand checks, operation, result (Intel SDM volume 1, sections 8.3.3 to 8.3.8).

import { ST } from '../../cpu/layout.ts';
import {
  add,
  and,
  eq,
  eqz,
  geS,
  i32,
  i64,
  load,
  ltS,
  ltU,
  ne,
  or,
  select,
  shl,
  shrU,
  xor,
  type Expr,
} from '../../wasm/expr.ts';
import type { Callee, FunctionBuilder, Local } from '../../wasm/function.ts';
import type { Kernel } from '../kernel.ts';
import { addKernel, divideKernel, multiplyKernel, squareRootKernel } from './arithmetic.ts';
import { blocksRegister, commit, commitResult, popTimes, returnUnderflow } from './commit.ts';
import { fromFloat, fromInteger } from './convert.ts';
import { extractKernel, remainderKernel, roundToIntegral, scaleKernel } from './integral.ts';
import { anyDenormal, exponentField, isInfinite, selectNan } from './operands.ts';
import {
  begin,
  clearConditions,
  exponentOf,
  Fsw,
  indefinite,
  isEmpty,
  physical,
  raise,
  setWork32,
  significandOf,
  Work,
  work32,
  writeRegister,
} from './registers.ts';
import { normalize } from './round.ts';

type CalleeOf = (k: Kernel) => Callee;

/** In place of a stack index: the operand that `operandFloat`, `operandInteger` or `operandZero` prepared. */
export const memoryOperand = -1;

function operandKernel(
  name: string,
  params: Kernel['params'],
  convert: (f: FunctionBuilder, callee: CalleeOf, s: Expr) => Expr,
): Kernel {
  return {
    name,
    params,
    results: [],
    build: (f, callee) => {
      const s = f.param(0);
      begin(f, s);
      setWork32(f, s, Work.denormal, i32(0));
      f.store('i64.store', s, convert(f, callee, s), Work.operand);
      setWork32(f, s, Work.operandExponent, work32(s, Work.exponent));
    },
  };
}

/** (state, bits, 1 = double or 0 = single): prepares a memory operand. */
export const operandFloat = operandKernel('x87.operandFloat', ['i32', 'i64', 'i32'], (f, callee, s) =>
  f.let(f.callExpr(callee(fromFloat), s, f.param(1), f.param(2))),
);
/** (state, integer): prepares a memory operand. */
export const operandInteger = operandKernel('x87.operandInteger', ['i32', 'i64'], (f, callee, s) =>
  f.let(f.callExpr(callee(fromInteger), s, f.param(1))),
);

interface Pair {
  readonly a: Local;
  readonly aSe: Local;
  readonly b: Local;
  readonly bSe: Local;
  readonly top: Expr;
  /** 1 when one of them is an empty register. */
  readonly empty: Expr;
}

/** ST(0) and the other operand: a stack register, or the prepared one when `other` is negative. */
function readPair(f: FunctionBuilder, s: Expr, other: Expr): Pair {
  const a = f.local('i64');
  const b = f.local('i64');
  const aSe = f.local('i32');
  const bSe = f.local('i32');
  const empty = f.local('i32');
  const top = f.let(physical(s, i32(0)));
  f.set(a, significandOf(s, top));
  f.set(aSe, exponentOf(s, top));
  f.set(empty, isEmpty(s, top));
  f.if(
    geS(other, i32(0)),
    () => {
      begin(f, s);
      setWork32(f, s, Work.denormal, i32(0));
      const register = f.let(physical(s, other));
      f.set(b, significandOf(s, register));
      f.set(bSe, exponentOf(s, register));
      f.set(empty, or(empty, isEmpty(s, register)));
    },
    () => {
      f.set(b, load('i64.load', s, Work.operand));
      f.set(bSe, work32(s, Work.operandExponent));
    },
  );
  return { a, b, aSe, bSe, top, empty };
}

/** Operations of `binary`, as in the reg field of D8: operand a is ST(0), b the other. */
export const BinaryOp = {
  add: 0,
  multiply: 1,
  subtract: 4,
  subtractReversed: 5,
  divide: 6,
  divideReversed: 7,
} as const;

/** (state, operation, other operand, stack index of the destination, 1 = pop). */
export const binary: Kernel = {
  name: 'x87.binary',
  params: ['i32', 'i32', 'i32', 'i32', 'i32'],
  results: [],
  build: (f, callee) => {
    const [s, operation, other, destination, pops] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
    const { a, aSe, b, bSe, empty } = readPair(f, s, other);
    const register = f.let(physical(s, destination));
    const finish = () => popTimes(f, s, pops);
    returnUnderflow(f, callee, s, empty, register, finish);
    const result = f.local('i64');
    f.if(
      eq(operation, i32(BinaryOp.multiply)),
      () => f.set(result, f.callExpr(callee(multiplyKernel), s, a, aSe, b, bSe)),
      () => {
        f.if(and(operation, i32(1)), () => {
          const m = f.let(a);
          f.set(a, b);
          f.set(b, m);
          const se = f.let(aSe);
          f.set(aSe, bSe);
          f.set(bSe, se);
        });
        f.if(
          ltU(operation, i32(BinaryOp.divide)),
          () => f.set(result, f.callExpr(callee(addKernel), s, shrU(operation, i32(2)), a, aSe, b, bSe)),
          () => f.set(result, f.callExpr(callee(divideKernel), s, a, aSe, b, bSe)),
        );
      },
    );
    commitResult(f, callee, s, register, result, finish);
  },
};

/** (state): ST(0) = operation(ST(0)). */
function unary(name: string, operation: Kernel): Kernel {
  return {
    name,
    params: ['i32'],
    results: [],
    build: (f, callee) => {
      const s = f.param(0);
      begin(f, s);
      setWork32(f, s, Work.denormal, i32(0));
      const top = f.let(physical(s, i32(0)));
      returnUnderflow(f, callee, s, isEmpty(s, top), top);
      commitResult(
        f,
        callee,
        s,
        top,
        f.let(f.callExpr(callee(operation), s, significandOf(s, top), exponentOf(s, top))),
      );
    },
  };
}

export const squareRoot = unary('x87.squareRoot', squareRootKernel);
export const roundTop = unary('x87.roundTop', roundToIntegral);

/** (state): ST(0) = ST(0) x 2^trunc(ST(1)). */
export const scale: Kernel = {
  name: 'x87.scale',
  params: ['i32'],
  results: [],
  build: (f, callee) => {
    const s = f.param(0);
    const { a, aSe, b, bSe, top, empty } = readPair(f, s, i32(1));
    returnUnderflow(f, callee, s, empty, top);
    commitResult(f, callee, s, top, f.let(f.callExpr(callee(scaleKernel), s, a, aSe, b, bSe)));
  },
};

/** (state, 1 = to nearest): ST(0) = remainder of ST(0) / ST(1). */
export const remainder: Kernel = {
  name: 'x87.remainder',
  params: ['i32', 'i32'],
  results: [],
  build: (f, callee) => {
    const [s, nearest] = [f.param(0), f.param(1)];
    const { a, aSe, b, bSe, top, empty } = readPair(f, s, i32(1));
    clearConditions(f, s, Fsw.c2);
    returnUnderflow(f, callee, s, empty, top);
    commitResult(f, callee, s, top, f.let(f.callExpr(callee(remainderKernel), s, nearest, a, aSe, b, bSe)));
  },
};

/** (state): ST(0) = exponent, then pushes the significand. */
export const extract: Kernel = {
  name: 'x87.extract',
  params: ['i32'],
  results: [],
  build: (f, callee) => {
    const s = f.param(0);
    begin(f, s);
    setWork32(f, s, Work.denormal, i32(0));
    const top = f.let(physical(s, i32(0)));
    const target = f.let(physical(s, i32(7)));
    const underflow = f.let(isEmpty(s, top));
    f.if(or(underflow, eqz(isEmpty(s, target))), () => {
      setWork32(f, s, Work.flags, or(i32(Fsw.invalid | Fsw.stackFault), select(underflow, i32(0), i32(Fsw.c1))));
      f.if(f.callExpr(callee(commit), s, i32(blocksRegister)), () => {
        for (const register of [top, target])
          writeRegister(f, s, register, i64(indefinite.significand), i32(indefinite.exponent));
        f.store('i32.store', s, target, ST.ftop);
      });
      f.return();
    });
    const significand = f.let(f.callExpr(callee(extractKernel), s, significandOf(s, top), exponentOf(s, top)));
    f.if(f.callExpr(callee(commit), s, i32(blocksRegister)), () => {
      writeRegister(f, s, top, load('i64.load', s, Work.second), work32(s, Work.secondExponent));
      writeRegister(f, s, target, significand, work32(s, Work.exponent));
      f.store('i32.store', s, target, ST.ftop);
    });
  },
};

/** The three condition codes of "unordered". */
const unordered = Fsw.c0 | Fsw.c2 | Fsw.c3;

/** (state, 1 = quiet NaNs are no exception, a, exponent of a, b, exponent of b) -> C0 (less), C3 (equal), all (unordered) or none (greater). */
const compareKernel: Kernel = {
  name: 'float80.compare',
  params: ['i32', 'i32', 'i64', 'i32', 'i64', 'i32'],
  results: ['i32'],
  build: (f, callee) => {
    const [s, quiet, a, aSe, b, bSe] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4), f.param(5)];
    const ae = f.local('i32');
    const be = f.local('i32');
    f.set(ae, exponentField(aSe));
    f.set(be, exponentField(bSe));
    f.if(f.callExpr(callee(selectNan), s, a, aSe, b, bSe), () => {
      f.if(eqz(quiet), () => raise(f, s, Fsw.invalid));
      f.return(i32(unordered));
    });
    // Unmasked, it does not keep the codes from being set.
    f.if(anyDenormal(s, a, ae, b, be), () => raise(f, s, Fsw.denormal));
    f.if(eqz(or(a, b)), () => f.return(i32(Fsw.c3)));
    const sign = f.let(shrU(aSe, i32(15)));
    const less = (condition: Expr) => f.return(select(condition, i32(Fsw.c0), i32(0)));
    f.if(eqz(a), () => less(eqz(shrU(bSe, i32(15)))));
    f.if(eqz(b), () => less(sign));
    f.if(ne(sign, shrU(bSe, i32(15))), () => less(sign));
    f.if(and(eqz(isInfinite(ae)), eqz(isInfinite(be))), () => {
      for (const [m, e] of [
        [a, ae],
        [b, be],
      ] as const) {
        f.set(e, add(e, eqz(e)));
        normalize(f, m, e);
      }
    });
    f.if(and(eq(ae, be), eq(a, b)), () => f.return(i32(Fsw.c3)));
    const smaller = or(ltS(ae, be), and(eq(ae, be), ltU(a, b)));
    less(xor(smaller, sign));
  },
};

/** (state, 1 = quiet, other operand, pops) -> condition codes, also with an unmasked exception, which only prevents the pops. Commits exceptions, not the codes. */
const compareStack: Kernel = {
  name: 'x87.compareStack',
  params: ['i32', 'i32', 'i32', 'i32'],
  results: ['i32'],
  build: (f, callee) => {
    const [s, quiet, other, pops] = [f.param(0), f.param(1), f.param(2), f.param(3)];
    const { a, aSe, b, bSe, empty } = readPair(f, s, other);
    const codes = f.local('i32');
    f.if(
      empty,
      () => {
        setWork32(f, s, Work.flags, i32(Fsw.invalid | Fsw.stackFault));
        f.set(codes, i32(unordered));
      },
      () => f.set(codes, f.callExpr(callee(compareKernel), s, quiet, a, aSe, b, bSe)),
    );
    f.if(f.callExpr(callee(commit), s, i32(blocksRegister)), () => popTimes(f, s, pops));
    f.return(codes);
  },
};

/** (state, 1 = quiet, other operand, pops): comparison into the condition codes. */
export const compare: Kernel = {
  name: 'x87.compare',
  params: ['i32', 'i32', 'i32', 'i32'],
  results: [],
  build: (f, callee) => {
    const s = f.param(0);
    const codes = f.let(f.callExpr(callee(compareStack), s, f.param(1), f.param(2), f.param(3)));
    clearConditions(f, s, unordered);
    f.store('i32.store', s, or(load('i32.load', s, ST.fsw), codes), ST.fsw);
  },
};

/** (state, 1 = quiet, other operand, pops) -> what EFLAGS get: CF bit 0, PF bit 2, ZF bit 6. */
export const compareToFlags: Kernel = {
  name: 'x87.compareToFlags',
  params: ['i32', 'i32', 'i32', 'i32'],
  results: ['i32'],
  build: (f, callee) => {
    const s = f.param(0);
    const c1 = f.let(and(load('i32.load', s, ST.fsw), i32(Fsw.c1)));
    const codes = f.let(f.callExpr(callee(compareStack), s, f.param(1), f.param(2), f.param(3)));
    // C1 stays as it was, but for a stack fault.
    f.if(eqz(and(work32(s, Work.flags), i32(Fsw.stackFault))), () =>
      f.store('i32.store', s, or(load('i32.load', s, ST.fsw), c1), ST.fsw),
    );
    // C0, C2 and C3 lie in the upper byte where CF, PF and ZF lie in the lower one.
    f.return(shrU(codes, i32(8)));
  },
};

/** (state): class of ST(0) into the condition codes; C1 is its sign, also that of an empty register. */
export const examine: Kernel = {
  name: 'x87.examine',
  params: ['i32'],
  results: [],
  build: (f) => {
    const s = f.param(0);
    const top = f.let(physical(s, i32(0)));
    const m = f.let(significandOf(s, top));
    const se = f.let(exponentOf(s, top));
    const e = f.let(exponentField(se));
    const codes = f.local('i32');
    f.set(codes, i32(Fsw.c2));
    f.if(
      eqz(e),
      () => f.set(codes, select(eqz(m), i32(Fsw.c3), i32(Fsw.c3 | Fsw.c2))),
      () => {
        f.if(isInfinite(e), () => f.set(codes, select(eqz(shl(m, i64(1))), i32(Fsw.c2 | Fsw.c0), i32(Fsw.c0))));
        f.if(geS(m, i64(0)), () => f.set(codes, i32(0)));
      },
    );
    f.if(isEmpty(s, top), () => f.set(codes, i32(Fsw.c3 | Fsw.c0)));
    clearConditions(f, s, unordered | Fsw.c1);
    const sign = shl(shrU(se, i32(15)), i32(9));
    f.store('i32.store', s, or(load('i32.load', s, ST.fsw), or(codes, sign)), ST.fsw);
  },
};

/** (state, bits to clear, bits to flip): sign operations on ST(0)'s exponent word. */
export const changeSign: Kernel = {
  name: 'x87.changeSign',
  params: ['i32', 'i32', 'i32'],
  results: [],
  build: (f, callee) => {
    const [s, cleared, flipped] = [f.param(0), f.param(1), f.param(2)];
    begin(f, s);
    const top = f.let(physical(s, i32(0)));
    returnUnderflow(f, callee, s, isEmpty(s, top), top);
    clearConditions(f, s, Fsw.c1);
    writeRegister(f, s, top, significandOf(s, top), xor(and(exponentOf(s, top), xor(cleared, i32(-1))), flipped));
  },
};
