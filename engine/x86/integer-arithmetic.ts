// SPDX-License-Identifier: MIT
// Two-operand and one-operand integer arithmetic and logic (Intel SDM volume 2: ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NEG, NOT, XADD, CMPXCHG).

import { add, and, eq, konst, ne, op, or, select, sub, wrap, xor, type Expr } from '../wasm/expr.ts';
import { setAddFlags, setLogicFlags, setResultFlags, setSubFlags, signToBit31, widen } from './flags.ts';
import type { Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

/** The eight encodings of the classic two-operand group, from its first opcode and its ModRM.reg number in group 1. */
function groupOne(number: number): string[] {
  const opcode = (low: number) => (number * 8 + low).toString(16).toUpperCase().padStart(2, '0');
  return [
    `${opcode(0)} Eb,Gb`,
    `${opcode(1)} Ev,Gv`,
    `${opcode(2)} Gb,Eb`,
    `${opcode(3)} Gv,Ev`,
    `${opcode(4)} AL,Ib`,
    `${opcode(5)} rAX,Iz`,
    `80/${number} Eb,Ib`,
    `81/${number} Ev,Iz`,
    `82/${number} Eb,Ib i64`,
    `83/${number} Ev,Ibs`,
  ];
}

const typeOf = (s: Stage) => (s.size === 64 ? ('i64' as const) : ('i32' as const));
const one = (s: Stage): Expr => konst(typeOf(s), 1);

function logic(name: string, number: number, compute: (a: Expr, b: Expr) => Expr): Instruction {
  return insn(name, groupOne(number), 'xr', { writes: 'oszapc', undefinedFlags: 'a', hot: true, lock: true }, (s) => {
    const result = s.let(compute(s.read(0), s.read(1)));
    s.write(0, result);
    setLogicFlags(s, s.size, result);
  });
}

function compareExchange(s: Stage): void {
  const accumulator = s.gpr(0, s.size);
  const destination = s.read(0);
  const source = s.read(1);
  const equal = s.let(eq(accumulator, destination));
  // Memory is written in either case, as the processor does; a 32-bit register destination that differs keeps its upper half.
  if (s.isMemory(0)) s.write(0, select(equal, source, destination));
  else s.f.if(equal, () => s.write(0, source));
  s.f.if(op('i32.eqz', equal), () => s.setGpr(0, s.size, destination));
  setSubFlags(s, s.size, accumulator, destination, s.let(sub(accumulator, destination)));
}

export const arithmeticInstructions: readonly Instruction[] = [
  insn('add', groupOne(0), 'xr', { writes: 'oszapc', hot: true, lock: true }, (s) => {
    const a = s.read(0);
    const b = s.read(1);
    const result = s.let(add(a, b));
    s.write(0, result);
    setAddFlags(s, s.size, a, b, result);
  }),
  insn('adc', groupOne(2), 'xr', { writes: 'oszapc', reads: 'c', hot: true, lock: true }, (s) => {
    const a = s.read(0);
    const b = s.read(1);
    const carry = s.let(s.cf());
    const result = s.let(add(add(a, b), widen(s.size, carry)));
    s.write(0, result);
    setAddFlags(s, s.size, a, b, result, carry);
  }),
  insn('sbb', groupOne(3), 'xr', { writes: 'oszapc', reads: 'c', hot: true, lock: true }, (s) => {
    const a = s.read(0);
    const b = s.read(1);
    const borrow = s.let(s.cf());
    const result = s.let(sub(sub(a, b), widen(s.size, borrow)));
    s.write(0, result);
    setSubFlags(s, s.size, a, b, result, borrow);
  }),
  insn('sub', groupOne(5), 'xr', { writes: 'oszapc', hot: true, lock: true }, (s) => {
    const a = s.read(0);
    const b = s.read(1);
    const result = s.let(sub(a, b));
    s.write(0, result);
    setSubFlags(s, s.size, a, b, result);
  }),
  insn('cmp', groupOne(7), 'rr', { writes: 'oszapc', hot: true }, (s) => {
    const a = s.read(0);
    const b = s.read(1);
    setSubFlags(s, s.size, a, b, s.forFlags(sub(a, b)));
  }),
  logic('or', 1, or),
  logic('and', 4, and),
  logic('xor', 6, xor),
  insn(
    'test',
    ['84 Eb,Gb', '85 Ev,Gv', 'A8 AL,Ib', 'A9 rAX,Iz', 'F6/0 Eb,Ib', 'F7/0 Ev,Iz', 'F6/1 Eb,Ib', 'F7/1 Ev,Iz'],
    'rr',
    { writes: 'oszapc', undefinedFlags: 'a', hot: true },
    (s) => setLogicFlags(s, s.size, s.let(and(s.read(0), s.read(1)))),
  ),
  insn('inc', ['FE/0 Eb', 'FF/0 Ev', '40+ Zv i64'], 'x', { writes: 'oszap', hot: true, lock: true }, (s) => {
    const a = s.read(0);
    const result = s.let(add(a, one(s)));
    s.write(0, result);
    setResultFlags(s, s.size, result);
    const before = s.keepsFlagOperands ? sub(result, one(s)) : a;
    s.setOfBit31(signToBit31(s.size, and(xor(before, result), result)));
    s.setAfBit4(wrap(xor(xor(before, one(s)), result)));
  }),
  insn('dec', ['FE/1 Eb', 'FF/1 Ev', '48+ Zv i64'], 'x', { writes: 'oszap', hot: true, lock: true }, (s) => {
    const a = s.read(0);
    const result = s.let(sub(a, one(s)));
    s.write(0, result);
    setResultFlags(s, s.size, result);
    const before = s.keepsFlagOperands ? add(result, one(s)) : a;
    s.setOfBit31(signToBit31(s.size, and(before, xor(before, result))));
    s.setAfBit4(wrap(xor(xor(before, one(s)), result)));
  }),
  insn('neg', ['F6/3 Eb', 'F7/3 Ev'], 'x', { writes: 'oszapc', hot: true, lock: true }, (s) => {
    const a = s.read(0);
    const zero = konst(typeOf(s), 0);
    const result = s.let(sub(zero, a));
    s.write(0, result);
    setResultFlags(s, s.size, result);
    s.setCf(ne(a, zero));
    s.setOfBit31(signToBit31(s.size, and(a, result)));
    s.setAfBit4(wrap(xor(a, result)));
  }),
  insn('not', ['F6/2 Eb', 'F7/2 Ev'], 'x', { hot: true, lock: true }, (s) => {
    s.write(0, xor(s.read(0), konst(typeOf(s), -1)));
  }),
  insn('xadd', ['0F C0 Eb,Gb', '0F C1 Ev,Gv'], 'xx', { writes: 'oszapc', plainFlags: true, lock: true }, (s) => {
    const a = s.read(0);
    const b = s.read(1);
    const result = s.let(add(a, b));
    // The register first: when both operands are the same register the sum stays.
    s.write(1, a);
    s.write(0, result);
    setAddFlags(s, s.size, a, b, result);
  }),
  insn('cmpxchg', ['0F B0 Eb,Gb', '0F B1 Ev,Gv'], 'xr', { writes: 'oszapc', lock: true }, compareExchange),
];
