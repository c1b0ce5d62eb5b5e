// SPDX-License-Identifier: MIT
// LZ4 decoder for the legacy frame (magic 0x184C2102), the one that Linux kernels are packed with.
// Formats: lz4_Frame_format.md ("Legacy frame") and lz4_Block_format.md of the LZ4 project.
import { pvError } from '../../errors.ts';
import { LZ4_FORMAT, Lz4BlockDecoder, MAX_PACKED_BLOCK_SIZE, lz4Corrupt } from './lz4-block.ts';
import { OutputBuffer } from './output-buffer.ts';
import type { DecompressLimits } from './output-buffer.ts';

const LEGACY_MAGIC = 0x184c2102;

/** True when `data` starts with the magic of a legacy LZ4 frame. */
export function looksLikeLz4Legacy(data: Uint8Array): boolean {
  return data.length >= 4 && readU32(data, 0) === LEGACY_MAGIC;
}

/**
 * Unpacks a legacy LZ4 frame (or several, one after the other). `data` must end with the frame.
 * Throws `compressed-corrupt`, `compressed-truncated` or `compressed-too-large`.
 */
export function decompressLz4Legacy(data: Uint8Array, limits: DecompressLimits): Uint8Array {
  if (!looksLikeLz4Legacy(data)) throw lz4Corrupt('the magic number is missing');
  const output = new OutputBuffer(LZ4_FORMAT, limits);
  const blocks = new Lz4BlockDecoder(output);
  let pos = 4;
  while (pos < data.length) {
    if (data.length - pos < 4) throw pvError('compressed-truncated', { format: LZ4_FORMAT });
    const size = readU32(data, pos);
    pos += 4;
    if (size === LEGACY_MAGIC) continue; // the next frame begins
    if (size === 0 || size > MAX_PACKED_BLOCK_SIZE) throw lz4Corrupt('a block has an impossible size');
    if (size > data.length - pos) throw pvError('compressed-truncated', { format: LZ4_FORMAT });
    blocks.append(data.subarray(pos, pos + size));
    pos += size;
  }
  return output.result();
}

function readU32(data: Uint8Array, at: number): number {
  return (data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24)) >>> 0;
}
