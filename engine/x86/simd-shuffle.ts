// SPDX-License-Identifier: MIT
// Packing, unpacking, shuffles, blends, inserts, extracts and widening moves (Intel SDM volume 2; MMX, SSE, SSE2, SSSE3, SSE4.1).

import { and, extractLane, i32, ltU, mul, op, replaceLane, select, shrU, shuffle, type Expr } from '../wasm/expr.ts';
import {
  bitMask,
  byteIndex,
  bytes,
  constantOf,
  dwords,
  enterMmx,
  fromHalves,
  fromLow,
  immediate,
  low64,
  mmxCheck,
  packed,
  qwords,
  readAligned,
  simdCheck,
  words,
  zeros,
  type Semantics,
} from './simd-operands.ts';
import type { Stage } from './stage.ts';
import type { Instruction } from './types.ts';

/** Low halves of both operands as one vector. */
const joinLow = (a: Expr, b: Expr): Expr => shuffle(a, b, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);

function pack(name: string, opcode: string, wasm: string, map = '0F', withMmx = true): Instruction[] {
  const mmx: Semantics = (a, b, s) => {
    const both = s.let(joinLow(a, b));
    return op(wasm, both, both);
  };
  return packed(name, opcode, (a, b) => op(wasm, a, b), { map, mmx: withMmx ? mmx : null });
}

/** PUNPCKL and PUNPCKH: lanes of destination and source alternate. */
function unpack(name: string, opcode: string, laneBytes: number, high: boolean): Instruction[] {
  const interleave = (first: number): number[] => {
    const indices: number[] = [];
    for (let at = first; indices.length < 16; at += laneBytes) {
      for (const vector of [0, 16]) for (let k = 0; k < laneBytes; k++) indices.push(vector + ((at + k) & 15));
    }
    return indices;
  };
  const sse: Semantics = (a, b) => shuffle(a, b, interleave(high ? 8 : 0));
  const mmx: Semantics = (a, b) => shuffle(a, b, interleave(high ? 4 : 0));
  return packed(name, opcode, sse, { mmx: laneBytes === 8 ? null : mmx, mmxSource: high ? 'q' : 'd' });
}

/** A fixed permutation of two registers without an MMX form. */
function permutation(name: string, opcode: string, f: (a: Expr, b: Expr) => Expr): Instruction {
  return {
    name,
    encodings: [`${opcode} Vx,Wx`],
    access: 'xr',
    ownMemory: true,
    faults: true,
    run: (s) => {
      simdCheck(s);
      const b = readAligned(s, 1);
      s.writeX(0, f(s.readX(0), b));
    },
  };
}

/** Byte indices of a shuffle of four lanes by two-bit fields of an immediate. */
function fieldIndices(control: number, laneBytes: number, offset = 0): number[] {
  const indices: number[] = [];
  for (let i = 0; i < 4; i++)
    for (let k = 0; k < laneBytes; k++) indices.push(offset + ((control >> (2 * i)) & 3) * laneBytes + k);
  return indices;
}

/** The four two-bit fields of a run-time immediate in the dwords of a vector, as byte indices of dwords. */
function dwordControl(control: Expr): Expr {
  const fields = op(
    'v128.and',
    op('i32x4.shr_u', op('i32x4.mul', op('i32x4.splat', control), dwords(64, 16, 4, 1)), i32(6)),
    dwords(3),
  );
  return op('i32x4.add', op('i32x4.mul', fields, dwords(0x04040404)), dwords(0x03020100));
}

/** The same for the four words of one half; the other half keeps its words. */
function wordControl(control: Expr, high: boolean): Expr {
  const select4 = high ? [0, 0, 0, 0, 64, 16, 4, 1] : [64, 16, 4, 1, 0, 0, 0, 0];
  const start = high
    ? [0x0100, 0x0302, 0x0504, 0x0706, 0x0908, 0x0908, 0x0908, 0x0908]
    : [0x0100, 0x0100, 0x0100, 0x0100, 0x0908, 0x0b0a, 0x0d0c, 0x0f0e];
  const fields = op(
    'v128.and',
    op('i16x8.shr_u', op('i16x8.mul', op('i16x8.splat', control), words(...select4)), i32(6)),
    words(3),
  );
  return op('i16x8.add', op('i16x8.mul', fields, words(0x0202)), words(...start));
}

function shuffleDwords(value: Expr, control: Expr): Expr {
  const constant = constantOf(control);
  if (constant !== undefined) return shuffle(value, value, fieldIndices(constant, 4));
  return op('i8x16.swizzle', value, dwordControl(control));
}

function shuffleWords(value: Expr, control: Expr, high: boolean): Expr {
  const constant = constantOf(control);
  if (constant === undefined) return op('i8x16.swizzle', value, wordControl(control, high));
  const kept = Array.from({ length: 8 }, (_, i) => (high ? i : i + 8));
  const moved = fieldIndices(constant, 2, high ? 8 : 0);
  return shuffle(value, value, high ? [...kept, ...moved] : [...moved, ...kept]);
}

/** `dest = f(source, immediate)`. */
function immediateUnary(name: string, encoding: string, f: (a: Expr, control: Expr, s: Stage) => Expr): Instruction {
  return {
    name,
    encodings: [encoding],
    access: 'wrr',
    ownMemory: true,
    faults: true,
    run: (s) => {
      simdCheck(s);
      s.writeX(0, f(readAligned(s, 1), immediate(s, 2), s));
    },
  };
}

/** `dest = f(dest, source, immediate)`. */
function immediateBinary(
  name: string,
  encoding: string,
  f: (a: Expr, b: Expr, control: Expr, s: Stage) => Expr,
): Instruction {
  return {
    name,
    encodings: [encoding],
    access: 'xrr',
    ownMemory: true,
    faults: true,
    run: (s) => {
      simdCheck(s);
      const b = readAligned(s, 1);
      s.writeX(0, f(s.readX(0), b, immediate(s, 2), s));
    },
  };
}

const shufps = immediateBinary('shufps', 'NP 0F C6 Vx,Wx,Ib', (a, b, control) => {
  const constant = constantOf(control);
  if (constant !== undefined) {
    const indices = fieldIndices(constant, 4);
    return shuffle(a, b, [...indices.slice(0, 8), ...indices.slice(8).map((i) => i + 16)]);
  }
  const control4 = dwordControl(control);
  // Only one of the two halves of each swizzle is used.
  return shuffle(
    op('i8x16.swizzle', a, control4),
    op('i8x16.swizzle', b, control4),
    [0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31],
  );
});

/** One bit of an immediate. */
const bit = (control: Expr, n: number): Expr => and(shrU(control, i32(n)), i32(1));
const highTwice = [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15];
const lowTwice = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7];

const shufpd = immediateBinary('shufpd', '66 0F C6 Vx,Wx,Ib', (a, b, control) => {
  const low = select(bit(control, 0), shuffle(a, a, highTwice), a);
  const high = select(bit(control, 1), b, shuffle(b, b, lowTwice));
  return shuffle(low, high, [0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31]);
});

/** PALIGNR: bytes of (destination, source) from the immediate on; indices outside a register select zero, which the other one fills. */
const palignr = immediateBinary('palignr', '66 0F 3A 0F Vx,Wx,Ib', (a, b, control, s) => {
  const constant = constantOf(control);
  if (constant !== undefined && constant <= 16) {
    return shuffle(
      b,
      a,
      Array.from({ length: 16 }, (_, i) => i + constant),
    );
  }
  const by = op('i8x16.splat', select(ltU(control, i32(32)), control, i32(32)));
  const indices = s.let(op('i8x16.add', byteIndex(), by));
  return op('v128.or', op('i8x16.swizzle', b, indices), op('i8x16.swizzle', a, op('i8x16.sub', indices, bytes(16))));
});

const palignrMmx: Instruction = {
  name: 'palignr.mmx',
  encodings: ['NP 0F 3A 0F Pq,Qq,Ib'],
  access: 'xrr',
  faults: true,
  run: (s) => {
    mmxCheck(s);
    const b = s.read(1);
    const control = immediate(s, 2);
    const by = op('i8x16.splat', select(ltU(control, i32(16)), control, i32(16)));
    const result = s.let(low64(op('i8x16.swizzle', fromHalves(b, s.read(0)), op('i8x16.add', byteIndex(), by))));
    enterMmx(s);
    s.write(0, result);
  },
};

const pshufw: Instruction = {
  name: 'pshufw',
  encodings: ['NP 0F 70 Pq,Qq,Ib'],
  access: 'wrr',
  faults: true,
  run: (s) => {
    mmxCheck(s);
    const result = s.let(low64(shuffleWords(s.let(op('i64x2.splat', s.read(1))), immediate(s, 2), false)));
    enterMmx(s);
    s.write(0, result);
  },
};

/** PSHUFB: bit 7 of an index gives zero. */
const pshufb = packed('pshufb', '00', (a, b) => op('i8x16.swizzle', a, op('v128.and', b, bytes(0x8f))), {
  map: '0F 38',
  mmx: (a, b) => op('i8x16.swizzle', a, op('v128.and', b, bytes(0x87))),
});

function blend(name: string, opcode: string, shape: string, bits: () => Expr): Instruction {
  return immediateBinary(name, `66 0F 3A ${opcode} Vx,Wx,Ib`, (a, b, control, s) =>
    op('v128.bitselect', b, a, bitMask(shape, control, bits(), s)),
  );
}

/** Blends by the sign bits of XMM0's lanes. */
function variableBlend(name: string, opcode: string, shape: string): Instruction {
  return {
    name,
    encodings: [`66 0F 38 ${opcode} Vx,Wx`],
    access: 'xr',
    ownMemory: true,
    faults: true,
    run: (s) => {
      simdCheck(s);
      const b = readAligned(s, 1);
      s.writeX(0, op('v128.bitselect', b, s.readX(0), op(`${shape}.lt_s`, s.xmm(0), zeros())));
    },
  };
}

/** Lane shape of inserts and extracts. */
interface LaneShape {
  readonly shape: 'i8x16' | 'i16x8' | 'i32x4' | 'i64x2';
  readonly lanes: number;
  readonly bytes: number;
}
const byteLanes: LaneShape = { shape: 'i8x16', lanes: 16, bytes: 1 };
const wordLanes: LaneShape = { shape: 'i16x8', lanes: 8, bytes: 2 };
const dwordLanes: LaneShape = { shape: 'i32x4', lanes: 4, bytes: 4 };
const qwordLanes: LaneShape = { shape: 'i64x2', lanes: 2, bytes: 8 };

/** Lane `index` (run-time, taken modulo `lanes`) as i32, zero-extended, or i64. */
function extract(v: Expr, l: LaneShape, index: Expr, lanes = l.lanes): Expr {
  const name = `${l.shape}.extract_lane${l.bytes < 4 ? '_u' : ''}`;
  const constant = constantOf(index);
  if (constant !== undefined) return extractLane(name, v, constant & (lanes - 1));
  const first = op('i8x16.splat', mul(and(index, i32(lanes - 1)), i32(l.bytes)));
  return extractLane(name, op('i8x16.swizzle', v, op('i8x16.add', byteIndex(), first)), 0);
}

function insert(v: Expr, l: LaneShape, index: Expr, value: Expr, lanes = l.lanes): Expr {
  const constant = constantOf(index);
  if (constant !== undefined) return replaceLane(`${l.shape}.replace_lane`, v, constant & (lanes - 1), value);
  const position = op('i8x16.splat', and(index, i32(lanes - 1)));
  const laneOfByte = bytes(...Array.from({ length: 16 }, (_, i) => Math.floor(i / l.bytes)));
  return op('v128.bitselect', op(`${l.shape}.splat`, value), v, op('i8x16.eq', laneOfByte, position));
}

/** PINSRD/PINSRQ and PEXTRD/PEXTRQ: the operand size decides. */
const wideLanes = (s: Stage): LaneShape => (s.size === 64 ? qwordLanes : dwordLanes);

function insertInstruction(name: string, encodings: readonly string[], lanes: (s: Stage) => LaneShape): Instruction {
  return {
    name,
    encodings,
    access: 'xrr',
    faults: true,
    run: (s) => {
      simdCheck(s);
      const value = s.read(1);
      s.writeX(0, insert(s.readX(0), lanes(s), immediate(s, 2), value));
    },
  };
}

function extractInstruction(name: string, encodings: readonly string[], lanes: (s: Stage) => LaneShape): Instruction {
  return {
    name,
    encodings,
    access: 'wrr',
    faults: true,
    run: (s) => {
      simdCheck(s);
      s.write(0, s.let(extract(s.readX(1), lanes(s), immediate(s, 2))));
    },
  };
}

/** PINSRW with MMX: a register or 16 bits of memory into one of four words. */
const pinsrwMmx: Instruction = {
  name: 'pinsrw.mmx',
  encodings: ['NP 0F C4 Pq,Rd,Ib', 'NP 0F C4 Pq,Mw,Ib'],
  access: 'xrr',
  faults: true,
  run: (s) => {
    mmxCheck(s);
    const value = s.read(1);
    const result = s.let(low64(insert(s.let(fromLow(s.read(0))), wordLanes, immediate(s, 2), value, 4)));
    enterMmx(s);
    s.write(0, result);
  },
};

const pextrwMmx: Instruction = {
  name: 'pextrw.mmx',
  encodings: ['NP 0F C5 Gd,Nq,Ib'],
  access: 'wrr',
  faults: true,
  run: (s) => {
    mmxCheck(s);
    const value = s.let(extract(s.let(fromLow(s.read(1))), wordLanes, immediate(s, 2), 4));
    enterMmx(s);
    s.write(0, value);
  },
};

/** INSERTPS: bits 7-6 select the source dword (register form), 5-4 the destination, 3-0 clear dwords. */
const insertps: Instruction = {
  name: 'insertps',
  encodings: ['66 0F 3A 21 Vx,Ud,Ib', '66 0F 3A 21 Vx,Md,Ib'],
  access: 'xrr',
  faults: true,
  run: (s) => {
    simdCheck(s);
    const control = immediate(s, 2);
    const value = s.isMemory(1) ? s.read(1) : extract(s.readX(1), dwordLanes, shrU(control, i32(6)));
    const inserted = insert(s.readX(0), dwordLanes, and(shrU(control, i32(4)), i32(3)), value);
    s.writeX(0, op('v128.andnot', inserted, bitMask('i32x4', control, dwords(1, 2, 4, 8), s)));
  },
};

/** PMOVSX and PMOVZX: one, two or three doublings of the low lanes. */
function widenLow(name: string, opcode: string, source: string, steps: readonly string[]): Instruction {
  return {
    name,
    encodings: [`66 0F 38 ${opcode} Vx,${source}`],
    access: 'wr',
    faults: true,
    run: (s) => {
      simdCheck(s);
      const value = s.read(1);
      let vector = value.type === 'i64' ? fromLow(value) : replaceLane('i32x4.replace_lane', zeros(), 0, value);
      for (const step of steps) vector = op(step, vector);
      s.writeX(0, vector);
    },
  };
}

function widenings(sign: 's' | 'u', opcode: number): Instruction[] {
  const byteToWord = `i16x8.extend_low_i8x16_${sign}`;
  const wordToDword = `i32x4.extend_low_i16x8_${sign}`;
  const dwordToQword = `i64x2.extend_low_i32x4_${sign}`;
  const table: readonly (readonly [string, string, readonly string[]])[] = [
    ['bw', 'Wq', [byteToWord]],
    ['bd', 'Wd', [byteToWord, wordToDword]],
    ['bq', 'Ww', [byteToWord, wordToDword, dwordToQword]],
    ['wd', 'Wq', [wordToDword]],
    ['wq', 'Wd', [wordToDword, dwordToQword]],
    ['dq', 'Wq', [dwordToQword]],
  ];
  const stem = sign === 's' ? 'pmovsx' : 'pmovzx';
  return table.map(([kind, source, steps], i) =>
    widenLow(stem + kind, (opcode + i).toString(16).toUpperCase(), source, steps),
  );
}

export const shuffleInstructions: readonly Instruction[] = [
  ...pack('packsswb', '63', 'i8x16.narrow_i16x8_s'),
  ...pack('packuswb', '67', 'i8x16.narrow_i16x8_u'),
  ...pack('packssdw', '6B', 'i16x8.narrow_i32x4_s'),
  ...pack('packusdw', '2B', 'i16x8.narrow_i32x4_u', '0F 38', false),
  ...unpack('punpcklbw', '60', 1, false),
  ...unpack('punpcklwd', '61', 2, false),
  ...unpack('punpckldq', '62', 4, false),
  ...unpack('punpcklqdq', '6C', 8, false),
  ...unpack('punpckhbw', '68', 1, true),
  ...unpack('punpckhwd', '69', 2, true),
  ...unpack('punpckhdq', '6A', 4, true),
  ...unpack('punpckhqdq', '6D', 8, true),
  // Floating-point names of the same permutations: no arithmetic, so no exceptions.
  permutation('unpcklps', 'NP 0F 14', (a, b) =>
    shuffle(a, b, [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23]),
  ),
  permutation('unpckhps', 'NP 0F 15', (a, b) =>
    shuffle(a, b, [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31]),
  ),
  permutation('unpcklpd', '66 0F 14', joinLow),
  permutation('unpckhpd', '66 0F 15', (a, b) =>
    shuffle(a, b, [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31]),
  ),
  shufps,
  shufpd,
  pshufw,
  immediateUnary('pshufd', '66 0F 70 Vx,Wx,Ib', shuffleDwords),
  immediateUnary('pshuflw', 'F2 0F 70 Vx,Wx,Ib', (a, control) => shuffleWords(a, control, false)),
  immediateUnary('pshufhw', 'F3 0F 70 Vx,Wx,Ib', (a, control) => shuffleWords(a, control, true)),
  ...pshufb,
  palignr,
  palignrMmx,
  blend('blendps', '0C', 'i32x4', () => dwords(1, 2, 4, 8)),
  blend('blendpd', '0D', 'i64x2', () => qwords(1, 2)),
  blend('pblendw', '0E', 'i16x8', () => words(1, 2, 4, 8, 16, 32, 64, 128)),
  variableBlend('pblendvb', '10', 'i8x16'),
  variableBlend('blendvps', '14', 'i32x4'),
  variableBlend('blendvpd', '15', 'i64x2'),
  pinsrwMmx,
  insertInstruction('pinsrb', ['66 0F 3A 20 Vx,Rd,Ib', '66 0F 3A 20 Vx,Mb,Ib'], () => byteLanes),
  insertInstruction('pinsrw', ['66 0F C4 Vx,Rd,Ib', '66 0F C4 Vx,Mw,Ib'], () => wordLanes),
  insertInstruction('pinsrd', ['66 0F 3A 22 Vx,Ey,Ib'], wideLanes),
  insertps,
  pextrwMmx,
  extractInstruction('pextrb', ['66 0F 3A 14 Rd,Vx,Ib', '66 0F 3A 14 Mb,Vx,Ib'], () => byteLanes),
  extractInstruction('pextrw', ['66 0F C5 Gd,Ux,Ib', '66 0F 3A 15 Rd,Vx,Ib', '66 0F 3A 15 Mw,Vx,Ib'], () => wordLanes),
  extractInstruction('pextrd', ['66 0F 3A 16 Ey,Vx,Ib'], wideLanes),
  extractInstruction('extractps', ['66 0F 3A 17 Ed,Vx,Ib'], () => dwordLanes),
  ...widenings('s', 0x20),
  ...widenings('u', 0x30),
];
