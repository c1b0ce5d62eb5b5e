// SPDX-License-Identifier: MIT
// Hypercalls mmu_update, update_va_mapping and update_va_mapping_otherdomain (public/xen.h).

import type { CallContext } from './call-context.ts';
import { DOMID_CONTROL, DOMID_IO, DOMID_SELF } from './context.ts';
import { EFAULT, EINVAL, ENOSYS, EPERM, ESRCH } from './errno.ts';
import { PageType } from './page-types.ts';

/** Low bits of mmu_update_t.ptr. */
const MMU_NORMAL = 0;
const MMU_MACHPHYS = 1;
const MMU_PRESERVE_AD = 2;
const MMU_NO_TRANSLATE = 3;

const REQUEST_BYTES = 16;
/** Set in `count` by Xen when it restarts a call; a guest that sets it gets what is left of the count. */
const MMU_UPDATE_PREEMPTED = 0x80000000;

const UVMF_FLUSH_TYPE = 3;
const UVMF_INVALIDATE = 2;

/** 0 when a domain id names the caller (or device memory, whose frames are then refused one by one), else -EPERM or -ESRCH. */
export function checkForeignDomain(ctx: CallContext, domid: number): number {
  if (domid === DOMID_SELF || domid === ctx.domain.domid || domid === DOMID_IO) return 0;
  return domid === DOMID_CONTROL ? -EPERM : -ESRCH;
}

/**
 * Tells the guest how many requests this call completed, at (lo, hi) unless that is null; added to what is there for a
 * `count` marked as a restarted call. A counter that cannot be accessed is no error.
 */
export function reportDone(ctx: CallContext, count: number, lo: number, hi: number, processed: number): void {
  if ((lo | hi) === 0) return;
  const at = (count & MMU_UPDATE_PREEMPTED) === 0 ? -1 : ctx.readIndex(lo, hi, 4);
  ctx.storeU32(lo, hi, ((at === -1 ? 0 : ctx.mem.u32[at]) + processed) >>> 0);
}

/** mmu_update(requests*, count, done*, domain): see the constants above for what a request can ask. */
export function mmuUpdate(ctx: CallContext): number {
  const { u32 } = ctx.mem;
  let lo = ctx.argLo[0];
  let hi = ctx.argHi[0];
  const count = ctx.argLo[1] & ~MMU_UPDATE_PREEMPTED;
  const doneLo = ctx.argLo[2];
  const doneHi = ctx.argHi[2];
  const domid = ctx.argLo[3];
  const tableOwner = domid >>> 16;
  if (tableOwner !== 0) {
    const refusal = checkForeignDomain(ctx, tableOwner - 1);
    if (refusal !== 0) return refusal;
  }
  const refusal = checkForeignDomain(ctx, domid & 0xffff);
  if (refusal !== 0) return refusal;

  let result = 0;
  let processed = 0;
  while (processed < count) {
    const at = ctx.readIndex(lo, hi, REQUEST_BYTES);
    if (at === -1) {
      result = -EFAULT;
      break;
    }
    result = applyRequest(ctx, u32[at], u32[at + 1], u32[at + 2], u32[at + 3]);
    if (result !== 0) break;
    processed++;
    const next = lo + REQUEST_BYTES;
    if (next > 0xffffffff) hi = (hi + 1) >>> 0;
    lo = next >>> 0;
  }
  reportDone(ctx, ctx.argLo[1], doneLo, doneHi, processed);
  return result;
}

function applyRequest(ctx: CallContext, ptrLo: number, ptrHi: number, valLo: number, valHi: number): number {
  const { domain } = ctx;
  const { pages } = domain;
  const command = ptrLo & 3;
  const mfn = (ptrLo >>> 12) + ptrHi * 0x100000;
  if (!pages.isGuest(mfn)) return -EINVAL;
  switch (command) {
    case MMU_NORMAL:
    case MMU_PRESERVE_AD:
    case MMU_NO_TRANSLATE: {
      if ((ptrLo & 4) !== 0) return -EINVAL;
      const index = (ptrLo & 0xfff) >>> 3;
      const type = pages.typeCount[mfn] === 0 ? PageType.none : (pages.type[mfn] as PageType);
      if (type === PageType.l1) return domain.mmu.updateL1(mfn, index, valLo, valHi, command === MMU_PRESERVE_AD);
      if (type <= PageType.l4 && type !== PageType.none) {
        return domain.mmu.updateEntry(mfn, type, index, valLo, valHi, command === MMU_PRESERVE_AD);
      }
      if (type === PageType.segdesc) return -EINVAL;
      const at = (ctx.mem.hostOf(mfn) >>> 2) + index * 2;
      ctx.mem.u32[at] = valLo;
      ctx.mem.u32[at + 1] = valHi;
      domain.frameWritten(mfn);
      return 0;
    }
    case MMU_MACHPHYS:
      domain.m2p.set(mfn, valLo, valHi);
      return 0;
    default:
      return -ENOSYS;
  }
}

/** update_va_mapping(va, entry, flags): changes the L1 entry behind an address of the current kernel tables. */
export function updateVaMapping(ctx: CallContext): number {
  const { domain, vcpu } = ctx;
  const vaLo = ctx.argLo[0];
  const vaHi = ctx.argHi[0];
  const { mmu } = domain;
  if (!mmu.findL1Entry(vcpu.kernelRoot, vaLo, vaHi)) return -EINVAL;
  const result = mmu.updateL1(mmu.foundTable, mmu.foundIndex, ctx.argLo[1], ctx.argHi[1], false);
  // The update dropped every TLB entry it made stale, so the flush the guest asks for has nothing left to do.
  if (result === 0 && domain.obeyFlushes) {
    const flush = ctx.argLo[2] & UVMF_FLUSH_TYPE;
    for (const v of domain.vcpus) {
      if (flush === UVMF_INVALIDATE) v.cpu.invalidatePage(vaLo, vaHi);
      else if (flush !== 0) v.cpu.flushTlb();
    }
  }
  return result;
}

/** update_va_mapping_otherdomain(va, entry, flags, domain): only for the caller itself; others need privilege. */
export function updateVaMappingOtherdomain(ctx: CallContext): number {
  const refusal = checkForeignDomain(ctx, ctx.argLo[3] & 0xffff);
  return refusal !== 0 ? refusal : updateVaMapping(ctx);
}
