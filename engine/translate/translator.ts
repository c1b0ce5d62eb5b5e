// SPDX-License-Identifier: MIT
// Decides what to translate (by sampling), compiles regions in batches, puts them in front of interpreted blocks, and takes them away again.

import type { MachineMemory } from '../cpu/memory.ts';
import { catalog, special } from '../cpu/catalog.ts';
import { Link, maxRegions, regionFallbackOffset, ST, Uop } from '../cpu/layout.ts';
import { compileRegions, regionExport } from './compile.ts';
import { findRegion, type Region, type RegionLimits } from './region.ts';

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
  /** Takes `bytes` of the record arena; 0 = full. */
  allocate(bytes: number): number;
  /** Writes to the range of code must be noticed from now on. */
  watchCode(page: number, from: number, to: number): void;
  nowMs(): number;
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
}

/** Tuning: see docs/decisions.md for where the figures come from. */
const limits: RegionLimits = { instructions: 120, pages: 4 };
/** Samples after which an address is translated. */
const hotSamples = 12;
const batchRegions = 8;
/** A batch is compiled this long after its first region was queued. */
const batchDelayMs = 20;
/** All regions are dropped beyond this much WebAssembly. */
const maxBytes = 48 << 20;

interface Installed {
  readonly index: number;
  readonly record: number;
  readonly copy: number;
  readonly region: Region;
  live: boolean;
}

interface Queued {
  readonly record: number;
  readonly region: Region;
}

export class Translator {
  readonly statistics: TranslatorStatistics = {
    regions: 0,
    modules: 0,
    bytes: 0,
    compileMs: 0,
    invalidations: 0,
    evictions: 0,
  };
  private readonly host: TranslatorHost;
  private readonly heat = new Map<number, number>();
  private readonly byRecord = new Map<number, Installed>();
  private readonly byPage = new Map<number, Set<Installed>>();
  private readonly queuedRecords = new Set<number>();
  /** Blocks that cannot be translated. */
  private readonly refused = new Set<number>();
  private queue: Queued[] = [];
  private firstQueued = 0;
  private nextIndex = 0;
  private liveBytes = 0;

  constructor(host: TranslatorHost) {
    this.host = host;
    host.mem.u32[(host.base + ST.regionFallback) >>> 2] = host.base + regionFallbackOffset;
  }

  /** The block at `record`, whose code lies at host address `code` and linear address (lo, hi), is about to run: counts towards translating it. */
  sample(record: number, code: number, lo: number, hi: number): void {
    const seen = (this.heat.get(record) ?? 0) + 1;
    this.heat.set(record, seen);
    if (seen >= hotSamples) this.enqueue(record, code, lo, hi);
    if (this.queue.length > 0 && this.host.nowMs() - this.firstQueued >= batchDelayMs) this.flush();
  }

  private enqueue(record: number, code: number, lo: number, hi: number): void {
    if (this.byRecord.has(record) || this.queuedRecords.has(record) || this.refused.has(record)) return;
    const region = recordLength(this.host.mem, record) === 0 ? undefined : this.find(code, lo, hi);
    if (!region) {
      this.refused.add(record);
      return;
    }
    if (this.queue.length === 0) this.firstQueued = this.host.nowMs();
    this.queue.push({ record, region });
    this.queuedRecords.add(record);
    if (this.queue.length >= batchRegions) this.flush();
  }

  /** Translates a block at once. */
  translateNow(record: number, code: number, lo: number, hi: number): void {
    this.enqueue(record, code, lo, hi);
    this.flush();
  }

  private find(code: number, lo: number, hi: number): Region | undefined {
    const offset = code % pageBytes;
    return findRegion(this.host.mem.u8, offset, code - offset, (delta) => this.host.hostOfPage(lo, hi, delta), limits);
  }

  /** Compiles what is queued. */
  flush(): void {
    const { queue } = this;
    if (queue.length === 0) return;
    this.queue = [];
    this.queuedRecords.clear();
    if (this.nextIndex + queue.length > maxRegions || this.liveBytes > maxBytes) this.evictAll();
    const start = this.host.nowMs();
    const compiled = compileRegions(queue.map((q) => q.region));
    const guards = this.host.allocate(Math.max(8, compiled.guards * 4));
    if (guards === 0) return;
    const module = new WebAssembly.Module(compiled.bytes);
    const instance = new WebAssembly.Instance(module, {
      env: { ...this.host.imports, guards: new WebAssembly.Global({ value: 'i32' }, guards) },
    });
    const { u32 } = this.host.mem;
    queue.forEach(({ record, region }, n) => {
      let slot = guards / 4 + compiled.guardStart[n]!;
      for (const page of region.pages) if (page.delta !== 0) u32[slot++] = page.host;
      this.install(record, region, instance.exports[regionExport(n)] as Function);
    });
    this.liveBytes += compiled.bytes.length;
    const { statistics } = this;
    statistics.modules++;
    statistics.bytes += compiled.bytes.length;
    statistics.compileMs += this.host.nowMs() - start;
  }

  /** Redirects a block to its region: its first record is moved aside, and the region's entry takes its place. */
  private install(record: number, region: Region, fn: Function): void {
    const { mem } = this.host;
    const length = recordLength(mem, record);
    const copy = this.host.allocate(length + 8);
    if (copy === 0) return;
    mem.u8.copyWithin(copy, record, record + length);
    mem.u16[(copy + length) >>> 1] = special.goto;
    mem.u16[(copy + length + Uop.off) >>> 1] = mem.u16[(record + Uop.off) >>> 1]!;
    mem.u32[(copy + length + 4) >>> 2] = record + length;
    const index = this.nextIndex++;
    this.host.table.set(index, fn);
    mem.u32[(this.host.base + regionFallbackOffset) / 4 + index] = copy;
    mem.u16[record >>> 1] = special.enterRegion;
    mem.u32[(record + 4) >>> 2] = index;
    const installed: Installed = { index, record, copy, region, live: true };
    this.byRecord.set(record, installed);
    for (const page of region.pages) {
      const set = this.byPage.get(page.host);
      if (set) set.add(installed);
      else this.byPage.set(page.host, new Set([installed]));
    }
    for (const block of region.blocks) {
      for (const i of block.instructions) this.watch(region, i.at, i.at + i.length);
    }
    this.statistics.regions++;
  }

  private watch(region: Region, from: number, to: number): void {
    for (const { delta, host } of region.pages) {
      const start = Math.max(0, from - delta * pageBytes);
      const end = Math.min(pageBytes, to - delta * pageBytes);
      if (start < end) this.host.watchCode(host, start, end);
    }
  }

  private remove(installed: Installed): void {
    if (!installed.live) return;
    installed.live = false;
    const { mem } = this.host;
    // The block may have been overwritten meanwhile; then it is the block cache's business.
    if (
      mem.u16[installed.record >>> 1] === special.enterRegion &&
      mem.u32[(installed.record + 4) >>> 2] === installed.index
    )
      mem.u8.copyWithin(installed.record, installed.copy, installed.copy + 8);
    this.byRecord.delete(installed.record);
    this.host.table.set(installed.index, null);
    for (const page of installed.region.pages) this.byPage.get(page.host)?.delete(installed);
  }

  /** Code in the frame at a host address changes: regions made from it go. */
  dropPage(page: number): void {
    const set = this.byPage.get(page);
    if (!set) return;
    for (const installed of [...set]) {
      this.remove(installed);
      this.statistics.invalidations++;
    }
    this.byPage.delete(page);
    this.queue = this.queue.filter((q) => !q.region.pages.some((p) => p.host === page));
    this.queuedRecords.clear();
    for (const q of this.queue) this.queuedRecords.add(q.record);
  }

  /** Room is needed: everything goes, and what is hot comes back. */
  private evictAll(): void {
    this.statistics.evictions += this.byRecord.size;
    for (const installed of [...this.byRecord.values()]) this.remove(installed);
    this.nextIndex = 0;
    this.liveBytes = 0;
    this.heat.clear();
  }

  /** The block cache starts over: no record means anything any more. */
  forgetAll(): void {
    this.evictAll();
    this.byPage.clear();
    this.queue = [];
    this.queuedRecords.clear();
    this.refused.clear();
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
