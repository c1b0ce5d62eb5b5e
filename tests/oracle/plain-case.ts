// SPDX-License-Identifier: MIT
// Cases written by hand, for the tests of the harness and of the comparison.
import { DATA_BASE } from './case.ts';
import type { Case, Mode } from './case.ts';

/** The stack pointer of such cases: in the first data page. */
export const RSP = BigInt(DATA_BASE + 0x800);

/** A case of code (hex) with these registers by number, the stack pointer in the first data page, and everything else as it is after a reset. */
export function makeCase(
  hex: string,
  registers: Partial<Record<number, bigint>> = {},
  more: Partial<Case> = {},
  mode: Mode = 64,
): Case {
  const gpr = new BigUint64Array(16);
  gpr[4] = RSP;
  for (const [n, v] of Object.entries(registers)) gpr[Number(n)] = v as bigint;
  const fx = new Uint8Array(512);
  fx.set([0x7f, 0x03]);
  fx.set([0x80, 0x1f], 24);
  return {
    mode,
    code: Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex')),
    codeOffset: 0x100,
    gpr,
    rflags: 0x202,
    fx,
    patches: [],
    steps: [],
    ignoredMemory: [],
    ...more,
  };
}
