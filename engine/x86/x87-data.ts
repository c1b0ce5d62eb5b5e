// SPDX-License-Identifier: MIT
// x87 loads, stores, constants, conditional moves and exchange (Intel SDM volume 1, section 8.3.2).

import { ST } from '../cpu/layout.ts';
import { add, and, eq, extendU, i32, i64, shrU, wrap, type Expr } from '../wasm/expr.ts';
import { Rounding, Work } from './float80/registers.ts';
import {
  conditionalMove,
  exchange,
  pushBits,
  pushDecimal,
  pushFloat,
  pushInteger,
  pushRegister,
  storeDecimal,
  storeDone,
  storeExtended,
  storeFloat,
  storeInteger,
  storeRegister,
  storeRegisterQuietly,
} from './float80/kernels.ts';
import { signExtend } from './flags.ts';
import type { Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';
import { x87Check } from './x87-check.ts';

const memoryOptions = { ownMemory: true, faults: true } as const;
const registerOptions = { faults: true } as const;

/** Reads the two parts of an 80-bit memory operand. */
function loadExtended(s: Stage): { low: Expr; high: Expr } {
  const at = s.let(s.address(0));
  s.probe(at, 10, false);
  return { low: s.load(64, at), high: s.load(16, s.let(add(at, i64(8)))) };
}

/** A store's memory faults come before anything that the conversion reports, even when an unmasked exception then keeps the value back. */
function probeTarget(s: Stage, bytes: number): void {
  s.probe(s.let(s.address(0)), bytes, true);
}

/** Stores `low` and the 16 bits in `Work.exponent` when no unmasked exception forbids it, then finishes the instruction. */
function storeExtendedParts(s: Stage, low: Expr): void {
  const at = s.let(s.address(0));
  s.f.if(s.get('i32.load', Work.store), () => {
    s.probe(at, 10, true);
    const high = s.let(s.get('i32.load16_u', Work.exponent));
    s.store(64, at, low);
    s.store(16, s.let(add(at, i64(8))), high);
  });
  s.call(storeDone, s.base, i32(1));
}

/** The same for values of the operand size. */
function storeValue(s: Stage, value: Expr, pops: number): void {
  const at = s.let(s.address(0));
  const narrow = s.size === 64 ? value : s.let(s.size === 16 ? and(wrap(value), i32(0xffff)) : wrap(value));
  s.f.if(s.get('i32.load', Work.store), () => s.store(s.size, at, narrow));
  s.call(storeDone, s.base, i32(pops));
}

function storeFloatInstruction(name: string, reg: number, pops: number): Instruction {
  return insn(name, [`D9/${reg} Md`, `DD/${reg} Mq`], 'w', memoryOptions, (s) => {
    x87Check(s);
    probeTarget(s, s.size / 8);
    storeValue(s, s.callValue(storeFloat, s.base, i32(s.size === 64 ? 1 : 0)), pops);
  });
}

function storeIntegerInstruction(name: string, encodings: string[], truncate: boolean, pops: number): Instruction {
  return insn(name, encodings, 'w', memoryOptions, (s) => {
    x87Check(s);
    probeTarget(s, s.size / 8);
    storeValue(s, s.callValue(storeInteger, s.base, i32(s.size), i32(truncate ? 1 : 0)), pops);
  });
}

function storeToRegister(name: string, encodings: string | string[], pops: number): Instruction {
  return insn(name, encodings, 'w', registerOptions, (s) => {
    x87Check(s);
    s.call(storeRegister, s.base, s.imm(0), i32(pops));
  });
}

/** Pushes a constant of which the register holds 64 bits and the chip more: rounded as the control word says. `below` is the value cut off, `nearest` rounded. */
function constant(
  name: string,
  encoding: string,
  exponent: number,
  below: bigint,
  nearestIsAbove: boolean,
): Instruction {
  return insn(name, encoding, '', registerOptions, (s) => {
    x87Check(s);
    const control = s.let(and(shrU(s.get('i32.load', ST.fcw), i32(10)), i32(3)));
    const up = nearestIsAbove ? eq(and(control, i32(1)), i32(0)) : eq(control, i32(Rounding.up));
    s.call(pushBits, s.base, add(i64(below), extendU(up)), i32(exponent));
  });
}

/** 0 and 1 are exact. */
function exactConstant(name: string, encoding: string, exponent: number, significand: bigint): Instruction {
  return insn(name, encoding, '', registerOptions, (s) => {
    x87Check(s);
    s.call(pushBits, s.base, i64(significand), i32(exponent));
  });
}

function move(name: string, encoding: string, condition: number, reads: string): Instruction {
  return insn(name, encoding, 'r', { ...registerOptions, reads }, (s) => {
    x87Check(s);
    s.call(conditionalMove, s.base, s.imm(0), s.condition(condition));
  });
}

export const x87DataInstructions: readonly Instruction[] = [
  insn('fld.memory', ['D9/0 Md', 'DD/0 Mq'], 'r', memoryOptions, (s) => {
    x87Check(s);
    const bits = s.load(s.size as 32 | 64, s.address(0));
    s.call(pushFloat, s.base, extendU(bits), i32(s.size === 64 ? 1 : 0));
  }),
  insn('fld.extended', 'DB/5 Mt', 'r', memoryOptions, (s) => {
    x87Check(s);
    const { low, high } = loadExtended(s);
    s.call(pushBits, s.base, low, high);
  }),
  insn('fld.register', 'D9C0+ T', 'r', registerOptions, (s) => {
    x87Check(s);
    s.call(pushRegister, s.base, s.imm(0));
  }),
  insn('fild', ['DB/0 Md', 'DF/0 Mw', 'DF/5 Mq'], 'r', memoryOptions, (s) => {
    x87Check(s);
    const value = s.load(s.size as 16 | 32 | 64, s.address(0));
    s.call(pushInteger, s.base, signExtend(s.size, value));
  }),
  insn('fbld', 'DF/4 Mt', 'r', memoryOptions, (s) => {
    x87Check(s);
    const { low, high } = loadExtended(s);
    s.call(pushDecimal, s.base, low, high);
  }),
  storeFloatInstruction('fst.memory', 2, 0),
  storeFloatInstruction('fstp.memory', 3, 1),
  insn('fstp.extended', 'DB/7 Mt', 'w', memoryOptions, (s) => {
    x87Check(s);
    probeTarget(s, 10);
    storeExtendedParts(s, s.callValue(storeExtended, s.base));
  }),
  insn('fbstp', 'DF/6 Mt', 'w', memoryOptions, (s) => {
    x87Check(s);
    probeTarget(s, 10);
    storeExtendedParts(s, s.callValue(storeDecimal, s.base));
  }),
  storeIntegerInstruction('fist', ['DB/2 Md', 'DF/2 Mw'], false, 0),
  storeIntegerInstruction('fistp', ['DB/3 Md', 'DF/3 Mw', 'DF/7 Mq'], false, 1),
  storeIntegerInstruction('fisttp', ['DB/1 Md', 'DF/1 Mw', 'DD/1 Mq'], true, 1),
  storeToRegister('fst.register', 'DDD0+ T', 0),
  // DF D0 and DF D8 are undocumented twins, D9 D8 nearly one.
  storeToRegister('fstp.register', ['DDD8+ T', 'DFD0+ T', 'DFD8+ T'], 1),
  insn('fstp.quiet', 'D9D8+ T', 'w', registerOptions, (s) => {
    x87Check(s);
    s.call(storeRegisterQuietly, s.base, s.imm(0));
  }),
  insn('fxch', ['D9C8+ T', 'DDC8+ T', 'DFC8+ T'], 'x', registerOptions, (s) => {
    x87Check(s);
    s.call(exchange, s.base, s.imm(0));
  }),
  exactConstant('fld1', 'D9E8', 0x3fff, 0x8000000000000000n),
  constant('fldl2t', 'D9E9', 0x4000, 0xd49a784bcd1b8afen, false),
  constant('fldl2e', 'D9EA', 0x3fff, 0xb8aa3b295c17f0bbn, true),
  constant('fldpi', 'D9EB', 0x4000, 0xc90fdaa22168c234n, true),
  constant('fldlg2', 'D9EC', 0x3ffd, 0x9a209a84fbcff798n, true),
  constant('fldln2', 'D9ED', 0x3ffe, 0xb17217f7d1cf79abn, true),
  exactConstant('fldz', 'D9EE', 0, 0n),
  move('fcmovb', 'DAC0+ T', 2, 'c'),
  move('fcmove', 'DAC8+ T', 4, 'z'),
  move('fcmovbe', 'DAD0+ T', 6, 'cz'),
  move('fcmovu', 'DAD8+ T', 10, 'p'),
  move('fcmovnb', 'DBC0+ T', 3, 'c'),
  move('fcmovne', 'DBC8+ T', 5, 'z'),
  move('fcmovnbe', 'DBD0+ T', 7, 'cz'),
  move('fcmovnu', 'DBD8+ T', 11, 'p'),
];
