// SPDX-License-Identifier: MIT
// One PV domain: its frames, page tables, event channels, grants, time, scheduler and vCPUs, held together.

import { CallContext, CpuGuestAccess } from './call-context.ts';
import type { DomainView, GuestAccess, MachineMemoryView } from './context.ts';
import { Counters } from './counters.ts';
import { type CpuPolicy, defaultCpuPolicy } from './cpuid.ts';
import { descriptorAddress, reservedDescriptors } from './descriptors.ts';
import { EventChannels } from './events.ts';
import { XS } from './fast/layout.ts';
import { GrantMappings } from './grant-mappings.ts';
import { DEFAULT_MAX_GRANT_FRAMES, GrantTable } from './grants.ts';
import type { GuestCpu } from './guest-cpu.ts';
import { HypercallTable } from './hypercalls.ts';
import { M2p, m2pFrames } from './m2p.ts';
import { Mmu } from './mmu.ts';
import { Owner, PageTypes, PageType } from './page-types.ts';
import { PrivilegedInstructions } from './privileged.ts';
import { Ptwr } from './ptwr.ts';
import { Scheduler, type ShutdownRecord } from './sched.ts';
import { DomainTime } from './time.ts';
import { startBootVcpu } from './vcpu-start.ts';
import { XenVcpu } from './vcpu-state.ts';
import { VmAssist } from './vm-assist.ts';

const MAX_SHARED_VCPU_INFOS = 32;
const VCPU_INFO_BYTES = 64;

/** What a domain needs from outside. */
export interface DomainHost {
  /** ns of guest system time; never goes back. */
  monotonicNs(): number;
  /** UTC now, ns since the epoch. */
  wallClockNs(): number;
  /** Console output made by hypercall (console_io). */
  consoleOut(bytes: Uint8Array): void;
  log(level: 'info' | 'warn' | 'error', text: string): void;
}

/** An entry of the memory map reported by XENMEM_memory_map: bytes, e820 type. */
export interface MemoryMapEntry {
  readonly address: number;
  readonly size: number;
  readonly type: number;
}

export interface DomainOptions {
  readonly mem: MachineMemoryView;
  readonly host: DomainHost;
  /** One per vCPU, in order of id; vCPU 0 boots. */
  readonly cpus: readonly GuestCpu[];
  /** MFNs from 0 to `frames` - 1 may exist. */
  readonly frames: number;
  /** Gives the MFN of a zeroed frame outside the guest's memory; 0 when there are none left. */
  readonly allocateXenFrame: () => number;
  /** Where to keep the state per frame (`PageTypes.bytesFor(frames)` bytes); default: memory of its own. */
  readonly pageStorage?: { buffer: ArrayBufferLike; offset: number };
  /** Pages the guest may own; default: those assigned to it before it starts. */
  readonly maxPages?: number;
  /** Default 1. */
  readonly domid?: number;
  /** 16 bytes; default zero. */
  readonly uuid?: Uint8Array;
  /** Reported by XENMEM_memory_map; without it the call is refused with -ENOSYS. */
  readonly memoryMap?: readonly MemoryMapEntry[];
  readonly cpuPolicy?: CpuPolicy;
  /** Obey the guest's TLB flushes although the engine keeps the TLB coherent by itself (for finding out whether it does). */
  readonly obeyFlushes?: boolean;
  /** Let generated code handle kernel entries and frequent hypercalls (engine/xen/fast); default false: everything is handled here. */
  readonly fastPaths?: boolean;
}

/** State at the first instruction of the boot vCPU, as `buildDomain` reports it. Addresses are [low, high] halves. */
export interface BootState {
  readonly entry: readonly [number, number];
  /** Top of the boot stack. */
  readonly stackPointer: readonly [number, number];
  readonly startInfo: readonly [number, number];
  /** MFN of the initial L4, built and not yet pinned. */
  readonly cr3Mfn: number;
}

/** How many frames `allocateXenFrame` must be able to give a domain with MFNs below `frames` and the default grant table. */
export function xenFramesNeeded(frames: number): number {
  const sharedInfoAndGdt = 2;
  const statusFrames = DEFAULT_MAX_GRANT_FRAMES / 8;
  return m2pFrames(frames) + sharedInfoAndGdt + DEFAULT_MAX_GRANT_FRAMES + statusFrames;
}

/** A running (or stopped) 64-bit PV guest. */
export class Domain implements DomainView {
  readonly domid: number;
  readonly mem: MachineMemoryView;
  readonly host: DomainHost;
  readonly uuid: Uint8Array;
  readonly memoryMap: readonly MemoryMapEntry[] | null;
  readonly cpuPolicy: CpuPolicy;
  readonly obeyFlushes: boolean;
  readonly fastPaths: boolean;
  readonly counters = new Counters();
  readonly pages: PageTypes;
  readonly m2p: M2p;
  readonly mmu: Mmu;
  readonly ptwr: Ptwr;
  readonly privileged: PrivilegedInstructions;
  readonly events: EventChannels;
  readonly grants: GrantTable;
  readonly time: DomainTime;
  readonly sched: Scheduler;
  readonly vcpus: readonly XenVcpu[];
  readonly contexts: readonly CallContext[];
  readonly hypercalls: HypercallTable;
  /** MFN of shared_info. */
  readonly sharedInfoMfn: number;
  /** Host address of the page of Xen's reserved GDT entries. */
  readonly reservedGdt: number;
  /** Event upcalls delivered. */
  upcalls = 0;
  /** Enabled vm_assist types, one bit each (type 32 is kept in `m2pStrict`). */
  private enabledAssists = 0;
  m2pStrict = false;
  /** The vCPU whose exit is being handled. */
  current: XenVcpu;
  /** Pages the guest owns, and the most it may own. */
  totalPages = 0;
  maxPages: number;
  private readonly explicitMaxPages: boolean;
  private readonly allocate: () => number;
  private readonly freeFrames: number[] = [];

  constructor(options: DomainOptions) {
    const { mem, host, cpus } = options;
    this.mem = mem;
    this.host = host;
    this.domid = options.domid ?? 1;
    this.uuid = options.uuid ?? new Uint8Array(16);
    this.memoryMap = options.memoryMap ?? null;
    this.cpuPolicy = options.cpuPolicy ?? defaultCpuPolicy;
    this.obeyFlushes = options.obeyFlushes ?? false;
    this.fastPaths = options.fastPaths ?? false;
    this.explicitMaxPages = options.maxPages !== undefined;
    this.maxPages = options.maxPages ?? 0;
    this.allocate = options.allocateXenFrame;
    const { pageStorage } = options;
    this.pages = new PageTypes(options.frames, pageStorage?.buffer, pageStorage?.offset);

    this.sharedInfoMfn = this.xenFrame(Owner.sharedWritable);
    const sharedInfo = mem.hostOf(this.sharedInfoMfn);
    for (let v = 0; v < MAX_SHARED_VCPU_INFOS; v++) mem.u8[sharedInfo + v * VCPU_INFO_BYTES + 1] = 1;

    const accesses = cpus.map((cpu) => new CpuGuestAccess(cpu, mem));
    const vcpuCount = cpus.length;
    const vcpuInfoSlots = cpus.map((cpu) => cpu.base + XS.info);
    this.events = new EventChannels({ mem, domid: this.domid, vcpuCount, sharedInfo, wordSize: 8, vcpuInfoSlots });
    this.time = new DomainTime({
      mem,
      clock: host,
      events: this.events,
      sharedInfo,
      wordSize: 8,
      guestAccess: (vcpu): GuestAccess => accesses[vcpu] as CpuGuestAccess,
    });
    this.sched = new Scheduler(this.events, this.time);
    this.grants = new GrantTable({
      mem,
      counters: this.counters,
      domid: this.domid,
      allocateXenFrame: (): number => this.xenFrame(Owner.sharedWritable),
    });
    this.m2p = new M2p(mem, this.pages, () => this.xenFrame(Owner.xen));
    this.mmu = new Mmu({
      mem,
      pages: this.pages,
      cpus,
      m2pL3: this.m2p.l3,
      onFree: (mfn): void => {
        this.frameFreed(mfn);
      },
    });
    this.ptwr = new Ptwr(this);
    this.privileged = new PrivilegedInstructions(this);
    this.reservedGdt = mem.hostOf(this.xenFrame(Owner.xen));
    reservedDescriptors(mem, this.reservedGdt);
    this.vcpus = cpus.map((cpu, id) => new XenVcpu(id, cpu, mem));
    for (const v of this.vcpus) v.publishDomain(this.pages, this.reservedGdt, vcpuCount);
    this.current = this.vcpus[0] as XenVcpu;
    this.contexts = this.vcpus.map((v, id) => new CallContext(this, v, accesses[id] as CpuGuestAccess));
    this.grants.setMmu(new GrantMappings(this));
    this.hypercalls = new HypercallTable(this);
  }

  get vcpuCount(): number {
    return this.vcpus.length;
  }

  /** Why the domain stopped, null while it runs. */
  get shutdown(): ShutdownRecord | null {
    return this.sched.shutdown;
  }

  /** Whether a vm_assist type below 32 is enabled. */
  assists(type: number): boolean {
    return ((this.enabledAssists >>> type) & 1) !== 0;
  }

  /** Enables or disables a vm_assist type below 32. */
  setAssist(type: number, enable: boolean): void {
    this.enabledAssists = enable ? this.enabledAssists | (1 << type) : this.enabledAssists & ~(1 << type);
    for (const v of this.vcpus) v.publishAssists(this.enabledAssists);
  }

  /** Exceptions and soft interrupts delivered, by vector, over all vCPUs. */
  trapCounts(): Float64Array {
    const sum = new Float64Array(256);
    for (const v of this.vcpus) for (let n = 0; n < 256; n++) sum[n] += v.trapCounts[n];
    return sum;
  }

  /** VMASST architectural_iopl: IOPL is visible in frames and the kernel counts as CPL 0. */
  get architecturalIopl(): boolean {
    return this.assists(VmAssist.architecturalIopl);
  }

  /** Stops the domain for something real Xen would not survive either; logged with its reason. */
  crash(reason: string): void {
    if (this.shutdown !== null) return;
    this.host.log('error', `domain crashed: ${reason}`);
    this.sched.crash(reason);
  }

  /** Allocates a frame of ours and records who may map it; 0 when there is none. */
  xenFrame(owner: Owner): number {
    const mfn = this.allocate();
    if (mfn !== 0) this.pages.owner[mfn] = owner;
    return mfn;
  }

  /** Gives a frame to the guest as `pfn`, before it starts. */
  assignFrame(mfn: number, pfn: number): void {
    this.pages.owner[mfn] = Owner.guest;
    this.m2p.set(mfn, pfn, 0);
    this.totalPages++;
    if (!this.explicitMaxPages && this.totalPages > this.maxPages) this.maxPages = this.totalPages;
  }

  /** A zeroed frame for the guest (ballooning up); 0 when none is free or the guest may not have more. */
  allocateGuestFrame(): number {
    if (this.totalPages >= this.maxPages) return 0;
    const mfn = this.freeFrames.pop();
    if (mfn === undefined) return 0;
    const host = this.mem.hostOf(mfn);
    this.mem.u8.fill(0, host, host + 4096);
    this.frameWritten(mfn);
    this.pages.owner[mfn] = Owner.guest;
    this.totalPages++;
    return mfn;
  }

  /** The guest gives a frame back; it becomes free when nothing refers to it any more. False when it is not the guest's. */
  releaseGuestFrame(mfn: number): boolean {
    const { pages } = this;
    if (!pages.isGuest(mfn) || pages.relinquished[mfn] !== 0) return false;
    pages.relinquished[mfn] = 1;
    if (pages.refs[mfn] === 0) this.frameFreed(mfn);
    return true;
  }

  /** Tells the CPUs that Xen itself wrote to a guest frame: code decoded from it is stale. */
  frameWritten(mfn: number): void {
    const host = this.mem.hostOf(mfn);
    for (const v of this.vcpus) v.cpu.frameWritten(host);
  }

  /** Host address of a selector's descriptor as a vCPU sees it; 0 when the selector is outside its tables. */
  descriptorAddress(vcpu: number, selector: number): number {
    return descriptorAddress(this, this.vcpus[vcpu] as XenVcpu, selector);
  }

  /** A vCPU's hypercall context. */
  contextOf(v: XenVcpu): CallContext {
    return this.contexts[v.id] as CallContext;
  }

  /**
   * Pins the initial page tables and puts vCPU 0 at the kernel's entry point in the state the ABI promises.
   * 0, or a negated errno when the tables do not pass validation.
   */
  start(boot: BootState): number {
    const result = this.mmu.pin(boot.cr3Mfn, PageType.l4);
    if (result !== 0) return result;
    startBootVcpu(this, boot);
    this.time.publishTimeInfo(0);
    this.time.publishWallClock();
    return 0;
  }

  private frameFreed(mfn: number): void {
    this.pages.relinquished[mfn] = 0;
    this.pages.owner[mfn] = Owner.none;
    this.m2p.clear(mfn);
    this.totalPages--;
    this.freeFrames.push(mfn);
  }
}
