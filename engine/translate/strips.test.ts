// SPDX-License-Identifier: MIT
// Loops that walk through memory, translated and interpreted: wherever their accesses leave a page, fault or are stopped.

import { describe, expect, it } from 'vitest';
import { Random } from '../../tests/oracle/random.ts';
import { difference, ProgramRunner } from '../../tests/regions/runner.ts';
import { makeWalkingProgram } from '../../tests/regions/walking-program.ts';
import { Exit } from '../cpu/exits.ts';
import { Reg, TestMachine } from '../cpu/test-machine.ts';

const code = 0x400000;
const data = 0x10000000;

it('do the same in random programs', { timeout: 60_000 }, () => {
  const [plain, translated] = [new ProgramRunner('interpret'), new ProgramRunner('translate')];
  for (let seed = 0; seed < 200; seed++) {
    const program = makeWalkingProgram(new Random(410_000 + seed));
    const again = `repeat with: npm run fuzz:regions -- --walking --programs 1 --seed ${410_000 + seed}`;
    expect(difference(plain.run(program), translated.run(program)), again).toBe(undefined);
  }
  expect(translated.statistics().regionInstructions).toBeGreaterThan(50_000);
});

describe('a strip', () => {
  // 0: movzx eax, byte [rbx+rcx]; 4: inc rcx; 7: cmp rcx, rdx; 10: jb 0; 12: int3
  const loop = '0fb6040b 48ffc1 4839d1 72f4 cc';

  function machine(): TestMachine {
    const m = new TestMachine({ tier: 'translate' });
    m.write(m.page(code), loop);
    for (let page = 0; page < 3; page++) m.page(data + 4096 * page);
    m.set(Reg.rbx, data);
    m.set(Reg.rdx, 3 * 4096);
    return m;
  }

  it('is no longer than the budget is for', () => {
    const m = machine();
    for (let budget = 0; budget < 60; budget++) {
      m.set(Reg.rcx, 0);
      m.setRip(code);
      const start = m.cpu.instructions;
      expect(m.cpu.run(budget)).toBe(Exit.Budget);
      expect(m.cpu.instructions - start).toBeLessThanOrEqual(budget + 4);
    }
  });

  it('goes on where the budget ended, and behind the end of its page', () => {
    const m = machine();
    const statistics = () => m.cpu.statistics();
    for (let round = 0; round < 2; round++) {
      const before = statistics().tlbMisses;
      m.set(Reg.rcx, 0);
      m.setRip(code);
      let reason: number = Exit.Budget;
      for (let slices = 0; reason === Exit.Budget && slices < 200; slices++) reason = m.cpu.run(997);
      expect(reason).toBe(Exit.SoftInt);
      expect(m.cpu.regLo(Reg.rcx)).toBe(3 * 4096);
      // Three pages, and that of the code; the second time the TLB knows all.
      expect(statistics().tlbMisses - before).toBe(round === 0 ? 4 : 0);
    }
  });
});
