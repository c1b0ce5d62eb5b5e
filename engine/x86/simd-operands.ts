// SPDX-License-Identifier: MIT
// What MMX and SSE descriptions share: availability checks, aligned operands, MMX register state, vector constants (Intel SDM volume 1, chapters 9 and 10).

import { ST } from '../cpu/layout.ts';
import { and, extractLane, i32, op, or, replaceLane, v128, wrap, xor, type Expr } from '../wasm/expr.ts';
import type { Stage } from './stage.ts';
import type { Instruction } from './types.ts';

const Cr0 = { em: 4, ts: 8 } as const;
const osfxsr = 0x200;

/** #UD when CR0.EM is set or CR4.OSFXSR clear, #NM when CR0.TS is set: the first thing that every SSE instruction does. */
export function simdCheck(s: Stage): void {
  if (s.simdReady) return;
  const cr0 = s.let(and(s.get('i32.load', ST.cr0), i32(Cr0.em | Cr0.ts)));
  const cr4 = s.let(and(xor(s.get('i32.load', ST.cr4), i32(osfxsr)), i32(osfxsr)));
  s.f.if(or(cr0, cr4), () => {
    s.f.if(or(and(cr0, i32(Cr0.em)), cr4), () => s.fault(6));
    s.fault(7);
  });
}

/** The same for MMX, and #MF when an x87 exception is pending (status word bit 7). */
export function mmxCheck(s: Stage): void {
  const cr0 = s.let(and(s.get('i32.load', ST.cr0), i32(Cr0.em | Cr0.ts)));
  const pending = and(s.get('i32.load', ST.fsw), i32(0x80));
  s.f.if(or(cr0, pending), () => {
    s.f.if(and(cr0, i32(Cr0.em)), () => s.fault(6));
    s.f.if(cr0, () => s.fault(7));
    s.fault(16);
  });
}

/** What every MMX instruction but EMMS does to the x87 state, once it can no longer fault: TOP = 0, all registers valid. */
export function enterMmx(s: Stage): void {
  s.put('i32.store', ST.ftop, i32(0));
  s.put('i32.store', ST.ftag, i32(0));
}

/** #GP(0) unless a linear address is a multiple of 16. */
export function checkAligned(s: Stage, address: Expr): void {
  if (!s.isAligned(address)) s.f.if(and(wrap(address), i32(15)), () => s.fault(13, i32(0)));
}

/** A 128-bit operand: the register, or memory that must be aligned. The instruction must have `ownMemory`. */
export function readAligned(s: Stage, i: number): Expr {
  if (!s.isMemory(i)) return s.readX(i);
  const address = s.let(s.address(i));
  checkAligned(s, address);
  return s.load(128, address);
}

export function writeAligned(s: Stage, i: number, value: Expr): void {
  if (!s.isMemory(i)) {
    s.writeX(i, value);
    return;
  }
  const address = s.let(s.address(i));
  checkAligned(s, address);
  s.store(128, address, value);
}

/** The same without the alignment check: MOVUPS, MOVDQU, LDDQU, the string instructions. */
export function readUnaligned(s: Stage, i: number): Expr {
  return s.isMemory(i) ? s.load(128, s.let(s.address(i))) : s.readX(i);
}

export function writeUnaligned(s: Stage, i: number, value: Expr): void {
  if (s.isMemory(i)) s.store(128, s.let(s.address(i)), value);
  else s.writeX(i, value);
}

/** An 8-bit immediate as i32, whatever the operand size. */
export function immediate(s: Stage, i: number): Expr {
  const value = s.imm(i);
  const constant = constantOf(value);
  return constant === undefined ? s.let(and(wrap(value), i32(0xff))) : i32(constant & 0xff);
}

/** The value of an expression that is an integer constant (immediates are, in translated code). */
export function constantOf(e: Expr): number | undefined {
  return e.constant === undefined ? undefined : Number(e.constant);
}

/** Vector constants from lanes, least significant first; fewer lanes than fit are repeated. */
function vector(bytesPerLane: number, values: readonly (number | bigint)[]): Expr {
  const bytes: number[] = [];
  for (let i = 0; i < 16 / bytesPerLane; i++) {
    let value = BigInt.asUintN(64, BigInt(values[i % values.length]!));
    for (let k = 0; k < bytesPerLane; k++) {
      bytes.push(Number(value & 0xffn));
      value >>= 8n;
    }
  }
  return v128(bytes);
}

export const bytes = (...values: number[]): Expr => vector(1, values);
export const words = (...values: number[]): Expr => vector(2, values);
export const dwords = (...values: number[]): Expr => vector(4, values);
export const qwords = (...values: (number | bigint)[]): Expr => vector(8, values);
export const zeros = (): Expr => bytes(0);
/** 0, 1, 2, ... in each byte. */
export const byteIndex = (): Expr => bytes(...Array.from({ length: 16 }, (_, i) => i));

/** A vector of one 64-bit value, or of two. */
export const fromLow = (low: Expr): Expr =>
  low.float
    ? replaceLane('f64x2.replace_lane', zeros(), 0, low.float)
    : replaceLane('i64x2.replace_lane', zeros(), 0, low);
export const fromHalves = (low: Expr, high: Expr): Expr =>
  replaceLane('i64x2.replace_lane', op('i64x2.splat', low), 1, high);
export const low64 = (v: Expr): Expr => extractLane('i64x2.extract_lane', v, 0);
export const high64 = (v: Expr): Expr => extractLane('i64x2.extract_lane', v, 1);

/** Lanes whose bit of the immediate is set, as a mask. */
export function bitMask(shape: string, control: Expr, bits: Expr, s: Stage): Expr {
  const constant = s.let(bits);
  return op(
    `${shape}.eq`,
    op('v128.and', op(`${shape}.splat`, shape === 'i64x2' ? op('i64.extend_i32_u', control) : control), constant),
    constant,
  );
}

/** CF, ZF and PF given, OF, SF and AF cleared: PTEST, COMISS, the string instructions add OF and SF themselves. */
export function setCompareFlags(s: Stage, flags: { cf: Expr; zf: Expr; pf?: Expr; of?: Expr; sf?: Expr }): void {
  const image = (bit: Expr | undefined, position: number): Expr => (bit ? op('i32.shl', bit, i32(position)) : i32(0));
  const all = or(
    or(or(image(flags.cf, 0), image(flags.pf, 2)), or(image(flags.zf, 6), image(flags.sf, 7))),
    image(flags.of, 11),
  );
  s.setFlagsImage(s.let(all), 0x8d5);
}

/** Result of a packed operation from bound operands; intermediate values that are used twice are bound with `s.let`. */
export type Semantics = (a: Expr, b: Expr, s: Stage) => Expr;

export interface PackedOptions {
  /** Opcode map: '0F', '0F 38'. */
  readonly map?: string;
  /** The 64-bit form when lanes move between positions: operands and result are low halves. `null`: there is none. */
  readonly mmx?: Semantics | null;
  /** Size letter of the MMX memory operand (PUNPCKL reads 32 bits). */
  readonly mmxSource?: 'q' | 'd';
}

/** A packed integer instruction `dest = f(dest, source)`: its MMX form (lanes in the low half, what happens above is dropped) and its SSE form. */
export function packed(name: string, opcode: string, f: Semantics, options: PackedOptions = {}): Instruction[] {
  const { map = '0F', mmx = f, mmxSource = 'q' } = options;
  const sse: Instruction = {
    name,
    encodings: [`66 ${map} ${opcode} Vx,Wx`],
    access: 'xr',
    ownMemory: true,
    faults: true,
    run: (s) => {
      simdCheck(s);
      const b = readAligned(s, 1);
      s.writeX(0, f(s.readX(0), b, s));
    },
  };
  if (!mmx) return [sse];
  return [mmxForm(name, `NP ${map} ${opcode} Pq,Q${mmxSource}`, mmx), sse];
}

/** An MMX instruction `dest = f(dest, source)`; a 32-bit source is zero-extended. */
export function mmxForm(name: string, encoding: string, f: Semantics): Instruction {
  return {
    name: `${name}.mmx`,
    encodings: [encoding],
    access: 'xr',
    faults: true,
    run: (s) => {
      mmxCheck(s);
      const b = s.read(1);
      const a = s.read(0);
      const source = op('i64x2.splat', b.type === 'i32' ? op('i64.extend_i32_u', b) : b);
      const result = s.let(low64(f(s.let(op('i64x2.splat', a)), s.let(source), s)));
      enterMmx(s);
      s.write(0, result);
    },
  };
}

/** An SSE instruction of one 128-bit source and another destination: `dest = f(source)`. */
export function unary(name: string, encoding: string, f: UnarySemantics): Instruction {
  return {
    name,
    encodings: [encoding],
    access: 'wr',
    ownMemory: true,
    faults: true,
    run: (s) => {
      simdCheck(s);
      s.writeX(0, f(readAligned(s, 1), s));
    },
  };
}

export type UnarySemantics = (a: Expr, s: Stage) => Expr;

/** `dest = f(source)` in both forms. */
export function packedUnary(name: string, map: string, opcode: string, f: UnarySemantics): Instruction[] {
  const mmx: Instruction = {
    name: `${name}.mmx`,
    encodings: [`NP ${map} ${opcode} Pq,Qq`],
    access: 'wr',
    faults: true,
    run: (s) => {
      mmxCheck(s);
      const result = s.let(low64(f(s.let(op('i64x2.splat', s.read(1))), s)));
      enterMmx(s);
      s.write(0, result);
    },
  };
  return [mmx, unary(name, `66 ${map} ${opcode} Vx,Wx`, f)];
}
