// SPDX-License-Identifier: MIT
// Packed integer arithmetic, logic and shifts, MMX and SSE forms from one definition each (Intel SDM volume 2; MMX, SSE2, SSSE3, SSE4).

import { and, extractLane, i32, i64, ltU, op, select, shuffle, wrap, type Expr } from '../wasm/expr.ts';
import {
  byteIndex,
  bytes,
  constantOf,
  dwords,
  enterMmx,
  fromLow,
  immediate,
  low64,
  mmxCheck,
  packed,
  packedUnary,
  qwords,
  readAligned,
  simdCheck,
  unary,
  words,
  zeros,
  type Semantics,
} from './simd-operands.ts';
import type { Stage } from './stage.ts';
import type { Instruction } from './types.ts';

const lanewise =
  (name: string): Semantics =>
  (a, b) =>
    op(name, a, b);
const swapped =
  (name: string): Semantics =>
  (a, b) =>
    op(name, b, a);

/** Opcode in map 0F, mnemonic, WebAssembly instruction. */
const lanewiseTable: readonly (readonly [string, string, string])[] = [
  ['FC', 'paddb', 'i8x16.add'],
  ['FD', 'paddw', 'i16x8.add'],
  ['FE', 'paddd', 'i32x4.add'],
  ['D4', 'paddq', 'i64x2.add'],
  ['EC', 'paddsb', 'i8x16.add_sat_s'],
  ['ED', 'paddsw', 'i16x8.add_sat_s'],
  ['DC', 'paddusb', 'i8x16.add_sat_u'],
  ['DD', 'paddusw', 'i16x8.add_sat_u'],
  ['F8', 'psubb', 'i8x16.sub'],
  ['F9', 'psubw', 'i16x8.sub'],
  ['FA', 'psubd', 'i32x4.sub'],
  ['FB', 'psubq', 'i64x2.sub'],
  ['E8', 'psubsb', 'i8x16.sub_sat_s'],
  ['E9', 'psubsw', 'i16x8.sub_sat_s'],
  ['D8', 'psubusb', 'i8x16.sub_sat_u'],
  ['D9', 'psubusw', 'i16x8.sub_sat_u'],
  ['74', 'pcmpeqb', 'i8x16.eq'],
  ['75', 'pcmpeqw', 'i16x8.eq'],
  ['76', 'pcmpeqd', 'i32x4.eq'],
  ['64', 'pcmpgtb', 'i8x16.gt_s'],
  ['65', 'pcmpgtw', 'i16x8.gt_s'],
  ['66', 'pcmpgtd', 'i32x4.gt_s'],
  ['DB', 'pand', 'v128.and'],
  ['EB', 'por', 'v128.or'],
  ['EF', 'pxor', 'v128.xor'],
  ['D5', 'pmullw', 'i16x8.mul'],
  ['E0', 'pavgb', 'i8x16.avgr_u'],
  ['E3', 'pavgw', 'i16x8.avgr_u'],
  ['DA', 'pminub', 'i8x16.min_u'],
  ['DE', 'pmaxub', 'i8x16.max_u'],
  ['EA', 'pminsw', 'i16x8.min_s'],
  ['EE', 'pmaxsw', 'i16x8.max_s'],
  ['F5', 'pmaddwd', 'i32x4.dot_i16x8_s'],
];

/** SSE4: opcode in map 0F 38, no MMX form. */
const sse4Table: readonly (readonly [string, string, string])[] = [
  ['29', 'pcmpeqq', 'i64x2.eq'],
  ['37', 'pcmpgtq', 'i64x2.gt_s'],
  ['38', 'pminsb', 'i8x16.min_s'],
  ['39', 'pminsd', 'i32x4.min_s'],
  ['3A', 'pminuw', 'i16x8.min_u'],
  ['3B', 'pminud', 'i32x4.min_u'],
  ['3C', 'pmaxsb', 'i8x16.max_s'],
  ['3D', 'pmaxsd', 'i32x4.max_s'],
  ['3E', 'pmaxuw', 'i16x8.max_u'],
  ['3F', 'pmaxud', 'i32x4.max_u'],
  ['40', 'pmulld', 'i32x4.mul'],
];

/** High halves of 16-bit products. */
const highProducts =
  (sign: 's' | 'u'): Semantics =>
  (a, b) =>
    shuffle(
      op(`i32x4.extmul_low_i16x8_${sign}`, a, b),
      op(`i32x4.extmul_high_i16x8_${sign}`, a, b),
      [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31],
    );

/** Products of dwords 0 and 2. In the MMX form the operands repeat in the high half, so its lane is a harmless copy. */
const evenProducts =
  (sign: 's' | 'u'): Semantics =>
  (a, b) => {
    const even = (v: Expr): Expr => shuffle(v, v, [0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11]);
    return op(`i64x2.extmul_low_i32x4_${sign}`, even(a), even(b));
  };

const absoluteDifference = (a: Expr, b: Expr): Expr =>
  op('v128.or', op('i8x16.sub_sat_u', a, b), op('i8x16.sub_sat_u', b, a));

/** PSADBW: per 64 bits the sum of eight absolute differences. */
const sumOfDifferences: Semantics = (a, b, s) => {
  const pairs = op('i16x8.extadd_pairwise_i8x16_u', absoluteDifference(a, b));
  const fours = s.let(op('i32x4.extadd_pairwise_i16x8_u', pairs));
  return op('i64x2.add', op('v128.and', fours, qwords(0xffffffff)), op('i64x2.shr_u', fours, i32(32)));
};

/** PMADDUBSW: unsigned bytes of the destination times signed bytes of the source, adjacent products added with saturation. */
const multiplyAddBytes: Semantics = (a, b) => {
  const even = op('i16x8.mul', op('v128.and', a, words(0xff)), op('i16x8.shr_s', op('i16x8.shl', b, i32(8)), i32(8)));
  const odd = op('i16x8.mul', op('i16x8.shr_u', a, i32(8)), op('i16x8.shr_s', b, i32(8)));
  return op('i16x8.add_sat_s', even, odd);
};

/** PMULHRSW: WebAssembly saturates -1 * -1 where PMULHRSW wraps it to -1. */
const roundedProduct: Semantics = (a, b) => {
  const both = op('v128.and', op('i16x8.eq', a, words(0x8000)), op('i16x8.eq', b, words(0x8000)));
  return op('v128.xor', op('i16x8.q15mulr_sat_s', a, b), both);
};

/** PSIGN: negates, keeps or clears by the sign of the source. */
const applySign =
  (shape: string): Semantics =>
  (a, b, s) => {
    const zero = s.let(zeros());
    const negative = s.let(op(`${shape}.lt_s`, b, zero));
    const signed = op(`${shape}.sub`, op('v128.xor', a, negative), negative);
    return op('v128.andnot', signed, op(`${shape}.eq`, b, zero));
  };

/** PHADD, PHSUB: even lanes of (destination, source) combined with the odd lanes. */
function horizontal(name: string, opcode: string, laneBytes: 2 | 4, combine: string): Instruction[] {
  const pick = (odd: 0 | 1, last: number): number[] => {
    const indices: number[] = [];
    for (let at = odd * laneBytes; at < last; at += 2 * laneBytes)
      for (let k = 0; k < laneBytes; k++) indices.push(at + k);
    return indices;
  };
  const sse: Semantics = (a, b) => op(combine, shuffle(a, b, pick(0, 32)), shuffle(a, b, pick(1, 32)));
  const mmx: Semantics = (a, b, s) => {
    const both = s.let(shuffle(a, b, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]));
    const low = (odd: 0 | 1): Expr => shuffle(both, both, [...pick(odd, 16), ...pick(odd, 16)]);
    return op(combine, low(0), low(1));
  };
  return packed(name, opcode, sse, { map: '0F 38', mmx });
}

/** Shift count in the low 64 bits of a register or memory operand, or in an immediate. */
interface ShiftKind {
  readonly name: string;
  /** WebAssembly instruction. */
  readonly wasm: string;
  readonly width: 16 | 32 | 64;
  /** Opcode of the form with a variable count, and of the immediate form with /n. */
  readonly opcode: string;
  readonly group: string;
}

const shifts: readonly ShiftKind[] = [
  { name: 'psrlw', wasm: 'i16x8.shr_u', width: 16, opcode: 'D1', group: '71/2' },
  { name: 'psrld', wasm: 'i32x4.shr_u', width: 32, opcode: 'D2', group: '72/2' },
  { name: 'psrlq', wasm: 'i64x2.shr_u', width: 64, opcode: 'D3', group: '73/2' },
  { name: 'psraw', wasm: 'i16x8.shr_s', width: 16, opcode: 'E1', group: '71/4' },
  { name: 'psrad', wasm: 'i32x4.shr_s', width: 32, opcode: 'E2', group: '72/4' },
  { name: 'psllw', wasm: 'i16x8.shl', width: 16, opcode: 'F1', group: '71/6' },
  { name: 'pslld', wasm: 'i32x4.shl', width: 32, opcode: 'F2', group: '72/6' },
  { name: 'psllq', wasm: 'i64x2.shl', width: 64, opcode: 'F3', group: '73/6' },
];

/** Counts of at least the width shift everything out; WebAssembly would take them modulo the width. `count` is i32 or i64 and bound. */
function shiftLanes(s: Stage, kind: ShiftKind, value: Expr, count: Expr): Expr {
  const limit = (n: number): Expr => (count.type === 'i64' ? i64(n) : i32(n));
  const inRange = s.let(ltU(count, limit(kind.width)));
  if (kind.wasm.endsWith('shr_s')) return op(kind.wasm, value, select(inRange, wrap(count), i32(kind.width - 1)));
  return select(inRange, op(kind.wasm, value, wrap(count)), zeros());
}

function shift(kind: ShiftKind): Instruction[] {
  return [
    {
      name: `${kind.name}.mmx`,
      encodings: [`NP 0F ${kind.opcode} Pq,Qq`],
      access: 'xr',
      faults: true,
      run: (s) => {
        mmxCheck(s);
        const count = s.read(1);
        const value = op('i64x2.splat', s.read(0));
        const result = s.let(low64(shiftLanes(s, kind, value, count)));
        enterMmx(s);
        s.write(0, result);
      },
    },
    {
      name: kind.name,
      encodings: [`66 0F ${kind.opcode} Vx,Wx`],
      access: 'xr',
      ownMemory: true,
      faults: true,
      run: (s) => {
        simdCheck(s);
        const count = s.let(low64(readAligned(s, 1)));
        s.writeX(0, shiftLanes(s, kind, s.readX(0), count));
      },
    },
    {
      name: `${kind.name}i.mmx`,
      encodings: [`NP 0F ${kind.group} Nq,Ib`],
      access: 'xr',
      faults: true,
      run: (s) => {
        mmxCheck(s);
        const value = op('i64x2.splat', s.read(0));
        const result = s.let(low64(shiftLanes(s, kind, value, immediate(s, 1))));
        enterMmx(s);
        s.write(0, result);
      },
    },
    {
      name: `${kind.name}i`,
      encodings: [`66 0F ${kind.group} Ux,Ib`],
      access: 'xr',
      faults: true,
      run: (s) => {
        simdCheck(s);
        s.writeX(0, shiftLanes(s, kind, s.readX(0), immediate(s, 1)));
      },
    },
  ];
}

/** Byte shifts of the whole register; 16 and more clear it. An index outside 0-15 selects zero. */
function byteShift(name: string, encoding: string, left: boolean): Instruction {
  return {
    name,
    encodings: [encoding],
    access: 'xr',
    faults: true,
    run: (s) => {
      simdCheck(s);
      const given = immediate(s, 1);
      const value = s.readX(0);
      const constant = constantOf(given);
      if (constant !== undefined) {
        const by = Math.min(constant, 16);
        const indices = Array.from({ length: 16 }, (_, i) => (left ? 16 + i - by : i + by));
        s.writeX(0, left ? shuffle(zeros(), value, indices) : shuffle(value, zeros(), indices));
        return;
      }
      const by = op('i8x16.splat', select(ltU(given, i32(16)), given, i32(16)));
      s.writeX(0, op('i8x16.swizzle', value, op(left ? 'i8x16.sub' : 'i8x16.add', byteIndex(), by)));
    },
  };
}

/** PHMINPOSUW: smallest unsigned word and its index; index below the value in 32-bit keys, so that the first of equals wins. */
function minimumPosition(a: Expr, s: Stage): Expr {
  const key = (half: 'low' | 'high', first: number): Expr =>
    op(
      'v128.or',
      op('i32x4.shl', op(`i32x4.extend_${half}_i16x8_u`, a), i32(16)),
      dwords(first, first + 1, first + 2, first + 3),
    );
  const four = s.let(op('i32x4.min_u', key('low', 0), key('high', 4)));
  const two = s.let(
    op('i32x4.min_u', four, shuffle(four, four, [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7])),
  );
  const one = op('i32x4.min_u', two, shuffle(two, two, [4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]));
  const smallest = s.let(extractLane('i32x4.extract_lane', one, 0));
  return fromLow(op('i64.extend_i32_u', op('i32.rotl', smallest, i32(16))));
}

/** MPSADBW: eight sums of absolute differences of four bytes; the immediate selects the offsets. */
const multipleSums: Instruction = {
  name: 'mpsadbw',
  encodings: ['66 0F 3A 42 Vx,Wx,Ib'],
  access: 'xrr',
  ownMemory: true,
  faults: true,
  run: (s) => {
    simdCheck(s);
    const b = readAligned(s, 1);
    const a = s.readX(0);
    const control = immediate(s, 2);
    const window = op('i8x16.splat', and(control, i32(4)));
    const block = op('i8x16.splat', op('i32.shl', and(control, i32(3)), i32(2)));
    const four = s.let(op('i8x16.swizzle', b, op('i8x16.add', bytes(0, 1, 2, 3), block)));
    const sums = (first: number): Expr => {
      const at = bytes(...Array.from({ length: 16 }, (_, i) => first + (i >> 2) + (i & 3)));
      const difference = absoluteDifference(s.let(op('i8x16.swizzle', a, op('i8x16.add', at, window))), four);
      return op('i32x4.extadd_pairwise_i16x8_u', op('i16x8.extadd_pairwise_i8x16_u', difference));
    };
    s.writeX(0, op('i16x8.narrow_i32x4_u', sums(0), sums(4)));
  },
};

export const packedIntegerInstructions: readonly Instruction[] = [
  ...lanewiseTable.flatMap(([opcode, name, wasm]) => packed(name, opcode, lanewise(wasm))),
  ...sse4Table.flatMap(([opcode, name, wasm]) => packed(name, opcode, lanewise(wasm), { map: '0F 38', mmx: null })),
  ...packed('pandn', 'DF', swapped('v128.andnot')),
  ...packed('pmulhw', 'E5', highProducts('s')),
  ...packed('pmulhuw', 'E4', highProducts('u')),
  ...packed('pmuludq', 'F4', evenProducts('u')),
  ...packed('pmuldq', '28', evenProducts('s'), { map: '0F 38', mmx: null }),
  ...packed('psadbw', 'F6', sumOfDifferences),
  ...packed('pmaddubsw', '04', multiplyAddBytes, { map: '0F 38' }),
  ...packed('pmulhrsw', '0B', roundedProduct, { map: '0F 38' }),
  ...packed('psignb', '08', applySign('i8x16'), { map: '0F 38' }),
  ...packed('psignw', '09', applySign('i16x8'), { map: '0F 38' }),
  ...packed('psignd', '0A', applySign('i32x4'), { map: '0F 38' }),
  ...packedUnary('pabsb', '0F 38', '1C', (a) => op('i8x16.abs', a)),
  ...packedUnary('pabsw', '0F 38', '1D', (a) => op('i16x8.abs', a)),
  ...packedUnary('pabsd', '0F 38', '1E', (a) => op('i32x4.abs', a)),
  ...horizontal('phaddw', '01', 2, 'i16x8.add'),
  ...horizontal('phaddd', '02', 4, 'i32x4.add'),
  ...horizontal('phaddsw', '03', 2, 'i16x8.add_sat_s'),
  ...horizontal('phsubw', '05', 2, 'i16x8.sub'),
  ...horizontal('phsubd', '06', 4, 'i32x4.sub'),
  ...horizontal('phsubsw', '07', 2, 'i16x8.sub_sat_s'),
  ...shifts.flatMap(shift),
  byteShift('psrldq', '66 0F 73/3 Ux,Ib', false),
  byteShift('pslldq', '66 0F 73/7 Ux,Ib', true),
  unary('phminposuw', '66 0F 38 41 Vx,Wx', minimumPosition),
  multipleSums,
];
