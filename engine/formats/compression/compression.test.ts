// SPDX-License-Identifier: MIT
// Unit tests of the decompressors: what the tools packed, limits, cuts at every byte, and damaged input from a fixed seed.
import { crc32 as zlibCrc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { PvError } from '../../errors.ts';
import { mutations, randomNumbers } from '../testing/mutate.ts';
import * as packed from '../testing/packed-samples.ts';
import { sampleKernel } from '../testing/sample-kernel.ts';
import { decompressBzip2, looksLikeBzip2 } from './bzip2.ts';
import { adler32, crc32, crc64 } from './checksums.ts';
import { decompressLz4Legacy, looksLikeLz4Legacy } from './lz4.ts';
import { decompressLzma, looksLikeLzma } from './lzma.ts';
import { decompressLzop, looksLikeLzop } from './lzo.ts';
import type { DecompressLimits } from './output-buffer.ts';
import { OutputBuffer } from './output-buffer.ts';
import { undoX86BranchFilter } from './x86-branch-filter.ts';
import { decompressXz, looksLikeXz } from './xz.ts';

const sample = sampleKernel();
const roomy: DecompressLimits = { maxOutput: 1 << 20 };

function bytesOf(base64: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64, 'base64'));
}

/** The error an action throws; fails when it throws none or one that is not for users. */
function errorOf(action: () => unknown): PvError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(PvError);
    return error as PvError;
  }
  throw new Error('nothing was thrown');
}

const decoders = [
  { name: 'xz with x86 filter', data: packed.xzX86, decode: decompressXz, recognise: looksLikeXz },
  { name: 'xz, several blocks, CRC-64', data: packed.xzCrc64, decode: decompressXz, recognise: looksLikeXz },
  { name: 'lzma', data: packed.lzma, decode: decompressLzma, recognise: looksLikeLzma },
  { name: 'bzip2', data: packed.bzip2, decode: decompressBzip2, recognise: looksLikeBzip2 },
  { name: 'lz4 legacy', data: packed.lz4, decode: decompressLz4Legacy, recognise: looksLikeLz4Legacy },
  { name: 'lzop', data: packed.lzo, decode: decompressLzop, recognise: looksLikeLzop },
  { name: 'lzop with CRC-32', data: packed.lzoCrc, decode: decompressLzop, recognise: looksLikeLzop },
].map((entry) => ({ ...entry, data: bytesOf(entry.data) }));

describe.each(decoders)('$name', ({ data, decode, recognise }) => {
  it('is recognised and unpacks', () => {
    expect(recognise(data)).toBe(true);
    expect(Buffer.compare(decode(data, roomy), sample)).toBe(0);
  });

  it('unpacks the same whatever the size hint says', () => {
    for (const sizeHint of [0, 1, sample.length - 1, sample.length, sample.length * 3])
      expect(Buffer.compare(decode(data, { maxOutput: 1 << 20, sizeHint }), sample)).toBe(0);
  });

  it('keeps to the output limit', () => {
    expect(Buffer.compare(decode(data, { maxOutput: sample.length }), sample)).toBe(0);
    expect(errorOf(() => decode(data, { maxOutput: sample.length - 1 })).code).toBe('compressed-too-large');
    expect(errorOf(() => decode(data, { maxOutput: 0 })).code).toBe('compressed-too-large');
  });

  it('does not take a cut file for a whole one', () => {
    for (let length = 0; length < data.length; length++) {
      const cut = data.subarray(0, length);
      let result: Uint8Array | undefined;
      try {
        result = decode(cut, roomy);
      } catch (error) {
        expect(error).toBeInstanceOf(PvError);
      }
      // A legacy LZ4 frame has no end mark: one without blocks is an empty file.
      if (result !== undefined) expect([length, result.length]).toEqual([4, 0]);
    }
  });

  it('survives damaged input', () => {
    for (const damaged of mutations(data, 2000, 0xc0ffee)) {
      try {
        expect(decode(damaged, { maxOutput: 1 << 16 }).length).toBeLessThanOrEqual(1 << 16);
      } catch (error) {
        if (!(error instanceof PvError)) throw error;
        expect(error.code).toMatch(/^compressed-/);
      }
    }
  });

  it('survives noise behind a good start', () => {
    const random = randomNumbers(77);
    for (let n = 0; n < 200; n++) {
      const noisy = data.slice();
      for (let i = 16 + (random() % 64); i < noisy.length; i++) noisy[i] = random();
      expect(errorOf(() => decode(noisy, { maxOutput: 1 << 16 })).code).toMatch(/^compressed-/);
    }
  });
});

describe('checks of the containers', () => {
  it.each([
    ['xz, CRC-32', packed.xzX86, decompressXz],
    ['bzip2', packed.bzip2, decompressBzip2],
    ['lzop, Adler-32', packed.lzo, decompressLzop],
    ['lzop, CRC-32', packed.lzoCrc, decompressLzop],
  ] as const)('%s: damaged bits never give other data', (_name, base64, decode) => {
    const good = bytesOf(base64);
    // From behind the headers; lzop's header has fields (time, name) that only its own checksum guards.
    for (let at = 64; at < good.length - 32; at += 7) {
      const damaged = good.slice();
      damaged[at] = damaged[at]! ^ 0x10;
      let result: Uint8Array = sample;
      try {
        result = decode(damaged, roomy);
      } catch (error) {
        expect(error).toBeInstanceOf(PvError);
      }
      // Another distance within a repeating pattern gives the same bytes: then there is nothing to complain about.
      expect(Buffer.compare(result, sample), `byte ${at}`).toBe(0);
    }
  });

  it('takes several xz streams with padding, and several bzip2 streams, as one file', () => {
    const xz = bytesOf(packed.xzX86);
    const twice = Buffer.concat([xz, new Uint8Array(8), xz]);
    expect(Buffer.compare(decompressXz(twice, roomy), Buffer.concat([sample, sample]))).toBe(0);
    const bz = bytesOf(packed.bzip2);
    expect(Buffer.compare(decompressBzip2(Buffer.concat([bz, bz]), roomy), Buffer.concat([sample, sample]))).toBe(0);
  });

  it('takes concatenated LZ4 frames as one file', () => {
    const lz4 = bytesOf(packed.lz4);
    const both = decompressLz4Legacy(Buffer.concat([lz4, lz4]), roomy);
    expect(Buffer.compare(both, Buffer.concat([sample, sample]))).toBe(0);
  });

  it('refuses an xz filter that is not for x86', () => {
    const xz = bytesOf(packed.xzX86);
    // Block header at 12: size, flags, then the filter id. Patch x86 (4) to ARM (7) and fix the header's CRC.
    const headerSize = (xz[12]! + 1) * 4;
    const at = xz.indexOf(0x04, 14);
    expect(at).toBeLessThan(12 + headerSize);
    xz[at] = 7;
    new DataView(xz.buffer).setUint32(12 + headerSize - 4, crc32(xz, 12, 12 + headerSize - 4), true);
    const error = errorOf(() => decompressXz(xz, roomy));
    expect(error.code).toBe('compressed-unsupported');
    expect(error.message).toContain('0x7');
  });
});

describe('lz4 blocks, against a plain decoder', () => {
  const MIB = 1 << 20;
  const corrupt = {
    length: 'a block ends within a length',
    literals: 'a block ends within literals',
    match: 'a block ends within a match',
    distance: 'a match reaches before the start of its block',
  };

  /** What a block unpacks to, byte by byte; or the code or the detail of its error. */
  function reference(block: Uint8Array, maxOutput: number): Uint8Array | string {
    let out = new Uint8Array(1 << 16);
    let length = 0;
    let at = 0;
    const put = (byte: number): void => {
      if (length === out.length) {
        const larger = new Uint8Array(2 * length);
        larger.set(out);
        out = larger;
      }
      out[length++] = byte;
    };
    /** A length with its further bytes, undefined when they are cut. */
    const lengthFrom = (nibble: number): number | undefined => {
      let value = nibble;
      for (let byte = 255; byte === 255 && nibble === 15; value += byte) {
        if (at === block.length) return undefined;
        byte = block[at++]!;
      }
      return value;
    };
    while (at < block.length) {
      const token = block[at++]!;
      const literals = lengthFrom(token >> 4);
      if (literals === undefined) return corrupt.length;
      if (at + literals > block.length) return corrupt.literals;
      if (length + literals > maxOutput) return 'compressed-too-large';
      for (let left = literals; left > 0; left--) put(block[at++]!);
      if (at === block.length) break;
      if (at + 2 > block.length) return corrupt.match;
      const distance = block[at]! + 256 * block[at + 1]!;
      at += 2;
      if (distance === 0 || distance > length) return corrupt.distance;
      const match = lengthFrom(token & 15);
      if (match === undefined) return corrupt.length;
      if (length + match + 4 > maxOutput) return 'compressed-too-large';
      for (let left = match + 4; left > 0; left--) put(out[length - distance]!);
    }
    return length > 8 * MIB ? 'a block unpacks to more than 8 MiB' : out.subarray(0, length);
  }

  const frame = (...blocks: Uint8Array[]): Uint8Array => {
    const word = (value: number) => Uint8Array.of(value, value >> 8, value >> 16, value >> 24);
    return Buffer.concat([word(0x184c2102), ...blocks.flatMap((block) => [word(block.length), block])]);
  };

  function expectSame(block: Uint8Array, maxOutput: number, about = ''): void {
    const expected = reference(block, maxOutput);
    const decode = () => decompressLz4Legacy(frame(block), { maxOutput });
    if (typeof expected !== 'string') return expect(Buffer.compare(decode(), expected), about).toBe(0);
    const error = errorOf(decode);
    if (expected === 'compressed-too-large') return expect(error.code, about).toBe(expected);
    expect(error.code, about).toBe('compressed-corrupt');
    expect(error.message, about).toContain(expected);
  }

  /** Packs sequences; literals are random bytes. */
  class Packer {
    private readonly random = randomNumbers(4711);
    private readonly parts: number[] = [];
    /** What the sequences unpack to. */
    size = 0;

    private token(literals: number, match: number): void {
      this.parts.push((Math.min(literals, 15) << 4) | Math.min(match, 15));
      this.more(literals);
      for (let left = literals; left > 0; left--) this.parts.push(this.random() & 255);
      this.size += literals;
    }

    private more(length: number): void {
      if (length < 15) return;
      let rest = length - 15;
      for (; rest >= 255; rest -= 255) this.parts.push(255);
      this.parts.push(rest);
    }

    sequence(literals: number, distance: number, match: number): this {
      this.token(literals, match - 4);
      this.parts.push(distance & 255, distance >> 8);
      this.more(match - 4);
      this.size += match;
      return this;
    }

    /** With the last sequence, which has no match. */
    block(literals = 5): Uint8Array {
      this.token(literals, 0);
      return Uint8Array.from(this.parts);
    }
  }

  it('copies every length of literals, and matches of every length at every small distance', () => {
    const packer = new Packer();
    for (let literals = 20; literals <= 300; literals++) packer.sequence(literals, literals, 4 + (literals % 20));
    for (let distance = 1; distance <= 40; distance++) {
      for (let match = 4; match <= 300; match++) packer.sequence((distance + match) % 23, distance, match);
    }
    for (let literals = 0; literals <= 300; literals++) packer.sequence(literals, 1 + literals, 300 - (literals % 290));
    expectSame(packer.block(), 8 * MIB);
  });

  it('reaches back to the start of the block, as far as distances go, and no further', () => {
    for (const far of [1, 2, 15, 16, 17, 300, 65534, 65535]) {
      for (const beyond of [0, 1])
        expectSame(new Packer().sequence(far, far + beyond, 50).block(), MIB, `${far}+${beyond}`);
    }
    expectSame(new Packer().sequence(7, 0, 4).block(), MIB);
    // Also when much lies before, and in a block behind another one.
    expectSame(new Packer().sequence(9, 9, 400_000).sequence(70_000, 65535, 200_000).block(), MIB);
    const first = new Packer().sequence(100, 50, 500).block();
    const second = new Packer().sequence(3, 4, 10).block();
    expect(errorOf(() => decompressLz4Legacy(frame(first, second), roomy)).message).toContain(corrupt.distance);
  });

  it('decodes blocks behind others on their own, larger ones too', () => {
    const blocks = [1, 300_000, 0, 2 * MIB, 40].map((n) => new Packer().sequence(n + 1, 1, n + 4).block(n));
    const expected = blocks.map((block) => reference(block, 9 * MIB) as Uint8Array);
    const all = decompressLz4Legacy(frame(...blocks), { maxOutput: 64 * MIB });
    expect(Buffer.compare(all, Buffer.concat(expected))).toBe(0);
  });

  it('reads nothing behind a block, even where memory ends', () => {
    // It comes in units of 64 KiB: the packed blocks, which lie behind other things, end on both sides of such a boundary.
    for (let literals = 64_500; literals <= 64_900; literals += 2) {
      const block = new Packer().block(literals);
      expectSame(block, MIB, `${literals}`);
    }
  });

  it('goes on where it stopped, wherever that is in a sequence', () => {
    for (const [literals, distance, match] of [
      [0, 1, 40],
      [40, 3, 4],
      [20, 7, 20],
      [3, 16, 40],
      [14, 31, 18],
      [300, 65535, 300],
    ] as const) {
      for (let shift = 0; shift <= 44; shift++) {
        const packer = new Packer().sequence(70_000, 65535, 60_000);
        // Pieces end at multiples of 64 KiB.
        for (let boundary = 3; boundary <= 9; boundary++) {
          packer.sequence(0, 40_000 + shift, boundary * 65536 - shift - packer.size);
          packer.sequence(literals, distance, match);
        }
        expectSame(packer.block(), MIB, `${literals} ${distance} ${match} ${shift}`);
      }
    }
  });

  it('keeps to any limit', () => {
    const packer = new Packer();
    for (let n = 1; n <= 30; n++) packer.sequence(n, n, 4 + n);
    const block = packer.block();
    for (let limit = 0; limit <= packer.size + 1; limit++) expectSame(block, limit, `limit ${limit}`);
    // What is wrong behind the limit is not looked at; what is wrong at the limit is.
    const wrong = new Packer().sequence(10, 10, 20).sequence(0, 500, 4).block();
    for (let limit = 25; limit <= 35; limit++) expectSame(wrong, limit, `limit ${limit}`);
    const large = new Packer().sequence(100, 99, 3 * 65536 - 100);
    const size = large.size;
    for (const [literals, match] of [
      [0, 4],
      [4, 50],
    ] as const) {
      const more = new Packer()
        .sequence(100, 99, size - 100)
        .sequence(literals, 40, match)
        .block(0);
      for (let limit = size - 2; limit <= size + 60; limit++) expectSame(more, limit, `limit ${limit}`);
    }
  });

  it('takes 8 MiB for a block and nothing above', () => {
    for (const more of [0, 1]) expectSame(new Packer().sequence(8, 8, 8 * MIB - 8 - 20).block(20 + more), 9 * MIB);
    expectSame(new Packer().sequence(8, 8, 12 * MIB).block(), 11 * MIB);
    // The largest block there is, all of it one length: of literals, which are missing, and of a match, which has no room.
    const block = new Uint8Array(8 * MIB + 32896 + 16).fill(255);
    expectSame(block, MIB);
    block[block.length - 1] = 0;
    expectSame(block, MIB);
    block.set([0x1f, 1, 1, 0]);
    expectSame(block, MIB);
    block[block.length - 1] = 255;
    expectSame(block, MIB);
    expect(errorOf(() => decompressLz4Legacy(frame(new Uint8Array(block.length + 1)), roomy)).message).toContain(
      'impossible size',
    );
  });

  it('finds the same wrong in cut and damaged blocks, and as much in noise', () => {
    const random = randomNumbers(31);
    const packer = new Packer().sequence(30, 7, 30);
    for (let n = 0; n < 40; n++) packer.sequence(random() % 40, 1 + (random() % 30), 4 + (random() % 60));
    const good = packer.block();
    for (let length = 1; length <= good.length; length++) expectSame(good.subarray(0, length), MIB, `cut ${length}`);
    for (const damaged of mutations(good, 2000, 0xbadb10c)) {
      if (damaged.length > 0) expectSame(damaged, random() % 2 ? MIB : random() % 4000);
    }
    for (let n = 0; n < 1000; n++) {
      const noise = Uint8Array.from({ length: 1 + (random() % 300) }, () => (random() % 3 ? random() : random() % 4));
      expectSame(noise, random() % 2000);
    }
  });
});

describe('lzma with its size in the header', () => {
  const withSize = (size: number): Uint8Array => {
    const data = bytesOf(packed.lzma);
    new DataView(data.buffer).setBigUint64(5, BigInt(size), true);
    return data;
  };

  it('accepts the right size, also with an end marker', () => {
    expect(Buffer.compare(decompressLzma(withSize(sample.length), roomy), sample)).toBe(0);
  });

  it('refuses wrong sizes', () => {
    expect(errorOf(() => decompressLzma(withSize(sample.length - 1), roomy)).code).toBe('compressed-corrupt');
    expect(errorOf(() => decompressLzma(withSize(sample.length + 1), roomy)).code).toBe('compressed-corrupt');
    expect(errorOf(() => decompressLzma(withSize(2 ** 40), roomy)).code).toBe('compressed-too-large');
  });
});

describe('checksums', () => {
  it('agree with known values', () => {
    const check = Buffer.from('123456789');
    expect(crc32(check)).toBe(0xcbf43926);
    expect(crc64(check)).toEqual([0xdf1939fa, 0x995dc9bb]);
    expect(adler32(Buffer.from('Wikipedia'))).toBe(0x11e60398);
  });

  it('agree with zlib for every alignment and length', () => {
    for (let from = 0; from < 9; from++)
      for (let to = from; to < from + 40; to++)
        expect(crc32(sample, from, to)).toBe(zlibCrc32(sample.subarray(from, to)));
  });
});

describe('output buffer', () => {
  it('repeats a pattern of any length over any length', () => {
    for (const distance of [1, 2, 3, 7, 63, 64, 65, 200]) {
      for (const count of [1, 63, 64, 65, 127, 128, 129, 500, 5000]) {
        const output = new OutputBuffer('test', { maxOutput: 1e6 });
        output.append(Uint8Array.from({ length: distance + 5 }, (_, i) => (i * 7 + 1) & 255));
        const expected = [...output.result()];
        for (let left = count; left > 0; left--) expected.push(expected[expected.length - distance]!);
        output.copyMatch(distance, count);
        expect([...output.result()], `${distance} ${count}`).toEqual(expected);
      }
    }
  });

  it('repeats the pattern when a match overlaps its destination', () => {
    const output = new OutputBuffer('test', { maxOutput: 1000 });
    output.append(Uint8Array.of(1, 2, 3));
    output.copyMatch(3, 7);
    output.copyMatch(1, 70);
    expect([...output.result().subarray(0, 12)]).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 1, 1]);
    expect(output.length).toBe(80);
  });
});

describe('x86 branch filter', () => {
  it('turns an absolute near target into a relative one and leaves far ones', () => {
    const code = Uint8Array.of(0x90, 0xe8, 0x10, 0x20, 0x00, 0x00, 0x90, 0xe9, 0x44, 0x33, 0x22, 0x11, 0x90, 0x90);
    undoX86BranchFilter(code, 0);
    // CALL at 1: the next instruction is at 6, target 0x2010 -> relative 0x200a. JMP with top byte 0x11 is not near.
    expect([...code.subarray(0, 7)]).toEqual([0x90, 0xe8, 0x0a, 0x20, 0x00, 0x00, 0x90]);
    expect([...code.subarray(7, 12)]).toEqual([0xe9, 0x44, 0x33, 0x22, 0x11]);
  });

  it('ends on any input', () => {
    const random = randomNumbers(99);
    for (let n = 0; n < 300; n++) {
      const bytes = Uint8Array.from({ length: 200 }, () => [0xe8, 0xe9, 0x00, 0xff, 0x01, 0xfe][random() % 6]!);
      undoX86BranchFilter(bytes, random());
    }
  });
});
