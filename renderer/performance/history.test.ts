// SPDX-License-Identifier: MIT
// The time axis: live seconds join the history, gaps stay gaps, old points leave, exports say what is known.
import { describe, expect, it } from 'vitest';
import { CHANNEL_NAMES, type Channel, type MetricSample } from '../../main/contract/metrics.ts';
import { binaryTicks, ticksBetween, tickStep } from './chart-drawing.ts';
import { continued, firstKnown, indexAt, latestIndex, toCsv, type Column, type Series } from './history.ts';

const columns = (cpu: Column): Record<Channel, Column> =>
  Object.fromEntries(CHANNEL_NAMES.map((name) => [name, name === 'cpu' ? cpu : cpu.map(() => null)])) as Record<
    Channel,
    Column
  >;

const series = (cpu: Column, start = 10_000): Series => ({
  periodMs: 1000,
  start,
  length: cpu.length,
  average: columns(cpu),
  maximum: columns(cpu),
  events: [],
});

const sample = (at: number, cpu: number): MetricSample => ({
  at,
  values: Object.fromEntries(
    CHANNEL_NAMES.map((name) => [name, name === 'cpu' ? cpu : null]),
  ) as MetricSample['values'],
});

describe('a live second', () => {
  it('follows the history', () => {
    const longer = continued(series([0.1, 0.2]), sample(13_000, 0.3), 600);
    expect(longer.average.cpu).toEqual([0.1, 0.2, 0.3]);
    expect(longer.length).toBe(3);
  });

  it('leaves a gap where nothing was measured', () => {
    expect(continued(series([0.1]), sample(14_000, 0.4), 600).average.cpu).toEqual([0.1, null, null, 0.4]);
  });

  it('replaces the last point, and is dropped when older', () => {
    expect(continued(series([0.1, null]), sample(12_000, 0.2), 600).average.cpu).toEqual([0.1, 0.2]);
    expect(continued(series([0.1, 0.2]), sample(11_000, 0.9), 600).average.cpu).toEqual([0.1, 0.2]);
  });

  it('pushes the oldest out', () => {
    const moved = continued(series([0.1, 0.2, 0.3]), sample(14_000, 0.4), 3);
    expect(moved.average.cpu).toEqual([0.2, 0.3, 0.4]);
    expect(moved.start).toBe(11_000);
  });
});

describe('points', () => {
  it('are found by time', () => {
    const known = series([null, 0.1, null]);
    expect([9_999, 10_000, 12_500, 13_000].map((at) => indexAt(known, at))).toEqual([null, 0, 2, null]);
    expect(latestIndex(known)).toBe(1);
    expect(firstKnown(known)).toBe(11_000);
    expect(latestIndex(series([null]))).toBeNull();
    expect(firstKnown(series([]))).toBeNull();
  });

  it('are exported with their times, and unknown values empty', () => {
    const lines = toCsv(series([0.5, null, 0.25]))
      .trimEnd()
      .split('\r\n');
    expect(lines[0]).toBe(['time', ...CHANNEL_NAMES].join(','));
    expect(lines.slice(1)).toEqual([
      `1970-01-01T00:00:10.000Z,0.5${','.repeat(CHANNEL_NAMES.length - 1)}`,
      `1970-01-01T00:00:12.000Z,0.25${','.repeat(CHANNEL_NAMES.length - 1)}`,
    ]);
  });
});

describe('ticks', () => {
  it('stand at round times, as many as there is room for', () => {
    expect(tickStep(600_000, 6)).toBe(120_000);
    expect(ticksBetween(61_000, 250_000, 60_000)).toEqual([120_000, 180_000, 240_000]);
  });

  it('of bytes are powers of two apart', () => {
    expect(binaryTicks(600 * 2 ** 20)).toEqual([0, 256 * 2 ** 20, 512 * 2 ** 20]);
  });
});
