// SPDX-License-Identifier: MIT
// HYPERVISOR_iret: return from a bounce frame to guest kernel or user code (Xen arch/x86/pv/iret.c, public/arch-x86/xen-x86_64.h).

import { ST, Seg } from '../cpu/layout.ts';
import type { Domain } from './domain.ts';
import { Access, Flag, Gpr, isCanonical, Vector } from './guest-cpu.ts';
import { describeContext, injectTrap } from './traps.ts';
import { Selector, type XenVcpu } from './vcpu-state.ts';

/** Bytes of the frame at RSP: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss. */
const FRAME_BYTES = 72;
/** Frame flag: return as SYSRET does; rcx, r11, cs and ss do not come from the frame. */
const VGCF_IN_SYSCALL = 0x100;

/** Executes HYPERVISOR_iret: all registers come from the frame at RSP. Crashes the domain on an unusable frame. */
export function hypervisorIret(domain: Domain, v: XenVcpu): void {
  const { cpu } = v;
  const { u8, u16, u32 } = domain.mem;
  const gpr = (cpu.base + ST.gpr) >>> 2;
  const rip = (cpu.base + ST.rip) >>> 2;
  const rspLo = u32[gpr + Gpr.rsp * 2];
  const rspHi = u32[gpr + Gpr.rsp * 2 + 1];
  v.frameReplaced = true;
  let host: number;
  if ((rspLo & 7) === 0 && (rspLo & 0xfff) <= 4096 - FRAME_BYTES) {
    host = cpu.translate(rspLo, rspHi, Access.read);
  } else {
    host = cpu.copyIn(rspLo, rspHi, FRAME_BYTES) ? cpu.scratch : -1;
  }
  if (host === -1) {
    domain.crash(`the guest called iret with an unreadable frame (${describeContext(domain, v)})`);
    return;
  }
  const frame = host >>> 2;
  const raxLo = u32[frame];
  const raxHi = u32[frame + 1];
  const r11Lo = u32[frame + 2];
  const r11Hi = u32[frame + 3];
  const rcxLo = u32[frame + 4];
  const rcxHi = u32[frame + 5];
  const control = u32[frame + 6];
  const ripLo = u32[frame + 8];
  const ripHi = u32[frame + 9];
  let cs = u32[frame + 10] & 0xffff;
  const frameFlags = u32[frame + 12];
  const spLo = u32[frame + 14];
  const spHi = u32[frame + 15];
  let ss = u32[frame + 16] & 0xffff;

  if ((cs & 3) === 3) {
    if (v.userRoot === 0) {
      domain.crash(`the guest returned to user mode without user page tables (${describeContext(domain, v)})`);
      return;
    }
    v.toggleMode();
  }
  if (domain.architecturalIopl) v.iopl = (frameFlags >>> 12) & 3;
  const flags = (frameFlags & ~(Flag.iopl | Flag.vm)) | Flag.if | Flag.fixed;
  u8[v.info + 1] = (frameFlags & Flag.if) === 0 ? 1 : 0;
  v.nmiMasked = false;

  u32[gpr + Gpr.rax * 2] = raxLo;
  u32[gpr + Gpr.rax * 2 + 1] = raxHi;
  u32[gpr + Gpr.rsp * 2] = spLo;
  u32[gpr + Gpr.rsp * 2 + 1] = spHi;
  u32[rip] = ripLo;
  u32[rip + 1] = ripHi;
  cs |= 3;
  ss |= 3;
  if ((control & VGCF_IN_SYSCALL) !== 0) {
    u32[gpr + Gpr.rcx * 2] = ripLo;
    u32[gpr + Gpr.rcx * 2 + 1] = ripHi;
    u32[gpr + Gpr.r11 * 2] = flags;
    u32[gpr + Gpr.r11 * 2 + 1] = 0;
    cs = cs === Selector.userCode32 ? Selector.userCode32 : Selector.flatCode64;
    ss = Selector.flatData;
  } else {
    u32[gpr + Gpr.r11 * 2] = r11Lo;
    u32[gpr + Gpr.r11 * 2 + 1] = r11Hi;
    u32[gpr + Gpr.rcx * 2] = rcxLo;
    u32[gpr + Gpr.rcx * 2 + 1] = rcxHi;
  }
  cpu.setRflags(flags);

  // A fault in loading the segments is raised in the context returned to, as if its first instruction had caused it.
  const selectors = (cpu.base + ST.selector) >>> 1;
  const loaded =
    (u16[selectors + Seg.cs] === cs || cpu.loadSegment(Seg.cs, cs)) &&
    (u16[selectors + Seg.ss] === ss || cpu.loadSegment(Seg.ss, ss));
  if (!loaded) {
    injectTrap(domain, v, u32[(cpu.base + ST.vector) >>> 2], u32[(cpu.base + ST.errorCode) >>> 2]);
  } else if (!isCanonical(ripHi)) {
    injectTrap(domain, v, Vector.protection, 0);
  }
}
