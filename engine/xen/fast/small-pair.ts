// SPDX-License-Identifier: MIT
// For tests: two small machines that are given the same things to do, one with fast paths and one without.

import { buildInterpreter } from '../../cpu/interpreter.ts';
import type { InterpreterCode } from '../../cpu/vcpu.ts';
import { DOMID_SELF } from '../context.ts';
import { Gpr } from '../guest-cpu.ts';
import { buildFastPaths } from './hooks.ts';
import { address, SMALL_OTHER, SmallMachine, SmallTable } from './small-machine.ts';

/** Code page: an instruction every 16 bytes, then a jump to itself, which also stands at every entry point. */
export const CODE = 2;
const STAY = [0xeb, 0xfe];
const instructions = {
  syscall: [0x0f, 0x05],
  load: [0x48, 0x8b, 0x03],
  store: [0x48, 0x89, 0x03],
  store32: [0x89, 0x03],
  storeByte: [0x88, 0x03],
  exchange: [0x48, 0x87, 0x03],
  clearWritable: [0xf0, 0x80, 0x23, 0xfd],
  undefined: [0x0f, 0x0b],
  iretq: [0x48, 0xcf],
  in: [0xec],
  inWide: [0xed],
  inAt: [0xe4, 0x42],
  inWord: [0x66, 0xed],
  out: [0xee],
  outAt: [0xe7, 0x80],
  cli: [0xfa],
  sti: [0xfb],
} as const;
export type InstructionName = keyof typeof instructions;
export const names = Object.keys(instructions) as InstructionName[];
/** Where the instruction of that name stands. */
export const at = (name: InstructionName): bigint => address(CODE, names.indexOf(name) * 16);
const HANDLER = {
  syscall: 0x800,
  event: 0x810,
  pageFault: 0x820,
  invalid: 0x830,
  protection: 0x840,
  nmi: 0x850,
} as const;
/** Entry point of the guest's kernel. */
export const handler = (name: keyof typeof HANDLER): bigint => address(CODE, HANDLER[name]);

/** Where both machines stop: at the jumps to themselves. */
export const stays = new Set<bigint>([
  ...Object.values(HANDLER).map((offset) => address(CODE, offset)),
  ...names.map((name) => at(name) + BigInt(instructions[name].length)),
]);

/** Pages for stacks, frames and lists. */
export const STACK = 6;
export const FRAME = 10;
export const LIST = 12;
const GDT = 14;

/** Hypercall numbers. */
export const CALL = {
  mmuUpdate: 1,
  stackSwitch: 3,
  multicall: 13,
  updateVaMapping: 14,
  iret: 23,
  setSegmentBase: 25,
  mmuext: 26,
};

/** Registers of a hypercall's arguments. */
export const argumentRegisters = [Gpr.rdi, Gpr.rsi, Gpr.rdx, Gpr.r10] as const;

/** The interpreter with fast paths. */
export function fastInterpreter(): InterpreterCode {
  const { bytes, hostOps } = buildInterpreter({ hooks: buildFastPaths });
  return { module: new WebAssembly.Module(bytes), hostOps };
}

export class Pair {
  /** Handles everything outside generated code, and has fast paths. */
  readonly slow: SmallMachine;
  readonly fast: SmallMachine;

  constructor(code: InterpreterCode) {
    this.slow = new SmallMachine(code, false);
    this.fast = new SmallMachine(code, true);
    this.both(prepare);
  }

  both(action: (machine: SmallMachine) => void): void {
    action(this.slow);
    action(this.fast);
  }

  /** What is not the same in both machines, null when everything is. */
  difference(): string | null {
    const [slow, fast] = [this.slow.snapshot(), this.fast.snapshot()];
    for (const [key, expected] of Object.entries(slow)) {
      const got = fast[key];
      if (expected instanceof Uint8Array && got instanceof Uint8Array) {
        const first = firstDifference(expected, got);
        if (first >= 0) return `${key} at 0x${first.toString(16)}: ${got[first]}, expected ${expected[first]}`;
      } else if (JSON.stringify(got) !== JSON.stringify(expected)) {
        return `${key}: ${JSON.stringify(got)}, expected ${JSON.stringify(expected)}`;
      }
    }
    return null;
  }
}

/** Index of the first byte that differs, -1 for none. */
function firstDifference(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return i;
  return -1;
}

function must(result: bigint): void {
  if (result !== 0n) throw new Error(`hypercall failed: ${result}`);
}

function trap(vector: number, entry: bigint, flags: number): [bigint, bigint] {
  return [BigInt(vector | (flags << 8) | (0xe033 << 16)), entry];
}

/** A guest with code, entry points, a GDT and two address spaces. */
function prepare(m: SmallMachine): void {
  for (const name of names) m.writeBytes(CODE, names.indexOf(name) * 16, [...instructions[name], ...STAY]);
  for (const offset of Object.values(HANDLER)) m.writeBytes(CODE, offset, STAY);
  // Pages that differ, so that a stale translation shows.
  for (let pfn = 16; pfn < 24; pfn++) m.mem.u8.fill(pfn, m.host(pfn), m.host(pfn) + 4096);
  m.write(GDT, 6 * 8, 0x00affb000000ffffn, 0x00cff3000000ffffn, 0x00cffb000000ffffn, 0x00affa000000ffffn);
  m.write(GDT, 2 * 8, 0x10cff3345678ffffn);
  // The GDT page must not be mapped writable.
  m.hypercall(CALL.updateVaMapping, address(GDT), m.entry(GDT, 0x25), 0n);
  m.hypercall(CALL.updateVaMapping, SMALL_OTHER + BigInt(GDT * 4096), 0n, 0n);
  m.write(LIST, 0, BigInt(m.mfn(GDT)));
  must(m.hypercall(2, address(LIST), 512n));
  const userL4 = BigInt(m.mfn(SmallTable.userL4));
  m.write(LIST, 0, 3n, BigInt(m.mfn(SmallTable.spareL4)), 0n, 3n, userL4, 0n, 15n, userL4, 0n);
  must(m.hypercall(CALL.mmuext, address(LIST), 3n, 0n, BigInt(DOMID_SELF)));
  m.hypercall(CALL.stackSwitch, 0xe02bn, address(STACK, 0xff0));
  m.write(LIST, 0, ...trap(14, handler('pageFault'), 4), ...trap(6, handler('invalid'), 0));
  m.write(LIST, 32, ...trap(13, handler('protection'), 4), ...trap(2, handler('nmi'), 4), 0n, 0n);
  must(m.hypercall(0, address(LIST)));
  m.hypercall(21, 0n, 2n);
  const { syscallCallback, eventCallback } = m.vcpu;
  Object.assign(eventCallback, { lo: Number(handler('event')), hi: 0, maskEvents: true });
  Object.assign(syscallCallback, { lo: Number(handler('syscall')), hi: 0, maskEvents: true });
}
