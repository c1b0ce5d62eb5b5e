// SPDX-License-Identifier: MIT
// How an x87 instruction ends: exceptions into the status word, result into the stack, or neither when unmasked (Intel SDM volume 1, sections 8.1.3 and 8.6).

import { ST } from '../../cpu/layout.ts';
import { and, eqz, i32, i64, load, or, select, xor, type Expr } from '../../wasm/expr.ts';
import type { Callee, FunctionBuilder } from '../../wasm/function.ts';
import type { Kernel } from '../kernel.ts';
import { Fsw, indefinite, isEmpty, physical, pop, setWork32, Work, work32, writeRegister } from './registers.ts';

/** Unmasked, they keep an instruction from writing its result to the stack. */
export const blocksRegister = Fsw.invalid | Fsw.denormal | Fsw.zeroDivide;
/** Unmasked, they keep a value from being stored to memory. */
export const blocksStore = blocksRegister | Fsw.overflow | Fsw.underflow;

type CalleeOf = (k: Kernel) => Callee;

/** (state, exceptions that block) -> 1 when the result counts. Merges `Work.flags` into the status word; C1 becomes what the flags say. */
export const commit: Kernel = {
  name: 'x87.commit',
  params: ['i32', 'i32'],
  results: ['i32'],
  build: (f) => {
    const [s, blocking] = [f.param(0), f.param(1)];
    const flags = f.let(work32(s, Work.flags));
    const unmasked = f.let(and(and(flags, xor(load('i32.load', s, ST.fcw), i32(-1))), i32(Fsw.exceptions)));
    const status = or(and(load('i32.load', s, ST.fsw), i32(~Fsw.c1)), flags);
    f.store('i32.store', s, or(status, select(unmasked, i32(Fsw.summary), i32(0))), ST.fsw);
    f.return(eqz(and(unmasked, blocking)));
  },
};

/** Writes a result (exponent in `Work.exponent`) to a physical register unless an unmasked exception forbids it; `then` happens only with it. */
export function commitResult(
  f: FunctionBuilder,
  callee: CalleeOf,
  s: Expr,
  register: Expr,
  significand: Expr,
  then: () => void = () => undefined,
): void {
  f.if(f.callExpr(callee(commit), s, i32(blocksRegister)), () => {
    writeRegister(f, s, register, significand, work32(s, Work.exponent));
    then();
  });
}

/** When `condition` (an operand register is empty) holds: stack underflow, whose masked result is the indefinite in `register`; returns from the kernel. */
export function returnUnderflow(
  f: FunctionBuilder,
  callee: CalleeOf,
  s: Expr,
  condition: Expr,
  register: Expr,
  then: () => void = () => undefined,
): void {
  f.if(condition, () => {
    setWork32(f, s, Work.flags, i32(Fsw.invalid | Fsw.stackFault));
    setWork32(f, s, Work.exponent, i32(indefinite.exponent));
    commitResult(f, callee, s, register, i64(indefinite.significand), then);
    f.return();
  });
}

/** Pops the stack when `count` says so. */
export function popTimes(f: FunctionBuilder, s: Expr, count: Expr): void {
  f.if(count, () => {
    pop(f, s);
    f.if(eqz(xor(count, i32(2))), () => pop(f, s));
  });
}

/** The register above the top, where a push goes; overflow when it is not empty: the masked result is the indefinite. Returns from the kernel then. */
export function pushTarget(f: FunctionBuilder, callee: CalleeOf, s: Expr): Expr {
  const target = f.let(physical(s, i32(7)));
  f.if(eqz(isEmpty(s, target)), () => {
    setWork32(f, s, Work.flags, i32(Fsw.invalid | Fsw.stackFault | Fsw.c1));
    setWork32(f, s, Work.exponent, i32(indefinite.exponent));
    commitResult(f, callee, s, target, i64(indefinite.significand), () => f.store('i32.store', s, target, ST.ftop));
    f.return();
  });
  return target;
}

/** Pushes a result into the register that `pushTarget` gave. */
export function pushResult(f: FunctionBuilder, callee: CalleeOf, s: Expr, target: Expr, significand: Expr): void {
  commitResult(f, callee, s, target, significand, () => f.store('i32.store', s, target, ST.ftop));
}
