// SPDX-License-Identifier: MIT
// Decides what to translate (by sampling), compiles regions in batches, puts them in front of interpreted blocks, and takes them away again.

import type { MachineMemory } from '../cpu/memory.ts';
import { catalog, special } from '../cpu/catalog.ts';
import { codeBits, Link, maxRegions, regionFallbackOffset, regionMissesOffset, ST, Uop } from '../cpu/layout.ts';
import type { BlockStore } from '../host.ts';
import { compileRegions, regionExport } from './compile.ts';
import { guardSlots, writeGuards } from './guards.ts';
import { Profile } from './profile.ts';
import { RegionEntries } from './region-entries.ts';
import { RestlessPages } from './restless-pages.ts';
import { findRegion, type Region, type RegionGuide, type RegionLimits, type RegionPage } from './region.ts';
import { Shelf, type Loaded, type Shelved } from './shelf.ts';
import {
  codeRanges,
  matchingPages,
  packModule,
  rankOf,
  storeKey,
  type CodeRange,
  type StoredKind,
} from './stored-regions.ts';

const pageBytes = 4096;

/** What the translator needs of its vCPU. */
export interface TranslatorHost {
  readonly mem: MachineMemory;
  /** Host address of the vCPU's state block. */
  readonly base: number;
  /** Interpreter exports and host function that regions import. */
  readonly imports: Record<string, unknown>;
  /** Table of regions that the interpreter calls through. */
  readonly table: WebAssembly.Table;
  /** Host address of the page `delta` pages behind the one at (lo, hi), 0 when it cannot be executed. */
  hostOfPage(lo: number, hi: number, delta: number): number;
  /** The interpreter has come to the code at a host address; absent: everything that could be reached is translated. */
  readonly wasReached?: (host: number) => boolean;
  /** Takes `bytes` of the record arena; 0 = full. */
  allocate(bytes: number): number;
  /** Writes to the range of code must be noticed from now on. */
  watchCode(page: number, from: number, to: number): void;
  nowMs(): number;
  /** Times that a region may be left for an address which the TLB does not know, until it is translated such that it need not be left. */
  readonly missLimit: number;
}

export interface TranslatorStatistics {
  regions: number;
  modules: number;
  /** Bytes of WebAssembly made. */
  bytes: number;
  compileMs: number;
  /** Regions dropped because their code changed, and because room was needed. */
  invalidations: number;
  evictions: number;
  /** Regions taken from the store, and stored ones whose code turned out to be different. */
  storeHits: number;
  storeMismatches: number;
  /** Times that hot code was not translated because its page keeps changing. */
  postponed: number;
  /** Of the regions taken from the store, those that were made ahead of the first boot. */
  precompiledHits: number;
}

/**
 * Tuning: see docs/decisions.md for where the figures come from. Code is translated in two steps: soon into narrow regions, which end where
 * others begin and leave out what was never reached; and when that turns out to be really hot into wide ones, which go on through
 * whatever they call, and behind computed jumps where the narrow ones saw them go, but not where branches hardly ever went.
 */
export const regionLimits: RegionLimits = { instructions: 120, pages: 4 };
const wideLimits: RegionLimits = { instructions: 240, pages: 8 };
/** Samples after which an address is translated, and after which that is done again. */
const hotSamples = 10;
const wideSamples = 128;
/** Samples, of whatever code, in which the heat of code without a region fades to half: what was busy long ago may never come back. */
const halfLife = 8000;
/** Samples after which a region is used that an earlier run found worth making: its code has been busy before, but may have been later than now. */
const storedSamples = 4;
/** Samples after which a region made ahead of the first boot is used: it costs less than one that has yet to be made. */
const precompiledSamples = 7;
export const batchRegions = 8;
/** A batch is compiled this long after its first region was queued. */
const batchDelayMs = 20;
/** All regions are dropped beyond this much WebAssembly. */
const maxBytes = 48 << 20;

/** Samples of a block, those long ago counting less, and the number of the last one. */
interface Heat {
  readonly seen: number;
  readonly at: number;
}

/** A region's function: (state, budget) -> remaining budget. */
type RegionCode = (state: number, budget: number) => number;

interface Installed {
  readonly index: number;
  readonly record: number;
  /** Host address of the code that it begins with, and the linear address that this had. */
  readonly code: number;
  readonly lo: number;
  readonly hi: number;
  readonly kind: StoredKind;
  readonly copy: number;
  readonly pages: readonly RegionPage[];
  /** Where in each page its code lies: see `codeBits`. */
  readonly bits: readonly number[];
  /** Of a stored region: where its use is noted. */
  readonly stored: { readonly used: Set<number>; readonly n: number } | undefined;
  live: boolean;
}

interface Queued {
  readonly record: number;
  readonly code: number;
  readonly lo: number;
  readonly hi: number;
  readonly kind: StoredKind;
  readonly region: Region;
  readonly bits: readonly number[];
}

export class Translator {
  readonly statistics: TranslatorStatistics = {
    regions: 0,
    modules: 0,
    bytes: 0,
    compileMs: 0,
    invalidations: 0,
    evictions: 0,
    storeHits: 0,
    storeMismatches: 0,
    postponed: 0,
    precompiledHits: 0,
  };
  private readonly host: TranslatorHost;
  private readonly heat = new Map<number, Heat>();
  private samples = 0;
  private readonly byRecord = new Map<number, Installed>();
  private readonly byIndex: Installed[] = [];
  private readonly byPage = new Map<number, Set<Installed>>();
  /** Host addresses of code that a region begins with, or will soon. */
  private readonly begins = new Set<number>();
  private readonly profile: Profile;
  private readonly entries: RegionEntries;
  private readonly restless = new RestlessPages();
  private readonly queuedRecords = new Set<number>();
  /** Blocks that cannot be translated. */
  private readonly refused = new Set<number>();
  private queue: Queued[] = [];
  private firstQueued = 0;
  private nextIndex = 0;
  /** Numbers of regions that are gone. */
  private freeIndices: number[] = [];
  private liveBytes = 0;
  private readonly store: BlockStore | undefined;
  private readonly shelf: Shelf;

  constructor(host: TranslatorHost, store?: BlockStore) {
    this.host = host;
    this.store = store;
    this.shelf = new Shelf(store);
    this.entries = new RegionEntries(host.mem.u32, host.base);
    this.profile = new Profile(host.mem.u32);
    const { u32 } = host.mem;
    u32[(host.base + ST.regionFallback) >>> 2] = host.base + regionFallbackOffset;
    u32[(host.base + ST.regionMisses) >>> 2] = host.base + regionMissesOffset;
    u32[(host.base + ST.missLimit) >>> 2] = host.missLimit;
  }

  /** The block at `record`, whose code lies at host address `code` and linear address (lo, hi), is about to run: counts towards translating it. */
  sample(record: number, code: number, lo: number, hi: number): void {
    const before = this.heatOf(record);
    const seen = before + 1;
    this.heat.set(record, { seen, at: ++this.samples });
    if (before < storedSamples && seen >= storedSamples) this.useStored(record, code, lo, hi, false);
    if (before < precompiledSamples && seen >= precompiledSamples) this.useStored(record, code, lo, hi, true);
    if (seen >= hotSamples) {
      const page = code - (code % pageBytes);
      if (this.restless.isRestless(page, this.host.nowMs())) this.statistics.postponed++;
      else this.enqueue(record, code, lo, hi, seen >= wideSamples ? 'wide' : 'narrow');
    }
    if (this.queue.length > 0 && this.host.nowMs() - this.firstQueued >= batchDelayMs) this.flush();
  }

  private heatOf(record: number): number {
    const heat = this.heat.get(record);
    if (!heat) return 0;
    return this.byRecord.has(record) ? heat.seen : heat.seen * 2 ** ((heat.at - this.samples) / halfLife);
  }

  private enqueue(record: number, code: number, lo: number, hi: number, kind: StoredKind): void {
    if (this.queuedRecords.has(record) || this.refused.has(record)) return;
    const known = this.byRecord.get(record);
    if (known && rankOf(known.kind) >= rankOf(kind)) return;
    const isMovable = known !== undefined || recordLength(this.host.mem, record) > 0;
    const region = isMovable ? this.find(code, lo, hi, kind !== 'narrow') : undefined;
    if (!region) {
      this.refused.add(record);
      return;
    }
    // From now on, not only once it is compiled: code that changes in between takes the region out of the queue.
    const bits = this.watch(region.pages, codeRanges(region, this.host.mem.u8));
    if (this.queue.length === 0) this.firstQueued = this.host.nowMs();
    this.queue.push({ record, code, lo, hi, kind, region, bits });
    this.begins.add(code);
    this.queuedRecords.add(record);
    if (this.queue.length >= batchRegions) this.flush();
  }

  /** Translates a block at once. */
  translateNow(record: number, code: number, lo: number, hi: number): void {
    this.enqueue(record, code, lo, hi, 'narrow');
    this.flush();
  }

  /** The region has been left as often as it may be for addresses that the TLB does not know: it is translated once more. */
  missedOften(index: number): void {
    const { live, record, code, lo, hi } = this.byIndex[index]!;
    const offset = code % pageBytes;
    if (live && this.host.hostOfPage(lo, hi, 0) === code - offset) this.enqueue(record, code, lo, hi, 'patient');
  }

  private find(code: number, lo: number, hi: number, isWide: boolean): Region | undefined {
    const offset = code % pageBytes;
    const { wasReached, mem, hostOfPage } = this.host;
    const guide: RegionGuide = {
      follows: (host) => !wasReached || wasReached(host),
      beginsAt: (host) => wasReached !== undefined && !isWide && this.begins.has(host),
      usualTarget: (host) => (isWide ? this.profile.usualTarget(host, lo - offset, hi) : undefined),
      isUsual: (host, taken) => !isWide || this.profile.isUsual(host, taken),
      learns: !isWide,
    };
    const limits = isWide ? wideLimits : regionLimits;
    return findRegion(mem.u8, offset, code - offset, (delta) => hostOfPage(lo, hi, delta), limits, guide);
  }

  /** Compiles what is queued. */
  flush(): void {
    const { queue } = this;
    if (queue.length === 0) return;
    this.queue = [];
    this.queuedRecords.clear();
    if (this.nextIndex - this.freeIndices.length + queue.length > maxRegions || this.liveBytes > maxBytes)
      this.evictAll();
    for (const kind of ['narrow', 'wide', 'patient'] as const) {
      const some = queue.filter((q) => q.kind === kind);
      if (some.length > 0) this.compile(some, kind);
    }
  }

  private compile(queue: readonly Queued[], kind: StoredKind): void {
    const { mem, nowMs } = this.host;
    const start = nowMs();
    const regions = queue.map((q) => q.region);
    const compiled = compileRegions(regions, kind === 'patient' ? 'call' : 'leave');
    const guards = this.allocateGuards(compiled.guards);
    if (guards === 0) return;
    const { exports } = this.instantiate(compiled.bytes, guards);
    queue.forEach(({ region, ...of }, n) => {
      const slots = guards + 4 * compiled.guardStart[n]!;
      const fn = exports[regionExport(n)] as RegionCode;
      this.install({ ...of, pages: region.pages, stored: undefined }, slots, fn);
      this.profile.add(region, slots + 4 * guardSlots(region.pages.length - 1));
    });
    const { statistics } = this;
    statistics.bytes += compiled.bytes.length;
    statistics.compileMs += nowMs() - start;
    if (!this.store) return;
    const value = packModule(compiled, regions, mem.u8, kind);
    this.store.put(storeKey(value), value);
  }

  private allocateGuards(count: number): number {
    const bytes = Math.max(8, count * 4);
    const at = this.host.allocate(bytes);
    if (at !== 0) this.host.mem.u8.fill(0, at, at + bytes);
    return at;
  }

  private instantiate(bytes: Uint8Array, guards: number): { exports: Record<string, unknown> } {
    this.liveBytes += bytes.length;
    this.statistics.modules++;
    const module = new WebAssembly.Module(bytes);
    return new WebAssembly.Instance(module, {
      env: { ...this.host.imports, guards: new WebAssembly.Global({ value: 'i32' }, guards) },
    });
  }

  /** Redirects a block to its region: its first record is moved aside, and the region's entry takes its place. */
  private install(of: Omit<Installed, 'index' | 'copy' | 'live'>, guards: number, fn: RegionCode): void {
    const { record, pages, stored } = of;
    const { mem } = this.host;
    const before = this.byRecord.get(record);
    if (before) this.remove(before);
    const length = recordLength(mem, record);
    const copy = this.host.allocate(length + 8);
    if (copy === 0) return;
    stored?.used.add(stored.n);
    writeGuards(mem.u32, guards / 4, pages);
    mem.u8.copyWithin(copy, record, record + length);
    mem.u16[(copy + length) >>> 1] = special.goto;
    mem.u16[(copy + length + Uop.off) >>> 1] = mem.u16[(record + Uop.off) >>> 1]!;
    mem.u32[(copy + length + 4) >>> 2] = record + length;
    const index = this.freeIndices.pop() ?? this.nextIndex++;
    const installed: Installed = { ...of, index, copy, live: true };
    this.host.table.set(index, fn);
    mem.u32[(this.host.base + regionFallbackOffset) / 4 + index] = copy;
    mem.u32[(this.host.base + regionMissesOffset) / 4 + index] = 0;
    this.byIndex[index] = installed;
    mem.u16[record >>> 1] = special.enterRegion;
    mem.u32[(record + 4) >>> 2] = index;
    this.entries.add(of.code, index);
    this.byRecord.set(record, installed);
    this.begins.add(of.code);
    for (const page of pages) {
      const set = this.byPage.get(page.host);
      if (set) set.add(installed);
      else this.byPage.set(page.host, new Set([installed]));
    }
    this.statistics.regions++;
  }

  /** Writes to the code are noticed from now on. Returns where in each page it lies. */
  private watch(pages: readonly RegionPage[], ranges: readonly CodeRange[]): number[] {
    return pages.map(({ delta, host }) => {
      let bits = 0;
      for (const { at, bytes } of ranges) {
        const from = at - delta * pageBytes;
        // Ranges end with their page.
        if (from < 0 || from >= pageBytes) continue;
        this.host.watchCode(host, from, from + bytes.length);
        bits |= codeBits(from, from + bytes.length);
      }
      return bits;
    });
  }

  // The store.

  /**
   * Uses a region of the store that was made from the code at hand. `precompiled`: also one of which nobody knows yet whether it is worth its
   * compilation.
   */
  private useStored(record: number, code: number, lo: number, hi: number, precompiled: boolean): void {
    const { mem, hostOfPage } = this.host;
    const candidates = this.shelf.beginningAt(mem.u8, code);
    if (!candidates || this.byRecord.has(record) || recordLength(mem, record) === 0) return;
    for (const { shelved, n } of candidates) {
      if (shelved.module.kind === 'ahead' && !precompiled) continue;
      if (shelved.loaded?.used.has(n)) continue;
      const region = shelved.module.regions[n]!;
      const pages = matchingPages(region, mem.u8, code, (delta) => hostOfPage(lo, hi, delta));
      if (!pages) {
        this.statistics.storeMismatches++;
        continue;
      }
      const loaded = this.load(shelved);
      if (!loaded) continue;
      if (this.nextIndex - this.freeIndices.length >= maxRegions) return;
      const fn = loaded.exports[regionExport(n)] as RegionCode;
      const stored = { used: loaded.used, n };
      const { kind } = shelved.module;
      const bits = this.watch(pages, region.ranges);
      this.install({ record, code, lo, hi, kind, pages, bits, stored }, loaded.guards + 4 * region.guardStart, fn);
      this.statistics.storeHits++;
      if (shelved.module.kind === 'ahead') this.statistics.precompiledHits++;
      return;
    }
  }

  /** Compiles a stored module; undefined when that fails, and then it is never tried again. */
  private load(shelved: Shelved): Loaded | undefined {
    if (shelved.loaded) return shelved.loaded;
    const start = this.host.nowMs();
    const guards = this.allocateGuards(shelved.module.guards);
    if (guards === 0) return undefined;
    try {
      const { exports } = this.instantiate(this.shelf.fetch(shelved), guards);
      if (!shelved.module.regions.every((_, n) => typeof exports[regionExport(n)] === 'function'))
        throw new Error('incomplete');
      shelved.loaded = { exports, guards, used: new Set() };
    } catch {
      this.shelf.discard(shelved);
    }
    this.statistics.compileMs += this.host.nowMs() - start;
    return shelved.loaded;
  }

  private remove(installed: Installed): void {
    if (!installed.live) return;
    installed.live = false;
    // Code that comes back as it was may have its region again.
    installed.stored?.used.delete(installed.stored.n);
    const { mem } = this.host;
    // The block may have been overwritten meanwhile; then it is the block cache's business.
    if (
      mem.u16[installed.record >>> 1] === special.enterRegion &&
      mem.u32[(installed.record + 4) >>> 2] === installed.index
    )
      mem.u8.copyWithin(installed.record, installed.copy, installed.copy + 8);
    this.entries.remove(installed.code);
    this.byRecord.delete(installed.record);
    this.begins.delete(installed.code);
    this.host.table.set(installed.index, null);
    this.freeIndices.push(installed.index);
    for (const page of installed.pages) {
      const set = this.byPage.get(page.host);
      if (set?.delete(installed) && set.size === 0) this.byPage.delete(page.host);
    }
  }

  /** Code in the frame at a host address changes where `changed` (as `codeBits`) says: regions made from it go. */
  dropCode(page: number, changed: number): void {
    this.profile.forget(page, changed);
    const isIn = ({ bits }: Pick<Installed, 'bits'>, pages: readonly RegionPage[]) =>
      pages.some((p, k) => p.host === page && (bits[k]! & changed) !== 0);
    const gone = this.queue.filter((q) => isIn(q, q.region.pages));
    if (gone.length > 0) {
      for (const { record, code } of gone) {
        this.queuedRecords.delete(record);
        if (!this.byRecord.has(record)) this.begins.delete(code);
      }
      this.queue = this.queue.filter((q) => !gone.includes(q));
    }
    const dropped = [...(this.byPage.get(page) ?? [])].filter((i) => isIn(i, i.pages));
    if (dropped.length > 0) this.restless.changed(page, this.host.nowMs());
    for (const installed of dropped) this.remove(installed);
    this.statistics.invalidations += dropped.length;
  }

  /** Room is needed: everything goes, and what is hot comes back. */
  private evictAll(): void {
    this.statistics.evictions += this.byRecord.size;
    for (const installed of [...this.byRecord.values()]) this.remove(installed);
    this.nextIndex = 0;
    this.freeIndices = [];
    this.liveBytes = 0;
    this.heat.clear();
    this.profile.clear();
    this.shelf.unload();
  }

  /** The block cache starts over: no record means anything any more. */
  forgetAll(): void {
    this.evictAll();
    this.byPage.clear();
    this.queue = [];
    this.queuedRecords.clear();
    this.refused.clear();
    this.begins.clear();
  }
}

/** Bytes of the record at an address; 0 for one that cannot be moved. */
function recordLength(mem: MachineMemory, record: number): number {
  const handler = mem.u16[record >>> 1]!;
  switch (handler) {
    case special.outlined:
      return mem.u16[(record + 6) >>> 1]!;
    case special.jump:
      return 8 + Link.bytes;
    case special.crossing:
      // Its check looks the block up again: it must stay in front.
      return 0;
    case special.ea16:
    case special.ea32:
    case special.ea67:
      return 16;
    case special.eaImmediate:
      return 24;
    default:
      return catalog.inline[handler]?.length ?? 0;
  }
}
