// SPDX-License-Identifier: MIT
// Owner, type and reference counts of every machine frame: what keeps a guest from editing its page tables directly.

/** Who a frame belongs to. */
export const Owner = {
  /** No such frame, or free. */
  none: 0,
  /** The guest's memory. */
  guest: 1,
  /** Ours, but the guest may map it read-write (shared_info, grant table). */
  sharedWritable: 2,
  /** Ours, and the guest may map it read-only (grant status frames). */
  sharedReadOnly: 3,
  /** Ours alone (M2P, Xen's page tables and descriptor table). */
  xen: 4,
} as const;
export type Owner = (typeof Owner)[keyof typeof Owner];

/** What a frame is used as; it has at most one use at a time, as long as its type count is above 0. */
export const PageType = {
  none: 0,
  l1: 1,
  l2: 2,
  l3: 3,
  l4: 4,
  /** Holds descriptors of a loaded GDT or LDT. */
  segdesc: 5,
  /** Mapped read-write, or written by Xen for the guest. */
  writable: 6,
} as const;
export type PageType = (typeof PageType)[keyof typeof PageType];

/** Bytes of bookkeeping per frame: 2 counts of 4 bytes and 4 bytes of state. */
export const BYTES_PER_FRAME = 12;

/** State per frame, as flat arrays indexed by MFN so that it can lie in memory shared between vCPU threads. */
export class PageTypes {
  /** MFNs from 0 to `frames` - 1 can be described; all others do not exist. */
  readonly frames: number;
  readonly owner: Uint8Array;
  readonly type: Uint8Array;
  /** 1 when pinned by MMUEXT_PIN_*: one type reference is held by the pin. */
  readonly pinned: Uint8Array;
  /** 1 when the guest gave the frame back while something still referred to it. */
  readonly relinquished: Uint8Array;
  /** How many uses the current type has. */
  readonly typeCount: Uint32Array;
  /** How many page-table entries, roots, pins and descriptor tables refer to the frame. */
  readonly refs: Uint32Array;

  /** @param buffer where to keep the state (`bytesFor(frames)` bytes from `offset`, 4-byte aligned); default: memory of its own. */
  constructor(frames: number, buffer?: ArrayBufferLike, offset = 0) {
    const storage = buffer ?? new ArrayBuffer(PageTypes.bytesFor(frames));
    this.frames = frames;
    this.typeCount = new Uint32Array(storage, offset, frames);
    this.refs = new Uint32Array(storage, offset + 4 * frames, frames);
    const state = (n: number): Uint8Array => new Uint8Array(storage, offset + (8 + n) * frames, frames);
    this.owner = state(0);
    this.type = state(1);
    this.pinned = state(2);
    this.relinquished = state(3);
  }

  static bytesFor(frames: number): number {
    return frames * BYTES_PER_FRAME;
  }

  /** Whether the frame exists and is the guest's own. */
  isGuest(mfn: number): boolean {
    return mfn < this.frames && this.owner[mfn] === Owner.guest;
  }

  /** Whether the frame is in use as `type`. */
  hasType(mfn: number, type: PageType): boolean {
    return mfn < this.frames && this.type[mfn] === type && this.typeCount[mfn] !== 0;
  }

  /** Whether the frame is in use as a page table of any level or as a descriptor page. */
  isProtected(mfn: number): boolean {
    const type = this.type[mfn];
    return this.typeCount[mfn] !== 0 && type !== PageType.none && type !== PageType.writable;
  }

  /** Takes a use of the frame as writable; false when it is in use as something else. The owner has been checked. */
  takeWritable(mfn: number): boolean {
    const count = this.typeCount[mfn];
    if (count === 0) {
      this.type[mfn] = PageType.writable;
    } else if (this.type[mfn] !== PageType.writable) {
      return false;
    }
    this.typeCount[mfn] = count + 1;
    return true;
  }
}
