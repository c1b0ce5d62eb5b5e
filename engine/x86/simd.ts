// SPDX-License-Identifier: MIT
// All MMX and SSE instructions up to SSE4.2, the x86-64-v2 level (x86-64 psABI, section 3.1.1), but for CMPXCHG16B and POPCNT.

import { conversionInstructions } from './simd-convert.ts';
import { floatInstructions } from './simd-arithmetic.ts';
import { moveInstructions } from './simd-moves.ts';
import { packedIntegerInstructions } from './simd-integer.ts';
import { shuffleInstructions } from './simd-shuffle.ts';
import { stateInstructions } from './simd-state.ts';
import { stringInstructions } from './simd-string.ts';
import type { Instruction } from './types.ts';

export const simdInstructions: readonly Instruction[] = [
  ...moveInstructions,
  ...packedIntegerInstructions,
  ...shuffleInstructions,
  ...floatInstructions,
  ...conversionInstructions,
  ...stringInstructions,
  ...stateInstructions,
];
