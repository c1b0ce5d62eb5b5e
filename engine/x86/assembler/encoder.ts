// SPDX-License-Identifier: MIT
// Turns one instruction form into bytes: prefixes, REX, ModRM, SIB, displacement, immediate (Intel SDM vol. 2, chapter 2).
import {
  AssemblerError,
  type Immediate,
  type Memory,
  type OperandSize,
  type Register,
  type SegmentName,
} from './operands.ts';
import { SectionWriter } from './sections.ts';

const SEGMENT_PREFIX: Record<SegmentName, number> = { es: 0x26, cs: 0x2e, ss: 0x36, ds: 0x3e, fs: 0x64, gs: 0x65 };

/** What `ModRM.rm` may name: a register of any file (by number) or memory. */
export type RegisterOrMemory = Register | Memory | { readonly kind: 'xmm'; readonly code: number };

/** One instruction, before it is bytes. */
export interface InstructionForm {
  readonly opcode: readonly number[];
  /** 66, F2 or F3 when it is part of the opcode (SSE). It precedes REX. */
  readonly mandatoryPrefix?: number | undefined;
  /** Operand width: 2 emits 66, 8 sets REX.W. Leave out where the width is fixed by the opcode. */
  readonly size?: OperandSize | undefined;
  /** ModRM.reg: a register or an opcode extension. */
  readonly reg?: Register | { readonly code: number } | number | undefined;
  readonly rm?: RegisterOrMemory | undefined;
  readonly immediate?: { readonly value: Immediate; readonly size: number } | undefined;
}

export type BitMode = 64 | 32;

/** Emits instruction forms into the current section. */
export class Encoder extends SectionWriter {
  readonly bits: BitMode;

  constructor(bits: BitMode = 64) {
    super();
    this.bits = bits;
  }

  protected encode(form: InstructionForm): this {
    const { rm, reg } = form;
    const regCode = typeof reg === 'number' ? reg : (reg?.code ?? 0);
    const memory = rm?.kind === 'mem' ? rm : undefined;
    if (memory?.seg !== undefined) this.byte(SEGMENT_PREFIX[memory.seg]);
    if (memory !== undefined) this.#addressSizePrefix(memory);
    if (form.size === 2) this.byte(0x66);
    if (form.mandatoryPrefix !== undefined) this.byte(form.mandatoryPrefix);
    this.#rex(form, regCode);
    this.bytes(form.opcode);
    const displacement = rm === undefined ? undefined : this.#modrm(regCode & 7, rm);
    if (form.immediate !== undefined) this.littleEndian(form.immediate.value, form.immediate.size);
    if (displacement !== undefined) this.rebase(displacement);
    return this;
  }

  /** An instruction that carries its register in the low three bits of its last opcode byte. */
  protected encodeInOpcode(
    opcode: readonly number[],
    register: Register,
    size: OperandSize | undefined,
    immediate?: { value: Immediate; size: number },
  ): this {
    if (size === 2) this.byte(0x66);
    this.#rex({ opcode, size, rm: register }, 0);
    this.bytes(opcode.slice(0, -1));
    this.byte((opcode.at(-1) ?? 0) + (register.code & 7));
    if (immediate !== undefined) this.littleEndian(immediate.value, immediate.size);
    return this;
  }

  #addressSizePrefix(memory: Memory): void {
    const width = (memory.base ?? memory.index)?.size;
    if (width === undefined || width * 8 === this.bits) return;
    if (width !== 4 || this.bits !== 64) throw new AssemblerError('address registers have the wrong width');
    this.byte(0x67);
  }

  #rex(form: InstructionForm, regCode: number): void {
    const { rm, reg } = form;
    const baseCode = rm === undefined ? 0 : rm.kind === 'mem' ? (rm.base?.code ?? 0) : rm.code;
    const indexCode = rm?.kind === 'mem' ? (rm.index?.code ?? 0) : 0;
    let rex = (form.size === 8 ? 8 : 0) | (regCode > 7 ? 4 : 0) | (indexCode > 7 ? 2 : 0) | (baseCode > 7 ? 1 : 0);
    const registers = [reg, rm].filter(isByteRegister);
    // SPL, BPL, SIL, DIL share their numbers with AH..BH and are told apart by the mere presence of REX.
    if (registers.some((register) => !register.high && register.code >= 4)) rex |= 0x40;
    if (rex === 0) return;
    if (this.bits === 32) throw new AssemblerError('this register or width does not exist in 32-bit code');
    if (registers.some((register) => register.high)) throw new AssemblerError('AH..BH cannot be used with REX');
    this.byte(0x40 | rex);
  }

  /** Emits ModRM and what belongs to it; returns the fixup of a RIP-relative displacement. */
  #modrm(reg: number, rm: RegisterOrMemory): ReturnType<SectionWriter['fixup']> | undefined {
    if (rm.kind !== 'mem') {
      this.byte(0xc0 | (reg << 3) | (rm.code & 7));
      return undefined;
    }
    const { base, index, disp, label } = rm;
    if (base === undefined && index === undefined) {
      if (this.bits === 64 && label === undefined) {
        this.bytes([(reg << 3) | 4, 0x25]);
      } else {
        this.byte((reg << 3) | 5);
      }
      if (label === undefined) {
        this.littleEndian(disp, 4);
        return undefined;
      }
      if (this.bits === 64) return this.fixup('rel32', label, disp);
      this.fixup('abs32', label, disp);
      return undefined;
    }
    const mode = displacementMode(rm);
    const needsSib = index !== undefined || base === undefined || (base.code & 7) === 4;
    this.byte((mode << 6) | (reg << 3) | (needsSib ? 4 : (base?.code ?? 0) & 7));
    if (needsSib) {
      const scale = Math.log2(rm.scale);
      this.byte((scale << 6) | (((index?.code ?? 4) & 7) << 3) | ((base?.code ?? 5) & 7));
    }
    if (label !== undefined) this.fixup('abs32', label, disp);
    else if (mode === 1) this.littleEndian(disp, 1);
    else if (mode === 2 || base === undefined) this.littleEndian(disp, 4);
    return undefined;
  }
}

/** ModRM.mod for a reference with a base or an index: 0 no displacement, 1 eight bits, 2 thirty-two bits. */
function displacementMode({ base, disp, label }: Memory): number {
  if (base === undefined) return 0;
  if (label !== undefined) return 2;
  if (disp === 0 && (base.code & 7) !== 5) return 0;
  return fitsSigned(disp, 8) ? 1 : 2;
}

function isByteRegister(operand: InstructionForm['reg'] | InstructionForm['rm']): operand is Register {
  return (
    typeof operand === 'object' &&
    'size' in operand &&
    'kind' in operand &&
    operand.kind === 'reg' &&
    operand.size === 1
  );
}

/** Whether `value` survives sign extension from `bits`. */
export function fitsSigned(value: Immediate, bits: number): boolean {
  const wide = BigInt(value);
  return BigInt.asIntN(bits, wide) === wide;
}

/** The width two operands agree on; throws AssemblerError when they contradict each other or neither says it. */
export function commonSize(a: Register | Memory, b?: Register | Memory): OperandSize {
  const first = a.size ?? b?.size;
  const second = b?.size ?? first;
  if (first === undefined) throw new AssemblerError('operand size unknown: give mem a size');
  if (first !== second) throw new AssemblerError('operands have different sizes');
  return first;
}
