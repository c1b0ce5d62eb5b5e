// SPDX-License-Identifier: MIT
// First state of a vCPU: the boot vCPU's, and VCPUOP_initialise from a vcpu_guest_context (public/arch-x86/xen.h).

import { ST, Seg } from '../cpu/layout.ts';
import { setTrap } from './callbacks.ts';
import { loadGdt, setLdt, setLiveBase } from './descriptors.ts';
import type { BootState, Domain } from './domain.ts';
import { EINVAL } from './errno.ts';
import { Flag, Gpr, gprIndex, isCanonical } from './guest-cpu.ts';
import { setKernelRoot } from './mmu-ext.ts';
import { PageType } from './page-types.ts';
import { Selector, type Callback, type XenVcpu } from './vcpu-state.ts';
import { writeDebugRegister } from './debug-registers.ts';

/** sizeof(vcpu_guest_context_t), 64-bit. */
export const GUEST_CONTEXT_BYTES = 5168;

/** Byte offsets in vcpu_guest_context. */
const Field = {
  flags: 0x200,
  userRegs: 0x208,
  trapTable: 0x2d0,
  ldtBase: 4816,
  ldtEntries: 4824,
  gdtFrames: 4832,
  gdtEntries: 4960,
  kernelSs: 4968,
  kernelSp: 4976,
  ctrlreg: 4984,
  debugreg: 5048,
  eventCallback: 5112,
  failsafeCallback: 5120,
  syscallCallback: 5128,
  fsBase: 5144,
  gsBaseKernel: 5152,
  gsBaseUser: 5160,
} as const;
/** Byte offsets in cpu_user_regs; general registers in the order of `USER_REGS_ORDER` from offset 0. */
const UserRegs = { rip: 128, cs: 136, rflags: 144, rsp: 152, ss: 160, es: 168, ds: 176, fs: 184, gs: 192 } as const;
const USER_REGS_ORDER = [
  15,
  14,
  13,
  12,
  Gpr.rbp,
  Gpr.rbx,
  Gpr.r11,
  Gpr.r10,
  Gpr.r9,
  Gpr.r8,
  Gpr.rax,
  Gpr.rcx,
  Gpr.rdx,
  Gpr.rsi,
  Gpr.rdi,
] as const;
const ContextFlag = { inKernel: 4, failsafeMasksEvents: 8, syscallMasksEvents: 0x10, online: 0x20 } as const;
const MAX_LDT_ENTRIES = 8192;

/** Puts vCPU 0 at the kernel's entry point. The L4 has been pinned. */
export function startBootVcpu(domain: Domain, boot: BootState): void {
  const v = domain.vcpus[0] as XenVcpu;
  const { u32 } = domain.mem;
  const { cpu } = v;
  setKernelRoot(domain, v, boot.cr3Mfn);
  const gpr = gprIndex(cpu, 0);
  u32.fill(0, gpr, gpr + 32);
  storePair(u32, gpr + Gpr.rsp * 2, boot.stackPointer);
  storePair(u32, gpr + Gpr.rsi * 2, boot.startInfo);
  storePair(u32, (cpu.base + ST.rip) >>> 2, boot.entry);
  cpu.setRflags(Flag.if | Flag.fixed);
  for (const segment of [Seg.ds, Seg.es, Seg.fs, Seg.gs]) cpu.loadSegment(segment, 0);
  setLiveBase(domain.mem, v, Seg.fs, 0, 0);
  setLiveBase(domain.mem, v, Seg.gs, 0, 0);
  cpu.loadSegment(Seg.cs, Selector.flatCode64);
  cpu.loadSegment(Seg.ss, Selector.flatData);
  [v.kernelSpLo, v.kernelSpHi] = boot.stackPointer;
  v.kernelSs = Selector.flatData;
  v.setTaskSwitched(false);
  v.initialised = true;
}

function storePair(u32: Uint32Array, at: number, pair: readonly [number, number]): void {
  u32[at] = pair[0];
  u32[at + 1] = pair[1];
}

/**
 * VCPUOP_initialise: takes the state from a copy of the guest's structure at host address `at`. The vCPU stays down
 * (unless the context says online) with events masked. -EINVAL for a context that cannot be: nothing is kept then.
 */
export function initialiseVcpu(domain: Domain, v: XenVcpu, at: number): number {
  const { u16, u32, u8 } = domain.mem;
  const { cpu } = v;
  const word = (offset: number): number => u32[(at + offset) >>> 2];
  const high = (offset: number): number => u32[((at + offset) >>> 2) + 1];
  const regs = Field.userRegs;
  for (const offset of [regs + UserRegs.rip, Field.fsBase, Field.gsBaseKernel, Field.gsBaseUser, Field.eventCallback]) {
    if (!isCanonical(high(offset))) return -EINVAL;
  }
  const ldtEntries = word(Field.ldtEntries);
  const gdtEntries = word(Field.gdtEntries);
  if (ldtEntries > MAX_LDT_ENTRIES || gdtEntries > 14 * 512) return -EINVAL;

  const kernelRoot = rootOf(word(Field.ctrlreg + 24), high(Field.ctrlreg + 24));
  const userRoot = rootOf(word(Field.ctrlreg + 8), high(Field.ctrlreg + 8));
  const frames: number[] = [];
  for (let n = 0; n < Math.ceil(gdtEntries / 512); n++) {
    frames.push(word(Field.gdtFrames + n * 8) + high(Field.gdtFrames + n * 8) * 0x100000000);
  }
  if (domain.mmu.takeTable(kernelRoot, PageType.l4) !== 0) return -EINVAL;
  const hasUserRoot = userRoot !== 0;
  if (hasUserRoot && domain.mmu.takeTable(userRoot, PageType.l4) !== 0) {
    domain.mmu.dropType(kernelRoot);
    return -EINVAL;
  }
  if (loadGdt(domain, v, frames, gdtEntries) !== 0) {
    domain.mmu.dropType(kernelRoot);
    if (hasUserRoot) domain.mmu.dropType(userRoot);
    return -EINVAL;
  }

  v.kernelRoot = kernelRoot;
  v.userRoot = userRoot;
  const flags = word(Field.flags);
  v.kernelMode = (flags & ContextFlag.inKernel) !== 0 || !hasUserRoot;
  cpu.setRoot(v.currentRoot);
  setLdt(domain, v, word(Field.ldtBase), high(Field.ldtBase), ldtEntries);
  for (let vector = 0; vector < 256; vector++) {
    const entry = Field.trapTable + vector * 16;
    const head = word(entry);
    setTrap(v, vector, (head >>> 8) & 0xff, head >>> 16, word(entry + 8), high(entry + 8));
  }
  const callback = (target: Callback, offset: number, maskEvents: boolean): void => {
    target.lo = word(offset);
    target.hi = high(offset);
    target.maskEvents = maskEvents;
  };
  callback(v.eventCallback, Field.eventCallback, true);
  callback(v.failsafeCallback, Field.failsafeCallback, (flags & ContextFlag.failsafeMasksEvents) !== 0);
  callback(v.syscallCallback, Field.syscallCallback, (flags & ContextFlag.syscallMasksEvents) !== 0);
  v.kernelSs = (word(Field.kernelSs) & 0xffff) | 3;
  v.kernelSpLo = word(Field.kernelSp);
  v.kernelSpHi = high(Field.kernelSp);
  v.resetDebugRegisters();
  for (let n = 0; n < 8; n++) {
    // A value that a guest may not have leaves the register at its default, as in Xen.
    if (n !== 4 && n !== 5) writeDebugRegister(v, n, word(Field.debugreg + n * 8), high(Field.debugreg + n * 8));
  }

  const gpr = gprIndex(cpu, 0);
  for (const [n, register] of USER_REGS_ORDER.entries()) {
    storePair(u32, gpr + register * 2, [word(regs + n * 8), high(regs + n * 8)]);
  }
  storePair(u32, gpr + Gpr.rsp * 2, [word(regs + UserRegs.rsp), high(regs + UserRegs.rsp)]);
  storePair(u32, (cpu.base + ST.rip) >>> 2, [word(regs + UserRegs.rip), high(regs + UserRegs.rip)]);
  const rflags = word(regs + UserRegs.rflags);
  v.iopl = (rflags >>> 12) & 3;
  cpu.setRflags((rflags & ~(Flag.iopl | Flag.vm)) | Flag.if | Flag.fixed);
  const selector = (offset: number): number => u16[(at + regs + offset) >>> 1];
  const load = (segment: number, value: number, fallback: number): void => {
    if (!cpu.loadSegment(segment, value > 3 ? value | 3 : value)) cpu.loadSegment(segment, fallback);
  };
  load(Seg.cs, selector(UserRegs.cs), Selector.flatCode64);
  load(Seg.ss, selector(UserRegs.ss), Selector.flatData);
  load(Seg.ds, selector(UserRegs.ds), 0);
  load(Seg.es, selector(UserRegs.es), 0);
  load(Seg.fs, selector(UserRegs.fs), 0);
  load(Seg.gs, selector(UserRegs.gs), 0);
  setLiveBase(domain.mem, v, Seg.fs, word(Field.fsBase), high(Field.fsBase));
  const [live, inactive] = v.kernelMode
    ? [Field.gsBaseKernel, Field.gsBaseUser]
    : [Field.gsBaseUser, Field.gsBaseKernel];
  setLiveBase(domain.mem, v, Seg.gs, word(live), high(live));
  v.gsInactiveLo = word(inactive);
  v.gsInactiveHi = high(inactive);
  v.setTaskSwitched(false);

  u8[v.info + 1] = 1;
  domain.time.publishTimeInfo(v.id);
  v.initialised = true;
  if ((flags & ContextFlag.online) !== 0) domain.sched.bringUp(v.id);
  return 0;
}

/** The frame a CR3 value names. */
function rootOf(lo: number, hi: number): number {
  return (lo >>> 12) + hi * 0x100000;
}
