// SPDX-License-Identifier: MIT
// The abstract stage on which instruction descriptions play: the interpreter generator and the translator implement it.

import type { Expr } from '../wasm/expr.ts';
import type { FunctionBuilder } from '../wasm/function.ts';
import type { ExitReason } from '../cpu/exits.ts';
import type { Kernel } from './kernel.ts';
import type { Bounds } from './simd-bounds.ts';

/** Operand sizes in bits. 80 is an x87 extended value in memory, 128 an XMM value. */
export type Size = 8 | 16 | 32 | 64 | 80 | 128;
export type IntSize = 8 | 16 | 32 | 64;
export type Mode = 64 | 32 | 16;

/**
 * What a description may ask for. All values are WebAssembly expressions: i32 for 8, 16 and 32 bits (zero-extended), i64 for 64, v128 for 128.
 * Values that `read*`, `load*` and `let` return are bound: using them twice computes them once.
 *
 * Order within a description: read and check everything that can fault first (operands, memory), then write results, then set flags.
 * A fault before the first write leaves the guest as it was; the interpreter and the translator both rely on it.
 */
export interface Stage {
  readonly f: FunctionBuilder;
  /** Operand size of this instance: that of the 'v', 'z' and 'y' operands; for other instructions that of operand 0. */
  readonly size: IntSize;
  /** Only meaningful in descriptions marked `perMode`: 64, 32 or 16, the mode of the code segment (stack and branch width). */
  readonly mode: Mode;
  /** Only meaningful in descriptions marked `perAddress`: width of offsets of string instructions and of the count of LOOP. */
  readonly addressSize: Mode;
  /** Number of operands. */
  readonly operands: number;

  /** Binds a value to a local. */
  let(value: Expr): Expr;

  /** Operand `i` at its own size. A memory operand is read here (and may fault); for an operand that is also written, writability is checked too. */
  read(i: number): Expr;
  /** Writes operand `i`. A 32-bit general register is zero-extended to 64; an XMM operand of 32 or 64 bits keeps its other bits. */
  write(i: number, value: Expr): void;
  /** True when operand `i` is in memory (register-to-register forms of some SSE moves behave differently). */
  isMemory(i: number): boolean;
  /** The whole XMM register of operand `i` (which must be an XMM register), and writing it whole. */
  readX(i: number): Expr;
  writeX(i: number, value: Expr): void;
  /** The immediate operand `i` as a value of `size` bits (sign-extended by the decoder where the encoding says so). */
  imm(i: number): Expr;
  /** Linear address of memory operand `i` (i64, segment base included, limits checked for plain accesses). */
  address(i: number): Expr;
  /**
   * Linear address `delta` (i64) bytes behind memory operand `i`: the sum wraps to the address size, and limits and rights are checked for the access
   * there. For descriptions marked `perAddress`.
   */
  addressPlus(i: number, delta: Expr, bytes: number, write: boolean): Expr;
  /** It is known that a linear address is a multiple of 16. */
  isAligned(address: Expr): boolean;
  /** Offset part of memory operand `i` (i64): what LEA computes. */
  offset(i: number): Expr;

  /** Implicit general register `n` (0 rax, 1 rcx, 2 rdx, 3 rbx, 4 rsp, 5 rbp, 6 rsi, 7 rdi) at `size` bits. */
  gpr(n: number, size: IntSize): Expr;
  setGpr(n: number, size: IntSize, value: Expr): void;
  /** Implicit XMM register. */
  xmm(n: number): Expr;
  setXmm(n: number, value: Expr): void;

  /** Memory at a linear address (i64). 80-bit accesses are two: 64 and 16. Faults leave the instruction. */
  load(size: 8 | 16 | 32 | 64 | 128, address: Expr): Expr;
  store(size: 8 | 16 | 32 | 64 | 128, address: Expr, value: Expr): void;
  /** Checks that `bytes` bytes at a linear address can be read or written, without doing it: for descriptions that make several accesses. */
  probe(address: Expr, bytes: number, write: boolean): void;
  /**
   * Linear address of `offset` (i64, already wrapped to the address size) in an implicit segment (see layout `Seg`), or in 'source':
   * DS or the segment named by a prefix (descriptions marked `stringSource`). Checks limits outside 64-bit mode.
   */
  linear(seg: number | 'source', offset: Expr, bytes: number, write: boolean): Expr;
  /** Host address (i32) of the byte at a linear address, valid to the end of its 4 KiB page; 0 when the access must go through `load` or `store`. Faults like them. */
  direct(address: Expr, write: boolean): Expr;

  /** Fields of the vCPU state block (offsets: cpu/layout.ts `ST`), by WebAssembly load/store name. Not bound: wrap in `let` when used twice or across a write. */
  get(loadName: string, offset: number): Expr;
  put(storeName: string, offset: number, value: Expr): void;
  /** Host address of the vCPU state block (i32). */
  readonly base: Expr;

  /** Status flags as i32 0 or 1. */
  cf(): Expr;
  zf(): Expr;
  sf(): Expr;
  of(): Expr;
  pf(): Expr;
  af(): Expr;
  /** Condition code 0-15 as in Jcc (o no b ae e ne be a s ns p np l ge le g): i32 0 or 1. */
  condition(cc: number): Expr;
  /** i32, must be 0 or 1. */
  setCf(value: Expr): void;
  /** i32: OF is its bit 31. */
  setOfBit31(value: Expr): void;
  /** i32: AF is its bit 4. */
  setAfBit4(value: Expr): void;
  /** i64: ZF = (value == 0). */
  setZfValue(value: Expr): void;
  /** i64: SF = (value < 0). */
  setSfValue(value: Expr): void;
  /** i32: PF = even parity of its low 8 bits. */
  setPfByte(value: Expr): void;
  /** Binds a value that only flags need; a stage that computes flags later than that may leave it unbound. Its operands must be bound. */
  forFlags(value: Expr): Expr;
  /** Set by a stage that keeps the operands of flags until someone asks: the fewer the better, what follows from others need not be kept. */
  readonly keepsFlagOperands?: boolean;
  /** Set by a stage that has checked CR0 and CR4 beforehand: SSE instructions need not look again. */
  readonly simdReady?: boolean;
  /** MXCSR where a stage keeps it at hand; its sticky flags may lag behind the state block. */
  mxcsr?(): Expr;
  /** i64: all ones when MXCSR is such that ordinary operands need no care (`Control.fast` in simd-float.ts), else 0. */
  fastSse?(): Expr;
  /** What is known of the sizes of floating-point numbers, where a stage keeps that and can leave the instruction to another. */
  bounds?(): Bounds | undefined;
  /** Optional hints that let a stage fuse a comparison with the branch behind it: the flags are those of a - b, or of a logic result. */
  compared?(size: IntSize, a: Expr, b: Expr): void;
  tested?(size: IntSize, result: Expr): void;
  /** RFLAGS image (i32, bits 0-21) and replacing the bits in `mask` (a constant) by those of `value`. */
  flagsImage(): Expr;
  setFlagsImage(value: Expr, mask: number): void;

  /** Address of the next instruction (i64). */
  nextRip(): Expr;
  /** Ends the block: continues at the branch-displacement operand `i`; with a condition (i32), at the next instruction when it is 0. */
  branch(i: number, condition?: Expr): void;
  /** Ends the block: continues at `target` (i64), wrapped to the mode. */
  jump(target: Expr): void;
  /** Raises an exception for this instruction: nothing after it happens. `error` is i32. May be inside `f.if`. */
  fault(vector: number, error?: Expr): void;
  /** Leaves to the caller of `VCpu.run` with rip after the instruction. `arg` is i32. */
  exit(reason: ExitReason, arg?: Expr): void;
  /** Calls the host's part of a rare instruction (see cpu/host-ops.ts); leaves with the exception that it raised, if any. Ends the block when `ends`. */
  host(name: string, ends?: boolean): void;
  /** The time-stamp counter (i64, bound); raises the exception that CR4.TSD asks for. */
  timeStamp(): Expr;
  /** Calls a shared function for its effect, or for its result (bound). */
  call(kernel: Kernel, ...args: Expr[]): void;
  callValue(kernel: Kernel, ...args: Expr[]): Expr;
  /** True when the status flags that this instruction writes are dead; always safe to ignore. */
  readonly flagsDead: boolean;
  /** Raises #GP(0) unless CPL is 0. */
  privileged(): void;
}
