// SPDX-License-Identifier: MIT
// The build-time stage: plays instruction descriptions with operands read from micro-op records, giving the interpreter's handlers.

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
import type { ModuleFunction } from '../wasm/module.ts';
import type { Kernel } from '../x86/kernel.ts';
import type { IntSize, Mode, Stage } from '../x86/stage.ts';
import { signExtend } from '../x86/flags.ts';
import type { Handler } from './catalog.ts';
import { Exit, type ExitReason } from './exits.ts';
import { hostOpNumber } from './host-op-names.ts';
import { Link, Seg, ST, Tlb, Uop } from './layout.ts';
import { Access, type MemoryFunctions } from './memory-functions.ts';

/** Functions of the interpreter's module that handlers call. */
export interface Helpers extends MemoryFunctions {
  /** (state, segment, offset, bytes, write) -> linear address, -1 = fault. */
  readonly segment: ModuleFunction;
  /** (operation, state) -> 0, or 1 = exception recorded. */
  readonly host: { readonly index: number; readonly params: readonly 'i32'[]; readonly results: readonly 'i32'[] };
  readonly kernel: (k: Kernel) => ModuleFunction;
}

/** What differs between the main function and outlined ones: where flags live and how a handler ends early. */
export interface Surroundings {
  readonly f: FunctionBuilder;
  readonly state: Local;
  /** Host address of the record (for outlined functions: of its body). */
  readonly pc: Local;
  readonly flags:
    | {
        readonly fz: Local;
        readonly fs: Local;
        readonly fp: Local;
        readonly fc: Local;
        readonly fo: Local;
        readonly fa: Local;
      }
    | undefined;
  /** Leaves with `state.exitCode`, rip at the start of the instruction. */
  leaveAtStart(): void;
  /** Leaves with a reason, rip already stored. */
  leave(reason: ExitReason): void;
  /** Continues at the linear address in state.rip. */
  jumpToRip(handler: Handler): void;
  /** Continues along a link of the record: `taken` or fall-through. */
  follow(handler: Handler, taken: boolean): void;
  /** Runs the outlined twin of a read-modify-write handler instead. */
  careful(handler: Handler): void;
}

const wasmType = (bits: number) => (bits === 64 ? ('i64' as const) : ('i32' as const));
const loadName: Record<number, string> = {
  8: 'i32.load8_u',
  16: 'i32.load16_u',
  32: 'i32.load',
  64: 'i64.load',
  128: 'v128.load',
};
const storeName: Record<number, string> = {
  8: 'i32.store8',
  16: 'i32.store16',
  32: 'i32.store',
  64: 'i64.store',
  128: 'v128.store',
};

/** The six pieces of the status flags, as read from and written to the state block by outlined handlers. */
const flagSlots = {
  fz: ['i64', ST.fz],
  fs: ['i64', ST.fs],
  fp: ['i32', ST.fp],
  fc: ['i32', ST.fc],
  fo: ['i32', ST.fo],
  fa: ['i32', ST.fa],
} as const;
type FlagName = keyof typeof flagSlots;

interface MemoryOperand {
  linear: Expr | undefined;
  host: Local | undefined;
}

export class InterpreterStage implements Stage {
  readonly f: FunctionBuilder;
  readonly size: IntSize;
  readonly mode: Mode;
  readonly addressSize: Mode;
  readonly operands: number;
  readonly base: Expr;
  readonly flagsDead: boolean;
  private readonly around: Surroundings;
  private readonly handler: Handler;
  private readonly helpers: Helpers;
  private readonly registers: (Expr | undefined)[] = [];
  private readonly memory: MemoryOperand = { linear: undefined, host: undefined };
  private comparison: { size: IntSize; a: Expr; b: Expr } | { size: IntSize; result: Expr } | undefined;

  constructor(around: Surroundings, handler: Handler, helpers: Helpers) {
    this.around = around;
    this.handler = handler;
    this.helpers = helpers;
    this.f = around.f;
    this.size = handler.size;
    this.mode = handler.mode;
    this.addressSize = handler.addressSize;
    this.operands = handler.operands.length;
    this.base = around.state;
    this.flagsDead = handler.flagsDead;
    // Bound before any branch of the description, so that every path sees them.
    handler.operands.forEach((o, i) => {
      if (o.category === 'r' || o.category === 'x' || o.category === 'p')
        this.registers[i] = this.let(add(around.state, this.recordField('i32.load16_u', o.field)));
    });
    if (handler.operands.some((o) => o.category === 'm') && !handler.insn.ownMemory)
      this.memory.linear = this.let(this.effectiveAddress());
  }

  let(value: Expr): Expr {
    return this.f.let(value);
  }

  get(name: string, offset: number): Expr {
    return load(name, this.around.state, offset);
  }

  put(name: string, offset: number, value: Expr): void {
    this.f.store(name, this.around.state, value, offset);
  }

  private recordField(name: string, offset: number): Expr {
    return load(name, this.around.pc, offset);
  }

  private operand(i: number) {
    const o = this.handler.operands[i];
    if (!o) throw new Error(`${this.handler.key}: no operand ${i}`);
    return o;
  }

  /** Host address of a register operand's place in the state block. */
  private registerAddress(i: number): Expr {
    const at = this.registers[i];
    if (!at) throw new Error(`${this.handler.key}: operand ${i} is no register`);
    return at;
  }

  isMemory(i: number): boolean {
    return this.operand(i).category === 'm';
  }

  read(i: number): Expr {
    const o = this.operand(i);
    switch (o.category) {
      case 'r':
      case 'x':
      case 'p':
        return this.let(load(loadName[o.bits]!, this.registerAddress(i)));
      case 'l':
        return this.gpr(1, 8);
      case 's':
        return this.let(
          load(
            'i32.load16_u',
            add(this.around.state, shl(this.recordField('i32.load16_u', o.field), i32(1))),
            ST.selector,
          ),
        );
      case 'm':
        return this.readMemory(i);
      default:
        return this.imm(i);
    }
  }

  private readMemory(i: number): Expr {
    const o = this.operand(i);
    if (o.bits === 0 || o.bits === 80) throw new Error(`${this.handler.key}: operand ${i} cannot be read as a value`);
    const address = this.address(i);
    if (this.handler.insn.access[i] !== 'x' || this.handler.insn.ownMemory) return this.load(o.bits as 8, address);
    const host = this.f.local('i32');
    this.memory.host = host;
    const hit = this.tlbHit(address, o.bits / 8, Access.write);
    if (this.handler.inline) {
      this.f.if(op('i32.eqz', hit.hit), () => this.around.careful(this.handler));
      this.f.set(host, add(wrap(address), load('i32.load', hit.entry, Tlb.write + 8)));
      return this.let(load(loadName[o.bits]!, host));
    }
    const value = this.f.local(o.bits === 128 ? 'v128' : wasmType(o.bits));
    this.f.if(
      hit.hit,
      () => this.f.set(host, add(wrap(address), load('i32.load', hit.entry, Tlb.write + 8))),
      () => this.fill(host, this.f.callExpr(this.helpers.fillWrite, this.around.state, address, i32(o.bits / 8))),
    );
    this.f.if(
      eq(host, i32(1)),
      () => this.f.set(value, this.load(o.bits as 8, address)),
      () => this.f.set(value, load(loadName[o.bits]!, host)),
    );
    return value;
  }

  write(i: number, value: Expr): void {
    const o = this.operand(i);
    if (o.category === 'm') {
      if (o.bits === 0 || o.bits === 80)
        throw new Error(`${this.handler.key}: operand ${i} cannot be written as a value`);
      const host = this.memory.host;
      if (!host) this.store(o.bits as 8, this.address(i), value);
      else if (this.handler.inline) this.f.store(storeName[o.bits]!, host, value);
      else {
        const v = this.let(value);
        this.f.if(
          eq(host, i32(1)),
          () => this.store(o.bits as 8, this.address(i), v),
          () => this.f.store(storeName[o.bits]!, host, v),
        );
      }
      return;
    }
    const at = this.registerAddress(i);
    if (o.category === 'r' && o.bits === 32) this.f.store('i64.store', at, extendU(value));
    else this.f.store(storeName[o.bits]!, at, value);
    if (o.category === 'p') this.f.store('i32.store16', at, i32(0xffff), 8);
  }

  readX(i: number): Expr {
    return this.let(load('v128.load', this.registerAddress(i)));
  }

  writeX(i: number, value: Expr): void {
    this.f.store('v128.store', this.registerAddress(i), value);
  }

  imm(i: number): Expr {
    const o = this.operand(i);
    switch (o.category) {
      case 'i':
        return this.let(
          this.recordField(o.bits === 64 ? 'i64.load' : o.bits === 8 ? 'i32.load8_u' : 'i32.load', o.field),
        );
      case 't':
      case 's':
      case 'c':
        return this.let(this.recordField('i32.load16_u', o.field));
      default:
        throw new Error(`${this.handler.key}: operand ${i} is no immediate`);
    }
  }

  /** base + (index << scale) + disp, without the segment. */
  offset(i: number): Expr {
    if (!this.isMemory(i)) throw new Error(`${this.handler.key}: operand ${i} is not in memory`);
    return this.let(this.effectiveOffset());
  }

  private effectiveAddress(): Expr {
    return add(this.effectiveOffset(), this.segmentSlot());
  }

  private effectiveOffset(): Expr {
    const at = this.handler.memoryAt - Uop.base;
    const slot = (field: number) =>
      load('i64.load', add(this.around.state, this.recordField('i32.load8_u', at + field)));
    const index = shl(slot(Uop.index), extendU(this.recordField('i32.load8_u', at + Uop.scale)));
    return add(add(slot(Uop.base), index), this.recordField('i64.load32_s', at + Uop.disp));
  }

  address(i: number): Expr {
    if (!this.isMemory(i)) throw new Error(`${this.handler.key}: operand ${i} is not in memory`);
    return this.memory.linear ?? this.let(this.effectiveAddress());
  }

  /** Value of the segment field's slot: a segment base, or zero. */
  private segmentSlot(): Expr {
    const at = this.handler.memoryAt - Uop.base;
    return load('i64.load', add(this.around.state, this.recordField('i32.load8_u', at + Uop.seg)));
  }

  gpr(n: number, size: IntSize): Expr {
    return this.let(this.get(loadName[size]!, ST.gpr + 8 * n));
  }

  setGpr(n: number, size: IntSize, value: Expr): void {
    if (size === 32) this.put('i64.store', ST.gpr + 8 * n, extendU(value));
    else this.put(storeName[size]!, ST.gpr + 8 * n, value);
  }

  xmm(n: number): Expr {
    return this.let(this.get('v128.load', ST.xmm + 16 * n));
  }

  setXmm(n: number, value: Expr): void {
    this.put('v128.store', ST.xmm + 16 * n, value);
  }

  private tlbHit(address: Expr, bytes: number, access: number): { hit: Expr; entry: Expr } {
    const entry = this.let(add(this.around.state, and(wrap(shrU(address, i64(8))), i32(0xfff0))));
    const last = bytes === 1 ? address : add(address, i64(bytes - 1));
    const tag = or(and(last, i64(-4096)), this.get('i64.load', ST.asid));
    return { hit: eq(load('i64.load', entry, Tlb.read + (access << 16)), tag), entry };
  }

  /** Sets `host` from a fill function's result; 0 leaves with the recorded fault. */
  private fill(host: Local, value: Expr): void {
    this.f.set(host, value);
    this.f.if(eqz(host), () => this.around.leaveAtStart());
  }

  load(size: 8 | 16 | 32 | 64 | 128, address: Expr): Expr {
    const value = this.f.local(size === 128 ? 'v128' : wasmType(size));
    this.f.scope(() => {
      const a = this.let(address);
      const host = this.f.local('i32');
      const { hit, entry } = this.tlbHit(a, size / 8, Access.read);
      this.f.if(
        hit,
        () => this.f.set(host, add(wrap(a), load('i32.load', entry, Tlb.read + 8))),
        () => this.fill(host, this.f.callExpr(this.helpers.fillRead, this.around.state, a, i32(size / 8))),
      );
      this.f.set(value, load(loadName[size]!, host));
    });
    return value;
  }

  store(size: 8 | 16 | 32 | 64 | 128, address: Expr, value: Expr): void {
    this.f.scope(() => {
      const a = this.let(address);
      const v = this.let(value);
      const { hit, entry } = this.tlbHit(a, size / 8, Access.write);
      this.f.if(
        hit,
        () => this.f.store(storeName[size]!, add(wrap(a), load('i32.load', entry, Tlb.write + 8)), v),
        () => {
          const done =
            size === 128
              ? (this.put('v128.store', ST.work + 16, v), this.f.callExpr(this.helpers.store128, this.around.state, a))
              : this.f.callExpr(this.helpers.store, this.around.state, a, i32(size / 8), extendU(v));
          this.f.if(eqz(done), () => this.around.leaveAtStart());
        },
      );
    });
  }

  probe(address: Expr, bytes: number, write: boolean): void {
    const a = this.let(address);
    const check = (at: Expr) =>
      this.f.if(
        eqz(this.f.callExpr(this.helpers.hostPage, this.around.state, at, i32(write ? Access.write : Access.read))),
        () => this.around.leaveAtStart(),
      );
    check(a);
    this.f.if(gtU(add(and(wrap(a), i32(0xfff)), i32(bytes)), i32(0x1000)), () => check(add(a, i64(bytes - 1))));
  }

  direct(address: Expr, write: boolean): Expr {
    const a = this.let(address);
    const host = this.f.local('i32');
    const { hit, entry } = this.tlbHit(a, 1, write ? Access.write : Access.read);
    this.f.if(
      hit,
      () => this.f.set(host, add(wrap(a), load('i32.load', entry, Tlb.read + (write ? 1 << 16 : 0) + 8))),
      () =>
        this.fill(
          host,
          this.f.callExpr(write ? this.helpers.fillWrite : this.helpers.fillRead, this.around.state, a, i32(1)),
        ),
    );
    return select(eq(host, i32(1)), i32(0), host);
  }

  linear(seg: number | 'source', offset: Expr, bytes: number, write: boolean): Expr {
    if (this.mode === 64) {
      if (seg === 'source') return this.let(add(offset, this.segmentSlot()));
      if (seg === Seg.fs || seg === Seg.gs) return this.let(add(offset, this.get('i64.load', ST.segBase + 8 * seg)));
      return this.let(offset);
    }
    const at = this.handler.memoryAt - Uop.base;
    const number =
      seg === 'source' ? shrU(sub(this.recordField('i32.load8_u', at + Uop.seg), i32(ST.segBase)), i32(3)) : i32(seg);
    const result = this.let(
      this.f.callExpr(this.helpers.segment, this.around.state, number, wrap(offset), i32(bytes), i32(write ? 1 : 0)),
    );
    this.f.if(eq(result, i64(-1)), () => this.around.leaveAtStart());
    return result;
  }

  private flag(name: FlagName): Expr {
    const local = this.around.flags?.[name];
    if (local) return local;
    const [type, offset] = flagSlots[name];
    return this.get(`${type}.load`, offset);
  }

  private setFlag(name: FlagName, value: Expr): void {
    if (this.flagsDead) return;
    const local = this.around.flags?.[name];
    if (local) this.f.set(local, value);
    else this.put(`${flagSlots[name][0]}.store`, flagSlots[name][1], value);
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

  private evenCondition(cc: number): Expr {
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

  private evenFusedCondition(cc: number): Expr {
    const c = this.comparison;
    if (!c) throw new Error(`${this.handler.key}: nothing to fuse`);
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

  nextRip(): Expr {
    if (!this.handler.linkAt) throw new Error(`${this.handler.key}: nextRip needs 'ends'`);
    return this.let(
      add(this.get('i64.load', ST.ripPage), extendU(this.recordField('i32.load16_u', this.handler.linkAt + Link.next))),
    );
  }

  branch(i: number, condition?: Expr): void {
    void i;
    if (condition) this.f.if(eqz(condition), () => this.around.follow(this.handler, false));
    this.around.follow(this.handler, true);
  }

  jump(target: Expr): void {
    this.put('i64.store', ST.rip, target);
    this.around.jumpToRip(this.handler);
  }

  fault(vector: number, error?: Expr): void {
    this.put('i32.store', ST.vector, i32(vector));
    this.put('i32.store', ST.errorCode, error ?? i32(0));
    this.put('i32.store', ST.segmentFault, i32(0));
    this.put('i32.store', ST.exitCode, i32(Exit.Exception));
    this.around.leaveAtStart();
  }

  exit(reason: ExitReason, arg?: Expr): void {
    if (arg) this.put('i32.store', ST.exitArg, arg);
    this.put('i64.store', ST.rip, this.nextRip());
    this.around.leave(reason);
  }

  host(name: string, ends = false): void {
    if (ends) this.put('i64.store', ST.rip, this.nextRip());
    this.f.if(this.f.callExpr(this.helpers.host, i32(hostOpNumber(name)), this.around.state), () =>
      this.around.leaveAtStart(),
    );
    if (ends) this.around.leave(Exit.Lookup);
  }

  call(kernel: Kernel, ...args: Expr[]): void {
    this.f.call(this.helpers.kernel(kernel), ...args);
  }

  callValue(kernel: Kernel, ...args: Expr[]): Expr {
    return this.let(this.f.callExpr(this.helpers.kernel(kernel), ...args));
  }

  privileged(): void {
    this.f.if(this.get('i32.load', ST.cpl), () => this.fault(13, i32(0)));
  }
}
