// SPDX-License-Identifier: MIT
// Moving integer data: MOV, extensions, LEA, exchange, stack, conditional moves and sets, conversions (Intel SDM volume 2).

import { Seg } from '../cpu/layout.ts';
import {
  add,
  and,
  extendS,
  extendU,
  i32,
  i64,
  konst,
  op,
  or,
  select,
  shl,
  shrU,
  sub,
  wrap,
  type Expr,
} from '../wasm/expr.ts';
import { signExtend } from './flags.ts';
import type { IntSize, Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

/** A value sign- or zero-extended i64 narrowed to what a register of `size` bits takes. */
const narrow = (size: IntSize, value: Expr): Expr => (size === 64 ? value : wrap(value));

const stackWidth = (s: Stage): IntSize => s.mode;

/** Stack pointer after moving it by `bytes` (may be negative), as i64 wrapped to the stack width, without writing it. */
export function stackAt(s: Stage, bytes: number): Expr {
  const width = stackWidth(s);
  const pointer = s.gpr(4, width);
  const moved = add(pointer, konst(pointer.type, bytes));
  return s.let(extendU(width === 16 ? and(moved, i32(0xffff)) : moved));
}

export function setStack(s: Stage, pointer: Expr): void {
  s.setGpr(4, stackWidth(s), narrow(stackWidth(s), pointer));
}

/** Pushes a value of `size` bits. */
export function push(s: Stage, size: 16 | 32 | 64, value: Expr): void {
  const pointer = stackAt(s, -size / 8);
  s.store(size, s.linear(Seg.ss, pointer, size / 8, true), value);
  setStack(s, pointer);
}

/** Reads the value that a pop of `size` bits would give; the pointer is moved by `setStack(s, stackAt(s, size / 8))`. */
export function peek(s: Stage, size: 16 | 32 | 64, at = 0): Expr {
  return s.load(size, s.linear(Seg.ss, stackAt(s, at), size / 8, false));
}

const stackSize = (s: Stage): 16 | 32 | 64 => s.size as 16 | 32 | 64;

const conditionNames = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const conditionFlags = ['o', 'o', 'c', 'c', 'z', 'z', 'cz', 'cz', 's', 's', 'p', 'p', 'so', 'so', 'zso', 'zso'];

const hex = (n: number) => n.toString(16).toUpperCase().padStart(2, '0');

/** Sign extension of a narrower operand to the operand size. */
const signExtendTo = (s: Stage, from: IntSize, value: Expr): Expr => narrow(s.size, signExtend(from, value));
const zeroExtendTo = (s: Stage, value: Expr): Expr => (s.size === 64 ? extendU(value) : value);

export const dataInstructions: readonly Instruction[] = [
  insn(
    'mov',
    [
      '88 Eb,Gb',
      '89 Ev,Gv',
      '8A Gb,Eb',
      '8B Gv,Ev',
      'A0 AL,Ob',
      'A1 rAX,Ov',
      'A2 Ob,AL',
      'A3 Ov,rAX',
      'B0+ Zb,Ib',
      'B8+ Zv,Iv',
      'C6/0 Eb,Ib',
      'C7/0 Ev,Iz',
    ],
    'wr',
    { hot: true },
    (s) => s.write(0, s.read(1)),
  ),
  insn('movzx8', '0F B6 Gv,Eb', 'wr', { hot: true }, (s) => s.write(0, zeroExtendTo(s, s.read(1)))),
  insn('movzx16', '0F B7 Gv,Ew', 'wr', { hot: true }, (s) => s.write(0, zeroExtendTo(s, s.read(1)))),
  insn('movsx8', '0F BE Gv,Eb', 'wr', { hot: true }, (s) => s.write(0, signExtendTo(s, 8, s.read(1)))),
  insn('movsx16', '0F BF Gv,Ew', 'wr', { hot: true }, (s) => s.write(0, signExtendTo(s, 16, s.read(1)))),
  insn('movsxd', '63 Gv,Ed o64', 'wr', { hot: true }, (s) =>
    s.write(0, s.size === 64 ? extendS(s.read(1)) : s.read(1)),
  ),
  insn('lea', '8D Gv,Mn', 'w-', { hot: true, ownMemory: true }, (s) => s.write(0, narrow(s.size, s.offset(1)))),
  insn('xchg', ['86 Eb,Gb', '87 Ev,Gv', '90+ Zv,rAX'], 'xx', { lock: true }, (s) => {
    const a = s.read(0);
    const b = s.read(1);
    s.write(0, b);
    s.write(1, a);
  }),
  insn('bswap', '0F C8+ Zy', 'x', {}, (s) => {
    const v = s.read(0);
    if (s.size === 64) {
      const pairs = s.let(
        or(and(shrU(v, i64(8)), i64(0x00ff00ff00ff00ffn)), shl(and(v, i64(0x00ff00ff00ff00ffn)), i64(8))),
      );
      const quads = s.let(
        or(and(shrU(pairs, i64(16)), i64(0x0000ffff0000ffffn)), shl(and(pairs, i64(0x0000ffff0000ffffn)), i64(16))),
      );
      s.write(0, op('i64.rotl', quads, i64(32)));
    } else {
      const pairs = s.let(or(and(shrU(v, i32(8)), i32(0x00ff00ff)), shl(and(v, i32(0x00ff00ff)), i32(8))));
      s.write(0, op('i32.rotl', pairs, i32(16)));
    }
  }),
  insn('cbw', '98 #v', '', {}, (s) => {
    const half = (s.size / 2) as IntSize;
    s.setGpr(0, s.size, narrow(s.size, signExtend(half, s.gpr(0, half))));
  }),
  insn('cwd', '99 #v', '', {}, (s) => {
    const a = s.gpr(0, s.size);
    const sign =
      s.size === 64
        ? op('i64.shr_s', a, i64(63))
        : op('i32.shr_s', s.size === 16 ? op('i32.extend16_s', a) : a, i32(31));
    s.setGpr(2, s.size, sign);
  }),
  ...conditionNames.flatMap((name, cc) => [
    insn(
      `cmov${name}`,
      `0F ${hex(0x40 + cc)} Gv,Ev`,
      'xr',
      { reads: conditionFlags[cc]!, hot: cc === 4 || cc === 5 },
      (s) => {
        const source = s.read(1);
        s.write(0, select(s.condition(cc), source, s.read(0)));
      },
    ),
    insn(`set${name}`, `0F ${hex(0x90 + cc)} Eb`, 'w', { reads: conditionFlags[cc]!, hot: true }, (s) =>
      s.write(0, s.condition(cc)),
    ),
  ]),
  insn('push', ['50+ Zv d64', 'FF/6 Ev d64'], 'r', { hot: true, perMode: true }, (s) =>
    push(s, stackSize(s), s.read(0)),
  ),
  insn('push-immediate', ['68 Iz d64', '6A Ibs d64'], 'r', { hot: true, perMode: true }, (s) =>
    push(s, stackSize(s), s.read(0)),
  ),
  insn('pop', '58+ Zv d64', 'w', { hot: true, perMode: true }, (s) => {
    const value = peek(s, stackSize(s));
    setStack(s, stackAt(s, s.size / 8));
    s.write(0, value);
  }),
  insn('pop-operand', '8F/0 Ev d64', '-', { perMode: true, perAddress: true, ownMemory: true }, (s) => {
    const value = peek(s, stackSize(s));
    if (!s.isMemory(0)) {
      setStack(s, stackAt(s, s.size / 8));
      s.write(0, value);
      return;
    }
    // An address based on the stack pointer uses its value after the pop: the decoder has added that to the displacement.
    // It is looked at after the stack has been read.
    s.store(stackSize(s), s.addressPlus(0, i64(0), s.size / 8, true), value);
    setStack(s, stackAt(s, s.size / 8));
  }),
  insn('leave', 'C9 #v d64', '', { perMode: true }, (s) => {
    const frame = s.gpr(5, stackWidth(s));
    const value = s.load(stackSize(s), s.linear(Seg.ss, extendU(frame), s.size / 8, false));
    const pointer = add(extendU(frame), i64(s.size / 8));
    setStack(s, pointer);
    s.setGpr(5, s.size, value);
  }),
  insn('enter', 'C8 Iw,Ib #v d64', 'rr', { perMode: true }, enter),
  insn('xlat', 'D7 #b', '', { perAddress: true, stringSource: true }, (s) => {
    const wide = s.addressSize;
    const table = extendU(s.gpr(3, wide));
    const sum = add(table, extendU(s.gpr(0, 8)));
    const offset = wide === 64 ? sum : and(sum, i64(wide === 32 ? 0xffffffff : 0xffff));
    s.setGpr(0, 8, s.load(8, s.linear('source', s.let(offset), 1, false)));
  }),
  insn('pusha', '60 #v i64', '', { perMode: true }, (s) => {
    const size = stackSize(s);
    const bytes = size / 8;
    const top = stackAt(s, -8 * bytes);
    for (const i of [1, 8]) s.probe(s.linear(Seg.ss, stackAt(s, -i * bytes), bytes, true), bytes, true);
    for (let i = 0; i < 8; i++)
      s.store(size, s.linear(Seg.ss, stackAt(s, -(i + 1) * bytes), bytes, true), s.gpr(i, size as IntSize));
    setStack(s, top);
  }),
  insn('popa', '61 #v i64', '', { perMode: true }, (s) => {
    const size = stackSize(s);
    const bytes = size / 8;
    const values = Array.from({ length: 8 }, (_, i) => peek(s, size, i * bytes));
    const pointer = stackAt(s, 8 * bytes);
    values.forEach((value, i) => {
      if (i !== 3) s.setGpr(7 - i, size as IntSize, value);
    });
    setStack(s, pointer);
  }),
];

function enter(s: Stage): void {
  const { f } = s;
  const size = stackSize(s);
  const bytes = size / 8;
  const width = stackWidth(s);
  const locals = s.let(and(wrap(s.read(0)), i32(0xffff)));
  const level = s.let(and(wrap(s.read(1)), i32(31)));
  const sp = f.local('i64');
  const bp = f.local('i64');
  const i = f.local('i32');
  const clip = (e: Expr) => (width === 64 ? e : and(e, i64(width === 32 ? 0xffffffff : 0xffff)));
  f.set(sp, stackAt(s, -bytes));
  const frame = s.let(sp);
  s.store(size, s.linear(Seg.ss, sp, bytes, true), s.gpr(5, size as IntSize));
  f.if(level, () => {
    f.set(bp, extendU(s.gpr(5, width)));
    f.set(i, i32(1));
    f.block((done) =>
      f.loop((again) => {
        f.brIf(done, op('i32.ge_u', i, level));
        f.set(bp, clip(sub(bp, i64(bytes))));
        f.set(sp, clip(sub(sp, i64(bytes))));
        s.store(size, s.linear(Seg.ss, sp, bytes, true), s.load(size, s.linear(Seg.ss, bp, bytes, false)));
        f.set(i, add(i, i32(1)));
        f.br(again);
      }),
    );
    f.set(sp, clip(sub(sp, i64(bytes))));
    s.store(size, s.linear(Seg.ss, sp, bytes, true), narrow(size as IntSize, frame));
  });
  f.set(sp, clip(sub(sp, extendU(locals))));
  // The new top of the stack must be writable before anything is committed.
  s.probe(s.linear(Seg.ss, sp, bytes, true), bytes, true);
  s.setGpr(5, size as IntSize, narrow(size as IntSize, frame));
  setStack(s, sp);
}
