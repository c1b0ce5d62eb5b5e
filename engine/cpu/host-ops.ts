// SPDX-License-Identifier: MIT
// The host's part of rare instructions: CPUID, RDTSC, RDRAND, segment loads, far transfers, IRET, control registers (Intel SDM volumes 2 and 3).

import { x87HostOps } from '../x86/float80/transcendental.ts';
import { sseHostOp } from '../x86/simd-host.ts';
import { ST, Seg } from './layout.ts';
import type { VCpu, VCpuHost } from './vcpu.ts';

const Vector = { invalidOpcode: 6, notPresent: 11, stack: 12, protection: 13 } as const;

/** A host operation: false = it recorded an exception. Operands are in the state block's work area. */
export type Operation = () => boolean;

/** RFLAGS that IRET takes from its frame at CPL 3: status, TF, DF, NT, RF, AC, ID. */
const userFlags = 0x254dd5;

export class HostOps {
  private readonly cpu: VCpu;
  private readonly host: VCpuHost;
  private readonly table: Map<string, Operation>;

  constructor(cpu: VCpu, host: VCpuHost) {
    this.cpu = cpu;
    this.host = host;
    this.table = new Map<string, Operation>([
      ['cpuid', () => this.cpuid()],
      ['timeStamp', () => this.timeStamp()],
      ['random', () => this.random()],
      ['loadSegment', () => this.loadSegment(this.work(12), this.work(8) & 0xffff)],
      ['lar', () => this.lar()],
      ['lsl', () => this.lsl()],
      ['verr', () => this.verify(false)],
      ['verw', () => this.verify(true)],
      ['sse', () => this.sse()],
      ['watch', () => this.cpu.noteAccess()],
      ['sgdt', () => this.storeTable(ST.gdtBase, ST.gdtLimit)],
      ['sidt', () => this.storeTable(ST.idtBase, ST.idtLimit)],
      ...Object.entries(x87HostOps).map(([name, operation]): [string, Operation] => [
        name,
        () => {
          operation(cpu.mem.view, cpu.base);
          return true;
        },
      ]),
      ...([16, 32, 64] as const).flatMap((size): [string, Operation][] => [
        [`iret${size}`, () => this.iret(size)],
        [`farReturn${size}`, () => this.farReturn(size)],
        [`farJump${size}`, () => this.farJump()],
        [`farCall${size}`, () => this.farCall(size)],
      ]),
    ]);
  }

  /** The operation of that name. Names without one here belong to the PC platform: the instruction gets #UD. */
  operation(name: string): Operation {
    return this.table.get(name) ?? (() => this.fault(Vector.invalidOpcode, 0));
  }

  private work(offset: number): number {
    return this.cpu.get(ST.work + offset);
  }

  /** Records an exception; returns false for `return this.fault(...)`. */
  fault(vector: number, error: number): boolean {
    const { cpu } = this;
    cpu.set(ST.vector, vector);
    cpu.set(ST.errorCode, error);
    cpu.set(ST.segmentFault, 0);
    cpu.set(ST.exitCode, 1);
    return false;
  }

  /** SSE floating point that is not the fast common case: see x86/simd-host.ts. */
  private sse(): boolean {
    const vector = sseHostOp(this.cpu.mem.view, this.cpu.base);
    return vector === 0 || this.fault(vector, 0);
  }

  /** Leaf and subleaf are in the work area, and EAX, EBX, ECX, EDX go there. */
  private cpuid(): boolean {
    const { cpu } = this;
    const answer = this.host.cpuid(this.work(0), this.work(4));
    for (let n = 0; n < answer.length; n++) cpu.set(ST.work + 4 * n, answer[n]!);
    return true;
  }

  /** Reads the host's clock into ST.timeStamp, not behind what translated code has said meanwhile. */
  private timeStamp(): boolean {
    const { cpu } = this;
    // CR4.TSD forbids it outside CPL 0.
    if (cpu.get(ST.cr4) & 4 && cpu.get(ST.cpl) !== 0) return this.fault(Vector.protection, 0);
    const given = cpu.get(ST.timeGiven + 4) * 2 ** 32 + cpu.get(ST.timeGiven);
    const ticks = Math.max(this.host.tsc(), given);
    cpu.set(ST.timeStamp, ticks >>> 0);
    cpu.set(ST.timeStamp + 4, Math.floor(ticks / 2 ** 32) >>> 0);
    return true;
  }

  /** Puts 64 random bits into the work area. */
  private random(): boolean {
    const { cpu, host } = this;
    cpu.set(ST.work, host.randomWord());
    cpu.set(ST.work + 4, host.randomWord());
    return true;
  }

  /** Loads a segment register as MOV, POP or IRET at the current privilege would. */
  loadSegment(segment: number, selector: number): boolean {
    const { cpu } = this;
    if (segment === Seg.cs) return this.loadCode(selector);
    const rpl = selector & 3;
    const cpl = cpu.get(ST.cpl);
    const error = selector & 0xfffc;
    if (error === 0) {
      const nullStack = segment === Seg.ss && !(cpu.mode === 64 && cpl !== 3 && rpl === cpl);
      if (nullStack) return this.fault(Vector.protection, 0);
      this.setSelector(segment, selector);
      cpu.set(ST.segAttr + 4 * segment, 0);
      cpu.set(ST.segLimit + 4 * segment, 0);
      // The guest is told that it runs on Intel, where the base goes too: kernels rely on it when they change tasks.
      cpu.set(ST.segBase + 8 * segment, 0);
      cpu.set(ST.segBase + 8 * segment + 4, 0);
      return true;
    }
    const at = this.host.descriptorAddress(selector);
    if (at === 0) return this.fault(Vector.protection, error);
    const lo = cpu.mem.u32[at >>> 2]!;
    const hi = cpu.mem.u32[(at + 4) >>> 2]!;
    const dpl = (hi >>> 13) & 3;
    const code = (hi & 0x800) !== 0;
    const conforming = code && (hi & 0x400) !== 0;
    if ((hi & 0x1000) === 0) return this.fault(Vector.protection, error);
    if (segment === Seg.ss) {
      if (rpl !== cpl || dpl !== cpl || code || (hi & 0x200) === 0) return this.fault(Vector.protection, error);
      if ((hi & 0x8000) === 0) return this.fault(Vector.stack, error);
    } else {
      if (code && (hi & 0x200) === 0) return this.fault(Vector.protection, error);
      if (!conforming && (rpl > dpl || cpl > dpl)) return this.fault(Vector.protection, error);
      if ((hi & 0x8000) === 0) return this.fault(Vector.notPresent, error);
    }
    this.install(segment, selector, lo, hi);
    return true;
  }

  private setSelector(segment: number, selector: number): void {
    this.cpu.mem.u16[(this.cpu.base + ST.selector + 2 * segment) >>> 1] = selector;
  }

  /** Fills the hidden part of a segment register from descriptor words. */
  private install(segment: number, selector: number, lo: number, hi: number): void {
    const { cpu } = this;
    this.setSelector(segment, selector);
    const attributes = ((hi >>> 8) & 0xff) | ((hi >>> 12) & 0xf00);
    const raw = (lo & 0xffff) | (hi & 0xf0000);
    const limit = attributes & 0x800 ? ((raw << 12) | 0xfff) >>> 0 : raw;
    const base = ((lo >>> 16) | ((hi & 0xff) << 16) | (hi & 0xff000000)) >>> 0;
    cpu.set(ST.segAttr + 4 * segment, attributes);
    cpu.set(ST.segLimit + 4 * segment, limit);
    // In 64-bit mode ES, CS, SS and DS have base 0 whatever the descriptor says, but the value is kept for compatibility mode.
    cpu.set(ST.segBase + 8 * segment, base);
    cpu.set(ST.segBase + 8 * segment + 4, 0);
  }

  /** Checks and loads CS for a transfer that stays at its privilege (`target` RPL must be the CPL); returns false with the fault recorded. */
  private loadCode(selector: number, errorVector: number = Vector.protection): boolean {
    const { cpu } = this;
    const error = selector & 0xfffc;
    if (error === 0) return this.fault(errorVector, 0);
    const at = this.host.descriptorAddress(selector);
    if (at === 0) return this.fault(errorVector, error);
    const lo = cpu.mem.u32[at >>> 2]!;
    const hi = cpu.mem.u32[(at + 4) >>> 2]!;
    const cpl = cpu.get(ST.cpl);
    const rpl = selector & 3;
    const dpl = (hi >>> 13) & 3;
    if ((hi & 0x1800) !== 0x1800) return this.fault(errorVector, error);
    // L and D together are reserved.
    if ((hi & 0x600000) === 0x600000) return this.fault(errorVector, error);
    const conforming = (hi & 0x400) !== 0;
    if (rpl < cpl || (conforming ? dpl > rpl : dpl !== rpl)) return this.fault(errorVector, error);
    if ((hi & 0x8000) === 0) return this.fault(Vector.notPresent, error);
    this.install(Seg.cs, selector, lo, hi);
    const wasLong = cpu.get(ST.efer) & 0x400;
    cpu.setMode(wasLong && hi & 0x200000 ? 64 : hi & 0x400000 ? 32 : 16);
    return true;
  }

  private setRip(value: bigint): void {
    const { cpu } = this;
    const wrapped = cpu.mode === 64 ? value : value & (cpu.mode === 32 ? 0xffffffffn : 0xffffn);
    cpu.mem.u64[(cpu.base + ST.rip) >>> 3] = BigInt.asUintN(64, wrapped);
  }

  /** Reads `count` stack slots of `size` bits from the top; undefined = fault recorded. */
  private stackSlots(size: 16 | 32 | 64, count: number): bigint[] | undefined {
    const { cpu } = this;
    const bytes = size / 8;
    const wide = cpu.mode === 64;
    const base = wide ? 0n : cpu.mem.u64[(cpu.base + ST.segBase + 8 * Seg.ss) >>> 3]!;
    const rsp = wide ? cpu.reg(4) : BigInt(cpu.regLo(4));
    const slots: bigint[] = [];
    for (let i = 0; i < count; i++) {
      const at = BigInt.asUintN(64, base + rsp + BigInt(i * bytes));
      if (!cpu.copyIn(Number(at & 0xffffffffn), Number(at >> 32n), bytes)) {
        cpu.set(ST.exitCode, 1);
        return undefined;
      }
      const { view } = cpu.mem;
      slots.push(
        size === 64
          ? view.getBigUint64(cpu.scratch, true)
          : BigInt(size === 32 ? view.getUint32(cpu.scratch, true) : view.getUint16(cpu.scratch, true)),
      );
    }
    return slots;
  }

  private setStackPointer(value: bigint): void {
    const { cpu } = this;
    cpu.setReg(4, cpu.mode === 64 ? value : value & 0xffffffffn);
  }

  /** IRET without a change of privilege, or outwards; at CPL 3 neither IF nor IOPL change. */
  private iret(size: 16 | 32 | 64): boolean {
    const { cpu } = this;
    const wide = cpu.mode === 64;
    const first = this.stackSlots(size, 3);
    if (!first) return false;
    const [rip, cs, flags] = first as [bigint, bigint, bigint];
    const selector = Number(cs & 0xffffn);
    const cpl = cpu.get(ST.cpl);
    const outer = (selector & 3) > cpl;
    const bytes = BigInt(size / 8);
    let rsp = (wide ? cpu.reg(4) : BigInt(cpu.regLo(4))) + 3n * bytes;
    let ss = -1;
    if (wide || outer) {
      const more = this.stackSlots(size, 5);
      if (!more) return false;
      rsp = more[3]!;
      ss = Number(more[4]! & 0xffffn);
    }
    const before = { selector: cpu.mem.u16[(cpu.base + ST.selector + 2) >>> 1]!, mode: cpu.mode };
    const oldFlags = cpu.getRflags();
    if (!this.loadCode(selector)) return false;
    if (outer) cpu.setCpl(selector & 3);
    if (ss >= 0 && !this.loadSegment(Seg.ss, ss)) {
      cpu.setMode(before.mode);
      this.setSelector(Seg.cs, before.selector);
      if (outer) cpu.setCpl(cpl);
      return false;
    }
    let mask = size === 16 ? userFlags & 0xffff : userFlags;
    const iopl = (oldFlags >>> 12) & 3;
    if (cpl <= iopl) mask |= 0x200;
    if (cpl === 0) mask |= 0x3000;
    cpu.setRflags((oldFlags & ~mask) | (Number(flags & 0xffffffffn) & mask));
    this.setStackPointer(rsp);
    this.setRip(rip);
    return true;
  }

  private farReturn(size: 16 | 32 | 64): boolean {
    const { cpu } = this;
    const slots = this.stackSlots(size, 2);
    if (!slots) return false;
    const selector = Number(slots[1]! & 0xffffn);
    const release = BigInt(this.work(0));
    const cpl = cpu.get(ST.cpl);
    if ((selector & 3) > cpl) return this.fault(Vector.protection, selector & 0xfffc);
    const rsp = (cpu.mode === 64 ? cpu.reg(4) : BigInt(cpu.regLo(4))) + BigInt((2 * size) / 8) + release;
    if (!this.loadCode(selector)) return false;
    this.setStackPointer(rsp);
    this.setRip(slots[0]!);
    return true;
  }

  private farJump(): boolean {
    const offset = this.cpu.mem.u64[(this.cpu.base + ST.work) >>> 3]!;
    if (!this.loadCode((this.work(8) & 0xfffc) | this.cpu.get(ST.cpl))) return false;
    this.setRip(offset);
    return true;
  }

  private farCall(size: 16 | 32 | 64): boolean {
    const { cpu } = this;
    const offset = cpu.mem.u64[(cpu.base + ST.work) >>> 3]!;
    const next = cpu.mem.u64[(cpu.base + ST.work + 16) >>> 3]!;
    const bytes = size / 8;
    const wide = cpu.mode === 64;
    const rsp = (wide ? cpu.reg(4) : BigInt(cpu.regLo(4))) - BigInt(2 * bytes);
    const base = wide ? 0n : cpu.mem.u64[(cpu.base + ST.segBase + 8 * Seg.ss) >>> 3]!;
    const at = BigInt.asUintN(64, base + rsp);
    const { view } = cpu.mem;
    const oldCs = cpu.mem.u16[(cpu.base + ST.selector + 2) >>> 1]!;
    const image = cpu.scratch + 64;
    if (size === 64) {
      view.setBigUint64(image, next, true);
      view.setBigUint64(image + 8, BigInt(oldCs), true);
    } else {
      view.setUint32(image, Number(next & 0xffffffffn), true);
      if (size === 32) view.setUint32(image + 4, oldCs, true);
      else view.setUint16(image + 2, oldCs, true);
    }
    if (!cpu.copyOut(Number(at & 0xffffffffn), Number(at >> 32n), image, 2 * bytes)) {
      cpu.set(ST.exitCode, 1);
      return false;
    }
    if (!this.loadCode((this.work(8) & 0xfffc) | cpu.get(ST.cpl))) return false;
    this.setStackPointer(BigInt.asUintN(64, rsp));
    this.setRip(offset);
    return true;
  }

  /** The descriptor words that LAR, LSL, VERR and VERW look at, or undefined when the selector is not visible. */
  private visible(types: number): { lo: number; hi: number } | undefined {
    const selector = this.work(8) & 0xffff;
    if ((selector & 0xfffc) === 0) return undefined;
    const at = this.host.descriptorAddress(selector);
    if (at === 0) return undefined;
    const lo = this.cpu.mem.u32[at >>> 2]!;
    const hi = this.cpu.mem.u32[(at + 4) >>> 2]!;
    const dpl = (hi >>> 13) & 3;
    const system = (hi & 0x1000) === 0;
    if (system && ((types >>> ((hi >>> 8) & 15)) & 1) === 0) return undefined;
    const conforming = (hi & 0x1c00) === 0x1c00;
    if (!conforming && (dpl < this.cpu.get(ST.cpl) || dpl < (selector & 3))) return undefined;
    return { lo, hi };
  }

  private answer(found: boolean, value = 0): boolean {
    this.cpu.set(ST.work, found ? 1 : 0);
    this.cpu.set(ST.work + 4, value);
    return true;
  }

  private lar(): boolean {
    const d = this.visible(0b0001_1010_0000_0100 | 0x1a26);
    return this.answer(d !== undefined, d ? d.hi & 0x00f0ff00 : 0);
  }

  private lsl(): boolean {
    const d = this.visible(0x0a04 | 0x0206);
    if (!d) return this.answer(false);
    const raw = (d.lo & 0xffff) | (d.hi & 0xf0000);
    return this.answer(true, d.hi & 0x800000 ? ((raw << 12) | 0xfff) >>> 0 : raw);
  }

  private verify(write: boolean): boolean {
    const d = this.visible(0);
    if (!d || (d.hi & 0x1000) === 0) return this.answer(false);
    const code = (d.hi & 0x800) !== 0;
    const flag = (d.hi & 0x200) !== 0;
    return this.answer(write ? !code && flag : !code || flag);
  }

  /** SGDT and SIDT: limit and base at the linear address in the work area. */
  private storeTable(baseField: number, limitField: number): boolean {
    const { cpu } = this;
    const wide = cpu.mode === 64;
    const image = cpu.scratch + 64;
    cpu.mem.view.setUint16(image, cpu.get(limitField), true);
    cpu.mem.view.setUint32(image + 2, cpu.get(baseField), true);
    if (wide) cpu.mem.view.setUint32(image + 6, cpu.get(baseField + 4), true);
    if (cpu.copyOut(this.work(0), this.work(4), image, wide ? 10 : 6)) return true;
    cpu.set(ST.exitCode, 1);
    return false;
  }
}
