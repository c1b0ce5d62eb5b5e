// SPDX-License-Identifier: MIT
// What the Xen layer needs from a virtual CPU, and register access by state-block offset for its hot paths.

import type { ExitReason } from '../cpu/exits.ts';
import { ST } from '../cpu/layout.ts';
import type { MachineMemoryView, VCpuView } from './context.ts';

/** Register numbers in the instruction encoding's order. */
export const Gpr = {
  rax: 0,
  rcx: 1,
  rdx: 2,
  rbx: 3,
  rsp: 4,
  rbp: 5,
  rsi: 6,
  rdi: 7,
  r8: 8,
  r9: 9,
  r10: 10,
  r11: 11,
} as const;

/** Kinds of memory access, as `GuestCpu.translate` takes them. */
export const Access = { read: 0, write: 1, execute: 2 } as const;
export type Access = (typeof Access)[keyof typeof Access];

/** RFLAGS bits. */
export const Flag = {
  fixed: 0x2,
  tf: 0x100,
  if: 0x200,
  df: 0x400,
  iopl: 0x3000,
  nt: 0x4000,
  rf: 0x10000,
  vm: 0x20000,
  ac: 0x40000,
} as const;

/** Exception vectors. */
export const Vector = {
  divide: 0,
  debug: 1,
  nmi: 2,
  breakpoint: 3,
  overflow: 4,
  invalidOpcode: 6,
  noDevice: 7,
  notPresent: 11,
  stack: 12,
  protection: 13,
  pageFault: 14,
} as const;

/** The part of `VCpu` (engine/cpu) the Xen layer uses. Registers live in the state block at `base` (engine/cpu/layout.ts). */
export interface GuestCpu extends VCpuView {
  /** Host address of the state block. */
  readonly base: number;
  /** Host address of the 64 KiB area `copyIn` copies to. */
  readonly scratch: number;
  /** The architectural RFLAGS image, low 32 bits. */
  getRflags(): number;
  setRflags(value: number): void;
  /** Host address behind a guest linear address with the current rights, or -1; nothing is delivered to the guest. */
  translate(lo: number, hi: number, access: Access): number;
  /** Copies guest bytes to `scratch`; false when any of them faults. */
  copyIn(lo: number, hi: number, bytes: number): boolean;
  /** Makes a machine frame the page-table root; TLB entries of other roots stay. */
  setRoot(mfn: number): void;
  /** The frame is a root no longer: its TLB tags must never match again. */
  forgetRoot(mfn: number): void;
  /** Drops every TLB entry. */
  flushTlb(): void;
  /** Drops the entries of one page, in every address space. */
  invalidatePage(lo: number, hi: number): void;
  /** Drops the entries made from one entry of an L1 table. True: it had been seen at several places, so all entries of all tables were dropped. */
  entryChanged(l1mfn: number, index: number): boolean;
  /** No live TLB entry of any vCPU comes from the L1 table: where it was seen may be forgotten, so that `entryChanged` is precise again. */
  forgetTable?(l1mfn: number): void;
  /** Xen itself wrote to the frame at `hostFrame`: code decoded from it is stale. */
  frameWritten(hostFrame: number): void;
  /**
   * Executes exactly one instruction, allowing it to write to the frame at `hostFrame` although no mapping of it is
   * writable, and leaving no writable TLB entry. `Exit.Budget` means it completed.
   */
  stepWithWritable(hostFrame: number): ExitReason;
  /**
   * Loads a segment register (numbers as `Seg`) as IRET or MOV at CPL 3 would, from the Xen GDT/LDT.
   * False on a fault, with vector and error code in the state block and the register unchanged.
   */
  loadSegment(segment: number, selector: number): boolean;
  /** Sets CR0.TS: while set, x87 and SSE instructions raise #NM. */
  setTaskSwitched(on: boolean): void;
  /** Arms the breakpoints of the debug registers: DR7, and DR0 to DR3 as halves. */
  setBreakpoints(control: number, lo: ArrayLike<number>, hi: ArrayLike<number>): void;
  /** Sets the CR4 bits a PV guest controls (TSD, DE). */
  setGuestCr4(bits: number): void;
}

/** Tells the vCPU that Xen wrote at a host address. */
export function noteWrite(cpu: GuestCpu, host: number): void {
  cpu.frameWritten((host & -4096) >>> 0);
}

/** Index of a general register's low half in the u32 view; the high half follows. */
export function gprIndex(cpu: GuestCpu, register: number): number {
  return (cpu.base + ST.gpr + register * 8) >>> 2;
}

/** Stores a signed JS integer (|value| below 2^53) into a general register. */
export function setGprNumber(mem: MachineMemoryView, cpu: GuestCpu, register: number, value: number): void {
  const at = gprIndex(cpu, register);
  mem.u32[at] = value >>> 0;
  mem.u32[at + 1] = Math.floor(value / 0x100000000) >>> 0;
}

/** Whether (lo, hi) is a canonical 48-bit address. */
export function isCanonical(hi: number): boolean {
  const top = hi >>> 15;
  return top === 0 || top === 0x1ffff;
}

/** Whether an address lies in the area Xen keeps for itself (0xffff800000000000 to 0xffff87ffffffffff). */
export function isXenAddress(hi: number): boolean {
  return hi >= 0xffff8000 && hi <= 0xffff87ff;
}
