// SPDX-License-Identifier: MIT
// What Xen keeps per virtual CPU of a PV guest beside the registers: trap table, callbacks, stacks, roots, virtual flags.

import { ST, Seg } from '../cpu/layout.ts';
import type { MachineMemoryView, VCpuView } from './context.ts';
import { hypercallNumbers, XS } from './fast/layout.ts';
import type { GuestCpu } from './guest-cpu.ts';
import type { PageTypes } from './page-types.ts';

/** Selectors of Xen's reserved GDT entries as a 64-bit guest uses them (public/arch-x86/xen-x86_64.h). */
export const Selector = {
  userCode32: 0xe023,
  flatData: 0xe02b,
  flatCode64: 0xe033,
} as const;

/** A registered entry point of the guest kernel. Address 0 = not registered. */
export interface Callback {
  lo: number;
  hi: number;
  /** Whether upcall_mask is set on entry. */
  maskEvents: boolean;
}

/** Flag bits of a trap table entry. */
export const TrapFlag = { dpl: 3, maskEvents: 4 } as const;

export const DR6_DEFAULT = 0xffff0ff0;
export const DR7_DEFAULT = 0x400;

/** GDT pages a guest may own; pages 14 and 15 are Xen's. */
export const GUEST_GDT_PAGES = 14;

/** A callback kept in the state block. */
class StoredCallback implements Callback {
  private readonly u32: Uint32Array;
  private readonly at: number;

  constructor(u32: Uint32Array, host: number) {
    this.u32 = u32;
    this.at = host >>> 2;
  }

  get lo(): number {
    return this.u32[this.at];
  }
  set lo(value: number) {
    this.u32[this.at] = value;
  }
  get hi(): number {
    return this.u32[this.at + 1];
  }
  set hi(value: number) {
    this.u32[this.at + 1] = value;
  }
  get maskEvents(): boolean {
    return this.u32[this.at + 2] !== 0;
  }
  set maskEvents(value: boolean) {
    this.u32[this.at + 2] = value ? 1 : 0;
  }
}

/**
 * State of one vCPU of a 64-bit PV guest. Addresses are kept as (lo, hi) halves. What the generated fast paths use lies in
 * the vCPU's state block (fast/layout.ts); the properties here read and write it there.
 */
export class XenVcpu implements VCpuView {
  readonly id: number;
  readonly cpu: GuestCpu;
  private readonly u32: Uint32Array;
  /** Index of the state block in the u32 view. */
  private readonly block: number;

  /** VCPUOP_initialise was done (vCPU 0: by the domain builder). */
  initialised = false;
  /** I/O permission bitmap: guest address and number of ports it covers. */
  ioBitmapLo = 0;
  ioBitmapHi = 0;
  ioBitmapPorts = 0;
  /** Virtual CR0.TS. */
  taskSwitched = false;
  /** CR4 bits chosen by the guest. */
  cr4 = 0;
  tscAux = 0;
  /** Debug registers 0-7 as halves; 4 and 5 are unused. */
  readonly debugLo = new Uint32Array(8);
  readonly debugHi = new Uint32Array(8);
  /** Trap table: address halves at 2n and 2n+1, flags (`TrapFlag`), selector. */
  readonly trapAddress: Uint32Array;
  readonly trapFlags: Uint8Array;
  readonly trapSelector: Uint16Array;
  readonly eventCallback: Callback;
  readonly failsafeCallback: Callback;
  readonly syscallCallback: Callback;
  readonly syscall32Callback: Callback;
  readonly sysenterCallback: Callback;
  /** An NMI waits for delivery; NMIs are masked from delivery to the next HYPERVISOR_iret. */
  nmiPending = false;
  /** Guest GDT: MFNs of its pages and number of entries. */
  readonly gdtFrames: Uint32Array;
  gdtEntries = 0;
  /** Guest LDT: linear base, number of entries, and MFNs of the pages used so far (0 = not looked up yet). */
  ldtLo = 0;
  ldtHi = 0;
  readonly ldtFrames = new Uint32Array(16);
  /** The current hypercall replaced the guest's registers (iret): no result may be stored. */
  frameReplaced = false;
  /** Hypercalls made, by number. */
  readonly hypercallCounts: Float64Array;
  /** Exceptions and soft interrupts delivered, by vector. */
  readonly trapCounts: Float64Array;
  private readonly storeCount: Float64Array;

  constructor(id: number, cpu: GuestCpu, mem: MachineMemoryView) {
    this.id = id;
    this.cpu = cpu;
    const { base } = cpu;
    const { buffer } = mem.u8;
    this.u32 = mem.u32;
    this.block = base >>> 2;
    this.trapAddress = new Uint32Array(buffer, base + XS.trapAddress, 512);
    this.trapFlags = new Uint8Array(buffer, base + XS.trapFlags, 256);
    this.trapSelector = new Uint16Array(buffer, base + XS.trapSelector, 256);
    this.gdtFrames = new Uint32Array(buffer, base + XS.gdtFrames, GUEST_GDT_PAGES);
    this.hypercallCounts = new Float64Array(buffer, base + XS.hypercallCounts, hypercallNumbers);
    this.trapCounts = new Float64Array(buffer, base + XS.trapCounts, 256);
    this.storeCount = new Float64Array(buffer, base + XS.emulatedStores, 1);
    const callback = (offset: number): Callback => new StoredCallback(mem.u32, base + offset);
    this.eventCallback = callback(XS.eventCallback);
    this.failsafeCallback = callback(XS.failsafeCallback);
    this.syscallCallback = callback(XS.syscallCallback);
    this.syscall32Callback = callback(XS.syscall32Callback);
    this.sysenterCallback = callback(XS.sysenterCallback);
    this.kernelMode = true;
    this.kernelSs = Selector.flatData;
    this.resetDebugRegisters();
  }

  private get(offset: number): number {
    return this.u32[this.block + (offset >>> 2)];
  }

  private set(offset: number, value: number): void {
    this.u32[this.block + (offset >>> 2)] = value;
  }

  /** In the kernel (syscall = hypercall, kernel root) or in user code; both run at CPL 3. */
  get kernelMode(): boolean {
    return this.get(XS.kernelMode) !== 0;
  }
  set kernelMode(value: boolean) {
    this.set(XS.kernelMode, value ? 1 : 0);
  }

  /** Virtual I/O privilege level, 0 to 3. */
  get iopl(): number {
    return this.get(XS.iopl);
  }
  set iopl(value: number) {
    this.set(XS.iopl, value);
  }

  /** MFNs of the page-table roots; 0 = none. */
  get kernelRoot(): number {
    return this.get(XS.kernelRoot);
  }
  set kernelRoot(mfn: number) {
    this.set(XS.kernelRoot, mfn);
  }
  get userRoot(): number {
    return this.get(XS.userRoot);
  }
  set userRoot(mfn: number) {
    this.set(XS.userRoot, mfn);
  }

  /** GS base of the mode the vCPU is not in: swapped with the live one at each change of mode. */
  get gsInactiveLo(): number {
    return this.get(XS.gsInactive);
  }
  set gsInactiveLo(value: number) {
    this.set(XS.gsInactive, value);
  }
  get gsInactiveHi(): number {
    return this.get(XS.gsInactive + 4);
  }
  set gsInactiveHi(value: number) {
    this.set(XS.gsInactive + 4, value);
  }

  /** Where exceptions from user mode put their frame. */
  get kernelSs(): number {
    return this.get(XS.kernelSs);
  }
  set kernelSs(value: number) {
    this.set(XS.kernelSs, value);
  }
  get kernelSpLo(): number {
    return this.get(XS.kernelSp);
  }
  set kernelSpLo(value: number) {
    this.set(XS.kernelSp, value);
  }
  get kernelSpHi(): number {
    return this.get(XS.kernelSp + 4);
  }
  set kernelSpHi(value: number) {
    this.set(XS.kernelSp + 4, value);
  }

  get nmiMasked(): boolean {
    return this.get(XS.nmiMasked) !== 0;
  }
  set nmiMasked(value: boolean) {
    this.set(XS.nmiMasked, value ? 1 : 0);
  }

  get ldtEntries(): number {
    return this.get(XS.ldtEntries);
  }
  set ldtEntries(value: number) {
    this.set(XS.ldtEntries, value);
  }

  /** Stores to page tables carried out for vm_assist writable_pagetables. */
  get emulatedStores(): number {
    return this.storeCount[0];
  }
  set emulatedStores(value: number) {
    this.storeCount[0] = value;
  }

  /** Host address of the vCPU's vcpu_info, 0 while it has none. */
  get info(): number {
    return this.get(XS.info);
  }

  /** The root that the page walker uses in the current mode. */
  get currentRoot(): number {
    return this.kernelMode ? this.kernelRoot : this.userRoot;
  }

  resetDebugRegisters(): void {
    this.debugLo.fill(0);
    this.debugHi.fill(0);
    this.debugLo[6] = DR6_DEFAULT;
    this.debugLo[7] = DR7_DEFAULT;
  }

  /** Changes between kernel and user mode: exchanges the GS bases and the page-table root. The new root must exist. */
  toggleMode(): void {
    this.kernelMode = !this.kernelMode;
    const at = this.block + ((ST.segBase + Seg.gs * 8) >>> 2);
    const lo = this.u32[at];
    const hi = this.u32[at + 1];
    this.u32[at] = this.gsInactiveLo;
    this.u32[at + 1] = this.gsInactiveHi;
    this.gsInactiveLo = lo;
    this.gsInactiveHi = hi;
    this.cpu.setRoot(this.currentRoot);
  }

  /** Tells the fast paths which vm_assist types the domain has enabled. */
  publishAssists(types: number): void {
    this.set(XS.vmAssists, types);
  }

  /** Tells the fast paths where the domain's tables are, as far as they lie in the machine's memory. */
  publishDomain(pages: PageTypes, reservedGdt: number, vcpuCount: number): void {
    this.set(XS.reservedGdt, reservedGdt);
    this.set(XS.isOnly, vcpuCount === 1 ? 1 : 0);
    if (pages.refs.buffer !== this.u32.buffer) return;
    this.set(XS.frames, pages.frames);
    this.set(XS.frameTypeCount, pages.typeCount.byteOffset);
    this.set(XS.frameRefs, pages.refs.byteOffset);
    this.set(XS.frameOwner, pages.owner.byteOffset);
    this.set(XS.frameType, pages.type.byteOffset);
    this.set(XS.frameRelinquished, pages.relinquished.byteOffset);
  }

  setTaskSwitched(on: boolean): void {
    this.taskSwitched = on;
    this.cpu.setTaskSwitched(on);
  }
}
