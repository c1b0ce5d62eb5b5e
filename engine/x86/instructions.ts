// SPDX-License-Identifier: MIT
// Every described instruction, and the opcode tables built from their encodings.

import { arithmeticInstructions } from './integer-arithmetic.ts';
import { bitInstructions } from './integer-bits.ts';
import { controlInstructions } from './control.ts';
import { dataInstructions } from './integer-data.ts';
import { parseEncoding, type Entry } from './encoding.ts';
import { legacyInstructions } from './legacy.ts';
import { multiplyInstructions } from './integer-multiply.ts';
import { x87Instructions } from './x87.ts';
import { simdInstructions } from './simd.ts';
import { shiftInstructions } from './integer-shift.ts';
import { stringInstructions } from './string.ts';
import { systemInstructions } from './system.ts';
import type { Instruction } from './types.ts';

export const instructions: readonly Instruction[] = [
  ...arithmeticInstructions,
  ...shiftInstructions,
  ...dataInstructions,
  ...multiplyInstructions,
  ...bitInstructions,
  ...stringInstructions,
  ...controlInstructions,
  ...systemInstructions,
  ...legacyInstructions,
  ...simdInstructions,
  ...x87Instructions,
];

/** All encodings, in order of description. */
export const entries: readonly Entry[] = instructions.flatMap((i) => i.encodings.map((text) => parseEncoding(i, text)));

/** Candidates per map and opcode (`map << 8 | opcode`), those with a mandatory prefix or a fixed ModRM byte first. */
export const opcodeTable: readonly (readonly Entry[])[] = buildTable();

function specificity(e: Entry): number {
  return (e.prefix ? 4 : 0) + (e.modrmFirst >= 0 ? 2 : 0) + (e.plus ? 0 : 1);
}

function buildTable(): Entry[][] {
  const table: Entry[][] = Array.from({ length: 4 * 256 }, () => []);
  for (const e of entries) {
    for (let i = 0; i < (e.plus ? 8 : 1); i++) table[(e.map << 8) | (e.opcode + i)]!.push(e);
  }
  for (const list of table) list.sort((a, b) => specificity(b) - specificity(a));
  return table;
}
