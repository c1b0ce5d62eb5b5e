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
