// SPDX-License-Identifier: MIT
// How an instruction is described: name, encodings in the notation of the manuals' opcode maps, semantics against a stage.

import type { IntSize, Stage } from './stage.ts';

/**
 * An encoding: opcode bytes and operands, e.g. `'01 Ev,Gv'`, `'0F AF Gv,Ev'`, `'F7/4 Ev'`, `'66 0F 6F Vx,Wx'`, `'F3 0F B8 Gv,Ev'`, `'B8+ Zv,Iv'`.
 *
 * Opcode part: optional mandatory prefix (`NP` none of 66/F3/F2, `66`, `F3`, `F2`), opcode bytes, `/n` = ModRM.reg is n, `+` = low three
 * bits of the opcode select a register; x87: `D8/0` (memory) and `D8C0+` (register forms, ModRM byte given).
 * Further words after the operands: `i64` invalid in 64-bit mode, `o64` valid only there, `d64` operand size defaults to 64 there, `f64` forced to 64,
 * `w0`/`w1` REX.W must be clear/set, `mem`/`reg` only with a memory/register ModRM operand.
 *
 * Operands: kind letter + size.
 * Kinds: E general register or memory (ModRM.rm), G general register (ModRM.reg), Z register in the opcode's low bits, R register only (ModRM.rm), M memory only,
 *   I immediate, J branch displacement, O absolute offset, S segment register, C control register, D debug register,
 *   V XMM (reg), W XMM or memory (rm), U XMM only (rm), P MMX (reg), Q MMX or memory (rm), N MMX only (rm), T x87 stack register ST(i) (low bits of ModRM).
 * Sizes: b 8, w 16, d 32, q 64, t 80, x 128, v 16/32/64 (operand size), z 16/32 (immediates of at most 32 bits, sign-extended), y 32/64, s sign-extended byte (`Ibs`),
 *   n = no access (address only: LEA, prefetch, fxsave). Fixed: AL CL AX DX rAX (operand size), 1.
 * `#b`, `#v`...: no operand, only gives the operand size to instructions with implicit operands.
 */
export type Encoding = string;

/** Status flags by letter: o s z a p c. */
export type FlagLetters = string;

export interface Instruction {
  /** Mnemonic, made unique by a suffix where one mnemonic needs several descriptions. */
  readonly name: string;
  readonly encodings: readonly Encoding[];
  /** The semantics. */
  readonly run: (s: Stage) => void;
  /** Flags always written (or left undefined by the manual) whatever the operands, and flags read. */
  readonly writes?: FlagLetters;
  readonly reads?: FlagLetters;
  /** Flags that may be written or kept (shifts by a count in a register). */
  readonly mayWrite?: FlagLetters;
  /** The operand whose value decides that, masked as shift counts are: when it is a constant, `mayWrite` are written, or for 0 are not. */
  readonly count?: number;
  /**
   * Each flag is set once, outside nested code, to a plain expression over bound values: translated code may put that off until someone asks, or
   * for ever. Those of `hot` instructions are anyway.
   */
  readonly plainFlags?: boolean;
  /** Operands that are read / written: 'r', 'w', 'x' (both), '-' (address only), one letter each. Default: first 'x' and others 'r'. */
  readonly access: string;
  /** The LOCK prefix is allowed with a memory destination. */
  readonly lock?: boolean;
  /** Ends the basic block (control transfer, mode change, exit). */
  readonly ends?: boolean;
  /** Description depends on `stage.mode`. */
  readonly perMode?: boolean;
  /** Description depends on `stage.mode` and `stage.addressSize`. A memory operand is then addressed with `addressPlus`. */
  readonly perAddress?: boolean;
  /** Reads memory at DS (or an override) through `linear('source')`. */
  readonly stringSource?: boolean;
  /** Frequent: lives in the interpreter's main function, memory forms included. Others are functions of their own, called. */
  readonly hot?: boolean;
  /** Memory operands that the description addresses itself (`address`, `probe`, `load`): the operand is not loaded before. */
  readonly ownMemory?: boolean;
  /**
   * What segment checks outside 64-bit mode have to know about the memory operand where its size and `access` do not tell: bytes by operand size
   * (0: not accessed, hence not checked), and whether they are written.
   */
  readonly memory?: { readonly bytes: (size: IntSize) => number; readonly write: boolean };
  /** May raise an exception other than through a memory operand. */
  readonly faults?: boolean;
  /** Undefined flags after it, for the differential tests. */
  readonly undefinedFlags?: FlagLetters;
}

/** Declares an instruction: a thin helper that keeps the tables readable. */
export function insn(
  name: string,
  encodings: Encoding | readonly Encoding[],
  access: string,
  options: Omit<Instruction, 'name' | 'encodings' | 'run' | 'access'>,
  run: (s: Stage) => void,
): Instruction {
  return { name, encodings: typeof encodings === 'string' ? [encodings] : encodings, access, run, ...options };
}
