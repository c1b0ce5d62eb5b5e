// SPDX-License-Identifier: MIT
// xz decoder: container, LZMA2 chunks, the x86 branch filter and the CRC-32/CRC-64 checks.
// Format: "The .xz File Format" 1.2.1, https://tukaani.org/xz/xz-file-format.txt.
import { pvError } from '../../errors.ts';
import { crc32, crc64 } from './checksums.ts';
import { LzmaDecoder } from './lzma.ts';
import { OutputBuffer } from './output-buffer.ts';
import type { DecompressLimits } from './output-buffer.ts';
import { undoX86BranchFilter } from './x86-branch-filter.ts';

const FORMAT = 'xz';
const STREAM_HEADER_SIZE = 12;
const FILTER_X86 = 0x04;
const FILTER_LZMA2 = 0x21;
const CHECK_CRC32 = 1;
const CHECK_CRC64 = 4;
/** Bytes of the check field by check id; the ids between the defined ones are reserved but have sizes. */
const CHECK_SIZES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64] as const;

/** True when `data` starts with the xz magic. */
export function looksLikeXz(data: Uint8Array): boolean {
  const magic = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
  return magic.every((byte, i) => data[i] === byte);
}

/**
 * Unpacks an xz file (one or several streams). CRC-32 and CRC-64 checks are verified; the container lets a decoder leave other
 * checks (SHA-256) unverified, and this one does. Throws `compressed-corrupt`, `compressed-truncated`, `compressed-unsupported` or
 * `compressed-too-large`.
 */
export function decompressXz(data: Uint8Array, limits: DecompressLimits): Uint8Array {
  const output = new OutputBuffer(FORMAT, limits);
  const reader = new XzReader(data, output);
  reader.readStream();
  while (reader.skipStreamPadding()) reader.readStream();
  return output.result();
}

class XzReader {
  private readonly data: Uint8Array;
  private readonly output: OutputBuffer;
  private readonly lzma: LzmaDecoder;
  private pos = 0;

  constructor(data: Uint8Array, output: OutputBuffer) {
    this.data = data;
    this.output = output;
    this.lzma = new LzmaDecoder(FORMAT, data, output);
  }

  /** Skips the zero bytes that may follow a stream (multiples of four). Returns whether another stream follows. */
  skipStreamPadding(): boolean {
    while (this.pos + 4 <= this.data.length && this.u32(this.pos) === 0) this.pos += 4;
    return this.pos < this.data.length;
  }

  readStream(): void {
    const start = this.pos;
    this.need(STREAM_HEADER_SIZE);
    if (!looksLikeXz(this.data.subarray(start))) throw corrupt('the magic number is missing');
    if (crc32(this.data, start + 6, start + 8) !== this.u32(start + 8))
      throw corrupt('the checksum of the stream header is wrong');
    if (this.data[start + 6] !== 0 || this.data[start + 7]! > 15) throw unsupported('unknown stream flags');
    const check = this.data[start + 7]!;
    this.pos += STREAM_HEADER_SIZE;
    const blocks: BlockSizes[] = [];
    for (;;) {
      this.need(1);
      if (this.data[this.pos] === 0) break;
      blocks.push(this.readBlock(check));
    }
    const indexSize = this.readIndex(blocks);
    this.need(12);
    const footer = this.pos;
    if (crc32(this.data, footer + 4, footer + 10) !== this.u32(footer))
      throw corrupt('the checksum of the stream footer is wrong');
    if (this.data[footer + 10] !== 0x59 || this.data[footer + 11] !== 0x5a)
      throw corrupt('the end mark of the stream is missing');
    if ((this.u32(footer + 4) + 1) * 4 !== indexSize) throw corrupt('the stream footer does not match the index');
    if (this.data[footer + 8] !== 0 || this.data[footer + 9] !== check)
      throw corrupt('the stream footer does not match its header');
    this.pos += 12;
  }

  private readBlock(check: number): BlockSizes {
    const start = this.pos;
    const headerSize = (this.data[start]! + 1) * 4;
    this.need(headerSize);
    const headerEnd = start + headerSize - 4;
    if (crc32(this.data, start, headerEnd) !== this.u32(headerEnd))
      throw corrupt('the checksum of a block header is wrong');
    const flags = this.data[start + 1]!;
    if (flags & 0x3c) throw unsupported('unknown block flags');
    this.pos = start + 2;
    const compressedSize = flags & 0x40 ? this.varint(headerEnd) : undefined;
    const uncompressedSize = flags & 0x80 ? this.varint(headerEnd) : undefined;
    let x86StartOffset: number | undefined;
    const filterCount = (flags & 3) + 1;
    for (let i = 0; i < filterCount; i++) {
      const id = this.varint(headerEnd);
      const propertiesSize = this.varint(headerEnd);
      const properties = this.pos;
      if (propertiesSize > headerEnd - properties) throw corrupt('a filter description passes the block header');
      this.pos += propertiesSize;
      const isLast = i === filterCount - 1;
      if (id === FILTER_LZMA2 && isLast && propertiesSize === 1) continue;
      if (id === FILTER_X86 && i === 0 && !isLast && (propertiesSize === 0 || propertiesSize === 4)) {
        x86StartOffset = propertiesSize === 4 ? this.u32(properties) : 0;
        continue;
      }
      throw unsupported(`the filter 0x${id.toString(16)} at place ${i + 1} of ${filterCount}`);
    }
    this.pos = headerEnd + 4;

    const dataStart = this.pos;
    const outputStart = this.output.length;
    this.readLzma2();
    const packed = this.pos - dataStart;
    const unpacked = this.output.length - outputStart;
    if (compressedSize !== undefined && compressedSize !== packed)
      throw corrupt('a block has another size than its header says');
    if (uncompressedSize !== undefined && uncompressedSize !== unpacked)
      throw corrupt('a block unpacks to another size than its header says');
    // The filter runs over the finished block: LZMA2's dictionary is the unfiltered data.
    if (x86StartOffset !== undefined)
      undoX86BranchFilter(this.output.bytes.subarray(outputStart, this.output.length), x86StartOffset);

    const unpaddedSize = this.pos - start + CHECK_SIZES[check]!;
    while ((this.pos - start) % 4 !== 0) {
      this.need(1);
      if (this.data[this.pos++] !== 0) throw corrupt('the padding of a block is not zero');
    }
    this.need(CHECK_SIZES[check]!);
    this.verify(check, outputStart);
    this.pos += CHECK_SIZES[check]!;
    return { unpaddedSize, uncompressedSize: unpacked };
  }

  private verify(check: number, outputStart: number): void {
    const { bytes, length } = this.output;
    if (check === CHECK_CRC32) {
      if (crc32(bytes, outputStart, length) !== this.u32(this.pos)) throw corrupt('the CRC-32 of the data is wrong');
    } else if (check === CHECK_CRC64) {
      const [low, high] = crc64(bytes, outputStart, length);
      if (low !== this.u32(this.pos) || high !== this.u32(this.pos + 4))
        throw corrupt('the CRC-64 of the data is wrong');
    }
  }

  /** LZMA2: chunks, each stored or LZMA, with control bytes that say what to reset (section 5.3.1 of the xz format). */
  private readLzma2(): void {
    const lzma = this.lzma;
    let needDictionaryReset = true;
    let needProperties = true;
    for (;;) {
      this.need(1);
      const control = this.data[this.pos++]!;
      if (control === 0) return;
      if (control === 1 || control >= 0xe0) {
        lzma.resetDictionary();
        needDictionaryReset = false;
      } else if (needDictionaryReset) {
        throw corrupt('the first LZMA2 chunk does not reset the dictionary');
      }
      if (control < 0x80) {
        if (control > 2) throw corrupt('an LZMA2 chunk has an unknown control byte');
        this.need(2);
        const size = ((this.data[this.pos]! << 8) | this.data[this.pos + 1]!) + 1;
        this.pos += 2;
        this.need(size);
        this.output.append(this.data.subarray(this.pos, this.pos + size));
        this.pos += size;
        continue;
      }
      this.need(5);
      const unpackedSize = (((control & 0x1f) << 16) | (this.data[this.pos]! << 8) | this.data[this.pos + 1]!) + 1;
      const packedSize = ((this.data[this.pos + 2]! << 8) | this.data[this.pos + 3]!) + 1;
      this.pos += 4;
      if (control >= 0xc0) {
        // Properties: LZMA2 additionally limits lc + lp to 4, which keeps the probability table small.
        const byte = this.data[this.pos++]!;
        if (byte >= 225 || (byte % 9) + (Math.floor(byte / 9) % 5) > 4)
          throw corrupt('the LZMA2 properties are invalid');
        lzma.setProperties(byte);
        needProperties = false;
      } else if (needProperties) {
        throw corrupt('the first LZMA2 chunk has no properties');
      } else if (control >= 0xa0) {
        lzma.resetState();
      }
      this.need(packedSize);
      lzma.startSection(this.pos, this.pos + packedSize);
      if (lzma.decode(this.output.length + unpackedSize) !== 'output-full')
        throw corrupt('an LZMA2 chunk has an end marker');
      this.pos += packedSize;
      if (lzma.position !== this.pos || !lzma.isCleanEnd())
        throw corrupt('an LZMA2 chunk does not end where it should');
    }
  }

  /** The index repeats the sizes of all blocks. Returns its size in bytes. */
  private readIndex(blocks: readonly BlockSizes[]): number {
    const start = this.pos++;
    const end = this.data.length;
    if (this.varint(end) !== blocks.length) throw corrupt('the index counts other blocks than there are');
    for (const block of blocks) {
      if (this.varint(end) !== block.unpaddedSize || this.varint(end) !== block.uncompressedSize)
        throw corrupt('the index does not match the blocks');
    }
    while ((this.pos - start) % 4 !== 0) {
      this.need(1);
      if (this.data[this.pos++] !== 0) throw corrupt('the padding of the index is not zero');
    }
    this.need(4);
    if (crc32(this.data, start, this.pos) !== this.u32(this.pos)) throw corrupt('the checksum of the index is wrong');
    this.pos += 4;
    return this.pos - start;
  }

  /** A variable-length integer: 7 bits per byte, least significant first. Values from 2^53 on are refused. */
  private varint(end: number): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      if (this.pos >= end)
        throw end === this.data.length
          ? pvError('compressed-truncated', { format: FORMAT })
          : corrupt('a number is incomplete');
      const byte = this.data[this.pos++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) break;
        return value;
      }
      scale *= 128;
    }
    throw corrupt('a number is too large');
  }

  private need(count: number): void {
    if (count > this.data.length - this.pos) throw pvError('compressed-truncated', { format: FORMAT });
  }

  private u32(at: number): number {
    const d = this.data;
    return (d[at]! | (d[at + 1]! << 8) | (d[at + 2]! << 16) | (d[at + 3]! << 24)) >>> 0;
  }
}

interface BlockSizes {
  /** Header, data and check of the block without its padding. */
  readonly unpaddedSize: number;
  readonly uncompressedSize: number;
}

function corrupt(detail: string): Error {
  return pvError('compressed-corrupt', { format: FORMAT, detail });
}

function unsupported(detail: string): Error {
  return pvError('compressed-unsupported', { format: FORMAT, detail });
}
