// SPDX-License-Identifier: MIT
// Operands of the x86 assembler: registers, memory references, label addresses (Intel SDM vol. 2, chapter 2).

/** Operand width in bytes. */
export type OperandSize = 1 | 2 | 4 | 8;

/** A general-purpose register. `code` is its number 0-15; `high` marks AH, CH, DH, BH (whose code is then 4-7). */
export interface Register {
  readonly kind: 'reg';
  readonly name: string;
  readonly code: number;
  readonly size: OperandSize;
  readonly high: boolean;
}

export interface XmmRegister {
  readonly kind: 'xmm';
  readonly code: number;
}

/** A segment register with its number as used in ModRM.reg of MOV Sreg. */
export interface SegmentRegister {
  readonly kind: 'sreg';
  readonly name: SegmentName;
  readonly code: number;
}

export type SegmentName = 'es' | 'cs' | 'ss' | 'ds' | 'fs' | 'gs';

export interface ControlRegister {
  readonly kind: 'cr';
  readonly code: number;
}

export interface DebugRegister {
  readonly kind: 'dr';
  readonly code: number;
}

/**
 * A memory reference. With `label` and neither base nor index it is RIP-relative in 64-bit code and absolute in
 * 32-bit code; with `label` and a register the label's address becomes a signed 32-bit displacement.
 */
export interface Memory {
  readonly kind: 'mem';
  readonly base?: Register | undefined;
  readonly index?: Register | undefined;
  readonly scale: 1 | 2 | 4 | 8;
  readonly disp: number;
  readonly label?: string | undefined;
  readonly seg?: SegmentName | undefined;
  readonly size?: OperandSize | undefined;
}

/** The address of a label as an immediate or as data: `addend` bytes are added. */
export interface LabelAddress {
  readonly kind: 'address';
  readonly label: string;
  readonly addend: number;
}

export type Immediate = number | bigint;

export interface MemoryOptions {
  base?: Register;
  index?: Register;
  scale?: 1 | 2 | 4 | 8;
  /** Signed 32-bit displacement in bytes. */
  disp?: number;
  label?: string;
  seg?: SegmentName;
  /** Needed only where no register operand says it, e.g. `inc`. */
  size?: OperandSize;
}

/** A mistake in assembly source: an operand combination that has no encoding, an undefined label, a value out of range. */
export class AssemblerError extends Error {
  override readonly name = 'AssemblerError';
}

/** Describes a memory operand. Throws AssemblerError for an index register that cannot be encoded (rsp). */
export function mem(options: MemoryOptions): Memory {
  if (options.index !== undefined && options.index.code === 4) {
    throw new AssemblerError('rsp cannot be an index register');
  }
  return {
    kind: 'mem',
    base: options.base,
    index: options.index,
    scale: options.scale ?? 1,
    disp: options.disp ?? 0,
    label: options.label,
    seg: options.seg,
    size: options.size,
  };
}

/** The link-time address of `label` plus `addend`, for MOV, PUSH and data directives. */
export function addressOf(label: string, addend = 0): LabelAddress {
  return { kind: 'address', label, addend };
}

function register(name: string, code: number, size: OperandSize, high = false): Register {
  return { kind: 'reg', name, code, size, high };
}

export const rax = register('rax', 0, 8);
export const rcx = register('rcx', 1, 8);
export const rdx = register('rdx', 2, 8);
export const rbx = register('rbx', 3, 8);
export const rsp = register('rsp', 4, 8);
export const rbp = register('rbp', 5, 8);
export const rsi = register('rsi', 6, 8);
export const rdi = register('rdi', 7, 8);
export const r8 = register('r8', 8, 8);
export const r9 = register('r9', 9, 8);
export const r10 = register('r10', 10, 8);
export const r11 = register('r11', 11, 8);
export const r12 = register('r12', 12, 8);
export const r13 = register('r13', 13, 8);
export const r14 = register('r14', 14, 8);
export const r15 = register('r15', 15, 8);

export const eax = register('eax', 0, 4);
export const ecx = register('ecx', 1, 4);
export const edx = register('edx', 2, 4);
export const ebx = register('ebx', 3, 4);
export const esp = register('esp', 4, 4);
export const ebp = register('ebp', 5, 4);
export const esi = register('esi', 6, 4);
export const edi = register('edi', 7, 4);
export const r8d = register('r8d', 8, 4);
export const r9d = register('r9d', 9, 4);
export const r10d = register('r10d', 10, 4);
export const r11d = register('r11d', 11, 4);
export const r12d = register('r12d', 12, 4);
export const r13d = register('r13d', 13, 4);
export const r14d = register('r14d', 14, 4);
export const r15d = register('r15d', 15, 4);

export const ax = register('ax', 0, 2);
export const cx = register('cx', 1, 2);
export const dx = register('dx', 2, 2);
export const bx = register('bx', 3, 2);
export const sp = register('sp', 4, 2);
export const bp = register('bp', 5, 2);
export const si = register('si', 6, 2);
export const di = register('di', 7, 2);
export const r8w = register('r8w', 8, 2);
export const r15w = register('r15w', 15, 2);

export const al = register('al', 0, 1);
export const cl = register('cl', 1, 1);
export const dl = register('dl', 2, 1);
export const bl = register('bl', 3, 1);
export const spl = register('spl', 4, 1);
export const bpl = register('bpl', 5, 1);
export const sil = register('sil', 6, 1);
export const dil = register('dil', 7, 1);
export const r8b = register('r8b', 8, 1);
export const r9b = register('r9b', 9, 1);
export const r10b = register('r10b', 10, 1);
export const r15b = register('r15b', 15, 1);
export const ah = register('ah', 4, 1, true);
export const ch = register('ch', 5, 1, true);
export const dh = register('dh', 6, 1, true);
export const bh = register('bh', 7, 1, true);

/** XMM register number `code` (0-15). */
export function xmm(code: number): XmmRegister {
  return { kind: 'xmm', code };
}

function segment(name: SegmentName, code: number): SegmentRegister {
  return { kind: 'sreg', name, code };
}

export const es = segment('es', 0);
export const cs = segment('cs', 1);
export const ss = segment('ss', 2);
export const ds = segment('ds', 3);
export const fs = segment('fs', 4);
export const gs = segment('gs', 5);

/** Control register `code` (0, 2, 3, 4, 8). */
export function cr(code: number): ControlRegister {
  return { kind: 'cr', code };
}

/** Debug register `code` (0-7). */
export function dr(code: number): DebugRegister {
  return { kind: 'dr', code };
}
