// SPDX-License-Identifier: MIT
// What every x87 instruction checks first: availability and pending exceptions (Intel SDM volume 1, section 8.7, volume 3, table 14-1).

import { ST } from '../cpu/layout.ts';
import { and, eq, i32, or, select, xor } from '../wasm/expr.ts';
import type { Stage } from './stage.ts';

const Cr0 = { mp: 2, em: 4, ts: 8 } as const;
export const deviceNotAvailable = 7;
export const floatingPointError = 16;
/** ES of the status word: an unmasked exception is pending. */
const errorSummary = 0x80;

/** #NM when CR0.EM or CR0.TS is set; for waiting instructions #MF when an unmasked exception is pending (CR0.NE is taken as set). */
export function x87Check(s: Stage, waiting = true): void {
  const absent = s.let(and(s.get('i32.load', ST.cr0), i32(Cr0.em | Cr0.ts)));
  if (!waiting) {
    s.f.if(absent, () => s.fault(deviceNotAvailable));
    return;
  }
  s.f.if(or(absent, and(s.get('i32.load', ST.fsw), i32(errorSummary))), () => {
    s.f.if(absent, () => s.fault(deviceNotAvailable));
    s.fault(floatingPointError);
  });
}

/** FWAIT: #NM only when both CR0.MP and CR0.TS are set, then like any waiting instruction. */
export function waitCheck(s: Stage): void {
  const both = i32(Cr0.mp | Cr0.ts);
  s.f.if(eq(and(s.get('i32.load', ST.cr0), both), both), () => s.fault(deviceNotAvailable));
  s.f.if(and(s.get('i32.load', ST.fsw), i32(errorSummary)), () => s.fault(floatingPointError));
}

/** Sets ES and B to whether the control word leaves an exception flag of the status word unmasked. */
export function updateSummary(s: Stage): void {
  const status = s.let(s.get('i32.load', ST.fsw));
  const unmasked = and(and(status, xor(s.get('i32.load', ST.fcw), i32(-1))), i32(0x3f));
  s.put('i32.store', ST.fsw, or(and(status, i32(~0x8080)), select(unmasked, i32(0x8080), i32(0))));
}
