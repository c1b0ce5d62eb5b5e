// SPDX-License-Identifier: MIT
// The instructions that random programs are made of, but for those that lead from block to block.

import { integer, type Random } from '../oracle/random.ts';
import { counting } from './counting.ts';
import { walking } from './walking.ts';
import type { Writer } from './program.ts';
import { FREE, rbx } from './registers.ts';

const r13 = 13;

/** [rbx + something] mostly inside the mapped pages, sometimes across a page, read-only or missing. */
function memoryOperand(r: Random): { base: number; index?: number; scale?: number; disp: number } {
  const dice = r.below(100);
  if (dice < 60) return { base: rbx, disp: r.below(0x200) };
  if (dice < 75) return { base: rbx, disp: 0x1000 - 1 - r.below(16) };
  // r13 holds a small multiple of 8.
  if (dice < 90) return { base: rbx, index: r13, scale: r.below(4), disp: r.below(0x100) };
  if (dice < 95) return { base: rbx, disp: 0x2000 + r.below(0x100) };
  if (dice < 97) return { base: rbx, disp: 0x2000 - 1 - r.below(8) };
  if (dice < 98) return { base: rbx, disp: 0x3000 - r.below(12) };
  return { base: r.pick(FREE), disp: r.below(256) - 128 };
}

type Emit = (w: Writer, r: Random) => void;
const free = (r: Random): number => r.pick(FREE);
const size = (r: Random): { wide: boolean; prefix?: number } =>
  r.pick([{ wide: false }, { wide: true }, { wide: false }, { wide: true }, { wide: false, prefix: 0x66 }]);
const operand = (r: Random) => (r.chance(0.6) ? free(r) : memoryOperand(r));

const arithmetic: Emit = (w, r) => {
  const kind = r.below(8) << 3;
  const s = size(r);
  switch (r.below(5)) {
    case 0:
      w.modrm([kind | 1], free(r), operand(r), s);
      return;
    case 1:
      w.modrm([kind | 3], free(r), operand(r), s);
      return;
    case 2: {
      const e = operand(r);
      w.modrm([0x83], kind >> 3, e, s);
      w.patchable.push({ at: w.at, kind: 'immediate' });
      w.put(r.below(256));
      return;
    }
    case 3:
      w.modrm([0x80], kind >> 3, operand(r), { forceRex: true });
      w.put(r.below(256));
      return;
    default:
      // Byte registers, AH and its like among them.
      w.put((kind | 0) + 2 * r.below(2), 0xc0 | (r.pick([0, 1, 2, 6]) << 3) | r.pick([0, 1, 2, 6]));
  }
};

const one: Emit = (w, r) => {
  const s = size(r);
  switch (r.below(3)) {
    case 0: {
      const target = free(r);
      w.modrm([0xff], r.below(2), target, s);
      w.patchable.push({ at: w.at - 1, kind: 'incdec' });
      return;
    }
    case 1:
      w.modrm([0xff], r.below(2), memoryOperand(r), s);
      return;
    default:
      w.modrm([0xf7], 2 + r.below(2), operand(r), s);
  }
};

const shift: Emit = (w, r) => {
  const s = size(r);
  const kind = r.pick([0, 1, 2, 3, 4, 5, 7]);
  switch (r.below(4)) {
    case 0:
      w.modrm([0xc1], kind, operand(r), s);
      w.put(r.below(70));
      return;
    case 1:
      w.modrm([0xd3], kind, operand(r), s);
      return;
    case 2:
      w.modrm([0xd1], kind, operand(r), s);
      return;
    default:
      w.modrm([0x0f, r.pick([0xa4, 0xac])], free(r), operand(r), s);
      w.put(r.below(40));
  }
};

const flagReader: Emit = (w, r) => {
  const cc = r.below(16);
  switch (r.below(6)) {
    case 0:
    case 1:
      w.modrm([0x0f, 0x90 | cc], 0, operand(r), { forceRex: true });
      return;
    case 2:
    case 3:
      w.modrm([0x0f, 0x40 | cc], free(r), operand(r), size(r));
      return;
    case 4:
      w.put(r.pick([0x9f, 0x9e, 0xf5, 0xf8, 0xf9]));
      return;
    default:
      w.put(0x9c, 0x41, 0x58 | r.below(5));
  }
};

const moves: Emit = (w, r) => {
  const s = size(r);
  switch (r.below(9)) {
    case 0:
      w.modrm([0x89], free(r), memoryOperand(r), s);
      return;
    case 1:
      w.modrm([0x8b], free(r), memoryOperand(r), s);
      return;
    case 2:
      w.modrm([0x0f, r.pick([0xb6, 0xb7, 0xbe, 0xbf])], free(r), operand(r), { wide: s.wide, forceRex: true });
      return;
    case 3:
      w.put(0xb8 | r.pick([0, 1, 2, 5, 6, 7]));
      w.patchable.push({ at: w.at, kind: 'immediate' });
      w.imm(r.u32(), 4);
      return;
    case 4:
      w.put(0x48, 0xb8 | r.pick([0, 1, 2, 5, 6, 7]));
      w.imm(integer(r), 8);
      return;
    case 5:
      w.modrm([0x8d], free(r), memoryOperand(r), s);
      return;
    case 6:
      w.modrm([0x87], free(r), operand(r), s);
      return;
    case 7:
      w.modrm([0xc7], 0, memoryOperand(r), { wide: s.wide });
      w.imm(r.u32(), 4);
      return;
    default:
      w.modrm([0x63], free(r), operand(r), { wide: true });
  }
};

const wide: Emit = (w, r) => {
  const s = size(r);
  switch (r.below(8)) {
    case 0:
      w.modrm([0x0f, 0xaf], free(r), operand(r), s);
      return;
    case 1:
      w.modrm([0xf7], 4 + r.below(2), operand(r), s);
      return;
    case 2:
      w.modrm([0xf7], 6 + r.below(2), operand(r), s);
      return;
    case 3:
      w.modrm([0x0f, r.pick([0xa3, 0xab, 0xb3, 0xbb])], free(r), free(r), s);
      return;
    case 4:
      w.modrm([0x0f, r.pick([0xbc, 0xbd])], free(r), operand(r), s);
      return;
    case 5:
      w.modrm([0x0f, 0xb1], free(r), operand(r), s);
      return;
    case 6:
      w.modrm([0x0f, 0xc1], free(r), operand(r), s);
      return;
    default:
      w.put(0x48, 0x99);
  }
};

const stack: Emit = (w, r) => {
  switch (r.below(4)) {
    case 0:
      w.put(0x50 | r.pick([0, 1, 2, 5, 6, 7]), 0x41, 0x58 | r.below(5));
      return;
    case 1:
      w.modrm([0xff], 6, memoryOperand(r));
      w.modrm([0x8f], 0, memoryOperand(r));
      return;
    case 2:
      w.put(0x9c, 0x9d);
      return;
    default:
      w.put(0x6a, r.below(256), 0x58 | r.pick([0, 1, 2]));
  }
};

const vector: Emit = (w, r) => {
  const x = () => r.below(8);
  const source = r.chance(0.5) ? x() : memoryOperand(r);
  switch (r.below(7)) {
    case 0:
      w.modrm([0x0f, r.pick([0x58, 0x59, 0x5c, 0x5e, 0x51])], x(), source, { prefix: r.pick([0xf2, 0xf3]) });
      return;
    case 1:
      w.modrm([0x0f, r.pick([0xef, 0xfe, 0xd4, 0xdb, 0xeb, 0x62, 0x70 ^ 0x06])], x(), x(), { prefix: 0x66 });
      return;
    case 2:
      w.modrm([0x0f, r.pick([0x10, 0x11])], x(), source, { prefix: r.pick([0xf2, 0xf3]) });
      return;
    case 3:
      w.modrm([0x0f, r.pick([0x10, 0x11])], x(), memoryOperand(r));
      return;
    case 4:
      w.modrm([0x0f, 0x2e + r.below(2)], x(), source, { prefix: 0x66 });
      return;
    case 5:
      w.modrm([0x0f, r.pick([0x6e, 0x7e])], x(), free(r), { prefix: 0x66, wide: r.chance(0.5) });
      return;
    default:
      w.modrm([0x0f, r.pick([0x2a, 0x2c])], x(), r.below(3), { prefix: 0xf2, wide: r.chance(0.5) });
  }
};

const string: Emit = (w, r) => {
  // ecx = a few; rdi and rsi into the data, perhaps near the end of a page.
  w.put(0xb9);
  w.imm(r.below(24), 4);
  for (const n of [6, 7])
    w.modrm([0x8d], n, { base: rbx, disp: r.pick([0x100, 0xff8, 0x1ff0, 0x2ff8]) }, { wide: true });
  if (r.chance(0.2)) w.put(0xfd);
  w.put(
    r.pick([0xf3, 0xf2]),
    ...(r.chance(0.4) ? [0x48] : []),
    r.pick([0xa4, 0xa5, 0xaa, 0xab, 0xa6, 0xae, 0xac]),
    0xfc,
  );
};

const x87: Emit = (w, r) => {
  switch (r.below(4)) {
    case 0:
      w.modrm([0xdd], 0, memoryOperand(r));
      w.modrm([0xdd], 3, memoryOperand(r));
      return;
    case 1:
      w.modrm([0xdd], 0, memoryOperand(r));
      w.modrm([0xdc], r.below(8), memoryOperand(r));
      w.put(0xdd, 0xd8);
      return;
    case 2:
      w.put(0xd9, 0xe8, 0xdf, 0xe9);
      return;
    default:
      w.put(0xdb, 0xe3);
  }
};

/** Moves what memory operands are relative to: on some ways only, so that accesses behind a meeting of ways must not take it for the same. */
const base: Emit = (w, r) => {
  const by = r.pick([-16, -8, -1, 8, 16, 32]);
  if (r.chance(0.5)) w.modrm([0x8d], rbx, { base: rbx, disp: by }, { wide: true });
  else {
    w.modrm([0x83], 0, rbx, { wide: true });
    w.put(by);
  }
};

/** Neighbouring accesses before, in and behind code that a branch goes around: what is found out before may hold behind, or may not. */
const detour: Emit = (w, r) => {
  const disp = r.pick([0x40, 0x80, 0xfe0]);
  const access = () =>
    w.modrm([r.pick([0x8b, 0x8b, 0x89])], free(r), { base: rbx, disp: disp + 8 * r.below(4) }, { wide: true });
  for (let n = 2 + r.below(2); n > 0; n--) access();
  w.put(0x70 | r.below(16), 0);
  const start = w.at;
  for (let n = r.below(3); n > 0; n--) r.pick([access, () => base(w, r)])();
  w.bytes[start - 1] = w.at - start;
  if (r.chance(0.3)) base(w, r);
  for (let n = 1 + r.below(3); n > 0; n--) access();
};

const EMITTERS: readonly (readonly [number, Emit])[] = [
  [30, arithmetic],
  [10, one],
  [10, shift],
  [16, flagReader],
  [18, moves],
  [8, wide],
  [4, stack],
  [6, vector],
  [2, string],
  [2, x87],
  [2, base],
  [4, detour],
  [4, counting],
  [4, walking],
];
const TOTAL = EMITTERS.reduce((sum, [n]) => sum + n, 0);

/** Writes one of them, or a few that belong together. */
export function instruction(w: Writer, r: Random): void {
  let dice = r.below(TOTAL);
  for (const [weight, emit] of EMITTERS) {
    if ((dice -= weight) < 0) {
      emit(w, r);
      return;
    }
  }
}
