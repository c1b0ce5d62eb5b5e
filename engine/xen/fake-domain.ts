// SPDX-License-Identifier: MIT
// For unit tests: a domain of 64 pages on a vCPU that walks real page tables but executes nothing.

import { Exit, type ExitReason } from '../cpu/exits.ts';
import { ST, Seg } from '../cpu/layout.ts';
import type { MachineMemoryView } from './context.ts';
import { Domain, type DomainOptions } from './domain.ts';
import { handleExit } from './exits.ts';
import { FAKE_MFN_BASE, fakeMemory } from './fake-machine.ts';
import { Access, Gpr, gprIndex, type GuestCpu } from './guest-cpu.ts';

const PAGE_BYTES = 4096;
const HOST_PAGES = 320;
/** Host pages of a vCPU: state block, then 64 KiB of scratch. */
const CPU_PAGES = 20;
const FIRST_CPU_PAGE = 8;
const FIRST_XEN_PAGE = 100;
const FIRST_GUEST_PAGE = 200;

export const GUEST_PAGES = 64;
/** Page-table frames of the fake guest. */
export const Table = { l4: 48, l3: 49, l2: 50, l1: 51 } as const;
/** The guest sees PFN n at this address plus n pages. */
export const VIRT_BASE = 0xffffffff80000000n;
/** Virtual address of a PFN, and an offset in it. */
export const va = (pfn: number, offset = 0): bigint => VIRT_BASE + BigInt(pfn * PAGE_BYTES + offset);

/** A vCPU without instructions: registers, TLB-less translation, and a record of what Xen asked of the TLB. */
export class FakeCpu implements GuestCpu {
  readonly id: number;
  readonly base: number;
  readonly scratch: number;
  root = 0;
  taskSwitched = false;
  /** DR7, then DR0 to DR3. */
  breakpoints: number[] = [];
  guestCr4 = 0;
  flushes = 0;
  readonly forgotten: number[] = [];
  readonly changed: [number, number][] = [];
  /** Says that a changed table was seen at several places. */
  isSeenTwice = false;
  readonly forgottenTables: number[] = [];
  readonly written: number[] = [];
  /** What `stepWithWritable` does instead of executing an instruction. */
  step: () => ExitReason = () => Exit.Budget;
  /** Set by the domain's maker: the descriptor look-up. */
  descriptor: (selector: number) => number = () => 0;
  private readonly mem: MachineMemoryView;
  private rflags = 0x202;

  constructor(mem: MachineMemoryView, id: number) {
    this.mem = mem;
    this.id = id;
    this.base = (FIRST_CPU_PAGE + id * CPU_PAGES) * PAGE_BYTES;
    this.scratch = this.base + ST.end;
    mem.i32[(this.base + ST.mode) >>> 2] = 64;
  }

  getRflags(): number {
    return this.rflags;
  }

  setRflags(value: number): void {
    this.rflags = value >>> 0;
  }

  translate(lo: number, hi: number, access: Access): number {
    const top = hi >>> 15;
    if (top !== 0 && top !== 0x1ffff) return -1;
    const indices = [(hi >>> 7) & 0x1ff, ((hi & 0x7f) << 2) | (lo >>> 30), (lo >>> 21) & 0x1ff, (lo >>> 12) & 0x1ff];
    let table = this.root;
    for (const index of indices) {
      const host = this.mem.hostOf(table);
      if (host === 0) return -1;
      const at = (host >>> 2) + index * 2;
      const entry = this.mem.u32[at];
      if ((entry & 5) !== 5 || (access === Access.write && (entry & 2) === 0)) return -1;
      table = (entry >>> 12) + (this.mem.u32[at + 1] & 0xfffff) * 0x100000;
    }
    const host = this.mem.hostOf(table);
    return host === 0 ? -1 : host + (lo & 0xfff);
  }

  copyIn(lo: number, hi: number, bytes: number): boolean {
    for (let n = 0; n < bytes; n++) {
      const at = lo + n;
      const host = this.translate(at >>> 0, at > 0xffffffff ? hi + 1 : hi, Access.read);
      if (host === -1) return false;
      this.mem.u8[this.scratch + n] = this.mem.u8[host];
    }
    return true;
  }

  setRoot(mfn: number): void {
    this.root = mfn;
  }

  forgetRoot(mfn: number): void {
    this.forgotten.push(mfn);
  }

  flushTlb(): void {
    this.flushes++;
  }

  invalidatePage(): void {
    this.flushes++;
  }

  entryChanged(table: number, index: number): boolean {
    this.changed.push([table, index]);
    return this.isSeenTwice;
  }

  forgetTable(table: number): void {
    this.forgottenTables.push(table);
  }

  frameWritten(host: number): void {
    this.written.push(host);
  }

  stepWithWritable(): ExitReason {
    return this.step();
  }

  loadSegment(segment: number, selector: number): boolean {
    const { u16, u32 } = this.mem;
    const fault = (vector: number, errorCode: number): boolean => {
      u32[(this.base + ST.vector) >>> 2] = vector;
      u32[(this.base + ST.errorCode) >>> 2] = errorCode;
      return false;
    };
    let baseLo = 0;
    if (selector <= 3) {
      if (segment === Seg.cs) return fault(13, 0);
    } else {
      const host = this.descriptor(selector);
      if (host === 0) return fault(13, selector & 0xfffc);
      const lo = u32[host >>> 2];
      const hi = u32[(host >>> 2) + 1];
      if ((hi & 0x1000) === 0) return fault(13, selector & 0xfffc);
      if (segment === Seg.cs && (hi & 0x800) === 0) return fault(13, selector & 0xfffc);
      if ((hi & 0x8000) === 0) return fault(11, selector & 0xfffc);
      baseLo = ((lo >>> 16) | ((hi & 0xff) << 16) | (hi & 0xff000000)) >>> 0;
    }
    u16[((this.base + ST.selector) >>> 1) + segment] = selector;
    u32[(this.base + ST.segBase + segment * 8) >>> 2] = baseLo;
    u32[((this.base + ST.segBase + segment * 8) >>> 2) + 1] = 0;
    return true;
  }

  setTaskSwitched(on: boolean): void {
    this.taskSwitched = on;
  }

  setGuestCr4(bits: number): void {
    this.guestCr4 = bits;
  }

  setBreakpoints(control: number, lo: ArrayLike<number>, hi: ArrayLike<number>): void {
    this.breakpoints = [control, ...[0, 1, 2, 3].map((n) => hi[n]! * 0x100000000 + lo[n]!)];
  }
}

/** A started domain and short ways to poke it. */
export class FakeDomain {
  readonly mem: MachineMemoryView;
  readonly cpus: FakeCpu[];
  readonly domain: Domain;
  readonly console: string[] = [];
  readonly log: string[] = [];
  now = 1_000_000_000;

  constructor(options: Partial<DomainOptions> & { vcpus?: number } = {}) {
    this.mem = fakeMemory(HOST_PAGES);
    this.cpus = Array.from({ length: options.vcpus ?? 1 }, (_, id) => new FakeCpu(this.mem, id));
    let nextXenPage = FIRST_XEN_PAGE;
    this.domain = new Domain({
      mem: this.mem,
      host: {
        monotonicNs: () => this.now,
        wallClockNs: () => 1.7e18 + this.now,
        consoleOut: (bytes) => this.console.push(String.fromCharCode(...bytes)),
        log: (_level, text) => this.log.push(text),
      },
      cpus: this.cpus,
      frames: FAKE_MFN_BASE + HOST_PAGES,
      allocateXenFrame: () => (nextXenPage < FIRST_GUEST_PAGE ? FAKE_MFN_BASE + nextXenPage++ : 0),
      ...options,
    });
    for (const cpu of this.cpus) cpu.descriptor = (selector): number => this.domain.descriptorAddress(cpu.id, selector);
    for (let pfn = 0; pfn < GUEST_PAGES; pfn++) this.domain.assignFrame(this.mfn(pfn), pfn);
    this.buildTables();
    const result = this.domain.start({
      entry: [0x80001000, 0xffffffff],
      stackPointer: [0x80003000, 0xffffffff],
      startInfo: [0x80005000, 0xffffffff],
      cr3Mfn: this.mfn(Table.l4),
    });
    if (result !== 0) throw new Error(`start failed: ${result}`);
  }

  get cpu(): FakeCpu {
    return this.cpus[0];
  }

  /** MFN of a PFN: a permutation, so that confusing the two is noticed. */
  mfn(pfn: number): number {
    return FAKE_MFN_BASE + FIRST_GUEST_PAGE + ((pfn * 37) % GUEST_PAGES);
  }

  host(pfn: number): number {
    return this.mem.hostOf(this.mfn(pfn));
  }

  /** An entry value for a PFN. */
  pte(pfn: number, flags: number): bigint {
    return (BigInt(this.mfn(pfn)) << 12n) | BigInt(flags);
  }

  read64(host: number): bigint {
    return this.mem.view.getBigUint64(host, true);
  }

  write64(host: number, value: bigint): void {
    this.mem.view.setBigUint64(host, BigInt.asUintN(64, value), true);
  }

  /** Reads and writes guest memory by PFN and offset. */
  get64(pfn: number, offset = 0): bigint {
    return this.read64(this.host(pfn) + offset);
  }

  put64(pfn: number, offset: number, ...values: bigint[]): void {
    for (const [n, value] of values.entries()) this.write64(this.host(pfn) + offset + n * 8, value);
  }

  putBytes(pfn: number, offset: number, bytes: readonly number[]): void {
    this.mem.u8.set(bytes, this.host(pfn) + offset);
  }

  reg(register: number, id = 0): bigint {
    return this.read64(gprIndex(this.cpus[id], register) * 4);
  }

  setReg(register: number, value: bigint, id = 0): void {
    this.write64(gprIndex(this.cpus[id], register) * 4, value);
  }

  get rip(): bigint {
    return this.read64(this.cpu.base + ST.rip);
  }

  set rip(value: bigint) {
    this.write64(this.cpu.base + ST.rip, value);
  }

  selector(segment: number): number {
    return this.mem.u16[((this.cpu.base + ST.selector) >>> 1) + segment];
  }

  /** Executes a hypercall as vCPU `id`; the result as a signed number. */
  call(number: number, args: readonly (number | bigint)[] = [], id = 0): number {
    const registers = [Gpr.rdi, Gpr.rsi, Gpr.rdx, Gpr.r10, Gpr.r8, Gpr.r9];
    for (const [n, register] of registers.entries()) this.setReg(register, BigInt(args[n] ?? 0), id);
    this.setReg(Gpr.rax, BigInt(number), id);
    this.exit(Exit.Syscall, id);
    return Number(BigInt.asIntN(64, this.reg(Gpr.rax, id)));
  }

  exit(reason: ExitReason, id = 0): void {
    handleExit(this.domain, this.domain.vcpus[id], reason);
  }

  /** Raises an exception at the present instruction. */
  fault(vector: number, errorCode = 0, cr2 = 0n): void {
    this.mem.u32[(this.cpu.base + ST.vector) >>> 2] = vector;
    this.mem.u32[(this.cpu.base + ST.errorCode) >>> 2] = errorCode;
    this.write64(this.cpu.base + ST.cr2, cr2);
    this.exit(Exit.Exception);
  }

  softInterrupt(vector: number): void {
    this.mem.u32[(this.cpu.base + ST.exitArg) >>> 2] = vector;
    this.exit(Exit.SoftInt);
  }

  /** Registers a handler at `address` for a vector. */
  trap(vector: number, address: bigint, flags = 0): void {
    this.put64(0, 0, BigInt(vector | (flags << 8) | (0xe033 << 16)), address, 0n, 0n);
    if (this.call(0, [va(0)]) !== 0) throw new Error('set_trap_table failed');
  }

  private buildTables(): void {
    const link = 0x67;
    this.put64(Table.l4, 511 * 8, this.pte(Table.l3, link));
    this.put64(Table.l3, 510 * 8, this.pte(Table.l2, link));
    this.put64(Table.l2, 0, this.pte(Table.l1, link));
    for (let pfn = 0; pfn < GUEST_PAGES; pfn++) {
      const isTable = pfn >= Table.l4 && pfn <= Table.l1;
      this.put64(Table.l1, pfn * 8, this.pte(pfn, isTable ? 0x25 : 0x27));
    }
  }
}
