// SPDX-License-Identifier: MIT
// Debug-register breakpoints: which accesses they meet.
import { describe, expect, it } from 'vitest';
import { Breakpoints } from './breakpoints.ts';

/** DR7 with breakpoint `n` enabled. */
const enabled = (n: number, type: number, length: number): number =>
  ((1 << (2 * n)) | (type << (16 + 4 * n)) | (length << (18 + 4 * n))) >>> 0;

function breakpoint(n: number, type: number, length: number, low: number): Breakpoints {
  const b = new Breakpoints();
  const lo = [0, 0, 0, 0];
  lo[n] = low;
  b.set(enabled(n, type, length), lo, [1, 1, 1, 1]);
  return b;
}

describe('breakpoints', () => {
  it('are off when no enable bit is set', () => {
    const b = new Breakpoints();
    b.set(0x400, [0, 0, 0, 0], [0, 0, 0, 0]);
    expect(b.armed).toBe(false);
  });

  it('match instructions by their first byte', () => {
    const b = breakpoint(2, 0, 0, 0x1000);
    expect(b.watchesData).toBe(false);
    expect(b.onInstruction(0x1_0000_1000n)).toBe(4);
    expect(b.onInstruction(0x1_0000_1001n)).toBe(0);
    b.access(0x1_0000_1000n, 8, true);
    expect(b.met).toBe(0);
  });

  it('match accesses that overlap their aligned range', () => {
    const b = breakpoint(3, 1, 2, 0x100c);
    for (const [at, bytes, met] of [
      [0x1007n, 1, 0],
      [0x1007n, 2, 8],
      [0x100fn, 4, 8],
      [0x1010n, 4, 0],
    ] as const) {
      b.met = 0;
      b.access(0x1_0000_0000n + at, bytes, true);
      expect(b.met).toBe(met);
    }
    b.met = 0;
    b.access(0x1_0000_1008n, 8, false);
    expect(b.met).toBe(0);
  });

  it('watch reads too when asked to', () => {
    const b = breakpoint(0, 3, 3, 0x1000);
    b.access(0x1_0000_1003n, 1, false);
    expect(b.met).toBe(1);
  });

  it('never match with the I/O type', () => {
    const b = breakpoint(0, 2, 0, 0x1000);
    b.access(0x1_0000_1000n, 1, true);
    expect([b.armed, b.watchesData, b.met]).toEqual([true, false, 0]);
  });
});
