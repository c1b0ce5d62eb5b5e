// SPDX-License-Identifier: MIT
// What processors of different makers do differently where the architecture leaves it open: a case may end as on any of them.
//
// The engine follows AMD's. Intel's:
// - leave memory alone when an x87 store raises an unmasked exception, so that no page fault and no limit is met;
// - read two bytes, not four, for MOVSXD with a 16-bit destination, and the upper limit for BOUND only once the lower one holds (SDM vol. 2);
// - meet a page fault at operands that lie across 4 GiB, where AMD's say #GP or #SS for the limit (SDM vol. 3, limit checking: up to the model);
// - read the operand at ES:(E)DI first for CMPS, so that it is the one told of when both fault;
// - write two bytes of four for PUSH of a segment register (SDM vol. 2);
// - leave the return address below the stack pointer when a call's target is not canonical;
// - go on with the new instruction when a repeated one overwrites itself;
// - write the first page of a ten-byte x87 operand that lies across two before the second one faults.

import { CODE_BASE, STATUS } from './case.ts';
import type { Case, Result, Step } from './case.ts';
import { FORMS } from './forms/index.ts';

const FORM_BYTES: ReadonlyMap<string, number> = new Map(FORMS.map((f) => [f.key, f.memoryBytes]));

const X87_STORE = /^(fi?stp?|fisttp|fbstp) /;
const SEGMENT_PUSH = /^push (06|0E|16|1E|0F A[08])$/;
const X87_MASKS = 0x3f;
const BOUND_EXCEEDED = 5;
const STACK_FAULT = 12;
const GENERAL_PROTECTION = 13;
const PAGE_FAULT = 14;

/** The instruction at which a case ended with an exception. */
export function stepAt(c: Case, result: Result): Step | undefined {
  const offset = Number(result.rip) - CODE_BASE - c.codeOffset;
  return result.status === STATUS.exception ? c.steps.find((s) => s.offset === offset) : undefined;
}

/** Bytes of a form's memory operand; 0 when the operand size says. */
export const memoryBytesOf = (step: Step | undefined): number => FORM_BYTES.get(step?.form ?? '') ?? 0;

/** #SS, #GP or #PF: what an access to memory can end with. */
const isMemoryFault = ({ status, vector }: Result): boolean =>
  status === STATUS.exception && vector >= STACK_FAULT && vector <= PAGE_FAULT;

/** A string instruction has a prefix that repeats it. */
export function isRepeated(c: Case, { offset }: Step): boolean {
  const bytes = c.code.subarray(offset);
  const opcode = bytes.findIndex((byte) => (byte & 0xf0) === 0xa0);
  return bytes.subarray(0, opcode).some((byte) => byte === 0xf2 || byte === 0xf3);
}

/** A repeated string instruction has changed its own bytes. */
export function overwritesItself(c: Case, native: Result): boolean {
  return c.steps.some((s, i) => {
    if (!/^(movs|stos) /.test(s.form) || !isRepeated(c, s)) return false;
    const end = c.steps[i + 1]?.offset ?? c.code.length;
    const base = CODE_BASE + c.codeOffset;
    return [...native.changes.keys()].some((word) => word < base + end && word + 8 > base + s.offset);
  });
}

/** The engine met a fault in memory which a processor need not access there, and the native side went on or met another. */
export function accessesMore(c: Case, native: Result, engine: Result): boolean {
  if (!isMemoryFault(engine)) return false;
  const step = stepAt(c, engine);
  const form = step?.form ?? '';
  if (native.status === engine.status && native.rip === engine.rip)
    return native.vector === BOUND_EXCEEDED && form.startsWith('bound ');
  const masks = new DataView(engine.fx.buffer, engine.fx.byteOffset).getUint16(0, true) & X87_MASKS;
  if (X87_STORE.test(form)) return masks !== X87_MASKS;
  return (form === 'movsxd 63 /r' && step?.size === 'w') || (c.mode === 32 && SEGMENT_PUSH.test(form));
}

/** Both sides met a fault in memory at the same instruction, and which one it is says nothing. */
export function anyFaultWill(c: Case, native: Result, engine: Result): boolean {
  if (!isMemoryFault(native) || !isMemoryFault(engine) || native.rip !== engine.rip) return false;
  const step = stepAt(c, native);
  if (step?.form.startsWith('cmps ')) return true;
  const last = native.cr2 + BigInt(Math.max(memoryBytesOf(step), 8));
  return c.mode === 32 && native.vector === PAGE_FAULT && engine.vector !== PAGE_FAULT && last > 1n << 32n;
}

/** Memory whose contents say nothing where the case ended: [address, bytes]. */
export function openMemory(c: Case, native: Result): [address: number, bytes: number][] {
  const stack = Number(BigInt.asUintN(32, native.gpr[4]));
  const step = stepAt(c, native);
  const bytes = memoryBytesOf(step);
  const open: [number, number][] = [];
  if (c.mode === 32 && SEGMENT_PUSH.test(c.steps.at(-1)?.form ?? '')) open.push([stack + 2, 2]);
  if (c.mode === 64 && native.vector === GENERAL_PROTECTION && step?.form.startsWith('call '))
    open.push([stack - 8, 8]);
  if (native.vector === PAGE_FAULT && bytes === 10) open.push([Number(BigInt.asUintN(32, native.cr2)) - bytes, bytes]);
  return open;
}
