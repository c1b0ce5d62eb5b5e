// SPDX-License-Identifier: MIT
// Hypercall memory_op: ballooning, reservation sizes, memory map, M2P location (public/memory.h).

import type { CallContext } from './call-context.ts';
import { advanceHi, advanceLo, DOMID_CONTROL, DOMID_SELF, loadU64 } from './context.ts';
import { EFAULT, EINVAL, ENOMEM, ENOSYS, EPERM, ESRCH } from './errno.ts';
import { M2P_VIRTUAL_END_HI, M2P_VIRTUAL_START_HI } from './m2p.ts';

const MemoryOp = {
  increaseReservation: 0,
  decreaseReservation: 1,
  maximumRamPage: 2,
  currentReservation: 3,
  maximumReservation: 4,
  machphysMfnList: 5,
  populatePhysmap: 6,
  addToPhysmap: 7,
  memoryMap: 9,
  machineMemoryMap: 10,
  exchange: 11,
  machphysMapping: 12,
  maximumGpfn: 14,
} as const;

/** The upper bits of the command are an extent to begin with (for restarted calls). */
const COMMAND_BITS = 6;
/** struct xen_memory_reservation {extent_start*; u64 nr_extents; u32 extent_order; u32 mem_flags; u16 domid} */
const RESERVATION_BYTES = 32;
/** {in reservation; out reservation; u64 nr_exchanged} */
const EXCHANGE_BYTES = 72;
/** Largest extent a guest without devices may ask for (2 MiB). */
const MAX_ORDER = 9;
const E820_ENTRY_BYTES = 20;

/** memory_op(cmd, argument*) */
export function memoryOp(ctx: CallContext): number {
  const { domain } = ctx;
  const command = ctx.argLo[0] & ((1 << COMMAND_BITS) - 1);
  const lo = ctx.argLo[1];
  const hi = ctx.argHi[1];
  switch (command) {
    case MemoryOp.increaseReservation:
    case MemoryOp.decreaseReservation:
    case MemoryOp.populatePhysmap:
      return changeReservation(ctx, command, ctx.argLo[0] >>> COMMAND_BITS, lo, hi);
    case MemoryOp.maximumRamPage:
      return domain.pages.frames - 1;
    case MemoryOp.currentReservation:
    case MemoryOp.maximumReservation:
    case MemoryOp.maximumGpfn: {
      const at = ctx.guest.copyIn(lo, hi, 2);
      if (at === -1) return -EFAULT;
      const refusal = checkDomid(ctx, ctx.mem.u16[at >>> 1]);
      if (refusal !== 0) return refusal;
      if (command === MemoryOp.maximumGpfn) return domain.maxPages - 1;
      return command === MemoryOp.currentReservation ? domain.totalPages : domain.maxPages;
    }
    case MemoryOp.machphysMfnList:
    case MemoryOp.machineMemoryMap:
      return -EPERM;
    case MemoryOp.addToPhysmap:
      return -EINVAL;
    case MemoryOp.memoryMap:
      return memoryMap(ctx, lo, hi);
    case MemoryOp.exchange:
      return exchange(ctx, lo, hi);
    case MemoryOp.machphysMapping: {
      const words = new Uint32Array([0, M2P_VIRTUAL_START_HI, 0, M2P_VIRTUAL_END_HI, domain.pages.frames - 1, 0]);
      return ctx.guest.copyOut(lo, hi, new Uint8Array(words.buffer)) ? 0 : -EFAULT;
    }
    default:
      return -ENOSYS;
  }
}

function checkDomid(ctx: CallContext, domid: number): number {
  if (domid === DOMID_SELF || domid === ctx.domain.domid) return 0;
  return domid === DOMID_CONTROL ? -EPERM : -ESRCH;
}

/**
 * increase_reservation, decrease_reservation and populate_physmap: the result is the number of extents done, whatever
 * ended them. Only the control domain's memory is refused with an error.
 */
function changeReservation(ctx: CallContext, command: number, start: number, lo: number, hi: number): number {
  const at = ctx.guest.copyIn(lo, hi, RESERVATION_BYTES);
  if (at === -1) return start;
  const listLo = ctx.mem.u32[at >>> 2];
  const listHi = ctx.mem.u32[(at >>> 2) + 1];
  const count = loadU64(ctx.mem, at + 8);
  const order = ctx.mem.u32[(at + 16) >>> 2];
  const refusal = checkDomid(ctx, ctx.mem.u16[(at + 24) >>> 1]);
  if (start >= count || order > MAX_ORDER || refusal === -ESRCH) return start;
  if (refusal !== 0) return refusal;
  const hasList = (listLo | listHi) !== 0;
  if (!hasList && command !== MemoryOp.increaseReservation) return start;
  let done = start;
  while (done < count && done < 0x7fffffff) {
    const entryLo = advanceLo(listLo, done * 8);
    const entryHi = advanceHi(listLo, listHi, done * 8);
    let frame = 0;
    if (command !== MemoryOp.increaseReservation) {
      const entry = ctx.readIndex(entryLo, entryHi, 8);
      if (entry === -1) break;
      frame = ctx.mem.u32[entry] + ctx.mem.u32[entry + 1] * 0x100000000;
    }
    if (command === MemoryOp.decreaseReservation) {
      if (!release(ctx, frame, 1 << order)) break;
    } else {
      const mfn = allocate(ctx, order);
      if (mfn === 0) break;
      if (command === MemoryOp.populatePhysmap) ctx.domain.m2p.set(mfn, frame >>> 0, Math.floor(frame / 0x100000000));
      if (hasList && !storeWord(ctx, entryLo, entryHi, mfn)) break;
    }
    done++;
  }
  return done;
}

/** Gives `pages` consecutive machine frames back; false at the first that is not the guest's. */
function release(ctx: CallContext, mfn: number, pages: number): boolean {
  for (let n = 0; n < pages; n++) if (!ctx.domain.releaseGuestFrame(mfn + n)) return false;
  return true;
}

/**
 * One frame for the guest, 0 when there is none. Extents of several frames would have to be consecutive, which freed
 * frames are not: they fail as they do on a fragmented machine.
 */
function allocate(ctx: CallContext, order: number): number {
  return order === 0 ? ctx.domain.allocateGuestFrame() : 0;
}

function storeWord(ctx: CallContext, lo: number, hi: number, value: number): boolean {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return ctx.guest.copyOut(lo, hi, bytes);
}

/** XENMEM_memory_map {u32 nr_entries; buffer*}: nr_entries is the room on entry and the number written on return. */
function memoryMap(ctx: CallContext, lo: number, hi: number): number {
  const { memoryMap: entries } = ctx.domain;
  if (entries === null) return -ENOSYS;
  const at = ctx.guest.copyIn(lo, hi, 16);
  if (at === -1) return -EFAULT;
  const room = ctx.mem.u32[at >>> 2];
  const bufferLo = ctx.mem.u32[(at + 8) >>> 2];
  const bufferHi = ctx.mem.u32[(at + 12) >>> 2];
  if (room < entries.length) return -EINVAL;
  const image = new Uint8Array(entries.length * E820_ENTRY_BYTES);
  const view = new DataView(image.buffer);
  for (const [n, entry] of entries.entries()) {
    const base = n * E820_ENTRY_BYTES;
    for (const [offset, value] of [
      [0, entry.address],
      [8, entry.size],
    ] as const) {
      view.setUint32(base + offset, value >>> 0, true);
      view.setUint32(base + offset + 4, Math.floor(value / 0x100000000), true);
    }
    view.setUint32(base + 16, entry.type, true);
  }
  if (!ctx.guest.copyOut(bufferLo, bufferHi, image)) return -EFAULT;
  return ctx.storeU32(lo, hi, entries.length) ? 0 : -EFAULT;
}

/**
 * XENMEM_exchange: trades frames for consecutive ones. Checked as Xen does, then refused with -ENOMEM, which guests
 * take as fragmentation: they need consecutive frames only for DMA, and no device here does DMA.
 */
function exchange(ctx: CallContext, lo: number, hi: number): number {
  const at = ctx.guest.copyIn(lo, hi, EXCHANGE_BYTES);
  if (at === -1) return -EFAULT;
  const { u16, u32 } = ctx.mem;
  const inCount = loadU64(ctx.mem, at + 8);
  const inOrder = u32[(at + 16) >>> 2];
  const outCount = loadU64(ctx.mem, at + 40);
  const outOrder = u32[(at + 48) >>> 2];
  const inDomid = u16[(at + 24) >>> 1];
  const exchanged = loadU64(ctx.mem, at + 64);
  const lists = [at, at + 32].map((from) => [u32[from >>> 2], u32[(from >>> 2) + 1]] as const);
  const domidsDiffer = inDomid !== u16[(at + 56) >>> 1];
  const balanced = inCount * 2 ** inOrder === outCount * 2 ** outOrder;
  if (exchanged > inCount || domidsDiffer || !balanced || Math.min(inOrder, outOrder) !== 0) return -EINVAL;
  if (Math.max(inOrder, outOrder) > MAX_ORDER) return -EPERM;
  // Neither list may lie in Xen's area or wrap (what XSA-212 was about).
  for (const [n, [listLo, listHi]] of lists.entries()) {
    const bytes = (n === 0 ? inCount : outCount) * 8;
    const isUser = listHi < 0x8000;
    const end = listHi * 0x100000000 + listLo + bytes;
    if (isUser ? end > 2 ** 47 : listHi < 0xffff8800) return -EFAULT;
  }
  const refusal = checkDomid(ctx, inDomid);
  if (refusal !== 0) return refusal;
  const done = new Uint32Array([exchanged >>> 0, Math.floor(exchanged / 0x100000000)]);
  // The frames of the first chunk, as far as Xen gets before it allocates.
  const chunk = Math.min(2 ** Math.max(0, outOrder - inOrder), inCount - exchanged);
  const [listLo, listHi] = lists[0]!;
  for (let n = 0; n < chunk; n++) {
    const low = listLo + (exchanged + n) * 8;
    const entry = ctx.readIndex(low >>> 0, (listHi + Math.floor(low / 0x100000000)) >>> 0, 8);
    if (entry === -1) return -EFAULT;
    if (!ctx.domain.pages.isGuest(u32[entry] + u32[entry + 1] * 0x100000000)) return -EINVAL;
  }
  const told = ctx.guest.copyOut(advanceLo(lo, 64), advanceHi(lo, hi, 64), new Uint8Array(done.buffer));
  if (!told) return -EFAULT;
  return chunk === 0 ? 0 : -ENOMEM;
}
