// SPDX-License-Identifier: MIT
// SSE floating-point arithmetic, comparisons and rounding to integral values (Intel SDM volume 2; SSE, SSE2, SSE3, SSE4.1).

import { ST } from '../cpu/layout.ts';
import { and, eq, extractLane, i32, op, or, select, shrU, shuffle, sub, type Expr } from '../wasm/expr.ts';
import {
  any,
  apply,
  arithmetic,
  callHost,
  denormal,
  either,
  hostResult,
  isNan,
  number,
  packedDouble,
  packedSingle,
  raisesNews,
  scalarDouble,
  scalarSingle,
  toBits,
  toFloat,
  type Arithmetic,
  type Shape,
} from './simd-float.ts';
import { SseOp } from './simd-host.ts';
import { bitMask, dwords, immediate, qwords, readAligned, setCompareFlags, simdCheck, zeros } from './simd-operands.ts';
import type { Stage } from './stage.ts';
import type { Instruction } from './types.ts';

/** Mandatory prefix, suffix and operand letter of each shape. */
const forms: readonly (readonly [Shape, string, string, string])[] = [
  [packedSingle, 'NP', 'ps', 'x'],
  [packedDouble, '66', 'pd', 'x'],
  [scalarSingle, 'F3', 'ss', 'd'],
  [scalarDouble, 'F2', 'sd', 'q'],
];

/** Source and destination operands in the shape's type. */
const source = (s: Stage, shape: Shape, i: number): Expr => (shape.packed ? readAligned(s, i) : s.read(i));
const destination = (s: Stage, shape: Shape): Expr => (shape.packed ? s.readX(0) : s.read(0));

function setDestination(s: Stage, shape: Shape, value: Expr): void {
  if (shape.packed) s.writeX(0, value);
  else s.write(0, value);
}

function instruction(
  name: string,
  encoding: string,
  access: string,
  shape: Shape,
  run: (s: Stage) => void,
): Instruction {
  return {
    name,
    encodings: [encoding],
    access,
    faults: true,
    ...(shape.packed ? { ownMemory: true } : {}),
    run: (s) => {
      simdCheck(s);
      run(s);
    },
  };
}

function binary(name: Arithmetic, opcode: string): Instruction[] {
  return forms.map(([shape, prefix, suffix, size]) =>
    instruction(name + suffix, `${prefix} 0F ${opcode} V${size},W${size}`, 'xr', shape, (s) => {
      const b = source(s, shape, 1);
      setDestination(s, shape, arithmetic(s, shape, name, destination(s, shape), b));
    }),
  );
}

const squareRoots: readonly Instruction[] = forms.map(([shape, prefix, suffix, size]) =>
  instruction(`sqrt${suffix}`, `${prefix} 0F 51 V${size},W${size}`, 'wr', shape, (s) => {
    const a = source(s, shape, 1);
    setDestination(s, shape, arithmetic(s, shape, 'sqrt', a, a));
  }),
);

/** HADD, HSUB: neighbours within each operand. */
function horizontal(name: string, operation: 'add' | 'sub', prefix: string, opcode: string, shape: Shape): Instruction {
  return instruction(name, `${prefix} 0F ${opcode} Vx,Wx`, 'xr', shape, (s) => {
    const b = readAligned(s, 1);
    const a = s.readX(0);
    const width = shape.double ? 8 : 4;
    const pick = (odd: number): number[] =>
      Array.from({ length: 16 }, (_, i) => Math.floor(i / width) * 2 * width + odd * width + (i % width));
    s.writeX(0, arithmetic(s, shape, operation, s.let(shuffle(a, b, pick(0))), s.let(shuffle(a, b, pick(1)))));
  });
}

const addsub = (name: string, prefix: string, shape: Shape): Instruction =>
  instruction(name, `${prefix} 0F D0 Vx,Wx`, 'xr', shape, (s) => {
    const b = readAligned(s, 1);
    s.writeX(0, arithmetic(s, shape, 'addsub', s.readX(0), b));
  });

/** DPPS, DPPD: bits 7-4 of the immediate choose the products, bits 3-0 the lanes that get the sum; the others are zero and raise nothing. */
function dotProduct(name: string, opcode: string, shape: Shape): Instruction {
  const lanes = shape.double ? 'i64x2' : 'i32x4';
  const bits = (): Expr => (shape.double ? qwords(1, 2) : dwords(1, 2, 4, 8));
  return instruction(name, `66 0F 3A ${opcode} Vx,Wx,Ib`, 'xrr', shape, (s) => {
    const b = readAligned(s, 1);
    const a = s.readX(0);
    const control = immediate(s, 2);
    const inputs = s.let(bitMask(lanes, shrU(control, i32(4)), bits(), s));
    const chosen = (v: Expr): Expr => s.let(op('v128.and', v, inputs));
    let sum = arithmetic(s, shape, 'mul', chosen(a), chosen(b));
    const sumOf = (first: readonly number[], second: readonly number[]): Expr =>
      arithmetic(s, shape, 'add', s.let(shuffle(sum, sum, first)), s.let(shuffle(sum, sum, second)));
    const low8 = [0, 1, 2, 3, 4, 5, 6, 7];
    const high8 = [8, 9, 10, 11, 12, 13, 14, 15];
    if (!shape.double) {
      sum = sumOf(
        [0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11],
        [4, 5, 6, 7, 12, 13, 14, 15, 4, 5, 6, 7, 12, 13, 14, 15],
      );
      const lane = (n: number): number[] => Array.from({ length: 16 }, (_, i) => 4 * n + (i & 3));
      sum = sumOf(lane(0), lane(1));
    } else sum = sumOf([...low8, ...low8], [...high8, ...high8]);
    s.writeX(0, op('v128.and', sum, bitMask(lanes, control, bits(), s)));
  });
}

/** CMPccPS and its kin: predicates eq lt le unord and their negations. */
const compares: readonly Instruction[] = forms.map(([shape, prefix, suffix, size]) =>
  instruction(`cmp${suffix}`, `${prefix} 0F C2 V${size},W${size},Ib`, 'xrr', shape, (s) => {
    const b = source(s, shape, 1);
    const a = destination(s, shape);
    const predicate = s.let(and(immediate(s, 2), i32(7)));
    const fa = toFloat(shape, a);
    const fb = toFloat(shape, b);
    const unordered = s.let(either(shape, isNan(shape, fa), isNan(shape, fb)));
    const kind = s.let(and(predicate, i32(3)));
    const chosen = select(
      and(kind, i32(2)),
      select(and(kind, i32(1)), unordered, apply(shape, 'le', fa, fb)),
      select(and(kind, i32(1)), apply(shape, 'lt', fa, fb), apply(shape, 'eq', fa, fb)),
    );
    const result = s.f.local(shape.type);
    const inverse = shrU(predicate, i32(2));
    if (shape.packed) s.f.set(result, op('v128.xor', chosen, op('i32x4.splat', sub(i32(0), inverse))));
    else {
      const mask = sub(i32(0), op('i32.xor', chosen, inverse));
      s.f.set(result, shape.double ? op('i64.extend_i32_s', mask) : mask);
    }
    const odd = either(shape, unordered, either(shape, denormal(shape, a), denormal(shape, b)));
    s.f.if(any(shape, odd), () => {
      callHost(s, { op: SseOp.cmp, shape, a, b, extra: predicate });
      s.f.set(result, hostResult(s, shape.type));
    });
    setDestination(s, shape, result);
  }),
);

/** COMISS and its kin: ZF, PF, CF = 111 unordered, 000 above, 001 below, 100 equal. */
function compareToFlags(
  name: string,
  encoding: string,
  shape: Shape,
  operation: typeof SseOp.comi | typeof SseOp.ucomi,
): Instruction {
  return {
    ...instruction(name, encoding, 'rr', shape, (s) => {
      const b = s.read(1);
      const a = s.read(0);
      const fa = toFloat(shape, a);
      const fb = toFloat(shape, b);
      const below = s.f.local('i32');
      const equal = s.f.local('i32');
      const unordered = s.f.local('i32');
      s.f.set(below, apply(shape, 'lt', fa, fb));
      s.f.set(equal, apply(shape, 'eq', fa, fb));
      s.f.set(unordered, either(shape, isNan(shape, fa), isNan(shape, fb)));
      s.f.if(or(unordered, or(denormal(shape, a), denormal(shape, b))), () => {
        callHost(s, { op: operation, shape, a, b });
        const order = s.let(hostResult(s, 'i32'));
        s.f.set(below, eq(order, i32(-1)));
        s.f.set(equal, eq(order, i32(0)));
        s.f.set(unordered, eq(order, i32(2)));
      });
      setCompareFlags(s, { cf: or(below, unordered), zf: or(equal, unordered), pf: unordered });
    }),
    writes: 'oszapc',
  };
}

/** ROUNDPS and its kin: bits 1-0 of the immediate are the rounding, bit 2 takes MXCSR's, bit 3 suppresses the precision exception. */
const roundings: readonly Instruction[] = (
  [
    [packedSingle, '08', 'ps', 'x'],
    [packedDouble, '09', 'pd', 'x'],
    [scalarSingle, '0A', 'ss', 'd'],
    [scalarDouble, '0B', 'sd', 'q'],
  ] as const
).map(([shape, opcode, suffix, size]) =>
  instruction(`round${suffix}`, `66 0F 3A ${opcode} V${size},W${size},Ib`, 'wrr', shape, (s) => {
    const a = source(s, shape, 1);
    const control = immediate(s, 2);
    const fa = toFloat(shape, a);
    const fromMxcsr = and(shrU(s.get('i32.load', ST.mxcsr), i32(13)), i32(3));
    const direction = s.let(select(and(control, i32(4)), fromMxcsr, and(control, i32(3))));
    const result = s.f.local(shape.type);
    const set = (name: string): void => s.f.set(result, toBits(shape, apply(shape, name, fa)));
    s.f.if(
      and(direction, i32(2)),
      () =>
        s.f.if(
          and(direction, i32(1)),
          () => set('trunc'),
          () => set('ceil'),
        ),
      () =>
        s.f.if(
          direction,
          () => set('floor'),
          () => set('nearest'),
        ),
    );
    const odd = any(shape, either(shape, isNan(shape, fa), denormal(shape, a)));
    const changed = any(shape, apply(shape, 'ne', toFloat(shape, result), fa));
    const precision = select(and(control, i32(8)), i32(0), select(changed, i32(0x20), i32(0)));
    s.f.if(or(odd, raisesNews(s, s.let(precision))), () => {
      callHost(s, { op: SseOp.round, shape, a, extra: control });
      s.f.set(result, hostResult(s, shape.type));
    });
    setDestination(s, shape, result);
  }),
);

/**
 * RCPPS and RSQRTPS: approximations with a relative error below 1.5 * 2^-12, here the true value rounded to 12 significant bits (an error below 2^-12).
 * The bits differ between vendors and generations of processors. Denormal operands count as zeros, denormal results become zeros; no exceptions.
 */
function approximation(a: Expr, squareRoot: boolean, s: Stage): Expr {
  const one = number(packedSingle, 1);
  const exactValue = op('f32x4.div', one, squareRoot ? op('f32x4.sqrt', a) : a);
  const rounded = s.let(op('v128.and', op('i32x4.add', exactValue, dwords(0x400)), dwords(0xfffff800)));
  const sign = s.let(op('v128.and', a, dwords(0x80000000)));
  const small = (v: Expr): Expr => op('f32x4.lt', op('f32x4.abs', v), number(packedSingle, 2 ** -126));
  let result = op('v128.bitselect', sign, rounded, small(rounded));
  if (squareRoot) result = op('v128.bitselect', dwords(0xffc00000), result, op('f32x4.lt', a, zeros()));
  result = op('v128.bitselect', op('v128.or', sign, dwords(0x7f800000)), result, small(a));
  return op('v128.bitselect', op('v128.or', a, dwords(0x400000)), result, op('f32x4.ne', a, a));
}

function approximations(name: string, opcode: string, squareRoot: boolean): Instruction[] {
  return [
    instruction(`${name}ps`, `NP 0F ${opcode} Vx,Wx`, 'wr', packedSingle, (s) =>
      s.writeX(0, approximation(readAligned(s, 1), squareRoot, s)),
    ),
    instruction(`${name}ss`, `F3 0F ${opcode} Vd,Wd`, 'wr', scalarSingle, (s) => {
      const lane = s.let(op('i32x4.splat', s.read(1)));
      const result = s.let(approximation(lane, squareRoot, s));
      s.write(0, s.let(extractLane('i32x4.extract_lane', result, 0)));
    }),
  ];
}

/** PTEST: ZF when the operands share no bit, CF when the source has none outside the destination. */
const ptest: Instruction = {
  ...instruction('ptest', '66 0F 38 17 Vx,Wx', 'rr', packedSingle, (s) => {
    const b = readAligned(s, 1);
    const a = s.readX(0);
    const empty = (v: Expr): Expr => op('i32.eqz', op('v128.any_true', v));
    setCompareFlags(s, { cf: empty(op('v128.andnot', b, a)), zf: empty(op('v128.and', a, b)) });
  }),
  writes: 'oszapc',
};

export const floatInstructions: readonly Instruction[] = [
  ...binary('add', '58'),
  ...binary('mul', '59'),
  ...binary('sub', '5C'),
  ...binary('min', '5D'),
  ...binary('div', '5E'),
  ...binary('max', '5F'),
  ...squareRoots,
  ...approximations('rsqrt', '52', true),
  ...approximations('rcp', '53', false),
  horizontal('haddps', 'add', 'F2', '7C', packedSingle),
  horizontal('haddpd', 'add', '66', '7C', packedDouble),
  horizontal('hsubps', 'sub', 'F2', '7D', packedSingle),
  horizontal('hsubpd', 'sub', '66', '7D', packedDouble),
  addsub('addsubps', 'F2', packedSingle),
  addsub('addsubpd', '66', packedDouble),
  dotProduct('dpps', '40', packedSingle),
  dotProduct('dppd', '41', packedDouble),
  ...compares,
  compareToFlags('ucomiss', 'NP 0F 2E Vd,Wd', scalarSingle, SseOp.ucomi),
  compareToFlags('ucomisd', '66 0F 2E Vq,Wq', scalarDouble, SseOp.ucomi),
  compareToFlags('comiss', 'NP 0F 2F Vd,Wd', scalarSingle, SseOp.comi),
  compareToFlags('comisd', '66 0F 2F Vq,Wq', scalarDouble, SseOp.comi),
  ...roundings,
  ptest,
];
