// SPDX-License-Identifier: MIT
// Tests of onward.ts.
import { describe, expect, it } from 'vitest';
import { leavesFor, linearOf } from './onward.ts';
import type { Region, Terminator } from './region.ts';

const regionOf = (...terminators: Terminator[]): Region => ({
  blocks: terminators.map((terminator, n) => ({ at: n, instructions: [], terminator })),
  entries: [0],
  pages: [],
  instructions: 0,
  computed: [],
  branches: [],
  isSettled: true,
});

describe('the ways on from a region', () => {
  it('are its calls and jumps out of it', () => {
    const region = regionOf(
      { kind: 'call', target: { kind: 'leave', at: 0x2000 } },
      { kind: 'call', target: { kind: 'block', to: 2 } },
      { kind: 'jump', target: { kind: 'leave', at: -0x3000 } },
      { kind: 'next', next: { kind: 'leave', at: 0x10 } },
      { kind: 'dynamic', candidates: [] },
    );
    expect(leavesFor(region)).toEqual([0x2000, -0x3000]);
  });

  it.each([
    { at: 0x2345, expected: { lo: 0xfffff345, hi: 0xffffffff } },
    { at: 0x3010, expected: { lo: 0x10, hi: 0 } },
    { at: -0xffffd001, expected: { lo: 0xffffffff, hi: 0xfffffffe } },
  ])('have linear addresses, $at bytes from the page', ({ at, expected }) => {
    expect(linearOf({ code: 0x5678, lo: 0xffffd678, hi: 0xffffffff, record: 0 } as never, at)).toEqual(expected);
  });
});
