// SPDX-License-Identifier: MIT
// Relates the oracle's forms to the engine's descriptions, through machine code: what the engine decodes, it describes.

import { decode, decoded } from '../../engine/x86/decode.ts';
import { entries } from '../../engine/x86/instructions.ts';
import type { Entry } from '../../engine/x86/encoding.ts';
import type { Mode } from './case.ts';
import { encode } from './encoder.ts';
import type { Operands } from './encoder.ts';
import { FORMS } from './forms/index.ts';
import type { Form } from './forms/form.ts';

/** Descriptions that the native oracle cannot exercise, by name, and why. */
export const NOT_NATIVE: Readonly<Record<string, string>> = {
  syscall: 'enters the host kernel',
  sysenter: 'enters the host kernel',
  int: 'the host kernel answers it',
  int1: 'hypervisors report it before or after the instruction',
  cpuid: 'the engine answers as its own CPU model',
  rdtsc: 'time',
  rdtscp: 'time',
  rdrand: 'random',
  rdseed: 'random',
  rdpmc: 'depends on the host kernel',
  xgetbv: 'the host has XSAVE',
  xsetbv: 'the host has XSAVE',
  iret: 'privileged descriptor tables',
  'ret-far': 'descriptor tables',
  'ret-far-release': 'descriptor tables',
  'jmp-far': 'descriptor tables',
  'call-far': 'descriptor tables',
  'jmp-far-memory': 'descriptor tables',
  'call-far-memory': 'descriptor tables',
  'mov-to-segment': 'descriptor tables',
  'pop-es': 'descriptor tables',
  'pop-ss': 'descriptor tables',
  'pop-ds': 'descriptor tables',
  'pop-fs': 'descriptor tables',
  'pop-gs': 'descriptor tables',
  les: 'descriptor tables',
  lds: 'descriptor tables',
  lss: 'descriptor tables',
  lfs: 'descriptor tables',
  lgs: 'descriptor tables',
  verr: 'descriptor tables',
  verw: 'descriptor tables',
  lar: 'descriptor tables',
  lsl: 'descriptor tables',
  sgdt: 'the host kernel answers it (UMIP)',
  sidt: 'the host kernel answers it (UMIP)',
  sldt: 'the host kernel answers it (UMIP)',
  str: 'the host kernel answers it (UMIP)',
  smsw: 'the host kernel answers it (UMIP)',
  sysret: 'privileged',
  sysexit: 'privileged',
};

/** Machine code of a form in its variants: register and memory operand, each prefix it commonly has. */
function samples(form: Form, size: string, mode: Mode): number[][] {
  const operands = (rm: Operands['rm'], prefixes: number[] = []): Operands => ({
    size,
    reg: 1,
    rm,
    immediates: form.immediates.map(() => 1n),
    prefixes,
    rexNoise: -1,
  });
  const memory = { base: 3, index: -1, scale: 0, disp: 16, wide: false, rip: false } as const;
  const list: number[][] = [];
  if (form.rmMemory) list.push(encode(form, operands(memory), mode, 0));
  if (form.rmRegister || form.plus !== '') list.push(encode(form, operands(1), mode, 0));
  if (list.length === 0) list.push(encode(form, operands(0), mode, 0));
  if (form.traits.has('rep') || form.traits.has('repcc'))
    list.push(encode(form, operands(0, [0xf3]), mode, 0), encode(form, operands(0, [0xf2]), mode, 0));
  return list;
}

/** Sizes a form has in a mode; [''] when it has one. */
export function formSizes(form: Form, mode: Mode): string[] {
  return form.sizes === '' ? [''] : [...form.sizes].filter((s) => mode === 64 || s !== 'q');
}

/** Table entries that the form's code decodes to; empty unless the engine decodes every variant. */
export function describedBy(form: Form, size: string, mode: Mode): Entry[] {
  const found = new Set<Entry>();
  for (const bytes of samples(form, size, mode)) {
    const padded = Uint8Array.from([...bytes, ...new Array<number>(16).fill(0x90)]);
    if (decode(padded, 0, padded.length, mode) !== 'ok' || decoded.length !== bytes.length) return [];
    found.add(decoded.entry);
  }
  return [...found];
}

/** Name of an entry in an operating mode at an operation size, as a boot profile counts it. */
export function profileKey(entry: Entry, size: number, mode: Mode): string {
  return `${entry.insn.name}|${entry.text}|${size}|${mode}`;
}

/** Filter for the generator: forms that the engine describes at all sizes, and those that must fault. */
export function isDescribed(form: Form, mode: Mode): boolean {
  if (form.family === 'privileged') return true;
  return formSizes(form, mode).every((size) => describedBy(form, size, mode).length > 0);
}

/** Descriptions that no form reaches and that are not excused. */
export function undescribedEntries(): Entry[] {
  const reached = new Set<Entry>();
  for (const form of FORMS)
    for (const mode of form.modes)
      for (const size of formSizes(form, mode)) for (const e of describedBy(form, size, mode)) reached.add(e);
  return entries.filter((e) => !reached.has(e) && NOT_NATIVE[e.insn.name] === undefined);
}
