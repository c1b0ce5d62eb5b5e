// SPDX-License-Identifier: MIT
// The host's part of SSE floating point: one operation on one to four lanes, exact in value, flags and exceptions (Intel SDM volume 1, section 11.5).

import { ST } from '../cpu/layout.ts';
import { double, Mxcsr, Rounding, single, SseArithmetic, type Format } from './simd-softfloat.ts';

/** Operations of the `sse` host op. */
export const SseOp = {
  add: 0,
  sub: 1,
  mul: 2,
  div: 3,
  sqrt: 4,
  min: 5,
  max: 6,
  /** Even lanes subtract, odd lanes add. */
  addsub: 7,
  /** `extra`: predicate; lanes of zeros or ones. */
  cmp: 8,
  /** Order of the low lanes as an i32: -1, 0, 1, or 2 for unordered. */
  comi: 9,
  ucomi: 10,
  /** `extra`: 1 to truncate, 0 to round as MXCSR says. */
  toInt32: 11,
  toInt64: 12,
  fromInt32: 13,
  fromInt64: 14,
  /** Between the formats; `double` names the source. */
  convert: 15,
  /** `extra`: immediate of ROUNDPS. */
  round: 16,
} as const;

export type SseOpCode = (typeof SseOp)[keyof typeof SseOp];

/** The word that the generated code leaves at `ST.work` before it calls the host. `extra` (8 bits) goes into bits 16-23 and may be added at run time. */
export function sseRequest(op: SseOpCode, isDouble: boolean, lanes: number, extra = 0): number {
  return op | (isDouble ? 0x100 : 0) | (lanes << 12) | (extra << 16);
}

/** Predicates whose operation reads an operand in an integer format. */
const integerSource: Partial<Record<number, 4 | 8>> = { [SseOp.fromInt32]: 4, [SseOp.fromInt64]: 8 };

function lane(view: DataView, address: number, index: number, bytes: number): bigint {
  return bytes === 8 ? view.getBigUint64(address + 8 * index, true) : BigInt(view.getUint32(address + 4 * index, true));
}

/** Result of one lane and its width in bytes. */
function compute(
  m: SseArithmetic,
  op: number,
  f: Format,
  a: bigint,
  b: bigint,
  index: number,
  extra: number,
): [bigint, number] {
  const width = f.bits >> 3;
  const rounding = m.rounding;
  switch (op) {
    case SseOp.add:
      return [m.add(f, a, b), width];
    case SseOp.sub:
      return [m.add(f, a, b, true), width];
    case SseOp.mul:
      return [m.multiply(f, a, b), width];
    case SseOp.div:
      return [m.divide(f, a, b), width];
    case SseOp.sqrt:
      return [m.sqrt(f, a), width];
    case SseOp.min:
      return [m.minMax(f, a, b, false), width];
    case SseOp.max:
      return [m.minMax(f, a, b, true), width];
    case SseOp.addsub:
      return [m.add(f, a, b, (index & 1) === 0), width];
    case SseOp.cmp:
      return [m.predicate(f, a, b, extra) ? -1n : 0n, width];
    case SseOp.comi:
      return [BigInt(m.compare(f, a, b, true)), 4];
    case SseOp.ucomi:
      return [BigInt(m.compare(f, a, b, false)), 4];
    case SseOp.toInt32:
      return [m.toInteger(f, a, 32, extra ? Rounding.zero : rounding), 4];
    case SseOp.toInt64:
      return [m.toInteger(f, a, 64, extra ? Rounding.zero : rounding), 8];
    case SseOp.fromInt32:
      return [m.fromInteger(f, BigInt.asIntN(32, a)), width];
    case SseOp.fromInt64:
      return [m.fromInteger(f, BigInt.asIntN(64, a)), width];
    case SseOp.convert:
      return f === double ? [m.convert(double, single, a), 4] : [m.convert(single, double, a), 8];
    default:
      return [m.roundToIntegral(f, a, extra & 4 ? rounding : extra & 3, (extra & 8) !== 0), width];
  }
}

/**
 * Performs the request at `ST.work` on the lanes at `ST.xt0` and `ST.xt1` of the vCPU whose state block is at `base`: leaves the result lanes at `ST.xt0`
 * (the rest of the 16 bytes cleared) and the exception flags in MXCSR. Touches no other state.
 * Returns 0, or the vector of an unmasked SIMD exception: 19 (#XM), 6 (#UD) while CR4.OSXMMEXCPT is clear.
 */
export function sseHostOp(view: DataView, base: number): number {
  const request = view.getUint32(base + ST.work, true);
  const op = request & 0xff;
  const f = request & 0x100 ? double : single;
  const lanes = (request >> 12) & 15;
  const extra = (request >> 16) & 0xff;
  const mxcsr = view.getUint32(base + ST.mxcsr, true);
  const m = new SseArithmetic(mxcsr);
  const sourceBytes = integerSource[op] ?? f.bits >> 3;
  const results: [bigint, number][] = [];
  for (let i = 0; i < lanes; i++) {
    results.push(
      compute(m, op, f, lane(view, base + ST.xt0, i, sourceBytes), lane(view, base + ST.xt1, i, sourceBytes), i, extra),
    );
  }
  const unmasked = m.flags & ~(mxcsr >> 7);
  // An unmasked exception of the operands comes before any result exists, so the result's exceptions are not reported with it.
  const operandFlags = Mxcsr.invalid | Mxcsr.denormal | Mxcsr.zeroDivide;
  const reported = unmasked & operandFlags ? m.flags & operandFlags : m.flags;
  view.setUint32(base + ST.mxcsr, mxcsr | reported, true);
  if (unmasked) return view.getUint32(base + ST.cr4, true) & 0x400 ? 19 : 6;
  view.setBigUint64(base + ST.xt0, 0n, true);
  view.setBigUint64(base + ST.xt0 + 8, 0n, true);
  results.forEach(([value, bytes], i) => {
    if (bytes === 8) view.setBigUint64(base + ST.xt0 + 8 * i, BigInt.asUintN(64, value), true);
    else view.setUint32(base + ST.xt0 + 4 * i, Number(BigInt.asUintN(32, value)), true);
  });
  return 0;
}
