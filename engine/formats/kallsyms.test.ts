// SPDX-License-Identifier: MIT
// Tests of kallsyms.ts and elf-symbols.ts, with tables made here as the kernel's build makes them.
import { describe, expect, it } from 'vitest';
import { readElf } from './elf.ts';
import { readElfSymbols } from './elf-symbols.ts';
import { readKallsyms } from './kallsyms.ts';
import type { KernelSymbol } from './kallsyms.ts';

const base = 0xffffffff81000000n;

interface Shape {
  /** Where the offsets are: in front of the names, as up to Linux 6.3, or behind the tokens. */
  offsets: 'front' | 'behind';
  /** With the table that orders symbols by name. */
  ordered: boolean;
}

const symbolsOf = (count: number): KernelSymbol[] =>
  Array.from({ length: count }, (_, n) => ({
    address: n === 0 ? 0x1f000n : base + BigInt(16 * n),
    type: n % 3 ? 't' : 'D',
    name: n === 5 ? 'x'.repeat(200) : `symbol_${n}`,
  }));

/** Tables over 256 one-character tokens, some of which are unused, in the middle of other data. */
function tables(symbols: readonly KernelSymbol[], { offsets, ordered }: Shape): Uint8Array {
  const bytes: number[] = Array.from({ length: 64 }, (_, n) => (n * 37) & 255);
  const align = (): void => {
    while (bytes.length % 8) bytes.push(0);
  };
  const word = (value: bigint | number, size: number): void => {
    for (let i = 0; i < size; i++) bytes.push(Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
  };
  const addresses = (): void => {
    align();
    for (const { address } of symbols) word(BigInt.asUintN(32, address < base ? address : base - 1n - address), 4);
    align();
    word(base, 8);
  };
  if (offsets === 'front') addresses();
  align();
  word(symbols.length, 4);
  align();
  const start = bytes.length;
  const markers: number[] = [];
  symbols.forEach(({ type, name }, n) => {
    if (n % 256 === 0) markers.push(bytes.length - start);
    const text = [...(type + name)].map((c) => c.charCodeAt(0));
    bytes.push(...(text.length < 128 ? [text.length] : [(text.length & 127) | 128, text.length >> 7]), ...text);
  });
  align();
  for (const marker of markers) word(marker, 4);
  if (ordered) {
    align();
    symbols.forEach((_, n) => word(n, 3));
  }
  align();
  const tokenStart = bytes.length;
  const index: number[] = [];
  for (let token = 0; token < 256; token++) {
    index.push(bytes.length - tokenStart);
    if (token > 32 && token < 127) bytes.push(token);
    bytes.push(0);
  }
  align();
  for (const offset of index) word(offset, 2);
  if (offsets === 'behind') addresses();
  bytes.push(...new Array<number>(100).fill(0xaa));
  return Uint8Array.from(bytes);
}

const shapes: Shape[] = [
  { offsets: 'front', ordered: false },
  { offsets: 'front', ordered: true },
  { offsets: 'behind', ordered: false },
];

describe('the symbols that a kernel carries', () => {
  it.each(shapes)('are read: %o', (shape) => {
    for (const count of [1, 255, 256, 257, 1000]) {
      const symbols = symbolsOf(count);
      expect(readKallsyms(tables(symbols, shape)), `${count}`).toEqual(symbols);
    }
  });

  it('are read from a part of a larger buffer', () => {
    const symbols = symbolsOf(300);
    const image = tables(symbols, shapes[0]!);
    const larger = new Uint8Array(image.length + 5);
    larger.set(image, 5);
    expect(readKallsyms(larger.subarray(5))).toEqual(symbols);
  });

  it('are absent from other data, and from what is cut off', () => {
    expect(readKallsyms(new Uint8Array(0))).toBe(undefined);
    expect(readKallsyms(new Uint8Array(100_000))).toBe(undefined);
    const digits = new TextEncoder().encode('0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00'.repeat(2000));
    expect(readKallsyms(digits)).toBe(undefined);
    const image = tables(symbolsOf(300), shapes[0]!);
    for (let length = 0; length < image.length - 100; length += 61)
      expect(readKallsyms(image.slice(0, length))).toBe(undefined);
  });

  it('are as many as there are, or none, whatever byte is damaged', () => {
    const symbols = symbolsOf(300);
    const image = tables(symbols, shapes[1]!);
    let refused = 0;
    for (let at = 0; at < image.length; at += 7) {
      const bad = image.slice();
      bad[at]! ^= 0x11;
      const found = readKallsyms(bad);
      if (found) expect(found).toHaveLength(symbols.length);
      else refused++;
    }
    expect(refused).toBeGreaterThan(50);
  });
});

/** An ELF64 file with one segment and the sections .symtab, .strtab and .shstrtab. */
function elfWithSymbols(
  symbols: readonly [name: number, info: number, section: number, address: bigint][],
  strings: string,
): Uint8Array {
  const names = '\0.symtab\0.strtab\0.shstrtab\0';
  const tableAt = 64 + 56;
  const stringsAt = tableAt + 24 * symbols.length;
  const namesAt = stringsAt + strings.length;
  const sectionsAt = namesAt + names.length;
  const file = new Uint8Array(sectionsAt + 4 * 64);
  const view = new DataView(file.buffer);
  const text = (at: number, value: string): void => void [...value].forEach((c, i) => (file[at + i] = c.charCodeAt(0)));
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setBigUint64(32, 64n, true);
  view.setBigUint64(40, BigInt(sectionsAt), true);
  [56, 1, 64, 4, 3].forEach((value, n) => view.setUint16(54 + 2 * n, value, true));
  symbols.forEach(([name, info, section, address], n) => {
    view.setUint32(tableAt + 24 * n, name, true);
    file[tableAt + 24 * n + 4] = info;
    view.setUint16(tableAt + 24 * n + 6, section, true);
    view.setBigUint64(tableAt + 24 * n + 8, address, true);
  });
  text(stringsAt, strings);
  text(namesAt, names);
  const sections = [[1, 2, tableAt, 24 * symbols.length], [9, 3, stringsAt, strings.length], [17, 3, namesAt, names.length]]; // prettier-ignore
  sections.forEach(([name, type, offset, size], n) => {
    const at = sectionsAt + 64 * (n + 1);
    view.setUint32(at, name!, true);
    view.setUint32(at + 4, type!, true);
    view.setBigUint64(at + 24, BigInt(offset!), true);
    view.setBigUint64(at + 32, BigInt(size!), true);
  });
  return file;
}

describe('the symbol table of an ELF file', () => {
  it('is read, without what is undefined or has no name', () => {
    const elf = elfWithSymbols(
      [
        [0, 0, 0, 0n],
        [1, 2, 1, base],
        [7, 1, 1, base + 8n],
        [1, 2, 0, 5n],
        [999, 2, 1, 6n],
      ],
      '\0start\0data\0',
    );
    expect(readElfSymbols(readElf(elf))).toEqual([
      { name: 'start', address: base, isFunction: true },
      { name: 'data', address: base + 8n, isFunction: false },
    ]);
  });

  it('is empty when there is none', () => {
    const image = readElf(elfWithSymbols([], ''));
    expect(readElfSymbols({ ...image, sections: [] })).toEqual([]);
    expect(readElfSymbols(image)).toEqual([]);
  });
});
