// SPDX-License-Identifier: MIT
// MMX and SSE state: EMMS, LDMXCSR, STMXCSR, FXSAVE, FXRSTOR; cache hints and fences (Intel SDM volume 1, section 10.5; volume 2).

import { add, and, gtU, i32, i64, load, ltU, op, or, select, shl, shrS, shrU, xor, type Expr } from '../wasm/expr.ts';
import { ST } from '../cpu/layout.ts';
import { checkAligned, mmxCheck, simdCheck } from './simd-operands.ts';
import type { Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

/** Writable bits of MXCSR, which FXSAVE reports as MXCSR_MASK. */
const mxcsrMask = 0xffff;

/** Byte offsets in the FXSAVE area. */
const Fx = {
  fcw: 0,
  fsw: 2,
  ftw: 4,
  fop: 6,
  fip: 8,
  fcs: 12,
  fdp: 16,
  fds: 20,
  mxcsr: 24,
  mask: 28,
  st: 32,
  xmm: 160,
  bytes: 512,
} as const;

/** FXSAVE and FXRSTOR: #UD for CR0.EM, #NM for CR0.TS; they neither report nor need pending x87 exceptions, nor CR4.OSFXSR. */
function fxCheck(s: Stage): void {
  const cr0 = s.let(and(s.get('i32.load', ST.cr0), i32(0xc)));
  s.f.if(cr0, () => {
    s.f.if(and(cr0, i32(4)), () => s.fault(6));
    s.fault(7);
  });
}

/** Runs `body` with `index` = 0 .. `count` - 1 (i32): the register slots are alike, unrolled they would fill the module. */
function repeat(s: Stage, count: number, body: (index: Expr) => void): void {
  const index = s.f.local('i32');
  s.f.set(index, i32(0));
  s.f.loop((again) => {
    body(index);
    s.f.increment(index, i32(1));
    s.f.brIf(again, ltU(index, i32(count)));
  });
}

/** Linear address of 16-byte slot `index` behind `first` (i64). */
const slot = (s: Stage, area: Expr, first: number, index: Expr): Expr =>
  s.let(add(area, op('i64.extend_i32_u', add(shl(index, i32(4)), i32(first)))));

/** State-block address of ST(index), i32: physical registers turn with TOP. */
const stackRegister = (s: Stage, index: Expr): Expr =>
  s.let(add(s.base, shl(and(add(s.get('i32.load', ST.ftop), index), i32(7)), i32(4))));

/** State-block address of XMM register `index`, to be used with offset ST.xmm. */
const xmmRegister = (s: Stage, index: Expr): Expr => s.let(add(s.base, shl(index, i32(4))));

/** XMM registers in the area: all sixteen in 64-bit mode, else eight. */
const xmmCount = (s: Stage): number => (s.mode === 64 ? 16 : 8);

/**
 * `wide` (REX.W) keeps 64-bit instruction and data pointers; else they are 32 bits and the selectors, which processors that deprecate them (CPUID leaf 7
 * EBX bit 13) store as zero, follow. The reserved and unused parts of the area are left alone.
 */
function fxsave(wide: boolean): Instruction {
  return {
    name: wide ? 'fxsave64' : 'fxsave',
    encodings: [`NP 0F AE/0 Mn ${wide ? 'o64 w1' : 'w0'}`],
    access: '-',
    ownMemory: true,
    faults: true,
    perMode: true,
    // The segment limit is met where the parts of the area are accessed: behind the check of the alignment.
    memory: { bytes: () => 1, write: true },
    run: (s) => {
      fxCheck(s);
      const area = s.let(s.address(0));
      checkArea(s, area, true);
      s.probe(area, Fx.bytes, true);
      const at = (offset: number): Expr => s.let(add(area, i64(offset)));
      const top = s.get('i32.load', ST.ftop);
      const status = or(and(s.get('i32.load', ST.fsw), i32(0xc7ff)), shl(top, i32(11)));
      const control = and(s.get('i32.load', ST.fcw), i32(0xffff));
      s.store(32, at(Fx.fcw), s.let(or(control, shl(status, i32(16)))));
      // The abridged tag word has a bit per physical register, set when it is not empty.
      const tags = and(xor(s.get('i32.load', ST.ftag), i32(0xff)), i32(0xff));
      s.store(32, at(Fx.ftw), s.let(or(tags, shl(and(s.get('i32.load', ST.fopcode), i32(0x7ff)), i32(16)))));
      const low32 = (field: number): Expr => op('i64.extend_i32_u', s.get('i32.load', field));
      s.store(64, at(Fx.fip), s.let(wide ? s.get('i64.load', ST.fip) : low32(ST.fip)));
      s.store(64, at(Fx.fdp), s.let(wide ? s.get('i64.load', ST.fdp) : low32(ST.fdp)));
      s.store(32, at(Fx.mxcsr), s.let(s.get('i32.load', ST.mxcsr)));
      s.store(32, at(Fx.mask), i32(mxcsrMask));
      repeat(s, 8, (i) => {
        const register = stackRegister(s, i);
        const to = slot(s, area, Fx.st, i);
        s.store(64, to, s.let(load('i64.load', register, ST.fpr)));
        // Bytes 10-15 of each slot are reserved; processors store zeros.
        s.store(64, s.let(add(to, i64(8))), s.let(load('i64.load16_u', register, ST.fpr + 8)));
      });
      repeat(s, xmmCount(s), (i) =>
        s.store(128, slot(s, area, Fx.xmm, i), s.let(load('v128.load', xmmRegister(s, i), ST.xmm))),
      );
    },
  };
}

/** Alignment; a non-canonical address is refused before that, with #SS for one in the stack segment. */
function checkArea(s: Stage, area: Expr, write: boolean): void {
  if (s.mode === 64) {
    const top = add(shrS(area, i64(47)), i64(1));
    s.f.if(gtU(top, i64(1)), () => s.probe(area, 1, write));
  }
  checkAligned(s, area);
}

function fxrstor(wide: boolean): Instruction {
  return {
    name: wide ? 'fxrstor64' : 'fxrstor',
    encodings: [`NP 0F AE/1 Mn ${wide ? 'o64 w1' : 'w0'}`],
    access: '-',
    ownMemory: true,
    faults: true,
    perMode: true,
    memory: { bytes: () => 1, write: false },
    run: (s) => {
      fxCheck(s);
      const area = s.let(s.address(0));
      checkArea(s, area, false);
      s.probe(area, Fx.bytes, false);
      const read = (size: 32 | 64, offset: number): Expr => s.load(size, s.let(add(area, i64(offset))));
      const mxcsr = read(32, Fx.mxcsr);
      s.f.if(and(mxcsr, i32(~mxcsrMask)), () => s.fault(13, i32(0)));
      const controlStatus = read(32, Fx.fcw);
      const tagsOpcode = read(32, Fx.ftw);
      // Reserved bits of the control word read as the processors keep them: bit 6 set, 7 and 13-15 clear.
      s.put('i32.store', ST.fcw, or(and(controlStatus, i32(0x1f3f)), i32(0x40)));
      const status = s.let(shrU(controlStatus, i32(16)));
      // ES and B follow from the exceptions that the control word leaves unmasked.
      const pending = s.let(and(and(status, xor(controlStatus, i32(-1))), i32(0x3f)));
      s.put('i32.store', ST.fsw, or(and(status, i32(0x477f)), select(pending, i32(0x8080), i32(0))));
      s.put('i32.store', ST.ftop, and(shrU(status, i32(11)), i32(7)));
      s.put('i32.store', ST.ftag, and(xor(tagsOpcode, i32(0xff)), i32(0xff)));
      s.put('i32.store', ST.fopcode, and(shrU(tagsOpcode, i32(16)), i32(0x7ff)));
      const pointer = (offset: number): Expr => (wide ? read(64, offset) : op('i64.extend_i32_u', read(32, offset)));
      s.put('i64.store', ST.fip, pointer(Fx.fip));
      s.put('i64.store', ST.fdp, pointer(Fx.fdp));
      s.put('i32.store', ST.mxcsr, mxcsr);
      repeat(s, 8, (i) => {
        const register = stackRegister(s, i);
        const from = slot(s, area, Fx.st, i);
        s.f.store('i64.store', register, s.load(64, from), ST.fpr);
        s.f.store('i32.store16', register, s.load(16, s.let(add(from, i64(8)))), ST.fpr + 8);
      });
      repeat(s, xmmCount(s), (i) =>
        s.f.store('v128.store', xmmRegister(s, i), s.load(128, slot(s, area, Fx.xmm, i)), ST.xmm),
      );
    },
  };
}

const nothing = (): void => undefined;

export const stateInstructions: readonly Instruction[] = [
  insn('emms', 'NP 0F 77', '', { faults: true }, (s) => {
    mmxCheck(s);
    s.put('i32.store', ST.ftop, i32(0));
    s.put('i32.store', ST.ftag, i32(0xff));
  }),
  insn('ldmxcsr', 'NP 0F AE/2 Md', 'r', { faults: true }, (s) => {
    simdCheck(s);
    const value = s.read(0);
    s.f.if(and(value, i32(~mxcsrMask)), () => s.fault(13, i32(0)));
    s.put('i32.store', ST.mxcsr, value);
  }),
  insn('stmxcsr', 'NP 0F AE/3 Md', 'w', { faults: true }, (s) => {
    simdCheck(s);
    s.write(0, s.let(s.get('i32.load', ST.mxcsr)));
  }),
  fxsave(false),
  fxsave(true),
  fxrstor(false),
  fxrstor(true),
  // There are no caches to control; every access of the generated code is done when the next begins, so fences only decode.
  insn('lfence', 'NP 0F AE/5 Rd', '-', {}, nothing),
  insn('mfence', 'NP 0F AE/6 Rd', '-', {}, nothing),
  insn('sfence', 'NP 0F AE/7 Rd', '-', {}, nothing),
  // CLFLUSH is checked as a load of the byte.
  insn('clflush', 'NP 0F AE/7 Mb', 'r', {}, (s) => {
    s.read(0);
  }),
  // All of 0F 18 is reserved for hints, register forms included.
  insn(
    'prefetch',
    ['0F 18 En', '0F 0D Mn'],
    '-',
    { ownMemory: true, memory: { bytes: () => 0, write: false } },
    nothing,
  ),
];
