// SPDX-License-Identifier: MIT
// What translated code has counted of the guest's ways: where its computed jumps go, and which ways its branches hardly ever take.

import { BranchSite, Site } from '../cpu/layout.ts';
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
  /** Times that the region was entered. */
  readonly entries: number;
  readonly total: number;
}

/** The counters of a region; none when nothing is to be learned from it. */
export function slotsOf(region: Pick<Region, 'computed' | 'branches'>): CounterSlots {
  const siteSlots = Site.bytes / 4;
  const branchSlots = BranchSite.bytes / 4;
  const computed = region.computed.map((_, k) => k * siteSlots);
  const behind = computed.length * siteSlots;
  const branches = region.branches.map((_, k) => behind + k * branchSlots);
  const entries = behind + branches.length * branchSlots;
  return { computed, branches, entries, total: entries === 0 ? 0 : entries + 1 };
}

/** Host address of code at an address relative to a region's entry page. */
function hostIn(pages: readonly RegionPage[], at: number): number {
  const delta = Math.floor(at / pageBytes);
  return pages.find((p) => p.delta === delta)!.host + at - delta * pageBytes;
}

export class Profile {
  private readonly u32: Uint32Array;
  /** Counters of computed jumps (the latest ones) and of branches (all), by the host address of the instruction. */
  private readonly sites = new Map<number, number>();
  private readonly branches = new Map<number, { readonly site: number; readonly entries: number }[]>();

  constructor(u32: Uint32Array) {
    this.u32 = u32;
  }

  /** A region whose counters begin at a host address runs from now on. */
  add(region: Region, counters: number): void {
    const slots = slotsOf(region);
    region.computed.forEach((at, k) => this.sites.set(hostIn(region.pages, at), counters + 4 * slots.computed[k]!));
    region.branches.forEach((at, k) => {
      const host = hostIn(region.pages, at);
      const counted = { site: counters + 4 * slots.branches[k]!, entries: counters + 4 * slots.entries };
      const known = this.branches.get(host);
      if (known) known.push(counted);
      else this.branches.set(host, [counted]);
    });
  }

  /** Where the computed jump at a host address goes nearly always, relative to the page at (lo, hi); undefined when that is unknown or varies. */
  usualTarget(host: number, lo: number, hi: number): number | undefined {
    const site = this.sites.get(host);
    if (site === undefined) return undefined;
    const { u32 } = this;
    const at = site >>> 2;
    if (u32[at + Site.same / 4]! < usualRatio * u32[at + Site.other / 4]!) return undefined;
    return (u32[at + 1]! - (hi >>> 0)) * 2 ** 32 + (u32[at]! - (lo >>> 0));
  }

  /** Whether the conditional branch at a host address goes this way more than hardly ever, as far as is known. */
  isUsual(host: number, taken: boolean): boolean {
    let times = 0;
    let entries = 0;
    for (const counted of this.branches.get(host) ?? []) {
      const met = this.u32[(counted.site + BranchSite.met) >>> 2]!;
      const jumps = this.u32[(counted.site + BranchSite.taken) >>> 2]!;
      times += taken ? jumps : met - jumps;
      entries += this.u32[counted.entries >>> 2]!;
    }
    return entries < rareRatio || times * rareRatio >= entries;
  }

  /** The counters are gone. */
  clear(): void {
    this.sites.clear();
    this.branches.clear();
  }
}
