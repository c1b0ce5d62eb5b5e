// SPDX-License-Identifier: MIT
// The machine-to-physical table: an array of u64 indexed by MFN that the guest reads at 0xffff800000000000 (xen.h).

import type { MachineMemoryView } from './context.ts';
import { Pte } from './mmu.ts';
import { Owner, type PageTypes } from './page-types.ts';

/** Where a 64-bit guest finds the table, high half of the address (the low half is 0). */
export const M2P_VIRTUAL_START_HI = 0xffff8000;
/** End of the range the ABI reserves for it, high half. */
export const M2P_VIRTUAL_END_HI = 0xffff8040;

const ENTRIES_PER_FRAME = 512;
const NX_HI = 0x80000000;

/** How many frames of ours an M2P for MFNs below `frames` takes, its page tables included. */
export function m2pFrames(frames: number): number {
  const table = Math.ceil(frames / ENTRIES_PER_FRAME);
  const l1 = Math.ceil(table / ENTRIES_PER_FRAME);
  return table + l1 + Math.ceil(l1 / ENTRIES_PER_FRAME) + 1;
}

/** The M2P of one domain and the page tables (L3 to L1, ours) that map it. */
export class M2p {
  /** MFN of the L3 table for L4 slot 256. */
  readonly l3: number;
  private readonly mem: MachineMemoryView;
  /** Frames of the table itself, in order. */
  private readonly frames: Uint32Array;

  /**
   * Builds the table for MFNs below `pages.frames`, every entry invalid, and its page tables.
   * @param allocate gives the MFN of a zeroed frame that belongs to Xen.
   */
  constructor(mem: MachineMemoryView, pages: PageTypes, allocate: () => number) {
    this.mem = mem;
    this.frames = new Uint32Array(Math.ceil(pages.frames / ENTRIES_PER_FRAME));
    const take = (): number => {
      const mfn = allocate();
      pages.owner[mfn] = Owner.xen;
      return mfn;
    };
    this.l3 = take();
    let l2 = 0;
    let l1 = 0;
    for (let n = 0; n < this.frames.length; n++) {
      if ((n & 0x3ffff) === 0) l2 = this.link(this.l3, n >>> 18, take());
      if ((n & 0x1ff) === 0) l1 = this.link(l2, (n >>> 9) & 0x1ff, take());
      const frame = this.link(l1, n & 0x1ff, take());
      const host = mem.hostOf(frame);
      mem.u32.fill(0xffffffff, host >>> 2, (host >>> 2) + 1024);
      this.frames[n] = frame;
    }
  }

  /** Records which PFN a machine frame is; values of 2^32 and more are kept as given. The MFN is below `pages.frames`. */
  set(mfn: number, pfnLo: number, pfnHi: number): void {
    const at = this.index(mfn);
    this.mem.u32[at] = pfnLo;
    this.mem.u32[at + 1] = pfnHi;
  }

  /** Low half of the entry: the PFN, or 0xffffffff for a frame that is not the guest's. */
  get(mfn: number): number {
    return this.mem.u32[this.index(mfn)];
  }

  /** Marks a frame as nobody's. */
  clear(mfn: number): void {
    this.set(mfn, 0xffffffff, 0xffffffff);
  }

  private index(mfn: number): number {
    const frame = this.frames[Math.floor(mfn / ENTRIES_PER_FRAME)];
    return (this.mem.hostOf(frame) >>> 2) + (mfn % ENTRIES_PER_FRAME) * 2;
  }

  /** Makes entry `index` of a table refer to `target`, readable but not writable at CPL 3. */
  private link(table: number, index: number, target: number): number {
    const at = (this.mem.hostOf(table) >>> 2) + index * 2;
    this.mem.u32[at] = (target << 12) | Pte.present | Pte.user | Pte.accessed;
    this.mem.u32[at + 1] = (target >>> 20) | NX_HI;
    return target;
  }
}
