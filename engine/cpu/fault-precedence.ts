// SPDX-License-Identifier: MIT
// Exceptions that come before a segment fault: the checks for the x87 unit and the SIMD registers (Intel SDM volume 3, table 7-2).

import type { Decoded } from '../x86/decode.ts';

const Cr0 = { em: 4, ts: 8 } as const;
const Vector = { invalidOpcode: 6, noDevice: 7, floatingPoint: 16 } as const;
/** ES of the x87 status word: an unmasked exception is pending. */
const errorSummary = 0x80;
/** 0F AE: FXSAVE, FXRSTOR, LDMXCSR and STMXCSR are the memory forms that use the state (/0 to /3). */
const stateOpcode = 0xae;

/** Vector of the exception that an instruction raises before its memory operand is looked at; 0 = none. */
export function unitException(d: Decoded, cr0: number, statusWord: number): number {
  const { map, opcode, reg, insn } = d.entry;
  const isX87 = map === 0 && opcode >= 0xd8 && opcode <= 0xdf;
  const operands = d.operands.slice(0, d.operandCount);
  const isMmx = operands.some((o) => o.category === 'p');
  const isSse = operands.some((o) => o.category === 'x') || (map === 1 && opcode === stateOpcode && reg < 4);
  if (!isX87 && !isMmx && !isSse) return 0;
  if ((cr0 & Cr0.em) !== 0) return isX87 ? Vector.noDevice : Vector.invalidOpcode;
  if ((cr0 & Cr0.ts) !== 0) return Vector.noDevice;
  // FNSTSW, FNSAVE and their kin do not wait.
  const waits = isMmx || (isX87 && !insn.name.startsWith('fn'));
  return waits && (statusWord & errorSummary) !== 0 ? Vector.floatingPoint : 0;
}
