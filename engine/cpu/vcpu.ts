// SPDX-License-Identifier: MIT
// One virtual CPU: its state block, the cache of decoded blocks, and `run`, which drives the generated interpreter.

import type { BlockStore, ModuleCompiler } from '../host.ts';
import { wideZero } from '../specimens.ts';
import { decode, decoded } from '../x86/decode.ts';
import { Breakpoints } from './breakpoints.ts';
import { chainExports } from './chain.ts';
import { Exit, type ExitReason } from './exits.ts';
import { unitException } from './fault-precedence.ts';
import { adoptHostOpNumbers } from './host-op-names.ts';
import { HostOps } from './host-ops.ts';
import { Hold } from './hooks.ts';
import { crossPage } from './interpreter-functions.ts';
import {
  ChainPlace,
  emptyTag,
  FillLog,
  Link,
  noRegion,
  noTimeBudget,
  regionTablePlaces,
  SegmentFault,
  ST,
  Tlb,
  Uop,
} from './layout.ts';
import { headerBytes } from './lower.ts';
import { Translator } from '../translate/translator.ts';
import type { TranslatorStatistics } from '../translate/translator-statistics.ts';
import { CodeCache, maxInstructionBytes, type Tier } from './code-cache.ts';
import type { ClearBank, InheritBank, Translate } from './vcpu-memory.ts';
import type { MachineMemory } from './memory.ts';
import { noRoot } from './tlb-banks.ts';

const pageBytes = 4096;
const trapFlag = 0x100;
const resumeFlag = 0x10000;
/** DR6: single step. */
const singleStepped = 0x4000;
/** Most instructions that are stepped through in one go. */
const maxSteps = 1000;
const debugVector = 1;

/** The generated module with what it needs to be instantiated. */
export interface InterpreterCode {
  readonly module: WebAssembly.Module;
  readonly hostOps: readonly string[];
}

export type { Tier } from './code-cache.ts';

/** What a vCPU asks of the machine around it. */
export interface VCpuHost {
  /** CPUID as the guest sees it: [eax, ebx, ecx, edx]. */
  cpuid(leaf: number, subleaf: number): readonly [number, number, number, number];
  /** The guest's time-stamp counter. */
  tsc(): number;
  /** 32 bits that nobody can guess. */
  randomWord(): number;
  /** Where translations are kept between runs. */
  readonly blocks?: BlockStore;
  /** What compiles translations; by default V8 does it each time anew. */
  readonly compiler?: ModuleCompiler;
  /** Host time in milliseconds, for the pace of translation. */
  nowMs(): number;
  /** Host address of a descriptor in the GDT or LDT, 0 when the selector lies outside. */
  descriptorAddress(selector: number): number;
}

/**
 * Instructions between two looks at where the guest is, at least and at most: were they always the same number, a guest that repeats itself
 * would be seen at the same few places for ever.
 */
const sampleInterval = { least: 12_000, spread: 16_384 } as const;

/** Where there is nothing to learn from samples, each stands for so many: leaving translated code for one takes a microsecond. */
const idleSampleWeight = 4;

/** Misses after which a region is made for missing the TLB: what its second compilation takes, and what code of twice the size costs from then on. */
const missLimit = 16_384;

type Run = (state: number, record: number, budget: number) => number;

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
  /** Entries that a region's guards turned away. */
  readonly regionMisfits: number;
  readonly translator?: TranslatorStatistics;
}

export class VCpu extends CodeCache {
  readonly hostOps: HostOps;
  private readonly runCode: Run;
  protected readonly translateCode: Translate;
  protected readonly clearBank: ClearBank;
  protected readonly inheritBank: InheritBank;
  protected readonly tier: Tier;
  protected readonly translator: Translator | undefined;
  private readonly breakpoints = new Breakpoints();
  /** Instructions retired. */
  instructions = wideZero;

  constructor(mem: MachineMemory, id: number, code: InterpreterCode, host: VCpuHost, tier: Tier = 'auto') {
    super(mem, id);
    this.hostOps = new HostOps(this, host);
    adoptHostOpNumbers(code.hostOps);
    const table = code.hostOps.map((name) => this.hostOps.operation(name));
    const regions = new WebAssembly.Table({ element: 'anyfunc', initial: regionTablePlaces });
    const callHost = (operation: number) => (table[operation]!() ? 0 : 1);
    const instance = new WebAssembly.Instance(code.module, { env: { memory: mem.wasm, host: callHost, regions } });
    for (const way of ['goOn', 'syscall'] as const) {
      regions.set(ChainPlace[way], instance.exports[chainExports[way]] as CallableFunction);
    }
    this.runCode = instance.exports['run'] as Run;
    this.translateCode = instance.exports['translate'] as Translate;
    this.clearBank = instance.exports['clearBank'] as ClearBank;
    this.inheritBank = instance.exports['inheritBank'] as InheritBank;
    this.reset();
    this.tier = tier;
    if (tier !== 'interpret') {
      this.sampleAt = this.nextSample();
      this.translator = new Translator(
        {
          mem,
          base: this.base,
          imports: { ...instance.exports, memory: mem.wasm, host: callHost },
          table: regions,
          hostOfPage: (lo, hi, delta) => this.hostOfPage(lo, hi, delta),
          // Tests translate everything at first sight, also what the guest does not come to.
          ...(tier === 'auto' && { wasReached: (at: number) => this.isDecoded(at) }),
          timesGone: (at, taken) => this.timesGone(at, taken),
          recordAt: (at) => this.recordAt(at),
          decodedBlocks: () => this.decodedBlocks,
          allocate: (bytes) => this.allocate(bytes),
          watchCode: (page, from, to) => this.watchCode(page, from, to),
          nowMs: host.nowMs,
          missLimit: tier === 'auto' ? missLimit : 3,
        },
        host.blocks,
        host.compiler,
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
    u32[at + (ST.holdHooks >>> 2)] = Hold.platform;
    u32[at + (ST.rootMfn >>> 2)] = noRoot;
    // Nothing has emptied the banks yet.
    for (let bank = 0; bank < Tlb.banks; bank++)
      this.mem.u16[(this.base + FillLog.offset + bank * FillLog.bankBytes) >>> 1] = FillLog.most;
    this.setRflags(2);
    this.setMode(64);
    this.applyBank();
    this.set(ST.region, noRegion);
  }

  // Running.

  /**
   * Executes guest code until an exit or until about `maxInstructions` have retired (checked at block ends).
   * Returns an `Exit` value below 16.
   */
  run(maxInstructions: number): ExitReason {
    // `left` is what remains behind the current slice: between slices the translator looks where the guest is.
    let budget = this.toSample(maxInstructions);
    let left = maxInstructions - budget;
    let reason: number = Exit.Lookup;
    let record = 0;
    for (;;) {
      if (reason === Exit.Lookup) {
        if (this.goesBySteps) return this.runSteps(Math.min(budget + left, maxSteps));
        record = this.lookup();
        if (record === 0) return Exit.Exception;
      } else if (reason === Exit.Stale) {
        record = this.lookupStale(this.get(ST.exitPc));
        if (record === 0) return Exit.Exception;
        reason = Exit.Budget;
      } else if (reason === Exit.CodeWrite) {
        this.dropWritten();
        reason = this.stepOne();
        if (reason === Exit.Budget) {
          reason = Exit.Lookup;
          // Code may go on like this for ever, without an end of a block between its steps.
          if (--budget < 0) {
            if (left <= 0) return Exit.Budget;
            budget = this.toSample(left);
            left -= budget;
          }
        }
        if (reason >= Exit.Lookup) continue;
        return reason as ExitReason;
      }
      const before = budget;
      this.set(ST.timeBudget, noTimeBudget);
      reason = this.runCode(this.base, record, budget);
      budget = this.mem.i32[(this.base + ST.budget) >>> 2]!;
      this.instructions += before - budget;
      if (reason === Exit.Busy) {
        const at = this.translate(this.ripLo, this.ripHi, 2);
        record = this.get(ST.exitPc);
        if (at >= 0) this.translator!.busy(record, at, this.ripLo, this.ripHi);
        // A fetch that faults now is reported by a look-up; else the block goes on.
        reason = budget < 0 || (at >= 0 && !this.goesBySteps) ? Exit.Budget : Exit.Lookup;
        if (budget >= 0) continue;
      }
      if (reason === Exit.Misses) {
        this.translator!.missedOften(this.get(ST.exitArg));
        reason = budget < 0 ? Exit.Budget : Exit.Lookup;
        if (reason === Exit.Lookup) continue;
      }
      if (reason < Exit.Lookup && reason !== Exit.Budget) {
        if (reason === Exit.Exception) this.fixSegmentFault();
        return reason as ExitReason;
      }
      if (budget < 0 && (reason < Exit.CodeWrite || reason === Exit.Stale)) {
        reason = Exit.Lookup;
        if (this.instructions >= this.sampleAt) {
          record = this.sampleHere();
          this.sampleAt = this.instructions + this.nextSample() * this.sampleWeight;
          if (record === 0) return Exit.Exception;
          // It need not be looked up again.
          if (!this.goesBySteps) reason = Exit.Budget;
        }
        if (left <= 0) return Exit.Budget;
        budget = this.toSample(left);
        left -= budget;
        continue;
      }
      if (reason === Exit.LinkTaken || reason === Exit.LinkNotTaken) {
        const link = this.get(ST.exitPc);
        const sourcePage = this.get(ST.ripPage);
        const sourceHigh = this.get(ST.ripPage + 4);
        const { arenaResets } = this;
        record = this.lookup();
        if (record === 0) return Exit.Exception;
        const samePage = (this.ripLo & -pageBytes) >>> 0 === sourcePage && this.ripHi === sourceHigh;
        const isTaken = reason === Exit.LinkTaken;
        // Decoding may have started the arena over: then the branch that asked is gone.
        if (arenaResets === this.arenaResets && this.linkable(link))
          this.setLink(link, isTaken, samePage ? this.linkTarget(link, isTaken, record) : crossPage);
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
      const reason = this.stepOne();
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

  /** Instructions to the next sample (xorshift: Marsaglia, "Xorshift RNGs"). */
  private nextSample(): number {
    let s = this.sampleState;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    this.sampleState = s;
    return sampleInterval.least + (s & (sampleInterval.spread - 1));
  }
  private sampleState = 0x2545f491;
  /** What `instructions` will be at the next sample: it comes no later for `run` having returned in between, as it does for some hypercalls. */
  private sampleAt = Infinity;

  /** Of `most` instructions, those before the next sample. */
  private toSample(most: number): number {
    return Math.min(most, Math.max(0, this.sampleAt - this.instructions));
  }

  /** Every instruction may be the last one before a trap. */
  private get goesBySteps(): boolean {
    return (this.get(ST.sysFlags) & trapFlag) !== 0 || this.breakpoints.armed;
  }

  /** Tells the translator where the guest is. Returns the record there; 0 = fetching it faults. */
  private sampleHere(): number {
    const record = this.lookup();
    const weight = this.sampleWeight;
    this.sampleWeight = 1;
    if (record === 0 || this.mode !== 64) return record;
    const code = this.translate(this.ripLo, this.ripHi, 2);
    if (this.translator!.sample(record, code, this.ripLo, this.ripHi, weight)) this.sampleWeight = idleSampleWeight;
    return record;
  }
  /** So many times as long as usual is the present interval between samples. */
  private sampleWeight = 1;

  private linkable(record: number): boolean {
    return record >= this.arenaStart && record < this.arenaAt;
  }

  /** Where a branch of the same page goes on: regions begin where functions and loops do, so what leads on through one need not count. */
  private linkTarget(link: number, isTaken: boolean, record: number): number {
    const offset = this.mem.u16[(link + Uop.off) >>> 1]!;
    const isForward = this.ripLo % pageBytes > offset && !(isTaken && this.writer.isCall(link));
    return isForward ? record + headerBytes(this.mem, record) : record;
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
    const hold = this.get(ST.holdHooks);
    this.set(ST.holdHooks, hold | Hold.stepping);
    this.set(ST.timeBudget, noTimeBudget);
    let reason = this.runCode(this.base, record, 0);
    // It stays what it is when it writes over itself, as repeated string instructions can.
    while (reason === Exit.CodeWrite) {
      this.dropWritten();
      reason = this.runCode(this.base, record, 0);
    }
    this.set(ST.holdHooks, hold);
    this.instructions++;
    if (reason === Exit.LinkTaken || reason === Exit.LinkNotTaken || reason === Exit.Lookup) return Exit.Budget;
    if (reason === Exit.Exception) this.fixSegmentFault();
    return reason as ExitReason;
  }

  /** The code that the write behind an Exit.CodeWrite is about to change goes. */
  private dropWritten(): void {
    this.dropCode(this.get(ST.exitArg), this.get(ST.codeBits));
  }

  /** Executes one instruction that may write to the frame at `hostFrame` through any mapping of it, then forgets that right. */
  stepWithWritable(hostFrame: number): ExitReason {
    const lo = this.get(ST.cr2);
    const hi = this.get(ST.cr2 + 4);
    const at = (this.get(ST.tlb) + Tlb.write + ((lo >>> 8) & 0xfff0)) >>> 2;
    const { u32 } = this.mem;
    const page = (lo & -pageBytes) >>> 0;
    u32[at] = (page | (pageBytes - 1)) >>> 0;
    u32[at + 1] = hi;
    u32[at + 2] = (hostFrame - page) >>> 0;
    const reason = this.stepOne();
    u32[at] = emptyTag(lo);
    u32[at + 1] = 0;
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

  /** It does not run any more: leaves in the store what later runs may want besides what this one did, until `isOver`. */
  prepareLaterRuns(isOver: () => boolean): void {
    this.translator?.prepareLaterRuns(isOver);
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
      regionMisfits: this.get(ST.regionMisfits),
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
