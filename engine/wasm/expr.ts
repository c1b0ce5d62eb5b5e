// SPDX-License-Identifier: MIT
// Typed WebAssembly expressions: small trees that write themselves into a function body (WebAssembly core specification 2.0).

import type { ByteSink } from './bytes.ts';
import { lanes, loads, opInfo, replaceLanes, type ValType } from './opcodes.ts';

/** A value: its type and how to compute it. Emitting an expression twice computes it twice: bind with `FunctionBuilder.let`. */
export interface Expr {
  readonly type: ValType;
  /** Set for integer constants, so that builders can fold. */
  readonly constant?: bigint;
  /** The same bits as a float, where they are at hand in that form: saves moving them between register files. */
  readonly float?: Expr;
  /** Set for locals that keep their value as long as anyone may ask: binding them again needs no copy. */
  readonly bound?: boolean;
  /** Set by stages for addresses: how far behind which unchanged value this one lies, so that neighbouring accesses are recognised. */
  readonly from?: { readonly anchor: object; readonly offset: number };
  emit(out: ByteSink): void;
}

export function i32(value: number): Expr {
  return {
    type: 'i32',
    constant: BigInt(value | 0),
    emit: (out) => {
      out.byte(0x41);
      out.s32(value);
    },
  };
}

export function i64(value: bigint | number): Expr {
  const v = BigInt.asIntN(64, BigInt(value));
  return {
    type: 'i64',
    constant: v,
    emit: (out) => {
      out.byte(0x42);
      out.s64(v);
    },
  };
}

export function f64(value: number): Expr {
  const bytes = new Uint8Array(new Float64Array([value]).buffer);
  return {
    type: 'f64',
    emit: (out) => {
      out.byte(0x44);
      out.raw(bytes);
    },
  };
}

export function f32(value: number): Expr {
  const bytes = new Uint8Array(new Float32Array([value]).buffer);
  return {
    type: 'f32',
    emit: (out) => {
      out.byte(0x43);
      out.raw(bytes);
    },
  };
}

/** A 128-bit constant from 16 bytes, least significant first. */
export function v128(bytes: readonly number[]): Expr {
  if (bytes.length !== 16) throw new Error('v128 constant needs 16 bytes');
  return {
    type: 'v128',
    emit: (out) => {
      out.byte(0xfd);
      out.u32(12);
      out.raw(bytes);
    },
  };
}

function check(name: string, e: Expr | undefined, type: ValType): Expr {
  if (!e || e.type !== type) throw new Error(`${name}: operand is ${e?.type ?? 'missing'}, needs ${type}`);
  return e;
}

/** Any plain instruction by its text-format name, e.g. `op('i32.add', a, b)`; operand types are checked. */
export function op(name: string, ...args: Expr[]): Expr {
  const info = opInfo(name);
  if (args.length !== info.params.length)
    throw new Error(`${name}: ${args.length} operands, needs ${info.params.length}`);
  info.params.forEach((type, i) => check(name, args[i], type));
  return {
    type: info.result,
    emit: (out) => {
      for (const a of args) a.emit(out);
      if (info.prefix) {
        out.byte(info.prefix);
        out.u32(info.code);
      } else out.byte(info.code);
    },
  };
}

/** A memory load, e.g. `load('i64.load32_u', address, 16)`. Alignment is a hint only: 1 is always declared. */
export function load(name: string, address: Expr, offset = 0): Expr {
  const info = loads[name];
  if (!info) throw new Error(`unknown load ${name}`);
  const [prefix, code, type] = info;
  check(name, address, 'i32');
  return {
    type,
    emit: (out) => {
      address.emit(out);
      if (prefix) {
        out.byte(prefix);
        out.u32(code);
      } else out.byte(code);
      out.u32(0);
      out.u32(offset);
    },
  };
}

export function extractLane(name: string, vector: Expr, lane: number): Expr {
  const info = lanes[name];
  if (!info) throw new Error(`unknown lane instruction ${name}`);
  check(name, vector, 'v128');
  return {
    type: info[1],
    emit: (out) => {
      vector.emit(out);
      out.byte(0xfd);
      out.u32(info[0]);
      out.byte(lane);
    },
  };
}

export function replaceLane(name: string, vector: Expr, lane: number, value: Expr): Expr {
  const info = replaceLanes[name];
  if (!info) throw new Error(`unknown lane instruction ${name}`);
  check(name, vector, 'v128');
  check(name, value, info[1]);
  return {
    type: 'v128',
    emit: (out) => {
      vector.emit(out);
      value.emit(out);
      out.byte(0xfd);
      out.u32(info[0]);
      out.byte(lane);
    },
  };
}

/** i8x16.shuffle: byte indices 0-15 select from `a`, 16-31 from `b`. */
export function shuffle(a: Expr, b: Expr, indices: readonly number[]): Expr {
  check('shuffle', a, 'v128');
  check('shuffle', b, 'v128');
  if (indices.length !== 16) throw new Error('shuffle needs 16 indices');
  return {
    type: 'v128',
    emit: (out) => {
      a.emit(out);
      b.emit(out);
      out.byte(0xfd);
      out.u32(13);
      out.raw(indices);
    },
  };
}

/** A bound f64 or f32 as the integer of the same bits. */
export function bitsOf(value: Expr): Expr {
  const bits = op(value.type === 'f64' ? 'i64.reinterpret_f64' : 'i32.reinterpret_f32', value);
  return { type: bits.type, emit: (out) => bits.emit(out), float: value };
}

/** `condition ? a : b`, both computed. */
export function select(condition: Expr, a: Expr, b: Expr): Expr {
  check('select', condition, 'i32');
  check('select', b, a.type);
  return {
    type: a.type,
    emit: (out) => {
      a.emit(out);
      b.emit(out);
      condition.emit(out);
      if (a.type === 'v128') {
        out.byte(0x1c);
        out.u32(1);
        out.byte(0x7b);
      } else out.byte(0x1b);
    },
  };
}

type BinaryName = 'add' | 'sub' | 'mul' | 'and' | 'or' | 'xor' | 'shl' | 'shr_s' | 'shr_u' | 'rotl' | 'rotr';
type CompareName = 'eq' | 'ne' | 'lt_s' | 'lt_u' | 'gt_s' | 'gt_u' | 'le_s' | 'le_u' | 'ge_s' | 'ge_u';

function identity(name: BinaryName, b: Expr): boolean {
  if (b.constant === undefined) return false;
  if (name === 'mul') return b.constant === 1n;
  if (name === 'and') return b.constant === -1n;
  return b.constant === 0n;
}

function binary(name: BinaryName): (a: Expr, b: Expr) => Expr {
  return (a, b) => (a.type === b.type && identity(name, b) ? a : op(`${a.type}.${name}`, a, b));
}

/** Displacements beyond this are not worth remembering. */
const nearby = 0x10000n;

/** Addition or subtraction, which keep track of where an address comes from. */
function displacement(name: 'add' | 'sub'): (a: Expr, b: Expr) => Expr {
  const plain = binary(name);
  return (a, b) => {
    const sum = plain(a, b);
    const by = b.constant;
    if (!a.from || by === undefined || sum === a || by > nearby || by < -nearby) return sum;
    const { anchor, offset } = a.from;
    return { ...sum, from: { anchor, offset: offset + (name === 'add' ? Number(by) : -Number(by)) } };
  };
}

/** Integer arithmetic for either width: the operands' type chooses i32 or i64. */
export const add = displacement('add');
export const sub = displacement('sub');
export const mul = binary('mul');
export const and = binary('and');
export const or = binary('or');
export const xor = binary('xor');
export const shl = binary('shl');
export const shrS = binary('shr_s');
export const shrU = binary('shr_u');
export const rotl = binary('rotl');
export const rotr = binary('rotr');

function compare(name: CompareName): (a: Expr, b: Expr) => Expr {
  return (a, b) => op(`${a.type}.${name}`, a, b);
}

export const eq = compare('eq');
export const ne = compare('ne');
export const ltS = compare('lt_s');
export const ltU = compare('lt_u');
export const gtS = compare('gt_s');
export const gtU = compare('gt_u');
export const leS = compare('le_s');
export const leU = compare('le_u');
export const geS = compare('ge_s');
export const geU = compare('ge_u');

export const eqz = (a: Expr): Expr => op(`${a.type}.eqz`, a);
/** i64 -> i32, low half; an i32 passes through. */
export const wrap = (a: Expr): Expr =>
  a.type === 'i32' ? a : a.constant !== undefined ? i32(Number(BigInt.asIntN(32, a.constant))) : op('i32.wrap_i64', a);
/** i32 -> i64 zero-extended; an i64 passes through. */
export const extendU = (a: Expr): Expr => (a.type === 'i64' ? a : op('i64.extend_i32_u', a));
/** i32 -> i64 sign-extended; an i64 passes through. */
export const extendS = (a: Expr): Expr => (a.type === 'i64' ? a : op('i64.extend_i32_s', a));
/** A constant of the given integer type. */
export const konst = (type: ValType, value: bigint | number): Expr =>
  type === 'i32' ? i32(Number(BigInt.asIntN(32, BigInt(value)))) : i64(value);
