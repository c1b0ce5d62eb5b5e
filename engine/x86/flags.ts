// SPDX-License-Identifier: MIT
// Status flags of additions, subtractions and logic operations (Intel SDM volume 1, section 3.4.3.1).

import { add, and, eqz, extendS, i32, i64, ltU, op, or, shl, shrU, sub, wrap, xor, type Expr } from '../wasm/expr.ts';
import type { IntSize, Stage } from './stage.ts';

/** A value of `size` bits (upper bits ignored below 32) sign-extended to i64. */
export function signExtend(size: IntSize, value: Expr): Expr {
  if (size === 64) return value;
  if (size === 32) return extendS(value);
  return extendS(op(size === 16 ? 'i32.extend16_s' : 'i32.extend8_s', value));
}

/** A value of `size` bits with garbage above cleared. */
export function truncate(size: IntSize, value: Expr): Expr {
  return size === 8 ? and(value, i32(0xff)) : size === 16 ? and(value, i32(0xffff)) : value;
}

/** Moves the sign bit of a `size`-bit value to bit 31 of an i32. */
export function signToBit31(size: IntSize, value: Expr): Expr {
  return size === 64 ? wrap(shrU(value, i64(32))) : size === 32 ? value : shl(value, i32(32 - size));
}

/** ZF, SF and PF from a result of `size` bits (bits above are ignored). */
export function setResultFlags(s: Stage, size: IntSize, result: Expr): void {
  const r = s.forFlags(signExtend(size, result));
  s.setZfValue(r);
  s.setSfValue(r);
  s.setPfByte(wrap(r));
}

/** Flags of `result = a + b + carryIn`; operands zero-extended, result not truncated below 32 bits. */
export function setAddFlags(s: Stage, size: IntSize, first: Expr, b: Expr, result: Expr, carryIn?: Expr): void {
  const a = s.keepsFlagOperands && !carryIn ? sub(result, b) : first;
  setResultFlags(s, size, result);
  if (size < 32) s.setCf(and(shrU(result, i32(size)), i32(1)));
  else if (carryIn) s.setCf(or(ltU(result, a), and(carryIn, op(`${a.type}.eq`, result, a))));
  else s.setCf(ltU(result, b));
  s.setOfBit31(signToBit31(size, and(xor(a, result), xor(b, result))));
  s.setAfBit4(wrap(xor(xor(a, b), result)));
}

/** Flags of `result = a - b - borrowIn`. */
export function setSubFlags(s: Stage, size: IntSize, first: Expr, b: Expr, result: Expr, borrowIn?: Expr): void {
  if (!borrowIn) s.compared?.(size, first, b);
  const a = s.keepsFlagOperands && !borrowIn && result.bound ? add(result, b) : first;
  setResultFlags(s, size, result);
  if (borrowIn) s.setCf(or(ltU(a, b), and(borrowIn, op(`${a.type}.eq`, a, b))));
  else s.setCf(ltU(a, b));
  s.setOfBit31(signToBit31(size, and(xor(a, b), xor(a, result))));
  s.setAfBit4(wrap(xor(xor(a, b), result)));
}

/** Flags of AND, OR, XOR, TEST: CF and OF cleared, AF undefined (cleared, as on the processors of the tests). */
export function setLogicFlags(s: Stage, size: IntSize, result: Expr): void {
  s.tested?.(size, result);
  setResultFlags(s, size, result);
  s.setCf(i32(0));
  s.setOfBit31(i32(0));
  s.setAfBit4(i32(0));
}

/** Converts a 0/1 condition to the operand type of `size`. */
export function widen(size: IntSize, bit: Expr): Expr {
  return size === 64 ? op('i64.extend_i32_u', bit) : bit;
}

/** All six flags from a 0/1 each: for instructions such as COMISS. */
export function setFlagBits(s: Stage, bits: { cf: Expr; zf: Expr; pf: Expr }): void {
  s.setCf(bits.cf);
  s.setZfValue(op('i64.extend_i32_u', eqz(bits.zf)));
  s.setPfByte(eqz(bits.pf));
  s.setSfValue(i64(0));
  s.setOfBit31(i32(0));
  s.setAfBit4(i32(0));
}
