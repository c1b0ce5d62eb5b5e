// SPDX-License-Identifier: MIT
// A stage for the tests of the SIMD descriptions: one WebAssembly function per form, operands in fixed registers, linear addresses are memory addresses.

import { ST } from '../cpu/layout.ts';
import { and, eqz, extendU, i32, i64, load, ltS, op, or, shl, shrU, wrap, xor, type Expr } from '../wasm/expr.ts';
import type { Callee, FunctionBuilder } from '../wasm/function.ts';
import { ModuleBuilder } from '../wasm/module.ts';
import { categories, operationSizes, parseEncoding, sizeBits, type Category, type Entry } from './encoding.ts';
import { sseHostOp } from './simd-host.ts';
import type { IntSize, Mode, Stage } from './stage.ts';
import type { Instruction } from './types.ts';

/** Where the vCPU block and the memory operands lie. */
export const stateAt = 0x1000;
export const dataAt = 0x8000;

/** Register operands by their place in ModRM: reg is number 1, rm is number 2. */
export const regNumber = 1;
export const rmNumber = 2;

export interface Form {
  readonly name: string;
  readonly entry: Entry;
  readonly insn: Instruction;
  readonly size: IntSize;
  readonly memory: boolean;
  readonly categories: readonly Category[];
  /** Compiled with a constant immediate of this value, as translated code is. */
  readonly constant: number | undefined;
}

const wasmType = (bits: number) =>
  bits === 128 ? ('v128' as const) : bits === 64 ? ('i64' as const) : ('i32' as const);
const loads: Record<number, string> = {
  8: 'i32.load8_u',
  16: 'i32.load16_u',
  32: 'i32.load',
  64: 'i64.load',
  128: 'v128.load',
};
const stores: Record<number, string> = {
  8: 'i32.store8',
  16: 'i32.store16',
  32: 'i32.store',
  64: 'i64.store',
  128: 'v128.store',
};
const flagBits: Record<string, number> = { cf: 0, pf: 2, af: 4, zf: 6, sf: 7, of: 11 };

/** All forms of an instruction: register and memory operands, operation sizes. */
export function formsOf(insn: Instruction, constant?: number): Form[] {
  return insn.encodings.flatMap((text) => {
    const entry = parseEncoding(insn, text);
    const memoryForms = entry.operands.some((o) => categories(o, entry.rm).includes('m'));
    const registerForms = entry.rm !== 'mem';
    return [false, true].flatMap((memory) => {
      if (memory ? !memoryForms : !registerForms) return [];
      return operationSizes(entry).map((size): Form => {
        const chosen = entry.operands.map(
          (o) => categories(o, entry.rm).find((c) => (c === 'm') === memory) ?? categories(o, entry.rm)[0]!,
        );
        return {
          name: `${text}|${size}|${memory ? 'm' : 'r'}`,
          entry,
          insn,
          size,
          memory,
          categories: chosen,
          constant,
        };
      });
    });
  });
}

class TestStage implements Stage {
  readonly f: FunctionBuilder;
  readonly size: IntSize;
  readonly mode: Mode = 64;
  readonly addressSize: Mode = 64;
  readonly operands: number;
  readonly base = i32(stateAt);
  readonly flagsDead = false;
  private readonly form: Form;
  private readonly hostCall: Callee;

  constructor(f: FunctionBuilder, form: Form, hostCall: Callee) {
    this.f = f;
    this.form = form;
    this.size = form.size;
    this.operands = form.entry.operands.length;
    this.hostCall = hostCall;
  }

  private bits(i: number): number {
    return sizeBits(this.form.entry.operands[i]!.size, this.size);
  }

  /** Offset of a register operand in the state block. */
  private place(i: number): number {
    const kind = this.form.entry.operands[i]!.kind;
    const n = 'GVP'.includes(kind) ? regNumber : rmNumber;
    switch (this.form.categories[i]) {
      case 'r':
        return ST.gpr + 8 * n;
      case 'x':
        return ST.xmm + 16 * n;
      case 'p':
        return ST.fpr + 16 * n;
      default:
        throw new Error(`operand ${i} is no register`);
    }
  }

  let(value: Expr): Expr {
    return this.f.let(value);
  }
  forFlags(value: Expr): Expr {
    return this.f.let(value);
  }
  isMemory(i: number): boolean {
    return this.form.categories[i] === 'm';
  }
  read(i: number): Expr {
    if (this.isMemory(i)) return this.load(this.bits(i) as 8, this.address(i));
    return this.let(this.get(loads[this.bits(i)]!, this.place(i)));
  }
  write(i: number, value: Expr): void {
    if (value.type !== wasmType(this.bits(i)))
      throw new Error(`operand ${i} has ${this.bits(i)} bits, value is ${value.type}`);
    if (this.isMemory(i)) {
      this.store(this.bits(i) as 8, this.address(i), value);
      return;
    }
    const at = this.place(i);
    if (this.form.categories[i] === 'r' && this.bits(i) === 32) this.put('i64.store', at, extendU(value));
    else this.put(stores[this.bits(i)]!, at, value);
    if (this.form.categories[i] === 'p') this.put('i32.store16', at + 8, i32(0xffff));
  }
  readX(i: number): Expr {
    return this.let(this.get('v128.load', this.place(i)));
  }
  writeX(i: number, value: Expr): void {
    this.put('v128.store', this.place(i), value);
  }
  imm(): Expr {
    return this.form.constant === undefined ? this.let(this.get('i32.load8_u', ST.t0)) : i32(this.form.constant);
  }
  /** Memory operands are at rSI. */
  address(_i?: number): Expr {
    return this.let(this.get('i64.load', ST.gpr + 48));
  }
  addressPlus(): Expr {
    throw new Error('no SSE instruction moves its address');
  }
  isAligned(): boolean {
    return false;
  }
  offset(): Expr {
    return this.address();
  }
  gpr(n: number, size: IntSize): Expr {
    return this.let(this.get(loads[size]!, ST.gpr + 8 * n));
  }
  setGpr(n: number, size: IntSize, value: Expr): void {
    if (size === 32) this.put('i64.store', ST.gpr + 8 * n, extendU(value));
    else this.put(stores[size]!, ST.gpr + 8 * n, value);
  }
  xmm(n: number): Expr {
    return this.let(this.get('v128.load', ST.xmm + 16 * n));
  }
  setXmm(n: number, value: Expr): void {
    this.put('v128.store', ST.xmm + 16 * n, value);
  }
  load(size: 8 | 16 | 32 | 64 | 128, address: Expr): Expr {
    return this.let(load(loads[size]!, wrap(address)));
  }
  store(size: 8 | 16 | 32 | 64 | 128, address: Expr, value: Expr): void {
    this.f.store(stores[size]!, wrap(address), value);
  }
  probe(): void {
    // All of the memory is accessible.
  }
  linear(_seg: number | 'source', offset: Expr): Expr {
    return offset;
  }
  direct(address: Expr): Expr {
    return wrap(address);
  }
  get(name: string, offset: number): Expr {
    return load(name, i32(stateAt), offset);
  }
  put(name: string, offset: number, value: Expr): void {
    this.f.store(name, i32(stateAt), value, offset);
  }

  // Flags are kept as an image in ST.fz.
  private flag(name: string): Expr {
    return and(shrU(this.get('i32.load', ST.fz), i32(flagBits[name]!)), i32(1));
  }
  private setFlag(name: string, bit: Expr): void {
    const n = flagBits[name]!;
    this.put('i32.store', ST.fz, or(and(this.get('i32.load', ST.fz), i32(~(1 << n))), shl(bit, i32(n))));
  }
  cf = (): Expr => this.flag('cf');
  zf = (): Expr => this.flag('zf');
  sf = (): Expr => this.flag('sf');
  of = (): Expr => this.flag('of');
  pf = (): Expr => this.flag('pf');
  af = (): Expr => this.flag('af');
  setCf = (v: Expr): void => this.setFlag('cf', v);
  setOfBit31 = (v: Expr): void => this.setFlag('of', shrU(v, i32(31)));
  setAfBit4 = (v: Expr): void => this.setFlag('af', and(shrU(v, i32(4)), i32(1)));
  setZfValue = (v: Expr): void => this.setFlag('zf', eqz(v));
  setSfValue = (v: Expr): void => this.setFlag('sf', ltS(v, i64(0)));
  setPfByte = (v: Expr): void => this.setFlag('pf', xor(and(op('i32.popcnt', and(v, i32(0xff))), i32(1)), i32(1)));
  condition(): Expr {
    throw new Error('no conditions here');
  }
  flagsImage(): Expr {
    return this.let(this.get('i32.load', ST.fz));
  }
  setFlagsImage(value: Expr, mask: number): void {
    this.put('i32.store', ST.fz, or(and(this.get('i32.load', ST.fz), i32(~mask)), and(value, i32(mask))));
  }

  nextRip(): Expr {
    return this.let(this.get('i64.load', ST.rip));
  }
  branch(): void {
    throw new Error('no branches here');
  }
  jump(): void {
    throw new Error('no branches here');
  }
  exit(): void {
    throw new Error('no exits here');
  }
  call(): void {
    throw new Error('no kernels here');
  }
  callValue(): Expr {
    throw new Error('no kernels here');
  }
  privileged(): void {
    throw new Error('no privileged instructions here');
  }
  fault(vector: number, error?: Expr): void {
    this.put('i32.store', ST.vector, i32(vector));
    this.put('i32.store', ST.errorCode, error ?? i32(0));
    this.f.return();
  }
  timeStamp(): Expr {
    throw new Error('no clock');
  }

  host(name: string): void {
    if (name !== 'sse') throw new Error(`unknown host operation ${name}`);
    this.f.if(this.f.callExpr(this.hostCall), () => this.f.return());
  }
}

/** Compiled forms over one memory. */
export interface TestMachine {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** How often the host operation was called. */
  hostCalls: number;
  /** Runs a form by name; returns the exception's vector, or -1. */
  run(name: string): number;
}

export function buildMachine(forms: readonly Form[]): TestMachine {
  const module = new ModuleBuilder();
  module.importMemory({ module: 'env', name: 'memory', initialPages: 1, maximumPages: 1, shared: false });
  const hostCall = module.importFunction('env', 'host', [], ['i32']);
  for (const form of forms) {
    const { body } = module.function([], [], form.name);
    form.insn.run(new TestStage(body, form, hostCall));
  }
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const view = new DataView(memory.buffer);
  const machine = { view, bytes: new Uint8Array(memory.buffer), hostCalls: 0, run: (_name: string) => 0 };
  const host = (): number => {
    machine.hostCalls++;
    const vector = sseHostOp(view, stateAt);
    if (vector) view.setInt32(stateAt + ST.vector, vector, true);
    return vector;
  };
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), { env: { memory, host } });
  machine.run = (name) => {
    view.setInt32(stateAt + ST.vector, -1, true);
    const f = instance.exports[name];
    if (typeof f !== 'function') throw new Error(`no form ${name}`);
    (f as () => void)();
    return view.getInt32(stateAt + ST.vector, true);
  };
  return machine;
}
