// SPDX-License-Identifier: MIT
// What all stages that emit WebAssembly share: guest memory behind the TLB, status flags in pieces, conditions, faults.

import {
  add,
  and,
  eq,
  eqz,
  extendU,
  gtU,
  i32,
  i64,
  leS,
  leU,
  load,
  ltS,
  ltU,
  ne,
  op,
  or,
  select,
  shl,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../wasm/expr.ts';
import type { FunctionBuilder, Local } from '../wasm/function.ts';
import type { Callee } from '../wasm/function.ts';
import type { Kernel } from '../x86/kernel.ts';
import type { IntSize, Mode, Stage } from '../x86/stage.ts';
import { signExtend } from '../x86/flags.ts';
import { Exit, type ExitReason } from './exits.ts';
import { ST, Tlb } from './layout.ts';
import { Access, isMiss, tlbEntry } from './memory-functions.ts';

/** Functions that emitted code calls: slow paths of memory accesses, the host, shared kernels. */
export interface Helpers {
  /** (state, address i64, access) -> host address of the page, 0 = fault recorded. */
  readonly hostPage: Callee;
  /** (state, address, bytes) -> host address to read from, 0 = fault. */
  readonly fillRead: Callee;
  /** (state, address, bytes) -> host address to write to, 0 = fault, 1 = must go through store. */
  readonly fillWrite: Callee;
  /** (state, address, bytes, value i64) -> 1, or 0 = leave with state.exitCode. */
  readonly store: Callee;
  /** (state, address) -> 1 or 0; the value is at state.work + 16. */
  readonly store128: Callee;
  /** (state, segment, offset, bytes, write) -> linear address, -1 = fault. */
  readonly segment: Callee;
  /** (operation, state) -> 0, or 1 = exception recorded. */
  readonly host: Callee;
  /** (state) -> 1 = done, rip is set; 0 = for the host: IRET with 64-bit operands, see hooks.ts. */
  readonly iret?: Callee;
  readonly kernel: (k: Kernel) => Callee;
}

export const wasmType = (bits: number) =>
  bits === 64 ? ('i64' as const) : bits === 128 ? ('v128' as const) : ('i32' as const);
export const loadName: Record<number, string> = {
  8: 'i32.load8_u',
  16: 'i32.load16_u',
  32: 'i32.load',
  64: 'i64.load',
  128: 'v128.load',
};
export const storeName: Record<number, string> = {
  8: 'i32.store8',
  16: 'i32.store16',
  32: 'i32.store',
  64: 'i64.store',
  128: 'v128.store',
};

/** The six pieces of the status flags in the state block. */
export const flagSlots = {
  fz: ['i64', ST.fz],
  fs: ['i64', ST.fs],
  fp: ['i32', ST.fp],
  fc: ['i32', ST.fc],
  fo: ['i32', ST.fo],
  fa: ['i32', ST.fa],
} as const;
export type FlagName = keyof typeof flagSlots;
export const flagNames = Object.keys(flagSlots) as readonly FlagName[];

/** The comparison or logic operation that the flags come from, when the stage may use it for a branch behind. */
export type Comparison = { size: IntSize; a: Expr; b: Expr } | { size: IntSize; result: Expr };

export abstract class WasmStage implements Stage {
  readonly f: FunctionBuilder;
  readonly base: Local;
  abstract readonly size: IntSize;
  abstract readonly mode: Mode;
  abstract readonly addressSize: Mode;
  abstract readonly operands: number;
  abstract readonly flagsDead: boolean;
  protected readonly helpers: Helpers;
  protected comparison: Comparison | undefined;

  constructor(f: FunctionBuilder, base: Local, helpers: Helpers) {
    this.f = f;
    this.base = base;
    this.helpers = helpers;
  }

  abstract read(i: number): Expr;
  abstract write(i: number, value: Expr): void;
  abstract isMemory(i: number): boolean;
  abstract readX(i: number): Expr;
  abstract writeX(i: number, value: Expr): void;
  abstract imm(i: number): Expr;
  abstract address(i: number): Expr;
  abstract addressPlus(i: number, delta: Expr, bytes: number, write: boolean): Expr;
  abstract offset(i: number): Expr;
  isAligned(address: Expr): boolean {
    void address;
    return false;
  }
  abstract gpr(n: number, size: IntSize): Expr;
  abstract setGpr(n: number, size: IntSize, value: Expr): void;
  abstract xmm(n: number): Expr;
  abstract setXmm(n: number, value: Expr): void;
  abstract linear(seg: number | 'source', offset: Expr, bytes: number, write: boolean): Expr;
  abstract nextRip(): Expr;
  abstract branch(i: number, condition?: Expr): void;
  abstract jump(target: Expr): void;
  abstract exit(reason: ExitReason, arg?: Expr): void;
  abstract host(name: string, ends?: boolean): void;
  /** Leaves with `state.exitCode`, rip at the start of the instruction. */
  protected abstract leaveAtStart(): void;
  /** A piece of the status flags, and replacing it. */
  protected abstract flag(name: FlagName): Expr;
  protected abstract setFlag(name: FlagName, value: Expr): void;
  /** Host address of the current address space's bank of TLBs (i32). */
  protected abstract tlbBank(): Expr;

  let(value: Expr): Expr {
    return this.f.let(value);
  }

  forFlags(value: Expr): Expr {
    return this.let(value);
  }

  timeStamp(): Expr {
    this.host('timeStamp');
    return this.let(this.get('i64.load', ST.timeStamp));
  }

  get(name: string, offset: number): Expr {
    return load(name, this.base, offset);
  }

  put(name: string, offset: number, value: Expr): void {
    this.f.store(name, this.base, value, offset);
  }

  protected tlbHit(address: Expr, bytes: number, access: number): { miss: Expr; entry: Expr } {
    const entry = this.let(tlbEntry(this.tlbBank(), address));
    const last = bytes === 1 ? address : add(address, i64(bytes - 1));
    return { miss: isMiss(load('i64.load', entry, Tlb.read + (access << 16)), last), entry };
  }

  /** Sets `host` from a fill function's result; 0 leaves with the recorded fault. */
  protected fill(host: Local, value: Expr): void {
    this.f.set(host, value);
    this.f.ifUnlikely(eqz(host), () => this.leaveAtStart());
  }

  load(size: 8 | 16 | 32 | 64 | 128, address: Expr): Expr {
    const value = this.f.local(wasmType(size));
    this.f.scope(() => {
      const a = this.let(address);
      const host = this.f.local('i32');
      const { miss, entry } = this.tlbHit(a, size / 8, Access.read);
      this.f.ifUnlikely(
        miss,
        () => this.fill(host, this.f.callExpr(this.helpers.fillRead, this.base, a, i32(size / 8))),
        () => this.f.set(host, add(wrap(a), load('i32.load', entry, Tlb.read + 8))),
      );
      this.f.set(value, load(loadName[size]!, host));
    });
    return value;
  }

  store(size: 8 | 16 | 32 | 64 | 128, address: Expr, value: Expr): void {
    this.f.scope(() => {
      const a = this.let(address);
      const v = this.let(value);
      const { miss, entry } = this.tlbHit(a, size / 8, Access.write);
      this.f.ifUnlikely(
        miss,
        () => {
          const done =
            size === 128
              ? (this.put('v128.store', ST.work + 16, v), this.f.callExpr(this.helpers.store128, this.base, a))
              : this.f.callExpr(this.helpers.store, this.base, a, i32(size / 8), extendU(v));
          this.f.ifUnlikely(eqz(done), () => this.leaveAtStart());
        },
        () => this.f.store(storeName[size]!, add(wrap(a), load('i32.load', entry, Tlb.write + 8)), v),
      );
    });
  }

  probe(address: Expr, bytes: number, write: boolean): void {
    const a = this.let(address);
    const check = (at: Expr) =>
      this.f.ifUnlikely(
        eqz(this.f.callExpr(this.helpers.hostPage, this.base, at, i32(write ? Access.write : Access.read))),
        () => this.leaveAtStart(),
      );
    check(a);
    this.f.ifUnlikely(gtU(add(and(wrap(a), i32(0xfff)), i32(bytes)), i32(0x1000)), () =>
      check(and(add(a, i64(bytes - 1)), i64(-4096))),
    );
  }

  direct(address: Expr, write: boolean): Expr {
    const a = this.let(address);
    const host = this.f.local('i32');
    const { miss, entry } = this.tlbHit(a, 1, write ? Access.write : Access.read);
    this.f.ifUnlikely(
      miss,
      () =>
        this.fill(host, this.f.callExpr(write ? this.helpers.fillWrite : this.helpers.fillRead, this.base, a, i32(1))),
      () => this.f.set(host, add(wrap(a), load('i32.load', entry, Tlb.read + (write ? 1 << 16 : 0) + 8))),
    );
    return select(eq(host, i32(1)), i32(0), host);
  }

  cf(): Expr {
    return this.flag('fc');
  }
  zf(): Expr {
    return op('i64.eqz', this.flag('fz'));
  }
  sf(): Expr {
    return ltS(this.flag('fs'), i64(0));
  }
  of(): Expr {
    return shrU(this.flag('fo'), i32(31));
  }
  pf(): Expr {
    return eqz(and(op('i32.popcnt', and(this.flag('fp'), i32(0xff))), i32(1)));
  }
  af(): Expr {
    return and(shrU(this.flag('fa'), i32(4)), i32(1));
  }

  setCf(value: Expr): void {
    this.setFlag('fc', value);
  }
  setOfBit31(value: Expr): void {
    this.setFlag('fo', value);
  }
  setAfBit4(value: Expr): void {
    this.setFlag('fa', value);
  }
  setZfValue(value: Expr): void {
    this.setFlag('fz', value);
  }
  setSfValue(value: Expr): void {
    this.setFlag('fs', value);
  }
  setPfByte(value: Expr): void {
    this.setFlag('fp', value);
  }

  compared(size: IntSize, a: Expr, b: Expr): void {
    this.comparison = { size, a, b };
  }

  tested(size: IntSize, result: Expr): void {
    this.comparison = { size, result };
  }

  condition(cc: number): Expr {
    const even = this.evenCondition(cc & ~1);
    return cc & 1 ? eqz(even) : even;
  }

  protected evenCondition(cc: number): Expr {
    switch (cc) {
      case 0:
        return this.of();
      case 2:
        return this.cf();
      case 4:
        return this.zf();
      case 6:
        return or(this.cf(), this.zf());
      case 8:
        return this.sf();
      case 10:
        return this.pf();
      case 12:
        return ne(this.sf(), this.of());
      default:
        return or(this.zf(), ne(this.sf(), this.of()));
    }
  }

  /** Condition `cc` computed from the operands of the comparison just described. */
  fusedCondition(cc: number): Expr {
    const even = this.evenFusedCondition(cc & ~1);
    return cc & 1 ? eqz(even) : even;
  }

  protected evenFusedCondition(cc: number): Expr {
    const c = this.comparison;
    if (!c) throw new Error(`nothing to fuse`);
    if ('result' in c) {
      const r = signExtend(c.size, c.result);
      if (cc === 4) return op(`${r.type}.eqz`, r);
      return cc === 14 ? leS(r, i64(0)) : ltS(r, i64(0));
    }
    const { a, b, size } = c;
    const signed = (e: Expr) => (size === 8 ? op('i32.extend8_s', e) : size === 16 ? op('i32.extend16_s', e) : e);
    switch (cc) {
      case 2:
        return ltU(a, b);
      case 4:
        return eq(a, b);
      case 6:
        return leU(a, b);
      case 8:
        return ltS(signExtend(size, sub(a, b)), i64(0));
      case 12:
        return ltS(signed(a), signed(b));
      default:
        return leS(signed(a), signed(b));
    }
  }

  flagsImage(): Expr {
    const bits = or(
      or(or(this.cf(), shl(this.pf(), i32(2))), or(and(this.flag('fa'), i32(0x10)), shl(this.zf(), i32(6)))),
      or(shl(this.sf(), i32(7)), and(shrU(this.flag('fo'), i32(20)), i32(0x800))),
    );
    return this.let(or(bits, or(this.get('i32.load', ST.sysFlags), i32(2))));
  }

  setFlagsImage(value: Expr, mask: number): void {
    const v = this.let(value);
    if (mask & 1) this.setCf(and(v, i32(1)));
    if (mask & 4) this.setPfByte(and(op('i32.xor', shrU(v, i32(2)), i32(1)), i32(1)));
    if (mask & 0x10) this.setAfBit4(and(v, i32(0x10)));
    if (mask & 0x40) this.setZfValue(extendU(and(xor(shrU(v, i32(6)), i32(1)), i32(1))));
    if (mask & 0x80) this.setSfValue(sub(i64(0), extendU(and(shrU(v, i32(7)), i32(1)))));
    if (mask & 0x800) this.setOfBit31(shl(v, i32(20)));
    const system = mask & ~0x8d5;
    if (system)
      this.put('i32.store', ST.sysFlags, or(and(this.get('i32.load', ST.sysFlags), i32(~system)), and(v, i32(system))));
  }

  fault(vector: number, error?: Expr): void {
    this.put('i32.store', ST.vector, i32(vector));
    this.put('i32.store', ST.errorCode, error ?? i32(0));
    this.put('i32.store', ST.segmentFault, i32(0));
    this.put('i32.store', ST.exitCode, i32(Exit.Exception));
    this.leaveAtStart();
  }

  call(kernel: Kernel, ...args: Expr[]): void {
    this.f.call(this.helpers.kernel(kernel), ...args);
  }

  callValue(kernel: Kernel, ...args: Expr[]): Expr {
    return this.let(this.f.callExpr(this.helpers.kernel(kernel), ...args));
  }

  privileged(): void {
    this.f.ifUnlikely(this.get('i32.load', ST.cpl), () => this.fault(13, i32(0)));
  }
}
