// SPDX-License-Identifier: MIT
// The run-time stage: plays instruction descriptions with operands known, guest registers in locals, flags computed only where needed.

import { keepSpecimen } from '../specimens.ts';
import {
  add,
  and,
  bitsOf,
  extendU,
  extractLane,
  i32,
  i64,
  load,
  or,
  replaceLane,
  shl,
  shrU,
  wrap,
  type Expr,
  withOrigin,
} from '../wasm/expr.ts';
import type { Local } from '../wasm/function.ts';
import { Exit, type ExitReason } from '../cpu/exits.ts';
import { hostOpNumber } from '../cpu/host-op-names.ts';
import { Seg, ST } from '../cpu/layout.ts';
import { loadName, storeName, type FlagName, type Helpers, type WasmStage } from '../cpu/stage-base.ts';
import type { Operand } from '../x86/decode.ts';
import type { IntSize, Mode } from '../x86/stage.ts';
import { readClock } from './clock.ts';
import { InstructionBounds } from './magnitudes.ts';
import type { Place } from './places.ts';
import type { RegionInstruction } from './region.ts';
import type { RegionState, Transfer } from './region-state.ts';
import { RegionMemory, type RegionExit } from './stage-memory.ts';

export class RegionStage extends RegionMemory {
  readonly size: IntSize;
  readonly mode: Mode = 64;
  readonly addressSize: Mode;
  readonly operands: number;
  readonly flagsDead = false;
  readonly simdReady = true;
  readonly transfer: Transfer = {};
  private readonly lazyFlags: boolean;
  private linearAddress: Expr | undefined;
  private rmwHost: Local | undefined;
  /** Operand 1 in memory, read before anything else. */
  private source: Expr | undefined;

  /** `leaveRegion`: see RegionMemory. `lazyFlags`: the instruction's flags can wait. `comparison`: what the flags stand for before it. */
  constructor(
    state: RegionState,
    i: RegionInstruction,
    helpers: Helpers,
    lazyFlags: boolean,
    comparison: WasmStage['comparison'],
    leaveRegion: (at: number, exit: RegionExit) => void,
  ) {
    super(state, i, helpers, leaveRegion);
    this.size = i.size;
    this.addressSize = i.addressSize;
    this.operands = i.operands.length;
    this.lazyFlags = lazyFlags;
    this.comparison = comparison;
    if (!i.entry.insn.ownMemory && i.operands.some((o) => o.category === 'm'))
      this.linearAddress = this.let(this.effectiveAddress());
    // A fault must find the flags that this instruction left last time round: their recipe uses the locals that the description is about to
    // bind. So its one access that is not to operand 0 comes first.
    const source = i.operands[1];
    if (lazyFlags && source?.category === 'm' && this.linearAddress && i.entry.insn.access[1] === 'r')
      this.source = this.load(source.bits as 8, this.linearAddress);
  }

  /** The comparison that the flags stand for behind this instruction. */
  get lastComparison(): WasmStage['comparison'] {
    return this.comparison;
  }

  private operand(i: number): Operand {
    const o = this.i.operands[i];
    if (!o) throw new Error(`${this.i.entry.text}: no operand ${i}`);
    return o;
  }

  isMemory(i: number): boolean {
    return this.operand(i).category === 'm';
  }

  /** A general register named by its state offset, at `bits`; bound, because the register may change before the value is used. */
  private readRegister(offset: number, bits: number): Expr {
    const n = offset >> 3;
    const local = this.state.gpr(n);
    if (bits === 64) return this.placed(this.let(local), n);
    const low = wrap(offset & 1 ? shrU(local, i64(8)) : local);
    return this.let(bits === 32 ? low : and(low, i32(bits === 16 ? 0xffff : 0xff)));
  }

  /** Says what a register's value is relative to; not in code that may run several times, or not at all. */
  private placed(value: Expr, n: number): Expr {
    return this.isCertain ? withOrigin(value, this.state.places.of(n)) : value;
  }

  private writeRegister(offset: number, bits: number, value: Expr): void {
    const n = offset >> 3;
    const local = this.state.gpr(n);
    this.state.gprWritten[n] = 1;
    this.state.places.set(n, bits === 64 && this.isCertain ? (value.from as Place | undefined) : undefined);
    if (bits >= 32) this.f.set(local, extendU(value));
    else {
      const shift = offset & 1 ? 8 : 0;
      const mask = bits === 16 ? 0xffff : 0xff << shift;
      const field = and(shift ? shl(extendU(value), i64(shift)) : extendU(value), i64(mask));
      this.f.set(local, or(and(local, i64(~mask)), field));
    }
  }

  private readVector(offset: number, bits: number): Expr {
    const n = (offset - ST.xmm) >> 4;
    const { vectors } = this.state;
    const { isCertain } = this;
    if (bits < 32) {
      const low = extractLane('i32x4.extract_lane', vectors.read(n, isCertain), 0);
      return this.let(and(low, i32(bits === 16 ? 0xffff : 0xff)));
    }
    const value =
      bits === 128
        ? this.let(vectors.read(n, isCertain))
        : // As floats: arithmetic on them stays in the vector registers.
          bitsOf(this.let(vectors.readLow(n, bits === 64 ? 'f64' : 'f32', isCertain)));
    this.bounds()?.hasRead(value, n, bits);
    return value;
  }

  private writeVector(offset: number, bits: number, value: Expr): void {
    const n = (offset - ST.xmm) >> 4;
    const { vectors } = this.state;
    const { isCertain } = this;
    this.bounds()?.writes(value, n, bits);
    if (bits === 128) vectors.write(n, value, isCertain);
    else if ((bits === 64 || bits === 32) && value.float) vectors.writeLow(n, value.float, isCertain);
    else if (bits === 64 || bits === 32) {
      const lane = bits === 64 ? 'i64x2.replace_lane' : 'i32x4.replace_lane';
      vectors.write(n, replaceLane(lane, vectors.read(n, isCertain), 0, value), isCertain);
    } else throw new Error(`${this.i.entry.text}: cannot write ${bits} bits of an XMM register`);
  }

  read(i: number): Expr {
    const o = this.operand(i);
    switch (o.category) {
      case 'r':
        return this.readRegister(o.value, o.bits);
      case 'x':
        return this.readVector(o.value, o.bits);
      case 'p':
        return this.let(this.get(loadName[o.bits]!, o.value));
      case 'l':
        return this.gpr(1, 8);
      case 'm':
        return this.readMemory(i);
      case 's':
        return this.let(this.get('i32.load16_u', ST.selector + 2 * o.value));
      default:
        return this.imm(i);
    }
  }

  private readMemory(i: number): Expr {
    if (i === 1 && this.source) return this.source;
    const o = this.operand(i);
    const address = this.address(i);
    const { insn } = this.i.entry;
    if (insn.access[i] !== 'x' || insn.ownMemory) return this.load(o.bits as 8, address);
    const host = this.f.local('i32');
    this.rmwHost = host;
    this.reachForUpdate(address, o.bits / 8, host);
    return this.let(load(loadName[o.bits]!, host));
  }

  write(i: number, value: Expr): void {
    const o = this.operand(i);
    switch (o.category) {
      case 'm':
        if (this.rmwHost) this.f.store(storeName[o.bits]!, this.rmwHost, value);
        else this.store(o.bits as 8, this.address(i), value);
        return;
      case 'r':
        this.writeRegister(o.value, o.bits, value);
        return;
      case 'x':
        this.writeVector(o.value, o.bits, value);
        return;
      default:
        this.put(storeName[o.bits]!, o.value, value);
        this.put('i32.store16', o.value + 8, i32(0xffff));
    }
  }

  readX(i: number): Expr {
    return this.readVector(this.operand(i).value, 128);
  }

  writeX(i: number, value: Expr): void {
    this.writeVector(this.operand(i).value, 128, value);
  }

  imm(i: number): Expr {
    const o = this.operand(i);
    if (o.category === 'i' && o.bits === 64) return i64((BigInt(o.high) << 32n) | BigInt(o.value >>> 0));
    return i32(o.category === 'i' && o.bits === 8 ? o.value & 0xff : o.value);
  }

  address(i: number): Expr {
    if (!this.isMemory(i)) throw new Error(`${this.i.entry.text}: operand ${i} is not in memory`);
    return this.linearAddress ?? this.let(this.effectiveAddress());
  }

  addressPlus(_i: number, delta: Expr): Expr {
    const sum = add(this.effectiveOffset(), delta);
    const offset = this.addressSize === 64 ? sum : and(sum, i64(0xffffffffn));
    const base = this.segmentBase();
    return this.let(base ? add(offset, base) : offset);
  }

  offset(i: number): Expr {
    if (!this.isMemory(i)) throw new Error(`${this.i.entry.text}: operand ${i} is not in memory`);
    return this.let(this.effectiveOffset());
  }

  private effectiveOffset(): Expr {
    const { i } = this;
    if (i.ripRelative) {
      const sum = add(this.state.page, i64(i.at + i.length + i.dispLow));
      return i.addressSize === 64 ? sum : and(sum, i64(0xffffffffn));
    }
    const displacement = (BigInt(i.dispHigh) << 32n) | BigInt(i.dispLow >>> 0);
    let sum: Expr | undefined;
    if (i.base !== ST.zero) {
      const n = i.base >> 3;
      sum = this.placed(this.state.gpr(n), n);
    }
    if (i.index !== ST.zero) {
      const index = shl(this.state.gpr(i.index >> 3), i64(i.scale));
      sum = sum ? add(sum, index) : index;
    }
    sum = sum ? add(sum, i64(displacement)) : i64(displacement);
    return i.addressSize === 64 ? sum : and(sum, i64(0xffffffffn));
  }

  private segmentBase(): Expr | undefined {
    return this.i.segment >= 4 ? this.get('i64.load', ST.segBase + 8 * this.i.segment) : undefined;
  }

  private effectiveAddress(): Expr {
    const base = this.segmentBase();
    if (base) return add(this.effectiveOffset(), base);
    const stream = this.state.streams.get(this.i);
    return stream ? withOrigin(this.effectiveOffset(), stream()) : this.effectiveOffset();
  }

  override isAligned(address: Expr): boolean {
    const place = address.from as Place | undefined;
    return place?.anchor.isAligned === true && place.offset === 0;
  }

  gpr(n: number, size: IntSize): Expr {
    return this.readRegister(ST.gpr + 8 * n, size);
  }

  setGpr(n: number, size: IntSize, value: Expr): void {
    this.writeRegister(ST.gpr + 8 * n, size, value);
  }

  xmm(n: number): Expr {
    return this.readVector(ST.xmm + 16 * n, 128);
  }

  setXmm(n: number, value: Expr): void {
    this.writeVector(ST.xmm + 16 * n, 128, value);
  }

  linear(seg: number | 'source', offset: Expr): Expr {
    if (seg === 'source') {
      const base = this.segmentBase();
      return this.let(base ? add(offset, base) : offset);
    }
    if (seg === Seg.fs || seg === Seg.gs) return this.let(add(offset, this.get('i64.load', ST.segBase + 8 * seg)));
    return this.let(offset);
  }

  override forFlags(value: Expr): Expr {
    return this.lazyFlags ? value : this.let(value);
  }

  get keepsFlagOperands(): boolean {
    return this.lazyFlags;
  }

  protected flag(name: FlagName): Expr {
    return this.state.pendingFlag(name) ?? this.state.flags[name];
  }

  protected setFlag(name: FlagName, value: Expr): void {
    this.state.flagsWritten = true;
    // The locals must exist before the prologue is written, pending or not.
    const local = this.state.flags[name];
    this.comparison = this.comparisonAfter;
    if (this.lazyFlags) this.state.setPending(name, value);
    else this.f.set(local, value);
  }

  /** Set by `compared` and `tested` of this instruction; any other flag write ends what the branch may rely on. */
  private comparisonAfter: WasmStage['comparison'];

  override compared(size: IntSize, a: Expr, b: Expr): void {
    this.comparisonAfter = this.lazyFlags ? { size, a, b } : undefined;
    this.comparison = this.comparisonAfter;
  }

  override tested(size: IntSize, result: Expr): void {
    this.comparisonAfter = this.lazyFlags ? { size, result } : undefined;
    this.comparison = this.comparisonAfter;
  }

  override condition(cc: number): Expr {
    const c = this.comparison;
    const fusable = c && ('result' in c ? ![0, 2, 6, 10].includes(cc & ~1) : ![0, 10].includes(cc & ~1));
    return fusable ? this.fusedCondition(cc) : super.condition(cc);
  }

  nextRip(): Expr {
    return this.let(add(this.state.page, i64(this.i.at + this.i.length)));
  }

  branch(i: number, condition?: Expr): void {
    void i;
    if (condition) this.transfer.condition = condition;
  }

  jump(target: Expr): void {
    this.transfer.target = target;
  }

  exit(reason: ExitReason): void {
    // The end of the block says where that goes.
    if (reason === Exit.Syscall) return;
    throw new Error(`${this.i.entry.text}: exit ${reason} inside a region`);
  }

  host(name: string, ends = false): void {
    if (ends) throw new Error(`${this.i.entry.text}: host operation ${name} ends a region`);
    this.f.if(this.f.callExpr(this.helpers.host, i32(hostOpNumber(name)), this.base), () => this.leaveAtStart());
    if (name === 'sse') this.state.loadMxcsr();
  }

  override timeStamp(): Expr {
    return readClock(this.state, () => this.host('timeStamp'));
  }

  mxcsr(): Expr {
    return this.state.mxcsr;
  }

  fastSse(): Expr {
    return this.state.fastSse;
  }

  bounds(): InstructionBounds | undefined {
    const { magnitudes } = this.state;
    if (!magnitudes) return undefined;
    return (this.known ??= keepSpecimen(
      new InstructionBounds(
        magnitudes,
        this.state,
        () => this.isCertain,
        () => this.leaveMissed(),
      ),
    ));
  }
  private known: InstructionBounds | undefined;
}
