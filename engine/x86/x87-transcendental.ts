// SPDX-License-Identifier: MIT
// x87 transcendental instructions: computed by the host (Intel SDM volume 1, sections 8.3.7 and 8.3.8).

import { insn, type Instruction } from './types.ts';
import { x87Check } from './x87-check.ts';

/** The operation is in float80/transcendental.ts under the name `x87.` + mnemonic; it never faults. */
function transcendental(name: string, encoding: string): Instruction {
  return insn(name, encoding, '', { faults: true }, (s) => {
    x87Check(s);
    s.host(`x87.${name}`);
  });
}

export const x87TranscendentalInstructions: readonly Instruction[] = [
  transcendental('f2xm1', 'D9F0'),
  transcendental('fyl2x', 'D9F1'),
  transcendental('fptan', 'D9F2'),
  transcendental('fpatan', 'D9F3'),
  transcendental('fyl2xp1', 'D9F9'),
  transcendental('fsincos', 'D9FB'),
  transcendental('fsin', 'D9FE'),
  transcendental('fcos', 'D9FF'),
];
