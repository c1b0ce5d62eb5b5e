// SPDX-License-Identifier: MIT
// SSE4.2: the string comparisons PCMPxSTRx (Intel SDM volume 2, section 4.1) and CRC32.

import {
  add,
  and,
  eqz,
  extendU,
  extractLane,
  i32,
  i64,
  ltU,
  ne,
  op,
  or,
  select,
  shl,
  shrS,
  shrU,
  shuffle,
  sub,
  wrap,
  xor,
  type Expr,
} from '../wasm/expr.ts';
import { bytes, dwords, immediate, readUnaligned, setCompareFlags, simdCheck, words, zeros } from './simd-operands.ts';
import type { IntSize, Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

/** Fields of the immediate. */
const Control = { words: 1, signed: 2, aggregation: 0x0c, polarity: 0x30, last: 0x40 } as const;

/** How many elements of an implicit-length string are valid: up to the first zero. `zeroLanes` is a bit per element. */
const implicitLength = (zeroLanes: Expr, count: Expr): Expr => op('i32.ctz', or(zeroLanes, shl(i32(1), count)));

/** Saturated absolute value of an explicit length in EAX/EDX, or RAX/RDX with REX.W. */
function explicitLength(s: Stage, register: number, wide: boolean, count: Expr): Expr {
  const given = s.gpr(register, wide ? 64 : 32);
  const sign = wide ? i64(63) : i32(31);
  const magnitude = s.let(sub(xor(given, shrS(given, sign)), shrS(given, sign)));
  return s.let(select(ltU(magnitude, wide ? extendU(count) : count), wrap(magnitude), count));
}

/** Element `index` of a vector in every lane. */
function broadcast(v: Expr, index: Expr, asWords: boolean): Expr {
  if (!asWords) return op('i8x16.swizzle', v, op('i8x16.splat', index));
  return op('i8x16.swizzle', v, op('i16x8.add', op('i16x8.splat', op('i32.mul', index, i32(0x0202))), words(0x0100)));
}

/** Calls `body` for `index` = 0, `step`, ... below `limit`. */
function forEach(s: Stage, limit: Expr, step: number, body: (index: Expr) => void): void {
  const index = s.f.local('i32');
  s.f.set(index, i32(0));
  s.f.block((done) => {
    s.f.loop((again) => {
      s.f.brIf(done, op('i32.ge_u', index, limit));
      body(index);
      s.f.increment(index, i32(step));
      s.f.br(again);
    });
  });
}

/** One bit per element of b: the aggregated comparison before the polarity. `lengthA` and `lengthB` are valid element counts. */
function aggregate(s: Stage, asWords: boolean, a: Expr, b: Expr, control: Expr, lengthA: Expr, lengthB: Expr): Expr {
  const f = s.f;
  const shape = asWords ? 'i16x8' : 'i8x16';
  const all = asWords ? 0xff : 0xffff;
  const result = f.local('i32');
  const bits = (mask: Expr): Expr => op(`${shape}.bitmask`, mask);
  const below = (length: Expr): Expr => sub(shl(i32(1), length), i32(1));
  const validB = s.let(below(lengthB));
  const aggregation = s.let(shrU(and(control, i32(Control.aggregation)), i32(2)));
  const is = (n: number): Expr => op('i32.eq', aggregation, i32(n));
  const found = f.local('v128');

  f.if(is(0), () => {
    // Equal any: b[j] is one of a's characters.
    f.set(found, zeros());
    forEach(s, lengthA, 1, (i) => f.set(found, op('v128.or', found, op(`${shape}.eq`, b, broadcast(a, i, asWords)))));
    f.set(result, and(bits(found), validB));
  });
  f.if(is(1), () => {
    // Ranges: b[j] lies between a[i] and a[i + 1]; flipping the sign bits turns an unsigned comparison into a signed one.
    f.set(found, zeros());
    const sign = asWords ? words(0x8000) : bytes(0x80);
    const bias = s.let(select(and(control, i32(Control.signed)), zeros(), sign));
    const low = s.let(op('v128.xor', a, bias));
    const value = s.let(op('v128.xor', b, bias));
    forEach(s, and(lengthA, i32(-2)), 2, (i) => {
      const from = op(`${shape}.ge_s`, value, broadcast(low, i, asWords));
      const to = op(`${shape}.le_s`, value, broadcast(low, add(i, i32(1)), asWords));
      f.set(found, op('v128.or', found, op('v128.and', from, to)));
    });
    f.set(result, and(bits(found), validB));
  });
  f.if(is(2), () => {
    // Equal each: beyond both ends counts as equal, beyond one as different.
    const validA = s.let(below(lengthA));
    const equal = and(bits(op(`${shape}.eq`, a, b)), and(validA, validB));
    f.set(result, or(equal, and(xor(or(validA, validB), i32(-1)), i32(all))));
  });
  f.if(is(3), () => {
    // Equal ordered: a is found in b at j, or runs past the end of the register while equal.
    f.set(result, i32(all));
    const count = asWords ? 8 : 16;
    forEach(s, lengthA, 1, (i) => {
      const equal = and(bits(op(`${shape}.eq`, b, broadcast(a, i, asWords))), validB);
      const past = shl(i32(-1), sub(i32(count), i));
      f.set(result, and(result, or(shrU(equal, i), past)));
    });
  });
  // Polarity: 01 negates all, 11 only the valid elements of b.
  const negate = and(control, i32(0x10));
  const mask = select(and(control, i32(0x20)), validB, i32(all));
  return s.let(and(xor(result, select(negate, mask, i32(0))), i32(all)));
}

interface StringKind {
  readonly name: string;
  readonly opcode: string;
  readonly explicit: boolean;
  /** Result: an index in ECX, or a mask in XMM0. */
  readonly index: boolean;
}

/** The mask result: one bit per element, or with bit 6 of the immediate whole elements of ones. */
function expandMask(s: Stage, asWords: boolean, bits: Expr, control: Expr): Expr {
  const plain = op('v128.and', op('i32x4.splat', bits), dwords(0xffffffff, 0, 0, 0));
  const splat = asWords
    ? op('i16x8.splat', bits)
    : op('i8x16.swizzle', op('i32x4.splat', bits), bytes(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  const select1 = s.let(asWords ? words(1, 2, 4, 8, 16, 32, 64, 128) : bytes(1, 2, 4, 8, 16, 32, 64, 128));
  const whole = op(asWords ? 'i16x8.eq' : 'i8x16.eq', op('v128.and', splat, select1), select1);
  return select(and(control, i32(Control.last)), whole, plain);
}

function compareString(kind: StringKind, wide: boolean): Instruction {
  const word = kind.explicit ? (wide ? ' w1' : ' w0') : '';
  return {
    name: kind.name + (kind.explicit && wide ? 'q' : ''),
    encodings: [`66 0F 3A ${kind.opcode} Vx,Wx,Ib${word}`],
    access: 'rrr',
    ownMemory: true,
    faults: true,
    writes: 'oszapc',
    run: (s) => {
      simdCheck(s);
      const f = s.f;
      const b = readUnaligned(s, 1);
      const a = s.readX(0);
      const control = immediate(s, 2);
      const asWords = and(control, i32(Control.words));
      const count = s.let(select(asWords, i32(8), i32(16)));
      const lengthA = f.local('i32');
      const lengthB = f.local('i32');
      const result = f.local('i32');
      const mask = kind.index ? undefined : f.local('v128');
      const run = (w: boolean): void => {
        const zeroLanes = (v: Expr): Expr =>
          w ? op('i16x8.bitmask', op('i16x8.eq', v, zeros())) : op('i8x16.bitmask', op('i8x16.eq', v, zeros()));
        f.set(lengthA, kind.explicit ? explicitLength(s, 0, wide, count) : implicitLength(zeroLanes(a), count));
        f.set(lengthB, kind.explicit ? explicitLength(s, 2, wide, count) : implicitLength(zeroLanes(b), count));
        f.set(result, aggregate(s, w, a, b, control, lengthA, lengthB));
        if (mask) f.set(mask, expandMask(s, w, result, control));
      };
      f.if(
        asWords,
        () => run(true),
        () => run(false),
      );
      if (mask) s.setXmm(0, mask);
      else {
        const first = op('i32.ctz', or(result, shl(i32(1), count)));
        const last = sub(i32(31), op('i32.clz', result));
        const index = select(eqz(result), count, select(and(control, i32(Control.last)), last, first));
        s.setGpr(1, 32, s.let(index));
      }
      setCompareFlags(s, {
        cf: ne(result, i32(0)),
        zf: ltU(lengthB, count),
        sf: ltU(lengthA, count),
        of: and(result, i32(1)),
      });
    },
  };
}

/** Constants of CRC-32C (polynomial 0x1EDC6F41, reflected): the remainder of each single bit of a `bits`-bit message. */
function crcBitRemainders(bits: number): number[] {
  return Array.from({ length: bits }, (_, i) => {
    let crc = 1;
    for (let steps = bits - i; steps > 0; steps--) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    return crc | 0;
  });
}

/**
 * CRC32: the checksum is linear over GF(2) in the bits of (crc xor data), so it is the sum of one constant per set bit: four at a time. A message
 * shorter than the checksum leaves the checksum's upper bits to be shifted down.
 */
function crc32c(s: Stage, bits: IntSize, crc: Expr, data: Expr): Expr {
  const message = s.let(xor(bits === 64 ? extendU(crc) : crc, data));
  const low = s.let(op('i32x4.splat', wrap(message)));
  const high = bits === 64 ? s.let(op('i32x4.splat', wrap(shrU(message, i64(32))))) : low;
  const remainders = crcBitRemainders(bits);
  let total: Expr | undefined;
  for (let i = 0; i < bits; i += 4) {
    const masks = dwords(...[0, 1, 2, 3].map((k) => (1 << ((i + k) & 31)) >>> 0));
    const term = op(
      'v128.andnot',
      dwords(...remainders.slice(i, i + 4)),
      op('i32x4.eq', op('v128.and', i < 32 ? low : high, masks), zeros()),
    );
    total = total ? op('v128.xor', total, term) : term;
  }
  const four = s.let(total!);
  const two = s.let(
    op('v128.xor', four, shuffle(four, four, [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15])),
  );
  const one = op('i32.xor', extractLane('i32x4.extract_lane', two, 0), extractLane('i32x4.extract_lane', two, 1));
  return bits < 32 ? op('i32.xor', one, shrU(crc, i32(bits))) : one;
}

export const stringInstructions: readonly Instruction[] = [
  ...(
    [
      { name: 'pcmpestrm', opcode: '60', explicit: true, index: false },
      { name: 'pcmpestri', opcode: '61', explicit: true, index: true },
      { name: 'pcmpistrm', opcode: '62', explicit: false, index: false },
      { name: 'pcmpistri', opcode: '63', explicit: false, index: true },
    ] satisfies StringKind[]
  ).flatMap((kind) =>
    kind.explicit ? [compareString(kind, false), compareString(kind, true)] : [compareString(kind, false)],
  ),
  insn('crc32b', 'F2 0F 38 F0 Gd,Eb', 'xr', {}, (s) => {
    const data = s.read(1);
    s.write(0, s.let(crc32c(s, 8, s.read(0), data)));
  }),
  insn('crc32', 'F2 0F 38 F1 Gd,Ev', 'xr', {}, (s) => {
    const data = s.read(1);
    s.write(0, s.let(crc32c(s, s.size, s.read(0), data)));
  }),
];
