// SPDX-License-Identifier: MIT
// What the interpreter counts of conditional branches: how often each went which way, from whichever block they were come to.

import { describe, expect, it } from 'vitest';
import { Exit } from './exits.ts';
import { Reg, stop, TestMachine } from './test-machine.ts';

const code = 0x400000;

type WithCounts = { timesGone(host: number, taken: boolean): number | undefined };

/** Runs the code, and reads counters by the offset of a branch. */
function machine(bytes: string, rcx: number) {
  const m = new TestMachine({ tier: 'interpret' });
  const host = m.page(code);
  m.write(host, bytes);
  m.set(Reg.rcx, rcx);
  expect(m.run(code)).toBe(Exit.SoftInt);
  const gone = (offset: number, taken: boolean) => (m.cpu as unknown as WithCounts).timesGone(host + offset, taken);
  return { m, ways: (offset: number) => [gone(offset, true), gone(offset, false)] };
}

describe('a conditional branch', () => {
  it.each([
    // 0: dec ecx; 2: jnz 0
    ['of its own', `ffc9 75fc ${stop}`, 2],
    // 0: sub ecx, 1; 3: test ecx, ecx; 5: jnz 0
    ['fused with a comparison', `83e901 85c9 75f9 ${stop}`, 5],
  ])('%s counts its ways', (_, bytes, at) => {
    expect(machine(bytes, 10).ways(at)).toEqual([9, 1]);
  });

  it('counts for each block that ends with it', () => {
    // 0: nop; 1: dec ecx; 3: jnz 1: first met in the block that begins at 0, then in the one that begins at 1.
    expect(machine(`90 ffc9 75fc ${stop}`, 10).ways(3)).toEqual([9, 1]);
  });

  it('counts on when its block is decoded again', () => {
    const { m, ways } = machine(`ffc9 75fc ${stop}`, 10);
    m.cpu.frameWritten(m.page(code));
    m.set(Reg.rcx, 5);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(ways(2)).toEqual([13, 2]);
  });

  it('that was never met is not known', () => {
    // jmp over a jnz
    expect(machine(`eb02 75fe ${stop}`, 1).ways(2)).toEqual([undefined, undefined]);
  });

  it('is not known of other kinds of jumps', () => {
    expect(machine(`eb00 ${stop}`, 1).ways(0)).toEqual([undefined, undefined]);
  });
});
