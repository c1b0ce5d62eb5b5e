// SPDX-License-Identifier: MIT
// A stage for the tests of the x87 descriptions: one WebAssembly function per form, ST(i) index in a state slot, memory operand at a fixed address.

import { ST } from '../../cpu/layout.ts';
import { and, eqz, i32, i64, load, ltS, op, or, shl, shrU, wrap, xor, type Expr } from '../../wasm/expr.ts';
import type { Callee, FunctionBuilder } from '../../wasm/function.ts';
import { ModuleBuilder, type ModuleFunction } from '../../wasm/module.ts';
import { categories, operationSizes, parseEncoding, type Entry } from '../encoding.ts';
import type { Kernel } from '../kernel.ts';
import type { IntSize, Mode, Stage } from '../stage.ts';
import type { Instruction } from '../types.ts';
import { x87HostOps } from './transcendental.ts';

/** Where the vCPU block and the memory operand lie. */
export const stateAt = 0x1000;
export const dataAt = 0x8000;

/** One encoding of an instruction at one operand size. */
export interface Form {
  readonly name: string;
  readonly entry: Entry;
  readonly insn: Instruction;
  readonly size: IntSize;
  /** Has an ST(i) operand. */
  readonly indexed: boolean;
}

export function formsOf(insn: Instruction): Form[] {
  return insn.encodings.flatMap((text) => {
    const entry = parseEncoding(insn, text);
    const indexed = entry.operands.some((o) => categories(o, entry.rm)[0] === 't');
    return operationSizes(entry).map((size): Form => ({ name: `${text}|${size}`, entry, insn, size, indexed }));
  });
}

/** Machine code of a form, its memory operand at [rdi]. */
export function encodingOf(form: Form, index: number): number[] {
  const { entry } = form;
  const prefix = entry.sizeLetter === 'v' ? (form.size === 16 ? [0x66] : form.size === 64 ? [0x48] : []) : [];
  if (entry.modrmFirst >= 0) return [...prefix, entry.opcode, entry.modrmFirst + (form.indexed ? index : 0)];
  return entry.hasModrm ? [...prefix, entry.opcode, (entry.reg << 3) | 7] : [entry.opcode];
}

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
const hostNames = Object.keys(x87HostOps);

const absent = (): never => {
  throw new Error('no x87 instruction needs this');
};

class TestStage implements Stage {
  readonly f: FunctionBuilder;
  readonly size: IntSize;
  readonly mode: Mode = 64;
  readonly addressSize: Mode = 64;
  readonly operands: number;
  readonly base = i32(stateAt);
  readonly flagsDead = false;
  private readonly hostCall: Callee;
  private readonly kernel: (k: Kernel) => Callee;

  constructor(f: FunctionBuilder, form: Form, host: Callee, kernel: (k: Kernel) => Callee) {
    this.f = f;
    this.size = form.size;
    this.operands = form.entry.operands.length;
    this.hostCall = host;
    this.kernel = kernel;
  }

  let = (value: Expr): Expr => this.f.let(value);
  forFlags = (value: Expr): Expr => this.let(value);
  imm = (): Expr => this.let(this.get('i32.load8_u', ST.t0));
  address = (): Expr => i64(dataAt);
  load = (size: 8 | 16 | 32 | 64 | 128, address: Expr): Expr => this.let(load(loads[size]!, wrap(address)));
  store = (size: 8 | 16 | 32 | 64 | 128, address: Expr, value: Expr): void =>
    this.f.store(stores[size]!, wrap(address), value);
  probe = (): void => undefined;
  get = (name: string, offset: number): Expr => load(name, this.base, offset);
  put = (name: string, offset: number, value: Expr): void => this.f.store(name, this.base, value, offset);
  gpr = (n: number, size: IntSize): Expr => this.let(this.get(loads[size]!, ST.gpr + 8 * n));
  setGpr = (n: number, size: IntSize, value: Expr): void => this.put(stores[size]!, ST.gpr + 8 * n, value);

  // Status flags are kept as an image in ST.fz.
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
  setZfValue = (v: Expr): void => this.setFlag('zf', op('i64.eqz', v));
  setSfValue = (v: Expr): void => this.setFlag('sf', ltS(v, i64(0)));
  setPfByte = (v: Expr): void => this.setFlag('pf', eqz(and(op('i32.popcnt', and(v, i32(0xff))), i32(1))));
  condition = (cc: number): Expr => {
    const even =
      cc >> 1 === 1 ? this.cf() : cc >> 1 === 2 ? this.zf() : cc >> 1 === 3 ? or(this.cf(), this.zf()) : this.pf();
    return cc & 1 ? xor(even, i32(1)) : even;
  };

  fault(vector: number): void {
    this.put('i32.store', ST.vector, i32(vector));
    this.f.return();
  }
  timeStamp(): Expr {
    throw new Error('no clock');
  }

  host(name: string): void {
    this.f.call(this.hostCall, i32(hostNames.indexOf(name)));
  }
  call = (kernel: Kernel, ...args: Expr[]): void => this.f.call(this.kernel(kernel), ...args);
  callValue = (kernel: Kernel, ...args: Expr[]): Expr => this.let(this.f.callExpr(this.kernel(kernel), ...args));

  read = absent;
  write = absent;
  isMemory = absent;
  readX = absent;
  writeX = absent;
  addressPlus = absent;
  offset = absent;
  isAligned = absent;
  xmm = absent;
  setXmm = absent;
  linear = absent;
  direct = absent;
  flagsImage = absent;
  setFlagsImage = absent;
  nextRip = absent;
  branch = absent;
  jump = absent;
  exit = absent;
  privileged = absent;
}

export interface TestMachine {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** Runs a form by name with an ST(i) index; returns the exception's vector, or -1. */
  run(name: string, index: number): number;
}

export function buildMachine(forms: readonly Form[]): TestMachine {
  const module = new ModuleBuilder();
  module.importMemory({ module: 'env', name: 'memory', initialPages: 1, maximumPages: 1, shared: false });
  const host = module.importFunction('env', 'host', ['i32'], []);
  const kernels = new Map<string, ModuleFunction>();
  const kernel = (k: Kernel): ModuleFunction => {
    const known = kernels.get(k.name);
    if (known) return known;
    const fn = module.function(k.params, k.results);
    kernels.set(k.name, fn);
    k.build(fn.body, kernel);
    return fn;
  };
  for (const form of forms) {
    const { body } = module.function([], [], form.name);
    form.insn.run(new TestStage(body, form, host, kernel));
  }
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const view = new DataView(memory.buffer);
  const hostOps = (n: number) => x87HostOps[hostNames[n]!]!(view, stateAt);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), {
    env: { memory, host: hostOps },
  });
  return {
    view,
    bytes: new Uint8Array(memory.buffer),
    run: (name, index) => {
      view.setInt32(stateAt + ST.vector, -1, true);
      view.setUint8(stateAt + ST.t0, index);
      (instance.exports[name] as () => void)();
      return view.getInt32(stateAt + ST.vector, true);
    },
  };
}
