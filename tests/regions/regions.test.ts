// SPDX-License-Identifier: MIT
// Random programs do the same translated as interpreted. REGIONS_SEED and REGIONS_PROGRAMS change the default run.

import { expect, it } from 'vitest';
import { Random } from '../oracle/random.ts';
import { makeProgram, withOtherInput } from './program.ts';
import { difference, ProgramRunner } from './runner.ts';

const seed = Number(process.env['REGIONS_SEED'] ?? 190_000);
const programs = Number(process.env['REGIONS_PROGRAMS'] ?? 800);
const inputs = 4;

it(`${programs} programs from seed ${seed}`, { timeout: 120_000 }, () => {
  const plain = new ProgramRunner('interpret');
  const translated = new ProgramRunner('translate');
  let unfinished = 0;
  for (let n = 0; n < programs; n++) {
    const random = new Random(seed + n);
    let program = makeProgram(random);
    for (let k = 0; k < inputs; k++) {
      if (k > 0) program = withOtherInput(program, random);
      const expected = plain.run(program);
      if (expected.gaveUp) unfinished++;
      const again = `repeat with: npm run fuzz:regions -- --programs 1 --seed ${seed + n}`;
      expect(difference(expected, translated.run(program)), again).toBe(undefined);
    }
  }
  expect(unfinished).toBeLessThan((programs * inputs) / 50);
  expect(translated.statistics().regionInstructions).toBeGreaterThan(programs * 100);
});
