// SPDX-License-Identifier: MIT
// Grant tables, versions 1 and 2: shared frames, pins, and access by back ends (public/grant_table.h).

import { DOMID_CONTROL, type MachineMemoryView } from './context.ts';
import type { Counters } from './counters.ts';
import { GrantMaptrack } from './grant-maptrack.ts';
import { EBUSY, EINVAL, ENOMEM, ERANGE } from './errno.ts';

/** Status codes stored in grant-table arguments (GNTST_*). */
export const Gntst = {
  okay: 0,
  generalError: -1,
  badDomain: -2,
  badGntref: -3,
  badHandle: -4,
  badVirtAddr: -5,
  badDevAddr: -6,
  noDeviceSpace: -7,
  permissionDenied: -8,
  badPage: -9,
  badCopyArg: -10,
  addressTooBig: -11,
  eagain: -12,
} as const;

const GTF_PERMIT_ACCESS = 1;
const GTF_TYPE_MASK = 3;
const GTF_READONLY = 4;
const GTF_READING = 8;
const GTF_WRITING = 16;
const GTF_SUB_PAGE = 256;

const PAGE_BYTES = 4096;
/** Entries the guest leaves to the toolstack; they survive a change of version. */
export const RESERVED_ENTRIES = 8;
export const ENTRY_CONSOLE = 0;
export const ENTRY_XENSTORE = 1;
/** Frames of the shared table a guest may have: Xen's default `gnttab_max_frames`. */
export const DEFAULT_MAX_GRANT_FRAMES = 64;

/** What the memory manager does for the grant table. Its functions must not call `GuestAccess.copyIn`: an argument lies there. */
export interface GrantMmu {
  /**
   * Takes a reference to a frame of this domain; for a writable one also its "writable" type. False when the frame is
   * not the guest's, or is a page table or descriptor table and would become writable.
   */
  takeFrame(mfn: number, writable: boolean): boolean;
  /** Gives back what `takeFrame` took. */
  dropFrame(mfn: number, writable: boolean): void;
  /**
   * Makes the L1 entry for a host mapping. `lo`/`hi` is the guest linear address, or with `GNTMAP_contains_pte` in
   * `flags` the machine address of the entry. Returns a GNTST status.
   */
  installGrantMapping(lo: number, hi: number, mfn: number, flags: number): number;
  /** Clears that entry if it still maps `mfn`. Returns a GNTST status. */
  removeGrantMapping(lo: number, hi: number, mfn: number, flags: number): number;
  /** Whether any guest entry maps this Xen-owned frame (a status frame in use cannot be withdrawn). */
  isFrameMapped(mfn: number): boolean;
}

export interface GrantTableOptions {
  readonly mem: MachineMemoryView;
  readonly counters: Counters;
  readonly domid: number;
  /** Gives a zeroed Xen-owned frame that the guest may map; 0 when there is none left. */
  readonly allocateXenFrame: () => number;
  readonly maxFrames?: number;
}

/** An entry in use: which frame it named when it was first pinned, and how often it is pinned. */
interface ActiveEntry {
  readonly mfn: number;
  reads: number;
  writes: number;
}

/** The grant table of one domain. */
export class GrantTable {
  readonly maxFrames: number;
  readonly domid: number;
  /** MFNs of the shared table's frames, in order. */
  readonly frames: number[] = [];
  /** MFNs of the status frames (version 2 only). */
  readonly statusFrames: number[] = [];
  /** Layout in use: 1 or 2. */
  version: 1 | 2 = 1;
  mmu: GrantMmu | null = null;
  /** The guest's own mappings. */
  readonly maptrack = new GrantMaptrack();
  private readonly mem: MachineMemoryView;
  private readonly counters: Counters;
  private readonly allocateXenFrame: () => number;
  private readonly active = new Map<number, ActiveEntry>();
  private readonly spareStatusFrames: number[] = [];

  constructor(options: GrantTableOptions) {
    this.mem = options.mem;
    this.counters = options.counters;
    this.domid = options.domid;
    this.allocateXenFrame = options.allocateXenFrame;
    this.maxFrames = options.maxFrames ?? DEFAULT_MAX_GRANT_FRAMES;
  }

  /** Connects the memory manager; without one no grant can be mapped or accessed. */
  setMmu(mmu: GrantMmu): void {
    this.mmu = mmu;
  }

  /** Number of entries the table has now. */
  get entryCount(): number {
    return this.frames.length * (this.version === 1 ? 512 : 256);
  }

  /** Grows the shared table (and its status frames) to `count` frames. False when over the limit or out of frames. */
  grow(count: number): boolean {
    if (count > this.maxFrames) return false;
    while (this.frames.length < count) {
      const mfn = this.allocateXenFrame();
      if (mfn === 0) return false;
      this.frames.push(mfn);
    }
    return this.version === 1 || this.growStatus();
  }

  /** Writes a toolstack entry (console, xenstore): full access for the control domain. */
  seed(ref: number, mfn: number): void {
    if (this.frames.length === 0) this.grow(1);
    this.writeEntry(ref, GTF_PERMIT_ACCESS, DOMID_CONTROL, mfn);
  }

  /**
   * Changes the layout (GNTTABOP_set_version). Ordinary entries are cleared, the reserved ones are translated.
   * -EBUSY while an ordinary entry is pinned or a status frame is mapped, -ERANGE when a reserved entry does not fit
   * the version 1 layout, -ENOMEM.
   */
  setVersion(version: number): number {
    if (version !== 1 && version !== 2) return -EINVAL;
    if (version === this.version) return 0;
    for (const ref of this.active.keys()) if (ref >= RESERVED_ENTRIES) return -EBUSY;
    if (version === 1 && this.statusFrames.some((mfn) => this.mmu?.isFrameMapped(mfn) === true)) return -EBUSY;

    const reserved: { flags: number; domid: number; mfn: number }[] = [];
    for (let ref = 0; ref < Math.min(RESERVED_ENTRIES, this.entryCount); ref++) {
      let flags = this.flags(ref);
      if (this.version === 2) {
        if ((flags & GTF_SUB_PAGE) !== 0 || (flags & GTF_TYPE_MASK) > GTF_PERMIT_ACCESS) return -ERANGE;
        flags |= this.mem.u16[this.statusAddress(ref) >>> 1];
      }
      const mfn = this.frameField(ref);
      if (version === 1 && mfn > 0xffffffff) return -ERANGE;
      reserved.push({ flags, domid: this.entryDomid(ref), mfn });
    }
    if (version === 2 && !this.growStatus()) return -ENOMEM;
    if (version === 1) this.spareStatusFrames.push(...this.statusFrames.splice(0).reverse());
    this.version = version;
    for (const mfn of this.frames) this.clearFrame(mfn);
    for (const mfn of this.statusFrames) this.clearFrame(mfn);
    for (const [ref, entry] of reserved.entries()) {
      const inUse = entry.flags & (GTF_READING | GTF_WRITING);
      this.writeEntry(ref, version === 1 ? entry.flags : entry.flags & ~inUse, entry.domid, entry.mfn);
      if (version === 2) this.mem.u16[this.statusAddress(ref) >>> 1] = inUse;
    }
    return 0;
  }

  /** Forgets the table's contents and version for a resumed guest; frames stay allocated. Pins must be gone. */
  reset(): void {
    for (const mfn of this.frames) this.clearFrame(mfn);
    if (this.version === 2) this.spareStatusFrames.push(...this.statusFrames.splice(0).reverse());
    this.version = 1;
  }

  // --- Back ends. ---

  /**
   * Gives a back end (domain 0) access to a granted frame and marks the entry as in use. Returns the host address of the
   * frame's first byte, or -1 when the guest did not grant that access. For a version 2 sub-page grant, the given
   * range must lie inside the granted one. Every success needs one `endAccess` with the same arguments.
   */
  access(ref: number, writable: boolean, offset = 0, length = PAGE_BYTES): number {
    const status = this.pin(ref, DOMID_CONTROL, writable, { offset, length });
    if (status < 0) {
      this.counters.count(`grant.refused.${writable ? 'write' : 'read'}`);
      return -1;
    }
    return this.mem.hostOf(this.pinnedMfn(ref));
  }

  /** Ends an access begun with `access`; the last one clears the entry's in-use marks so that the guest can revoke it. */
  endAccess(ref: number, writable: boolean): void {
    this.unpin(ref, writable);
  }

  // --- Pins: shared by back ends, mappings and copies. ---

  /**
   * Pins an entry for a domain: checks permission, marks reading (and writing), takes the frame. `range` is given when
   * only part of the frame is used, which a sub-page grant needs. Returns a GNTST status.
   */
  pin(ref: number, forDomid: number, writable: boolean, range: { offset: number; length: number } | null): number {
    if (ref >= this.entryCount) return Gntst.badGntref;
    const entry = this.active.get(ref);
    const status = this.mark(ref, forDomid, writable, range);
    if (status !== Gntst.okay) return status;
    const mfn = entry === undefined ? this.frameField(ref) : entry.mfn;
    const taken = mfn <= 0xffffffff && this.mem.hostOf(mfn) !== 0 && this.mmu?.takeFrame(mfn, writable) === true;
    if (!taken) {
      this.unmark(ref, (entry?.writes ?? 0) === 0 && writable, entry === undefined);
      return Gntst.generalError;
    }
    const active = entry ?? { mfn, reads: 0, writes: 0 };
    if (writable) active.writes++;
    else active.reads++;
    this.active.set(ref, active);
    return Gntst.okay;
  }

  /** Undoes one `pin`. Ignored when the entry is not pinned that way. */
  unpin(ref: number, writable: boolean): void {
    const entry = this.active.get(ref);
    if (entry === undefined || (writable ? entry.writes : entry.reads) === 0) return;
    if (writable) entry.writes--;
    else entry.reads--;
    this.mmu?.dropFrame(entry.mfn, writable);
    const unused = entry.writes + entry.reads === 0;
    if (unused) this.active.delete(ref);
    this.unmark(ref, writable && entry.writes === 0, unused);
  }

  /** MFN of a pinned entry, 0 when it is not pinned. */
  pinnedMfn(ref: number): number {
    return this.active.get(ref)?.mfn ?? 0;
  }

  /** Exchanges two entries (GNTTABOP_swap_grant_ref). */
  swap(a: number, b: number): number {
    if (a >= this.entryCount || b >= this.entryCount) return Gntst.badGntref;
    if (a === b) return Gntst.okay;
    if (this.active.has(a) || this.active.has(b)) return Gntst.eagain;
    const bytes = this.version === 1 ? 8 : 16;
    const at = this.entryAddress(a);
    const bt = this.entryAddress(b);
    const saved = this.mem.u8.slice(at, at + bytes);
    this.mem.u8.copyWithin(at, bt, bt + bytes);
    this.mem.u8.set(saved, bt);
    return Gntst.okay;
  }

  /**
   * Checks the entry and sets its in-use marks. The guest may change flags and domid at any moment, so version 1 does
   * it as one compare-and-swap of that word; version 2 marks its status word first and looks again.
   */
  private mark(
    ref: number,
    forDomid: number,
    writable: boolean,
    range: { offset: number; length: number } | null,
  ): number {
    const at = this.entryAddress(ref) >>> 2;
    const wanted = GTF_READING | (writable ? GTF_WRITING : 0);
    for (let attempt = 0; attempt < 5; attempt++) {
      const word = Atomics.load(this.mem.i32, at);
      const refusal = this.check(ref, word >>> 0, forDomid, writable, range);
      if (refusal !== Gntst.okay) return refusal;
      if (this.version === 1) {
        if (Atomics.compareExchange(this.mem.i32, at, word, word | wanted) === word) return Gntst.okay;
      } else {
        const status = this.statusAddress(ref) >>> 1;
        const before = Atomics.or(this.mem.u16, status, wanted);
        if (Atomics.load(this.mem.i32, at) === word) return Gntst.okay;
        Atomics.and(this.mem.u16, status, before);
      }
    }
    this.counters.count('grant.unstable-entry');
    return Gntst.generalError;
  }

  private check(
    ref: number,
    word: number,
    forDomid: number,
    writable: boolean,
    range: { offset: number; length: number } | null,
  ): number {
    const flags = word & 0xffff;
    if ((flags & GTF_TYPE_MASK) !== GTF_PERMIT_ACCESS || word >>> 16 !== forDomid) return Gntst.generalError;
    if (writable && (flags & GTF_READONLY) !== 0) return Gntst.generalError;
    if (this.version === 2 && (flags & GTF_SUB_PAGE) !== 0) {
      if (range === null) return Gntst.generalError;
      const at = this.entryAddress(ref) >>> 1;
      const begin = this.mem.u16[at + 2];
      const end = begin + this.mem.u16[at + 3];
      if (range.offset < begin || range.offset + range.length > Math.min(end, PAGE_BYTES)) return Gntst.generalError;
    }
    return Gntst.okay;
  }

  private unmark(ref: number, writing: boolean, reading: boolean): void {
    const mask = (writing ? GTF_WRITING : 0) | (reading ? GTF_READING : 0);
    const at = this.version === 1 ? this.entryAddress(ref) : this.statusAddress(ref);
    Atomics.and(this.mem.u16, at >>> 1, ~mask & 0xffff);
  }

  private growStatus(): boolean {
    const needed = (this.frames.length + 7) >> 3;
    while (this.statusFrames.length < needed) {
      const mfn = this.spareStatusFrames.pop() ?? this.allocateXenFrame();
      if (mfn === 0) return false;
      this.clearFrame(mfn);
      this.statusFrames.push(mfn);
    }
    return true;
  }

  private entryAddress(ref: number): number {
    const shift = this.version === 1 ? 9 : 8;
    const frame = this.mem.hostOf(this.frames[ref >>> shift]);
    return frame + ((ref & ((1 << shift) - 1)) << (12 - shift));
  }

  private statusAddress(ref: number): number {
    return this.mem.hostOf(this.statusFrames[ref >>> 11]) + ((ref & 2047) << 1);
  }

  private flags(ref: number): number {
    return this.mem.u16[this.entryAddress(ref) >>> 1];
  }

  private entryDomid(ref: number): number {
    return this.mem.u16[(this.entryAddress(ref) >>> 1) + 1];
  }

  /** The frame number of an entry; may be any 64-bit value in version 2. */
  private frameField(ref: number): number {
    const at = this.entryAddress(ref) >>> 2;
    if (this.version === 1) return this.mem.u32[at + 1];
    return this.mem.u32[at + 3] * 0x100000000 + this.mem.u32[at + 2];
  }

  private writeEntry(ref: number, flags: number, domid: number, mfn: number): void {
    const at = this.entryAddress(ref);
    if (this.version === 1) {
      this.mem.u32[(at >>> 2) + 1] = mfn;
    } else {
      this.mem.u32[(at >>> 2) + 2] = mfn >>> 0;
      this.mem.u32[(at >>> 2) + 3] = Math.floor(mfn / 0x100000000);
    }
    this.mem.u16[(at >>> 1) + 1] = domid;
    // Flags last: they make the entry valid.
    Atomics.store(this.mem.u16, at >>> 1, flags);
  }

  private clearFrame(mfn: number): void {
    const at = this.mem.hostOf(mfn);
    this.mem.u8.fill(0, at, at + PAGE_BYTES);
  }
}
