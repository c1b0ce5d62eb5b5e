// SPDX-License-Identifier: MIT
// Unit tests of the bzImage reader: header fields, packers, cuts and damage.
import { describe, expect, it } from 'vitest';
import { PvError } from '../errors.ts';
import { detectCompressor, looksLikeBzImage, readBzImage } from './bzimage.ts';
import { mutations } from './testing/mutate.ts';
import * as packed from './testing/packed-samples.ts';
import { makeBzImage, withRecordedSize } from './testing/sample-kernel.ts';

const xz = new Uint8Array(Buffer.from(packed.xzX86, 'base64'));

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof PvError) return error.code;
    throw error;
  }
  return 'none';
}

describe('bzImage reader', () => {
  it('finds payload, packer, size and version', () => {
    const image = readBzImage(makeBzImage(withRecordedSize(xz, 12620)), 'k');
    expect(image).toMatchObject({
      version: '6.1.0-test (builder@example) #1',
      bootProtocol: 0x20f,
      setupSectors: 1,
      compressor: 'xz',
      unpackedSize: 12620,
    });
    expect(Buffer.compare(image.payload, xz)).toBe(0);
  });

  it('keeps the trailer of gzip, which is the recorded size', () => {
    const gzip = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 0x10, 0, 0, 0);
    const image = readBzImage(makeBzImage(gzip), 'k');
    expect([image.compressor, image.payload.length, image.unpackedSize]).toEqual(['gzip', 16, 16]);
  });

  it('takes 0 setup sectors as 4', () => {
    const short = makeBzImage(withRecordedSize(xz, 1));
    const bytes = new Uint8Array(short.length + 3 * 512);
    bytes.set(short.subarray(0, 1024));
    bytes.set(short.subarray(1024), 1024 + 3 * 512);
    bytes[0x1f1] = 0;
    expect(readBzImage(bytes, 'k')).toMatchObject({ setupSectors: 4, compressor: 'xz' });
  });

  it('replaces what is not printable in the version', () => {
    expect(readBzImage(makeBzImage(withRecordedSize(xz, 1), 'evil\x1b[2J'), 'k').version).toBe('evil?[2J');
  });

  it.each([
    [[0x7f, 0x45, 0x4c, 0x46], 'none'],
    [[0x1f, 0x8b, 8], 'gzip'],
    [[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], 'xz'],
    [[0x42, 0x5a, 0x68, 0x39], 'bzip2'],
    [[0x02, 0x21, 0x4c, 0x18], 'lz4'],
    [[0x89, 0x4c, 0x5a, 0x4f, 0, 0x0d, 0x0a, 0x1a, 0x0a], 'lzo'],
    [[0x28, 0xb5, 0x2f, 0xfd], 'zstd'],
    [[0x5d, 0, 0, 0x80, 0, ...new Array<number>(8).fill(0xff), 0, 0, 0, 0, 0], 'lzma'],
    [[1, 2, 3, 4, 5, 6, 7, 8], undefined],
    [[], undefined],
  ] as [number[], string | undefined][])('knows the packer of %j', (bytes, compressor) => {
    expect(detectCompressor(Uint8Array.from(bytes))).toBe(compressor);
  });

  it('says what is wrong', () => {
    const good = makeBzImage(withRecordedSize(xz, 12620));
    expect(codeOf(() => readBzImage(good.subarray(0, 0x240), 'k'))).toBe('kernel-truncated');
    expect(codeOf(() => readBzImage(good.subarray(0, good.length - 200), 'k'))).toBe('kernel-truncated');
    const old = good.slice();
    old[0x206] = 0x07;
    old[0x207] = 0x02;
    expect(codeOf(() => readBzImage(old, 'k'))).toBe('kernel-bzimage-too-old');
    expect(codeOf(() => readBzImage(makeBzImage(new Uint8Array(100)), 'k'))).toBe('kernel-compression-unknown');
    expect(codeOf(() => readBzImage(makeBzImage(new Uint8Array(3)), 'k'))).toBe('kernel-truncated');
  });

  it('survives damaged headers', () => {
    for (const damaged of mutations(makeBzImage(withRecordedSize(xz, 12620)).subarray(0, 1400), 1000, 5)) {
      if (looksLikeBzImage(damaged)) codeOf(() => readBzImage(damaged, 'k'));
    }
    const header = makeBzImage(withRecordedSize(xz, 12620));
    for (const damaged of mutations(header.subarray(0x1e0, 0x260), 1000, 6)) {
      const bytes = header.slice();
      bytes.set(damaged, 0x1e0);
      if (looksLikeBzImage(bytes)) codeOf(() => readBzImage(bytes, 'k'));
    }
  });
});
