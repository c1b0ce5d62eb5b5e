// SPDX-License-Identifier: MIT
// Conversions between integers, single and double precision (Intel SDM volume 2, CVT*; volume 1, section 4.8.4 on rounding and the integer indefinite value).

import { ST } from '../cpu/layout.ts';
import { and, i32, konst, ne, op, or, select, shuffle, type Expr } from '../wasm/expr.ts';
import {
  any,
  apply,
  callHost,
  Control,
  control,
  denormal,
  either,
  guard,
  hostResult,
  isNan,
  nonFinite,
  nonZero,
  number,
  packedDouble,
  packedSingle,
  raisesNews,
  scalarDouble,
  scalarSingle,
  tiny,
  toBits,
  toFloat,
  both,
  type HostRequest,
  type Shape,
} from './simd-float.ts';
import { SseOp } from './simd-host.ts';
import { dwords, enterMmx, fromLow, low64, mmxCheck, readAligned, simdCheck, zeros } from './simd-operands.ts';
import type { Stage } from './stage.ts';
import type { Instruction } from './types.ts';

interface Options {
  /** Uses an MMX register: checks and changes the x87 state. */
  readonly mmx?: boolean;
  readonly ownMemory?: boolean;
}

/** `convert` reads operand 1 and returns the result; operand 0 is written at its own size. */
function conversion(name: string, encoding: string, options: Options, convert: (s: Stage) => Expr): Instruction {
  const whole = / V[x]/.test(encoding);
  return {
    name,
    encodings: [encoding],
    access: 'wr',
    faults: true,
    ...(options.ownMemory ? { ownMemory: true } : {}),
    run: (s) => {
      simdCheck(s);
      if (options.mmx) mmxCheck(s);
      const result = s.let(convert(s));
      if (options.mmx) enterMmx(s);
      if (whole) s.writeX(0, result);
      else s.write(0, result);
    },
  };
}

/** Flags (i32) of a conversion to integers. */
const integerFlags = (invalid: Expr, inexact: Expr): Expr =>
  or(select(invalid, i32(1), i32(0)), select(inexact, i32(0x20), i32(0)));

/** Leaves the conversion to the host when it raises something new or MXCSR rounds otherwise than to nearest (truncations do not care). */
function settle(s: Stage, flags: Expr, truncate: boolean, then: () => void): void {
  const news = raisesNews(s, s.let(flags));
  const rounding = and(s.get('i32.load', ST.mxcsr), i32(0x6000));
  s.f.if(truncate ? news : or(news, rounding), then);
}

/** CVTSS2SI and its kin: out of range and NaN give the integer indefinite value, 80...0. */
function scalarToInteger(s: Stage, shape: Shape, truncate: boolean): Expr {
  const a = s.read(1);
  const fa = toFloat(shape, a);
  const type = s.size === 64 ? 'i64' : 'i32';
  const limit = 2 ** (s.size - 1);
  const rounded = s.let(apply(shape, truncate ? 'trunc' : 'nearest', fa));
  const inRange = s.let(
    and(apply(shape, 'lt', rounded, number(shape, limit)), apply(shape, 'ge', rounded, number(shape, -limit))),
  );
  const result = s.f.local(type);
  const indefinite = konst(type, type === 'i64' ? -(2n ** 63n) : -(2 ** 31));
  s.f.set(result, select(inRange, op(`${type}.trunc_sat_${shape.wasm}_s`, rounded), indefinite));
  const flags = select(inRange, select(apply(shape, 'ne', rounded, fa), i32(0x20), i32(0)), i32(1));
  settle(s, flags, truncate, () => {
    callHost(s, { op: type === 'i64' ? SseOp.toInt64 : SseOp.toInt32, shape, a, fixed: truncate ? 1 : 0 });
    s.f.set(result, hostResult(s, type));
  });
  return result;
}

/** Lanes of a v128 to 32-bit integers; two doubles go to the low half, the rest is zero. */
function packedToInteger(s: Stage, shape: Shape, a: Expr, truncate: boolean): Expr {
  const rounded = s.let(apply(shape, truncate ? 'trunc' : 'nearest', a));
  // WebAssembly saturates: right below the range (80...0), wrong above it and for NaNs (not below the limit).
  const above = s.let(op('v128.not', apply(shape, 'lt', rounded, number(shape, 2 ** 31))));
  const invalid = s.let(op('v128.or', above, apply(shape, 'lt', rounded, number(shape, -(2 ** 31)))));
  const inexact = op('v128.andnot', apply(shape, 'ne', rounded, a), invalid);
  const result = s.f.local('v128');
  const mask = shape.double
    ? shuffle(above, zeros(), [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23])
    : above;
  const integers = op(shape.double ? 'i32x4.trunc_sat_f64x2_s_zero' : 'i32x4.trunc_sat_f32x4_s', rounded);
  s.f.set(result, op('v128.bitselect', dwords(0x80000000), integers, mask));
  settle(s, integerFlags(any(shape, invalid), any(shape, inexact)), truncate, () => {
    callHost(s, { op: SseOp.toInt32, shape, a, fixed: truncate ? 1 : 0 });
    s.f.set(result, hostResult(s, 'v128'));
  });
  return result;
}

/** Replaces an inexact result by the host's unless rounding to nearest with the precision flag already set makes it right. Exact results need nothing. */
function settleInexact(
  s: Stage,
  result: ReturnType<Stage['f']['local']>,
  exact: () => Expr,
  request: HostRequest,
): void {
  s.f.if(ne(control(s), i32(Control.fast)), () => {
    s.f.if(op('i32.eqz', exact()), () => {
      callHost(s, request);
      s.f.set(result, hostResult(s, result.type));
    });
  });
}

/** CVTSI2SS, CVTSI2SD. */
function integerToScalar(s: Stage, shape: Shape): Expr {
  const a = s.read(1);
  const type = a.type;
  const r = s.let(op(`${shape.wasm}.convert_${type}_s`, a));
  const result = s.f.local(shape.type);
  s.f.set(result, toBits(shape, r));
  if (shape.double && type === 'i32') return result;
  // Converting back shows exactness, but for 2^31 and 2^63, to which only smaller integers are rounded.
  const exact = (): Expr =>
    and(
      op(`${type}.eq`, op(`${type}.trunc_sat_${shape.wasm}_s`, r), a),
      apply(shape, 'lt', r, number(shape, type === 'i64' ? 2 ** 63 : 2 ** 31)),
    );
  settleInexact(s, result, exact, { op: type === 'i64' ? SseOp.fromInt64 : SseOp.fromInt32, shape, a });
  return result;
}

/** CVTDQ2PS on the four dwords of a vector. */
function dwordsToSingles(s: Stage, a: Expr): Expr {
  const result = s.f.local('v128');
  s.f.set(result, op('f32x4.convert_i32x4_s', a));
  const exact = (): Expr => {
    const same = op('i32x4.eq', op('i32x4.trunc_sat_f32x4_s', result), a);
    return op('i32x4.all_true', op('v128.and', same, op('f32x4.lt', result, number(packedSingle, 2 ** 31))));
  };
  settleInexact(s, result, exact, { op: SseOp.fromInt32, shape: packedSingle, a });
  return result;
}

/** Single to double: exact; NaNs (payload, quieting) and denormals go to the host. */
function widenSingle(s: Stage, packed: boolean, a: Expr): Expr {
  const shape = packed ? packedSingle : scalarSingle;
  const fa = toFloat(shape, a);
  const result = s.f.local(packed ? 'v128' : 'i64');
  s.f.set(result, packed ? op('f64x2.promote_low_f32x4', a) : op('i64.reinterpret_f64', op('f64.promote_f32', fa)));
  s.f.if(any(shape, either(shape, isNan(shape, fa), denormal(shape, a))), () => {
    callHost(s, { op: SseOp.convert, shape, a, lanes: packed ? 2 : 1 });
    s.f.set(result, hostResult(s, result.type));
  });
  return result;
}

/** Double to single: rounds, overflows, underflows. */
function narrowDouble(s: Stage, shape: Shape, a: Expr): Expr {
  const fa = toFloat(shape, a);
  const narrow = s.let(op(shape.packed ? 'f32x4.demote_f64x2_zero' : 'f32.demote_f64', fa));
  const result = s.f.local(shape.packed ? 'v128' : 'i32');
  s.f.set(result, shape.packed ? narrow : op('i32.reinterpret_f32', narrow));
  const back = s.let(op(shape.packed ? 'f64x2.promote_low_f32x4' : 'f64.promote_f32', narrow));
  const underflow = both(shape, tiny(shape, back, 2 ** -126), nonZero(shape, fa));
  const odd = either(shape, either(shape, denormal(shape, a), nonFinite(shape, back)), underflow);
  const exact = (): Expr => op('i32.eqz', any(shape, apply(shape, 'ne', back, fa)));
  guard(s, result, any(shape, odd), exact, { op: SseOp.convert, shape, a });
  return result;
}

const aligned = { ownMemory: true } as const;
const mmx = { mmx: true } as const;

const toIntegers: readonly Instruction[] = ([true, false] as const).flatMap((truncate) => {
  const t = truncate ? 't' : '';
  const opcode = truncate ? '2C' : '2D';
  return [
    conversion(`cvt${t}ss2si`, `F3 0F ${opcode} Gy,Wd`, {}, (s) => scalarToInteger(s, scalarSingle, truncate)),
    conversion(`cvt${t}sd2si`, `F2 0F ${opcode} Gy,Wq`, {}, (s) => scalarToInteger(s, scalarDouble, truncate)),
    conversion(`cvt${t}ps2pi`, `NP 0F ${opcode} Pq,Wq`, mmx, (s) =>
      low64(packedToInteger(s, packedSingle, s.let(fromLow(s.read(1))), truncate)),
    ),
    conversion(`cvt${t}pd2pi`, `66 0F ${opcode} Pq,Wx`, { mmx: true, ownMemory: true }, (s) =>
      low64(packedToInteger(s, packedDouble, readAligned(s, 1), truncate)),
    ),
    conversion(`cvt${t}ps2dq`, `${truncate ? 'F3' : '66'} 0F 5B Vx,Wx`, aligned, (s) =>
      packedToInteger(s, packedSingle, readAligned(s, 1), truncate),
    ),
    conversion(`cvt${t}pd2dq`, `${truncate ? '66' : 'F2'} 0F E6 Vx,Wx`, aligned, (s) =>
      packedToInteger(s, packedDouble, readAligned(s, 1), truncate),
    ),
  ];
});

/** CVTPI2PD is exact. Its memory form does not touch the x87 state. */
const cvtpi2pd: Instruction = {
  name: 'cvtpi2pd',
  encodings: ['66 0F 2A Vx,Qq'],
  access: 'wr',
  faults: true,
  run: (s) => {
    simdCheck(s);
    if (!s.isMemory(1)) mmxCheck(s);
    const value = s.read(1);
    if (!s.isMemory(1)) enterMmx(s);
    s.writeX(0, op('f64x2.convert_low_i32x4_s', fromLow(value)));
  },
};

export const conversionInstructions: readonly Instruction[] = [
  ...toIntegers,
  conversion('cvtsi2ss', 'F3 0F 2A Vd,Ey', {}, (s) => integerToScalar(s, scalarSingle)),
  conversion('cvtsi2sd', 'F2 0F 2A Vq,Ey', {}, (s) => integerToScalar(s, scalarDouble)),
  conversion('cvtpi2ps', 'NP 0F 2A Vq,Qq', mmx, (s) => low64(dwordsToSingles(s, s.let(fromLow(s.read(1)))))),
  cvtpi2pd,
  conversion('cvtdq2ps', 'NP 0F 5B Vx,Wx', aligned, (s) => dwordsToSingles(s, readAligned(s, 1))),
  conversion('cvtdq2pd', 'F3 0F E6 Vx,Wq', {}, (s) => op('f64x2.convert_low_i32x4_s', fromLow(s.read(1)))),
  conversion('cvtss2sd', 'F3 0F 5A Vq,Wd', {}, (s) => widenSingle(s, false, s.read(1))),
  conversion('cvtps2pd', 'NP 0F 5A Vx,Wq', {}, (s) => widenSingle(s, true, s.let(fromLow(s.read(1))))),
  conversion('cvtsd2ss', 'F2 0F 5A Vd,Wq', {}, (s) => narrowDouble(s, scalarDouble, s.read(1))),
  conversion('cvtpd2ps', '66 0F 5A Vx,Wx', aligned, (s) => narrowDouble(s, packedDouble, readAligned(s, 1))),
];
