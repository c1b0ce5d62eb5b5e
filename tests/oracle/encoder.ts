// SPDX-License-Identifier: MIT
// Turns a form and its operands into machine code (SDM vol. 2, chapter 2: prefixes, REX, ModRM, SIB, displacement, immediate).

import type { Mode } from './case.ts';
import type { Form } from './forms/form.ts';

/** A memory operand. -1 = no base / no index. `rip`: the displacement is relative to the end of the instruction. */
export interface MemoryOperand {
  base: number;
  index: number;
  scale: 0 | 1 | 2 | 3;
  /** Displacement; for `rip` the absolute target, from which the encoder makes it. */
  disp: number;
  /** Forces a displacement of four bytes where a shorter one would do. */
  wide: boolean;
  rip: boolean;
  /** 16-bit addressing (SDM vol. 2, table 2-1): ModRM.rm, with which mod 0 and rm 6 means a displacement alone. Base and index are unused. */
  word?: number;
}

export interface Operands {
  /** b w d q n, or '' for forms of one size. n is the mode's own stack width. */
  size: string;
  /** ModRM.reg when the form has /r. */
  reg: number;
  /** A register number for ModRM.rm, the opcode's low bits or ST(i); or memory. */
  rm: number | MemoryOperand;
  immediates: bigint[];
  /** Legacy prefixes beyond those the form needs: F0 F2 F3, segment overrides, 67. */
  prefixes: number[];
  /** REX bits that change nothing (an empty REX, W where it is ignored). -1 = none. */
  rexNoise: number;
}

/** Bytes of an immediate token at an operand size; `addressPrefix`: the instruction has prefix 67. */
export function immediateBytes(token: string, size: string, mode: Mode, addressPrefix: boolean): number {
  switch (token) {
    case 'ib':
    case 'rel8':
      return 1;
    case 'iw':
      return 2;
    case 'id':
    case 'relz':
      return 4;
    case 'iz':
      return size === 'w' ? 2 : 4;
    case 'iv':
      return size === 'w' ? 2 : size === 'd' ? 4 : 8;
    case 'moffs':
      return mode === 64 ? (addressPrefix ? 4 : 8) : addressPrefix ? 2 : 4;
    default:
      throw new Error(`unknown immediate ${token}`);
  }
}

/** Machine code of one instruction. `address` is where it will lie; only rip-relative operands depend on it. */
export function encode(form: Form, o: Operands, mode: Mode, address: number): number[] {
  const bytes: number[] = [];
  let rex = o.rexNoise >= 0 ? 0x40 | o.rexNoise : 0;
  if (o.size === 'q') rex |= 0x48;
  if (form.regClass !== 'none' && o.reg > 7) rex |= 0x44;
  const memory = typeof o.rm === 'number' ? null : o.rm;
  const register = typeof o.rm === 'number' ? o.rm : 0;
  if (memory) {
    if (memory.base > 7) rex |= 0x41;
    if (memory.index > 7) rex |= 0x42;
  } else if ((form.modrm >= 0 || form.plus === 'r') && register > 7) rex |= 0x41;
  if (mode === 32 && rex !== 0) throw new Error(`${form.key}: REX in 32-bit mode`);

  bytes.push(...o.prefixes);
  if (o.size === 'w') bytes.push(0x66);
  if (form.mandatory) bytes.push(form.mandatory);
  if (rex) bytes.push(rex);
  bytes.push(...form.opcode);
  if (form.plus) bytes[bytes.length - 1] += register & 7;

  let ripAt = -1;
  if (form.modrm >= 0) {
    const reg = (form.modrm === 8 ? o.reg & 7 : form.modrm) << 3;
    if (!memory) bytes.push(0xc0 | reg | (register & 7));
    else if (memory.rip) {
      bytes.push(0x05 | reg);
      ripAt = bytes.length;
      bytes.push(0, 0, 0, 0);
    } else if (memory.word !== undefined) pushMemory16(bytes, reg, memory.word, memory);
    else pushMemory(bytes, reg, memory, mode);
  }
  for (let i = 0; i < form.immediates.length; i++) {
    const n = immediateBytes(form.immediates[i], o.size, mode, o.prefixes.includes(0x67));
    pushInteger(bytes, o.immediates[i], n);
  }
  if (memory && ripAt >= 0) {
    const disp = memory.disp - (address + bytes.length);
    for (let i = 0; i < 4; i++) bytes[ripAt + i] = (disp >> (8 * i)) & 0xff;
  }
  return bytes;
}

function pushMemory(bytes: number[], reg: number, m: MemoryOperand, mode: Mode): void {
  if (m.base < 0) {
    // 64-bit mode: absolute addresses need a SIB byte; without one the encoding means rip-relative.
    if (m.index < 0 && mode === 32) bytes.push(0x05 | reg);
    else bytes.push(0x04 | reg, (m.scale << 6) | ((m.index < 0 ? 4 : m.index & 7) << 3) | 5);
    pushDisplacement(bytes, m.disp, 4);
    return;
  }
  const short = m.disp >= -128 && m.disp <= 127;
  const none = m.disp === 0 && (m.base & 7) !== 5;
  const dispBytes = m.wide ? 4 : none ? 0 : short ? 1 : 4;
  const mod = dispBytes === 0 ? 0 : dispBytes === 1 ? 0x40 : 0x80;
  if (m.index >= 0 || (m.base & 7) === 4) {
    bytes.push(mod | reg | 4, (m.scale << 6) | ((m.index < 0 ? 4 : m.index & 7) << 3) | (m.base & 7));
  } else bytes.push(mod | reg | (m.base & 7));
  pushDisplacement(bytes, m.disp, dispBytes);
}

function pushMemory16(bytes: number[], reg: number, rm: number, m: MemoryOperand): void {
  const dispBytes = m.wide ? 2 : m.disp === 0 && rm !== 6 ? 0 : m.disp >= -128 && m.disp <= 127 ? 1 : 2;
  bytes.push((dispBytes << 6) | reg | rm);
  pushDisplacement(bytes, m.disp, dispBytes);
}

function pushDisplacement(bytes: number[], disp: number, count: number): void {
  for (let i = 0; i < count; i++) bytes.push((disp >> (8 * i)) & 0xff);
}

function pushInteger(bytes: number[], value: bigint, count: number): void {
  let v = BigInt.asUintN(64, value);
  for (let i = 0; i < count; i++) {
    bytes.push(Number(v & 0xffn));
    v >>= 8n;
  }
}

/** Address of a memory operand as the CPU computes it, for known register values. Unsigned, wrapped to the address size. */
export function effectiveAddress(m: MemoryOperand, gpr: BigUint64Array | bigint[], bits: 64 | 32): bigint {
  let a = BigInt(m.disp);
  if (!m.rip && m.base >= 0) a += gpr[m.base];
  if (!m.rip && m.index >= 0) a += gpr[m.index] << BigInt(m.scale);
  return BigInt.asUintN(bits, a);
}
