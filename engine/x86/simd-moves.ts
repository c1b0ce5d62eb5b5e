// SPDX-License-Identifier: MIT
// MMX and SSE moves, masks, and the logic operations that move bits without arithmetic (Intel SDM volume 2).

import { add, and, extendU, i32, i64, op, replaceLane, shrU, shuffle, wrap, type Expr } from '../wasm/expr.ts';
import {
  enterMmx,
  fromHalves,
  fromLow,
  high64,
  low64,
  mmxCheck,
  readAligned,
  readUnaligned,
  simdCheck,
  writeAligned,
  writeUnaligned,
  zeros,
} from './simd-operands.ts';
import type { Stage } from './stage.ts';
import type { Instruction } from './types.ts';

const common = { faults: true } as const;

/** 128-bit moves: load and store forms share the semantics, register operands never fault. */
function move(name: string, encodings: readonly string[], aligned: boolean): Instruction {
  return {
    ...common,
    name,
    encodings,
    access: 'wr',
    ownMemory: true,
    run: (s) => {
      simdCheck(s);
      const value = aligned ? readAligned(s, 1) : readUnaligned(s, 1);
      if (aligned) writeAligned(s, 0, value);
      else writeUnaligned(s, 0, value);
    },
  };
}

/** Low lane of a register from 32 or 64 bits, the rest cleared. */
const zeroExtended = (value: Expr): Expr => {
  if (value.type === 'i64') return fromLow(value);
  return value.float
    ? replaceLane('f32x4.replace_lane', zeros(), 0, value.float)
    : replaceLane('i32x4.replace_lane', zeros(), 0, value);
};

/** MOVSS, MOVSD loads: from memory the rest of the register is cleared, from a register it is kept. */
function moveScalar(name: string, prefix: string, size: 'd' | 'q'): Instruction[] {
  return [
    {
      ...common,
      name,
      encodings: [`${prefix} 0F 10 V${size},W${size}`],
      access: 'wr',
      run: (s) => {
        simdCheck(s);
        const value = s.read(1);
        if (s.isMemory(1)) s.writeX(0, zeroExtended(value));
        else s.write(0, value);
      },
    },
    {
      ...common,
      name: `${name}.store`,
      encodings: [`${prefix} 0F 11 W${size},V${size}`],
      access: 'wr',
      run: (s) => {
        simdCheck(s);
        s.write(0, s.read(1));
      },
    },
  ];
}

/** Replaces a half of a register: MOVLPS, MOVHPS and their register forms MOVHLPS, MOVLHPS. `half` of the source is taken in register forms. */
function loadHalf(name: string, encoding: string, high: boolean, sourceHalf: 'low' | 'high'): Instruction {
  return {
    ...common,
    name,
    encodings: [encoding],
    access: 'xr',
    run: (s) => {
      simdCheck(s);
      const value = s.isMemory(1) ? s.read(1) : s.let(sourceHalf === 'high' ? high64(s.readX(1)) : low64(s.readX(1)));
      s.writeX(0, replaceLane('i64x2.replace_lane', s.readX(0), high ? 1 : 0, value));
    },
  };
}

function storeHalf(name: string, encodings: readonly string[], high: boolean): Instruction {
  return {
    ...common,
    name: `${name}.store`,
    encodings,
    access: 'wr',
    run: (s) => {
      simdCheck(s);
      s.write(0, s.let(high ? high64(s.readX(1)) : low64(s.readX(1))));
    },
  };
}

/** A description of one line: checks availability, then does `body`. */
function simple(
  name: string,
  encodings: string | readonly string[],
  access: string,
  body: (s: Stage) => void,
  options: Partial<Instruction> = {},
): Instruction {
  return {
    ...common,
    name,
    encodings: typeof encodings === 'string' ? [encodings] : encodings,
    access,
    run: (s) => {
      simdCheck(s);
      body(s);
    },
    ...options,
  };
}

/** An MMX instruction that reads operand 1 and writes operand 0; the x87 state changes between the two. */
function mmxMove(
  name: string,
  encodings: string | readonly string[],
  value: (s: Stage) => Expr,
  options: Partial<Instruction> = {},
): Instruction {
  return {
    ...common,
    name,
    encodings: typeof encodings === 'string' ? [encodings] : encodings,
    access: 'wr',
    run: (s) => {
      mmxCheck(s);
      const result = s.let(value(s));
      if (s.isMemory(0)) {
        // A store may fault: the x87 state changes after it.
        s.write(0, result);
        enterMmx(s);
      } else {
        enterMmx(s);
        s.write(0, result);
      }
    },
    ...options,
  };
}

/**
 * MASKMOVDQU, MASKMOVQ: stores the bytes whose mask bit 7 is set at rDI in DS or the segment of a prefix. A zero mask stores nothing (and, as the manual allows, faults nowhere).
 * Without faults halfway: the range between the first and the last stored byte is checked before the first store.
 */
function maskedStore(s: Stage, value: Expr, mask: Expr): void {
  const f = s.f;
  f.if(mask, () => {
    const offset = s.let(extendU(s.gpr(7, s.addressSize)));
    const address = s.let(s.linear('source', offset, 1, true));
    const first = s.let(op('i32.ctz', mask));
    const last = s.let(op('i32.sub', i32(31), op('i32.clz', mask)));
    s.probe(s.let(add(address, extendU(first))), 1, true);
    s.probe(s.let(add(address, extendU(last))), 1, true);
    const at = f.local('i32');
    f.set(at, first);
    f.loop((again) => {
      f.if(and(shrU(mask, at), i32(1)), () => {
        const byte = op('i8x16.swizzle', value, op('i8x16.splat', at));
        s.store(8, s.let(add(address, extendU(at))), s.let(and(wrap(low64(byte)), i32(0xff))));
      });
      f.increment(at, i32(1));
      f.brIf(again, op('i32.le_u', at, last));
    });
  });
}

/** Bitwise logic of the floating-point types: the same bits as PAND and its kin. */
function logic(name: string, opcode: string, f: (a: Expr, b: Expr) => Expr): Instruction[] {
  return (['NP', '66'] as const).map((prefix) => ({
    ...common,
    name: name + (prefix === 'NP' ? 'ps' : 'pd'),
    encodings: [`${prefix} 0F ${opcode} Vx,Wx`],
    access: 'xr',
    ownMemory: true,
    run: (s) => {
      simdCheck(s);
      const b = readAligned(s, 1);
      s.writeX(0, f(s.readX(0), b));
    },
  }));
}

export const moveInstructions: readonly Instruction[] = [
  move('movups', ['NP 0F 10 Vx,Wx', 'NP 0F 11 Wx,Vx'], false),
  move('movupd', ['66 0F 10 Vx,Wx', '66 0F 11 Wx,Vx'], false),
  move('movdqu', ['F3 0F 6F Vx,Wx', 'F3 0F 7F Wx,Vx'], false),
  move('lddqu', ['F2 0F F0 Vx,Mx'], false),
  move('movaps', ['NP 0F 28 Vx,Wx', 'NP 0F 29 Wx,Vx'], true),
  move('movapd', ['66 0F 28 Vx,Wx', '66 0F 29 Wx,Vx'], true),
  move('movdqa', ['66 0F 6F Vx,Wx', '66 0F 7F Wx,Vx'], true),
  move('movntps', ['NP 0F 2B Mx,Vx'], true),
  move('movntpd', ['66 0F 2B Mx,Vx'], true),
  move('movntdq', ['66 0F E7 Mx,Vx'], true),
  move('movntdqa', ['66 0F 38 2A Vx,Mx'], true),
  ...moveScalar('movss', 'F3', 'd'),
  ...moveScalar('movsd', 'F2', 'q'),
  loadHalf('movlps', 'NP 0F 12 Vx,Wq', false, 'high'),
  loadHalf('movlpd', '66 0F 12 Vx,Mq', false, 'low'),
  loadHalf('movhps', 'NP 0F 16 Vx,Wq', true, 'low'),
  loadHalf('movhpd', '66 0F 16 Vx,Mq', true, 'low'),
  storeHalf('movlps', ['NP 0F 13 Mq,Vx'], false),
  storeHalf('movlpd', ['66 0F 13 Mq,Vx'], false),
  storeHalf('movhps', ['NP 0F 17 Mq,Vx'], true),
  storeHalf('movhpd', ['66 0F 17 Mq,Vx'], true),
  simple('movddup', 'F2 0F 12 Vx,Wq', 'wr', (s) => {
    const value = s.read(1);
    s.writeX(0, value.float ? op('f64x2.splat', value.float) : op('i64x2.splat', value));
  }),
  simple(
    'movsldup',
    'F3 0F 12 Vx,Wx',
    'wr',
    (s) => {
      const a = readAligned(s, 1);
      s.writeX(0, shuffle(a, a, [0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11, 8, 9, 10, 11]));
    },
    { ownMemory: true },
  ),
  simple(
    'movshdup',
    'F3 0F 16 Vx,Wx',
    'wr',
    (s) => {
      const a = readAligned(s, 1);
      s.writeX(0, shuffle(a, a, [4, 5, 6, 7, 4, 5, 6, 7, 12, 13, 14, 15, 12, 13, 14, 15]));
    },
    { ownMemory: true },
  ),
  simple('movd', '66 0F 6E Vx,Ey', 'wr', (s) => s.writeX(0, zeroExtended(s.read(1)))),
  simple('movd.store', '66 0F 7E Ey,Vx', 'wr', (s) => {
    const low = low64(s.readX(1));
    s.write(0, s.let(s.size === 64 ? low : wrap(low)));
  }),
  simple('movq', 'F3 0F 7E Vx,Wq', 'wr', (s) => s.writeX(0, fromLow(s.read(1)))),
  // The store form clears the upper half of a destination register.
  simple('movq.store', '66 0F D6 Wq,Vq', 'wr', (s) => {
    const value = s.read(1);
    if (s.isMemory(0)) s.write(0, value);
    else s.writeX(0, fromLow(value));
  }),
  simple('movnti', 'NP 0F C3 My,Gy', 'wr', (s) => s.write(0, s.read(1)), {
    // A store of a general register: available whatever CR0 says.
    run: (s) => s.write(0, s.read(1)),
    faults: false,
  }),
  simple('movmskps', 'NP 0F 50 Gd,Ux', 'wr', (s) => s.write(0, s.let(op('i32x4.bitmask', s.readX(1))))),
  simple('movmskpd', '66 0F 50 Gd,Ux', 'wr', (s) => s.write(0, s.let(op('i64x2.bitmask', s.readX(1))))),
  simple('pmovmskb', '66 0F D7 Gd,Ux', 'wr', (s) => s.write(0, s.let(op('i8x16.bitmask', s.readX(1))))),
  simple(
    'maskmovdqu',
    '66 0F F7 Vx,Ux',
    'rr',
    (s) => maskedStore(s, s.readX(0), s.let(op('i8x16.bitmask', s.readX(1)))),
    { perAddress: true, stringSource: true },
  ),
  ...logic('and', '54', (a, b) => op('v128.and', a, b)),
  ...logic('andn', '55', (a, b) => op('v128.andnot', b, a)),
  ...logic('or', '56', (a, b) => op('v128.or', a, b)),
  ...logic('xor', '57', (a, b) => op('v128.xor', a, b)),
  mmxMove('movd.mmx', 'NP 0F 6E Pq,Ey', (s) => extendU(s.read(1))),
  mmxMove('movd.mmx.store', 'NP 0F 7E Ey,Pq', (s) => (s.size === 64 ? s.read(1) : wrap(s.read(1)))),
  mmxMove('movq.mmx', ['NP 0F 6F Pq,Qq', 'NP 0F 7F Qq,Pq'], (s) => s.read(1)),
  mmxMove('movntq', 'NP 0F E7 Mq,Pq', (s) => s.read(1)),
  mmxMove('movdq2q', 'F2 0F D6 Pq,Uq', (s) => s.read(1)),
  mmxMove('pmovmskb.mmx', 'NP 0F D7 Gd,Nq', (s) => op('i8x16.bitmask', fromLow(s.read(1)))),
  {
    ...common,
    name: 'movq2dq',
    encodings: ['F3 0F D6 Vx,Nq'],
    access: 'wr',
    run: (s) => {
      mmxCheck(s);
      const value = fromLow(s.read(1));
      enterMmx(s);
      s.writeX(0, value);
    },
  },
  {
    ...common,
    name: 'maskmovq',
    encodings: ['NP 0F F7 Pq,Nq'],
    access: 'rr',
    perAddress: true,
    stringSource: true,
    run: (s) => {
      mmxCheck(s);
      const value = s.read(0);
      const mask = s.let(op('i8x16.bitmask', fromHalves(s.read(1), i64(0))));
      maskedStore(s, s.let(fromLow(value)), mask);
      enterMmx(s);
    },
  },
];
