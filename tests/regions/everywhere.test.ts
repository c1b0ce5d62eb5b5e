// SPDX-License-Identifier: MIT
// Random programs stopped and entered everywhere: the budget runs out behind each block, control comes in at each byte, loads fault at each block.

import { describe, expect, it } from 'vitest';
import { Random } from '../oracle/random.ts';
import { FUEL, makeProgram, type Program } from './program.ts';
import { difference, ProgramRunner } from './runner.ts';

const programs = 24;
const seed = 77_000;
const plain = new ProgramRunner('interpret');
const translated = new ProgramRunner('translate');

/** The same program in the variants that `vary` gives; each must do the same translated as interpreted. Returns how many ran to an end. */
function same(n: number, vary: (p: Program) => Iterable<{ readonly variant: Program; readonly what: string }>): number {
  let ended = 0;
  for (const { variant, what } of vary(makeProgram(new Random(seed + n)))) {
    const expected = plain.run(variant);
    if (!expected.gaveUp) ended++;
    expect(difference(expected, translated.run(variant)), `seed ${seed + n}, ${what}`).toBe(undefined);
  }
  return ended;
}

const each = Array.from({ length: programs }, (_, n) => n);

describe.each([
  {
    name: 'the budget runs out',
    *vary(p: Program) {
      // In either engine a slice ends behind the block that uses up its budget: the smaller, the more places.
      for (let budget = 0; budget < 20; budget++) yield { variant: { ...p, budget }, what: `budget ${budget}` };
    },
  },
  {
    name: 'control comes in',
    *vary(p: Program) {
      const [first] = p.blocks;
      for (let n = 0; n < 48; n++)
        yield { variant: { ...p, blocks: [first! + n, ...p.blocks.slice(1)] }, what: `entered ${n} bytes further on` };
    },
  },
  {
    name: 'a load faults, with flags at stake',
    *vary(p: Program) {
      for (let loads = 1; loads <= 24; loads++) {
        const registers = p.registers.with(15, BigInt(FUEL + 16 * loads));
        yield { variant: { ...p, registers }, what: `${loads} loads` };
      }
    },
  },
])('where $name', ({ vary }) => {
  it(`${programs} programs do the same`, { timeout: 120_000 }, () => {
    const before = translated.statistics().regionInstructions;
    const ended = each.reduce((sum, n) => sum + same(n, vary), 0);
    expect(ended).toBeGreaterThan(programs * 18);
    expect(translated.statistics().regionInstructions - before).toBeGreaterThan(programs * 100);
  });
});
