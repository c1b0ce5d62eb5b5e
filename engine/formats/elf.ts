// SPDX-License-Identifier: MIT
// Reader of ELF32 and ELF64 files for x86: headers, segments, sections, notes.
// Format: System V gABI chapters 4 and 5. Nothing in the file is trusted: every offset is checked against the file's end.
import { pvError } from '../errors.ts';

export const PT_LOAD = 1;
/** Names the dynamic linker: only programs have it, never kernels. */
export const PT_INTERP = 3;
export const PT_NOTE = 4;
export const SHT_NOTE = 7;
export const SHT_NOBITS = 8;

const EM_386 = 3;
const EM_X86_64 = 62;
const ET_EXEC = 2;
const ET_DYN = 3;

/** A program header. Addresses are 64-bit and therefore bigints; sizes and offsets are checked to be below 2^53. */
export interface ElfSegment {
  readonly type: number;
  /** PF_X 1, PF_W 2, PF_R 4. */
  readonly flags: number;
  readonly offset: number;
  readonly virtualAddress: bigint;
  readonly physicalAddress: bigint;
  readonly fileSize: number;
  readonly memorySize: number;
}

export interface ElfSection {
  readonly name: string;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

export interface ElfNote {
  readonly owner: string;
  readonly type: number;
  /** Size of the descriptor as declared. */
  readonly size: number;
  /** The bytes of the descriptor that exist: fewer than `size` when the file ends within it. */
  readonly descriptor: Uint8Array;
}

export interface ElfImage {
  readonly bits: 32 | 64;
  readonly entry: bigint;
  readonly segments: readonly ElfSegment[];
  /** Empty when the file has no section table or a broken one: sections are not needed for running. */
  readonly sections: readonly ElfSection[];
  readonly bytes: Uint8Array;
}

/** True when `bytes` starts with the ELF magic. */
export function looksLikeElf(bytes: Uint8Array): boolean {
  return bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/** Reads the headers of an executable x86 ELF file. Throws `kernel-elf-invalid`. The image refers to `bytes`; nothing is copied. */
export function readElf(bytes: Uint8Array): ElfImage {
  if (!looksLikeElf(bytes)) throw invalid('the ELF magic number is missing');
  const elfClass = bytes[4];
  if (elfClass !== 1 && elfClass !== 2) throw invalid('its class is neither 32-bit nor 64-bit');
  if (bytes[5] !== 1) throw invalid('it is not little-endian');
  const bits = elfClass === 1 ? 32 : 64;
  const file = new ElfFile(bytes, bits);
  if (bytes.length < (bits === 32 ? 52 : 64)) throw invalid('the file ends within the ELF header');
  const type = file.u16(16);
  if (type !== ET_EXEC && type !== ET_DYN) throw invalid('it is not an executable');
  const machine = file.u16(18);
  if (machine !== EM_386 && machine !== EM_X86_64) throw invalid(`it is not for x86 (ELF machine ${machine})`);
  const segments = file.segments();
  for (const segment of segments) {
    if (segment.type !== PT_LOAD) continue;
    if (segment.offset + segment.fileSize > bytes.length) throw invalid('the file ends within a segment');
    if (segment.fileSize > segment.memorySize) throw invalid('a segment is larger in the file than in memory');
  }
  return { bits, entry: file.word(24), segments, sections: file.sections(), bytes };
}

/** The bytes of a section that exist in the file (none for SHT_NOBITS). */
export function sectionData(image: ElfImage, section: ElfSection): Uint8Array {
  if (section.type === SHT_NOBITS) return new Uint8Array(0);
  return existing(image.bytes, section.offset, section.size);
}

/** The notes of all PT_NOTE segments. */
export function segmentNotes(image: ElfImage): ElfNote[] {
  return image.segments.filter((s) => s.type === PT_NOTE).flatMap((s) => readNotes(image.bytes, s.offset, s.fileSize));
}

/** The notes of all SHT_NOTE sections. */
export function sectionNotes(image: ElfImage): ElfNote[] {
  return image.sections.filter((s) => s.type === SHT_NOTE).flatMap((s) => readNotes(image.bytes, s.offset, s.size));
}

/**
 * Notes are 4-byte aligned in ELF64 too. Only the *start* of a note has to lie inside the area: the last note of real files runs past the
 * end of its segment and of the file (grub-i386-xen.bin), and what is missing reads as zero.
 */
function readNotes(bytes: Uint8Array, offset: number, size: number): ElfNote[] {
  const notes: ElfNote[] = [];
  const end = Math.min(offset + size, bytes.length);
  for (let at = offset; at < end;) {
    const nameSize = u32OrZero(bytes, at);
    const descriptorSize = u32OrZero(bytes, at + 4);
    const type = u32OrZero(bytes, at + 8);
    const nameAt = at + 12;
    const descriptorAt = nameAt + Math.ceil(nameSize / 4) * 4;
    notes.push({
      owner: asciiUntilNul(existing(bytes, nameAt, nameSize)),
      type,
      size: descriptorSize,
      descriptor: existing(bytes, descriptorAt, descriptorSize),
    });
    at = descriptorAt + Math.ceil(descriptorSize / 4) * 4;
  }
  return notes;
}

/** A descriptor read as a string: up to its NUL, its declared end, or the end of the file. */
export function noteString(note: ElfNote): string {
  return asciiUntilNul(note.descriptor);
}

/** A descriptor read as a little-endian number of 1 to 8 bytes; missing bytes are zero, bytes beyond the eighth are ignored. */
export function noteNumber(note: ElfNote): bigint {
  let value = 0n;
  const count = Math.min(note.descriptor.length, 8);
  for (let i = count - 1; i >= 0; i--) value = (value << 8n) | BigInt(note.descriptor[i]!);
  return value;
}

/** Bytes up to the first NUL, one character each. */
export function asciiUntilNul(bytes: Uint8Array): string {
  const nul = bytes.indexOf(0);
  let text = '';
  for (const byte of nul < 0 ? bytes : bytes.subarray(0, nul)) text += String.fromCharCode(byte);
  return text;
}

/** Field access and tables of a file whose class and byte order are known. */
class ElfFile {
  private readonly bytes: Uint8Array;
  private readonly bits: 32 | 64;
  private readonly view: DataView;

  constructor(bytes: Uint8Array, bits: 32 | 64) {
    this.bytes = bytes;
    this.bits = bits;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u16(at: number): number {
    return this.view.getUint16(at, true);
  }

  u32(at: number): number {
    return this.view.getUint32(at, true);
  }

  /** An address-sized field. */
  word(at: number): bigint {
    return this.bits === 32 ? BigInt(this.u32(at)) : this.view.getBigUint64(at, true);
  }

  segments(): ElfSegment[] {
    const is64 = this.bits === 64;
    const tableAt = this.size(is64 ? 32 : 28);
    const entrySize = this.u16(is64 ? 54 : 42);
    const count = this.u16(is64 ? 56 : 44);
    if (count === 0) throw invalid('it has no program headers');
    if (entrySize < (is64 ? 56 : 32)) throw invalid('its program headers are too small');
    if (tableAt + count * entrySize > this.bytes.length) throw invalid('the file ends within the program headers');
    return Array.from({ length: count }, (_, i) => {
      const at = tableAt + i * entrySize;
      return {
        type: this.u32(at),
        flags: this.u32(at + (is64 ? 4 : 24)),
        offset: this.size(at + (is64 ? 8 : 4)),
        virtualAddress: this.word(at + (is64 ? 16 : 8)),
        physicalAddress: this.word(at + (is64 ? 24 : 12)),
        fileSize: this.size(at + (is64 ? 32 : 16)),
        memorySize: this.size(at + (is64 ? 40 : 20)),
      };
    });
  }

  sections(): ElfSection[] {
    const is64 = this.bits === 64;
    const tableAt = Number(this.word(is64 ? 40 : 32));
    const entrySize = this.u16(is64 ? 58 : 46);
    const count = this.u16(is64 ? 60 : 48);
    const namesIndex = this.u16(is64 ? 62 : 50);
    if (tableAt === 0 || entrySize < (is64 ? 64 : 40) || tableAt + count * entrySize > this.bytes.length) return [];
    const offsetAt = is64 ? 24 : 16;
    const sizeAt = is64 ? 32 : 20;
    const extent = (index: number): { offset: number; size: number } => {
      const at = tableAt + index * entrySize;
      return { offset: Number(this.word(at + offsetAt)), size: Number(this.word(at + sizeAt)) };
    };
    const namesExtent = namesIndex < count ? extent(namesIndex) : { offset: 0, size: 0 };
    const names = existing(this.bytes, namesExtent.offset, namesExtent.size);
    return Array.from({ length: count }, (_, i) => {
      const at = tableAt + i * entrySize;
      // A section name has no stated limit; 64 bytes are more than any this project looks for.
      const nameAt = this.u32(at);
      return { name: asciiUntilNul(existing(names, nameAt, 64)), type: this.u32(at + 4), ...extent(i) };
    });
  }

  /** An address-sized field that is an offset or a size. */
  private size(at: number): number {
    const value = Number(this.word(at));
    if (!Number.isSafeInteger(value)) throw invalid('a size in its headers is impossible');
    return value;
  }
}

/** The part of `bytes[offset, offset + size)` that exists. */
function existing(bytes: Uint8Array, offset: number, size: number): Uint8Array {
  const from = Math.min(offset, bytes.length);
  return bytes.subarray(from, Math.min(from + size, bytes.length));
}

function u32OrZero(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0
  );
}

function invalid(detail: string): Error {
  return pvError('kernel-elf-invalid', { detail });
}
