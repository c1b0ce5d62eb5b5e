// SPDX-License-Identifier: MIT
// The build-time stage: plays instruction descriptions with operands read from micro-op records, giving the interpreter's handlers.

import { add, and, eq, extendU, i32, i64, load, shl, shrU, sub, wrap, type Expr } from '../wasm/expr.ts';
import type { FunctionBuilder, Local } from '../wasm/function.ts';
import type { IntSize, Mode } from '../x86/stage.ts';
import type { Handler } from './catalog.ts';
import { Exit, type ExitReason } from './exits.ts';
import { hostOpNumber } from './host-op-names.ts';
import { Link, Seg, ST, Tlb, Uop } from './layout.ts';
import { Access } from './memory-functions.ts';
import { flagSlots, loadName, storeName, wasmType, WasmStage, type FlagName, type Helpers } from './stage-base.ts';

/** What differs between the main function and outlined ones: how a handler ends early. */
export interface Surroundings {
  readonly f: FunctionBuilder;
  readonly state: Local;
  /** Host address of the record (for outlined functions: of its body). */
  readonly pc: Local;
  /** Leaves with `state.exitCode`, rip at the start of the instruction. */
  leaveAtStart(): void;
  /** Leaves with a reason, rip already stored. */
  leave(reason: ExitReason): void;
  /** Continues at the linear address in state.rip. */
  jumpToRip(handler: Handler): void;
  /** Continues along a link of the record: that of the branch taken, always or when an i32 is true, or of the fall-through. */
  follow(handler: Handler, taken: true | Expr): void;
  /** Runs the outlined twin of a read-modify-write handler instead. */
  careful(handler: Handler): void;
}

interface MemoryOperand {
  linear: Expr | undefined;
  host: Local | undefined;
}

export class InterpreterStage extends WasmStage {
  readonly size: IntSize;
  readonly mode: Mode;
  readonly addressSize: Mode;
  readonly operands: number;
  readonly flagsDead: boolean;
  private readonly around: Surroundings;
  private readonly handler: Handler;
  private readonly registers: (Expr | undefined)[] = [];
  private readonly memory: MemoryOperand = { linear: undefined, host: undefined };

  constructor(around: Surroundings, handler: Handler, helpers: Helpers) {
    super(around.f, around.state, helpers);
    this.around = around;
    this.handler = handler;
    this.size = handler.size;
    this.mode = handler.mode;
    this.addressSize = handler.addressSize;
    this.operands = handler.operands.length;
    this.flagsDead = handler.flagsDead;
    // Bound before any branch of the description, so that every path sees them.
    handler.operands.forEach((o, i) => {
      if (o.category === 'r' || o.category === 'x' || o.category === 'p')
        this.registers[i] = this.let(add(around.state, this.recordField('i32.load16_u', o.field)));
    });
    if (handler.operands.some((o) => o.category === 'm') && !handler.insn.ownMemory)
      this.memory.linear = this.let(this.effectiveAddress());
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
      this.f.ifUnlikely(hit.miss, () => this.around.careful(this.handler));
      this.f.set(host, add(wrap(address), load('i32.load', hit.entry, Tlb.write + 8)));
      return this.let(load(loadName[o.bits]!, host));
    }
    const value = this.f.local(o.bits === 128 ? 'v128' : wasmType(o.bits));
    this.f.ifUnlikely(
      hit.miss,
      () => this.fill(host, this.f.callExpr(this.helpers.fillWrite, this.around.state, address, i32(o.bits / 8))),
      () => this.f.set(host, add(wrap(address), load('i32.load', hit.entry, Tlb.write + 8))),
    );
    this.f.ifUnlikely(
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
        this.f.ifUnlikely(
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
    const offset = this.effectiveOffset();
    return this.handler.plainAddress ? offset : add(offset, this.segmentSlot());
  }

  private effectiveOffset(): Expr {
    const at = this.handler.memoryAt - Uop.base;
    const slot = (field: number) =>
      load('i64.load', add(this.around.state, this.recordField('i32.load8_u', at + field)));
    const disp = this.recordField('i64.load32_s', at + Uop.disp);
    if (this.handler.plainAddress) return add(slot(Uop.base), disp);
    const index = shl(slot(Uop.index), extendU(this.recordField('i32.load8_u', at + Uop.scale)));
    return add(add(slot(Uop.base), index), disp);
  }

  address(i: number): Expr {
    if (!this.isMemory(i)) throw new Error(`${this.handler.key}: operand ${i} is not in memory`);
    return this.memory.linear ?? this.let(this.effectiveAddress());
  }

  addressPlus(i: number, delta: Expr, bytes: number, write: boolean): Expr {
    if (this.mode === 64 && this.addressSize === 64) return this.let(add(this.address(i), delta));
    const mask = this.addressSize === 16 ? 0xffff : 0xffffffff;
    return this.linear('source', this.let(and(add(this.effectiveOffset(), delta), i64(mask))), bytes, write);
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

  linear(seg: number | 'source', offset: Expr, bytes: number, write: boolean): Expr {
    if (this.mode === 64) {
      if (seg === 'source') return this.let(this.handler.plainAddress ? offset : add(offset, this.segmentSlot()));
      if (seg === Seg.fs || seg === Seg.gs) return this.let(add(offset, this.get('i64.load', ST.segBase + 8 * seg)));
      return this.let(offset);
    }
    const at = this.handler.memoryAt - Uop.base;
    const number =
      seg === 'source' ? shrU(sub(this.recordField('i32.load8_u', at + Uop.seg), i32(ST.segBase)), i32(3)) : i32(seg);
    const result = this.let(
      this.f.callExpr(this.helpers.segment, this.around.state, number, wrap(offset), i32(bytes), i32(write ? 1 : 0)),
    );
    this.f.ifUnlikely(eq(result, i64(-1)), () => this.around.leaveAtStart());
    return result;
  }

  protected flag(name: FlagName): Expr {
    const [type, offset] = flagSlots[name];
    return this.get(`${type}.load`, offset);
  }

  protected setFlag(name: FlagName, value: Expr): void {
    if (this.flagsDead) return;
    this.put(`${flagSlots[name][0]}.store`, flagSlots[name][1], value);
  }

  nextRip(): Expr {
    if (!this.handler.linkAt) throw new Error(`${this.handler.key}: nextRip needs 'ends'`);
    return this.let(
      add(this.get('i64.load', ST.ripPage), extendU(this.recordField('i32.load16_u', this.handler.linkAt + Link.next))),
    );
  }

  branch(i: number, condition?: Expr): void {
    void i;
    this.around.follow(this.handler, condition ?? true);
  }

  jump(target: Expr): void {
    this.put('i64.store', ST.rip, target);
    this.around.jumpToRip(this.handler);
  }

  exit(reason: ExitReason, arg?: Expr): void {
    if (arg) this.put('i32.store', ST.exitArg, arg);
    this.put('i64.store', ST.rip, this.nextRip());
    this.around.leave(reason);
  }

  host(name: string, ends = false): void {
    const { iret } = this.helpers;
    if (name === 'iret64' && iret) {
      this.f.if(this.f.callExpr(iret, this.base), () => this.around.jumpToRip(this.handler));
    }
    if (ends) this.put('i64.store', ST.rip, this.nextRip());
    this.f.ifUnlikely(this.f.callExpr(this.helpers.host, i32(hostOpNumber(name)), this.base), () =>
      this.leaveAtStart(),
    );
    if (ends) this.around.leave(Exit.Lookup);
  }

  protected leaveAtStart(): void {
    this.around.leaveAtStart();
  }

  protected tlbBank(): Expr {
    return this.get('i32.load', ST.tlb);
  }
}
