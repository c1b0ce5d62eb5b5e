// SPDX-License-Identifier: MIT
// What an uncompressed initial ramdisk begins with: one cpio archive, or a small one with microcode before a packed one.
// Format: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
import * as fs from 'node:fs';
import { detectCompressor } from '../../engine/formats/bzimage.ts';

const HEADER_BYTES = 110;
/** Archives with more entries than this are not walked to their end. */
const MAX_ENTRIES = 200_000;

export function isCpio(bytes: Uint8Array): boolean {
  const magic = Buffer.from(bytes.subarray(0, 6)).toString('latin1');
  return magic === '070701' || magic === '070702' || magic === '070707' || (bytes[0] === 0xc7 && bytes[1] === 0x71);
}

export interface InitrdLayout {
  format: string;
  compressor: string;
  unpackedSize: number | null;
}

/** Walks the first archive to see whether another follows. Never throws: what it cannot follow is described by its beginning. */
export async function readInitrdLayout(file: string): Promise<InitrdLayout> {
  const handle = await fs.promises.open(file, 'r');
  try {
    const { size } = await handle.stat();
    const end = await endOfArchive(handle, size);
    if (end === null || end >= size) return { format: 'cpio (newc)', compressor: 'none', unpackedSize: size };
    const rest = Buffer.alloc(64 * 1024);
    const { bytesRead } = await handle.read(rest, 0, rest.length, end);
    const from = rest.findIndex((byte) => byte !== 0);
    if (from < 0 || from >= bytesRead) return { format: 'cpio (newc)', compressor: 'none', unpackedSize: size };
    const second = rest.subarray(from, bytesRead);
    if (isCpio(second)) return { format: 'cpio (newc) + cpio (newc)', compressor: 'none', unpackedSize: size };
    return { format: 'cpio (newc) + cpio', compressor: detectCompressor(second) ?? 'unknown', unpackedSize: null };
  } finally {
    await handle.close();
  }
}

/** Offset behind the trailer of a newc archive; null when it is none or damaged. */
async function endOfArchive(handle: fs.promises.FileHandle, size: number): Promise<number | null> {
  const header = Buffer.alloc(HEADER_BYTES + 16);
  let at = 0;
  for (let n = 0; n < MAX_ENTRIES && at + HEADER_BYTES <= size; n++) {
    await handle.read(header, 0, header.length, at);
    if (!/^07070[12]/.test(header.toString('latin1', 0, 6))) return null;
    const field = (index: number): number => parseInt(header.toString('latin1', 6 + 8 * index, 14 + 8 * index), 16);
    const dataSize = field(6);
    const nameSize = field(11);
    if (Number.isNaN(dataSize) || Number.isNaN(nameSize)) return null;
    const isTrailer = header.toString('latin1', HEADER_BYTES, HEADER_BYTES + 10) === 'TRAILER!!!';
    at = roundUp(roundUp(at + HEADER_BYTES + nameSize) + dataSize);
    if (isTrailer) return at;
  }
  return null;
}

const roundUp = (n: number): number => Math.ceil(n / 4) * 4;
