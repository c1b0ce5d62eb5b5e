// SPDX-License-Identifier: MIT
// Several machines on one axis: seconds meet, gaps stay, too many are summed up.
import { describe, expect, it } from 'vitest';
import type { Activity } from '../state/library.svelte.ts';
import { linesOf, machinesSeries, OTHERS } from './machines-series.ts';

const machine = (id: string, cpu: Activity['cpu'], latestAt: number) => ({
  id,
  name: id,
  activity: { cpu, speed: [], latest: null, latestAt } satisfies Activity,
});

describe('machines on one axis', () => {
  it('puts the same second of all at the same place, and keeps gaps', () => {
    const series = machinesSeries(
      [machine('a', [1, null, 3], 10_000), machine('b', [5, 6], 9000)],
      ({ cpu }) => cpu,
      4,
    );
    expect(series.start).toBe(6000);
    expect(series.average).toEqual({ a: [null, 1, null, 3], b: [null, 5, 6, null] });
  });

  it('leaves out what is older than the axis', () => {
    expect(machinesSeries([machine('a', [1, 2, 3, 4], 10_000)], ({ cpu }) => cpu, 2).average).toEqual({ a: [3, 4] });
  });

  it('sums up more machines than can be told apart', () => {
    const many = [...Array(8).keys()].map((n) => machine(`m${n}`, [n], 1000));
    expect(linesOf(many).map(({ label }) => label)).toEqual(['m0', 'm1', 'm2', 'm3', 'm4', '3 others']);
    expect(machinesSeries(many, ({ cpu }) => cpu, 1).average[OTHERS]).toEqual([5 + 6 + 7]);
    expect(linesOf(many.slice(0, 6)).map(({ label }) => label)).not.toContain(OTHERS);
  });
});
