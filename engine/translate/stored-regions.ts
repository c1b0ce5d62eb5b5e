// SPDX-License-Identifier: MIT
// The form in which translated modules are kept between runs: WebAssembly bytes with the exact guest code that each region was made from.

import { encodeUtf8 } from '../formats/utf8.ts';
import type { CompiledRegions } from './compile.ts';
import type { Region } from './region.ts';

const pageBytes = 4096;
const formatVersion = 1;
/** Bounds of what is believed of a stored header, before anything is allocated for it. */
const maxHeaderBytes = 1 << 20;
const maxRegionsPerModule = 256;
const maxCodeBytes = 64 << 10;

/** A stretch of guest code, by address relative to the entry page. */
export interface CodeRange {
  readonly at: number;
  readonly bytes: Uint8Array;
}

export interface StoredRegion {
  /** Offset of the entry in its page. */
  readonly entry: number;
  /** Further pages, in the order of their guard slots. */
  readonly pages: readonly number[];
  readonly ranges: readonly CodeRange[];
  readonly guardStart: number;
}

export interface StoredModule {
  readonly wasm: Uint8Array;
  readonly guards: number;
  readonly regions: readonly StoredRegion[];
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

const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');

/** The header is ASCII; anything else in a damaged one becomes characters that JSON refuses. */
function ascii(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return text;
}

function fromHex(text: unknown): Uint8Array | undefined {
  if (typeof text !== 'string' || text.length % 2 !== 0 || text.length > 2 * maxCodeBytes || !/^[0-9a-f]*$/.test(text))
    return undefined;
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

/** Packs a module for the store. Layout: header length (u32, little-endian), header (JSON, UTF-8), WebAssembly. */
export function packModule(compiled: CompiledRegions, regions: readonly Region[], u8: Uint8Array): Uint8Array {
  const header = encodeUtf8(
    JSON.stringify({
      version: formatVersion,
      guards: compiled.guards,
      regions: regions.map((region, n) => ({
        entry: region.blocks[0]!.at,
        pages: region.pages.filter((p) => p.delta !== 0).map((p) => p.delta),
        guardStart: compiled.guardStart[n],
        ranges: codeRanges(region, u8).map((r) => [r.at, hex(r.bytes)]),
      })),
    }),
  );
  const value = new Uint8Array(4 + header.length + compiled.bytes.length);
  new DataView(value.buffer).setUint32(0, header.length, true);
  value.set(header, 4);
  value.set(compiled.bytes, 4 + header.length);
  return value;
}

const isCount = (n: unknown, limit: number): n is number =>
  Number.isInteger(n) && (n as number) >= 0 && (n as number) < limit;
const isDelta = (n: unknown): n is number => Number.isInteger(n) && Math.abs(n as number) < 1 << 20 && n !== 0;

function parseRegion(raw: unknown, guards: number): StoredRegion | undefined {
  const { entry, pages, guardStart, ranges } = (raw ?? {}) as Record<string, unknown>;
  if (!isCount(entry, pageBytes) || !Array.isArray(pages) || pages.length > 16 || !pages.every(isDelta))
    return undefined;
  if (
    !isCount(guardStart, guards + 1) ||
    guardStart + pages.length > guards ||
    !Array.isArray(ranges) ||
    ranges.length === 0
  )
    return undefined;
  const parsed: CodeRange[] = [];
  for (const range of ranges as unknown[]) {
    if (!Array.isArray(range) || !Number.isInteger(range[0])) return undefined;
    const at = range[0] as number;
    const delta = Math.floor(at / pageBytes);
    const bytes = fromHex(range[1]);
    if (!bytes || bytes.length === 0 || at - delta * pageBytes + bytes.length > pageBytes) return undefined;
    if (delta !== 0 && !(pages as number[]).includes(delta)) return undefined;
    parsed.push({ at, bytes });
  }
  if (!parsed.some((r) => r.at <= entry && entry < r.at + r.bytes.length)) return undefined;
  return { entry, pages: pages as number[], guardStart, ranges: parsed };
}

/** Reads a stored module back; undefined for anything that is not exactly what `packModule` makes. */
export function unpackModule(value: Uint8Array): StoredModule | undefined {
  if (value.length < 4) return undefined;
  const length = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
  if (length > maxHeaderBytes || 4 + length > value.length) return undefined;
  let raw: Record<string, unknown>;
  try {
    raw = (JSON.parse(ascii(value.subarray(4, 4 + length))) ?? {}) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  const { version, guards, regions } = raw;
  if (version !== formatVersion || !isCount(guards, 4096) || !Array.isArray(regions)) return undefined;
  if (regions.length === 0 || regions.length > maxRegionsPerModule) return undefined;
  const parsed = regions.map((r) => parseRegion(r, guards));
  if (parsed.some((r) => r === undefined)) return undefined;
  return { wasm: value.slice(4 + length), guards, regions: parsed as StoredRegion[] };
}

/** Name under which a module is stored: a 64-bit FNV-1a hash. Only a name: what may be used is decided by comparing code. */
export function storeKey(value: Uint8Array): string {
  let low = 0x84222325;
  let high = 0xcbf29ce4;
  for (const byte of value) {
    low = (low ^ byte) >>> 0;
    const product = low * 0x1b3;
    high = (Math.imul(high, 0x1b3) + Math.imul(low, 0x100) + Math.floor(product / 2 ** 32)) >>> 0;
    low = product >>> 0;
  }
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
}

/** What a block must begin with for a stored region to be worth comparing: entry offset and first four bytes. Undefined when they are not in one piece. */
export function entryKey(entry: number, code: Uint8Array, at: number): number | undefined {
  if (at + 4 > code.length) return undefined;
  return entry * 2 ** 32 + (code[at]! | (code[at + 1]! << 8) | (code[at + 2]! << 16)) + code[at + 3]! * 2 ** 24;
}
