// SPDX-License-Identifier: MIT
// Hypercall grant_table_op: argument structures around GrantTable, and the guest's own mappings (public/grant_table.h).

import {
  DOMID_CONTROL,
  DOMID_SELF,
  advanceHi,
  advanceLo,
  loadU64,
  storeU64,
  wordHi,
  wordLo,
  type HypercallContext,
} from './context.ts';
import { EFAULT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from './errno.ts';
import { Gntst } from './grants.ts';
import type { GrantMapping } from './grant-maptrack.ts';

/** Names of the sub-operations in numeric order, for counters. */
export const GRANT_TABLE_OP_NAMES = [
  'map_grant_ref',
  'unmap_grant_ref',
  'setup_table',
  'dump_table',
  'transfer',
  'copy',
  'query_size',
  'unmap_and_replace',
  'set_version',
  'get_status_frames',
  'get_version',
  'swap_grant_ref',
  'cache_flush',
] as const;

const GNTMAP_DEVICE_MAP = 1;
const GNTMAP_HOST_MAP = 2;
const GNTMAP_READONLY = 4;
const GNTMAP_CONTAINS_PTE = 16;
const COPY_SOURCE_GREF = 1;
const COPY_DEST_GREF = 2;
const PAGE_BYTES = 4096;

/** A structure of the argument array: its copy at `at`, its guest address (lo, hi). */
type Element = (ctx: HypercallContext, at: number, lo: number, hi: number) => number;

/** grant_table_op(cmd, arguments*, count): hypercall 20. */
export function grantTableOp(ctx: HypercallContext): number {
  const cmd = ctx.argLo[0];
  const count = ctx.argLo[2];
  const compat = ctx.wordSize === 4;
  // Xen takes the count as an unsigned int and refuses a negative int.
  if (count > 0x7fffffff) return -EINVAL;
  switch (cmd) {
    case 0:
      return forEach(ctx, count, 32, mapGrantRef);
    case 1:
      return forEach(ctx, count, 24, unmapGrantRef);
    case 2:
      return count === 1 ? forEach(ctx, 1, compat ? 16 : 24, setupTable) : -EINVAL;
    case 5:
      return forEach(ctx, count, compat ? 24 : 40, copy);
    case 6:
      return count === 1 ? forEach(ctx, 1, 16, querySize) : -EINVAL;
    case 8:
      return count === 1 ? forEach(ctx, 1, 4, setVersion) : -EINVAL;
    case 9:
      return count === 1 ? forEach(ctx, 1, compat ? 12 : 16, getStatusFrames) : -EINVAL;
    case 10:
      return forEach(ctx, count, 8, getVersion);
    case 11:
      return forEach(ctx, count, 12, swapGrantRef);
    case 12:
      return forEach(ctx, count, 16, cacheFlush);
    default:
      // transfer and unmap_and_replace are for back ends in guests, which we do not host; dump_table is gone from Xen.
      return -ENOSYS;
  }
}

/** Runs `element` over the argument array, copying each changed structure back; stops at the first negative result. */
function forEach(ctx: HypercallContext, count: number, bytes: number, element: Element): number {
  let lo = ctx.argLo[1];
  let hi = ctx.argHi[1];
  for (let i = 0; i < count; i++) {
    const at = ctx.guest.copyIn(lo, hi, bytes);
    if (at < 0) return -EFAULT;
    // Fields that did not change are not written back when nothing changed: the structure may be in read-only memory.
    const saved = ctx.mem.u8.slice(at, at + bytes);
    const result = element(ctx, at, lo, hi);
    if (result < 0) return result;
    if (!sameBytes(ctx.mem.u8, at, saved) && !ctx.guest.copyOut(lo, hi, ctx.mem.u8.subarray(at, at + bytes)))
      return -EFAULT;
    const next = advanceLo(lo, bytes);
    hi = advanceHi(lo, hi, bytes);
    lo = next;
  }
  return 0;
}

function sameBytes(u8: Uint8Array, at: number, other: Uint8Array): boolean {
  for (let i = 0; i < other.length; i++) if (u8[at + i] !== other[i]) return false;
  return true;
}

/** GNTST status for a domid that must be the caller's own; 0 when it is. */
function foreignStatus(ctx: HypercallContext, domid: number): number {
  if (domid === DOMID_SELF || domid === ctx.domain.domid) return Gntst.okay;
  return domid === DOMID_CONTROL ? Gntst.permissionDenied : Gntst.badDomain;
}

/** {u64 host_addr; u32 flags; u32 ref; u16 dom; s16 status; u32 handle; u64 dev_bus_addr} */
function mapGrantRef(ctx: HypercallContext, at: number): number {
  const w = at >>> 2;
  const { u16, u32 } = ctx.mem;
  const status = doMap(ctx, at);
  if (status >= 0) {
    u32[w + 5] = status;
    const mapping = ctx.domain.grants.maptrack.get(status) as GrantMapping;
    storeU64(ctx.mem, at + 24, mapping.mfn * PAGE_BYTES);
  }
  u16[(at + 18) >>> 1] = status >= 0 ? Gntst.okay : status;
  return 0;
}

/** Maps; a handle (>= 0) or a GNTST status. */
function doMap(ctx: HypercallContext, at: number): number {
  const { u16, u32 } = ctx.mem;
  const { grants } = ctx.domain;
  const w = at >>> 2;
  const lo = u32[w];
  const hi = u32[w + 1];
  const flags = u32[w + 2];
  const ref = u32[w + 3];
  if ((flags & (GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP)) === 0) return Gntst.badGntref;
  const domid = u16[(at + 16) >>> 1];
  // Domain 0 has no grant table that this guest could use; other domains do not exist.
  if (domid === DOMID_CONTROL) return Gntst.badGntref;
  if (foreignStatus(ctx, domid) !== Gntst.okay) return Gntst.badDomain;
  if (grants.maptrack.full) return Gntst.noDeviceSpace;
  const writable = (flags & GNTMAP_READONLY) === 0;
  const pinned = grants.pin(ref, ctx.domain.domid, writable, null);
  if (pinned !== Gntst.okay) return pinned;
  const mfn = grants.pinnedMfn(ref);
  if ((flags & GNTMAP_HOST_MAP) !== 0) {
    const misaligned = (flags & GNTMAP_CONTAINS_PTE) !== 0 && (lo & 7) !== 0;
    const status =
      misaligned || grants.mmu === null ? Gntst.generalError : grants.mmu.installGrantMapping(lo, hi, mfn, flags);
    if (status !== Gntst.okay) {
      grants.unpin(ref, writable);
      return status;
    }
  }
  return grants.maptrack.add({ ref, mfn, flags });
}

/** {u64 host_addr; u64 dev_bus_addr; u32 handle; s16 status} */
function unmapGrantRef(ctx: HypercallContext, at: number): number {
  ctx.mem.u16[(at + 20) >>> 1] = doUnmap(ctx, at);
  return 0;
}

function doUnmap(ctx: HypercallContext, at: number): number {
  const { u32 } = ctx.mem;
  const { grants } = ctx.domain;
  const w = at >>> 2;
  const handle = u32[w + 4];
  const mapping = grants.maptrack.get(handle);
  if (mapping === undefined) return Gntst.badHandle;
  const lo = u32[w];
  const hi = u32[w + 1];
  let left = mapping.flags & (GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP);
  const device = loadU64(ctx.mem, at + 8);
  if (device !== 0 && (left & GNTMAP_DEVICE_MAP) !== 0) {
    if (device !== mapping.mfn * PAGE_BYTES) return Gntst.generalError;
    left &= ~GNTMAP_DEVICE_MAP;
  }
  if ((lo !== 0 || hi !== 0) && (left & GNTMAP_HOST_MAP) !== 0) {
    const status = grants.mmu?.removeGrantMapping(lo, hi, mapping.mfn, mapping.flags) ?? Gntst.generalError;
    if (status !== Gntst.okay) return status;
    left &= ~GNTMAP_HOST_MAP;
  }
  mapping.flags = (mapping.flags & ~(GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP)) | left;
  if (left === 0) {
    grants.maptrack.remove(handle);
    grants.unpin(mapping.ref, (mapping.flags & GNTMAP_READONLY) === 0);
  }
  return Gntst.okay;
}

/** {u16 dom; u32 nr_frames; s16 status; frame_list*}: a list of guest words. */
function setupTable(ctx: HypercallContext, at: number): number {
  const { grants } = ctx.domain;
  const nr = ctx.mem.u32[(at + 4) >>> 2];
  const list = at + (ctx.wordSize === 8 ? 16 : 12);
  let status = foreignStatus(ctx, ctx.mem.u16[at >>> 1]);
  if (status === Gntst.okay && !grants.grow(nr)) status = Gntst.generalError;
  if (status === Gntst.okay)
    status = writeFrameList(ctx, wordLo(ctx, list), wordHi(ctx, list), grants.frames.slice(0, nr), ctx.wordSize);
  ctx.mem.u16[(at + 8) >>> 1] = status;
  return 0;
}

/** {u32 nr_frames; u16 dom; s16 status; frame_list*}: a list of u64 in both word sizes. */
function getStatusFrames(ctx: HypercallContext, at: number): number {
  const { grants } = ctx.domain;
  const nr = ctx.mem.u32[at >>> 2];
  let status = foreignStatus(ctx, ctx.mem.u16[(at + 4) >>> 1]);
  if (status === Gntst.okay && nr > grants.statusFrames.length) status = Gntst.generalError;
  if (status === Gntst.okay)
    status = writeFrameList(ctx, wordLo(ctx, at + 8), wordHi(ctx, at + 8), grants.statusFrames.slice(0, nr), 8);
  ctx.mem.u16[(at + 6) >>> 1] = status;
  return 0;
}

function writeFrameList(
  ctx: HypercallContext,
  lo: number,
  hi: number,
  mfns: readonly number[],
  entryBytes: 4 | 8,
): number {
  const words = new Uint32Array((mfns.length * entryBytes) / 4);
  for (const [i, mfn] of mfns.entries()) words[i * (entryBytes / 4)] = mfn;
  return ctx.guest.copyOut(lo, hi, new Uint8Array(words.buffer)) ? Gntst.okay : Gntst.badVirtAddr;
}

/** {u16 dom; u32 nr_frames; u32 max_nr_frames; s16 status} */
function querySize(ctx: HypercallContext, at: number): number {
  const { grants } = ctx.domain;
  const status = foreignStatus(ctx, ctx.mem.u16[at >>> 1]);
  if (status === Gntst.okay) {
    ctx.mem.u32[(at + 4) >>> 2] = grants.frames.length;
    ctx.mem.u32[(at + 8) >>> 2] = grants.maxFrames;
  }
  ctx.mem.u16[(at + 12) >>> 1] = status;
  return 0;
}

/** {u32 version}, in and out. */
function setVersion(ctx: HypercallContext, at: number): number {
  const { grants } = ctx.domain;
  const result = grants.setVersion(ctx.mem.u32[at >>> 2]);
  ctx.mem.u32[at >>> 2] = grants.version;
  return result;
}

/** {u16 dom; u32 version} */
function getVersion(ctx: HypercallContext, at: number): number {
  const status = foreignStatus(ctx, ctx.mem.u16[at >>> 1]);
  if (status === Gntst.permissionDenied) return -EPERM;
  if (status !== Gntst.okay) return -ESRCH;
  ctx.mem.u32[(at + 4) >>> 2] = ctx.domain.grants.version;
  return 0;
}

/** {u32 ref_a; u32 ref_b; s16 status} */
function swapGrantRef(ctx: HypercallContext, at: number): number {
  ctx.mem.u16[(at + 8) >>> 1] = ctx.domain.grants.swap(ctx.mem.u32[at >>> 2], ctx.mem.u32[(at >>> 2) + 1]);
  return 0;
}

/** {u64 dev_bus_addr or u32 ref; u16 offset; u16 length; u32 op}: caches are coherent here, nothing supports it on x86. */
function cacheFlush(ctx: HypercallContext, at: number): number {
  const offset = ctx.mem.u16[(at + 8) >>> 1];
  const length = ctx.mem.u16[(at + 10) >>> 1];
  const op = ctx.mem.u32[(at + 12) >>> 2];
  if (offset >= PAGE_BYTES || offset + length > PAGE_BYTES || (op & 0x7ffffffc) !== 0) return -EINVAL;
  return length === 0 || (op & 3) === 0 ? 0 : -EOPNOTSUPP;
}

/**
 * {source {gref or gmfn; u16 domid; u16 offset}; dest {same}; u16 len; u16 flags; s16 status}. A guest can only copy
 * between its own pages and its own grants: no other domain grants it anything.
 */
function copy(ctx: HypercallContext, at: number): number {
  const end = ctx.wordSize === 8 ? 16 : 8;
  ctx.mem.u16[(at + 2 * end + 4) >>> 1] = doCopy(
    ctx,
    at,
    at + end,
    ctx.mem.u16[(at + 2 * end) >>> 1],
    ctx.mem.u16[(at + 2 * end + 2) >>> 1],
  );
  return 0;
}

function doCopy(ctx: HypercallContext, source: number, dest: number, length: number, flags: number): number {
  const sourceGref = (flags & COPY_SOURCE_GREF) !== 0;
  const destGref = (flags & COPY_DEST_GREF) !== 0;
  const offsetAt = ctx.wordSize + 2;
  const from = ctx.mem.u16[(source + offsetAt) >>> 1];
  const to = ctx.mem.u16[(dest + offsetAt) >>> 1];
  if (from + length > PAGE_BYTES || to + length > PAGE_BYTES) return Gntst.badCopyArg;
  const sourceMfn = claim(ctx, source, sourceGref, false, from, length);
  if (sourceMfn < 0) return sourceMfn;
  const destMfn = claim(ctx, dest, destGref, true, to, length);
  if (destMfn >= 0) {
    const begin = ctx.mem.hostOf(sourceMfn) + from;
    ctx.mem.u8.copyWithin(ctx.mem.hostOf(destMfn) + to, begin, begin + length);
    release(ctx, dest, destGref, true, destMfn);
  }
  release(ctx, source, sourceGref, false, sourceMfn);
  return destMfn < 0 ? destMfn : Gntst.okay;
}

/** Takes one end of a copy; its MFN, or a GNTST status. */
function claim(
  ctx: HypercallContext,
  end: number,
  isGref: boolean,
  writable: boolean,
  offset: number,
  length: number,
): number {
  const { grants, domid } = ctx.domain;
  const owner = ctx.mem.u16[(end + ctx.wordSize) >>> 1];
  if (isGref) {
    if (owner === DOMID_CONTROL) return Gntst.badGntref;
    if (foreignStatus(ctx, owner) !== Gntst.okay) return Gntst.badDomain;
    const ref = ctx.mem.u32[end >>> 2];
    const status = grants.pin(ref, domid, writable, { offset, length });
    return status === Gntst.okay ? grants.pinnedMfn(ref) : status;
  }
  if (owner !== DOMID_SELF) return Gntst.permissionDenied;
  const mfn = ctx.wordSize === 8 ? loadU64(ctx.mem, end) : ctx.mem.u32[end >>> 2];
  const usable = mfn <= 0xffffffff && ctx.mem.hostOf(mfn) !== 0 && grants.mmu?.takeFrame(mfn, writable) === true;
  return usable ? mfn : Gntst.badPage;
}

function release(ctx: HypercallContext, end: number, isGref: boolean, writable: boolean, mfn: number): void {
  if (isGref) ctx.domain.grants.unpin(ctx.mem.u32[end >>> 2], writable);
  else ctx.domain.grants.mmu?.dropFrame(mfn, writable);
}
