// SPDX-License-Identifier: MIT
// x87 control instructions: control and status words, environment, whole state (Intel SDM volume 1, sections 8.1.10 and 8.3.12).

import { ST } from '../cpu/layout.ts';
import {
  add,
  and,
  eq,
  extendU,
  i32,
  i64,
  load,
  ltU,
  mul,
  or,
  select,
  shl,
  shrU,
  wrap,
  type Expr,
} from '../wasm/expr.ts';
import { exponentMask, Fsw } from './float80/registers.ts';
import type { Kernel } from './kernel.ts';
import type { Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';
import { updateSummary, waitCheck, x87Check } from './x87-check.ts';

const memoryOptions = { ownMemory: true, faults: true } as const;
const registerOptions = { faults: true } as const;

/** The status word as software sees it: with TOP in bits 11-13. */
const statusWord = (s: Stage): Expr => or(s.get('i32.load', ST.fsw), shl(s.get('i32.load', ST.ftop), i32(11)));

/** Bits of the control word that can be changed; bit 6 always reads as 1. */
const controlBits = 0x1f3f;
const setControlWord = (s: Stage, value: Expr): void =>
  s.put('i32.store', ST.fcw, or(and(value, i32(controlBits)), i32(0x40)));

function setStatusWord(s: Stage, value: Expr): void {
  const v = s.let(value);
  s.put('i32.store', ST.ftop, and(shrU(v, i32(11)), i32(7)));
  s.put('i32.store', ST.fsw, and(v, i32(0x477f)));
}

/** (state) -> tag word: two bits per physical register, 0 valid, 1 zero, 2 special, 3 empty. */
const tagWord: Kernel = {
  name: 'x87.tagWord',
  params: ['i32'],
  results: ['i32'],
  build: (f) => {
    const s = f.param(0);
    const word = f.local('i32');
    const i = f.local('i32');
    const tag = f.local('i32');
    f.set(word, i32(0));
    f.set(i, i32(0));
    f.loop((again) => {
      const at = f.let(add(s, shl(i, i32(4))));
      const m = f.let(load('i64.load', at, ST.fpr));
      const e = f.let(and(load('i32.load16_u', at, ST.fpr + 8), i32(exponentMask)));
      const normal = and(ltU(add(e, i32(-1)), i32(0x7ffe)), wrap(shrU(m, i64(63))));
      const zero = eq(or(m, extendU(e)), i64(0));
      f.set(tag, select(normal, i32(0), select(zero, i32(1), i32(2))));
      f.if(and(shrU(load('i32.load', s, ST.ftag), i), i32(1)), () => f.set(tag, i32(3)));
      f.set(word, or(word, shl(tag, shl(i, i32(1)))));
      f.increment(i, i32(1));
      f.brIf(again, ltU(i, i32(8)));
    });
    f.return(word);
  },
};

/** (state, tag word): registers tagged 3 become empty, the others full; their kind is found anew when asked for. */
const setTagWord: Kernel = {
  name: 'x87.setTagWord',
  params: ['i32', 'i32'],
  results: [],
  build: (f) => {
    const [s, word] = [f.param(0), f.param(1)];
    const i = f.local('i32');
    const empty = f.local('i32');
    f.set(empty, i32(0));
    f.set(i, i32(0));
    f.loop((again) => {
      f.set(empty, or(empty, shl(eq(and(shrU(word, shl(i, i32(1))), i32(3)), i32(3)), i)));
      f.increment(i, i32(1));
      f.brIf(again, ltU(i, i32(8)));
    });
    f.store('i32.store', s, empty, ST.ftag);
  },
};

/** Environment: seven fields of two or four bytes by operand size (protected-mode formats, also used in 64-bit mode). */
const Environment = { control: 0, status: 1, tags: 2, instruction: 3, opcode: 4, data: 5, fields: 7 } as const;
const fieldBytes = (s: Stage): number => (s.size === 16 ? 2 : 4);
const environmentBytes = (s: Stage): number => Environment.fields * fieldBytes(s);
/** Memory access as far as the segment is checked at once: the environment, not the registers behind it. */
const environmentAccess = (write: boolean) =>
  ({ bytes: (size: number) => Environment.fields * (size === 16 ? 2 : 4), write }) as const;
const fieldAddress = (s: Stage, at: Expr, field: number): Expr => s.let(add(at, i64(field * fieldBytes(s))));

/**
 * Last-instruction pointers are not recorded as instructions execute: they read as what FLDENV or FXRSTOR left, else zero. Selectors are zero, as on processors
 * that deprecate them (CPUID leaf 7 EBX bit 13).
 */
function storeEnvironment(s: Stage, at: Expr): void {
  const put = (field: number, value: Expr, reservedOnes: boolean) => {
    if (s.size === 16) s.store(16, fieldAddress(s, at, field), s.let(and(value, i32(0xffff))));
    else s.store(32, fieldAddress(s, at, field), s.let(reservedOnes ? or(value, i32(-0x10000)) : value));
  };
  put(Environment.control, s.get('i32.load', ST.fcw), true);
  put(Environment.status, statusWord(s), true);
  put(Environment.tags, s.callValue(tagWord, s.base), true);
  put(Environment.instruction, s.get('i32.load', ST.fip), false);
  put(Environment.opcode, s.size === 16 ? i32(0) : shl(s.get('i32.load', ST.fopcode), i32(16)), false);
  put(Environment.data, s.get('i32.load', ST.fdp), false);
  put(Environment.fields - 1, i32(0), true);
}

/** Reads all fields, then sets them: nothing may fault in between. */
function loadEnvironment(s: Stage, at: Expr): void {
  const width = s.size === 16 ? 16 : 32;
  const read = (field: number) => s.load(width, fieldAddress(s, at, field));
  const control = read(Environment.control);
  const status = read(Environment.status);
  const tags = read(Environment.tags);
  const instruction = read(Environment.instruction);
  const opcode = read(Environment.opcode);
  const data = read(Environment.data);
  setControlWord(s, control);
  setStatusWord(s, status);
  updateSummary(s);
  s.call(setTagWord, s.base, tags);
  s.put('i64.store', ST.fip, extendU(instruction));
  s.put('i64.store', ST.fdp, extendU(data));
  s.put('i32.store', ST.fopcode, s.size === 16 ? i32(0) : and(shrU(opcode, i32(16)), i32(0x7ff)));
}

/** Runs `body` for ST(0) to ST(7) of an image behind the environment: address of the image's ten bytes and state-block address of the register. */
function eachRegister(s: Stage, at: Expr, body: (image: Expr, register: Expr) => void): void {
  const i = s.f.local('i32');
  s.f.set(i, i32(0));
  s.f.loop((again) => {
    const register = s.let(add(s.base, shl(and(add(s.get('i32.load', ST.ftop), i), i32(7)), i32(4))));
    body(s.let(add(at, extendU(add(mul(i, i32(10)), i32(environmentBytes(s)))))), register);
    s.f.increment(i, i32(1));
    s.f.brIf(again, ltU(i, i32(8)));
  });
}

function initialize(s: Stage): void {
  s.put('i32.store', ST.fcw, i32(0x37f));
  s.put('i32.store', ST.fsw, i32(0));
  s.put('i32.store', ST.ftop, i32(0));
  s.put('i32.store', ST.ftag, i32(0xff));
  s.put('i64.store', ST.fip, i64(0));
  s.put('i64.store', ST.fdp, i64(0));
  s.put('i32.store', ST.fopcode, i32(0));
}

/** An instruction that waits for nothing but the coprocessor's presence. */
function direct(name: string, encodings: string | string[], body: (s: Stage) => void): Instruction {
  return insn(name, encodings, '', registerOptions, (s) => {
    x87Check(s, false);
    body(s);
  });
}

function turn(name: string, encoding: string, by: number): Instruction {
  return insn(name, encoding, '', registerOptions, (s) => {
    x87Check(s);
    s.put('i32.store', ST.ftop, and(add(s.get('i32.load', ST.ftop), i32(by)), i32(7)));
    s.put('i32.store', ST.fsw, and(s.get('i32.load', ST.fsw), i32(~Fsw.c1)));
  });
}

function free(name: string, encoding: string, pops: boolean): Instruction {
  return insn(name, encoding, 'w', registerOptions, (s) => {
    x87Check(s);
    const register = and(add(s.get('i32.load', ST.ftop), s.imm(0)), i32(7));
    let tags = or(s.get('i32.load', ST.ftag), shl(i32(1), register));
    const top = s.let(s.get('i32.load', ST.ftop));
    if (pops) tags = or(tags, shl(i32(1), top));
    s.put('i32.store', ST.ftag, tags);
    s.put('i32.store', ST.fsw, and(s.get('i32.load', ST.fsw), i32(~Fsw.c1)));
    if (pops) s.put('i32.store', ST.ftop, and(add(top, i32(1)), i32(7)));
  });
}

export const x87ControlInstructions: readonly Instruction[] = [
  insn('fwait', '9B', '', registerOptions, waitCheck),
  insn('fnop', 'D9D0', '', registerOptions, (s) => x87Check(s)),
  // FENI, FDISI and FSETPM of the 8087 and 80287 do nothing.
  direct('feni', ['DBE0', 'DBE1', 'DBE4'], () => undefined),
  direct('fninit', 'DBE3', initialize),
  direct('fnclex', 'DBE2', (s) => s.put('i32.store', ST.fsw, and(s.get('i32.load', ST.fsw), i32(0x7f00)))),
  direct('fnstsw.ax', 'DFE0', (s) => s.setGpr(0, 16, s.let(statusWord(s)))),
  turn('fincstp', 'D9F7', 1),
  turn('fdecstp', 'D9F6', 7),
  free('ffree', 'DDC0+ T', false),
  free('ffreep', 'DFC0+ T', true),
  insn('fnstsw', 'DD/7 Mw', 'w', memoryOptions, (s) => {
    x87Check(s, false);
    s.store(16, s.address(0), s.let(statusWord(s)));
  }),
  insn('fnstcw', 'D9/7 Mw', 'w', memoryOptions, (s) => {
    x87Check(s, false);
    s.store(16, s.address(0), s.let(s.get('i32.load', ST.fcw)));
  }),
  insn('fldcw', 'D9/5 Mw', 'r', memoryOptions, (s) => {
    x87Check(s);
    setControlWord(s, s.load(16, s.address(0)));
    updateSummary(s);
  }),
  insn('fnstenv', 'D9/6 Mn #v', '-', { ...memoryOptions, memory: environmentAccess(true) }, (s) => {
    x87Check(s, false);
    const at = s.let(s.address(0));
    s.probe(at, environmentBytes(s), true);
    storeEnvironment(s, at);
    s.put('i32.store', ST.fcw, or(s.get('i32.load', ST.fcw), i32(Fsw.exceptions)));
    updateSummary(s);
  }),
  insn('fldenv', 'D9/4 Mn #v', '-', { ...memoryOptions, memory: environmentAccess(false) }, (s) => {
    x87Check(s);
    const at = s.let(s.address(0));
    s.probe(at, environmentBytes(s), false);
    loadEnvironment(s, at);
  }),
  insn('fnsave', 'DD/6 Mn #v', '-', { ...memoryOptions, memory: environmentAccess(true) }, (s) => {
    x87Check(s, false);
    const at = s.let(s.address(0));
    s.probe(at, environmentBytes(s) + 80, true);
    storeEnvironment(s, at);
    eachRegister(s, at, (image, register) => {
      s.store(64, image, s.let(load('i64.load', register, ST.fpr)));
      s.store(16, s.let(add(image, i64(8))), s.let(load('i32.load16_u', register, ST.fpr + 8)));
    });
    initialize(s);
  }),
  insn('frstor', 'DD/4 Mn #v', '-', { ...memoryOptions, memory: environmentAccess(false) }, (s) => {
    x87Check(s);
    const at = s.let(s.address(0));
    s.probe(at, environmentBytes(s) + 80, false);
    loadEnvironment(s, at);
    eachRegister(s, at, (image, register) => {
      s.f.store('i64.store', register, s.load(64, image), ST.fpr);
      s.f.store('i32.store16', register, s.load(16, s.let(add(image, i64(8)))), ST.fpr + 8);
    });
  }),
];
