// SPDX-License-Identifier: MIT
// Reader of Linux bzImage files: finds the packed kernel inside. Format: Documentation/arch/x86/boot.rst of Linux.
import { pvError } from '../errors.ts';
import { looksLikeBzip2 } from './compression/bzip2.ts';
import { looksLikeLz4Legacy } from './compression/lz4.ts';
import { looksLikeLzma } from './compression/lzma.ts';
import { looksLikeLzop } from './compression/lzo.ts';
import { looksLikeXz } from './compression/xz.ts';
import { asciiUntilNul, looksLikeElf } from './elf.ts';

/** How a kernel is packed. */
export type Compressor = 'none' | 'gzip' | 'xz' | 'lzma' | 'bzip2' | 'lz4' | 'lzo' | 'zstd';

export interface BzImage {
  /** e.g. "6.1.0-56-amd64 (debian-kernel@lists.debian.org) #1 SMP ...", or "" when the header has none. */
  readonly version: string;
  /** Major * 256 + minor. */
  readonly bootProtocol: number;
  readonly setupSectors: number;
  readonly compressor: Compressor;
  /** The compressed stream, without the size that the kernel build appends. */
  readonly payload: Uint8Array;
  /** Size after unpacking, as the kernel build recorded it at the end of the payload. */
  readonly unpackedSize: number;
}

const SECTOR = 512;
const MAGIC_AT = 0x202;
const MAGIC = 0x53726448; // "HdrS"
/** The first protocol with the payload fields. */
const FIRST_PROTOCOL_WITH_PAYLOAD = 0x208;
const HEADER_END = 0x250;
const MAX_VERSION_LENGTH = 256;

/** True when `bytes` has the header magic of a Linux boot image. */
export function looksLikeBzImage(bytes: Uint8Array): boolean {
  return bytes.length >= MAGIC_AT + 4 && readU32(bytes, MAGIC_AT) === MAGIC;
}

/**
 * Finds the payload of a bzImage. `name` is the file's name for error texts.
 * Throws `kernel-truncated`, `kernel-bzimage-too-old`, `kernel-compression-unknown`.
 */
export function readBzImage(bytes: Uint8Array, name: string): BzImage {
  if (bytes.length < HEADER_END) throw truncated(name, 'it ends within its header');
  const bootProtocol = readU16(bytes, 0x206);
  if (bootProtocol < FIRST_PROTOCOL_WITH_PAYLOAD) {
    const version = `${bootProtocol >>> 8}.${String(bootProtocol & 0xff).padStart(2, '0')}`;
    throw pvError('kernel-bzimage-too-old', { path: name, version });
  }
  const setupSectors = bytes[0x1f1]! || 4; // 0 means 4 for old images
  const protectedModeAt = (setupSectors + 1) * SECTOR;
  const payloadAt = protectedModeAt + readU32(bytes, 0x248);
  const payloadLength = readU32(bytes, 0x24c);
  const end = payloadAt + payloadLength;
  if (end > bytes.length) throw truncated(name, `it should have at least ${end} bytes but has ${bytes.length}`);
  if (payloadLength < 8) throw truncated(name, 'there is no packed kernel in it');
  const payload = bytes.subarray(payloadAt, end);
  const compressor = detectCompressor(payload);
  if (compressor === undefined)
    throw pvError('kernel-compression-unknown', { path: name, magic: hex(payload.subarray(0, 6)) });
  const versionPointer = readU16(bytes, 0x20e);
  const versionAt = 0x200 + versionPointer;
  return {
    version:
      versionPointer === 0 || versionAt >= protectedModeAt
        ? ''
        : printable(bytes.subarray(versionAt, versionAt + MAX_VERSION_LENGTH)),
    bootProtocol,
    setupSectors,
    compressor,
    // For gzip the recorded size is part of the stream itself: gzip's own trailer ends with it.
    payload: compressor === 'gzip' || compressor === 'none' ? payload : payload.subarray(0, payloadLength - 4),
    unpackedSize: compressor === 'none' ? payloadLength : readU32(payload, payloadLength - 4),
  };
}

/** Tells from the first bytes how data is packed; undefined when it is nothing known. */
export function detectCompressor(data: Uint8Array): Compressor | undefined {
  if (looksLikeElf(data)) return 'none';
  if (data[0] === 0x1f && data[1] === 0x8b) return 'gzip';
  if (looksLikeXz(data)) return 'xz';
  if (looksLikeBzip2(data)) return 'bzip2';
  if (looksLikeLz4Legacy(data)) return 'lz4';
  if (looksLikeLzop(data)) return 'lzo';
  if (data.length >= 4 && readU32(data, 0) === 0xfd2fb528) return 'zstd';
  // Last, because it has no magic number.
  if (looksLikeLzma(data)) return 'lzma';
  return undefined;
}

function printable(bytes: Uint8Array): string {
  return asciiUntilNul(bytes).replace(/[^\x20-\x7e]/g, '?');
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

function readU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

function truncated(name: string, detail: string): Error {
  return pvError('kernel-truncated', { path: name, detail });
}
