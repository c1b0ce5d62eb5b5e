// SPDX-License-Identifier: MIT
// Bit tests, scans and counts, and the flag instructions (Intel SDM volume 2: BT, BTS, BTR, BTC, BSF, BSR, POPCNT, CMPXCHG8B/16B, LAHF, CLC...).

import { ST } from '../cpu/layout.ts';
import {
  add,
  and,
  eqz,
  extendU,
  i32,
  i64,
  konst,
  op,
  or,
  shl,
  shrS,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../wasm/expr.ts';
import { signExtend } from './flags.ts';
import type { Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

type Change = ((value: Expr, mask: Expr) => Expr) | undefined;

/** The selected bit goes to CF; `change` computes the new operand. A register offset with a memory operand reaches beyond the operand. */
function bitTest(name: string, registerOpcode: string, immediate: number, change: Change): Instruction[] {
  const finish = (s: Stage, value: Expr, index: Expr, write: (v: Expr) => void) => {
    const masked = and(index, konst(index.type, s.size - 1));
    const position = s.let(value.type === 'i64' ? extendU(masked) : masked);
    const selected = s.let(and(wrap(shrU(value, position)), i32(1)));
    if (change) write(change(value, shl(konst(value.type, 1), position)));
    s.setCf(selected);
  };
  const options = { writes: 'c', undefinedFlags: 'osap', plainFlags: true, ...(change ? { lock: true } : {}) } as const;
  const simple = insn(`${name}-immediate`, `0F BA/${immediate} Ev,Ib`, change ? 'xr' : 'rr', options, (s) => {
    const value = s.read(0);
    finish(s, value, s.read(1), (v) => s.write(0, v));
  });
  const offset = insn(
    name,
    `0F ${registerOpcode} Ev,Gv`,
    change ? 'xr' : 'rr',
    { ...options, ownMemory: true, perAddress: true },
    (s) => {
      const index = s.read(1);
      if (!s.isMemory(0)) {
        finish(s, s.read(0), index, (v) => s.write(0, v));
        return;
      }
      const { size } = s;
      const bytes = shl(shrS(signExtend(size, index), i64(Math.log2(size))), i64(Math.log2(size / 8)));
      const address = s.addressPlus(0, bytes, size / 8, change !== undefined);
      if (change) s.probe(address, size / 8, true);
      const value = s.load(size, address);
      finish(s, value, index, (v) => s.store(size, address, v));
    },
  );
  return [offset, simple];
}

function scan(name: string, encoding: string, find: (value: Expr) => Expr): Instruction {
  return insn(name, encoding, 'xr', { writes: 'oszapc', undefinedFlags: 'osapc', plainFlags: true }, (s) => {
    const value = s.read(1);
    const zero = s.let(eqz(value));
    // A zero source leaves the destination as it is (documented by AMD, and what Intel's processors do); a 32-bit one is then not zero-extended.
    s.f.if(eqz(zero), () => s.write(0, find(value)));
    s.setZfValue(extendU(eqz(zero)));
    s.setSfValue(i64(0));
    s.setPfByte(i32(1));
    s.setCf(i32(0));
    s.setOfBit31(i32(0));
    s.setAfBit4(i32(0));
  });
}

/** LAHF/SAHF: SF ZF AF PF CF. */
const lowFlags = 0xd5;

function compareExchangeWide(s: Stage, half: 32 | 64): void {
  const { f } = s;
  const bytes = half / 8;
  const address = s.let(s.address(0));
  if (half === 64) f.if(wrap(and(address, i64(15))), () => s.fault(13, i32(0)));
  s.probe(address, bytes * 2, true);
  const low = s.load(half, address);
  const upper = s.let(add(address, i64(bytes)));
  const high = s.load(half, upper);
  const equal = s.let(and(op(`i${half}.eq`, low, s.gpr(0, half)), op(`i${half}.eq`, high, s.gpr(2, half))));
  f.if(
    equal,
    () => {
      s.store(half, address, s.gpr(3, half));
      s.store(half, upper, s.gpr(1, half));
    },
    () => {
      s.store(half, address, low);
      s.store(half, upper, high);
      s.setGpr(0, half, low);
      s.setGpr(2, half, high);
    },
  );
  // Only ZF changes: the image is the simplest way to touch one flag of the three that come from a result.
  s.setFlagsImage(shl(equal, i32(6)), 0x40);
}

export const bitInstructions: readonly Instruction[] = [
  ...bitTest('bt', 'A3', 4, undefined),
  ...bitTest('bts', 'AB', 5, or),
  ...bitTest('btr', 'B3', 6, (value, mask) => and(value, xor(mask, konst(mask.type, -1)))),
  ...bitTest('btc', 'BB', 7, xor),
  scan('bsf', '0F BC Gv,Ev', (value) => op(`${value.type}.ctz`, value)),
  scan('bsr', '0F BD Gv,Ev', (value) =>
    sub(konst(value.type, value.type === 'i64' ? 63 : 31), op(`${value.type}.clz`, value)),
  ),
  insn('popcnt', 'F3 0F B8 Gv,Ev', 'wr', { writes: 'oszapc', plainFlags: true }, (s) => {
    const value = s.read(1);
    s.write(0, op(`${value.type}.popcnt`, value));
    // ZF says that there is nothing to count; the others are clear.
    s.setZfValue(signExtend(s.size, value));
    s.setSfValue(i64(0));
    s.setPfByte(i32(1));
    s.setCf(i32(0));
    s.setOfBit31(i32(0));
    s.setAfBit4(i32(0));
  }),
  insn(
    'cmpxchg8b',
    '0F C7/1 Mn w0',
    '-',
    { writes: 'z', lock: true, ownMemory: true, memory: { bytes: () => 8, write: true } },
    (s) => compareExchangeWide(s, 32),
  ),
  insn('cmpxchg16b', '0F C7/1 Mn w1', '-', { writes: 'z', lock: true, ownMemory: true, faults: true }, (s) =>
    compareExchangeWide(s, 64),
  ),
  insn('lahf', '9F #b', '', { reads: 'szapc' }, (s) => {
    const image = or(and(s.flagsImage(), i32(lowFlags)), i32(2));
    s.setGpr(0, 16, or(and(s.gpr(0, 16), i32(0xff)), shl(image, i32(8))));
  }),
  insn('sahf', '9E #b', '', { writes: 'szapc' }, (s) => s.setFlagsImage(shrU(s.gpr(0, 16), i32(8)), lowFlags)),
  insn('clc', 'F8', '', { writes: 'c' }, (s) => s.setCf(i32(0))),
  insn('stc', 'F9', '', { writes: 'c' }, (s) => s.setCf(i32(1))),
  insn('cmc', 'F5', '', { writes: 'c', reads: 'c' }, (s) => s.setCf(xor(s.cf(), i32(1)))),
  insn('cld', 'FC', '', {}, (s) => s.put('i32.store', ST.sysFlags, and(s.get('i32.load', ST.sysFlags), i32(~0x400)))),
  insn('std', 'FD', '', {}, (s) => s.put('i32.store', ST.sysFlags, or(s.get('i32.load', ST.sysFlags), i32(0x400)))),
  insn('salc', 'D6 i64', '', { reads: 'c' }, (s) => s.setGpr(0, 8, sub(i32(0), s.cf()))),
];
