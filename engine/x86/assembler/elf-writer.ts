// SPDX-License-Identifier: MIT
// Writes executable ELF files with Xen notes or the legacy __xen_guest section (System V ABI; xen/include/public/elfnote.h).
import { latin1, type LinkedImage } from './sections.ts';

const PT_LOAD = 1;
const PT_NOTE = 4;
const SHT_PROGBITS = 1;
const SHT_STRTAB = 3;
const SHT_NOBITS = 8;
export const PF_X = 1;
export const PF_W = 2;
export const PF_R = 4;
const PAGE = 4096;

/** Note types with owner "Xen". */
export const XEN_NOTE = {
  ENTRY: 1,
  HYPERCALL_PAGE: 2,
  VIRT_BASE: 3,
  PADDR_OFFSET: 4,
  XEN_VERSION: 5,
  GUEST_OS: 6,
  GUEST_VERSION: 7,
  LOADER: 8,
  PAE_MODE: 9,
  FEATURES: 10,
  BSD_SYMTAB: 11,
  HV_START_LOW: 12,
  L1_MFN_VALID: 13,
  SUSPEND_CANCEL: 14,
  INIT_P2M: 15,
  MOD_START_PFN: 16,
  SUPPORTED_FEATURES: 17,
} as const;

export type XenNoteName = keyof typeof XEN_NOTE;

/** One note: text is stored with a terminating NUL, numbers as 8 bytes (4 in a 32-bit file), bytes as they are. */
export interface XenNote {
  readonly name: XenNoteName;
  readonly value: string | bigint | Uint8Array;
  /** Another owner than "Xen", for files that must be refused or fall back. */
  readonly owner?: string;
}

export interface ElfSegment {
  readonly virtualAddress: bigint;
  readonly physicalAddress: bigint;
  readonly bytes: Uint8Array;
  /** Size in memory; what exceeds `bytes` is zeroed by the loader. */
  readonly memorySize: number;
  /** PF_R | PF_W | PF_X */
  readonly flags: number;
}

/** A section that is found by name and not loaded, e.g. `__xen_guest`. */
export interface ElfSectionContent {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface ElfFile {
  readonly bits: 64 | 32;
  readonly entry: bigint;
  readonly segments: readonly ElfSegment[];
  /** Content of the PT_NOTE segment; none is written when left out. */
  readonly notes?: Uint8Array | undefined;
  readonly sections?: readonly ElfSectionContent[] | undefined;
}

/** Sizes of the structures of each ELF class. */
const CLASS = {
  64: { header: 64, program: 56, section: 64, word: 8, machine: 62, code: 2 },
  32: { header: 52, program: 32, section: 40, word: 4, machine: 3, code: 1 },
} as const;

/** Appends little-endian fields; `word` has the width of an address in the file's class. */
class FieldWriter {
  readonly #bytes: number[] = [];
  readonly #wordSize: number;

  constructor(wordSize: number) {
    this.#wordSize = wordSize;
  }

  field(value: number | bigint, size: number): this {
    let rest = BigInt.asUintN(size * 8, BigInt(value));
    for (let i = 0; i < size; i++, rest >>= 8n) this.#bytes.push(Number(rest & 0xffn));
    return this;
  }

  u16(...values: number[]): this {
    for (const value of values) this.field(value, 2);
    return this;
  }

  u32(...values: number[]): this {
    for (const value of values) this.field(value, 4);
    return this;
  }

  word(...values: (number | bigint)[]): this {
    for (const value of values) this.field(value, this.#wordSize);
    return this;
  }

  bytes(values: Iterable<number>): this {
    for (const value of values) this.#bytes.push(value);
    return this;
  }

  padTo(boundary: number): this {
    while (this.#bytes.length % boundary !== 0) this.#bytes.push(0);
    return this;
  }

  toBytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/** Encodes notes as they stand in a PT_NOTE segment: 4-byte aligned, as Xen's tools write them. */
export function encodeXenNotes(notes: readonly XenNote[], bits: 64 | 32 = 64): Uint8Array {
  const writer = new FieldWriter(CLASS[bits].word);
  for (const { name, value, owner = 'Xen' } of notes) {
    const description = new FieldWriter(CLASS[bits].word);
    if (typeof value === 'string') description.bytes(latin1(value)).field(0, 1);
    else if (typeof value === 'bigint') description.word(value);
    else description.bytes(value);
    const bytes = description.toBytes();
    writer.u32(owner.length + 1, bytes.length, XEN_NOTE[name]);
    writer.bytes(latin1(owner)).field(0, 1).padTo(4);
    writer.bytes(bytes).padTo(4);
  }
  return writer.toBytes();
}

/** The legacy `__xen_guest` section: `KEY=value` pairs separated by commas, NUL-terminated. */
export function xenGuestSection(values: Readonly<Record<string, string>>): ElfSectionContent {
  const text = Object.entries(values).map(([key, value]) => `${key}=${value}`);
  return { name: '__xen_guest', bytes: latin1(`${text.join(',')}\0`) };
}

/**
 * Segments of a linked image: text, and data with bss in one. `physicalBase` is the address of the image's first byte
 * in the guest's own memory, `virtualBase` where `link` put it.
 */
export function segmentsOf(image: LinkedImage, virtualBase: bigint, physicalBase: bigint): ElfSegment[] {
  return image.sections
    .filter((section) => section.memorySize > 0)
    .map(({ name, address, bytes, memorySize }) => ({
      virtualAddress: address,
      physicalAddress: address - virtualBase + physicalBase,
      bytes,
      memorySize,
      flags: name === 'text' ? PF_R | PF_X : PF_R | PF_W,
    }));
}

interface SectionHeader {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly address: bigint;
  readonly offset: number;
  readonly size: number;
}

/** Writes the file. Every PT_LOAD starts at a file offset congruent to its address, as loaders may map it. */
export function writeElf(file: ElfFile): Uint8Array {
  const sizes = CLASS[file.bits];
  const { notes, sections = [] } = file;
  const programCount = file.segments.length + (notes === undefined ? 0 : 1);
  let offset = sizes.header + programCount * sizes.program;

  const chunks: { offset: number; bytes: Uint8Array }[] = [];
  const headers: SectionHeader[] = [{ name: '', type: 0, flags: 0, address: 0n, offset: 0, size: 0 }];
  const program = new FieldWriter(sizes.word);

  for (const segment of file.segments) {
    const within = Number(segment.virtualAddress & BigInt(PAGE - 1));
    offset += (within - (offset % PAGE) + PAGE) % PAGE;
    writeProgramHeader(program, file.bits, PT_LOAD, offset, segment);
    chunks.push({ offset, bytes: segment.bytes });
    const isText = (segment.flags & PF_X) !== 0;
    const name = isText ? '.text' : segment.bytes.length > 0 ? '.data' : '.bss';
    const type = segment.bytes.length > 0 ? SHT_PROGBITS : SHT_NOBITS;
    const size = type === SHT_NOBITS ? segment.memorySize : segment.bytes.length;
    headers.push({ name, type, flags: isText ? 6 : 3, address: segment.virtualAddress, offset, size });
    offset += segment.bytes.length;
  }
  if (notes !== undefined) {
    offset = (offset + 3) & ~3;
    const at = { virtualAddress: 0n, physicalAddress: 0n, bytes: notes, memorySize: 0, flags: PF_R };
    writeProgramHeader(program, file.bits, PT_NOTE, offset, at);
    chunks.push({ offset, bytes: notes });
    offset += notes.length;
  }
  for (const section of sections) {
    headers.push({ name: section.name, type: SHT_PROGBITS, flags: 0, address: 0n, offset, size: section.bytes.length });
    chunks.push({ offset, bytes: section.bytes });
    offset += section.bytes.length;
  }
  const names = sectionNames([...headers.map((header) => header.name), '.shstrtab']);
  headers.push({ name: '.shstrtab', type: SHT_STRTAB, flags: 0, address: 0n, offset, size: names.bytes.length });
  chunks.push({ offset, bytes: names.bytes });
  offset = (offset + names.bytes.length + 7) & ~7;

  const table = new FieldWriter(sizes.word);
  for (const header of headers) writeSectionHeader(table, header, names.offsetOf(header.name));
  chunks.push({ offset, bytes: table.toBytes() });

  const elfHeader = new FieldWriter(sizes.word)
    .bytes([0x7f, 0x45, 0x4c, 0x46, sizes.code, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    .u16(2, sizes.machine)
    .u32(1)
    .word(file.entry, sizes.header, offset)
    .u32(0)
    .u16(sizes.header, sizes.program, programCount, sizes.section, headers.length, headers.length - 1);
  chunks.push({ offset: 0, bytes: elfHeader.toBytes() }, { offset: sizes.header, bytes: program.toBytes() });

  const out = new Uint8Array(offset + headers.length * sizes.section);
  for (const chunk of chunks) out.set(chunk.bytes, chunk.offset);
  return out;
}

function writeProgramHeader(out: FieldWriter, bits: 64 | 32, type: number, offset: number, segment: ElfSegment): void {
  const { virtualAddress, physicalAddress, bytes, memorySize, flags } = segment;
  const alignment = type === PT_LOAD ? PAGE : 4;
  out.u32(type);
  if (bits === 64) out.u32(flags);
  out.word(offset, virtualAddress, physicalAddress, bytes.length, memorySize);
  if (bits === 32) out.u32(flags);
  out.word(alignment);
}

function writeSectionHeader(out: FieldWriter, header: SectionHeader, nameOffset: number): void {
  out.u32(nameOffset, header.type);
  out.word(header.flags, header.address, header.offset, header.size);
  out.u32(0, 0);
  out.word(1, 0);
}

/** The string table of the section names. */
function sectionNames(names: readonly string[]): { bytes: Uint8Array; offsetOf: (name: string) => number } {
  const offsets = new Map<string, number>();
  let text = '';
  for (const name of names) {
    if (offsets.has(name)) continue;
    offsets.set(name, text.length);
    text += `${name}\0`;
  }
  return { bytes: latin1(text), offsetOf: (name) => offsets.get(name) ?? 0 };
}
