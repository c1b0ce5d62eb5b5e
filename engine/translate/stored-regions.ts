// SPDX-License-Identifier: MIT
// The form in which translated modules are kept between runs: WebAssembly bytes with the exact guest code that each region was made from.

import type { CompiledRegions } from './compile.ts';
import { guardSlots } from './guards.ts';
import { slotsOf } from './profile.ts';
import type { Region, RegionPage } from './region.ts';

const pageBytes = 4096;
/** "PVR9": the form, and that these are bytes of it. */
const magic = 0x39525650;
const fixedBytes = 16;
/** What modules hold, by the number that says so; later ones are better. */
const kinds = ['ahead', 'narrow', 'wide', 'patient', 'exact'] as const;
const maxRegionsPerModule = 256;
/** Slots of a module's regions. */
export const maxGuards = 4096;
const maxPages = 16;
const maxEntries = 255;
const maxCounted = 512;

/** A stretch of guest code, by address relative to the entry page. */
export interface CodeRange {
  readonly at: number;
  readonly bytes: Uint8Array;
}

export interface StoredRegion {
  /** Offsets of the entries in their page, the first of which is where it begins. */
  readonly entries: readonly number[];
  /** Further pages, in the order of their guard slots. */
  readonly pages: readonly number[];
  readonly ranges: readonly CodeRange[];
  readonly guardStart: number;
  /** The jumps and branches that it counts: see `Region`. */
  readonly computed: readonly number[];
  readonly branches: readonly number[];
}

/**
 * Regions that a guest was seen to run for long: `narrow` ones, the `wide` ones of what was hotter still, or `patient` ones, which are wide and
 * stay in translated code when an address is not in the TLB, or `exact` ones, which also do when a floating-point number is out of the ordinary.
 * `ahead`: only the kernel's file says that they may be worth having.
 */
export type StoredKind = (typeof kinds)[number];

/** Which of two kinds is better: the sign of the difference. */
export const rankOf = (kind: StoredKind): number => kinds.indexOf(kind);

export interface StoredModule {
  readonly kind: StoredKind;
  /** Where the WebAssembly begins in the stored value. */
  readonly wasmAt: number;
  readonly guards: number;
  /** Their code is part of the value given to `unpackModule`, not a copy. */
  readonly regions: readonly StoredRegion[];
}

/** A region with the code that it was made from: see `codeRanges`. */
export interface RegionWithCode {
  readonly region: Region;
  readonly ranges: readonly CodeRange[];
}

/** The code that a region was made from, neighbouring instructions joined. */
export function codeRanges(region: Region, u8: Uint8Array): CodeRange[] {
  const spans = region.blocks
    .flatMap((b) => b.instructions.map((i) => ({ from: i.at, to: i.at + i.length })))
    .sort((a, b) => a.from - b.from);
  const joined: { from: number; to: number }[] = [];
  for (const span of spans) {
    const last = joined[joined.length - 1];
    // Ranges end with their page: pages need not be neighbours in memory.
    const samePage = last && Math.floor(last.from / pageBytes) === Math.floor((span.to - 1) / pageBytes);
    if (last && samePage && span.from <= last.to) last.to = Math.max(last.to, span.to);
    else joined.push({ ...span });
  }
  const hosts = new Map(region.pages.map((p) => [p.delta, p.host]));
  return joined.flatMap(({ from, to }) => {
    const parts: CodeRange[] = [];
    for (let at = from; at < to;) {
      const delta = Math.floor(at / pageBytes);
      const end = Math.min(to, (delta + 1) * pageBytes);
      const host = hosts.get(delta)! + (at - delta * pageBytes);
      parts.push({ at, bytes: u8.slice(host, host + (end - at)) });
      at = end;
    }
    return parts;
  });
}

/**
 * Packs a module for the store. Layout, little-endian: magic, offset of the WebAssembly, kind, guards, number of regions (u32, u32, u16, u16,
 * u16, 2 bytes of zero); for each region numbers of entries, first guard, number of pages, number of ranges, of computed jumps, of branches (u16
 * each), entries (u16), pages, computed jumps, branches (i32), and of each range its address (i32), length (u16) and bytes; then the WebAssembly.
 */
export function packModule(
  compiled: CompiledRegions,
  regions: readonly RegionWithCode[],
  kind: StoredKind,
): Uint8Array {
  const parts = regions.map(({ region, ranges }) => ({
    entries: region.entries.map((n) => region.blocks[n]!.at),
    pages: region.pages.filter((p) => p.delta !== 0).map((p) => p.delta),
    ranges,
    counted: [...region.computed, ...region.branches],
    counts: [region.computed.length, region.branches.length],
  }));
  const regionBytes = parts.map(
    ({ entries, pages, ranges, counted }) =>
      12 +
      2 * entries.length +
      4 * (pages.length + counted.length) +
      ranges.reduce((sum, r) => sum + 6 + r.bytes.length, 0),
  );
  const wasmAt = regionBytes.reduce((sum, n) => sum + n, fixedBytes);
  const value = new Uint8Array(wasmAt + compiled.bytes.length);
  const view = new DataView(value.buffer);
  let at = 0;
  const u16 = (n: number): void => (view.setUint16(at, n, true), void (at += 2));
  const i32 = (n: number): void => (view.setInt32(at, n, true), void (at += 4));
  i32(magic);
  i32(wasmAt);
  u16(kinds.indexOf(kind));
  u16(compiled.guards);
  u16(regions.length);
  u16(0);
  parts.forEach(({ entries, pages, ranges, counted, counts }, n) => {
    for (const field of [entries.length, compiled.guardStart[n]!, pages.length, ranges.length, ...counts, ...entries])
      u16(field);
    for (const field of [...pages, ...counted]) i32(field);
    for (const range of ranges) {
      i32(range.at);
      u16(range.bytes.length);
      value.set(range.bytes, at);
      at += range.bytes.length;
    }
  });
  value.set(compiled.bytes, wasmAt);
  return value;
}

const isDelta = (n: number): boolean => Math.abs(n) < 1 << 20 && n !== 0;

/** Reads a header; NaN beyond its end, which every check refuses. */
class HeaderReader {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  readonly end: number;
  at = fixedBytes;

  constructor(value: Uint8Array, end: number) {
    this.bytes = value;
    this.view = new DataView(value.buffer, value.byteOffset, end);
    this.end = end;
  }

  u16(): number {
    this.at += 2;
    return this.at <= this.end ? this.view.getUint16(this.at - 2, true) : NaN;
  }

  i32(): number {
    this.at += 4;
    return this.at <= this.end ? this.view.getInt32(this.at - 4, true) : NaN;
  }

  take(length: number): Uint8Array | undefined {
    const from = this.at;
    this.at += length;
    return this.at <= this.end ? this.bytes.subarray(from, this.at) : undefined;
  }

  /** Of a list whose items take at least `itemBytes`; undefined when there cannot be so many. */
  count(limit: number, itemBytes: number): number | undefined {
    const n = this.u16();
    return n <= limit && this.at + n * itemBytes <= this.end ? n : undefined;
  }
}

function readRegion(reader: HeaderReader, guards: number): StoredRegion | undefined {
  const entryCount = reader.u16();
  const guardStart = reader.u16();
  const pageCount = reader.u16();
  const rangeCount = reader.count(pageBytes, 7);
  const computedCount = reader.count(maxCounted, 4);
  const branchCount = reader.count(maxCounted, 4);
  if (!(entryCount > 0 && entryCount <= maxEntries) || !(pageCount <= maxPages) || !rangeCount) return undefined;
  if (computedCount === undefined || branchCount === undefined) return undefined;
  const entries = Array.from({ length: entryCount }, () => reader.u16());
  const pages = Array.from({ length: pageCount }, () => reader.i32());
  const computed = Array.from({ length: computedCount }, () => reader.i32());
  const branches = Array.from({ length: branchCount }, () => reader.i32());
  const slots = guardSlots(pageCount) + slotsOf({ computed, branches }).total;
  if (!pages.every(isDelta) || !(guardStart + slots <= guards)) return undefined;
  const ranges: CodeRange[] = [];
  for (let n = 0; n < rangeCount; n++) {
    const at = reader.i32();
    const bytes = reader.take(reader.u16());
    const delta = Math.floor(at / pageBytes);
    if (!bytes || bytes.length === 0 || at - delta * pageBytes + bytes.length > pageBytes) return undefined;
    if (delta !== 0 && !pages.includes(delta)) return undefined;
    ranges.push({ at, bytes });
  }
  const isCode = (at: number) => ranges.some((r) => r.at <= at && at < r.at + r.bytes.length);
  if (!entries.every((at) => at < pageBytes && isCode(at)) || ![...computed, ...branches].every(isCode))
    return undefined;
  return { entries, pages, guardStart, ranges, computed, branches };
}

/** Reads the header of a stored module; undefined for anything that is not exactly what `packModule` makes. */
export function unpackModule(value: Uint8Array): StoredModule | undefined {
  if (value.length < fixedBytes) return undefined;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const wasmAt = view.getUint32(4, true);
  const kind = kinds[view.getUint16(8, true)];
  const guards = view.getUint16(10, true);
  const count = view.getUint16(12, true);
  if (view.getUint32(0, true) !== magic || wasmAt > value.length || wasmAt < fixedBytes) return undefined;
  if (!kind || view.getUint16(14, true) !== 0 || guards > maxGuards) return undefined;
  if (count === 0 || count > maxRegionsPerModule) return undefined;
  const reader = new HeaderReader(value, wasmAt);
  const regions: StoredRegion[] = [];
  for (let n = 0; n < count; n++) {
    const region = readRegion(reader, guards);
    if (!region) return undefined;
    regions.push(region);
  }
  return reader.at === wasmAt ? { kind, wasmAt, guards, regions } : undefined;
}

/** Name under which a module is stored: 64 bits of hash. Only a name: what may be used is decided by comparing code. */
export function storeKey(value: Uint8Array): string {
  const whole = value.length & ~3;
  const aligned = value.byteOffset % 4 === 0 ? value : value.slice();
  const words = new Uint32Array(aligned.buffer, aligned.byteOffset, whole / 4);
  // Two chains that mix each word in differently, and what is left behind the words; byte by byte it took a sixth of what translating does.
  let a = value.length;
  let b = ~value.length;
  for (let n = 0, rest = whole; n < words.length + rounds; n++) {
    const word = n < words.length ? words[n]! : rest < value.length ? value[rest++]! : 0;
    a = Math.imul(a ^ word, 0x85ebca6b);
    a = (a << 13) | (a >>> 19);
    b = Math.imul(b + word, 0xc2b2ae35);
    b ^= b >>> 15;
  }
  return [a, b].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('');
}

/** Behind the words: up to three bytes, and so often nothing that what came last is spread over all bits. */
const rounds = 5;

/** What a block must begin with for a stored region to be worth comparing: entry offset and first four bytes. Undefined when they are not in one piece. */
export function entryKey(entry: number, code: Uint8Array, at: number): number | undefined {
  if (at + 4 > code.length) return undefined;
  return entry * 2 ** 32 + (code[at]! | (code[at + 1]! << 8) | (code[at + 2]! << 16)) + code[at + 3]! * 2 ** 24;
}

/**
 * Where a stored region's pages lie now, if all of its code is the same there. `code`: host address of its entry, `hostOfPage`: host address of
 * the page `delta` pages further on (0 = not executable).
 */
export function matchingPages(
  region: StoredRegion,
  u8: Uint8Array,
  code: number,
  hostOfPage: (delta: number) => number,
): RegionPage[] | undefined {
  const pages: RegionPage[] = [{ delta: 0, host: code - (code % pageBytes) }];
  for (const delta of region.pages) {
    const host = hostOfPage(delta);
    if (host === 0) return undefined;
    pages.push({ delta, host });
  }
  for (const { at, bytes } of region.ranges) {
    const delta = Math.floor(at / pageBytes);
    const page = pages.find((p) => p.delta === delta);
    if (!page) return undefined;
    const from = page.host + at - delta * pageBytes;
    for (let i = 0; i < bytes.length; i++) if (u8[from + i] !== bytes[i]) return undefined;
  }
  return pages;
}
