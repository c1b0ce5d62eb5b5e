// SPDX-License-Identifier: MIT
// Branches to code that was overwritten: they find what came in its place, and ask for it once.

import { describe, expect, it, vi } from 'vitest';
import { Exit } from './exits.ts';
import { le, Reg, stop, TestMachine } from './test-machine.ts';

const code = 0x400000;
const alias = 0x20000000;
const writer = 0x500000;
/** Overwritten; in other 128 bytes of its page than what branches to it. */
const body = 0x100;
const rounds = 100;

type WithLookups = { lookupStale(stale: number): number };

/** A loop that begins with a branch from an offset of the page to `body`, where EAX grows by a number that can be overwritten. */
function machine(tier: 'interpret' | 'auto', from: number) {
  const m = new TestMachine({ tier });
  const frame = m.frame();
  m.map(code, frame);
  m.map(alias, frame);
  const host = m.hostOf(frame);
  const jump = (at: number, to: number) => `e9${le(to - at - 5, 4)}`;
  const again = `0f85${le(from - (body + 11), 4)}`;
  // jmp body; body: add eax, 1; dec ecx; jnz from
  m.write(host + from, jump(from, body));
  m.write(host + body, `83c001 ffc9 ${again} ${stop}`);
  // mov [rbx + offset of the 1], dl
  m.write(m.page(writer), `8893${le(body + 2, 4)} ${stop}`);
  m.set(Reg.rbx, alias);
  const asked = vi.spyOn(m.cpu as unknown as WithLookups, 'lookupStale');
  return {
    m,
    frame,
    host,
    asked,
    run: () => {
      asked.mockClear();
      m.set(Reg.rax, 0);
      m.set(Reg.rcx, rounds);
      expect(m.run(code + from)).toBe(Exit.SoftInt);
      return { step: m.cpu.regLo(Reg.rax) / rounds, asked: asked.mock.calls.length };
    },
    overwrite: (step: number) => {
      m.set(Reg.rdx, step);
      expect(m.run(writer)).toBe(Exit.SoftInt);
    },
  };
}

describe.each(['interpret', 'auto'] as const)('a branch to code that was overwritten (%s)', (tier) => {
  describe.each([
    ['forward', 0],
    ['backward', 0x200],
  ])('%s', (_, from) => {
    it('goes on at the new code, and looks for it once', () => {
      const { run, overwrite } = machine(tier, from);
      expect(run()).toEqual({ step: 1, asked: 0 });
      overwrite(7);
      expect(run()).toEqual({ step: 7, asked: 1 });
      expect(run()).toEqual({ step: 7, asked: 0 });
    });

    it('does so each time that it is overwritten again, however often', () => {
      const { asked, run, overwrite } = machine(tier, from);
      run();
      const records = new Set<number>();
      for (let step = 2; step < 60; step++) {
        overwrite(step);
        if (step % 3 === 0) continue;
        expect(run()).toEqual({ step, asked: 1 });
        records.add(asked.mock.calls[0]![0]);
      }
      // Always by the one that the branch leads to: the way does not grow.
      expect(records.size).toBe(1);
    });

    it('is not sent to the code of another frame that is mapped there for a while', () => {
      const { m, frame, host, run, overwrite } = machine(tier, from);
      run();
      overwrite(7);
      const first = m.frame();
      const other = m.hostOf(first);
      m.mem.u8.copyWithin(other, host, host + 0x1000);
      m.write(other + body + 2, '0b');
      m.map(code, first);
      m.cpu.flushTlb();
      expect(run().step).toBe(11);
      m.map(code, frame);
      m.cpu.flushTlb();
      expect(run().step).toBe(7);
    });
  });
});
