// SPDX-License-Identifier: MIT
// LZ4 decoder for the legacy frame (magic 0x184C2102), the one that Linux kernels are packed with.
// Formats: lz4_Frame_format.md ("Legacy frame") and lz4_Block_format.md of the LZ4 project.
import { pvError } from '../../errors.ts';
import { OutputBuffer } from './output-buffer.ts';
import type { DecompressLimits } from './output-buffer.ts';

const FORMAT = 'LZ4';
const LEGACY_MAGIC = 0x184c2102;
const MIN_MATCH = 4;
/** A legacy block unpacks to at most 8 MiB; stored incompressible data grows by 1/255 and some bytes. */
const MAX_BLOCK_SIZE = 8 * 1024 * 1024;
const MAX_PACKED_BLOCK_SIZE = MAX_BLOCK_SIZE + Math.floor(MAX_BLOCK_SIZE / 255) + 16;

/** True when `data` starts with the magic of a legacy LZ4 frame. */
export function looksLikeLz4Legacy(data: Uint8Array): boolean {
  return data.length >= 4 && readU32(data, 0) === LEGACY_MAGIC;
}

/**
 * Unpacks a legacy LZ4 frame (or several, one after the other). `data` must end with the frame.
 * Throws `compressed-corrupt`, `compressed-truncated` or `compressed-too-large`.
 */
export function decompressLz4Legacy(data: Uint8Array, limits: DecompressLimits): Uint8Array {
  if (!looksLikeLz4Legacy(data)) throw corrupt('the magic number is missing');
  const output = new OutputBuffer(FORMAT, limits);
  let pos = 4;
  while (pos < data.length) {
    if (data.length - pos < 4) throw pvError('compressed-truncated', { format: FORMAT });
    const size = readU32(data, pos);
    pos += 4;
    if (size === LEGACY_MAGIC) continue; // the next frame begins
    if (size === 0 || size > MAX_PACKED_BLOCK_SIZE) throw corrupt('a block has an impossible size');
    if (size > data.length - pos) throw pvError('compressed-truncated', { format: FORMAT });
    decodeBlock(data, pos, pos + size, output);
    pos += size;
  }
  return output.result();
}

/** Decodes one block: sequences of a token, literals, and a match that may reach back to the start of the block. */
function decodeBlock(data: Uint8Array, from: number, end: number, output: OutputBuffer): void {
  const blockStart = output.length;
  let pos = from;
  while (pos < end) {
    const token = data[pos++]!;
    let literals = token >>> 4;
    if (literals === 15) {
      let byte: number;
      do {
        if (pos >= end) throw corrupt('a block ends within a length');
        byte = data[pos++]!;
        literals += byte;
      } while (byte === 255);
    }
    if (literals > end - pos) throw corrupt('a block ends within literals');
    if (output.length + literals > output.bytes.length) output.grow(literals);
    if (literals < 32) {
      const bytes = output.bytes;
      let to = output.length;
      for (let left = literals; left > 0; left--) bytes[to++] = data[pos++]!;
    } else {
      output.bytes.set(data.subarray(pos, pos + literals), output.length);
      pos += literals;
    }
    output.length += literals;
    if (pos === end) break; // the last sequence has no match

    if (end - pos < 2) throw corrupt('a block ends within a match');
    const distance = data[pos]! | (data[pos + 1]! << 8);
    pos += 2;
    if (distance === 0 || distance > output.length - blockStart)
      throw corrupt('a match reaches before the start of its block');
    let length = token & 15;
    if (length === 15) {
      let byte: number;
      do {
        if (pos >= end) throw corrupt('a block ends within a length');
        byte = data[pos++]!;
        length += byte;
      } while (byte === 255);
    }
    output.copyMatch(distance, length + MIN_MATCH);
  }
  if (output.length - blockStart > MAX_BLOCK_SIZE) throw corrupt('a block unpacks to more than 8 MiB');
}

function readU32(data: Uint8Array, at: number): number {
  return (data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24)) >>> 0;
}

function corrupt(detail: string): Error {
  return pvError('compressed-corrupt', { format: FORMAT, detail });
}
