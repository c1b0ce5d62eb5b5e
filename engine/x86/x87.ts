// SPDX-License-Identifier: MIT
// Every x87 instruction (Intel SDM volume 1, chapter 8).

import type { Instruction } from './types.ts';
import { x87ArithmeticInstructions } from './x87-arithmetic.ts';
import { x87ControlInstructions } from './x87-control.ts';
import { x87DataInstructions } from './x87-data.ts';
import { x87TranscendentalInstructions } from './x87-transcendental.ts';

export const x87Instructions: readonly Instruction[] = [
  ...x87ArithmeticInstructions,
  ...x87DataInstructions,
  ...x87ControlInstructions,
  ...x87TranscendentalInstructions,
];
