// SPDX-License-Identifier: MIT
// Shifts and rotates (Intel SDM volume 2: SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD).

import {
  and,
  eqz,
  extendU,
  i32,
  i64,
  konst,
  op,
  or,
  shl,
  shrS,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../wasm/expr.ts';
import { setResultFlags, signToBit31, truncate, widen } from './flags.ts';
import type { IntSize, Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

const encodings = (n: number) => [
  `C0/${n} Eb,Ib`,
  `C1/${n} Ev,Ib`,
  `D0/${n} Eb,1`,
  `D1/${n} Ev,1`,
  `D2/${n} Eb,CL`,
  `D3/${n} Ev,CL`,
];

/** Shift counts are taken modulo 32 or 64. */
export const countMask = (size: IntSize): number => (size === 64 ? 63 : 31);

/** The shift count as the processor masks it (i32), a constant where it is one. */
const maskedCount = (s: Stage, value: Expr): Expr =>
  value.constant === undefined
    ? s.let(and(wrap(value), i32(countMask(s.size))))
    : i32(Number(value.constant) & countMask(s.size));

/** A count in the type of the operand. */
const typed = (size: IntSize, count: Expr): Expr =>
  size < 64 ? count : count.constant === undefined ? extendU(count) : i64(count.constant);

/** Emits what happens unless the count is 0, and if it is. */
function unlessZero(s: Stage, count: Expr, then: () => void, otherwise?: () => void): void {
  if (count.constant === undefined) s.f.if(count, then, otherwise);
  else if (count.constant !== 0n) then();
  else otherwise?.();
}

const bit = (value: Expr): Expr => and(wrap(value), i32(1));

type Shift = (s: Stage, a: Expr, count: Expr) => { result: Expr; carry: Expr; overflow: Expr };

function shift(name: string, numbers: number[], compute: Shift): Instruction {
  return insn(
    name,
    numbers.flatMap(encodings),
    'xr',
    { mayWrite: 'oszapc', count: 1, undefinedFlags: 'oa', hot: true },
    (s) => {
      const a = s.read(0);
      const count = maskedCount(s, s.read(1));
      const { result, carry, overflow } = compute(s, a, count);
      const r = s.let(result);
      s.write(0, r);
      if (s.flagsDead) return;
      unlessZero(s, count, () => {
        setResultFlags(s, s.size, r);
        s.setCf(bit(carry));
        s.setOfBit31(overflow);
        s.setAfBit4(i32(0));
      });
    },
  );
}

const shlInstruction = shift('shl', [4, 6], (s, a, count) => {
  const c = s.let(typed(s.size, count));
  const result = s.let(shl(a, c));
  const carry = s.forFlags(s.size < 32 ? shrU(result, i32(s.size)) : shrU(a, sub(konst(a.type, s.size), c)));
  return { result, carry, overflow: signToBit31(s.size, xor(result, shl(carry, konst(a.type, s.size - 1)))) };
});

const shrInstruction = shift('shr', [5], (s, a, count) => {
  const c = s.let(typed(s.size, count));
  return { result: shrU(a, c), carry: shrU(a, sub(c, konst(a.type, 1))), overflow: signToBit31(s.size, a) };
});

const sarInstruction = shift('sar', [7], (s, a, count) => {
  const signed = s.let(s.size === 8 ? op('i32.extend8_s', a) : s.size === 16 ? op('i32.extend16_s', a) : a);
  const c = s.let(typed(s.size, count));
  return { result: shrS(signed, c), carry: shrS(signed, sub(c, konst(a.type, 1))), overflow: i32(0) };
});

function rotate(name: string, n: number, left: boolean): Instruction {
  return insn(name, encodings(n), 'xr', { mayWrite: 'oc', count: 1, undefinedFlags: 'o', hot: true }, (s) => {
    const size = s.size;
    const a = s.read(0);
    const count = maskedCount(s, s.read(1));
    let r: Expr;
    if (size >= 32) r = s.let(op(`${a.type}.${left ? 'rotl' : 'rotr'}`, a, typed(size, count)));
    else {
      const c = s.let(and(count, i32(size - 1)));
      const back = and(sub(i32(size), c), i32(size - 1));
      r = s.let(truncate(size, left ? or(shl(a, c), shrU(a, back)) : or(shrU(a, c), shl(a, back))));
    }
    s.write(0, r);
    if (s.flagsDead) return;
    const top = konst(a.type, size - 1);
    unlessZero(s, count, () => {
      if (left) {
        s.setCf(bit(r));
        s.setOfBit31(signToBit31(size, xor(r, shl(r, top))));
      } else {
        s.setCf(bit(shrU(r, top)));
        s.setOfBit31(signToBit31(size, xor(r, shl(r, konst(a.type, 1)))));
      }
    });
  });
}

/** RCL and RCR one bit at a time: they are rare, and counts are small. */
function rotateThroughCarry(name: string, n: number, left: boolean): Instruction {
  return insn(name, encodings(n), 'xr', { mayWrite: 'oc', reads: 'c', undefinedFlags: 'o' }, (s) => {
    const { f, size } = s;
    const a = s.read(0);
    const count = maskedCount(s, s.read(1));
    const value = f.local(a.type);
    const carry = f.local('i32');
    const left_ = f.local('i32');
    const next = f.local('i32');
    f.set(value, a);
    f.set(carry, s.cf());
    f.set(left_, size < 32 ? op('i32.rem_u', count, i32(size + 1)) : count);
    f.block((done) => {
      f.loop((again) => {
        f.brIf(done, eqz(left_));
        if (left) {
          f.set(next, bit(shrU(value, konst(a.type, size - 1))));
          f.set(value, truncate(size, or(shl(value, konst(a.type, 1)), widen(size, carry))));
        } else {
          f.set(next, bit(value));
          f.set(value, or(shrU(value, konst(a.type, 1)), shl(widen(size, carry), konst(a.type, size - 1))));
        }
        f.set(carry, next);
        f.set(left_, sub(left_, i32(1)));
        f.br(again);
      });
    });
    s.write(0, value);
    s.f.if(count, () => {
      s.setCf(carry);
      const second = left ? shl(widen(size, carry), konst(a.type, size - 1)) : shl(value, konst(a.type, 1));
      s.setOfBit31(signToBit31(size, xor(value, second)));
    });
  });
}

/** SHLD and SHRD. A 16-bit count above 16 is undefined; the processors of the tests go on rotating in the second operand. */
function doubleShift(name: string, imm: string, cl: string, left: boolean): Instruction {
  return insn(
    name,
    [`${imm} Ev,Gv,Ib`, `${cl} Ev,Gv,CL`],
    'xrr',
    { mayWrite: 'oszapc', count: 2, plainFlags: true, undefinedFlags: 'oa' },
    (s) => {
      const { size } = s;
      const a = s.read(0);
      const b = s.read(1);
      const count = maskedCount(s, s.read(2));
      unlessZero(
        s,
        count,
        () => {
          let result: Expr;
          let carry: Expr;
          if (size === 16) {
            // The 48-bit value a:b:a, shifted as one: what leaves on one side has come in on the other.
            const high = shl(extendU(a), konst('i64', 32));
            const middle = shl(extendU(b), konst('i64', 16));
            const all = s.let(or(or(high, middle), extendU(a)));
            const c = s.let(extendU(count));
            if (left) {
              result = wrap(shrU(shl(all, c), konst('i64', 32)));
              carry = wrap(shrU(all, sub(konst('i64', 48), c)));
            } else {
              result = wrap(shrU(all, c));
              carry = wrap(shrU(all, sub(c, konst('i64', 1))));
            }
            result = and(result, i32(0xffff));
          } else {
            const c = s.let(typed(size, count));
            const back = sub(konst(a.type, size), c);
            result = left ? or(shl(a, c), shrU(b, back)) : or(shrU(a, c), shl(b, back));
            carry = wrap(left ? shrU(a, back) : shrU(a, sub(c, konst(a.type, 1))));
          }
          const r = s.let(result);
          const cf = s.let(carry);
          s.write(0, r);
          setResultFlags(s, size, r);
          s.setCf(bit(cf));
          s.setOfBit31(signToBit31(size, xor(a, r)));
          s.setAfBit4(i32(0));
        },
        () => {
          // Even a count of 0 zero-extends a 32-bit register destination.
          s.write(0, a);
        },
      );
    },
  );
}

export const shiftInstructions: readonly Instruction[] = [
  shlInstruction,
  shrInstruction,
  sarInstruction,
  rotate('rol', 0, true),
  rotate('ror', 1, false),
  rotateThroughCarry('rcl', 2, true),
  rotateThroughCarry('rcr', 3, false),
  doubleShift('shld', '0F A4', '0F A5', true),
  doubleShift('shrd', '0F AC', '0F AD', false),
];
