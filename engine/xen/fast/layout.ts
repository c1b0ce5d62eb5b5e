// SPDX-License-Identifier: MIT
// Where Xen's state of a PV vCPU lies in its state block: shared by `XenVcpu` and the generated fast paths, so that there is only one.

import { ST } from '../../cpu/layout.ts';

const base = ST.personality;

/** Bytes of a registered entry point: address u64, u32 whether it masks events, 4 unused. */
export const callbackBytes = 16;
/** Hypercall numbers below this are counted. */
export const hypercallNumbers = 64;

/** Offsets relative to the vCPU's base; u32 unless noted. */
export const XS = {
  kernelMode: base + 0x00,
  /** MFNs of the page-table roots, 0 = none. */
  kernelRoot: base + 0x04,
  userRoot: base + 0x08,
  /** Host address of vcpu_info, 0 = none. */
  info: base + 0x0c,
  /** u64: GS base of the mode the vCPU is not in. */
  gsInactive: base + 0x10,
  /** u64 */
  kernelSp: base + 0x18,
  kernelSs: base + 0x20,
  nmiMasked: base + 0x24,
  ldtEntries: base + 0x28,
  /** Host address of the page of Xen's reserved GDT entries. */
  reservedGdt: base + 0x2c,
  /** MFNs of the guest's GDT pages, 0 = none. */
  gdtFrames: base + 0x30,
  /** Entry points, see `callbackBytes`. */
  eventCallback: base + 0x70,
  failsafeCallback: base + 0x80,
  syscallCallback: base + 0x90,
  syscall32Callback: base + 0xa0,
  sysenterCallback: base + 0xb0,
  /** vm_assist types enabled for the domain. */
  vmAssists: base + 0xc0,
  /** 1 when this is the domain's only vCPU: no other TLB has to follow changes of page tables. */
  isOnly: base + 0xc4,
  /** Frames that the tables per frame describe (0 = they are not in this memory), and the tables' host addresses (page-types.ts). */
  frames: base + 0xc8,
  frameTypeCount: base + 0xcc,
  frameRefs: base + 0xd0,
  frameOwner: base + 0xd4,
  frameType: base + 0xd8,
  frameRelinquished: base + 0xdc,
  /** f64: stores to page tables carried out for vm_assist writable_pagetables. */
  emulatedStores: base + 0xe0,
  /** Virtual I/O privilege level, 0 to 3. */
  iopl: base + 0xe8,
  /** f64 each: hypercalls made, by number. */
  hypercallCounts: base + 0x100,
  /** f64 each: exceptions and soft interrupts delivered, by vector. */
  trapCounts: base + 0x400,
  /** Trap table: u64 address, u8 flags, u16 selector per vector, as three arrays. */
  trapAddress: base + 0xc00,
  trapFlags: base + 0x1400,
  trapSelector: base + 0x1500,
} as const;
