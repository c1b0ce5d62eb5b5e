// SPDX-License-Identifier: MIT
// Hypercall mmuext_op: pinning, page-table roots, TLB flushes, LDT, page clearing and copying (public/xen.h).

import type { CallContext } from './call-context.ts';
import { setLdt } from './descriptors.ts';
import type { Domain } from './domain.ts';
import { EACCES, EFAULT, EINVAL, ENOSYS, EOPNOTSUPP } from './errno.ts';
import { checkForeignDomain, reportDone } from './mmu-update.ts';
import { PageType } from './page-types.ts';
import type { XenVcpu } from './vcpu-state.ts';

const Ext = {
  pinL1: 0,
  pinL2: 1,
  pinL3: 2,
  pinL4: 3,
  unpin: 4,
  newBaseptr: 5,
  tlbFlushLocal: 6,
  invlpgLocal: 7,
  tlbFlushMulti: 8,
  invlpgMulti: 9,
  tlbFlushAll: 10,
  invlpgAll: 11,
  flushCache: 12,
  setLdt: 13,
  newUserBaseptr: 15,
  clearPage: 16,
  copyPage: 17,
  flushCacheGlobal: 18,
  markSuper: 19,
  unmarkSuper: 20,
} as const;

/** struct mmuext_op {u32 cmd; u64 arg1 @8; u64 arg2 @16} */
const OP_BYTES = 24;
const MMU_UPDATE_PREEMPTED = 0x80000000;
const MAX_LDT_ENTRIES = 8192;

/** mmuext_op(ops*, count, done*, domain): stops at the first error, earlier operations stay done. */
export function mmuextOp(ctx: CallContext): number {
  const { u32 } = ctx.mem;
  let lo = ctx.argLo[0];
  let hi = ctx.argHi[0];
  const count = ctx.argLo[1] & ~MMU_UPDATE_PREEMPTED;
  const doneLo = ctx.argLo[2];
  const doneHi = ctx.argHi[2];
  const refusal = checkForeignDomain(ctx, ctx.argLo[3] & 0xffff);
  if (refusal !== 0) return refusal;
  let result = 0;
  let processed = 0;
  while (processed < count) {
    const at = ctx.readIndex(lo, hi, OP_BYTES);
    if (at === -1) {
      result = -EFAULT;
      break;
    }
    result = applyOp(ctx, u32[at], u32[at + 2], u32[at + 3], u32[at + 4], u32[at + 5]);
    if (result !== 0) break;
    processed++;
    const next = lo + OP_BYTES;
    if (next > 0xffffffff) hi = (hi + 1) >>> 0;
    lo = next >>> 0;
  }
  reportDone(ctx, ctx.argLo[1], doneLo, doneHi, processed);
  return result;
}

function applyOp(ctx: CallContext, command: number, lo1: number, hi1: number, lo2: number, hi2: number): number {
  const { domain, vcpu } = ctx;
  // Where the operation names a frame: MFNs are far below 2^53.
  const mfn = lo1 + hi1 * 0x100000000;
  switch (command) {
    case Ext.pinL1:
    case Ext.pinL2:
    case Ext.pinL3:
    case Ext.pinL4:
      return domain.mmu.pin(mfn, (command - Ext.pinL1 + PageType.l1) as PageType);
    case Ext.unpin:
      return domain.mmu.unpin(mfn);
    case Ext.newBaseptr:
      return setKernelRoot(domain, vcpu, mfn);
    case Ext.newUserBaseptr:
      return setUserRoot(domain, vcpu, mfn);
    case Ext.tlbFlushLocal:
      return flush(domain, vcpu);
    case Ext.invlpgLocal:
      return invalidate(domain, vcpu, lo1, hi1);
    case Ext.tlbFlushMulti:
    case Ext.invlpgMulti: {
      // The mask of vCPUs (arg2) is read for its faults only: flushing more than asked is always allowed.
      if (ctx.readIndex(lo2, hi2, 8) === -1) return -EFAULT;
      return command === Ext.tlbFlushMulti ? flush(domain, null) : invalidate(domain, null, lo1, hi1);
    }
    case Ext.tlbFlushAll:
      return flush(domain, null);
    case Ext.invlpgAll:
      return invalidate(domain, null, lo1, hi1);
    case Ext.flushCache:
    case Ext.flushCacheGlobal:
      return -EACCES;
    case Ext.setLdt: {
      // nr_ents is an unsigned int: the rest of the word is whatever the guest had there.
      if ((lo1 & 0xfff) !== 0 || lo2 > MAX_LDT_ENTRIES) return -EINVAL;
      setLdt(domain, vcpu, lo1, hi1, lo2);
      return 0;
    }
    case Ext.clearPage:
      return withWritableFrame(domain, mfn, (host) => {
        ctx.mem.u8.fill(0, host, host + 4096);
      });
    case Ext.copyPage: {
      const source = lo2 + hi2 * 0x100000000;
      if (!domain.pages.isGuest(source)) return -EINVAL;
      const from = ctx.mem.hostOf(source);
      return withWritableFrame(domain, mfn, (host) => {
        ctx.mem.u8.copyWithin(host, from, from + 4096);
      });
    }
    case Ext.markSuper:
    case Ext.unmarkSuper:
      return -EOPNOTSUPP;
    default:
      return -ENOSYS;
  }
}

/** MMUEXT_NEW_BASEPTR, also a write to CR3: makes an L4 the vCPU's kernel root. */
export function setKernelRoot(domain: Domain, v: XenVcpu, mfn: number): number {
  if (mfn === v.kernelRoot) return 0;
  const result = domain.mmu.takeTable(mfn, PageType.l4);
  if (result !== 0) return result;
  const old = v.kernelRoot;
  // LDT pages were found through the old tables.
  setLdt(domain, v, v.ldtLo, v.ldtHi, v.ldtEntries);
  v.kernelRoot = mfn;
  if (v.kernelMode) v.cpu.setRoot(mfn);
  if (old !== 0) domain.mmu.dropType(old);
  return 0;
}

/** MMUEXT_NEW_USER_BASEPTR: the root for user mode; MFN 0 means none. */
function setUserRoot(domain: Domain, v: XenVcpu, mfn: number): number {
  if (mfn === v.userRoot) return 0;
  if (mfn !== 0) {
    const result = domain.mmu.takeTable(mfn, PageType.l4);
    if (result !== 0) return result;
  }
  const old = v.userRoot;
  v.userRoot = mfn;
  if (old !== 0) domain.mmu.dropType(old);
  return 0;
}

/**
 * Flushes the guest asks for. The TLB never holds an entry that contradicts the tables: every change of a live table
 * is seen and drops what was made from it. So they cost nothing, unless the domain was told to obey them.
 */
function flush(domain: Domain, only: XenVcpu | null): number {
  if (domain.obeyFlushes) {
    for (const v of domain.vcpus) if (only === null || v === only) v.cpu.flushTlb();
  }
  return 0;
}

function invalidate(domain: Domain, only: XenVcpu | null, lo: number, hi: number): number {
  if (domain.obeyFlushes) {
    for (const v of domain.vcpus) if (only === null || v === only) v.cpu.invalidatePage(lo, hi);
  }
  return 0;
}

/** Lets `write` change a frame the guest may write: not a page table, not a descriptor page. */
function withWritableFrame(domain: Domain, mfn: number, write: (host: number) => void): number {
  if (!domain.pages.isGuest(mfn) || domain.pages.isProtected(mfn)) return -EINVAL;
  write(domain.mem.hostOf(mfn));
  domain.frameWritten(mfn);
  return 0;
}
