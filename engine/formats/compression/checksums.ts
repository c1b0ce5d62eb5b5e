// SPDX-License-Identifier: MIT
// The checksums of compressed containers: CRC-32 (ISO 3309), CRC-64 (ECMA-182, as in xz) and Adler-32 (RFC 1950).

const CRC32_POLYNOMIAL = 0xedb88320;

/** Eight tables of 256: table k advances the CRC over a byte followed by k zero bytes, so 8 input bytes cost 8 look-ups. */
const crc32Tables = makeCrc32Tables();

function makeCrc32Tables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let n = 0; n < 256; n++) {
    let crc = n;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ CRC32_POLYNOMIAL : crc >>> 1;
    tables[n] = crc;
  }
  for (let n = 256; n < tables.length; n++) {
    const previous = tables[n - 256]!;
    tables[n] = (previous >>> 8) ^ tables[previous & 0xff]!;
  }
  return tables;
}

/** CRC-32 of `data[from, to)` as an unsigned number. */
export function crc32(data: Uint8Array, from = 0, to = data.length): number {
  const t = crc32Tables;
  let crc = -1;
  let i = from;
  for (const end8 = to - 7; i < end8; i += 8) {
    crc ^= data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24);
    crc =
      t[1792 + (crc & 0xff)]! ^
      t[1536 + ((crc >>> 8) & 0xff)]! ^
      t[1280 + ((crc >>> 16) & 0xff)]! ^
      t[1024 + (crc >>> 24)]! ^
      t[768 + data[i + 4]!]! ^
      t[512 + data[i + 5]!]! ^
      t[256 + data[i + 6]!]! ^
      t[data[i + 7]!]!;
  }
  for (; i < to; i++) crc = (crc >>> 8) ^ t[(crc ^ data[i]!) & 0xff]!;
  return ~crc >>> 0;
}

/** CRC-64/XZ (reflected, polynomial 0xC96C5795D7870F42) in halves, because 64-bit integers in JavaScript are slow. */
const crc64Tables = makeCrc64Tables();

function makeCrc64Tables(): { lo: Int32Array; hi: Int32Array } {
  const lo = new Int32Array(256);
  const hi = new Int32Array(256);
  for (let n = 0; n < 256; n++) {
    let l = n;
    let h = 0;
    for (let bit = 0; bit < 8; bit++) {
      const out = l & 1;
      l = (l >>> 1) | (h << 31);
      h >>>= 1;
      if (out) {
        l ^= 0xd7870f42;
        h ^= 0xc96c5795;
      }
    }
    lo[n] = l;
    hi[n] = h;
  }
  return { lo, hi };
}

/** CRC-64 of `data[from, to)` as unsigned halves [low, high]. */
export function crc64(data: Uint8Array, from = 0, to = data.length): readonly [number, number] {
  const { lo, hi } = crc64Tables;
  let l = -1;
  let h = -1;
  for (let i = from; i < to; i++) {
    const index = (l ^ data[i]!) & 0xff;
    l = ((l >>> 8) | (h << 24)) ^ lo[index]!;
    h = (h >>> 8) ^ hi[index]!;
  }
  return [~l >>> 0, ~h >>> 0];
}

/** Adler-32 of `data[from, to)` as an unsigned number. */
export function adler32(data: Uint8Array, from = 0, to = data.length): number {
  let a = 1;
  let b = 0;
  for (let i = from; i < to;) {
    // 5552 is the largest count whose sums cannot pass 2^32 before the modulo.
    for (const end = Math.min(to, i + 5552); i < end; i++) {
      a += data[i]!;
      b += a;
    }
    a %= 65521;
    b %= 65521;
  }
  return ((b << 16) | a) >>> 0;
}
