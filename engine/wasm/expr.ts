// SPDX-License-Identifier: MIT
// Typed WebAssembly expressions: small trees that write themselves into a function body (WebAssembly core specification 2.0).

import { keepSpecimen } from '../specimens.ts';
import type { ByteSink } from './bytes.ts';
import { lanes, loads, opInfo, replaceLanes, type OpInfo, type ValType } from './opcodes.ts';

/** A value: its type and how to compute it. Emitting an expression twice computes it twice: bind with `FunctionBuilder.let`. */
export interface Expr {
  readonly type: ValType;
  /** Set for integer constants, so that builders can fold. */
  readonly constant?: bigint | undefined;
  /** The same bits as a float, where they are at hand in that form: saves moving them between register files. */
  readonly float?: Expr | undefined;
  /** Set for locals that keep their value as long as anyone may ask: binding them again needs no copy. */
  readonly bound?: boolean;
  /** Set by stages for addresses: how far behind which unchanged value this one lies, so that neighbouring accesses are recognised. */
  readonly from?: { readonly anchor: object; readonly offset: number } | undefined;
  /** Set for vectors that take their bytes from others: see `shuffle`. */
  readonly shuffled?: { readonly a: Expr; readonly b: Expr; readonly indices: readonly number[] };
  emit(out: ByteSink): void;
}

/** An integer constant. */
class Constant implements Expr {
  readonly type: 'i32' | 'i64';
  /** Numbers as long as they fit into 32 bits: BigInts take ten times as long. */
  private readonly value: number | bigint;

  constructor(type: 'i32' | 'i64', value: number | bigint) {
    this.type = type;
    this.value = value;
  }

  get constant(): bigint {
    return BigInt(this.value);
  }

  is(value: number): boolean {
    return this.value === value;
  }

  emit(out: ByteSink): void {
    out.byte(this.type === 'i32' ? 0x41 : 0x42);
    if (typeof this.value === 'number') out.s32(this.value);
    else out.s64(this.value);
  }
}

/** It is a constant, or keeps its value as long as anyone may ask. */
export const isBound = (value: Expr): boolean => value.bound === true || value instanceof Constant;

export const i32 = (value: number): Expr => new Constant('i32', value | 0);

export function i64(value: bigint | number): Expr {
  if (typeof value === 'number' && value === (value | 0)) return new Constant('i64', value | 0);
  const wide = BigInt.asIntN(64, BigInt(value));
  const low = Number(BigInt.asIntN(32, wide));
  return new Constant('i64', BigInt(low) === wide ? low : wide);
}

/** The value of a local; `bound`, `float` and `from`: see Expr. */
export class LocalValue implements Expr {
  readonly index: number;
  readonly type: ValType;
  readonly bound: boolean;
  readonly float: Expr | undefined;
  readonly from: Expr['from'];

  constructor(index: number, type: ValType, bound = false, float?: Expr, from?: Expr['from']) {
    this.index = index;
    this.type = type;
    this.bound = bound;
    this.float = float;
    this.from = from;
  }

  emit(out: ByteSink): void {
    out.localGet(this);
  }
}

/** A local that keeps its value as long as anyone may ask. `float`: the same bits in that form. */
export const bound = ({ index, type }: LocalValue, float?: Expr): Expr => new LocalValue(index, type, true, float);

/** The same value, which lies so far behind something: see Expr. */
export function withOrigin(value: Expr, from: Expr['from']): Expr {
  if (value instanceof LocalValue) return new LocalValue(value.index, value.type, value.bound, value.float, from);
  return from ? { type: value.type, from, emit: (out) => value.emit(out) } : value;
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
      out.opcode(0xfd, 12);
      out.raw(bytes);
    },
  };
}

function check(name: string, e: Expr | undefined, type: ValType): Expr {
  if (!e || e.type !== type) throw new Error(`${name}: operand is ${e?.type ?? 'missing'}, needs ${type}`);
  return e;
}

/** A plain instruction with its operands. */
class Plain implements Expr {
  private readonly info: OpInfo;
  private readonly a: Expr;
  private readonly b: Expr | undefined;
  readonly from: Expr['from'];

  constructor(info: OpInfo, a: Expr, b: Expr | undefined, from?: Expr['from']) {
    this.info = info;
    this.a = a;
    this.b = b;
    this.from = from;
  }

  get type(): ValType {
    return this.info.result;
  }

  emit(out: ByteSink): void {
    this.a.emit(out);
    this.b?.emit(out);
    out.opcode(this.info.prefix, this.info.code);
  }
}

function unary(info: OpInfo, a: Expr): Expr {
  check(info.name, a, info.params[0]!);
  return new Plain(info, a, undefined);
}

function binary(info: OpInfo, a: Expr, b: Expr, from?: Expr['from']): Expr {
  check(info.name, a, info.params[0]!);
  check(info.name, b, info.params[1]!);
  return new Plain(info, a, b, from);
}

/** Any plain instruction by its text-format name, e.g. `op('i32.add', a, b)`; operand types are checked. */
export function op(name: string, ...args: Expr[]): Expr {
  const info = opInfo(name);
  if (args.length !== info.params.length)
    throw new Error(`${name}: ${args.length} operands, needs ${info.params.length}`);
  const [a, b] = args;
  if (args.length === 1) return unary(info, a!);
  if (args.length === 2) return binary(info, a!, b!);
  info.params.forEach((type, i) => check(name, args[i], type));
  return {
    type: info.result,
    emit: (out) => {
      for (const arg of args) arg.emit(out);
      out.opcode(info.prefix, info.code);
    },
  };
}

class Load implements Expr {
  private readonly info: readonly [number, number, ValType, number];
  private readonly address: Expr;
  private readonly offset: number;

  constructor(info: readonly [number, number, ValType, number], address: Expr, offset: number) {
    this.info = info;
    this.address = address;
    this.offset = offset;
  }

  get type(): ValType {
    return this.info[2];
  }

  emit(out: ByteSink): void {
    this.address.emit(out);
    out.opcode(this.info[0], this.info[1]);
    out.u32(0);
    out.u32(this.offset);
  }
}

for (const specimen of [
  i32(0),
  new LocalValue(0, 'i32'),
  new Plain(opInfo('i32.eqz'), i32(0), undefined),
  new Load(loads['i32.load']!, i32(0), 0),
])
  keepSpecimen(specimen);

/** A memory load, e.g. `load('i64.load32_u', address, 16)`. Alignment is a hint only: 1 is always declared. */
export function load(name: string, address: Expr, offset = 0): Expr {
  const info = loads[name];
  if (!info) throw new Error(`unknown load ${name}`);
  check(name, address, 'i32');
  return new Load(info, address, offset);
}

export function extractLane(name: string, vector: Expr, lane: number): Expr {
  const info = lanes[name];
  if (!info) throw new Error(`unknown lane instruction ${name}`);
  check(name, vector, 'v128');
  return {
    type: info[1],
    emit: (out) => {
      vector.emit(out);
      out.opcode(0xfd, info[0]);
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
      out.opcode(0xfd, info[0]);
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
    shuffled: { a, b, indices },
    emit: (out) => {
      a.emit(out);
      b.emit(out);
      out.opcode(0xfd, 13);
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

/** The instruction for either width. */
function widths(name: string): (a: Expr) => OpInfo {
  const narrow = opInfo(`i32.${name}`);
  const wide = opInfo(`i64.${name}`);
  return (a) => (a.type === 'i32' ? narrow : a.type === 'i64' ? wide : opInfo(`${a.type}.${name}`));
}

/** What an operation leaves everything as it is with. */
const identities: Partial<Record<BinaryName, number>> = { mul: 1, and: -1 };

function arithmetic(name: BinaryName): (a: Expr, b: Expr) => Expr {
  const of = widths(name);
  const nothing = identities[name] ?? 0;
  return (a, b) => (b instanceof Constant && b.is(nothing) && a.type === b.type ? a : binary(of(a), a, b));
}

/** Displacements beyond this are not worth remembering. */
const nearby = 0x10000n;

/** Addition or subtraction, which keep track of where an address comes from. */
function displacement(name: 'add' | 'sub'): (a: Expr, b: Expr) => Expr {
  const of = widths(name);
  return (a, b) => {
    if (!(b instanceof Constant)) return binary(of(a), a, b);
    if (b.is(0) && a.type === b.type) return a;
    const by = a.from && b.constant;
    if (by === undefined || by > nearby || by < -nearby) return binary(of(a), a, b);
    const { anchor, offset } = a.from!;
    return binary(of(a), a, b, { anchor, offset: offset + (name === 'add' ? Number(by) : -Number(by)) });
  };
}

/** Integer arithmetic for either width: the operands' type chooses i32 or i64. */
export const add = displacement('add');
export const sub = displacement('sub');
export const mul = arithmetic('mul');
export const and = arithmetic('and');
export const or = arithmetic('or');
export const xor = arithmetic('xor');
export const shl = arithmetic('shl');
export const shrS = arithmetic('shr_s');
export const shrU = arithmetic('shr_u');
export const rotl = arithmetic('rotl');
export const rotr = arithmetic('rotr');

function compare(name: CompareName): (a: Expr, b: Expr) => Expr {
  const of = widths(name);
  return (a, b) => binary(of(a), a, b);
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

const zero = widths('eqz');
export const eqz = (a: Expr): Expr => unary(zero(a), a);
const narrowing = opInfo('i32.wrap_i64');
const zeroExtension = opInfo('i64.extend_i32_u');
const signExtension = opInfo('i64.extend_i32_s');

/** i64 -> i32, low half; an i32 passes through. */
export const wrap = (a: Expr): Expr =>
  a.type === 'i32' ? a : a instanceof Constant ? i32(Number(BigInt.asIntN(32, a.constant))) : unary(narrowing, a);
/** i32 -> i64 zero-extended; an i64 passes through. */
export const extendU = (a: Expr): Expr => (a.type === 'i64' ? a : unary(zeroExtension, a));
/** i32 -> i64 sign-extended; an i64 passes through. */
export const extendS = (a: Expr): Expr => (a.type === 'i64' ? a : unary(signExtension, a));
/** A constant of the given integer type. */
export const konst = (type: ValType, value: bigint | number): Expr =>
  type === 'i32' ? i32(Number(BigInt.asIntN(32, BigInt(value)))) : i64(value);
