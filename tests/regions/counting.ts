// SPDX-License-Identifier: MIT
// Random loops that only count, or nearly so: their turns are skipped where it is certain what they do.

import { integer, type Random } from '../oracle/random.ts';
import type { Writer } from './program.ts';
import { FREE, rbx } from './registers.ts';

/** Turns that a loop takes at most, or nearly always. */
const mostTurns = 25;

type Registers = readonly number[];
const small = (r: Random): number => r.pick([1, 1, 1, 2, 3, 4, 8, 13, 64]) * (r.chance(0.5) ? 1 : -1);

/** ADD, SUB, CMP with a byte. */
function byByte(w: Writer, kind: number, register: number, value: number, wide: boolean): void {
  w.modrm([0x83], kind, register, { wide });
  w.put(value);
}

/** Changes a register, leaves another one's value in it, or does nothing. */
function change(w: Writer, r: Random, registers: Registers): void {
  const register = r.pick(registers);
  const wide = r.chance(0.5);
  switch (r.below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      w.modrm([0xff], r.below(2), register, { wide });
      return;
    case 4:
    case 5:
    case 6:
      byByte(w, r.pick([0, 5]), register, small(r), wide);
      return;
    case 7:
      w.modrm([0x81], r.pick([0, 5]), register, { wide });
      w.imm(r.chance(0.3) ? r.u32() : small(r), 4);
      return;
    case 8:
    case 9:
    case 10:
      w.modrm([0x8d], register, { base: r.chance(0.8) ? register : r.pick(registers), disp: small(r) }, { wide });
      return;
    case 11:
      w.modrm([0x31], register, register, { wide });
      return;
    case 12:
      w.modrm([r.pick([0x89, 0x8b])], register, r.pick(registers), { wide });
      return;
    case 13:
      w.modrm([0xc7], 0, register, { wide });
      w.imm(small(r), 4);
      return;
    default:
      w.put(0x90);
  }
}

/** Compares something, or leaves that to the change before. */
function compare(w: Writer, r: Random, registers: Registers): void {
  const wide = r.chance(0.5);
  const register = r.pick(registers);
  switch (r.below(5)) {
    case 0:
    case 1:
      w.modrm([r.pick([0x39, 0x3b])], register, r.pick(registers), { wide });
      return;
    case 2:
      byByte(w, 7, register, r.pick([0, small(r)]), wide);
      return;
    case 3:
      w.modrm([0x85], register, register, { wide });
  }
}

/** Seldom one that looks at the overflow or the parity. */
const condition = (r: Random): number =>
  r.chance(0.95) ? r.pick([2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15]) : r.below(16);

/** A branch around code, to be given by what is called with the result; returns where its displacement is. */
function branch(w: Writer, r: Random): number {
  w.put(0x70 | condition(r), 0);
  return w.at;
}

/** A loop that `isSure` to end soon, or nearly so. */
export function counting(w: Writer, r: Random, isSure = r.chance(0.97)): void {
  const registers = Array.from({ length: 2 + r.below(4) }, () => r.pick(FREE));
  const around = integer(r);
  for (const register of registers)
    if (r.chance(0.8))
      w.load(register, (r.chance(0.7) ? around : integer(r)) + BigInt(r.below(2 * mostTurns) - mostTurns));
  const guard = r.pick(FREE.filter((n) => !registers.includes(n)));
  if (isSure) w.load(guard, BigInt(1 + r.below(mostTurns)) + (r.chance(0.5) ? 0n : BigInt(r.u32()) << 32n));
  const start = w.at;
  const exits: number[] = [];
  for (let n = r.below(4); n > 0; n--) {
    for (let k = r.below(3); k > 0; k--) change(w, r, registers);
    const dice = r.below(10);
    if (dice < 6) {
      compare(w, r, registers);
      exits.push(branch(w, r));
    } else if (dice < 8) {
      // Another way, on which it may do more than to count.
      compare(w, r, registers);
      const around = branch(w, r);
      if (r.chance(0.5)) w.modrm([0x8b], r.pick(registers), { base: rbx, disp: 8 * r.below(8) }, { wide: true });
      else change(w, r, registers);
      w.land(around);
    } else if (dice < 9) w.put(0xeb, 0);
  }
  for (let k = r.below(3); k > 0; k--) change(w, r, registers);
  if (isSure) {
    w.modrm([0xff], 1, guard);
    if (r.chance(0.3)) w.modrm([0x85], guard, guard);
    w.put(0x0f, 0x85);
  } else {
    compare(w, r, registers);
    w.put(0x0f, 0x80 | condition(r));
  }
  w.imm(start - (w.at + 4), 4);
  for (const from of exits) w.land(from);
}
