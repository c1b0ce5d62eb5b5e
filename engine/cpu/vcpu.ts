// SPDX-License-Identifier: MIT
// One virtual CPU: its state block, the cache of decoded blocks, and `run`, which drives the generated interpreter.

import type { BlockStore } from '../host.ts';
import { decode, decoded } from '../x86/decode.ts';
import type { Mode } from '../x86/stage.ts';
import { Breakpoints } from './breakpoints.ts';
import { Exit, type ExitReason } from './exits.ts';
import { unitException } from './fault-precedence.ts';
import { adoptHostOpNumbers } from './host-op-names.ts';
import { HostOps } from './host-ops.ts';
import { crossPage } from './interpreter.ts';
import {
  JumpTable,
  Link,
  maxRegions,
  scratchBytes,
  scratchOffset,
  SegmentFault,
  ST,
  Tlb,
  vcpuBlockBytes,
} from './layout.ts';
import { Translator, type TranslatorStatistics } from '../translate/translator.ts';
import { BlockWriter, maxBlockBytes, maxBlockInstructions } from './lower.ts';
import type { MachineMemory } from './memory.ts';

const pageBytes = 4096;
const trapFlag = 0x100;
const resumeFlag = 0x10000;
/** DR6: single step. */
const singleStepped = 0x4000;
/** Most instructions that are stepped through in one go. */
const maxSteps = 1000;
const debugVector = 1;
const invalidOpcode = 6;
const maxInstructionBytes = 15;

/** The generated module with what it needs to be instantiated. */
export interface InterpreterCode {
  readonly module: WebAssembly.Module;
  readonly hostOps: readonly string[];
}

/** What a vCPU asks of the machine around it. */
export interface VCpuHost {
  /** CPUID as the guest sees it: [eax, ebx, ecx, edx]. */
  cpuid(leaf: number, subleaf: number): readonly [number, number, number, number];
  /** The guest's time-stamp counter. */
  tsc(): number;
  /** Where translations are kept between runs. */
  readonly blocks?: BlockStore;
  /** Host time in milliseconds, for the pace of translation. */
  nowMs(): number;
  /** Host address of a descriptor in the GDT or LDT, 0 when the selector lies outside. */
  descriptorAddress(selector: number): number;
}

/** Which code is translated to WebAssembly: none, all at first sight (for tests), or what is found to be hot. */
export type Tier = 'interpret' | 'translate' | 'auto';

/** Instructions between two looks at where the guest is. */
const sampleInterval = 20_000;

type Run = (state: number, record: number, budget: number) => number;
type Translate = (state: number, lo: number, hi: number, access: number) => number;

/** Number of TLB tags given out before all are taken back (12 bits, the last means "invalid"). */
const maxTag = 0xffe;

export interface VCpuStatistics {
  readonly tlbMisses: number;
  readonly pageWalks: number;
  readonly decodedBlocks: number;
  readonly decodedInstructions: number;
  readonly codeInvalidations: number;
  readonly arenaResets: number;
  /** Instructions retired in translated code, and how often it was entered. */
  readonly regionInstructions: number;
  readonly regionEntries: number;
  readonly translator?: TranslatorStatistics;
}

export class VCpu {
  readonly mem: MachineMemory;
  readonly id: number;
  readonly base: number;
  readonly scratch: number;
  readonly hostOps: HostOps;
  private readonly runCode: Run;
  private readonly translateCode: Translate;
  private readonly writer: BlockWriter;
  /** Micro-op address by `host address * 4 + mode`. */
  private readonly blocks = new Map<number, number>();
  /** Keys of `blocks` per host page. */
  private readonly pages = new Map<number, number[]>();
  private arenaAt: number;
  private readonly arenaStart: number;
  private readonly arenaEnd: number;
  /** Where a single instruction that must not be remembered is decoded to. */
  private readonly stepArea: number;
  private readonly fetchBuffer = new Uint8Array(2 * pageBytes);
  private readonly tags = new Map<number, number>();
  private nextTag = 1;
  private readonly tier: Tier;
  private readonly translator: Translator | undefined;
  private currentRoot = -1;
  private readonly breakpoints = new Breakpoints();
  /** Statistics. */
  instructions = 0;
  decodedBlocks = 0;
  decodedInstructions = 0;
  codeInvalidations = 0;
  arenaResets = 0;

  constructor(mem: MachineMemory, id: number, code: InterpreterCode, host: VCpuHost, tier: Tier = 'auto') {
    this.mem = mem;
    this.id = id;
    this.base = mem.layout.vcpus + id * vcpuBlockBytes;
    this.scratch = this.base + scratchOffset;
    this.hostOps = new HostOps(this, host);
    adoptHostOpNumbers(code.hostOps);
    const table = code.hostOps.map((name) => this.hostOps.operation(name));
    const regions = new WebAssembly.Table({ element: 'anyfunc', initial: maxRegions });
    const callHost = (operation: number) => (table[operation]!() ? 0 : 1);
    const instance = new WebAssembly.Instance(code.module, { env: { memory: mem.wasm, host: callHost, regions } });
    this.runCode = instance.exports['run'] as Run;
    this.translateCode = instance.exports['translate'] as Translate;
    this.writer = new BlockWriter(mem);
    this.stepArea = mem.layout.arenas + id * mem.layout.arenaBytes;
    this.arenaStart = this.stepArea + maxBlockBytes;
    this.arenaEnd = this.stepArea + mem.layout.arenaBytes;
    this.arenaAt = this.arenaStart;
    this.reset();
    this.tier = tier;
    if (tier !== 'interpret') {
      this.translator = new Translator(
        {
          mem,
          base: this.base,
          imports: { ...instance.exports, memory: mem.wasm, host: callHost },
          table: regions,
          hostOfPage: (lo, hi, delta) => this.hostOfPage(lo, hi, delta),
          allocate: (bytes) => this.allocate(bytes),
          watchCode: (page, from, to) => this.watchCode(page, from, to),
          nowMs: host.nowMs,
        },
        host.blocks,
      );
    }
  }

  private reset(): void {
    const { u32, layout } = this.mem;
    const at = this.base >>> 2;
    u32[at + (ST.frameTable >>> 2)] = layout.frameTable;
    u32[at + (ST.maxMfn >>> 2)] = this.mem.options.mfnLimit - 1;
    u32[at + (ST.l1Tags >>> 2)] = layout.l1Tags;
    u32[at + (ST.codeMap >>> 2)] = layout.codeMap;
    u32[at + (ST.cr0 >>> 2)] = 0x80050033;
    u32[at + (ST.cr4 >>> 2)] = 0x620;
    u32[at + (ST.efer >>> 2)] = 0xd01;
    u32[at + (ST.nxEnabled >>> 2)] = 1;
    u32[at + (ST.writeProtect >>> 2)] = 1;
    u32[at + (ST.pagingMode >>> 2)] = 2;
    u32[at + (ST.mxcsr >>> 2)] = 0x1f80;
    u32[at + (ST.fcw >>> 2)] = 0x37f;
    u32[at + (ST.ftag >>> 2)] = 0xff;
    u32[at + (ST.sysFlags >>> 2)] = 2;
    this.setRflags(2);
    this.setMode(64);
    this.wipeTlb();
    this.applyTag();
  }

  // Registers.

  regLo(n: number): number {
    return this.mem.u32[(this.base + ST.gpr + n * 8) >>> 2]!;
  }
  regHi(n: number): number {
    return this.mem.u32[(this.base + ST.gpr + n * 8 + 4) >>> 2]!;
  }
  setReg32(n: number, lo: number, hi: number): void {
    const at = (this.base + ST.gpr + n * 8) >>> 2;
    this.mem.u32[at] = lo;
    this.mem.u32[at + 1] = hi;
  }
  reg(n: number): bigint {
    return this.mem.u64[(this.base + ST.gpr + n * 8) >>> 3]!;
  }
  setReg(n: number, value: bigint): void {
    this.mem.u64[(this.base + ST.gpr + n * 8) >>> 3] = BigInt.asUintN(64, value);
  }
  get ripLo(): number {
    return this.get(ST.rip);
  }
  get ripHi(): number {
    return this.get(ST.rip + 4);
  }
  setRip(lo: number, hi: number): void {
    this.set(ST.rip, lo);
    this.set(ST.rip + 4, hi);
  }

  /** A u32 field of the state block. */
  get(offset: number): number {
    return this.mem.u32[(this.base + offset) >>> 2]!;
  }
  set(offset: number, value: number): void {
    this.mem.u32[(this.base + offset) >>> 2] = value;
  }

  /** The architectural RFLAGS image, low 32 bits. */
  getRflags(): number {
    const { i32, u32 } = this.mem;
    const at = this.base >>> 2;
    let flags = u32[at + (ST.sysFlags >>> 2)]! | 2;
    if (u32[at + (ST.fc >>> 2)]) flags |= 1;
    const parity = u32[at + (ST.fp >>> 2)]! & 0xff;
    if (evenParity(parity)) flags |= 4;
    flags |= u32[at + (ST.fa >>> 2)]! & 0x10;
    if (u32[at + (ST.fz >>> 2)] === 0 && u32[at + (ST.fz >>> 2) + 1] === 0) flags |= 0x40;
    if (i32[at + (ST.fs >>> 2) + 1]! < 0) flags |= 0x80;
    if (i32[at + (ST.fo >>> 2)]! < 0) flags |= 0x800;
    return flags >>> 0;
  }

  setRflags(value: number): void {
    const { u32 } = this.mem;
    const at = this.base >>> 2;
    u32[at + (ST.sysFlags >>> 2)] = (value & ~0x8d5) | 2;
    u32[at + (ST.fc >>> 2)] = value & 1;
    u32[at + (ST.fp >>> 2)] = value & 4 ? 0 : 1;
    u32[at + (ST.fa >>> 2)] = value & 0x10;
    u32[at + (ST.fz >>> 2)] = value & 0x40 ? 0 : 1;
    u32[at + (ST.fz >>> 2) + 1] = 0;
    u32[at + (ST.fs >>> 2)] = 0;
    u32[at + (ST.fs >>> 2) + 1] = value & 0x80 ? 0x80000000 : 0;
    u32[at + (ST.fo >>> 2)] = value & 0x800 ? 0x80000000 : 0;
  }

  /** Operating mode of the code segment. */
  get mode(): Mode {
    return this.get(ST.mode) as Mode;
  }
  setMode(mode: Mode): void {
    this.set(ST.mode, mode);
    this.set(ST.jumpTable, this.base + JumpTable.offset + modeIndex(mode) * JumpTable.bytes);
  }

  setCpl(level: number): void {
    this.set(ST.cpl, level);
    this.applyTag();
  }

  // Address translation.

  translate(lo: number, hi: number, access: 0 | 1 | 2): number {
    const host = this.translateCode(this.base, lo, hi, access);
    return host === 0 ? -1 : host >>> 0;
  }

  /** Copies guest bytes to `scratch`; false when any of them faults. */
  copyIn(lo: number, hi: number, bytes: number): boolean {
    if (bytes > scratchBytes) return false;
    return this.eachPage(lo, hi, bytes, 0, (host, done, n) =>
      this.mem.u8.copyWithin(this.scratch + done, host, host + n),
    );
  }

  /** Copies from a host address to the guest; false when any byte faults (earlier pages are written). */
  copyOut(lo: number, hi: number, from: number, bytes: number): boolean {
    return this.eachPage(lo, hi, bytes, 1, (host, done, n) => {
      this.mem.u8.copyWithin(host, from + done, from + done + n);
      this.frameWritten((host & -pageBytes) >>> 0);
    });
  }

  private eachPage(
    lo: number,
    hi: number,
    bytes: number,
    access: 0 | 1,
    use: (host: number, done: number, n: number) => void,
  ): boolean {
    let done = 0;
    let low = lo >>> 0;
    let high = hi >>> 0;
    while (done < bytes) {
      const n = Math.min(bytes - done, pageBytes - (low & (pageBytes - 1)));
      const host = this.translate(low, high, access);
      if (host < 0) return false;
      use(host, done, n);
      done += n;
      const sum = low + n;
      low = sum >>> 0;
      if (sum > 0xffffffff) high = (high + 1) >>> 0;
    }
    return true;
  }

  /** Makes a machine frame the page-table root. TLB entries of other roots stay: every root has a tag of its own. */
  setRoot(mfn: number): void {
    this.currentRoot = mfn;
    this.set(ST.root, this.mem.hostOf(mfn));
    this.applyTag();
  }

  private applyTag(): void {
    const key = this.currentRoot * 2 + (this.get(ST.cpl) === 3 ? 1 : 0);
    let tag = this.tags.get(key);
    if (tag === undefined) {
      if (this.nextTag > maxTag) this.wipeTlb();
      tag = this.nextTag++;
      this.tags.set(key, tag);
    }
    this.set(ST.asid, tag);
    this.set(ST.asid + 4, 0);
  }

  /** The frame is a root no longer: its tags never match again. */
  forgetRoot(mfn: number): void {
    this.tags.delete(mfn * 2);
    this.tags.delete(mfn * 2 + 1);
    if (mfn === this.currentRoot) this.applyTag();
  }

  /** A frame is no page table any more: where it was mapped means nothing for its next use. */
  forgetTable(l1mfn: number): void {
    this.mem.u32[(this.mem.layout.l1Tags >>> 2) + l1mfn] = 0;
  }

  /** Drops every entry: new tags are given out, and the tables are wiped only when the tags run out. */
  flushTlb(): void {
    this.tags.clear();
    this.applyTag();
  }

  private wipeTlb(): void {
    this.mem.u8.fill(0xff, this.base + Tlb.read, this.base + Tlb.read + 3 * Tlb.bytes);
    this.tags.clear();
    this.nextTag = 1;
  }

  /** Drops the entries of one page in every address space. */
  invalidatePage(lo: number, hi: number): void {
    const page = (lo & -pageBytes) >>> 0;
    const { u32 } = this.mem;
    for (const tlb of [Tlb.read, Tlb.write, Tlb.exec]) {
      const at = (this.base + tlb + ((lo >>> 8) & 0xfff0)) >>> 2;
      if ((u32[at]! & -pageBytes) >>> 0 === page && u32[at + 1] === hi >>> 0) {
        u32[at] = 0xffffffff;
        u32[at + 1] = 0xffffffff;
      }
    }
  }

  /** Drops what the TLBs hold of one entry of an L1 table: by the address range that the table was last seen to map. */
  entryChanged(l1mfn: number, index: number): void {
    const at = (this.mem.layout.l1Tags >>> 2) + l1mfn;
    const tag = this.mem.u32[at]!;
    if (tag === 0) return;
    if (tag & 0x40000000) {
      this.flushTlb();
      return;
    }
    const high = tag & 0x07ffffff;
    // 48-bit address: 27 bits of table number, 9 of index, sign-extended from bit 47.
    const lo = ((high << 21) | (index << 12)) >>> 0;
    const top = high >>> 11;
    this.invalidatePage(lo, top & 0x8000 ? (top | 0xffff0000) >>> 0 : top);
  }

  // Running.

  /**
   * Executes guest code until an exit or until about `maxInstructions` have retired (checked at block ends).
   * Returns an `Exit` value below 16.
   */
  run(maxInstructions: number): ExitReason {
    // `left` is what remains behind the current slice: between slices the translator looks where the guest is.
    let left = this.translator ? Math.max(0, maxInstructions - sampleInterval) : 0;
    let budget = maxInstructions - left;
    let reason: number = Exit.Lookup;
    let record = 0;
    for (;;) {
      if (reason === Exit.Lookup) {
        if (this.get(ST.sysFlags) & trapFlag || this.breakpoints.armed)
          return this.runSteps(Math.min(budget + left, maxSteps));
        record = this.lookup();
        if (record === 0) return Exit.Exception;
      } else if (reason === Exit.CodeWrite || reason === Exit.Step) {
        if (reason === Exit.CodeWrite) this.dropPage(this.get(ST.exitArg));
        reason = this.stepOne();
        if (reason === Exit.Budget) {
          budget--;
          reason = Exit.Lookup;
        }
        if (reason >= Exit.Lookup) continue;
        return reason as ExitReason;
      }
      const before = budget;
      reason = this.runCode(this.base, record, budget);
      budget = this.mem.i32[(this.base + ST.work + 56) >>> 2]!;
      this.instructions += before - budget;
      if (reason < Exit.Lookup && reason !== Exit.Budget) {
        if (reason === Exit.Exception) this.fixSegmentFault();
        return reason as ExitReason;
      }
      if (budget < 0 && reason < Exit.CodeWrite) {
        if (left <= 0) return Exit.Budget;
        budget = Math.min(left, sampleInterval);
        left -= budget;
        if (!this.sampleHere()) return Exit.Exception;
        reason = Exit.Lookup;
        continue;
      }
      if (reason === Exit.LinkTaken || reason === Exit.LinkNotTaken) {
        const link = this.get(ST.exitPc);
        const sourcePage = this.get(ST.ripPage);
        const sourceHigh = this.get(ST.ripPage + 4);
        record = this.lookup();
        if (record === 0) return Exit.Exception;
        const samePage = (this.ripLo & -pageBytes) >>> 0 === sourcePage && this.ripHi === sourceHigh;
        if (this.linkable(link)) this.setLink(link, reason === Exit.LinkTaken, samePage ? record : crossPage);
        reason = Exit.Budget;
      }
    }
  }

  /** Runs instructions one by one: #DB behind each with TF set, and where breakpoints are met. */
  private runSteps(count: number): ExitReason {
    const { breakpoints } = this;
    for (let n = 0; n <= count; n++) {
      const flags = this.get(ST.sysFlags);
      if ((flags & resumeFlag) === 0) {
        const met = breakpoints.onInstruction(this.mem.u64[(this.base + ST.rip) >>> 3]!);
        if (met) return this.debugException(met);
      }
      breakpoints.met = 0;
      let reason: number = this.stepOne();
      while (reason === Exit.CodeWrite) {
        this.dropPage(this.get(ST.exitArg));
        reason = this.stepOne();
      }
      if (reason !== Exit.Budget) return reason as ExitReason;
      if (flags & resumeFlag) this.set(ST.sysFlags, this.get(ST.sysFlags) & ~resumeFlag);
      const status = breakpoints.met | (flags & trapFlag ? singleStepped : 0);
      if (status) return this.debugException(status);
      if (!breakpoints.armed && !(this.get(ST.sysFlags) & trapFlag)) break;
    }
    return Exit.Budget;
  }

  private debugException(status: number): ExitReason {
    this.set(ST.vector, debugVector);
    this.set(ST.errorCode, 0);
    this.set(ST.segmentFault, 0);
    this.set(ST.debugStatus, status);
    return Exit.Exception;
  }

  /**
   * Takes over the debug registers: DR7, and DR0 to DR3 as halves. While a breakpoint is enabled, instructions are
   * executed one by one, and for data breakpoints without a TLB.
   */
  setBreakpoints(control: number, lo: ArrayLike<number>, hi: ArrayLike<number>): void {
    this.breakpoints.set(control, lo, hi);
    const watches = this.breakpoints.watchesData ? 1 : 0;
    if (watches && !this.get(ST.watching)) this.flushTlb();
    this.set(ST.watching, watches);
  }

  /** A data access, reported by generated code while `ST.watching` is set. */
  noteAccess(): boolean {
    const address = this.mem.u64[(this.base + ST.watchAddress) >>> 3]!;
    this.breakpoints.access(address, this.get(ST.watchBytes), this.get(ST.watchWrite) !== 0);
    return true;
  }

  /** Tells the translator where the guest is; false when fetching there faults. */
  private sampleHere(): boolean {
    const record = this.lookup();
    if (record === 0) return false;
    if (this.mode === 64)
      this.translator!.sample(record, this.translate(this.ripLo, this.ripHi, 2), this.ripLo, this.ripHi);
    return true;
  }

  private hostOfPage(lo: number, hi: number, delta: number): number {
    const page = ((lo & -pageBytes) >>> 0) + delta * pageBytes;
    const carry = Math.floor(page / 2 ** 32);
    const host = this.translate(page >>> 0, (hi + carry) >>> 0, 2);
    return host < 0 ? 0 : host;
  }

  /** Takes room in the record arena, 8-byte aligned; 0 when it is full. */
  private allocate(bytes: number): number {
    const at = this.arenaAt;
    if (at + bytes + maxBlockBytes > this.arenaEnd) return 0;
    this.arenaAt = (at + bytes + 7) & ~7;
    return at;
  }

  private linkable(record: number): boolean {
    return record >= this.arenaStart && record < this.arenaAt;
  }

  private setLink(record: number, taken: boolean, target: number): void {
    const at = record + this.linkOffset(record) + (taken ? Link.taken : Link.notTaken);
    this.mem.u32[at >>> 2] = target;
  }

  private linkOffset(record: number): number {
    return this.writer.linkOffset(this.mem.u16[record >>> 1]!);
  }

  /** Executes the one instruction at rip without remembering its decoding. `Exit.Budget`: it completed. */
  stepOne(): ExitReason {
    const record = this.decodeBlock(1, this.stepArea, false);
    if (record === 0) return Exit.Exception;
    const reason = this.runCode(this.base, record, 0);
    this.instructions++;
    if (reason === Exit.LinkTaken || reason === Exit.LinkNotTaken || reason === Exit.Lookup) return Exit.Budget;
    if (reason === Exit.Exception) this.fixSegmentFault();
    return reason as ExitReason;
  }

  /** Executes one instruction that may write to the frame at `hostFrame` through any mapping of it, then forgets that right. */
  stepWithWritable(hostFrame: number): ExitReason {
    const lo = this.get(ST.cr2);
    const hi = this.get(ST.cr2 + 4);
    const at = (this.base + Tlb.write + ((lo >>> 8) & 0xfff0)) >>> 2;
    const { u32 } = this.mem;
    const page = (lo & -pageBytes) >>> 0;
    u32[at] = page | this.get(ST.asid);
    u32[at + 1] = hi;
    u32[at + 2] = (hostFrame - page) >>> 0;
    const reason = this.stepOne();
    u32[at] = 0xffffffff;
    u32[at + 1] = 0xffffffff;
    return reason;
  }

  /** #GP from a non-canonical stack access is #SS: the address and the instruction tell which one it was. */
  private fixSegmentFault(): void {
    const kind = this.get(ST.segmentFault);
    if (kind === SegmentFault.none) return;
    if (kind === SegmentFault.checked) {
      this.set(ST.segmentFault, SegmentFault.none);
      const sooner = this.decodeHere() ? unitException(decoded, this.get(ST.cr0), this.get(ST.fsw)) : 0;
      if (sooner) this.set(ST.vector, sooner);
      return;
    }
    const address = this.mem.u64[(this.base + ST.segmentAddress) >>> 3]!;
    const decodes = this.decodeHere();
    this.set(ST.segmentFault, 0);
    this.set(ST.vector, 13);
    this.set(ST.errorCode, 0);
    if (!decodes) return;
    const { insn } = decoded.entry;
    const usesMemory = decoded.operands.slice(0, decoded.operandCount).some((o) => o.category === 'm');
    const fromTop = BigInt.asIntN(64, address - this.reg(insn.name === 'leave' ? 5 : 4));
    const onStack = insn.name === 'enter' || (insn.perMode === true && fromTop >= -0x10000n && fromTop <= 0x100n);
    if (onStack || (usesMemory && decoded.segment === 2)) this.set(ST.vector, 12);
  }

  /** Decodes the instruction at rip into `decoded`, also across a page; false when it cannot be fetched. */
  private decodeHere(): boolean {
    const host = this.translate(this.ripLo, this.ripHi, 2);
    if (host < 0) return false;
    const offset = host & (pageBytes - 1);
    const result = decode(this.mem.u8, host, host - offset + pageBytes, this.mode);
    if (result !== 'short') return result === 'ok';
    const second = this.hostOfPage(this.ripLo, this.ripHi, 1);
    if (second === 0) return false;
    this.joinPages(host - offset, offset, second);
    return decode(this.fetchBuffer, offset, pageBytes + maxInstructionBytes, this.mode) === 'ok';
  }

  /** Puts the end of one page and the start of another together in the fetch buffer, at their page offsets. */
  private joinPages(first: number, offset: number, second: number): void {
    this.fetchBuffer.set(this.mem.u8.subarray(first + offset, first + pageBytes), offset);
    this.fetchBuffer.set(this.mem.u8.subarray(second, second + maxInstructionBytes), pageBytes);
  }

  // Decoded code.

  /** Record for the code at rip, decoding it when needed; 0 = fetching it faults (state has the exception). */
  private lookup(): number {
    const host = this.translate(this.ripLo, this.ripHi, 2);
    if (host < 0) {
      this.set(ST.segmentFault, 0);
      return 0;
    }
    const slot = (this.get(ST.jumpTable) + (((host ^ (host >>> 12)) & (JumpTable.entries - 1)) << 3)) >>> 2;
    const { u32 } = this.mem;
    if (u32[slot] === host && !this.mustRevalidate(u32[slot + 1]!)) return u32[slot + 1]!;
    const key = host * 4 + modeIndex(this.mode);
    let record = this.blocks.get(key);
    const fresh = record === undefined || this.mustRevalidate(record);
    if (record === undefined || fresh) {
      if (this.arenaAt + maxBlockBytes > this.arenaEnd) this.dropAll();
      record = this.decodeBlock(maxBlockInstructions, this.arenaAt, true);
      if (record === 0) return 0;
    }
    u32[slot] = host;
    u32[slot + 1] = record;
    if (fresh && this.tier === 'auto' && this.mode === 64)
      this.translator!.blockDecoded(record, host, this.ripLo, this.ripHi);
    if (this.tier === 'translate' && this.mode === 64)
      this.translator!.translateNow(record, host, this.ripLo, this.ripHi);
    return record;
  }

  /** A block whose only instruction crosses into a page that is mapped elsewhere now. */
  private mustRevalidate(record: number): boolean {
    const second = this.writer.crossingPage(record);
    if (second === 0) return false;
    const next = ((this.ripLo & -pageBytes) >>> 0) + pageBytes;
    return this.translate(next >>> 0, next > 0xffffffff ? (this.ripHi + 1) >>> 0 : this.ripHi, 2) !== second;
  }

  /** Decodes a block at rip to `at`; `remember` registers it. Returns its record, 0 when the second page of a crossing instruction faults. */
  private decodeBlock(limit: number, at: number, remember: boolean): number {
    const host = this.translate(this.ripLo, this.ripHi, 2);
    if (host < 0) {
      this.set(ST.segmentFault, 0);
      return 0;
    }
    const { mode } = this;
    const page = host & -pageBytes;
    const pageStart = page >>> 0;
    const start = host - pageStart;
    const writer = this.writer;
    writer.begin(at);
    let offset = start;
    let lastOffset = start;
    let second = 0;
    let end = start;
    while (!writer.ended && writer.instructions < limit && offset < pageBytes) {
      const result = decode(this.mem.u8, pageStart + offset, pageStart + pageBytes, mode);
      if (result === 'short') {
        if (writer.instructions > 0) break;
        second = this.decodeCrossing(pageStart, offset, mode);
        if (second === 0) return 0;
        end = offset + decoded.length;
        lastOffset = offset;
        offset = end;
        break;
      }
      lastOffset = offset;
      if (result === 'invalid' || !writer.add(mode, offset)) {
        writer.raise(offset, invalidOpcode, 0);
        end = offset + 1;
        break;
      }
      offset += decoded.length;
      end = offset;
    }
    const behind = writer.finish(lastOffset, offset);
    if (!remember) return at;
    this.arenaAt = (behind + 7) & ~7;
    this.decodedBlocks++;
    this.decodedInstructions += writer.instructions;
    this.remember(host, pageStart, start, Math.min(end, pageBytes), second, end, at, mode);
    return at;
  }

  /** The instruction at the end of a page continues in the next one. Returns that page's host address, 0 = fetch fault. */
  private decodeCrossing(pageStart: number, offset: number, mode: Mode): number {
    const next = ((this.ripLo & -pageBytes) >>> 0) + pageBytes;
    const second = this.translate(next >>> 0, next > 0xffffffff ? (this.ripHi + 1) >>> 0 : this.ripHi, 2);
    if (second < 0) {
      this.set(ST.segmentFault, 0);
      return 0;
    }
    const buffer = this.fetchBuffer;
    this.joinPages(pageStart, offset, second);
    this.writer.crossing(offset, second);
    if (decode(buffer, offset, pageBytes + maxInstructionBytes, mode) !== 'ok' || !this.writer.add(mode, offset)) {
      this.writer.raise(offset, invalidOpcode, 0);
      decoded.length = pageBytes - offset + 1;
    }
    return second;
  }

  private remember(
    host: number,
    page: number,
    from: number,
    to: number,
    second: number,
    end: number,
    record: number,
    mode: Mode,
  ): void {
    const key = host * 4 + modeIndex(mode);
    this.blocks.set(key, record);
    this.markCode(page, from, to, key);
    if (second) this.markCode(second, 0, end - pageBytes, key);
  }

  private markCode(page: number, from: number, to: number, key: number): void {
    this.watchCode(page, from, to);
    const list = this.pages.get(page);
    if (list) list.push(key);
    else this.pages.set(page, [key]);
  }

  /** Decoded or translated code lies in the range: writes to it are looked at from now on. */
  private watchCode(page: number, from: number, to: number): void {
    const { u32, layout } = this.mem;
    const at = (layout.codeMap >>> 2) + (page >>> 12);
    let bits = 0;
    for (let chunk = from >>> 7; chunk <= (Math.max(to, from + 1) - 1) >>> 7; chunk++) bits |= 1 << chunk;
    if (u32[at] === 0) this.dropWriteEntries(page);
    u32[at] = u32[at]! | bits;
  }

  /** Write-TLB entries of a frame go when it becomes code, so that writes to it are seen. */
  private dropWriteEntries(page: number): void {
    const { u32 } = this.mem;
    const start = (this.base + Tlb.write) >>> 2;
    for (let at = start; at < start + Tlb.bytes / 4; at += 4) {
      if (((u32[at]! & -pageBytes) + u32[at + 2]!) >>> 0 === page) {
        u32[at] = 0xffffffff;
        u32[at + 1] = 0xffffffff;
      }
    }
  }

  /** Forgets the code decoded from the frame at a host address. */
  private dropPage(page: number): void {
    const { u32, layout } = this.mem;
    u32[(layout.codeMap >>> 2) + (page >>> 12)] = 0;
    this.translator?.dropPage(page);
    const list = this.pages.get(page);
    if (!list) return;
    this.pages.delete(page);
    this.codeInvalidations++;
    for (const key of list) {
      const record = this.blocks.get(key);
      if (record === undefined) continue;
      this.blocks.delete(key);
      this.writer.kill(record);
      const host = Math.floor(key / 4);
      const table = this.base + JumpTable.offset + (key & 3) * JumpTable.bytes;
      const slot = (table + (((host ^ (host >>> 12)) & (JumpTable.entries - 1)) << 3)) >>> 2;
      if (u32[slot] === host) u32[slot] = 0;
    }
  }

  private dropAll(): void {
    const { u32, u8, layout } = this.mem;
    this.translator?.forgetAll();
    u32.fill(0, layout.codeMap >>> 2, (layout.codeMap >>> 2) + (layout.end >>> 12));
    this.pages.clear();
    this.blocks.clear();
    u8.fill(0, this.base + JumpTable.offset, this.base + JumpTable.offset + JumpTable.modes * JumpTable.bytes);
    this.arenaAt = this.arenaStart;
    this.arenaResets++;
  }

  /** Something other than this vCPU's code wrote to the frame at `hostFrame`: what was decoded from it is stale. */
  frameWritten(hostFrame: number): void {
    if (this.mem.u32[(this.mem.layout.codeMap >>> 2) + (hostFrame >>> 12)]) this.dropPage(hostFrame);
  }

  /** Counters since the vCPU was made. */
  statistics(): VCpuStatistics {
    const { decodedBlocks, decodedInstructions, codeInvalidations, arenaResets } = this;
    return {
      tlbMisses: this.get(ST.tlbMisses),
      pageWalks: this.get(ST.pageWalks),
      decodedBlocks,
      decodedInstructions,
      codeInvalidations,
      arenaResets,
      regionInstructions: Number(this.mem.u64[(this.base + ST.regionInstructions) >>> 3]),
      regionEntries: this.get(ST.regionEntries),
      ...(this.translator && { translator: { ...this.translator.statistics } }),
    };
  }

  /** Loads a segment register from its descriptor (CS too); false = exception recorded, register unchanged. */
  loadSegment(segment: number, selector: number): boolean {
    return this.hostOps.loadSegment(segment, selector);
  }

  /** CR0.TS: while set, x87 and SSE instructions raise #NM. */
  setTaskSwitched(on: boolean): void {
    this.set(ST.cr0, on ? this.get(ST.cr0) | 8 : this.get(ST.cr0) & ~8);
  }

  /** The CR4 bits that a PV guest controls (TSD, DE, FSGSBASE, OSXSAVE). */
  setGuestCr4(bits: number): void {
    const guest = 0x5000c;
    this.set(ST.cr4, (this.get(ST.cr4) & ~guest) | (bits & guest));
  }
}

const modeIndex = (mode: Mode): number => (mode === 64 ? 0 : mode === 32 ? 1 : 2);

function evenParity(byte: number): boolean {
  const folded = byte ^ (byte >> 4);
  return ((0x9669 >> (folded & 15)) & 1) === 1;
}
