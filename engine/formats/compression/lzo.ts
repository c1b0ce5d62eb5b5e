// SPDX-License-Identifier: MIT
// LZO decoder: the lzop file format with LZO1X blocks, as Linux kernels are packed with.
// Formats: Documentation/staging/lzo.rst of Linux (the LZO1X stream); lzop 1.04's header layout.
import { pvError } from '../../errors.ts';
import { adler32, crc32 } from './checksums.ts';
import { OutputBuffer } from './output-buffer.ts';
import type { DecompressLimits } from './output-buffer.ts';

const FORMAT = 'LZO';
const MAGIC = [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a] as const;
/** Header flags of lzop. */
const FLAG_ADLER32_UNPACKED = 0x0001;
const FLAG_ADLER32_PACKED = 0x0002;
const FLAG_EXTRA_FIELD = 0x0040;
const FLAG_CRC32_UNPACKED = 0x0100;
const FLAG_CRC32_PACKED = 0x0200;
const FLAG_FILTER = 0x0800;
const FLAG_HEADER_CRC32 = 0x1000;
/** From this version on, the header has the level, the version needed and a 64-bit time. */
const VERSION_WITH_LEVEL = 0x0940;
const MAX_BLOCK_SIZE = 64 * 1024 * 1024;

/** True when `data` starts with the magic of an lzop file. */
export function looksLikeLzop(data: Uint8Array): boolean {
  return MAGIC.every((byte, i) => data[i] === byte);
}

/**
 * Unpacks an lzop file. Bytes after its end mark are ignored.
 * Throws `compressed-corrupt`, `compressed-truncated`, `compressed-unsupported` or `compressed-too-large`.
 */
export function decompressLzop(data: Uint8Array, limits: DecompressLimits): Uint8Array {
  if (!looksLikeLzop(data)) throw corrupt('the magic number is missing');
  const reader = new LzopReader(data);
  const flags = reader.header();
  const output = new OutputBuffer(FORMAT, limits);
  for (;;) {
    const unpackedSize = reader.u32();
    if (unpackedSize === 0) return output.result();
    const packedSize = reader.u32();
    if (unpackedSize > MAX_BLOCK_SIZE || packedSize > unpackedSize) throw corrupt('a block has an impossible size');
    const unpackedAdler = flags & FLAG_ADLER32_UNPACKED ? reader.u32() : undefined;
    const unpackedCrc = flags & FLAG_CRC32_UNPACKED ? reader.u32() : undefined;
    const isStored = packedSize === unpackedSize;
    const packedAdler = !isStored && flags & FLAG_ADLER32_PACKED ? reader.u32() : undefined;
    const packedCrc = !isStored && flags & FLAG_CRC32_PACKED ? reader.u32() : undefined;
    const block = reader.take(packedSize);
    if (packedAdler !== undefined && adler32(block) !== packedAdler)
      throw corrupt('the checksum of a packed block is wrong');
    if (packedCrc !== undefined && crc32(block) !== packedCrc) throw corrupt('the checksum of a packed block is wrong');
    const start = output.length;
    if (isStored) output.append(block);
    else decodeLzo1x(block, output, unpackedSize);
    if (unpackedAdler !== undefined && adler32(output.bytes, start, output.length) !== unpackedAdler)
      throw corrupt('the checksum of a block is wrong');
    if (unpackedCrc !== undefined && crc32(output.bytes, start, output.length) !== unpackedCrc)
      throw corrupt('the checksum of a block is wrong');
  }
}

/** Reads the big-endian fields of an lzop file. */
class LzopReader {
  private readonly data: Uint8Array;
  private pos: number = MAGIC.length;

  constructor(data: Uint8Array) {
    this.data = data;
  }

  /** Reads and checks the header, which ends at the first block. Returns its flags. */
  header(): number {
    const start = this.pos;
    const version = this.u16();
    this.u16(); // version of the LZO library
    if (version >= VERSION_WITH_LEVEL) this.u16(); // version needed to unpack
    const method = this.u8();
    if (method < 1 || method > 3)
      throw pvError('compressed-unsupported', { format: FORMAT, detail: `method ${method}` });
    if (version >= VERSION_WITH_LEVEL) this.u8(); // level
    const flags = this.u32();
    if (flags & FLAG_FILTER) throw pvError('compressed-unsupported', { format: FORMAT, detail: 'a filter' });
    this.u32(); // mode of the file
    this.u32(); // time
    if (version >= VERSION_WITH_LEVEL) this.u32(); // time, high half
    this.take(this.u8()); // name
    const header = this.data.subarray(start, this.pos);
    const sum = flags & FLAG_HEADER_CRC32 ? crc32(header) : adler32(header);
    if (this.u32() !== sum) throw corrupt('the checksum of the header is wrong');
    if (flags & FLAG_EXTRA_FIELD) {
      this.take(this.u32());
      this.u32(); // its checksum
    }
    return flags;
  }

  u8(): number {
    return this.take(1)[0]!;
  }

  u16(): number {
    const b = this.take(2);
    return (b[0]! << 8) | b[1]!;
  }

  u32(): number {
    const b = this.take(4);
    return ((b[0]! << 24) | (b[1]! << 16) | (b[2]! << 8) | b[3]!) >>> 0;
  }

  take(count: number): Uint8Array {
    if (count > this.data.length - this.pos) throw pvError('compressed-truncated', { format: FORMAT });
    this.pos += count;
    return this.data.subarray(this.pos - count, this.pos);
  }
}

/**
 * Decodes one LZO1X block that must produce exactly `unpackedSize` bytes. `state` is the number of literals copied by the last
 * instruction (0 to 3), or 4 after a long run: it selects the meaning of the instructions below 16.
 */
function decodeLzo1x(data: Uint8Array, output: OutputBuffer, unpackedSize: number): void {
  const blockStart = output.length;
  const outputEnd = blockStart + unpackedSize;
  let pos = 0;
  let state = 0;

  const copyLiterals = (count: number): void => {
    if (count > data.length - pos) throw corrupt('a block ends within literals');
    if (count > outputEnd - output.length) throw corrupt('a block unpacks to more than its header says');
    output.append(data.subarray(pos, pos + count));
    pos += count;
  };
  /** A length whose bits in the instruction are all zero continues: each zero byte adds 255, the first other byte ends it. */
  const extendedLength = (base: number): number => {
    let length = base;
    for (;;) {
      if (pos >= data.length) throw corrupt('a block ends within a length');
      const byte = data[pos++]!;
      if (byte !== 0) return length + byte;
      length += 255;
    }
  };

  if (data.length > 0 && data[0]! > 17) {
    const literals = data[0]! - 17;
    pos = 1;
    copyLiterals(literals);
    state = literals < 4 ? literals : 4;
  }
  for (;;) {
    if (pos >= data.length) throw corrupt('a block ends without an end mark');
    const op = data[pos++]!;
    let length: number;
    let distance: number;
    let trailing: number;
    if (op < 16 && state === 0) {
      copyLiterals(3 + (op !== 0 ? op : extendedLength(15)));
      state = 4;
      continue;
    }
    if (op < 16 || op >= 64) {
      if (pos >= data.length) throw corrupt('a block ends within a match');
      const high = data[pos++]!;
      trailing = op & 3;
      if (op >= 64) {
        length = op >= 128 ? 5 + ((op >>> 5) & 3) : 3 + ((op >>> 5) & 1);
        distance = (high << 3) + ((op >>> 2) & 7) + 1;
      } else if (state === 4) {
        length = 3;
        distance = (high << 2) + (op >>> 2) + 2049;
      } else {
        length = 2;
        distance = (high << 2) + (op >>> 2) + 1;
      }
    } else {
      if (op >= 32) length = 2 + (op & 31 ? op & 31 : extendedLength(31));
      else length = 2 + (op & 7 ? op & 7 : extendedLength(7));
      if (data.length - pos < 2) throw corrupt('a block ends within a match');
      const low = data[pos]! | (data[pos + 1]! << 8);
      pos += 2;
      trailing = low & 3;
      distance = (low >>> 2) + (op >= 32 ? 1 : 16384 + ((op & 8) << 11));
      if (op < 32 && distance === 16384) {
        if (pos !== data.length) throw corrupt('a block has data after its end mark');
        if (output.length !== outputEnd) throw corrupt('a block unpacks to less than its header says');
        return;
      }
    }
    if (distance > output.length - blockStart) throw corrupt('a match reaches before the start of its block');
    if (length > outputEnd - output.length) throw corrupt('a block unpacks to more than its header says');
    output.copyMatch(distance, length);
    if (trailing !== 0) copyLiterals(trailing);
    state = trailing;
  }
}

function corrupt(detail: string): Error {
  return pvError('compressed-corrupt', { format: FORMAT, detail });
}
