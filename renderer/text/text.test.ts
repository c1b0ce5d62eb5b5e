// SPDX-License-Identifier: MIT
// Numbers and times as people read them: units always, a dash for the unknown, never 0 for missing.
import { describe, expect, it } from 'vitest';
import { fromBase64, toBase64 } from './base64.ts';
import { bytes, mips, percent, perSecond, short, UNKNOWN } from './numbers.ts';
import { duration, roughly, tick } from './times.ts';

describe('numbers', () => {
  it.each([null, undefined, NaN, Infinity])('show %s as unknown', (value) => {
    expect([bytes(value), percent(value), mips(value), short(value), perSecond(value)]).toEqual(Array(5).fill(UNKNOWN));
  });

  it('have units and at most three figures', () => {
    expect([0, 999, 1024, 1536, 256 * 2 ** 20, 23.5 * 2 ** 30].map(bytes)).toEqual([
      '0 B',
      '999 B',
      '1 KB',
      '1.5 KB',
      '256 MB',
      '23.5 GB',
    ]);
    expect([0, 0.004, 0.5, 1.04].map(percent)).toEqual(['0 %', '0.4 %', '50 %', '104 %']);
    expect([0, 90_000, 210_400_000].map(mips)).toEqual(['0 MIPS', '0.09 MIPS', '210 MIPS']);
    expect([12, 12_400, 3_100_000, 2e9].map(short)).toEqual(['12', '12.4 k', '3.1 M', '2 G']);
  });
});

describe('durations', () => {
  it('have two units at most, without an empty second one', () => {
    expect([0, 8400, 250_000, 3_600_000, 11_520_000, 190_800_000].map(duration)).toEqual([
      '0 s',
      '8 s',
      '4 min 10 s',
      '1 h',
      '3 h 12 min',
      '2 d 5 h',
    ]);
    expect([500, 61_000, 7_300_000].map(roughly)).toEqual(['0 s', '1 min', '2 h']);
    expect(duration(-1)).toBe(UNKNOWN);
  });

  it('label ticks as finely as the ticks are apart', () => {
    const at = new Date(2026, 10, 21, 14, 3, 20).getTime();
    expect(tick(at, 10_000)).toBe('14:03:20');
    expect(tick(at, 60_000)).toBe('14:03');
    expect(tick(at, 86_400_000)).toBe('Nov 21');
  });
});

describe('base64', () => {
  it('keeps every byte, also of long runs', () => {
    const all = Uint8Array.from({ length: 70_000 }, (_, i) => i & 255);
    expect(fromBase64(toBase64(all))).toEqual(all);
  });
});
