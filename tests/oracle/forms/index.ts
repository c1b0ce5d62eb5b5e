// SPDX-License-Identifier: MIT
// Every instruction form that the oracle generates.

import { BRANCHES, FAULTING, STACK, STRINGS } from './control.ts';
import { ARITHMETIC, BITS, CONDITIONALS, MOVES, SHIFTS, UNARY } from './integer.ts';
import { MMX } from './mmx.ts';
import { SSE4, SSE_FLOAT, SSE_INTEGER } from './sse.ts';
import { FP_STATE, X87 } from './x87.ts';
import type { Form } from './form.ts';

export const FORMS: readonly Form[] = [
  ...ARITHMETIC,
  ...SHIFTS,
  ...UNARY,
  ...BITS,
  ...MOVES,
  ...CONDITIONALS,
  ...STRINGS,
  ...BRANCHES,
  ...STACK,
  ...FAULTING,
  ...X87,
  ...FP_STATE,
  ...MMX,
  ...SSE_FLOAT,
  ...SSE_INTEGER,
  ...SSE4,
];
