// SPDX-License-Identifier: MIT
// Unit tests of unpacking: limits and error codes are the same whichever decoder does the work.
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { PvError } from '../../engine/errors.ts';
import type { Compressor } from '../../engine/formats/bzimage.ts';
import * as packed from '../../engine/formats/testing/packed-samples.ts';
import { sampleKernel } from '../../engine/formats/testing/sample-kernel.ts';
import { decompress } from './decompress.ts';

const sample = sampleKernel();
const cases: [Compressor, Uint8Array][] = [
  ['none', sample],
  ['gzip', gzipSync(sample)],
  ['zstd', zstdCompressSync(sample)],
  ['xz', Buffer.from(packed.xzX86, 'base64')],
  ['lzma', Buffer.from(packed.lzma, 'base64')],
  ['bzip2', Buffer.from(packed.bzip2, 'base64')],
  ['lz4', Buffer.from(packed.lz4, 'base64')],
  ['lzo', Buffer.from(packed.lzo, 'base64')],
];

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error: unknown) => {
      if (error instanceof PvError) return error.code;
      throw error;
    },
  );
}

describe.each(cases)('%s', (compressor, data) => {
  it('unpacks', async () => {
    expect(Buffer.compare(await decompress(compressor, data, { maxOutput: 1 << 20 }), sample)).toBe(0);
  });

  it('keeps to the limit', async () => {
    const atLimit = await decompress(compressor, data, { maxOutput: sample.length });
    expect(atLimit.length).toBe(sample.length);
    expect(await codeOf(decompress(compressor, data, { maxOutput: sample.length - 1 }))).toBe('compressed-too-large');
  });

  it.runIf(compressor !== 'none')('says when data is cut or damaged', async () => {
    const limits = { maxOutput: 1 << 20 };
    expect(await codeOf(decompress(compressor, data.subarray(0, 200), limits))).toMatch(
      /^compressed-(truncated|corrupt)$/,
    );
    const damaged = Uint8Array.from(data);
    damaged.fill(0xee, 4, 12);
    expect(await codeOf(decompress(compressor, damaged, limits))).toMatch(/^compressed-/);
  });
});
