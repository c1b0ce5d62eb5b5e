// SPDX-License-Identifier: MIT
// Random programs of SSE arithmetic give the same bits and flags translated as interpreted, whatever the size of their numbers.

import { expect, it } from 'vitest';
import { Random } from '../oracle/random.ts';
import { makeFloatingInput, makeFloatingProgram } from './floating-program.ts';
import { difference, ProgramRunner } from './runner.ts';

const seed = 310_000;
const programs = 400;
const inputs = 6;

it(`${programs} programs from seed ${seed}`, { timeout: 120_000 }, () => {
  const plain = new ProgramRunner('interpret');
  const translated = new ProgramRunner('translate');
  for (let n = 0; n < programs; n++) {
    const random = new Random(seed + n);
    let program = makeFloatingProgram(random);
    for (let k = 0; k < inputs; k++) {
      if (k > 0) program = { ...program, ...makeFloatingInput(random) };
      const again = `repeat with: npm run fuzz:regions -- --floating --programs 1 --seed ${seed + n}`;
      const expected = plain.run(program);
      expect(expected.gaveUp).toBe(false);
      expect(difference(expected, translated.run(program)), again).toBe(undefined);
    }
  }
  // Most of it is translated code: it does not leave for the interpreter at each number.
  const { regionInstructions } = translated.statistics();
  expect(regionInstructions).toBeGreaterThan(programs * inputs * 40);
});
