// SPDX-License-Identifier: MIT
// Decodes one x86 instruction into its description and operands (Intel SDM volume 2, chapter 2).

import { ST } from '../cpu/layout.ts';
import type { Category, Entry } from './encoding.ts';
import { opcodeTable } from './instructions.ts';
import type { Mode } from './stage.ts';

/** An operand after decoding. `value`: state offset for registers, value of an immediate (low 32 bits in `value`, high in `high`), number otherwise. */
export interface Operand {
  category: Category;
  bits: number;
  value: number;
  high: number;
}

/** The result of `decode`; one object is reused for all calls. */
export interface Decoded {
  entry: Entry;
  length: number;
  size: 8 | 16 | 32 | 64;
  addressSize: Mode;
  operands: Operand[];
  operandCount: number;
  lock: boolean;
  /** Memory operand: state offsets of base and index (ST.zero when absent), log2 of the scale, displacement (64 bits as two halves). */
  base: number;
  index: number;
  scale: number;
  dispLow: number;
  dispHigh: number;
  ripRelative: boolean;
  /** Segment number of the memory operand or string source (default or prefix), and whether a prefix named it. */
  segment: number;
  segmentPrefix: boolean;
}

export type DecodeResult = 'ok' | 'invalid' | 'short';

const newOperand = (): Operand => ({ category: 'r', bits: 0, value: 0, high: 0 });

/** Shared result object: copy what must outlive the next call. */
export const decoded: Decoded = {
  entry: undefined as unknown as Entry,
  length: 0,
  size: 32,
  addressSize: 64,
  operands: [newOperand(), newOperand(), newOperand(), newOperand()],
  operandCount: 0,
  lock: false,
  base: ST.zero,
  index: ST.zero,
  scale: 0,
  dispLow: 0,
  dispHigh: 0,
  ripRelative: false,
  segment: 3,
  segmentPrefix: false,
};

const maxLength = 15;

class Reader {
  bytes: Uint8Array = new Uint8Array(0);
  position = 0;
  end = 0;
  start = 0;
  short = false;

  u8(): number {
    if (this.position >= this.end) {
      this.short = true;
      return 0;
    }
    return this.bytes[this.position++]!;
  }
  u16(): number {
    return this.u8() | (this.u8() << 8);
  }
  i32(): number {
    return this.u16() | (this.u16() << 16);
  }
  i8(): number {
    return (this.u8() << 24) >> 24;
  }
}

const r = new Reader();

/** State offset of general register `n` at `bits`; without REX, byte registers 4-7 are AH CH DH BH. */
function registerOffset(n: number, bits: number, rex: boolean): number {
  if (bits === 8 && !rex && n >= 4 && n < 8) return ST.gpr + (n - 4) * 8 + 1;
  return ST.gpr + n * 8;
}

const gpr = (n: number) => ST.gpr + n * 8;

/** Base/index of 16-bit addressing by ModRM.rm: bx+si bx+di bp+si bp+di si di bp bx. */
const base16 = [3, 3, 5, 5, 6, 7, 5, 3];
const index16 = [6, 7, 6, 7, -1, -1, -1, -1];

/** Address bytes after ModRM: fills the memory fields. */
function decodeAddress(d: Decoded, modrm: number, rexX: number, rexB: number, mode: Mode): void {
  const mod = modrm >> 6;
  const rm = modrm & 7;
  d.base = ST.zero;
  d.index = ST.zero;
  d.scale = 0;
  d.ripRelative = false;
  let disp = 0;
  let stackBase = false;
  if (d.addressSize === 16) {
    if (mod === 0 && rm === 6) disp = (r.u16() << 16) >> 16;
    else {
      d.base = gpr(base16[rm]!);
      stackBase = base16[rm] === 5;
      if (index16[rm]! >= 0) d.index = gpr(index16[rm]!);
      if (mod === 1) disp = r.i8();
      else if (mod === 2) disp = (r.u16() << 16) >> 16;
    }
  } else {
    let baseNumber = rm;
    let hasBase = true;
    if (rm === 4) {
      const sib = r.u8();
      const index = ((sib >> 3) & 7) | rexX;
      if (index !== 4) {
        d.index = gpr(index);
        d.scale = sib >> 6;
      }
      baseNumber = sib & 7;
      if (baseNumber === 5 && mod === 0) hasBase = false;
    } else if (rm === 5 && mod === 0) {
      hasBase = false;
      d.ripRelative = mode === 64;
    }
    if (hasBase) {
      d.base = gpr(baseNumber | rexB);
      stackBase = (baseNumber | rexB) === 4 || (baseNumber | rexB) === 5;
    }
    if (mod === 1) disp = r.i8();
    else if (mod === 2 || !hasBase) disp = r.i32();
  }
  d.dispLow = disp | 0;
  d.dispHigh = disp >> 31;
  if (!d.segmentPrefix) d.segment = stackBase ? 2 : 3;
}

/**
 * Decodes the instruction at `bytes[position]`; at most `end` may be read. 'short': more bytes are needed; 'invalid': #UD.
 * The result is in `decoded`.
 */
export function decode(bytes: Uint8Array, position: number, end: number, mode: Mode): DecodeResult {
  const d = decoded;
  r.bytes = bytes;
  r.position = position;
  r.start = position;
  r.end = Math.min(end, position + maxLength);
  r.short = false;
  const tooLong = end >= position + maxLength;
  const outcome = decodeBody(d, mode);
  if (r.short) return tooLong ? 'invalid' : 'short';
  d.length = r.position - position;
  return outcome;
}

function decodeBody(d: Decoded, mode: Mode): DecodeResult {
  let operandPrefix = false;
  let addressPrefix = false;
  let repeat = 0;
  let rex = 0;
  d.lock = false;
  d.segment = 3;
  d.segmentPrefix = false;
  d.base = ST.zero;
  d.index = ST.zero;
  d.scale = 0;
  d.dispLow = 0;
  d.dispHigh = 0;
  d.ripRelative = false;
  let byte: number;
  for (;;) {
    byte = r.u8();
    if (r.short) return 'invalid';
    if (byte === 0x66) operandPrefix = true;
    else if (byte === 0x67) addressPrefix = true;
    else if (byte === 0xf3 || byte === 0xf2) repeat = byte;
    else if (byte === 0xf0) d.lock = true;
    else if (byte === 0x26 || byte === 0x2e || byte === 0x36 || byte === 0x3e) {
      // In 64-bit mode these four are ignored.
      if (mode !== 64) {
        d.segment = (byte - 0x26) >> 3;
        d.segmentPrefix = true;
      }
    } else if (byte === 0x64 || byte === 0x65) {
      d.segment = byte === 0x64 ? 4 : 5;
      d.segmentPrefix = true;
    } else if (mode === 64 && (byte & 0xf0) === 0x40) {
      rex = byte;
      continue;
    } else break;
    // A REX prefix counts only directly before the opcode.
    rex = 0;
  }
  let map = 0;
  if (byte === 0x0f) {
    byte = r.u8();
    map = 1;
    if (byte === 0x38 || byte === 0x3a) {
      map = byte === 0x38 ? 2 : 3;
      byte = r.u8();
    }
  }
  if (r.short) return 'invalid';
  const candidates = opcodeTable[(map << 8) | byte]!;
  if (candidates.length === 0) return 'invalid';
  const w = (rex >> 3) & 1;
  const rexR = (rex & 4) << 1;
  const rexX = (rex & 2) << 2;
  const rexB = (rex & 1) << 3;
  d.addressSize = mode === 64 ? (addressPrefix ? 32 : 64) : addressPrefix === (mode === 16) ? 32 : 16;
  let modrm = -1;
  let entry: Entry | undefined;
  // No iterators and no closures here: most instructions are decoded before V8 has optimised this.
  for (let n = 0; n < candidates.length; n++) {
    const e = candidates[n]!;
    if (e.only === (mode === 64 ? 'i64' : 'o64')) continue;
    if (e.prefix !== undefined) {
      if (e.prefix === 'NP' && (operandPrefix || repeat)) continue;
      if (e.prefix === '66' && (!operandPrefix || repeat)) continue;
      if (e.prefix === 'F3' && repeat !== 0xf3) continue;
      if (e.prefix === 'F2' && repeat !== 0xf2) continue;
    }
    if (e.w >= 0 && e.w !== w) continue;
    if (byte === 0x90 && map === 0 && !e.plus && rexB) continue;
    if (e.hasModrm) {
      if (modrm < 0) modrm = r.u8();
      if (e.reg >= 0 && ((modrm >> 3) & 7) !== e.reg) continue;
      if (
        e.modrmFirst >= 0
          ? modrm < e.modrmFirst || modrm > e.modrmLast
          : e.rm === 'mem'
            ? modrm >= 0xc0
            : e.rm === 'reg' && modrm < 0xc0
      )
        continue;
    }
    entry = e;
    break;
  }
  if (!entry) return 'invalid';
  d.entry = entry;
  if (mode === 64 && map === 0 && entry.hasModrm === false && modrm >= 0) return 'invalid';
  // Operation size.
  const letter = entry.sizeLetter;
  let size: 8 | 16 | 32 | 64;
  const narrow = operandPrefix && entry.prefix !== '66';
  if (letter === 'b') size = 8;
  else if (letter === 'w') size = 16;
  else if (letter === 'q') size = 64;
  else if (letter === 'd' || letter === '' || letter === 't' || letter === 'x') size = 32;
  else if (letter === 'y') size = w ? 64 : 32;
  else if (mode === 64) size = entry.stack64 === 'f64' ? 64 : w ? 64 : narrow ? 16 : entry.stack64 === 'd64' ? 64 : 32;
  else size = narrow === (mode === 32) ? 16 : 32;
  d.size = size;
  const rexPresent = rex !== 0;
  const specs = entry.operands;
  d.operandCount = specs.length;
  // ModRM memory operands come before immediates in the byte stream, whatever the order of the operands.
  const hasAddress = entry.hasModrm && modrm < 0xc0 && entry.modrmFirst < 0;
  if (hasAddress) decodeAddress(d, modrm, rexX, rexB, mode);
  for (let i = 0; i < specs.length; i++) {
    const spec = specs[i]!;
    const o = d.operands[i]!;
    const bits = spec.bits < 0 ? size : spec.bits;
    o.bits = bits;
    o.high = 0;
    switch (spec.kind) {
      case 'E':
        if (hasAddress) o.category = 'm';
        else {
          o.category = 'r';
          o.value = registerOffset((modrm & 7) | rexB, bits, rexPresent);
        }
        break;
      case 'G':
        o.category = 'r';
        o.value = registerOffset(((modrm >> 3) & 7) | rexR, bits, rexPresent);
        break;
      case 'R':
        o.category = 'r';
        o.value = registerOffset((modrm & 7) | rexB, bits, rexPresent);
        break;
      case 'Z':
        o.category = 'r';
        o.value = registerOffset((byte & 7) | rexB, bits, rexPresent);
        break;
      case 'A':
        o.category = 'r';
        o.value = ST.gpr;
        break;
      case 'L':
        o.category = 'l';
        break;
      case '1':
        o.category = 'i';
        o.value = 1;
        break;
      case 'M':
        o.category = 'm';
        break;
      case 'O':
        o.category = 'm';
        d.dispHigh = 0;
        if (d.addressSize === 16) d.dispLow = r.u16();
        else {
          d.dispLow = r.i32();
          if (d.addressSize === 64) d.dispHigh = r.i32();
        }
        break;
      case 'I':
        o.category = 'i';
        readImmediate(o, spec.size, size);
        break;
      case 'J':
        o.category = 'j';
        o.value = spec.size === 'b' ? r.i8() : size === 16 ? (r.u16() << 16) >> 16 : r.i32();
        break;
      case 'S':
        o.category = 's';
        o.value = (modrm >> 3) & 7;
        if (o.value > 5 || (o.value === 1 && i === 0)) return 'invalid';
        break;
      case 'C':
      case 'D':
        o.category = 'c';
        o.value = ((modrm >> 3) & 7) | rexR;
        break;
      case 'V':
        o.category = 'x';
        o.value = ST.xmm + (((modrm >> 3) & 7) | rexR) * 16;
        break;
      case 'W':
        if (hasAddress) o.category = 'm';
        else {
          o.category = 'x';
          o.value = ST.xmm + ((modrm & 7) | rexB) * 16;
        }
        break;
      case 'U':
        o.category = 'x';
        o.value = ST.xmm + ((modrm & 7) | rexB) * 16;
        break;
      case 'P':
        o.category = 'p';
        o.value = ST.fpr + ((modrm >> 3) & 7) * 16;
        break;
      case 'Q':
        if (hasAddress) o.category = 'm';
        else {
          o.category = 'p';
          o.value = ST.fpr + (modrm & 7) * 16;
        }
        break;
      case 'N':
        o.category = 'p';
        o.value = ST.fpr + (modrm & 7) * 16;
        break;
      case 'T':
        o.category = 't';
        o.value = modrm & 7;
        break;
    }
  }
  // POP to memory computes an address based on the stack pointer with its new value.
  if (entry.insn.name === 'pop-operand' && d.base === ST.gpr + 4 * 8) {
    d.dispLow = (d.dispLow + size / 8) | 0;
    d.dispHigh = d.dispLow >> 31;
  }
  if (
    d.lock &&
    !(
      entry.insn.lock &&
      specs.length > 0 &&
      (d.operands[0]!.category === 'm' || (entry.insn.name === 'xchg' && d.operands[1]!.category === 'm'))
    )
  )
    return 'invalid';
  return 'ok';
}

function readImmediate(o: Operand, letter: string, size: number): void {
  switch (letter) {
    case 'b':
      o.value = r.u8();
      break;
    case 's':
      o.value = r.i8();
      o.high = o.value >> 31;
      if (size === 16) o.value &= 0xffff;
      break;
    case 'w':
      o.value = r.u16();
      break;
    default:
      if (size === 8) o.value = r.u8();
      else if (size === 16) o.value = r.u16();
      else {
        o.value = r.i32();
        o.high = o.value >> 31;
        if (size === 64 && letter === 'v') o.high = r.i32();
      }
  }
}
