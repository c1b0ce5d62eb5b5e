// SPDX-License-Identifier: MIT
// Validation of guest page tables (direct paging): every entry of a live table is checked and counted when it is set.

import type { MachineMemoryView } from './context.ts';
import { EBUSY, EINVAL, EPERM } from './errno.ts';
import type { GuestCpu } from './guest-cpu.ts';
import { Owner, PageType, type PageTypes } from './page-types.ts';

/** Bits of a page-table entry, low half. */
export const Pte = { present: 1, writable: 2, user: 4, accessed: 0x20, dirty: 0x40 } as const;

/** Low-half bits refused in L1 entries of a domain without devices: PWT, PCD, PAT. */
const L1_REFUSED = 0x98;
/** The same for L2 to L4: PWT, PCD, PSE/PAT, GLOBAL. */
const TABLE_REFUSED = 0x198;
/** Software bit (52) with which Xen marks entries that came without USER. */
const KERNEL_MARK_HI = 0x100000;
const NX_HI = 0x80000000;
/** Frame number bits of the high half. */
const FRAME_HI = 0xfffff;

/** L4 slots that belong to Xen: 0xffff800000000000 up to 0xffff87ffffffffff. */
export const FIRST_XEN_SLOT = 256;
export const LAST_XEN_SLOT = 271;

/** The frame a page-table entry names. */
export function frameOf(lo: number, hi: number): number {
  return (lo >>> 12) + (hi & FRAME_HI) * 0x100000;
}

export interface MmuOptions {
  readonly mem: MachineMemoryView;
  readonly pages: PageTypes;
  /** All vCPUs: their TLBs must follow every change. */
  readonly cpus: readonly GuestCpu[];
  /** MFN of the L3 table put into slot 256 of every L4 (it maps the M2P), 0 for none. */
  readonly m2pL3: number;
  /** A frame the guest gave back has lost its last reference. */
  readonly onFree?: (mfn: number) => void;
}

/** Page-table validation and updates for one 64-bit domain. Results are 0 or a negated errno. */
export class Mmu {
  readonly pages: PageTypes;
  private readonly mem: MachineMemoryView;
  private readonly cpus: readonly GuestCpu[];
  private readonly m2pL3: number;
  private readonly onFree: (mfn: number) => void;
  /** L1 table and entry found by the last successful `findL1Entry`. */
  foundTable = 0;
  foundIndex = 0;

  constructor(options: MmuOptions) {
    this.mem = options.mem;
    this.pages = options.pages;
    this.cpus = options.cpus;
    this.m2pL3 = options.m2pL3;
    this.onFree = options.onFree ?? ((): void => {});
  }

  // --- References and types. ---

  /** Takes a use of a guest frame as page table of `type` (1 to 4), validating its whole tree when it is the first. */
  takeTable(mfn: number, type: PageType): number {
    const { pages } = this;
    if (!pages.isGuest(mfn)) return -EINVAL;
    const count = pages.typeCount[mfn];
    if (count !== 0) {
      if (pages.type[mfn] !== type) return -EINVAL;
      pages.typeCount[mfn] = count + 1;
      pages.refs[mfn]++;
      return 0;
    }
    // Counted before its entries are looked at, so that an entry that refers to the table itself finds its type.
    pages.type[mfn] = type;
    pages.typeCount[mfn] = 1;
    pages.refs[mfn]++;
    const result = this.validate(mfn, type);
    if (result !== 0) {
      pages.typeCount[mfn] = 0;
      pages.type[mfn] = PageType.none;
      this.dropRef(mfn);
    }
    return result;
  }

  /** Takes a use of a guest frame as descriptor page. The caller checks its contents on the first use (`isFirst`). */
  takeSegdesc(mfn: number): number {
    const { pages } = this;
    if (!pages.isGuest(mfn)) return -EINVAL;
    const count = pages.typeCount[mfn];
    if (count !== 0 && pages.type[mfn] !== PageType.segdesc) return -EINVAL;
    pages.type[mfn] = PageType.segdesc;
    pages.typeCount[mfn] = count + 1;
    pages.refs[mfn]++;
    return 0;
  }

  /** Takes a use of a frame the guest may write: its own or a shared one. */
  takeWritable(mfn: number): number {
    const { pages } = this;
    const owner = mfn < pages.frames ? pages.owner[mfn] : Owner.none;
    if (owner !== Owner.guest && owner !== Owner.sharedWritable) return -EINVAL;
    if (!pages.takeWritable(mfn)) return -EINVAL;
    pages.refs[mfn]++;
    return 0;
  }

  /** Gives back a use taken by one of the `take` methods. */
  dropType(mfn: number): void {
    const { pages } = this;
    const count = pages.typeCount[mfn] - 1;
    pages.typeCount[mfn] = count;
    if (count === 0) {
      const type = pages.type[mfn] as PageType;
      if (type >= PageType.l1 && type <= PageType.l4) this.invalidate(mfn, type);
      pages.type[mfn] = PageType.none;
    }
    this.dropRef(mfn);
  }

  /** Takes a plain reference: the frame cannot be given to anybody else while it is held. */
  takeRef(mfn: number): void {
    this.pages.refs[mfn]++;
  }

  dropRef(mfn: number): void {
    const left = --this.pages.refs[mfn];
    if (left === 0 && this.pages.relinquished[mfn] !== 0) this.onFree(mfn);
  }

  /** Pins a table at its type (MMUEXT_PIN_L1_TABLE to PIN_L4_TABLE). -EINVAL when already pinned or not such a table. */
  pin(mfn: number, type: PageType): number {
    if (!this.pages.isGuest(mfn)) return -EINVAL;
    if (this.pages.pinned[mfn] !== 0) return -EINVAL;
    const result = this.takeTable(mfn, type);
    if (result === 0) this.pages.pinned[mfn] = 1;
    return result;
  }

  /** Undoes `pin`. -EINVAL when the frame is not pinned. */
  unpin(mfn: number): number {
    if (!this.pages.isGuest(mfn) || this.pages.pinned[mfn] === 0) return -EINVAL;
    this.pages.pinned[mfn] = 0;
    this.dropType(mfn);
    return 0;
  }

  // --- Updates. ---

  /**
   * Stores an entry into a table in use at `level` (1 to 4), or refuses. With `preserveAd` the old accessed and dirty
   * bits are kept. -EINVAL: forbidden bits, a Xen slot, or a frame that cannot be used that way; L1 entries: see
   * `takeL1Entry`.
   */
  updateEntry(table: number, level: number, index: number, lo: number, hi: number, preserveAd: boolean): number {
    if (level === 1) return this.updateL1(table, index, lo, hi, preserveAd);
    if (level === 4 && index >= FIRST_XEN_SLOT && index <= LAST_XEN_SLOT) return -EINVAL;
    const { u32 } = this.mem;
    const at = (this.mem.hostOf(table) + index * 8) >>> 2;
    const oldLo = u32[at];
    const oldHi = u32[at + 1];
    const oldPresent = (oldLo & Pte.present) !== 0;
    if ((lo & Pte.present) !== 0) {
      if (preserveAd) lo |= oldLo & (Pte.accessed | Pte.dirty);
      lo |= Pte.user;
      const sameTarget =
        oldPresent && ((oldLo ^ lo) & (0xfffff003 | TABLE_REFUSED)) === 0 && ((oldHi ^ hi) & FRAME_HI) === 0;
      if (sameTarget) {
        u32[at] = lo;
        u32[at + 1] = hi;
        if (((oldHi ^ hi) & NX_HI) !== 0) this.flushUnlessEmpty(oldLo, oldHi);
        return 0;
      }
      const result = this.takeTableEntry(table, level, lo, hi);
      if (result !== 0) return result;
    }
    u32[at + 1] = hi;
    u32[at] = lo;
    if (oldPresent) {
      this.flushUnlessEmpty(oldLo, oldHi);
      this.dropTableEntry(table, oldLo, oldHi);
    }
    return 0;
  }

  /** `updateEntry` for L1 tables: the hot path of a guest's boot. */
  updateL1(table: number, index: number, lo: number, hi: number, preserveAd: boolean): number {
    const { u32 } = this.mem;
    const at = (this.mem.hostOf(table) + index * 8) >>> 2;
    const oldLo = u32[at];
    const oldHi = u32[at + 1];
    let dropOld = (oldLo & Pte.present) !== 0;
    if ((lo & Pte.present) !== 0) {
      if (preserveAd) lo |= oldLo & (Pte.accessed | Pte.dirty);
      if (dropOld && ((oldLo ^ lo) & (0xfffff003 | L1_REFUSED)) === 0 && ((oldHi ^ hi) & FRAME_HI) === 0) {
        dropOld = false;
      } else {
        const result = this.takeL1Entry(lo, hi);
        if (result !== 0) return result;
      }
      if ((lo & Pte.user) === 0) {
        lo |= Pte.user;
        hi |= KERNEL_MARK_HI;
      }
    }
    u32[at + 1] = hi;
    u32[at] = lo;
    if ((oldLo & Pte.present) !== 0 && (oldLo !== lo >>> 0 || oldHi !== hi >>> 0)) {
      let isFlushed = false;
      for (const cpu of this.cpus) if (cpu.entryChanged(table, index)) isFlushed = true;
      // All did the same. Linux changes whole tables that it sees at several places: the next entries need no flush each.
      if (isFlushed) for (const cpu of this.cpus) cpu.forgetTable?.(table);
    }
    if (dropOld) this.dropL1Entry(oldLo, oldHi);
    return 0;
  }

  /**
   * Finds the L1 entry that maps an address under a root: true and `foundTable`/`foundIndex`, or false when there is no
   * path to a guest L1 table.
   */
  findL1Entry(root: number, lo: number, hi: number): boolean {
    const l3 = this.nextTable(root, (hi >>> 7) & 0x1ff);
    if (l3 < 0) return false;
    const l2 = this.nextTable(l3, ((hi & 0x7f) << 2) | (lo >>> 30));
    if (l2 < 0) return false;
    const l1 = this.nextTable(l2, (lo >>> 21) & 0x1ff);
    // Xen's own tables (the M2P) are reachable, but they are not the guest's to change.
    if (l1 < 0 || !this.pages.hasType(l1, PageType.l1)) return false;
    this.foundTable = l1;
    this.foundIndex = (lo >>> 12) & 0x1ff;
    return true;
  }

  /** Index in the u32 view of the entry found last. */
  foundEntry(): number {
    return (this.mem.hostOf(this.foundTable) + this.foundIndex * 8) >>> 2;
  }

  /** Drops all TLB entries of all vCPUs. */
  flushAll(): void {
    for (const cpu of this.cpus) cpu.flushTlb();
  }

  // --- Entries. ---

  /** Checks and counts a present L1 entry's target. -EINVAL: forbidden bits; -EPERM: no such frame; -EBUSY: not the guest's, or not to be written. */
  takeL1Entry(lo: number, hi: number): number {
    if ((lo & L1_REFUSED) !== 0) return -EINVAL;
    const { pages } = this;
    const mfn = frameOf(lo, hi);
    if (mfn >= pages.frames) return -EPERM;
    const owner = pages.owner[mfn];
    if (owner === Owner.none) return this.mem.hostOf(mfn) === 0 ? -EPERM : -EBUSY;
    if (owner === Owner.xen) return -EBUSY;
    if ((lo & Pte.writable) !== 0) {
      if (owner === Owner.sharedReadOnly || !pages.takeWritable(mfn)) return -EBUSY;
    }
    pages.refs[mfn]++;
    return 0;
  }

  /** Undoes `takeL1Entry`. */
  dropL1Entry(lo: number, hi: number): void {
    const { pages } = this;
    const mfn = frameOf(lo, hi);
    if ((lo & Pte.writable) !== 0 && --pages.typeCount[mfn] === 0) pages.type[mfn] = PageType.none;
    if (--pages.refs[mfn] === 0 && pages.relinquished[mfn] !== 0) this.onFree(mfn);
  }

  private takeTableEntry(table: number, level: number, lo: number, hi: number): number {
    if ((lo & TABLE_REFUSED) !== 0) return -EINVAL;
    const target = frameOf(lo, hi);
    const result = this.takeTable(target, (level - 1) as PageType);
    if (result === 0 || (lo & Pte.writable) !== 0) return result;
    // A linear ("recursive") page table: a read-only entry that refers to a table of the same level.
    if (target === table) {
      this.takeRef(target);
      return 0;
    }
    return this.pages.hasType(target, level as PageType) ? this.takeTable(target, level as PageType) : result;
  }

  private dropTableEntry(table: number, lo: number, hi: number): void {
    const target = frameOf(lo, hi);
    if (target === table) this.dropRef(target);
    else this.dropType(target);
  }

  private nextTable(table: number, index: number): number {
    const host = this.mem.hostOf(table);
    if (host === 0) return -1;
    const at = (host + index * 8) >>> 2;
    const lo = this.mem.u32[at];
    return (lo & Pte.present) === 0 ? -1 : frameOf(lo, this.mem.u32[at + 1]);
  }

  // --- Whole tables. ---

  private validate(mfn: number, type: PageType): number {
    return type === PageType.l1 ? this.validateL1(mfn) : this.validateTable(mfn, type);
  }

  private validateL1(mfn: number): number {
    const { u32 } = this.mem;
    const base = this.mem.hostOf(mfn) >>> 2;
    for (let at = base; at < base + 1024; at += 2) {
      const lo = u32[at];
      if ((lo & Pte.present) === 0) continue;
      const hi = u32[at + 1];
      const result = this.takeL1Entry(lo, hi);
      if (result !== 0) {
        for (let undo = base; undo < at; undo += 2) {
          if ((u32[undo] & Pte.present) !== 0) this.dropL1Entry(u32[undo], u32[undo + 1]);
        }
        return result;
      }
      if ((lo & Pte.user) === 0) {
        u32[at] = lo | Pte.user;
        u32[at + 1] = hi | KERNEL_MARK_HI;
      }
    }
    return 0;
  }

  private validateTable(mfn: number, level: number): number {
    const { u32 } = this.mem;
    const base = this.mem.hostOf(mfn) >>> 2;
    for (let index = 0; index < 512; index++) {
      if (level === 4 && index === FIRST_XEN_SLOT) index = LAST_XEN_SLOT + 1;
      const at = base + index * 2;
      const lo = u32[at];
      if ((lo & Pte.present) === 0) continue;
      const result = this.takeTableEntry(mfn, level, lo, u32[at + 1]);
      if (result !== 0) {
        this.dropTableEntries(mfn, level, index);
        return result;
      }
      u32[at] = lo | Pte.user;
    }
    if (level === 4) this.insertXenSlots(base);
    return 0;
  }

  private insertXenSlots(base: number): void {
    const { u32 } = this.mem;
    u32.fill(0, base + FIRST_XEN_SLOT * 2, base + (LAST_XEN_SLOT + 1) * 2);
    if (this.m2pL3 !== 0) {
      u32[base + FIRST_XEN_SLOT * 2] = (this.m2pL3 << 12) | Pte.present | Pte.user | Pte.accessed;
      u32[base + FIRST_XEN_SLOT * 2 + 1] = (this.m2pL3 >>> 20) | NX_HI;
    }
  }

  private invalidate(mfn: number, level: number): void {
    if (level === 4) {
      for (const cpu of this.cpus) cpu.forgetRoot(mfn);
    }
    if (level !== 1) {
      this.dropTableEntries(mfn, level, 512);
      return;
    }
    for (const cpu of this.cpus) cpu.forgetTable?.(mfn);
    const { u32 } = this.mem;
    const base = this.mem.hostOf(mfn) >>> 2;
    for (let at = base; at < base + 1024; at += 2) {
      if ((u32[at] & Pte.present) !== 0) this.dropL1Entry(u32[at], u32[at + 1]);
    }
  }

  private dropTableEntries(mfn: number, level: number, count: number): void {
    const { u32 } = this.mem;
    const base = this.mem.hostOf(mfn) >>> 2;
    for (let index = 0; index < count; index++) {
      if (level === 4 && index >= FIRST_XEN_SLOT && index <= LAST_XEN_SLOT) continue;
      const at = base + index * 2;
      const lo = u32[at];
      if ((lo & Pte.present) !== 0) this.dropTableEntry(mfn, lo, u32[at + 1]);
    }
  }

  /**
   * Flushes when translations may exist below an entry that changes. A guest that tears down an address space empties
   * its tables from the leaves up, each leaf dropping its own TLB entry, so this is nearly always a scan without flush.
   */
  private flushUnlessEmpty(lo: number, hi: number): void {
    const { u32 } = this.mem;
    const host = this.mem.hostOf(frameOf(lo, hi));
    const base = host >>> 2;
    for (let at = base; at < base + 1024; at += 2) {
      if ((u32[at] & Pte.present) !== 0) {
        this.flushAll();
        return;
      }
    }
  }
}
