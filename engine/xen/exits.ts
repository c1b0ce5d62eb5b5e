// SPDX-License-Identifier: MIT
// What Xen does when guest code stops running: hypercalls, exceptions, soft interrupts, system-call entries.

import { Exit, type ExitReason } from '../cpu/exits.ts';
import { Hold } from '../cpu/hooks.ts';
import { ST, Seg } from '../cpu/layout.ts';
import type { Domain } from './domain.ts';
import { Flag, Gpr, gprIndex, Vector } from './guest-cpu.ts';
import { PtwrResult } from './ptwr.ts';
import { bounce, deliverPending, injectPageFault, injectSoftInterrupt, injectTrap, loadFlatSegments } from './traps.ts';
import { Selector, TrapFlag, type Callback, type XenVcpu } from './vcpu-state.ts';

/** Page-fault error code bits. */
const FAULT_PRESENT = 1;
const FAULT_WRITE = 2;
const INT80 = 0x80;
const INT_BYTES = 2;
const SYSCALL_BYTES = 2;
/** Selector of the null code segment that stands for "unknown" in a SYSENTER frame. */
const UNKNOWN_CODE = 3;

/**
 * Handles what `GuestCpu.run` returned, up to the point where the vCPU can run again: pending events are delivered.
 * Afterwards look at `domain.shutdown` and `domain.sched.state(v.id)`.
 */
export function handleExit(domain: Domain, v: XenVcpu, exit: ExitReason): void {
  domain.current = v;
  dispatchExit(domain, v, exit);
  if (domain.shutdown === null) returnToGuest(domain, v);
}

/** To be called before a vCPU runs after having been idle: writes a stale runstate area, delivers what is pending. */
export function returnToGuest(domain: Domain, v: XenVcpu): void {
  domain.current = v;
  if (v.kernelMode) domain.time.flushRunstate(v.id);
  deliverPending(domain, v);
  holdFastPaths(domain, v);
}

/** Keeps the fast paths from being used while something is on that only this file sees to. */
function holdFastPaths(domain: Domain, v: XenVcpu): void {
  const hold =
    !domain.fastPaths ||
    domain.shutdown !== null ||
    v.nmiPending ||
    domain.obeyFlushes ||
    domain.architecturalIopl ||
    domain.hypercalls.trace !== null ||
    domain.time.isRunstateStale(v.id);
  domain.mem.u32[(v.cpu.base + ST.holdHooks) >>> 2] = hold ? Hold.platform : 0;
}

function dispatchExit(domain: Domain, v: XenVcpu, exit: ExitReason): void {
  const { u32 } = domain.mem;
  switch (exit) {
    case Exit.Budget:
      return;
    case Exit.Syscall:
      if (v.kernelMode) hypercall(domain, v);
      else syscallEntry(domain, v);
      return;
    case Exit.Exception:
      handleException(domain, v, u32[(v.cpu.base + ST.vector) >>> 2], u32[(v.cpu.base + ST.errorCode) >>> 2]);
      return;
    case Exit.SoftInt:
      handleSoftInterrupt(domain, v, u32[(v.cpu.base + ST.exitArg) >>> 2]);
      return;
    case Exit.Sysenter:
      sysenterEntry(domain, v);
      return;
    case Exit.Halt:
      // HLT is privileged and PV guests never have CPL 0.
      injectTrap(domain, v, Vector.protection, 0);
  }
}

/** SYSCALL in the guest kernel. The instruction's own effects on rcx, r11, cs and ss come first. */
function hypercall(domain: Domain, v: XenVcpu): void {
  applySyscallRegisters(domain, v);
  loadFlatSegments(domain, v);
  domain.hypercalls.dispatch(v);
}

/** rcx = return address, r11 = flags. */
function applySyscallRegisters(domain: Domain, v: XenVcpu): void {
  const { u32 } = domain.mem;
  const gpr = gprIndex(v.cpu, 0);
  const rip = (v.cpu.base + ST.rip) >>> 2;
  u32[gpr + Gpr.rcx * 2] = u32[rip];
  u32[gpr + Gpr.rcx * 2 + 1] = u32[rip + 1];
  u32[gpr + Gpr.r11 * 2] = v.cpu.getRflags() | Flag.if;
  u32[gpr + Gpr.r11 * 2 + 1] = 0;
}

/** SYSCALL in user mode: enters the guest kernel at its callback for 64-bit or 32-bit code. */
function syscallEntry(domain: Domain, v: XenVcpu): void {
  const is64 = domain.mem.i32[(v.cpu.base + ST.mode) >>> 2] === 64;
  const callback = is64 ? v.syscallCallback : v.syscall32Callback;
  if ((callback.lo | callback.hi) === 0) {
    rewind(domain, v, SYSCALL_BYTES);
    injectTrap(domain, v, Vector.invalidOpcode, 0);
    return;
  }
  applySyscallRegisters(domain, v);
  const code = is64 ? Selector.flatCode64 : Selector.userCode32;
  const selectors = (v.cpu.base + ST.selector) >>> 1;
  if (domain.mem.u16[selectors + Seg.cs] !== code) v.cpu.loadSegment(Seg.cs, code);
  if (domain.mem.u16[selectors + Seg.ss] !== Selector.flatData) v.cpu.loadSegment(Seg.ss, Selector.flatData);
  enterCallback(domain, v, callback);
}

/** SYSENTER: the instruction does not tell where it was executed, so the frame has zeros for rip and rsp. */
function sysenterEntry(domain: Domain, v: XenVcpu): void {
  const callback = v.sysenterCallback;
  const { u16, u32 } = domain.mem;
  if ((callback.lo | callback.hi) === 0) {
    rewind(domain, v, SYSCALL_BYTES);
    injectTrap(domain, v, Vector.protection, 0);
    return;
  }
  const gpr = gprIndex(v.cpu, 0);
  const rip = (v.cpu.base + ST.rip) >>> 2;
  u32.fill(0, rip, rip + 2);
  u32.fill(0, gpr + Gpr.rsp * 2, gpr + Gpr.rsp * 2 + 2);
  const selectors = (v.cpu.base + ST.selector) >>> 1;
  // These only go into the frame: entering the kernel loads the flat segments.
  u16[selectors + Seg.cs] = UNKNOWN_CODE;
  u16[selectors + Seg.ss] = Selector.flatData;
  enterCallback(domain, v, callback);
}

function enterCallback(domain: Domain, v: XenVcpu, callback: Callback): void {
  bounce(domain, v, callback.lo, callback.hi, -1, callback.maskEvents);
  v.cpu.setRflags(v.cpu.getRflags() & ~Flag.df);
}

function handleException(domain: Domain, v: XenVcpu, vector: number, errorCode: number): void {
  switch (vector) {
    case Vector.pageFault:
      handlePageFault(domain, v, errorCode);
      return;
    case Vector.protection:
      if (errorCode === 0 && domain.privileged.emulate(v)) return;
      break;
    case Vector.invalidOpcode:
      if (domain.privileged.forcedEmulation(v)) return;
      break;
    case Vector.noDevice:
      // Guests rely on TS being clear when their handler runs, whether they set it or not.
      if (v.taskSwitched) v.setTaskSwitched(false);
      break;
    case Vector.debug:
      v.debugLo[6] |= domain.mem.u32[(v.cpu.base + ST.debugStatus) >>> 2];
      break;
  }
  injectTrap(domain, v, vector, errorCode);
}

function handlePageFault(domain: Domain, v: XenVcpu, errorCode: number): void {
  const { u32 } = domain.mem;
  const cr2 = (v.cpu.base + ST.cr2) >>> 2;
  const lo = u32[cr2];
  const hi = u32[cr2 + 1];
  if (v.kernelMode && (errorCode & (FAULT_PRESENT | FAULT_WRITE)) === (FAULT_PRESENT | FAULT_WRITE)) {
    const result = domain.ptwr.handleWriteFault(v, lo, hi);
    if (result === PtwrResult.Done) return;
    if (result === PtwrResult.OtherExit) {
      afterStep(domain, v, domain.ptwr.exit);
      return;
    }
  }
  injectPageFault(domain, v, errorCode, lo, hi);
}

/** Exit of an instruction that ran with its page table writable: a fault in it is the guest's, not another table's. */
function afterStep(domain: Domain, v: XenVcpu, exit: ExitReason): void {
  const { u32 } = domain.mem;
  const { base } = v.cpu;
  if (exit === Exit.Exception && u32[(base + ST.vector) >>> 2] === Vector.pageFault) {
    const cr2 = (base + ST.cr2) >>> 2;
    injectPageFault(domain, v, u32[(base + ST.errorCode) >>> 2], u32[cr2], u32[cr2 + 1]);
  } else {
    dispatchExit(domain, v, exit);
  }
}

/** INT n, INT3, INTO: rip is behind the instruction. */
function handleSoftInterrupt(domain: Domain, v: XenVcpu, vector: number): void {
  const entry = vector * 2;
  const isRegistered = v.trapAddress[entry] !== 0 || v.trapAddress[entry + 1] !== 0;
  if (vector === Vector.breakpoint || vector === Vector.overflow) {
    // Their gates are open to everybody, so the DPL of the guest's entry plays no part.
    injectTrap(domain, v, vector, 0);
    return;
  }
  const dpl = v.trapFlags[vector] & TrapFlag.dpl;
  const mayCall = v.kernelMode ? dpl >= 1 || vector === INT80 : dpl === 3;
  if (isRegistered && mayCall) {
    injectSoftInterrupt(domain, v, vector);
    return;
  }
  rewind(domain, v, INT_BYTES);
  injectTrap(domain, v, Vector.protection, vector * 8 + 2);
}

function rewind(domain: Domain, v: XenVcpu, bytes: number): void {
  const { u32 } = domain.mem;
  const rip = (v.cpu.base + ST.rip) >>> 2;
  const lo = u32[rip];
  u32[rip] = lo - bytes;
  if (lo < bytes) u32[rip + 1]--;
}
