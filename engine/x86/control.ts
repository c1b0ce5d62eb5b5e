// SPDX-License-Identifier: MIT
// Control transfer: jumps, calls, returns, loops, software interrupts, SYSCALL (Intel SDM volume 2).

import { Exit } from '../cpu/exits.ts';
import { Seg, ST } from '../cpu/layout.ts';
import { add, and, eqz, extendU, gtU, i32, i64, konst, ne, shrS, sub, wrap, type Expr } from '../wasm/expr.ts';
import { peek, push, setStack, stackAt } from './integer-data.ts';
import type { Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

const branchSize = (s: Stage): 16 | 32 | 64 => s.size as 16 | 32 | 64;

/** The next instruction's address as a value of the operand size. */
const returnAddress = (s: Stage) => (s.size === 64 ? s.nextRip() : wrap(s.nextRip()));

const hex = (n: number) => n.toString(16).toUpperCase().padStart(2, '0');
const conditionNames = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const conditionFlags = ['o', 'o', 'c', 'c', 'z', 'z', 'cz', 'cz', 's', 's', 'p', 'p', 'so', 'so', 'zso', 'zso'];

/** LOOP, LOOPE, LOOPNE: the count register has the address size. */
function loop(name: string, opcode: string, wanted: 'always' | 'equal' | 'unequal'): Instruction {
  return insn(
    name,
    `${opcode} Jb f64`,
    '-',
    { ends: true, perAddress: true, ...(wanted === 'always' ? {} : { reads: 'z' }) },
    (s) => {
      const count = s.gpr(1, s.addressSize);
      const left = s.let(sub(count, konst(count.type, 1)));
      s.setGpr(1, s.addressSize, left);
      const remaining = s.let(ne(s.addressSize === 16 ? and(left, i32(0xffff)) : left, konst(left.type, 0)));
      const condition = wanted === 'always' ? remaining : and(remaining, wanted === 'equal' ? s.zf() : eqz(s.zf()));
      s.branch(0, s.let(condition));
    },
  );
}

/** A 64-bit target must be canonical: else #GP(0) for the branch itself, before anything changes. */
function checkTarget(s: Stage, target: Expr): void {
  if (s.size === 64) s.f.if(gtU(add(shrS(target, i64(47)), i64(1)), i64(1)), () => s.fault(13, i32(0)));
}

/** RET: the return address, then `release` further bytes. */
function nearReturn(s: Stage, release: number | 'operand'): void {
  const bytes = s.size / 8;
  const target = peek(s, branchSize(s));
  checkTarget(s, target);
  const pointer = stackAt(s, bytes);
  if (release === 'operand') {
    const sum = add(pointer, extendU(and(wrap(s.read(0)), i32(0xffff))));
    setStack(s, s.let(s.mode === 64 ? sum : and(sum, i64(s.mode === 32 ? 0xffffffff : 0xffff))));
  } else setStack(s, pointer);
  s.jump(extendU(target));
}

export const controlInstructions: readonly Instruction[] = [
  ...conditionNames.map((name, cc) =>
    insn(
      `j${name}`,
      [`${hex(0x70 + cc)} Jb f64`, `0F ${hex(0x80 + cc)} Jz f64`],
      '-',
      { ends: true, hot: true, reads: conditionFlags[cc]! },
      (s) => s.branch(0, s.condition(cc)),
    ),
  ),
  insn('jmp', ['EB Jb f64', 'E9 Jz f64'], '-', { ends: true, hot: true }, (s) => s.branch(0)),
  insn('jmp-indirect', 'FF/4 Ev f64', 'r', { ends: true, hot: true }, (s) => {
    const target = s.read(0);
    checkTarget(s, target);
    s.jump(extendU(target));
  }),
  insn('call', 'E8 Jz f64', '-', { ends: true, hot: true, perMode: true }, (s) => {
    push(s, branchSize(s), returnAddress(s));
    s.branch(0);
  }),
  insn('call-indirect', 'FF/2 Ev f64', 'r', { ends: true, hot: true, perMode: true }, (s) => {
    const target = s.read(0);
    // The stack's faults come before the target's.
    const bytes = s.size / 8;
    s.probe(s.linear(Seg.ss, stackAt(s, -bytes), bytes, true), bytes, true);
    checkTarget(s, target);
    push(s, branchSize(s), returnAddress(s));
    s.jump(extendU(target));
  }),
  insn('ret', 'C3 #v f64', '', { ends: true, hot: true, perMode: true }, (s) => nearReturn(s, 0)),
  insn('ret-release', 'C2 Iw #v f64', 'r', { ends: true, perMode: true }, (s) => nearReturn(s, 'operand')),
  loop('loop', 'E2', 'always'),
  loop('loope', 'E1', 'equal'),
  loop('loopne', 'E0', 'unequal'),
  insn('jrcxz', 'E3 Jb f64', '-', { ends: true, perAddress: true }, (s) =>
    s.branch(0, s.let(eqz(s.gpr(1, s.addressSize)))),
  ),
  insn('syscall', '0F 05', '', { ends: true }, (s) => s.exit(Exit.Syscall)),
  insn('sysenter', '0F 34', '', { ends: true }, (s) => s.exit(Exit.Sysenter)),
  insn('int3', 'CC', '', { ends: true }, (s) => s.exit(Exit.SoftInt, i32(3))),
  insn('int', 'CD Ib', 'r', { ends: true }, (s) => s.exit(Exit.SoftInt, and(wrap(s.read(0)), i32(0xff)))),
  insn('int1', 'F1', '', { ends: true }, (s) => {
    s.put('i32.store', ST.vector, i32(1));
    s.put('i32.store', ST.errorCode, i32(0));
    s.put('i32.store', ST.segmentFault, i32(0));
    s.put('i32.store', ST.debugStatus, i32(0));
    s.exit(Exit.Exception);
  }),
  insn('into', 'CE i64', '', { ends: true, reads: 'o' }, (s) => {
    s.f.if(s.of(), () => s.exit(Exit.SoftInt, i32(4)));
    s.jump(s.nextRip());
  }),
];
