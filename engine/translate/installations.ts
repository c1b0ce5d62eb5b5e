// SPDX-License-Identifier: MIT
// The regions in use: which blocks have been redirected to which of a region's entries, and the way back.

import { special } from '../cpu/catalog.ts';
import {
  BlockHeader,
  maxRegions,
  regionEntryOffset,
  regionFallbackOffset,
  regionMissesOffset,
  regionSlotsOffset,
  ReturnLinks,
  ST,
} from '../cpu/layout.ts';
import { headerBytes } from '../cpu/lower.ts';
import type { MachineMemory } from '../cpu/memory.ts';
import { writeGuards } from './guards.ts';
import { RegionEntries } from './region-entries.ts';
import type { RegionPage } from './region.ts';
import { rankOf, type StoredKind } from './stored-regions.ts';

const pageBytes = 4096;

/** Entries of a block between two looks at it. */
export const entriesPerLook = 1000;
/** Written to the header of a block that cannot be translated. */
const never = 0x7fffffff;

/** A region's function: (state, budget) -> remaining budget. */
export type RegionCode = (state: number, budget: number) => number;

/** A block, the host address of its code, and the linear address that this had. */
export interface BlockPlace {
  readonly record: number;
  readonly code: number;
  readonly lo: number;
  readonly hi: number;
}

/** A region's code, which may be entered at several places. */
export interface Installation {
  readonly kind: StoredKind;
  readonly pages: readonly RegionPage[];
  /** Where in each page its code lies: see `codeBits`. */
  readonly bits: readonly number[];
  /** Of a stored region: where its use is noted. */
  readonly stored: { readonly used: Set<number>; readonly n: number } | undefined;
  readonly fn: RegionCode;
}

interface Family extends Installation {
  /** Host address of its slots. */
  readonly slots: number;
  /** Its entries in use. */
  live: number;
  /** Host addresses of those whose block had not been decoded yet when the region was made. */
  readonly waiting: number[];
}

/** One of the entries of a region: it has its own number. */
interface Installed extends BlockPlace {
  readonly index: number;
  readonly of: Family;
}

export interface InstallationsHost {
  readonly mem: MachineMemory;
  /** Host address of the vCPU's state block. */
  readonly base: number;
  /** Table of regions that the interpreter calls through. */
  readonly table: WebAssembly.Table;
  /** The block that was decoded from 64-bit code at a host address, 0 = none. */
  recordAt(host: number): number;
}

export class Installations {
  /** Host addresses of code that a region begins with, or will soon. */
  readonly begins = new Set<number>();
  private readonly host: InstallationsHost;
  private readonly byRecord = new Map<number, Installed>();
  private readonly byIndex: (Installed | undefined)[] = [];
  private readonly byPage = new Map<number, Set<Installed>>();
  /** Regions with the number of an entry that waits for its block, by the host address of its code. */
  private readonly waiting = new Map<number, { readonly of: Family; readonly n: number }>();
  private readonly entries: RegionEntries;
  private nextIndex = 0;
  /** Numbers of regions that are gone. */
  private freeIndices: number[] = [];

  constructor(host: InstallationsHost) {
    this.host = host;
    const { u32 } = host.mem;
    this.entries = new RegionEntries(u32, host.base);
    u32[(host.base + ST.linkEpoch + 4) >>> 2] = 1;
    u32[(host.base + ST.regionFallback) >>> 2] = host.base + regionFallbackOffset;
    u32[(host.base + ST.regionMisses) >>> 2] = host.base + regionMissesOffset;
  }

  /** Entries in use. */
  get size(): number {
    return this.byRecord.size;
  }

  /** So many regions can come in by one entry each. */
  hasRoom(regions: number): boolean {
    return this.nextIndex - this.freeIndices.length + regions <= maxRegions;
  }

  /** What kind of region the block has been redirected to. */
  kindAt(record: number): StoredKind | undefined {
    return this.byRecord.get(record)?.of.kind;
  }

  /** The block whose entry has a number, unless that is gone. */
  placeOf(index: number): BlockPlace | undefined {
    return this.byIndex[index];
  }

  /** The block can be redirected. */
  hasHeader(record: number): boolean {
    return headerBytes(this.host.mem, record) > 0;
  }

  /** Entries of a block without a region since it was looked at or, for the first time, decoded. */
  entriesSinceLook(record: number): number {
    const { u16, i32 } = this.host.mem;
    return u16[record >>> 1] === special.entry ? entriesPerLook - i32[(record + BlockHeader.entriesLeft) >>> 2]! : 0;
  }

  /** Somebody will look at the block again when it has been entered some times more; `never`: not any more. */
  lookAgain(record: number, when: 'soon' | 'never'): void {
    if (this.host.mem.u16[record >>> 1] === special.entry)
      this.host.mem.u32[(record + BlockHeader.entriesLeft) >>> 2] = when === 'soon' ? entriesPerLook : never;
  }

  /** Redirects blocks to their region. `entries`: offsets in its page; `at`: one of them, as it was met; `slots`: host address of those. */
  add(installation: Installation, entries: readonly number[], slots: number, at: BlockPlace): void {
    const of: Family = { ...installation, live: 0, waiting: [], slots };
    writeGuards(this.host.mem.u32, slots / 4, of.pages);
    of.stored?.used.add(of.stored.n);
    const here = at.code % pageBytes;
    entries.forEach((offset, n) => {
      const code = at.code + offset - here;
      const record = offset === here ? at.record : this.host.recordAt(code);
      if (record === 0) {
        this.waiting.set(code, { of, n });
        of.waiting.push(code);
      } else if (offset === here || this.isBetter(of.kind, record))
        this.install(of, n, { record, code, lo: at.lo + offset - here, hi: at.hi });
    });
  }

  private isBetter(kind: StoredKind, record: number): boolean {
    const known = this.kindAt(record);
    return this.hasHeader(record) && (!known || rankOf(kind) > rankOf(known));
  }

  /** Redirects a block that has been decoded since its region was made; false when it is not an entry of any. */
  addWaiting(at: BlockPlace): boolean {
    const found = this.waiting.get(at.code);
    if (!found || !this.hasHeader(at.record)) return false;
    this.waiting.delete(at.code);
    if (found.of.live === 0 || this.byRecord.has(at.record)) return false;
    this.install(found.of, found.n, at);
    return true;
  }

  private install(of: Family, n: number, at: BlockPlace): void {
    const { mem, base, table } = this.host;
    const { record, code } = at;
    const before = this.byRecord.get(record);
    if (before) this.remove(before);
    if (!this.hasRoom(1)) return;
    const index = this.freeIndices.pop() ?? this.nextIndex++;
    const installed: Installed = { ...at, of, index };
    of.live++;
    table.set(index, of.fn);
    mem.u32[(base + regionFallbackOffset) / 4 + index] = record + BlockHeader.bytes;
    mem.u32[(base + regionMissesOffset) / 4 + index] = 0;
    mem.u8[base + regionEntryOffset + index] = n;
    mem.u32[(base + regionSlotsOffset) / 4 + index] = of.slots;
    this.byIndex[index] = installed;
    mem.u16[record >>> 1] = special.enterRegion;
    mem.u32[(record + 4) >>> 2] = index;
    this.entries.add(code, index);
    this.byRecord.set(record, installed);
    this.begins.add(code);
    for (const page of of.pages) {
      const set = this.byPage.get(page.host);
      if (set) set.add(installed);
      else this.byPage.set(page.host, new Set([installed]));
    }
  }

  private remove(installed: Installed): void {
    const { of, index, record, code } = installed;
    const { mem, base, table } = this.host;
    mem.u32[(base + ST.linkEpoch + 4) >>> 2]!++;
    // The block may have been overwritten meanwhile; then it is the block cache's business.
    if (mem.u16[record >>> 1] === special.enterRegion && mem.u32[(record + 4) >>> 2] === index) {
      mem.u16[record >>> 1] = special.entry;
      mem.u32[(record + BlockHeader.entriesLeft) >>> 2] = entriesPerLook;
    }
    this.entries.remove(code);
    this.byRecord.delete(record);
    this.begins.delete(code);
    this.byIndex[index] = undefined;
    table.set(index, null);
    this.freeIndices.push(index);
    for (const page of of.pages) {
      const set = this.byPage.get(page.host);
      if (set?.delete(installed) && set.size === 0) this.byPage.delete(page.host);
    }
    if (--of.live > 0) return;
    // Code that comes back as it was may have its region again.
    of.stored?.used.delete(of.stored.n);
    for (const at of of.waiting) if (this.waiting.get(at)?.of === of) this.waiting.delete(at);
  }

  /** Regions with code in the frame at a host address go, where it changes as `isIn` says. Returns where they began (host addresses). */
  drop(page: number, isIn: (bits: readonly number[], pages: readonly RegionPage[]) => boolean): number[] {
    const dropped = [...(this.byPage.get(page) ?? [])].filter(({ of }) => isIn(of.bits, of.pages));
    for (const installed of dropped) this.remove(installed);
    return dropped.map(({ code }) => code);
  }

  /** All go. */
  clear(): void {
    for (const installed of [...this.byRecord.values()]) this.remove(installed);
    this.nextIndex = 0;
    this.freeIndices = [];
    this.waiting.clear();
    // The links may lie in memory that is used for something else from now on.
    const links = this.host.base + ReturnLinks.offset;
    this.host.mem.u8.fill(0, links, links + ReturnLinks.bytes);
  }
}
