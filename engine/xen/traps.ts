// SPDX-License-Identifier: MIT
// Delivery of exceptions, soft interrupts and events to a 64-bit PV kernel: the bounce frame (Xen entry.S, create_bounce_frame).

import { ST, Seg } from '../cpu/layout.ts';
import type { Domain } from './domain.ts';
import { Access, Flag, Gpr, gprIndex, isXenAddress, noteWrite, Vector } from './guest-cpu.ts';
import { Selector, TrapFlag, type XenVcpu } from './vcpu-state.ts';

/** Exceptions that push an error code: 8, 10 to 14, 17 and 21. */
const HAS_ERROR_CODE = 0x00227d00;
/** Flags a handler starts without. */
const CLEARED_ON_ENTRY = Flag.ac | Flag.vm | Flag.rf | Flag.nt | Flag.tf;
const PAGE_BYTES = 4096;
/** Page-fault error code bit: the access came from user mode. */
const FAULT_USER = 4;

const vectorNames = [
  'divide error',
  'debug',
  'NMI',
  'breakpoint',
  'overflow',
  'bounds',
  'invalid opcode',
  'device not available',
  'double fault',
  'coprocessor overrun',
  'invalid TSS',
  'segment not present',
  'stack fault',
  'general protection',
  'page fault',
  'reserved',
  'x87 error',
  'alignment check',
  'machine check',
  'SIMD error',
];

/** Address of an instruction or stack, for crash messages. */
function hex64(lo: number, hi: number): string {
  return `0x${(hi >>> 0).toString(16)}${(lo >>> 0).toString(16).padStart(8, '0')}`;
}

/** Where the vCPU is, for crash messages: "rip=... rsp=... (kernel)". */
export function describeContext(domain: Domain, v: XenVcpu): string {
  const { u32 } = domain.mem;
  const rip = (v.cpu.base + ST.rip) >>> 2;
  const rsp = gprIndex(v.cpu, Gpr.rsp);
  const at = (index: number): string => hex64(u32[index], u32[index + 1]);
  return `vCPU ${v.id}, rip=${at(rip)}, rsp=${at(rsp)}, ${v.kernelMode ? 'kernel' : 'user'} mode`;
}

/**
 * Enters the guest kernel at an address with a bounce frame on its stack: on the current stack when it interrupts the
 * kernel, else on the registered kernel stack after changing to kernel mode. `errorCode` -1 = the frame has none.
 * Crashes the domain when there is no entry point or no usable stack.
 */
export function bounce(
  domain: Domain,
  v: XenVcpu,
  entryLo: number,
  entryHi: number,
  errorCode: number,
  maskEvents: boolean,
): void {
  const { cpu } = v;
  const { u8, u16, u32 } = domain.mem;
  const selectors = (cpu.base + ST.selector) >>> 1;
  const rip = (cpu.base + ST.rip) >>> 2;
  const gpr = (cpu.base + ST.gpr) >>> 2;
  const oldSpLo = u32[gpr + Gpr.rsp * 2];
  const oldSpHi = u32[gpr + Gpr.rsp * 2 + 1];
  let cs = u16[selectors + Seg.cs];
  const ss = u16[selectors + Seg.ss];
  if ((entryLo | entryHi) === 0) {
    domain.crash(`the guest kernel registered no handler for what happened at ${describeContext(domain, v)}`);
    return;
  }
  let spLo = oldSpLo;
  let spHi = oldSpHi;
  if (v.kernelMode) {
    cs &= 0xfffc;
  } else {
    spLo = v.kernelSpLo;
    spHi = v.kernelSpHi;
    v.toggleMode();
  }
  const bytes = errorCode < 0 ? 56 : 64;
  const topLo = (spLo & ~15) >>> 0;
  const frameLo = (topLo - bytes) >>> 0;
  const frameHi = topLo < bytes ? (spHi - 1) >>> 0 : spHi;
  // Where the frame reaches the next page; slots are 8-byte aligned, so none lies across.
  const split = PAGE_BYTES - (frameLo & (PAGE_BYTES - 1));
  const first = isXenAddress(frameHi) ? -1 : cpu.translate(frameLo, frameHi, Access.write);
  let second = 0;
  if (first !== -1 && split < bytes) {
    const nextLo = (frameLo + split) >>> 0;
    second = cpu.translate(nextLo, nextLo === 0 ? (frameHi + 1) >>> 0 : frameHi, Access.write);
  }
  if (first === -1 || second === -1) {
    domain.crash(
      `the guest's kernel stack at ${hex64(frameLo, frameHi)} cannot be written (${describeContext(domain, v)})`,
    );
    return;
  }
  const { info } = v;
  const savedMask = u8[info + 1];
  const flags = cpu.getRflags();
  let at = slotIndex(0, split, first, second);
  u32[at] = u32[gpr + Gpr.rcx * 2];
  u32[at + 1] = u32[gpr + Gpr.rcx * 2 + 1];
  at = slotIndex(8, split, first, second);
  u32[at] = u32[gpr + Gpr.r11 * 2];
  u32[at + 1] = u32[gpr + Gpr.r11 * 2 + 1];
  let offset = 16;
  if (errorCode >= 0) {
    at = slotIndex(16, split, first, second);
    u32[at] = errorCode;
    u32[at + 1] = 0;
    offset = 24;
  }
  at = slotIndex(offset, split, first, second);
  u32[at] = u32[rip];
  u32[at + 1] = u32[rip + 1];
  at = slotIndex(offset + 8, split, first, second);
  u32[at] = cs;
  u32[at + 1] = savedMask;
  at = slotIndex(offset + 16, split, first, second);
  u32[at] =
    (flags & ~(Flag.if | Flag.iopl)) | (savedMask === 0 ? Flag.if : 0) | (domain.architecturalIopl ? v.iopl << 12 : 0);
  u32[at + 1] = 0;
  at = slotIndex(offset + 24, split, first, second);
  u32[at] = oldSpLo;
  u32[at + 1] = oldSpHi;
  at = slotIndex(offset + 32, split, first, second);
  u32[at] = ss;
  u32[at + 1] = 0;

  noteWrite(cpu, first);
  if (second !== 0) noteWrite(cpu, second);

  if (maskEvents) u8[info + 1] = 1;
  u32[gpr + Gpr.rsp * 2] = frameLo;
  u32[gpr + Gpr.rsp * 2 + 1] = frameHi;
  u32[rip] = entryLo;
  u32[rip + 1] = entryHi;
  cpu.setRflags((flags & ~CLEARED_ON_ENTRY) | Flag.if);
  loadFlatSegments(domain, v);
}

/** Index in the u32 view of the slot at byte `offset` of a frame that continues at `second` after `split` bytes. */
function slotIndex(offset: number, split: number, first: number, second: number): number {
  return (offset < split ? first + offset : second + offset - split) >>> 2;
}

/** Gives the vCPU the flat code and stack segments in which the guest kernel is entered. */
export function loadFlatSegments(domain: Domain, v: XenVcpu): void {
  const selectors = (v.cpu.base + ST.selector) >>> 1;
  if (domain.mem.u16[selectors + Seg.cs] !== Selector.flatCode64) v.cpu.loadSegment(Seg.cs, Selector.flatCode64);
  if (domain.mem.u16[selectors + Seg.ss] !== Selector.flatData) v.cpu.loadSegment(Seg.ss, Selector.flatData);
}

/** Delivers an exception through the guest's trap table. `errorCode` is ignored for vectors that have none. */
export function injectTrap(domain: Domain, v: XenVcpu, vector: number, errorCode: number): void {
  v.trapCounts[vector]++;
  const lo = v.trapAddress[vector * 2];
  const hi = v.trapAddress[vector * 2 + 1];
  if ((lo | hi) === 0) {
    domain.crash(
      `unhandled exception ${vector} (${vectorNames[vector] ?? 'reserved'}), error code 0x${errorCode.toString(16)}, at ` +
        describeContext(domain, v),
    );
    return;
  }
  const code = vector < 32 && ((HAS_ERROR_CODE >>> vector) & 1) !== 0 ? errorCode : -1;
  bounce(domain, v, lo, hi, code, (v.trapFlags[vector] & TrapFlag.maskEvents) !== 0);
}

/** Delivers a soft interrupt (INT n) through the guest's trap table: no error code, whatever the vector. */
export function injectSoftInterrupt(domain: Domain, v: XenVcpu, vector: number): void {
  v.trapCounts[vector]++;
  const mask = (v.trapFlags[vector] & TrapFlag.maskEvents) !== 0;
  bounce(domain, v, v.trapAddress[vector * 2], v.trapAddress[vector * 2 + 1], -1, mask);
}

/** Delivers a page fault: the address is mirrored in vcpu_info, and the user bit says guest user mode, not CPL. */
export function injectPageFault(
  domain: Domain,
  v: XenVcpu,
  errorCode: number,
  addressLo: number,
  addressHi: number,
): void {
  setCr2(domain, v, addressLo, addressHi);
  injectTrap(domain, v, Vector.pageFault, v.kernelMode ? errorCode & ~FAULT_USER : errorCode | FAULT_USER);
}

/** Sets the virtual CR2, which lives in vcpu_info.arch.cr2. */
export function setCr2(domain: Domain, v: XenVcpu, lo: number, hi: number): void {
  const at = (v.info + 0x10) >>> 2;
  domain.mem.u32[at] = lo;
  domain.mem.u32[at + 1] = hi;
}

/** Delivers what is pending and accepted: an NMI, then events. To be called whenever the vCPU is about to run guest code. */
export function deliverPending(domain: Domain, v: XenVcpu): void {
  if (v.nmiPending && !v.nmiMasked && domain.shutdown === null) {
    v.nmiPending = false;
    v.nmiMasked = true;
    injectTrap(domain, v, Vector.nmi, 0);
  }
  const { u8 } = domain.mem;
  const { info } = v;
  if (info !== 0 && u8[info] !== 0 && u8[info + 1] === 0 && domain.shutdown === null) {
    domain.upcalls++;
    const { lo, hi } = v.eventCallback;
    bounce(domain, v, lo, hi, -1, true);
  }
}
