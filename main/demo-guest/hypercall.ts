// SPDX-License-Identifier: MIT
// Emits hypercalls: number in rax, arguments in rdi, rsi, rdx, r10, r8; rcx and r11 are lost (Xen PV ABI, 64-bit).
import type { Assembler } from '../../engine/x86/assembler/assembler.ts';
import {
  AssemblerError,
  mem,
  r10,
  r8,
  rax,
  rdi,
  rdx,
  rsi,
  type Immediate,
  type LabelAddress,
  type Memory,
  type Register,
} from '../../engine/x86/assembler/operands.ts';
import { HYPERCALL, type HypercallName } from './xen-abi.ts';

/** A number, a register, the content of memory, or the address of a label. */
export type HypercallArgument = Immediate | Register | Memory | LabelAddress;

const ARGUMENT_REGISTERS = [rdi, rsi, rdx, r10, r8] as const;

/** Loads `argument` into `register`. */
function load(asm: Assembler, register: Register, argument: HypercallArgument): void {
  if (typeof argument === 'object' && argument.kind === 'address') {
    asm.lea(register, mem({ label: argument.label, disp: argument.addend }));
  } else if (typeof argument !== 'object' || argument.kind !== 'reg' || argument.code !== register.code) {
    asm.mov(register, argument);
  }
}

/**
 * Emits hypercall `name` (or a number). Arguments are loaded in order, so a register argument must not have been
 * overwritten by an earlier one: that is refused.
 */
export function emitHypercall(
  asm: Assembler,
  name: HypercallName | number,
  ...args: readonly HypercallArgument[]
): void {
  const overwritten = new Set<number>();
  for (const [i, argument] of args.entries()) {
    const register = ARGUMENT_REGISTERS[i];
    if (register === undefined) throw new AssemblerError('a hypercall has at most five arguments');
    if (readsOverwritten(argument, overwritten)) {
      throw new AssemblerError(`argument ${i.toString()} reads a register that an earlier argument replaced`);
    }
    load(asm, register, argument);
    overwritten.add(register.code);
  }
  asm.mov(rax, typeof name === 'number' ? name : HYPERCALL[name]);
  asm.syscall();
}

function readsOverwritten(argument: HypercallArgument, overwritten: ReadonlySet<number>): boolean {
  if (typeof argument !== 'object' || argument.kind === 'address') return false;
  const registers = argument.kind === 'reg' ? [argument] : [argument.base, argument.index];
  return registers.some((register) => register !== undefined && overwritten.has(register.code));
}
