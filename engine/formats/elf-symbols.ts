// SPDX-License-Identifier: MIT
// The symbol table of an ELF64 file that has not been stripped of it. Format: System V gABI, "Symbol Table".
import { sectionData } from './elf.ts';
import type { ElfImage } from './elf.ts';

export interface ElfSymbol {
  readonly name: string;
  readonly address: bigint;
  readonly isFunction: boolean;
}

const entryBytes = 24;
const maxSymbols = 1 << 21;
const maxNameBytes = 512;
const typeFunction = 2;
const undefinedSection = 0;

/** Defined symbols; none when the file has no tables that can be read. */
export function readElfSymbols(image: ElfImage): ElfSymbol[] {
  const table = image.sections.find((s) => s.name === '.symtab');
  const strings = image.sections.find((s) => s.name === '.strtab');
  if (image.bits !== 64 || !table || !strings) return [];
  const entries = sectionData(image, table);
  const names = sectionData(image, strings);
  const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
  const symbols: ElfSymbol[] = [];
  const count = Math.min(maxSymbols, Math.floor(entries.length / entryBytes));
  for (let at = 0; at < count * entryBytes; at += entryBytes) {
    if (view.getUint16(at + 6, true) === undefinedSection) continue;
    const from = view.getUint32(at, true);
    const end = names.indexOf(0, from);
    if (end <= from || end - from > maxNameBytes) continue;
    symbols.push({
      name: String.fromCharCode(...names.subarray(from, end)),
      address: view.getBigUint64(at + 8, true),
      isFunction: (entries[at + 4]! & 15) === typeFunction,
    });
  }
  return symbols;
}
