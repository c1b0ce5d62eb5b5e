// SPDX-License-Identifier: MIT
// Random loops that walk through the data: their accesses go on by the same with each turn, across pages, into one that cannot be written, and out.

import type { Random } from '../oracle/random.ts';
import type { Writer } from './program.ts';
import { FREE, rbx } from './registers.ts';

/** Registers that accesses load and store. The loop's own are among the others. */
const RESULTS = [0, 1, 2, 6] as const;
const mostTurns = 24;

interface Address {
  readonly base: number;
  readonly index?: number;
  readonly scale?: number;
  readonly disp: number;
}

/** A register goes on: by ADD, SUB, INC, DEC, LEA. */
function step(w: Writer, r: Random, register: number, by: number): void {
  const dice = r.below(4);
  if (dice === 0) w.modrm([0x8d], register, { base: register, disp: by }, { wide: true });
  else if (Math.abs(by) === 1 && dice === 1) w.modrm([0xff], by > 0 ? 0 : 1, register, { wide: true });
  else {
    const isAdd = dice === 2;
    const value = isAdd ? by : -by;
    const isByte = value >= -128 && value < 128;
    w.modrm([isByte ? 0x83 : 0x81], isAdd ? 0 : 5, register, { wide: true });
    w.imm(value, isByte ? 1 : 4);
  }
}

function access(w: Writer, r: Random, at: Address): void {
  const result = r.pick(RESULTS);
  const xmm = r.below(8);
  switch (r.below(16)) {
    case 0:
    case 1:
      w.modrm([0x8b], result, at, { wide: r.chance(0.5) });
      return;
    case 2:
    case 3:
      w.modrm([0x89], result, at, { wide: r.chance(0.5), ...(r.chance(0.2) && { prefix: 0x66 }) });
      return;
    case 4:
    case 5:
      w.modrm([r.pick([0x01, 0x03, 0x11, 0x29, 0x31, 0x3b])], result, at, { wide: r.chance(0.5) });
      return;
    case 6:
      w.modrm([0x0f, r.pick([0xb6, 0xb7, 0xbe, 0xbf])], result, at, { wide: r.chance(0.5) });
      return;
    case 7:
      w.modrm([r.pick([0x88, 0x00, 0x02, 0x8a])], result, at, { forceRex: true });
      return;
    case 8:
      w.modrm([0x0f, r.pick([0xc1, 0xb1])], result, at, { wide: r.chance(0.5) });
      return;
    case 9:
      // MUL and IMUL by memory write registers that they do not name.
      w.modrm([0xf7], r.pick([4, 5]), at, { wide: r.chance(0.5) });
      return;
    case 10:
      w.modrm([0xff], r.below(2), at, { wide: r.chance(0.5) });
      return;
    case 11:
      // MOVDQU
      w.modrm([0x0f, r.pick([0x6f, 0x7f])], xmm, at, { prefix: 0xf3 });
      return;
    case 12:
      // MOVAPS, which must be aligned
      w.modrm([0x0f, r.pick([0x28, 0x29])], xmm, at);
      return;
    case 13:
      // PADDD, PXOR
      w.modrm([0x0f, r.pick([0xfe, 0xef])], xmm, at, { prefix: 0x66 });
      return;
    case 14:
      // MOVQ
      w.modrm([0x0f, 0xd6], xmm, at, { prefix: 0x66 });
      return;
    default:
      w.modrm([0x0f, 0x40 | r.below(16)], result, at, { wide: true });
  }
}

/** A loop of some accesses and steps, and sometimes of a way around some of them. */
export function walking(w: Writer, r: Random): void {
  const others = FREE.filter((n) => !RESULTS.includes(n as 0));
  const pointer = r.pick(others);
  const index = r.pick(others.filter((n) => n !== pointer));
  const guard = r.pick(others.filter((n) => n !== pointer && n !== index));
  // Aligned, as a rule, and often at the end of a page.
  const unit = r.pick([16, 16, 8, 4, 1]);
  const from = r.chance(0.7) ? 0x1000 * (1 + r.below(3)) - unit * r.below(24) : unit * r.below(200);
  w.modrm([0x8d], pointer, { base: rbx, disp: from }, { wide: true });
  w.load(index, unit * (r.below(16) - 8));
  w.load(guard, 1 + r.below(mostTurns));
  const address = (): Address => {
    const disp = unit * (r.below(6) - 2);
    const scale = r.below(unit === 16 ? 2 : 4);
    const dice = r.below(10);
    if (dice < 5) return { base: pointer, disp };
    return dice < 8 ? { base: pointer, index, scale, disp } : { base: rbx, index, scale, disp: from + disp };
  };
  const by = () => unit * r.pick([1, 1, 1, 2, 4, 16]) * (r.chance(0.7) ? 1 : -1);
  const steps = [pointer, index].filter(() => r.chance(0.7)).map((register) => ({ register, by: by() }));
  const start = w.at;
  for (let n = 1 + r.below(4); n > 0; n--) {
    access(w, r, address());
    const next = r.chance(0.4) ? steps.pop() : undefined;
    if (next && r.chance(0.2)) {
      // Only in some turns.
      w.put(0x70 | r.below(16), 0);
      const branch = w.at;
      step(w, r, next.register, next.by);
      w.land(branch);
    } else if (next) step(w, r, next.register, next.by);
  }
  for (const { register, by: value } of steps) step(w, r, register, value);
  if (r.chance(0.1)) w.modrm([0x89], r.pick(RESULTS), r.pick([pointer, index]), { wide: r.chance(0.5) });
  // dec guard; jnz start
  w.modrm([0xff], 1, guard, { wide: true });
  w.put(0x0f, 0x85);
  w.imm(start - (w.at + 4), 4);
}
