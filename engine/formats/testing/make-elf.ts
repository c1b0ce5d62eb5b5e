// SPDX-License-Identifier: MIT
// For tests: makes small ELF files with chosen segments, notes and sections.
import { encodeUtf8 } from '../utf8.ts';

export interface ElfParts {
  readonly bits: 32 | 64;
  readonly entry: bigint;
  readonly load: readonly {
    readonly physicalAddress: bigint;
    readonly virtualAddress?: bigint;
    readonly data: Uint8Array;
    /** Size in memory; the size of `data` when absent. */
    readonly memorySize?: number;
    readonly flags?: number;
  }[];
  readonly notes?: readonly NoteParts[];
  /** Put the notes in a section only, without a PT_NOTE segment. */
  readonly notesInSection?: boolean;
  /** Contents of a `__xen_guest` section. */
  readonly guestSection?: string;
  readonly machine?: number;
  readonly interpreter?: string;
}

export interface NoteParts {
  readonly owner?: string;
  readonly type: number;
  readonly value: bigint | string | Uint8Array;
  /** Declared size, when it should differ from the real one. */
  readonly declaredSize?: number;
}

/** Encodes notes: numbers as 8 bytes, strings with their NUL. */
export function encodeNotes(notes: readonly NoteParts[]): Uint8Array {
  const parts = notes.map(({ owner = 'Xen', type, value, declaredSize }) => {
    const name = encodeUtf8(owner + '\0');
    const descriptor =
      typeof value === 'bigint'
        ? new Uint8Array(BigUint64Array.of(value).buffer)
        : typeof value === 'string'
          ? encodeUtf8(value + '\0')
          : value;
    const descriptorAt = 12 + align4(name.length);
    const bytes = new Uint8Array(descriptorAt + align4(descriptor.length));
    const view = new DataView(bytes.buffer);
    view.setUint32(0, name.length, true);
    view.setUint32(4, declaredSize ?? descriptor.length, true);
    view.setUint32(8, type, true);
    bytes.set(name, 12);
    bytes.set(descriptor, descriptorAt);
    return bytes;
  });
  return concat(parts);
}

/** Lays out: ELF header, program headers, segment data, notes, section data, section names, section headers. */
export function makeElf(parts: ElfParts): Uint8Array {
  const is64 = parts.bits === 64;
  const notes = encodeNotes(parts.notes ?? []);
  const segments: {
    type: number;
    flags: number;
    data: Uint8Array;
    memorySize: number;
    virtual: bigint;
    physical: bigint;
  }[] = parts.load.map((load) => ({
    type: 1,
    flags: load.flags ?? 7,
    data: load.data,
    memorySize: load.memorySize ?? load.data.length,
    virtual: load.virtualAddress ?? load.physicalAddress,
    physical: load.physicalAddress,
  }));
  if (notes.length > 0 && !parts.notesInSection)
    segments.push({ type: 4, flags: 4, data: notes, memorySize: 0, virtual: 0n, physical: 0n });
  if (parts.interpreter !== undefined) {
    const data = encodeUtf8(parts.interpreter + '\0');
    segments.push({ type: 3, flags: 4, data, memorySize: data.length, virtual: 0n, physical: 0n });
  }
  const sections: { name: string; type: number; data: Uint8Array }[] = [{ name: '', type: 0, data: new Uint8Array(0) }];
  if (parts.notesInSection) sections.push({ name: '.note.Xen', type: 7, data: notes });
  if (parts.guestSection !== undefined)
    sections.push({ name: '__xen_guest', type: 1, data: encodeUtf8(parts.guestSection + '\0') });
  const names = concat([...sections, { name: '.shstrtab' }].map((s) => encodeUtf8(s.name + '\0')));
  sections.push({ name: '.shstrtab', type: 3, data: names });

  const headerSize = is64 ? 64 : 52;
  const segmentHeaderSize = is64 ? 56 : 32;
  const sectionHeaderSize = is64 ? 64 : 40;
  let size = headerSize + segments.length * segmentHeaderSize;
  const reserve = (data: Uint8Array): number => {
    const at = align4(size);
    size = at + data.length;
    return at;
  };
  const segmentOffsets = segments.map((s) => reserve(s.data));
  const sectionOffsets = sections.map((s) => reserve(s.data));
  const sectionHeadersAt = align4(size);
  size = sectionHeadersAt + sections.length * sectionHeaderSize;

  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const word = (at: number, value: bigint | number): void => {
    if (is64) view.setBigUint64(at, BigInt(value), true);
    else view.setUint32(at, Number(value), true);
  };
  bytes.set([0x7f, 0x45, 0x4c, 0x46, is64 ? 2 : 1, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, parts.machine ?? (is64 ? 62 : 3), true);
  view.setUint32(20, 1, true);
  word(24, parts.entry);
  word(is64 ? 32 : 28, headerSize);
  word(is64 ? 40 : 32, sectionHeadersAt);
  const tail = is64 ? 52 : 40;
  [headerSize, segmentHeaderSize, segments.length, sectionHeaderSize, sections.length, sections.length - 1].forEach(
    (value, i) => view.setUint16(tail + i * 2, value, true),
  );
  segments.forEach((segment, i) => {
    const at = headerSize + i * segmentHeaderSize;
    view.setUint32(at, segment.type, true);
    view.setUint32(at + (is64 ? 4 : 24), segment.flags, true);
    word(at + (is64 ? 8 : 4), segmentOffsets[i]!);
    word(at + (is64 ? 16 : 8), segment.virtual);
    word(at + (is64 ? 24 : 12), segment.physical);
    word(at + (is64 ? 32 : 16), segment.data.length);
    word(at + (is64 ? 40 : 20), segment.memorySize);
    bytes.set(segment.data, segmentOffsets[i]);
  });
  let nameAt = 0;
  sections.forEach((section, i) => {
    const at = sectionHeadersAt + i * sectionHeaderSize;
    view.setUint32(at, nameAt, true);
    nameAt += section.name.length + 1;
    view.setUint32(at + 4, section.type, true);
    word(at + (is64 ? 24 : 16), sectionOffsets[i]!);
    word(at + (is64 ? 32 : 20), section.data.length);
    bytes.set(section.data, sectionOffsets[i]);
  });
  return bytes;
}

function align4(n: number): number {
  return (n + 3) & ~3;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
