// SPDX-License-Identifier: MIT
// Placeholder until x87.ts lands: control instructions only.
import { ST } from '../cpu/layout.ts';
import { i32 } from '../wasm/expr.ts';
import { insn } from './types.ts';
export const provisional = [
  insn('fninit', 'DBE3', '', {}, (s) => { s.put('i32.store', ST.fcw, i32(0x37f)); s.put('i32.store', ST.fsw, i32(0)); s.put('i32.store', ST.ftag, i32(0xff)); s.put('i32.store', ST.ftop, i32(0)); }),
  insn('fnclex', 'DBE2', '', {}, (s) => s.put('i32.store', ST.fsw, i32(0))),
  insn('fwait', '9B', '', {}, () => undefined),
  insn('fnstsw', 'DD/7 Mw', 'w', {}, (s) => s.write(0, s.get('i32.load', ST.fsw))),
  insn('fnstsw-ax', 'DFE0', '', {}, (s) => s.setGpr(0, 16, s.get('i32.load', ST.fsw))),
  insn('fnstcw', 'D9/7 Mw', 'w', {}, (s) => s.write(0, s.get('i32.load', ST.fcw))),
  insn('fldcw', 'D9/5 Mw', 'r', {}, (s) => s.put('i32.store', ST.fcw, s.read(0))),
];
