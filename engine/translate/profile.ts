// SPDX-License-Identifier: MIT
// What translated code has counted of the guest's ways: where its computed jumps go, and which ways its branches hardly ever take.

import { BranchSite, codeChunkShift, Site } from '../cpu/layout.ts';
import type { Region, RegionPage } from './region.ts';

const pageBytes = 4096;
/** A computed jump goes nearly always to one place when it went there again so many times as often as elsewhere. */
const usualRatio = 4;
/** A branch hardly ever goes a way that it takes less than once in so many times that its region is entered: the way of a loop's end is no such. */
const rareRatio = 64;

/** Where a region keeps its counters: u32 slots behind those of its pages. */
export interface CounterSlots {
  /** A `Site` for each of `Region.computed`. */
  readonly computed: readonly number[];
  /** A `BranchSite` for each of `Region.branches`. */
  readonly branches: readonly number[];
  /** Times that the region was entered, for a region with branches. */
  readonly entries: number | undefined;
  readonly total: number;
}

/** The counters of a region; none when nothing is to be learned from it. */
export function slotsOf(region: Pick<Region, 'computed' | 'branches'>): CounterSlots {
  const siteSlots = Site.bytes / 4;
  const branchSlots = BranchSite.bytes / 4;
  const computed = region.computed.map((_, k) => k * siteSlots);
  const behind = computed.length * siteSlots;
  const branches = region.branches.map((_, k) => behind + k * branchSlots);
  const end = behind + branches.length * branchSlots;
  if (branches.length === 0) return { computed, branches, entries: undefined, total: end };
  return { computed, branches, entries: end, total: end + 1 };
}

/** Host address of code at an address relative to a region's entry page. */
export function hostIn(pages: readonly RegionPage[], at: number): number {
  const delta = Math.floor(at / pageBytes);
  return pages.find((p) => p.delta === delta)!.host + at - delta * pageBytes;
}

/** One counter of the instruction at a host address. */
interface Counted {
  readonly host: number;
  /** Host addresses of its `Site` or `BranchSite`, and for this of the region's entries. */
  readonly site: number;
  readonly entries: number;
}

/** The latest counters of an instruction that are looked at: as many regions as are likely to be in use with it at a time. */
const keptPerInstruction = 4;

export class Profile {
  private readonly u32: Uint32Array;
  /** By the stretch of code (see `codeChunkShift`) that the instruction begins in. */
  private readonly chunks = new Map<number, Counted[]>();

  constructor(u32: Uint32Array) {
    this.u32 = u32;
  }

  /** A region whose counters begin at a host address runs from now on. */
  add(region: Pick<Region, 'computed' | 'branches' | 'pages'>, counters: number): void {
    const slots = slotsOf(region);
    const entries = slots.entries === undefined ? 0 : counters + 4 * slots.entries;
    const note = (at: number, slot: number): void =>
      this.note({ host: hostIn(region.pages, at), site: counters + 4 * slot, entries });
    region.computed.forEach((at, k) => note(at, slots.computed[k]!));
    region.branches.forEach((at, k) => note(at, slots.branches[k]!));
  }

  private note(counted: Counted): void {
    const chunk = counted.host >>> codeChunkShift;
    const known = this.chunks.get(chunk) ?? [];
    const same = this.at(counted.host);
    const kept = same.length < keptPerInstruction ? known : known.filter((c) => c !== same[0]);
    this.chunks.set(chunk, [...kept, counted]);
  }

  /** The counters of an instruction, latest last. */
  private at(host: number): Counted[] {
    return this.chunks.get(host >>> codeChunkShift)?.filter((c) => c.host === host) ?? [];
  }

  /** Where the computed jump at a host address goes nearly always, relative to the page at (lo, hi); undefined when that is unknown or varies. */
  usualTarget(host: number, lo: number, hi: number): number | undefined {
    const counted = this.at(host).at(-1);
    if (counted === undefined) return undefined;
    const { u32 } = this;
    const at = counted.site >>> 2;
    if (u32[at + Site.same / 4]! < usualRatio * u32[at + Site.other / 4]!) return undefined;
    const distance = (u32[at + 1]! - (hi >>> 0)) * 2 ** 32 + (u32[at]! - (lo >>> 0));
    // Others are too far away to belong to a region. (A fraction, as which V8 has computed it, would make fractions of all that is added to it.)
    return distance === (distance | 0) ? distance | 0 : undefined;
  }

  /** Whether the conditional branch at a host address goes this way more than hardly ever, as far as is known; undefined where it is not counted. */
  isUsual(host: number, taken: boolean): boolean | undefined {
    const all = this.at(host);
    if (all.length === 0) return undefined;
    let times = 0;
    let entries = 0;
    for (const counted of all) {
      const met = this.u32[(counted.site + BranchSite.met) >>> 2]!;
      const jumps = this.u32[(counted.site + BranchSite.taken) >>> 2]!;
      times += taken ? jumps : met - jumps;
      entries += this.u32[counted.entries >>> 2]!;
    }
    return entries < rareRatio || times * rareRatio >= entries;
  }

  /** How often the conditional branch at a host address was taken, 0 to 1; undefined where it was met too seldom to say. */
  takenShare(host: number): number | undefined {
    let met = 0;
    let taken = 0;
    for (const { site } of this.at(host)) {
      met += this.u32[(site + BranchSite.met) >>> 2]!;
      taken += this.u32[(site + BranchSite.taken) >>> 2]!;
    }
    return met < rareRatio ? undefined : taken / met;
  }

  /** Code in the frame at a host address changes where `changed` (as `codeBits`) says: what was counted there was something else. */
  forget(page: number, changed: number): void {
    for (let bits = changed; bits !== 0; bits &= bits - 1)
      this.chunks.delete((page >>> codeChunkShift) + (31 - Math.clz32(bits & -bits)));
  }

  /** The counters are gone. */
  clear(): void {
    this.chunks.clear();
  }
}
