// SPDX-License-Identifier: MIT
// The contract between the hypercall dispatcher and the hypercall families: what a handler may see of the machine.

import type { Counters } from './counters.ts';
import type { EventChannels } from './events.ts';
import type { GrantTable } from './grants.ts';
import type { Scheduler } from './sched.ts';
import type { DomainTime } from './time.ts';

/** Domain id that means "the caller" in every hypercall (public/xen.h). */
export const DOMID_SELF = 0x7ff0;
/** Domain id naming device memory. */
export const DOMID_IO = 0x7ff1;
/** First reserved domain id: numbers from here on never name a real domain. */
export const DOMID_FIRST_RESERVED = 0x7ff0;
/** The control domain, which is us: back ends, xenstore and the console daemon live there. */
export const DOMID_CONTROL = 0;

/** The part of `MachineMemory` the Xen layer uses; all views cover the whole machine memory. */
export interface MachineMemoryView {
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly view: DataView;
  /** Host address of a machine frame's first byte, 0 when there is no such frame. */
  hostOf(mfn: number): number;
}

/** The part of `VCpu` the hypercall families use. */
export interface VCpuView {
  readonly id: number;
}

/** Access to guest linear addresses with the rights of the calling vCPU; addresses are (low, high) 32-bit halves. */
export interface GuestAccess {
  /**
   * Copies `len` bytes (at most 65,536) in and returns the host address of the copy, or -1 when any byte faults.
   * The copy is 16-byte aligned, private to the caller, and valid until the next `copyIn`.
   */
  copyIn(lo: number, hi: number, len: number): number;
  /** Copies `src` out; false when any byte faults (bytes before the fault may have been written). */
  copyOut(lo: number, hi: number, src: Uint8Array): boolean;
}

/** What the hypercall families see of a domain; the `Domain` class satisfies it. */
export interface DomainView {
  /** The guest's own domain id (never 0). */
  readonly domid: number;
  /** How many vCPUs exist, running or not; ids are 0 to count - 1. */
  readonly vcpuCount: number;
  readonly counters: Counters;
  readonly events: EventChannels;
  readonly grants: GrantTable;
  readonly time: DomainTime;
  readonly sched: Scheduler;
}

/**
 * One hypercall in progress. The dispatcher reuses one object per vCPU: handlers must not keep it.
 * Handlers return the result as a JS number: a value >= 0, or a negated error number of `errno.ts`.
 */
export interface HypercallContext {
  readonly domain: DomainView;
  readonly vcpu: VCpuView;
  readonly mem: MachineMemoryView;
  readonly guest: GuestAccess;
  /** Bytes in a guest `unsigned long` and pointer: 8 for a 64-bit guest, 4 for a 32-bit one. */
  readonly wordSize: 4 | 8;
  /**
   * The (up to six) arguments as halves: argument n is `argLo[n]`, `argHi[n]`, both unsigned.
   * For a 32-bit guest `argHi` is always 0. A multicall loads them anew for every entry.
   */
  readonly argLo: Uint32Array;
  readonly argHi: Uint32Array;
}

/** A hypercall family's entry point. */
export type HypercallHandler = (ctx: HypercallContext) => number;

/** Low half of a guest address moved on by `bytes` (0 to 2^32 - 1). */
export function advanceLo(lo: number, bytes: number): number {
  return (lo + bytes) >>> 0;
}

/** High half of a guest address moved on by `bytes` (0 to 2^32 - 1). */
export function advanceHi(lo: number, hi: number, bytes: number): number {
  return lo + bytes > 0xffffffff ? (hi + 1) >>> 0 : hi;
}

/** Low half of a guest word (long or pointer) stored at a 4-byte aligned host address. */
export function wordLo(ctx: HypercallContext, at: number): number {
  return ctx.mem.u32[at >>> 2];
}

/** High half of a guest word stored at a 4-byte aligned host address; 0 for a 32-bit guest. */
export function wordHi(ctx: HypercallContext, at: number): number {
  return ctx.wordSize === 8 ? ctx.mem.u32[(at >>> 2) + 1] : 0;
}

/** An unsigned 64-bit quantity as a JS number; exact below 2^53, rounded above. */
export function u64Number(lo: number, hi: number): number {
  return hi * 0x100000000 + lo;
}

/** A signed 64-bit quantity as a JS number; exact between -2^53 and 2^53, rounded outside. */
export function s64Number(lo: number, hi: number): number {
  return (hi | 0) * 0x100000000 + lo;
}

/** Stores a non-negative integer below 2^53 as a little-endian u64 at an 4-byte aligned host address. */
export function storeU64(mem: MachineMemoryView, at: number, value: number): void {
  mem.u32[at >>> 2] = value >>> 0;
  mem.u32[(at >>> 2) + 1] = Math.floor(value / 0x100000000) >>> 0;
}

/** Reads a little-endian u64 at a 4-byte aligned host address as a JS number (exact below 2^53). */
export function loadU64(mem: MachineMemoryView, at: number): number {
  return u64Number(mem.u32[at >>> 2], mem.u32[(at >>> 2) + 1]);
}
