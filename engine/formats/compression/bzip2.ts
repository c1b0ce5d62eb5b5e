// SPDX-License-Identifier: MIT
// bzip2 decoder. Format: "BZIP2 Format Specification" (J. Tsai, 2016), which describes what bzip2 1.0 reads and writes.
import { pvError } from '../../errors.ts';
import { OutputBuffer } from './output-buffer.ts';
import type { DecompressLimits } from './output-buffer.ts';

const FORMAT = 'bzip2';
const BLOCK_MAGIC_HIGH = 0x314159;
const BLOCK_MAGIC_LOW = 0x265359;
const END_MAGIC_HIGH = 0x177245;
const END_MAGIC_LOW = 0x385090;
const MAX_CODE_LENGTH = 20;
const GROUP_SIZE = 50;
const RUN_A = 0;
const RUN_B = 1;

/** True when `data` starts with a bzip2 stream header. */
export function looksLikeBzip2(data: Uint8Array): boolean {
  return data[0] === 0x42 && data[1] === 0x5a && data[2] === 0x68 && data[3]! >= 0x31 && data[3]! <= 0x39;
}

/**
 * Unpacks a bzip2 file; several streams one after the other are one file. Bytes after the last stream that do not begin another one are
 * ignored. Throws `compressed-corrupt`, `compressed-truncated`, `compressed-unsupported` or `compressed-too-large`.
 */
export function decompressBzip2(data: Uint8Array, limits: DecompressLimits): Uint8Array {
  if (!looksLikeBzip2(data)) throw corrupt('the magic number is missing');
  const output = new OutputBuffer(FORMAT, limits);
  const input = new BitReader(data);
  do {
    input.bits(24); // "BZh"
    const decoder = new BlockDecoder(input, output, (input.bits(8) - 0x30) * 100_000);
    let streamCrc = 0;
    for (;;) {
      const high = input.bits(24);
      const low = input.bits(24);
      if (high === END_MAGIC_HIGH && low === END_MAGIC_LOW) break;
      if (high !== BLOCK_MAGIC_HIGH || low !== BLOCK_MAGIC_LOW)
        throw corrupt('a block does not begin with its magic number');
      const blockCrc = decoder.decodeBlock();
      streamCrc = ((streamCrc << 1) | (streamCrc >>> 31)) ^ blockCrc;
    }
    if (input.u32() !== streamCrc >>> 0) throw corrupt('the checksum of the stream is wrong');
    input.alignToByte();
  } while (looksLikeBzip2(data.subarray(input.bytePosition)));
  return output.result();
}

/** Reads bits, most significant first. */
class BitReader {
  private readonly data: Uint8Array;
  private pos = 0;
  private buffer = 0;
  private count = 0;

  constructor(data: Uint8Array) {
    this.data = data;
  }

  /** Position of the next unread byte; only meaningful after `alignToByte`. */
  get bytePosition(): number {
    return this.pos - (this.count >>> 3);
  }

  /** The next 0 to 24 bits. */
  bits(n: number): number {
    while (this.count < n) {
      if (this.pos >= this.data.length) throw pvError('compressed-truncated', { format: FORMAT });
      this.buffer = (this.buffer << 8) | this.data[this.pos++]!;
      this.count += 8;
    }
    this.count -= n;
    return (this.buffer >>> this.count) & ((1 << n) - 1);
  }

  u32(): number {
    const high = this.bits(16);
    return ((high << 16) | this.bits(16)) >>> 0;
  }

  alignToByte(): void {
    this.count -= this.count & 7;
  }
}

/** A Huffman code in canonical form: per length the largest code and where its symbols begin. */
class HuffmanCode {
  private readonly minLength: number;
  private readonly maxLength: number;
  private readonly limit = new Int32Array(MAX_CODE_LENGTH + 2);
  private readonly offset = new Int32Array(MAX_CODE_LENGTH + 2);
  private readonly symbols: Uint16Array;

  constructor(lengths: Uint8Array) {
    const counts = new Int32Array(MAX_CODE_LENGTH + 2);
    let min = MAX_CODE_LENGTH;
    let max = 1;
    for (const length of lengths) {
      counts[length]!++;
      if (length < min) min = length;
      if (length > max) max = length;
    }
    this.minLength = min;
    this.maxLength = max;
    this.symbols = new Uint16Array(lengths.length);
    const next = new Int32Array(MAX_CODE_LENGTH + 2);
    let code = 0;
    let index = 0;
    for (let length = min; length <= max; length++) {
      next[length] = index;
      this.offset[length] = index - code;
      code += counts[length]!;
      index += counts[length]!;
      this.limit[length] = code - 1;
      code <<= 1;
    }
    for (let symbol = 0; symbol < lengths.length; symbol++) this.symbols[next[lengths[symbol]!]!++] = symbol;
  }

  read(input: BitReader): number {
    let length = this.minLength;
    let code = input.bits(length);
    while (code > this.limit[length]!) {
      if (length === this.maxLength) throw corrupt('a Huffman code is not in its table');
      code = (code << 1) | input.bits(1);
      length++;
    }
    const symbol = this.symbols[code + this.offset[length]!];
    if (symbol === undefined) throw corrupt('a Huffman code is not in its table');
    return symbol;
  }
}

/** Decodes blocks of up to 900,000 bytes: Huffman, move-to-front, inverse Burrows-Wheeler transform, run lengths. */
class BlockDecoder {
  private readonly input: BitReader;
  private readonly output: OutputBuffer;
  /** Low 8 bits: byte at this place of the last column; upper 24: place of the next byte (after `invertTransform`). */
  private readonly table: Uint32Array;
  private readonly byteCounts = new Int32Array(256);
  private blockSize = 0;

  constructor(input: BitReader, output: OutputBuffer, maxBlockSize: number) {
    this.input = input;
    this.output = output;
    this.table = new Uint32Array(maxBlockSize);
  }

  /** Decodes the block after its magic number. Returns its checksum, which has been verified. */
  decodeBlock(): number {
    const input = this.input;
    const expectedCrc = input.u32();
    if (input.bits(1) !== 0) throw pvError('compressed-unsupported', { format: FORMAT, detail: 'randomised blocks' });
    const origin = input.bits(24);
    const byteOf = this.readUsedBytes();
    const symbolCount = byteOf.length + 2;
    const { codes, selectors } = this.readCodes(symbolCount);
    this.readSymbols(byteOf, codes, selectors, symbolCount - 1);
    if (origin >= this.blockSize) throw corrupt('the origin of a block is outside of it');
    this.invertTransform();
    const crc = this.writeRuns(origin);
    if (crc !== expectedCrc) throw corrupt('the checksum of a block is wrong');
    return expectedCrc;
  }

  /** The bytes that occur in the block, in two levels of 16 bits. */
  private readUsedBytes(): Uint8Array {
    const ranges = this.input.bits(16);
    const used: number[] = [];
    for (let high = 0; high < 16; high++) {
      if (!(ranges & (0x8000 >>> high))) continue;
      const map = this.input.bits(16);
      for (let low = 0; low < 16; low++) if (map & (0x8000 >>> low)) used.push(high * 16 + low);
    }
    if (used.length === 0) throw corrupt('a block uses no bytes');
    return Uint8Array.from(used);
  }

  private readCodes(symbolCount: number): { codes: HuffmanCode[]; selectors: Uint8Array } {
    const input = this.input;
    const codeCount = input.bits(3);
    if (codeCount < 2 || codeCount > 6) throw corrupt('a block has an impossible number of Huffman codes');
    const selectorCount = input.bits(15);
    if (selectorCount === 0) throw corrupt('a block has no selectors');
    const order = Array.from({ length: codeCount }, (_, i) => i);
    const selectors = new Uint8Array(selectorCount);
    for (let i = 0; i < selectorCount; i++) {
      let place = 0;
      while (input.bits(1) === 1) if (++place >= codeCount) throw corrupt('a selector is out of range');
      const [chosen] = order.splice(place, 1) as [number];
      order.unshift(chosen);
      selectors[i] = chosen;
    }
    const codes: HuffmanCode[] = [];
    for (let c = 0; c < codeCount; c++) {
      const lengths = new Uint8Array(symbolCount);
      let length = input.bits(5);
      for (let symbol = 0; symbol < symbolCount; symbol++) {
        for (;;) {
          if (length < 1 || length > MAX_CODE_LENGTH) throw corrupt('a Huffman code has an impossible length');
          if (input.bits(1) === 0) break;
          length += input.bits(1) === 0 ? 1 : -1;
        }
        lengths[symbol] = length;
      }
      codes.push(new HuffmanCode(lengths));
    }
    return { codes, selectors };
  }

  /** Huffman symbols -> runs and move-to-front indices -> the last column of the transform, in the low bytes of the table. */
  private readSymbols(
    byteOf: Uint8Array,
    codes: readonly HuffmanCode[],
    selectors: Uint8Array,
    endOfBlock: number,
  ): void {
    const { input, table, byteCounts } = this;
    byteCounts.fill(0);
    const front = byteOf.slice();
    let size = 0;
    let group = 0;
    let leftInGroup = 0;
    let code = codes[0]!;
    let run = 0;
    let runWeight = 1;
    for (;;) {
      if (leftInGroup === 0) {
        if (group >= selectors.length) throw corrupt('a block has more symbols than selectors');
        code = codes[selectors[group++]!]!;
        leftInGroup = GROUP_SIZE;
      }
      leftInGroup--;
      const symbol = code.read(input);
      if (symbol === RUN_A || symbol === RUN_B) {
        // Digits of a bijective base-2 number, least significant first.
        run += runWeight << symbol;
        runWeight *= 2;
        if (run > table.length) throw corrupt('a block is larger than its stream allows');
        continue;
      }
      if (run > 0) {
        if (run > table.length - size) throw corrupt('a block is larger than its stream allows');
        const byte = front[0]!;
        table.fill(byte, size, size + run);
        byteCounts[byte]! += run;
        size += run;
        run = 0;
        runWeight = 1;
      }
      if (symbol === endOfBlock) break;
      if (size >= table.length) throw corrupt('a block is larger than its stream allows');
      const place = symbol - 1;
      const byte = front[place]!;
      front.copyWithin(1, 0, place);
      front[0] = byte;
      table[size++] = byte;
      byteCounts[byte]!++;
    }
    this.blockSize = size;
  }

  private invertTransform(): void {
    const { table, byteCounts, blockSize } = this;
    const next = new Int32Array(256);
    for (let byte = 1; byte < 256; byte++) next[byte] = next[byte - 1]! + byteCounts[byte - 1]!;
    for (let i = 0; i < blockSize; i++) {
      const byte = table[i]! & 0xff;
      const place = next[byte]!++;
      table[place] = (table[place]! & 0xff) | (i << 8);
    }
  }

  /** Follows the transform from `origin`, expands the outer run lengths (four equal bytes, then a count) and computes the CRC. */
  private writeRuns(origin: number): number {
    const { table, output, blockSize } = this;
    let entry = table[origin]!;
    let crc = -1;
    let previous = -1;
    let equal = 0;
    for (let i = 0; i < blockSize; i++) {
      entry = table[entry >>> 8]!;
      const byte = entry & 0xff;
      let count = 1;
      if (equal === 4) {
        count = byte;
        equal = 0;
      } else if (byte === previous) {
        equal++;
      } else {
        equal = 1;
        previous = byte;
      }
      if (output.length + count > output.bytes.length) output.grow(count);
      for (; count > 0; count--) {
        output.bytes[output.length++] = previous;
        crc = (crc << 8) ^ crcTable[(crc >>> 24) ^ previous]!;
      }
    }
    return ~crc >>> 0;
  }
}

/** CRC-32 with the same polynomial as elsewhere, but most significant bit first. */
const crcTable = Int32Array.from({ length: 256 }, (_, n) => {
  let crc = n << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc;
});

function corrupt(detail: string): Error {
  return pvError('compressed-corrupt', { format: FORMAT, detail });
}
