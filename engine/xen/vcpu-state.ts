// SPDX-License-Identifier: MIT
// What Xen keeps per virtual CPU of a PV guest beside the registers: trap table, callbacks, stacks, roots, virtual flags.

import { ST, Seg } from '../cpu/layout.ts';
import type { EventChannels } from './events.ts';
import type { GuestCpu } from './guest-cpu.ts';
import type { VCpuView } from './context.ts';

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

const callback = (): Callback => ({ lo: 0, hi: 0, maskEvents: false });

/** State of one vCPU of a 64-bit PV guest. Addresses are kept as (lo, hi) halves. */
export class XenVcpu implements VCpuView {
  readonly id: number;
  readonly cpu: GuestCpu;
  private readonly u32: Uint32Array;
  private readonly infos: Uint32Array;

  /** VCPUOP_initialise was done (vCPU 0: by the domain builder). */
  initialised = false;
  /** In the kernel (syscall = hypercall, kernel root) or in user code; both run at CPL 3. */
  kernelMode = true;
  /** MFNs of the page-table roots; 0 = none. */
  kernelRoot = 0;
  userRoot = 0;
  /** GS base of the mode the vCPU is not in: swapped with the live one at each change of mode. */
  gsInactiveLo = 0;
  gsInactiveHi = 0;
  /** Where exceptions from user mode put their frame. */
  kernelSs: number = Selector.flatData;
  kernelSpLo = 0;
  kernelSpHi = 0;
  /** Virtual I/O privilege level, 0 to 3. */
  iopl = 0;
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
  readonly trapAddress = new Uint32Array(512);
  readonly trapFlags = new Uint8Array(256);
  readonly trapSelector = new Uint16Array(256);
  readonly eventCallback = callback();
  readonly failsafeCallback = callback();
  readonly syscallCallback = callback();
  readonly syscall32Callback = callback();
  readonly sysenterCallback = callback();
  /** An NMI waits for delivery; NMIs are masked from delivery to the next HYPERVISOR_iret. */
  nmiPending = false;
  nmiMasked = false;
  /** Guest GDT: MFNs of its pages and number of entries. */
  readonly gdtFrames = new Uint32Array(GUEST_GDT_PAGES);
  gdtEntries = 0;
  /** Guest LDT: linear base, number of entries, and MFNs of the pages used so far (0 = not looked up yet). */
  ldtLo = 0;
  ldtHi = 0;
  ldtEntries = 0;
  readonly ldtFrames = new Uint32Array(16);
  /** The current hypercall replaced the guest's registers (iret): no result may be stored. */
  frameReplaced = false;

  constructor(id: number, cpu: GuestCpu, u32: Uint32Array, events: EventChannels) {
    this.id = id;
    this.cpu = cpu;
    this.u32 = u32;
    this.infos = events.data.vcpuInfo;
    this.resetDebugRegisters();
  }

  /** Host address of the vCPU's vcpu_info, 0 while it has none. */
  get info(): number {
    return this.infos[this.id];
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
    const at = (this.cpu.base + ST.segBase + Seg.gs * 8) >>> 2;
    const lo = this.u32[at];
    const hi = this.u32[at + 1];
    this.u32[at] = this.gsInactiveLo;
    this.u32[at + 1] = this.gsInactiveHi;
    this.gsInactiveLo = lo;
    this.gsInactiveHi = hi;
    this.cpu.setRoot(this.kernelMode ? this.kernelRoot : this.userRoot);
  }

  setTaskSwitched(on: boolean): void {
    this.taskSwitched = on;
    this.cpu.setTaskSwitched(on);
  }
}
