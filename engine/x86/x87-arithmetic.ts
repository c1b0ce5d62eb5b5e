// SPDX-License-Identifier: MIT
// x87 arithmetic, comparison and sign instructions (Intel SDM volume 1, sections 8.3.3 to 8.3.9).

import { and, extendU, i32, i64, shrU, type Expr } from '../wasm/expr.ts';
import {
  binary,
  BinaryOp,
  changeSign,
  compare,
  compareToFlags,
  examine,
  extract,
  memoryOperand,
  operandFloat,
  operandInteger,
  remainder,
  roundTop,
  scale,
  squareRoot,
} from './float80/kernels.ts';
import { setFlagBits, signExtend } from './flags.ts';
import type { Kernel } from './kernel.ts';
import type { Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';
import { x87Check } from './x87-check.ts';

const memoryOptions = { ownMemory: true, faults: true } as const;
const registerOptions = { faults: true } as const;

/** Makes a single or double from memory the operand of the following kernel. */
function prepareFloat(s: Stage): void {
  const bits = s.load(s.size as 32 | 64, s.address(0));
  s.call(operandFloat, s.base, extendU(bits), i32(s.size === 64 ? 1 : 0));
}

function prepareInteger(s: Stage): void {
  const value = s.load(s.size as 16 | 32, s.address(0));
  s.call(operandInteger, s.base, signExtend(s.size, value));
}

/** The six forms of an operation, whose number is the reg field of its encodings. In the forms with a register destination SUB and SUBR are the other way round by name. */
function arithmetic(name: string, integerName: string, operation: number): Instruction[] {
  const other = i32(memoryOperand);
  const code = (0xc0 + 8 * operation).toString(16).toUpperCase();
  const fromMemory = (prepare: (s: Stage) => void) => (s: Stage) => {
    x87Check(s);
    prepare(s);
    s.call(binary, s.base, i32(operation), other, i32(0), i32(0));
  };
  const registers = (toTop: boolean, pops: number) => (s: Stage) => {
    x87Check(s);
    const index = s.imm(0);
    s.call(binary, s.base, i32(operation), index, toTop ? i32(0) : index, i32(pops));
  };
  return [
    insn(`${name}.memory`, [`D8/${operation} Md`, `DC/${operation} Mq`], 'r', memoryOptions, fromMemory(prepareFloat)),
    insn(integerName, [`DA/${operation} Md`, `DE/${operation} Mw`], 'r', memoryOptions, fromMemory(prepareInteger)),
    insn(`${name}.top`, `D8${code}+ T`, 'r', registerOptions, registers(true, 0)),
    insn(`${name}.register`, `DC${code}+ T`, 'x', registerOptions, registers(false, 0)),
    insn(`${name}.pop`, `DE${code}+ T`, 'x', registerOptions, registers(false, 1)),
  ];
}

/** An instruction without operands that is one kernel call. */
export function plain(name: string, encoding: string, kernel: Kernel, ...args: Expr[]): Instruction {
  return insn(name, encoding, '', registerOptions, (s) => {
    x87Check(s);
    s.call(kernel, s.base, ...args);
  });
}

function compareStack(name: string, encodings: string | string[], quiet: boolean, pops: number): Instruction {
  return insn(name, encodings, 'r', registerOptions, (s) => {
    x87Check(s);
    s.call(compare, s.base, i32(quiet ? 1 : 0), s.operands ? s.imm(0) : i32(1), i32(pops));
  });
}

function compareMemory(name: string, encodings: string[], prepare: (s: Stage) => void, pops: number): Instruction {
  return insn(name, encodings, 'r', memoryOptions, (s) => {
    x87Check(s);
    prepare(s);
    s.call(compare, s.base, i32(0), i32(memoryOperand), i32(pops));
  });
}

function compareFlags(name: string, encoding: string, quiet: boolean, pops: number): Instruction {
  return insn(name, encoding, 'r', { ...registerOptions, writes: 'oszapc' }, (s) => {
    x87Check(s);
    const flags = s.callValue(compareToFlags, s.base, i32(quiet ? 1 : 0), s.imm(0), i32(pops));
    const bit = (n: number) => and(shrU(flags, i32(n)), i32(1));
    setFlagBits(s, { cf: bit(0), zf: bit(6), pf: bit(2) });
  });
}

export const x87ArithmeticInstructions: readonly Instruction[] = [
  ...arithmetic('fadd', 'fiadd', BinaryOp.add),
  ...arithmetic('fmul', 'fimul', BinaryOp.multiply),
  ...arithmetic('fsub', 'fisub', BinaryOp.subtract),
  ...arithmetic('fsubr', 'fisubr', BinaryOp.subtractReversed),
  ...arithmetic('fdiv', 'fidiv', BinaryOp.divide),
  ...arithmetic('fdivr', 'fidivr', BinaryOp.divideReversed),
  plain('fsqrt', 'D9FA', squareRoot),
  plain('frndint', 'D9FC', roundTop),
  plain('fscale', 'D9FD', scale),
  plain('fxtract', 'D9F4', extract),
  plain('fprem', 'D9F8', remainder, i32(0)),
  plain('fprem1', 'D9F5', remainder, i32(1)),
  plain('fchs', 'D9E0', changeSign, i32(0), i32(0x8000)),
  plain('fabs', 'D9E1', changeSign, i32(0x8000), i32(0)),
  plain('fxam', 'D9E5', examine),
  insn('ftst', 'D9E4', '', registerOptions, (s) => {
    x87Check(s);
    s.call(operandInteger, s.base, i64(0));
    s.call(compare, s.base, i32(0), i32(memoryOperand), i32(0));
  }),
  compareMemory('fcom.memory', ['D8/2 Md', 'DC/2 Mq'], prepareFloat, 0),
  compareMemory('fcomp.memory', ['D8/3 Md', 'DC/3 Mq'], prepareFloat, 1),
  compareMemory('ficom', ['DA/2 Md', 'DE/2 Mw'], prepareInteger, 0),
  compareMemory('ficomp', ['DA/3 Md', 'DE/3 Mw'], prepareInteger, 1),
  // DC D0, DC D8 and DE D0 are undocumented twins.
  compareStack('fcom', ['D8D0+ T', 'DCD0+ T'], false, 0),
  compareStack('fcomp', ['D8D8+ T', 'DCD8+ T', 'DED0+ T'], false, 1),
  compareStack('fcompp', 'DED9', false, 2),
  compareStack('fucom', 'DDE0+ T', true, 0),
  compareStack('fucomp', 'DDE8+ T', true, 1),
  compareStack('fucompp', 'DAE9', true, 2),
  compareFlags('fcomi', 'DBF0+ T', false, 0),
  compareFlags('fcomip', 'DFF0+ T', false, 1),
  compareFlags('fucomi', 'DBE8+ T', true, 0),
  compareFlags('fucomip', 'DFE8+ T', true, 1),
];
