// SPDX-License-Identifier: MIT
// Decides what to translate (blocks count their entries, samples say what is really hot), compiles regions in batches, and uses those of the store.

import { codeBits, ST } from '../cpu/layout.ts';
import type { BlockStore, ModuleCompiler } from '../host.ts';
import { wideZero } from '../specimens.ts';
import { compileRegions, regionExport } from './compile.ts';
import { guardSlots } from './guards.ts';
import {
  entriesPerLook,
  Installations,
  type BlockPlace,
  type InstallationsHost,
  type RegionCode,
} from './installations.ts';
import { seenTaken, seenToGo, type TimesGone } from './interpreted-ways.ts';
import { translateForLaterRuns } from './later-runs.ts';
import { leavesFor, linearOf } from './onward.ts';
import { hostIn, Profile } from './profile.ts';
import { RestlessCode } from './restless-code.ts';
import { findRegion, type Region, type RegionGuide, type RegionPage } from './region.ts';
import { Shelf, type Loaded, type Shelved } from './shelf.ts';
import {
  codeRanges,
  matchingPages,
  packModule,
  rankOf,
  storeKey,
  type CodeRange,
  type RegionWithCode,
  type StoredKind,
} from './stored-regions.ts';
import { newStatistics } from './translator-statistics.ts';
import {
  batchDelayMs,
  batchRegions,
  better,
  entriesToComeAlong,
  hotLooks,
  lukewarm,
  mostAlong,
  maxBytes,
  precompiledLooks,
  ready,
  regionLimits,
  steady,
  storedLooks,
  storedWideSamples,
  wideLimits,
  wideSamples,
} from './tuning.ts';

const pageBytes = 4096;

/** What the translator needs of its vCPU. */
export interface TranslatorHost extends InstallationsHost {
  /** Interpreter exports and host function that regions import. */
  readonly imports: Record<string, unknown>;
  /** Host address of the page `delta` pages behind the one at (lo, hi), 0 when it cannot be executed. */
  hostOfPage(lo: number, hi: number, delta: number): number;
  /** The interpreter has come to the code at a host address; absent: everything that could be reached is translated. */
  readonly wasReached?: (host: number) => boolean;
  readonly timesGone: TimesGone;
  /** Blocks decoded so far. */
  decodedBlocks(): number;
  /** Takes `bytes` of the record arena; 0 = full. */
  allocate(bytes: number): number;
  /** Writes to the range of code must be noticed from now on. */
  watchCode(page: number, from: number, to: number): void;
  nowMs(): number;
  /** Times that a region may be left for an address which the TLB does not know, until it is translated such that it need not be left. */
  readonly missLimit: number;
}

/** V8 alone. */
const alwaysAnew: ModuleCompiler = { compile: (_, wasm) => new WebAssembly.Module(wasm), isReady: () => false };

interface Queued extends BlockPlace, RegionWithCode {
  readonly kind: StoredKind;
  readonly bits: readonly number[];
}

/** Looks at a block that waits to be hot; what was true at the first one. */
interface Looks {
  readonly at: BlockPlace;
  count: number;
  readonly since: number;
  readonly decodedBefore: number;
}

export class Translator {
  readonly statistics = newStatistics();
  private readonly host: TranslatorHost;
  /** Looks at blocks without a region, and samples of those with one. */
  private readonly looks = new Map<number, Looks>();
  private readonly heat = new Map<number, { readonly seen: number; readonly since: number }>();
  private samples = 0;
  private readonly installed: Installations;
  private readonly profile: Profile;
  private readonly restless = new RestlessCode();
  private readonly queuedRecords = new Set<number>();
  /** Blocks inside of regions that will be compiled soon. */
  private readonly queuedInside = new Set<number>();
  /** Blocks that cannot be translated. */
  private readonly refused = new Set<number>();
  private queue: Queued[] = [];
  private firstQueued = wideZero;
  private liveBytes = 0;
  private readonly store: BlockStore | undefined;
  private readonly shelf: Shelf;
  private readonly compiler: ModuleCompiler;

  constructor(host: TranslatorHost, store?: BlockStore, compiler: ModuleCompiler = alwaysAnew) {
    this.host = host;
    this.store = store;
    this.compiler = compiler;
    this.shelf = new Shelf(compiler, store);
    this.installed = new Installations(host);
    this.profile = new Profile(host.mem.u32);
    host.mem.u32[(host.base + ST.missLimit) >>> 2] = host.missLimit;
  }

  /** The block at `record`, whose code lies at host address `code` and linear address (lo, hi), has been entered `entriesPerLook` times more. */
  busy(record: number, code: number, lo: number, hi: number): void {
    this.installed.lookAgain(record, 'soon');
    const at = { record, code, lo, hi };
    if (!this.queuedInside.has(record) && !this.installed.addWaiting(at)) this.look(at);
    this.flushInTime();
  }

  /** Entries of the block to be decoded from code at a host address until it is looked at for the first time. */
  entriesUntilLook(code: number): number {
    const isReady = this.shelf.beginningAt(this.host.mem.u8, code)?.some(({ shelved }) => shelved.isReady);
    return isReady ? ready.entries : entriesPerLook;
  }

  private look(at: BlockPlace): void {
    const { host } = this;
    let seen = this.looks.get(at.record);
    if (!seen) {
      seen = { at, count: 0, since: host.nowMs(), decodedBefore: host.decodedBlocks() };
      this.looks.set(at.record, seen);
    }
    const looks = ++seen.count;
    if (looks === 1) this.useStored(at, ['narrow'], true);
    if (looks === storedLooks) this.useStored(at, ['narrow']);
    if (looks === precompiledLooks) this.useStored(at, ['ahead']);
    if (looks < hotLooks && !this.isSteady(seen)) return;
    const region = this.hot(at, 'narrow');
    if (region) this.takeAlong([{ at, region }]);
  }

  private isSteady({ count, since, decodedBefore }: Looks): boolean {
    if (count < steady.looks || this.host.decodedBlocks() - decodedBefore > steady.decoded) return false;
    const age = this.host.nowMs() - since;
    return age >= steady.least && age <= steady.most;
  }

  /**
   * The block at `record` is about to run: if it is a region's that could be wider, that counts towards making it so, as `weight` samples. Returns
   * true when it cannot be any better.
   */
  sample(record: number, code: number, lo: number, hi: number, weight: number): boolean {
    this.samples += weight;
    const kind = this.installed.kindAt(record);
    const isBest = kind !== undefined && rankOf(kind) >= rankOf('wide');
    if (kind && !isBest) {
      const at = { record, code, lo, hi };
      const { seen: before, since } = this.heat.get(record) ?? { seen: 0, since: this.samples };
      const seen = before + weight;
      const reaches = (samples: number): boolean => before < samples && seen >= samples;
      this.heat.set(record, { seen, since });
      if (reaches(ready.wideSamples)) this.useStored(at, better, true);
      if (reaches(storedWideSamples)) this.useStored(at, better);
      const isOften = seen * wideSamples.oneIn >= this.samples - since;
      if (seen >= (isOften ? wideSamples.ofMany : wideSamples.ofFew)) this.hot(at, 'wide');
    }
    this.flushInTime();
    return isBest;
  }

  private hot(at: BlockPlace, kind: StoredKind): Region | undefined {
    const isRestless = this.restless.isRestless(at.code, this.host.nowMs());
    if (isRestless) this.statistics.postponed++;
    return isRestless ? undefined : this.enqueue(at, kind);
  }

  private flushInTime(): void {
    if (this.queue.length > 0 && this.host.nowMs() - this.firstQueued >= batchDelayMs) this.flush();
  }

  /** Returns the region that will be compiled soon; undefined where there is nothing better to be had. */
  private enqueue(at: BlockPlace, kind: StoredKind): Region | undefined {
    const { record, code, lo, hi } = at;
    if (this.queuedRecords.has(record) || this.refused.has(record)) return undefined;
    const known = this.installed.kindAt(record);
    if (known && rankOf(known) >= rankOf(kind)) return undefined;
    const region = this.installed.hasHeader(record) ? this.find(code, lo, hi, kind !== 'narrow') : undefined;
    if (!region) {
      this.refused.add(record);
      this.installed.lookAgain(record, 'never');
      return undefined;
    }
    // From now on, not only once it is compiled: code that changes in between takes the region out of the queue.
    const ranges = codeRanges(region, this.host.mem.u8);
    const bits = this.watch(region.pages, ranges);
    if (this.queue.length === 0) this.firstQueued = this.host.nowMs();
    this.queue.push({ ...at, kind, region, ranges, bits });
    this.installed.begins.add(code);
    this.queuedRecords.add(record);
    this.coolInside(region);
    if (this.queue.length >= batchRegions) this.flush();
    return region;
  }

  /**
   * What a region leaves for and has been busy, too, is translated along with it, and what that leaves for. Otherwise it would be left for as often until
   * that is hot in its turn, and then what that calls.
   */
  private takeAlong(made: { readonly at: BlockPlace; readonly region: Region }[]): void {
    const { host, installed } = this;
    for (const { at: from, region } of made) {
      for (const to of leavesFor(region)) {
        const delta = Math.floor(to / pageBytes);
        const page = host.hostOfPage(from.lo, from.hi, delta);
        const code = page + to - delta * pageBytes;
        const record = page === 0 ? 0 : host.recordAt(code);
        if (record === 0 || this.queuedInside.has(record)) continue;
        const entries = (this.looks.get(record)?.count ?? 0) * entriesPerLook + installed.entriesSinceLook(record);
        if (entries < entriesToComeAlong) continue;
        const at = { record, code, ...linearOf(from, to) };
        this.useStored(at, ['narrow']);
        // What more there is than may keep the guest waiting will be hot by itself.
        const along = this.hot(at, 'narrow');
        if (along && made.push({ at, region: along }) > mostAlong) return;
      }
    }
  }

  /** Blocks inside of a region were busy with it. Those that are still come to when it is there may begin one themselves. */
  private coolInside(region: Region): void {
    for (const { at } of region.blocks) {
      const record = this.host.recordAt(hostIn(region.pages, at));
      if (record === 0) continue;
      this.looks.delete(record);
      this.queuedInside.add(record);
    }
  }

  /** Translates a block at once. */
  translateNow(record: number, code: number, lo: number, hi: number): void {
    const at = { record, code, lo, hi };
    if (this.installed.addWaiting(at)) return;
    this.enqueue(at, 'narrow');
    this.flush();
  }

  /** The region has been left as often as it may be for addresses that the TLB does not know, or numbers: it is translated once more. */
  missedOften(index: number): void {
    const at = this.installed.placeOf(index);
    if (!at || this.host.hostOfPage(at.lo, at.hi, 0) !== at.code - (at.code % pageBytes)) return;
    this.enqueue(at, this.installed.kindAt(at.record) === 'patient' ? 'exact' : 'patient');
  }

  private find(code: number, lo: number, hi: number, isWide: boolean): Region | undefined {
    const offset = code % pageBytes;
    const { wasReached, timesGone, mem, hostOfPage } = this.host;
    // Tests translate both ways.
    const entersInside = wasReached !== undefined || (code & 1) !== 0;
    const seen = seenToGo(timesGone);
    const guide: RegionGuide = {
      follows: (host) => !wasReached || wasReached(host),
      beginsAt: (host) => wasReached !== undefined && !isWide && this.installed.begins.has(host),
      usualTarget: (host) => (isWide ? this.profile.usualTarget(host, lo - offset, hi) : undefined),
      isUsual: isWide ? (host, taken) => this.profile.isUsual(host, taken) ?? seen(host, taken) : seen,
      takenShare: (host) => (isWide ? this.profile.takenShare(host) : undefined) ?? seenTaken(timesGone, host),
      learns: !isWide,
      learnsOfBranches: hi >>> 31 === 0,
      entersAtReturns: !isWide && entersInside,
      entersAtLoops: entersInside,
    };
    const limits = isWide ? wideLimits : regionLimits;
    // At the end, the address space may be gone.
    const isThere = hostOfPage(lo, hi, 0) === code - offset;
    const hostOf = (delta: number): number => (isThere ? hostOfPage(lo, hi, delta) : 0);
    return findRegion(mem.u8, offset, code - offset, hostOf, limits, guide);
  }

  /** Compiles what is queued. */
  flush(): void {
    const { queue } = this;
    if (queue.length === 0) return;
    this.queue = [];
    this.queuedRecords.clear();
    this.queuedInside.clear();
    if (!this.installed.hasRoom(queue.length) || this.liveBytes > maxBytes) this.evictAll();
    for (const kind of ['narrow', 'wide', 'patient', 'exact'] as const) {
      const some = queue.filter((q) => q.kind === kind);
      if (some.length > 0) this.compile(some, kind);
    }
  }

  private compile(queue: readonly Queued[], kind: StoredKind): void {
    const { nowMs } = this.host;
    const start = nowMs();
    const regions = queue.map((q) => q.region);
    const compiled = compileRegions(regions, kind === 'exact' ? 'stay' : kind === 'patient' ? 'call' : 'leave');
    const guards = this.allocateGuards(compiled.guards);
    if (guards === 0) return;
    const value = this.store && packModule(compiled, queue, kind);
    const key = value && storeKey(value);
    const { exports } = this.instantiate(key, compiled.bytes);
    queue.forEach(({ region, record, code, lo, hi, bits }, n) => {
      const slots = guards + 4 * compiled.guardStart[n]!;
      const fn = exports[regionExport(n)] as RegionCode;
      const entries = region.entries.map((block) => region.blocks[block]!.at);
      const installation = { kind, pages: region.pages, bits, stored: undefined, fn };
      this.installed.add(installation, entries, slots, { record, code, lo, hi });
      this.statistics.regions++;
      this.profile.add(region, slots + 4 * guardSlots(region.pages.length - 1));
    });
    const { statistics } = this;
    statistics.bytes += compiled.bytes.length;
    statistics.compileMs += nowMs() - start;
    if (key && value) this.store?.put(key, value);
  }

  private allocateGuards(count: number): number {
    const bytes = Math.max(8, count * 4);
    const at = this.host.allocate(bytes);
    if (at !== 0) this.host.mem.u8.fill(0, at, at + bytes);
    return at;
  }

  /** `key`: its name in the store, if there is one. */
  private instantiate(key: string | undefined, bytes: Uint8Array): { exports: Record<string, unknown> } {
    this.liveBytes += bytes.length;
    this.statistics.modules++;
    const module = key ? this.compiler.compile(key, bytes) : new WebAssembly.Module(bytes);
    return new WebAssembly.Instance(module, { env: { ...this.host.imports, regions: this.host.table } });
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

  /** Uses a region of the store, of one of these kinds, that was made from the code at hand. `isReady`: only if it has its machine code. */
  private useStored(at: BlockPlace, of: readonly StoredKind[], isReady = false): void {
    const { mem, hostOfPage } = this.host;
    const { code, lo, hi } = at;
    const candidates = this.shelf.beginningAt(mem.u8, code);
    const known = this.installed.kindAt(at.record);
    for (const { shelved, n } of candidates ?? []) {
      const { kind } = shelved.module;
      if (!of.includes(kind) || (known && rankOf(known) >= rankOf(kind))) continue;
      if (isReady && !shelved.isReady) continue;
      if (shelved.loaded?.used.has(n)) continue;
      const region = shelved.module.regions[n]!;
      const pages = matchingPages(region, mem.u8, code, (delta) => hostOfPage(lo, hi, delta));
      if (!pages) {
        this.statistics.storeMismatches++;
        continue;
      }
      const loaded = this.load(shelved);
      if (!loaded) continue;
      if (!this.installed.hasRoom(1)) return;
      const fn = loaded.exports[regionExport(n)] as RegionCode;
      const bits = this.watch(pages, region.ranges);
      const installation = { kind, pages, bits, stored: { used: loaded.used, n }, fn };
      const slots = loaded.guards + 4 * region.guardStart;
      this.installed.add(installation, region.entries, slots, at);
      this.profile.add({ ...region, pages }, slots + 4 * guardSlots(pages.length - 1));
      this.statistics.regions++;
      this.statistics.storeHits++;
      if (kind === 'ahead') this.statistics.precompiledHits++;
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
      const { exports } = this.instantiate(shelved.key, this.shelf.fetch(shelved));
      if (!shelved.module.regions.every((_, n) => typeof exports[regionExport(n)] === 'function'))
        throw new Error('incomplete');
      shelved.loaded = { exports, guards, used: new Set() };
    } catch {
      this.shelf.discard(shelved);
    }
    this.statistics.compileMs += this.host.nowMs() - start;
    return shelved.loaded;
  }

  /**
   * The guest has ended: what has been busy without being hot is translated for later runs, until `isOver`. Not where there is no machine code to be
   * kept: a later run would have to compile it, and it may not be worth that. Nor by a run that found most of its regions in the store: what one of
   * these leaves behind saves the next one nothing.
   */
  prepareLaterRuns(isOver: () => boolean): void {
    const { store, installed, statistics } = this;
    const compile = this.compiler.compileForLater?.bind(this.compiler);
    if (!store || !compile || statistics.storeHits > statistics.regions / 2) return;
    const places = [...this.looks.values()]
      .filter(({ at: { record }, count }) => count >= lukewarm.looks && this.isLeftOut(record))
      .sort((a, b) => b.count - a.count)
      .slice(0, lukewarm.most)
      .map(({ at }) => at);
    const find = ({ code, lo, hi }: BlockPlace): Region | undefined => {
      const region = this.find(code, lo, hi, false);
      if (region) installed.begins.add(code);
      return region;
    };
    statistics.laterRegions += translateForLaterRuns(places, {
      u8: this.host.mem.u8,
      find,
      store,
      compile,
      isOver,
    });
  }

  private isLeftOut(record: number): boolean {
    const { installed } = this;
    return !installed.kindAt(record) && !this.refused.has(record) && installed.hasHeader(record);
  }

  /** Code in the frame at a host address changes where `changed` (as `codeBits`) says: regions made from it go. */
  dropCode(page: number, changed: number): void {
    this.profile.forget(page, changed);
    const isIn = (bits: readonly number[], pages: readonly RegionPage[]) =>
      pages.some((p, k) => p.host === page && (bits[k]! & changed) !== 0);
    const gone = this.queue.filter((q) => isIn(q.bits, q.region.pages));
    if (gone.length > 0) {
      for (const { record, code } of gone) {
        this.queuedRecords.delete(record);
        if (!this.installed.kindAt(record)) this.installed.begins.delete(code);
      }
      this.queuedInside.clear();
      this.queue = this.queue.filter((q) => !gone.includes(q));
    }
    const dropped = this.installed.drop(page, isIn);
    this.restless.changed(dropped, this.host.nowMs());
    this.statistics.invalidations += dropped.length;
  }

  /** Room is needed: everything goes, and what is hot comes back. */
  private evictAll(): void {
    this.statistics.evictions += this.installed.size;
    this.installed.clear();
    this.liveBytes = 0;
    this.heat.clear();
    this.looks.clear();
    this.profile.clear();
    this.shelf.unload();
  }

  /** The block cache starts over: no record means anything any more. */
  forgetAll(): void {
    this.evictAll();
    this.queue = [];
    this.queuedRecords.clear();
    this.queuedInside.clear();
    this.refused.clear();
    this.installed.begins.clear();
  }
}
