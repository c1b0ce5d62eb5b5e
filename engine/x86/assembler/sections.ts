// SPDX-License-Identifier: MIT
// Sections, labels, data directives and fixups of the assembler: everything about bytes that is not an instruction.
import { AssemblerError, type Immediate, type LabelAddress } from './operands.ts';

export type SectionName = 'text' | 'data' | 'bss';

const PAGE = 4096n;

type FixupKind = 'rel8' | 'rel32' | 'abs32' | 'abs64';

/** A place to be filled in by `link`. `origin` is the offset a relative value counts from. */
interface Fixup {
  readonly kind: FixupKind;
  readonly offset: number;
  readonly label: string;
  readonly addend: number;
  origin: number;
}

/** A section under construction. bss has a size but no bytes. */
interface Section {
  readonly name: SectionName;
  bytes: Uint8Array;
  size: number;
  readonly fixups: Fixup[];
}

interface Placement {
  readonly section: Section;
  readonly offset: number;
}

/** A section after linking: `bytes` is empty for bss, `memorySize` is what it takes in memory. */
export interface LinkedSection {
  readonly name: SectionName;
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly memorySize: number;
}

export interface LinkedImage {
  readonly sections: readonly LinkedSection[];
  readonly symbols: ReadonlyMap<string, bigint>;
}

/** Encodes text as one byte per character. Throws AssemblerError for anything outside Latin-1. */
export function latin1(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0xff) throw new AssemblerError(`character U+${code.toString(16)} does not fit one byte`);
    bytes[i] = code;
  }
  return bytes;
}

/** Collects bytes in three sections, names places in them and patches references when the final addresses are known. */
export class SectionWriter {
  readonly #sections: Record<SectionName, Section> = {
    text: newSection('text'),
    data: newSection('data'),
    bss: newSection('bss'),
  };
  readonly #labels = new Map<string, Placement>();
  #current: Section = this.#sections.text;
  #uniqueCount = 0;

  /** Continues in `name`; what follows is appended there. */
  section(name: SectionName): this {
    this.#current = this.#sections[name];
    return this;
  }

  get currentSection(): SectionName {
    return this.#current.name;
  }

  /** Offset of the next byte in the current section. */
  get offset(): number {
    return this.#current.size;
  }

  /** Names the current place. Throws AssemblerError when the name is taken. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new AssemblerError(`label ${name} is defined twice`);
    this.#labels.set(name, { section: this.#current, offset: this.#current.size });
    return this;
  }

  /** A label name nobody else has, for code emitted several times. It still has to be placed with `label`. */
  unique(stem: string): string {
    return `.${stem}.${(this.#uniqueCount++).toString()}`;
  }

  /** Offset of `label` if it is already placed in the current section, else undefined. */
  protected placedOffset(label: string): number | undefined {
    const placement = this.#labels.get(label);
    return placement?.section === this.#current ? placement.offset : undefined;
  }

  /** Pads the current section to a multiple of `boundary`: with NOPs in text, with zeros elsewhere. */
  align(boundary: number): this {
    const padding = (boundary - (this.#current.size % boundary)) % boundary;
    if (this.#current.name === 'bss') return this.reserve(padding);
    const fill = this.#current.name === 'text' ? 0x90 : 0;
    for (let i = 0; i < padding; i++) this.byte(fill);
    return this;
  }

  /** `count` zero bytes; the only directive that bss accepts. */
  reserve(count: number): this {
    if (this.#current.name !== 'bss') return this.bytes(new Uint8Array(count));
    this.#current.size += count;
    return this;
  }

  /** Raw bytes: data, or an instruction the assembler has no name for. */
  bytes(values: Iterable<number>): this {
    for (const value of values) this.byte(value);
    return this;
  }

  dw(...values: Immediate[]): this {
    for (const value of values) this.littleEndian(value, 2);
    return this;
  }

  /** 32-bit data; a label address must fit 32 bits, signed or unsigned. */
  dd(...values: (Immediate | LabelAddress)[]): this {
    for (const value of values) {
      if (typeof value === 'object') this.fixup('abs32', value.label, value.addend);
      else this.littleEndian(value, 4);
    }
    return this;
  }

  dq(...values: (Immediate | LabelAddress)[]): this {
    for (const value of values) {
      if (typeof value === 'object') this.fixup('abs64', value.label, value.addend);
      else this.littleEndian(value, 8);
    }
    return this;
  }

  /** The characters of `text`, one byte each, without a terminator. */
  ascii(text: string): this {
    return this.bytes(latin1(text));
  }

  /** The characters of `text` and a NUL. */
  asciz(text: string): this {
    return this.ascii(text).byte(0);
  }

  protected byte(value: number): this {
    const section = this.#current;
    if (section.name === 'bss') throw new AssemblerError('bss holds no bytes: use reserve');
    if (section.size === section.bytes.length) {
      const grown = new Uint8Array(section.bytes.length * 2);
      grown.set(section.bytes);
      section.bytes = grown;
    }
    section.bytes[section.size++] = value & 0xff;
    return this;
  }

  protected littleEndian(value: Immediate, size: number): this {
    let rest = BigInt.asUintN(size * 8, BigInt(value));
    if (BigInt(value) !== rest && BigInt(value) !== BigInt.asIntN(size * 8, rest)) {
      throw new AssemblerError(`${value.toString()} does not fit ${size.toString()} bytes`);
    }
    for (let i = 0; i < size; i++, rest >>= 8n) this.byte(Number(rest & 0xffn));
    return this;
  }

  /** Emits room for a reference to `label`; relative kinds count from the end of the field unless `rebase` moves it. */
  protected fixup(kind: FixupKind, label: string, addend: number): Fixup {
    const size = kind === 'rel8' ? 1 : kind === 'abs64' ? 8 : 4;
    const fixup: Fixup = { kind, offset: this.#current.size, label, addend, origin: this.#current.size + size };
    this.#current.fixups.push(fixup);
    for (let i = 0; i < size; i++) this.byte(0);
    return fixup;
  }

  /** Makes a relative fixup count from here: the processor adds to the address after the whole instruction. */
  protected rebase(fixup: Fixup): void {
    fixup.origin = this.#current.size;
  }

  /**
   * Gives the sections addresses (text at `base`, data and bss each from the next page) and patches every reference.
   * Throws AssemblerError for undefined labels and for distances that do not fit their field.
   */
  link(base: bigint): LinkedImage {
    const { text, data, bss } = this.#sections;
    const addresses = new Map<Section, bigint>();
    let next = base;
    for (const section of [text, data, bss]) {
      addresses.set(section, next);
      next = (next + BigInt(section.size) + PAGE - 1n) & ~(PAGE - 1n);
    }
    const symbols = new Map<string, bigint>();
    for (const [name, { section, offset }] of this.#labels) {
      symbols.set(name, (addresses.get(section) ?? 0n) + BigInt(offset));
    }
    const sections = [text, data, bss].map((section) => {
      const address = addresses.get(section) ?? 0n;
      const bytes = section.bytes.slice(0, section.name === 'bss' ? 0 : section.size);
      for (const fixup of section.fixups) applyFixup(bytes, address, fixup, symbols);
      return { name: section.name, address, bytes, memorySize: section.size };
    });
    return { sections, symbols };
  }
}

function newSection(name: SectionName): Section {
  return { name, bytes: new Uint8Array(name === 'bss' ? 0 : 4096), size: 0, fixups: [] };
}

function applyFixup(bytes: Uint8Array, address: bigint, fixup: Fixup, symbols: ReadonlyMap<string, bigint>): void {
  const symbol = symbols.get(fixup.label);
  if (symbol === undefined) throw new AssemblerError(`label ${fixup.label} is not defined`);
  const target = symbol + BigInt(fixup.addend);
  const relative = target - (address + BigInt(fixup.origin));
  const view = new DataView(bytes.buffer);
  switch (fixup.kind) {
    case 'rel8':
      requireSigned(relative, 8, fixup.label);
      view.setInt8(fixup.offset, Number(relative));
      break;
    case 'rel32':
      requireSigned(relative, 32, fixup.label);
      view.setInt32(fixup.offset, Number(relative), true);
      break;
    case 'abs32':
      // An address of the upper 2 GiB fits because the processor sign-extends it; one below 4 GiB fits unsigned.
      if (BigInt.asUintN(32, target) !== target) requireSigned(BigInt.asIntN(64, target), 32, fixup.label);
      view.setUint32(fixup.offset, Number(BigInt.asUintN(32, target)), true);
      break;
    case 'abs64':
      view.setBigUint64(fixup.offset, BigInt.asUintN(64, target), true);
      break;
  }
}

function requireSigned(value: bigint, bits: number, label: string): void {
  if (BigInt.asIntN(bits, value) !== value) {
    throw new AssemblerError(`${label} is too far away for a ${bits.toString()}-bit field`);
  }
}
