// SPDX-License-Identifier: MIT
// Instructions that exist only outside 64-bit mode: decimal adjustment, BOUND, ARPL, direct far transfers (Intel SDM volume 2).

import { ST } from '../cpu/layout.ts';
import { add, and, eqz, extendU, gtS, gtU, i32, i64, ltS, ltU, mul, op, or, shl, shrU, sub } from '../wasm/expr.ts';
import { setResultFlags } from './flags.ts';
import type { Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

const al = (s: Stage) => s.gpr(0, 8);

/** DAA and DAS. */
function decimalAdjust(s: Stage, subtract: boolean): void {
  const { f } = s;
  const old = al(s);
  const value = f.local('i32');
  const carry = f.local('i32');
  const oldCarry = s.let(s.cf());
  const low = s.let(or(gtU(and(old, i32(15)), i32(9)), s.af()));
  const move = subtract ? sub : add;
  f.set(value, old);
  f.set(carry, i32(0));
  f.if(low, () => {
    // The first step's own carry or borrow counts too.
    f.set(carry, or(oldCarry, subtract ? ltU(old, i32(6)) : gtU(old, i32(0xf9))));
    f.set(value, and(move(value, i32(6)), i32(0xff)));
  });
  f.if(
    or(gtU(old, i32(0x99)), oldCarry),
    () => {
      f.set(value, and(move(value, i32(0x60)), i32(0xff)));
      f.set(carry, i32(1));
    },
    () => {
      if (!subtract) f.set(carry, i32(0));
    },
  );
  s.setGpr(0, 8, value);
  setResultFlags(s, 8, value);
  s.setCf(carry);
  s.setAfBit4(shl(low, i32(4)));
  s.setOfBit31(i32(0));
}

/** AAA and AAS. */
function asciiAdjust(s: Stage, subtract: boolean): void {
  const { f } = s;
  const adjust = s.let(or(gtU(and(al(s), i32(15)), i32(9)), s.af()));
  const ax = f.local('i32');
  f.set(ax, s.gpr(0, 16));
  f.if(adjust, () => f.set(ax, subtract ? sub(sub(ax, i32(6)), i32(0x100)) : add(add(ax, i32(6)), i32(0x100))));
  s.setGpr(0, 16, and(ax, i32(0xff0f)));
  setResultFlags(s, 8, and(ax, i32(15)));
  s.setCf(adjust);
  s.setAfBit4(shl(adjust, i32(4)));
  s.setOfBit31(i32(0));
}

const undefinedDecimal = { reads: 'ac', writes: 'oszapc', undefinedFlags: 'o' } as const;
const undefinedAscii = { reads: 'a', writes: 'oszapc', undefinedFlags: 'oszp' } as const;

function farDirect(name: 'farJump' | 'farCall'): (s: Stage) => void {
  return (s) => {
    s.put('i64.store', ST.work, extendU(s.imm(0)));
    s.put('i32.store', ST.work + 8, s.imm(1));
    s.put('i64.store', ST.work + 16, s.nextRip());
    s.host(`${name}${s.size}`, true);
  };
}

export const legacyInstructions: readonly Instruction[] = [
  insn('daa', '27 i64', '', undefinedDecimal, (s) => decimalAdjust(s, false)),
  insn('das', '2F i64', '', undefinedDecimal, (s) => decimalAdjust(s, true)),
  insn('aaa', '37 i64', '', undefinedAscii, (s) => asciiAdjust(s, false)),
  insn('aas', '3F i64', '', undefinedAscii, (s) => asciiAdjust(s, true)),
  insn('aam', 'D4 Ib i64', 'r', { writes: 'oszapc', undefinedFlags: 'oac', faults: true }, (s) => {
    const base = s.let(and(s.read(0), i32(0xff)));
    s.f.if(eqz(base), () => s.fault(0));
    const value = al(s);
    const low = s.let(op('i32.rem_u', value, base));
    s.setGpr(0, 16, or(shl(op('i32.div_u', value, base), i32(8)), low));
    setResultFlags(s, 8, low);
    s.setCf(i32(0));
    s.setOfBit31(i32(0));
    s.setAfBit4(i32(0));
  }),
  insn('aad', 'D5 Ib i64', 'r', { writes: 'oszapc', undefinedFlags: 'oac' }, (s) => {
    const ax = s.gpr(0, 16);
    const value = s.let(and(add(and(ax, i32(0xff)), mul(shrU(ax, i32(8)), and(s.read(0), i32(0xff)))), i32(0xff)));
    s.setGpr(0, 16, value);
    setResultFlags(s, 8, value);
    s.setCf(i32(0));
    s.setOfBit31(i32(0));
    s.setAfBit4(i32(0));
  }),
  insn('bound', '62 Gv,Mn i64', 'r-', { ownMemory: true, faults: true, perAddress: true }, (s) => {
    const size = s.size as 16 | 32;
    const bytes = size / 8;
    const signed = (e: ReturnType<Stage['read']>) => (size === 16 ? op('i32.extend16_s', e) : e);
    const index = s.let(signed(s.read(0)));
    // Each is an access of its own, also for the segment's limit.
    const low = s.let(signed(s.load(size, s.addressPlus(1, i64(0), bytes, false))));
    const high = s.let(signed(s.load(size, s.addressPlus(1, i64(bytes), bytes, false))));
    s.f.if(or(ltS(index, low), gtS(index, high)), () => s.fault(5));
  }),
  insn('arpl', '63 Ew,Gw i64', 'xr', { writes: 'z', ownMemory: true, perAddress: true }, (s) => {
    // Memory is only written, and only has to be writable, when the selector changes.
    const at = (write: boolean) => s.addressPlus(0, i64(0), 2, write);
    const destination = s.isMemory(0) ? s.load(16, at(false)) : s.read(0);
    const source = s.read(1);
    const raise = s.let(ltU(and(destination, i32(3)), and(source, i32(3))));
    const raised = s.let(or(and(destination, i32(0xfffc)), and(source, i32(3))));
    s.f.if(raise, () => (s.isMemory(0) ? s.store(16, at(true), raised) : s.write(0, raised)));
    s.setZfValue(extendU(eqz(raise)));
  }),
  insn('jmp-far', 'EA Iz,Iw #v i64', '--', { ends: true, faults: true }, farDirect('farJump')),
  insn('call-far', '9A Iz,Iw #v i64', '--', { ends: true, faults: true }, farDirect('farCall')),
];
