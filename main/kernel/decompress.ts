// SPDX-License-Identifier: MIT
// Unpacks what kernels are packed with: Node's zlib for gzip and zstd, our own decoders for the rest.
import { promisify } from 'node:util';
import { gunzip, zstdDecompress } from 'node:zlib';
import { pvError } from '../../engine/errors.ts';
import type { Compressor } from '../../engine/formats/bzimage.ts';
import { decompressBzip2 } from '../../engine/formats/compression/bzip2.ts';
import { decompressLz4Legacy } from '../../engine/formats/compression/lz4.ts';
import { decompressLzma } from '../../engine/formats/compression/lzma.ts';
import { decompressLzop } from '../../engine/formats/compression/lzo.ts';
import type { DecompressLimits } from '../../engine/formats/compression/output-buffer.ts';
import { decompressXz } from '../../engine/formats/compression/xz.ts';

const gunzipAsync = promisify(gunzip);
const zstdDecompressAsync = promisify(zstdDecompress);

/**
 * Unpacks `data`. gzip and zstd run on Node's thread pool; the others run here and block for up to a second or two for a kernel.
 * Throws `compressed-corrupt`, `compressed-truncated`, `compressed-unsupported` or `compressed-too-large`.
 */
export async function decompress(
  compressor: Compressor,
  data: Uint8Array,
  limits: DecompressLimits,
): Promise<Uint8Array> {
  switch (compressor) {
    case 'none':
      if (data.length > limits.maxOutput)
        throw pvError('compressed-too-large', { format: 'ELF', limit: limits.maxOutput });
      return data;
    case 'gzip':
      return viaZlib('gzip', limits, () => gunzipAsync(data, { maxOutputLength: limits.maxOutput }));
    case 'zstd':
      return viaZlib('zstd', limits, () => zstdDecompressAsync(data, { maxOutputLength: limits.maxOutput }));
    case 'xz':
      return decompressXz(data, limits);
    case 'lzma':
      return decompressLzma(data, limits);
    case 'bzip2':
      return decompressBzip2(data, limits);
    case 'lz4':
      return decompressLz4Legacy(data, limits);
    case 'lzo':
      return decompressLzop(data, limits);
  }
}

async function viaZlib(format: string, limits: DecompressLimits, run: () => Promise<Buffer>): Promise<Uint8Array> {
  try {
    const bytes = await run();
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ERR_BUFFER_TOO_LARGE')
      throw pvError('compressed-too-large', { format, limit: limits.maxOutput }, error);
    if (code === 'Z_BUF_ERROR') throw pvError('compressed-truncated', { format }, error);
    throw pvError(
      'compressed-corrupt',
      { format, detail: error instanceof Error ? error.message : String(error) },
      error,
    );
  }
}
