// SPDX-License-Identifier: MIT
// The symbols that a Linux kernel carries in its read-only data for its own use (CONFIG_KALLSYMS): all that a stripped kernel says about itself.
// Layout: scripts/kallsyms.c of Linux 4.6 to 6.3 (offsets in front of the names) and from 6.4 on (offsets behind the tokens); no promise is
// made about it anywhere. So every table is checked against the others, and what does not fit gives no symbols rather than wrong ones.

export interface KernelSymbol {
  /** Virtual address. */
  readonly address: bigint;
  /** As nm has it: `t` and `T` are code. */
  readonly type: string;
  readonly name: string;
}

const tokens = 256;
/** A name is compressed to at most this many bytes; longer ones are refused by the kernel's build. */
const maxNameTokens = 512;
const maxNameLength = 1024;
/** Symbols per marker. */
const perMarker = 256;
/** Larger than any kernel: bounds the work on a file that only looks like one. */
const maxSymbols = 1 << 21;
/** Places that may be the token table; real kernels have half a dozen, most of them tables of characters. */
const maxAttempts = 64;

const align = (at: number, to: number): number => Math.ceil(at / to) * to;

/** Finds and reads the tables in the bytes of a loaded segment (which begins on a page); undefined when there are none that fit. */
export function readKallsyms(segment: Uint8Array): KernelSymbol[] | undefined {
  const view = new DataView(segment.buffer, segment.byteOffset, segment.byteLength);
  let attempts = 0;
  for (let at = findDigits(segment, 0); at >= 0 && attempts < maxAttempts; at = findDigits(segment, at + 1)) {
    attempts++;
    const table = readTokens(segment, view, at);
    const names = table && findNames(segment, view, table.start);
    const symbols = names && expand(segment, view, table, names);
    if (symbols) return symbols;
  }
  return undefined;
}

/** Ten neighbouring tokens are the digits, whose own numbers are their characters: "0\0" to "9\0". */
function findDigits(bytes: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(0x30, from); at >= 0; at = bytes.indexOf(0x30, at + 1)) {
    let n = 0;
    while (n < 20 && bytes[at + n] === (n & 1 ? 0 : 0x30 + (n >> 1))) n++;
    if (n === 20) return at;
  }
  return -1;
}

interface TokenTable {
  readonly start: number;
  /** Behind the index that follows the table. */
  readonly end: number;
  readonly texts: readonly string[];
}

/** The token table around the token "0", confirmed by the index of all tokens behind it. */
function readTokens(bytes: Uint8Array, view: DataView, zero: number): TokenTable | undefined {
  let end = zero;
  for (let token = 0x30; token < tokens; token++) {
    end = bytes.indexOf(0, end) + 1;
    if (end === 0 || end - zero > tokens * maxNameLength) return undefined;
  }
  const index = align(end, 8);
  if (index + 2 * tokens > bytes.length) return undefined;
  const offset = (token: number): number => view.getUint16(index + 2 * token, true);
  const start = zero - offset(0x30);
  if (start < 0 || start % 8 !== 0 || offset(0) !== 0) return undefined;
  const texts: string[] = [];
  for (let token = 0, at = start; token < tokens; token++) {
    if (start + offset(token) !== at) return undefined;
    const next = bytes.indexOf(0, at) + 1;
    texts.push(String.fromCharCode(...bytes.subarray(at, next - 1)));
    at = next;
  }
  return { start, end: index + 2 * tokens, texts };
}

interface NameTable {
  /** Offset of the number of symbols, which precedes the names. */
  readonly countAt: number;
  readonly start: number;
  readonly end: number;
  readonly count: number;
}

/** Length of the compressed name at an offset: [bytes of the length, tokens]. */
function nameLength(bytes: Uint8Array, at: number): readonly [head: number, length: number] {
  const low = bytes[at] ?? 0;
  return low & 0x80 ? [2, (low & 0x7f) | ((bytes[at + 1] ?? 0) << 7)] : [1, low];
}

/**
 * The names, found from behind: in front of the tokens are the markers, with or without a table that orders the symbols by name (three
 * bytes each). How many symbols there are is not known yet: the number is right when markers and names agree with it.
 */
function findNames(bytes: Uint8Array, view: DataView, tokensAt: number): NameTable | undefined {
  for (const orderBytes of [0, 3]) {
    for (let count = 1; count <= maxSymbols; count++) {
      const markers = Math.ceil(count / perMarker);
      const first = tokensAt - align(orderBytes * count, 8) - align(4 * markers, 8);
      if (first < 16) break;
      const marker = (n: number): number => view.getUint32(first + 4 * n, true);
      if (marker(0) !== 0 || !ascends(marker, markers)) continue;
      const last = first - marker(markers - 1);
      const nearest = Math.floor(last / 8) * 8;
      for (let start = nearest; start >= 16 && start > nearest - perMarker * maxNameTokens; start -= 8) {
        if (view.getUint32(start - 8, true) !== count || view.getUint32(start - 4, true) !== 0) continue;
        const end = walkNames(bytes, start, count, marker, first);
        if (end !== undefined && first - end < 8) return { countAt: start - 8, start, end, count };
      }
    }
  }
  return undefined;
}

function ascends(marker: (n: number) => number, count: number): boolean {
  for (let n = 1; n < count; n++) if (marker(n) <= marker(n - 1)) return false;
  return true;
}

/** Where the names end; undefined when the markers say otherwise. */
function walkNames(
  bytes: Uint8Array,
  start: number,
  count: number,
  marker: (n: number) => number,
  limit: number,
): number | undefined {
  let at = start;
  for (let n = 0; n < count; n++) {
    if (n % perMarker === 0 && at - start !== marker(n / perMarker)) return undefined;
    const [head, length] = nameLength(bytes, at);
    at += head + length;
    if (length === 0 || length > maxNameTokens || at > limit) return undefined;
  }
  return at;
}

function expand(bytes: Uint8Array, view: DataView, table: TokenTable, names: NameTable): KernelSymbol[] | undefined {
  const addresses = readAddresses(view, table, names);
  if (!addresses) return undefined;
  const symbols: KernelSymbol[] = [];
  let at = names.start;
  for (const address of addresses) {
    const [head, length] = nameLength(bytes, at);
    at += head;
    let text = '';
    for (let n = 0; n < length && text.length < maxNameLength; n++) text += table.texts[bytes[at + n]!];
    at += length;
    if (text.length < 2) return undefined;
    symbols.push({ address, type: text[0]!, name: text.slice(1) });
  }
  return symbols;
}

/** Addresses ascend: that tells which of the two places holds them. */
function readAddresses(view: DataView, table: TokenTable, names: NameTable): bigint[] | undefined {
  const bytes = align(4 * names.count, 8);
  const places = [
    { offsets: names.countAt - 8 - bytes, base: names.countAt - 8 },
    { offsets: align(table.end, 8), base: align(table.end, 8) + bytes },
  ];
  for (const { offsets, base } of places) {
    if (offsets < 0 || base + 8 > view.byteLength) continue;
    const relativeTo = view.getBigUint64(base, true);
    // Kernel code lies in the upper half.
    if (relativeTo < 1n << 63n) continue;
    const found: bigint[] = [];
    for (let n = 0; n < names.count; n++) {
      const offset = view.getInt32(offsets + 4 * n, true);
      // Per-CPU symbols are numbers, not addresses; everything else counts down from the base.
      const address = offset >= 0 ? BigInt(offset) : relativeTo - 1n - BigInt(offset);
      if (n > 0 && address < found[n - 1]!) break;
      found.push(address);
    }
    if (found.length === names.count) return found;
  }
  return undefined;
}
