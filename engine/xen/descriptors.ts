// SPDX-License-Identifier: MIT
// GDT and LDT of a PV guest: set_gdt, update_descriptor, SET_LDT, set_segment_base, descriptor checks and look-up.

import { ST, Seg } from '../cpu/layout.ts';
import type { CallContext } from './call-context.ts';
import type { MachineMemoryView } from './context.ts';
import type { Domain } from './domain.ts';
import { EFAULT, EINVAL } from './errno.ts';
import { isCanonical } from './guest-cpu.ts';
import { frameOf, Pte } from './mmu.ts';
import { PageType } from './page-types.ts';
import { GUEST_GDT_PAGES, type XenVcpu } from './vcpu-state.ts';

const ENTRIES_PER_PAGE = 512;
/** First GDT entry of Xen's own: selector 0xe000. */
const FIRST_RESERVED_ENTRY = GUEST_GDT_PAGES * ENTRIES_PER_PAGE;

/** Bits of a descriptor's high word. */
const Descriptor = { segment: 0x1000, dpl: 0x6000, present: 0x8000 } as const;
const TYPE_NONE = 0;
const TYPE_CALL_GATE = 0xc;

/** Xen's reserved entries: selector and descriptor halves (values of Xen's arch/x86/desc.c, seen by guests through LAR/LSL). */
const RESERVED: readonly [number, number, number][] = [
  [0xe008, 0x0000ffff, 0x00af9b00],
  [0xe010, 0x0000ffff, 0x00cf9300],
  [0xe020, 0x0000ffff, 0x00cffb00],
  [0xe028, 0x0000ffff, 0x00cff300],
  [0xe030, 0x0000ffff, 0x00affb00],
];

/** Fills the page of Xen's reserved GDT entries (GDT page 14). */
export function reservedDescriptors(mem: MachineMemoryView, host: number): void {
  for (const [selector, lo, hi] of RESERVED) {
    const at = (host + (selector & 0xfff)) >>> 2;
    mem.u32[at] = lo;
    mem.u32[at + 1] = hi;
  }
}

/**
 * Checks a descriptor a guest wants in a loaded table. Returns its high word as it must be stored (code and data get
 * DPL 3), or -1 for a system descriptor that no guest may have. Call gates lose their DPL, so that using one faults.
 */
export function checkDescriptor(hi: number): number {
  if ((hi & Descriptor.present) === 0) return hi;
  if ((hi & Descriptor.segment) !== 0) return (hi | Descriptor.dpl) >>> 0;
  const type = (hi >>> 8) & 0xf;
  if (type === TYPE_NONE) return hi;
  return type === TYPE_CALL_GATE ? (hi & ~Descriptor.dpl) >>> 0 : -1;
}

/** Host address of the descriptor behind a selector (RPL ignored), 0 when it lies outside the vCPU's tables. */
export function descriptorAddress(domain: Domain, v: XenVcpu, selector: number): number {
  const entry = selector >>> 3;
  const page = Math.floor(entry / ENTRIES_PER_PAGE);
  const offset = (entry % ENTRIES_PER_PAGE) * 8;
  if ((selector & 4) !== 0) {
    if (entry >= v.ldtEntries) return 0;
    const mfn = ldtFrame(domain, v, page);
    return mfn === 0 ? 0 : domain.mem.hostOf(mfn) + offset;
  }
  if (entry >= FIRST_RESERVED_ENTRY) return page === GUEST_GDT_PAGES ? domain.reservedGdt + offset : 0;
  const mfn = v.gdtFrames[page];
  return mfn === 0 ? 0 : domain.mem.hostOf(mfn) + offset;
}

/** set_gdt(frames*, entries): takes the frames as descriptor pages; 0 entries removes the GDT. */
export function setGdt(ctx: CallContext): number {
  const entries = ctx.argLo[1] >>> 0;
  if (entries > FIRST_RESERVED_ENTRY) return -EINVAL;
  const pages = Math.ceil(entries / ENTRIES_PER_PAGE);
  const frames: number[] = [];
  if (pages > 0) {
    const at = ctx.guest.copyIn(ctx.argLo[0], ctx.argHi[0], pages * 8);
    if (at === -1) return -EFAULT;
    for (let n = 0; n < pages; n++) {
      const word = (at >>> 2) + n * 2;
      frames.push(ctx.mem.u32[word] + ctx.mem.u32[word + 1] * 0x100000000);
    }
  }
  return loadGdt(ctx.domain, ctx.vcpu, frames, entries);
}

/** Replaces a vCPU's GDT by these frames. -EINVAL when one cannot be a descriptor page: nothing changes then. */
export function loadGdt(domain: Domain, v: XenVcpu, frames: readonly number[], entries: number): number {
  for (const [n, mfn] of frames.entries()) {
    const result = takeDescriptorPage(domain, mfn);
    if (result !== 0) {
      for (const taken of frames.slice(0, n)) domain.mmu.dropType(taken);
      return result;
    }
  }
  for (const mfn of v.gdtFrames) if (mfn !== 0) domain.mmu.dropType(mfn);
  v.gdtFrames.fill(0);
  v.gdtFrames.set(frames);
  v.gdtEntries = entries;
  return 0;
}

/** update_descriptor(machine address, descriptor): in a loaded table, or in plain memory. */
export function updateDescriptor(ctx: CallContext): number {
  const { domain } = ctx;
  const { pages } = domain;
  const addressLo = ctx.argLo[0];
  const lo = ctx.argLo[1];
  const mfn = (addressLo >>> 12) + ctx.argHi[0] * 0x100000;
  if ((addressLo & 7) !== 0 || !pages.isGuest(mfn)) return -EINVAL;
  const hi = checkDescriptor(ctx.argHi[1]);
  if (hi === -1) return -EINVAL;
  if (pages.isProtected(mfn) && pages.type[mfn] !== PageType.segdesc) return -EINVAL;
  const at = (ctx.mem.hostOf(mfn) + (addressLo & 0xfff)) >>> 2;
  ctx.mem.u32[at] = lo;
  ctx.mem.u32[at + 1] = hi;
  domain.frameWritten(mfn);
  return 0;
}

/** MMUEXT_SET_LDT: remembers the table; its pages are checked when they are first used. */
export function setLdt(domain: Domain, v: XenVcpu, lo: number, hi: number, entries: number): void {
  for (const mfn of v.ldtFrames) if (mfn !== 0) domain.mmu.dropType(mfn);
  v.ldtFrames.fill(0);
  v.ldtLo = lo;
  v.ldtHi = hi;
  v.ldtEntries = entries;
}

const SEGBASE_FS = 0;
const SEGBASE_GS_USER = 1;
const SEGBASE_GS_KERNEL = 2;
const SEGBASE_GS_USER_SELECTOR = 3;

/** set_segment_base(which, base): the caller is the kernel, so GS_KERNEL is the live base and GS_USER the other one. */
export function setSegmentBase(ctx: CallContext): number {
  const v = ctx.vcpu;
  const lo = ctx.argLo[1];
  const hi = ctx.argHi[1];
  const which = ctx.argLo[0];
  if (which === SEGBASE_GS_USER_SELECTOR) {
    loadUserGs(ctx.domain, v, lo & 0xffff);
    return 0;
  }
  if (!isCanonical(hi)) return -EINVAL;
  switch (which) {
    case SEGBASE_FS:
      setLiveBase(ctx.mem, v, Seg.fs, lo, hi);
      return 0;
    case SEGBASE_GS_USER:
      v.gsInactiveLo = lo;
      v.gsInactiveHi = hi;
      return 0;
    case SEGBASE_GS_KERNEL:
      setLiveBase(ctx.mem, v, Seg.gs, lo, hi);
      return 0;
    default:
      return -EINVAL;
  }
}

/** Sets the base of a segment register in use. */
export function setLiveBase(mem: MachineMemoryView, v: XenVcpu, segment: number, lo: number, hi: number): void {
  const at = (v.cpu.base + ST.segBase + segment * 8) >>> 2;
  mem.u32[at] = lo;
  mem.u32[at + 1] = hi;
}

/** Loads GS for user mode: the selector is shared by both modes, the base goes to the inactive one. Bad selectors load NUL. */
function loadUserGs(domain: Domain, v: XenVcpu, selector: number): void {
  const { u32 } = domain.mem;
  const at = (v.cpu.base + ST.segBase + Seg.gs * 8) >>> 2;
  const liveLo = u32[at];
  const liveHi = u32[at + 1];
  // Selectors 0 to 3 are NUL with any RPL.
  const usable = selector > 3 ? selector | 3 : selector;
  if (!v.cpu.loadSegment(Seg.gs, usable)) v.cpu.loadSegment(Seg.gs, 0);
  const isNul = domain.mem.u16[(v.cpu.base + ST.selector + Seg.gs * 2) >>> 1] <= 3;
  v.gsInactiveLo = isNul ? 0 : u32[at];
  v.gsInactiveHi = isNul ? 0 : u32[at + 1];
  u32[at] = liveLo;
  u32[at + 1] = liveHi;
}

/** MFN of an LDT page, checked and taken on first use; 0 when it is not mapped or may not be a descriptor page. */
function ldtFrame(domain: Domain, v: XenVcpu, page: number): number {
  const known = v.ldtFrames[page];
  if (known !== 0) return known;
  const lo = v.ldtLo + page * 4096;
  const hi = lo > 0xffffffff ? (v.ldtHi + 1) >>> 0 : v.ldtHi;
  const { mmu } = domain;
  if (!mmu.findL1Entry(v.kernelRoot, lo >>> 0, hi)) return 0;
  const at = mmu.foundEntry();
  const entryLo = domain.mem.u32[at];
  if ((entryLo & Pte.present) === 0) return 0;
  const mfn = frameOf(entryLo, domain.mem.u32[at + 1]);
  if (takeDescriptorPage(domain, mfn) !== 0) return 0;
  v.ldtFrames[page] = mfn;
  return mfn;
}

function takeDescriptorPage(domain: Domain, mfn: number): number {
  const isFirst = !domain.pages.hasType(mfn, PageType.segdesc);
  const result = domain.mmu.takeSegdesc(mfn);
  if (result !== 0 || !isFirst) return result;
  const { u32 } = domain.mem;
  const base = domain.mem.hostOf(mfn) >>> 2;
  for (let at = base; at < base + ENTRIES_PER_PAGE * 2; at += 2) {
    const hi = checkDescriptor(u32[at + 1]);
    if (hi === -1) {
      domain.mmu.dropType(mfn);
      return -EINVAL;
    }
    u32[at + 1] = hi;
  }
  return 0;
}
