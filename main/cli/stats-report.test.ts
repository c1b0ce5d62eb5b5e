// SPDX-License-Identifier: MIT
// Tests of the figures that --stats prints.
import { expect, it } from 'vitest';
import { parseStatistics } from '../../tests/bench/report.ts';
import type { VmStats } from '../vm/outcome.ts';
import { formatStats } from './stats-report.ts';

const stats: VmStats = {
  ...{ instructions: 1000, hypercalls: { iret: 3, sched_op: 4 }, faults: { 14: 2 }, tlbMisses: 5 },
  ...{ elapsedNs: 4e9, runNs: 2e9, idleNs: 1e9, hostCpuNs: 3e9, peakRssBytes: 2 ** 28, translatedInstructions: 750 },
  other: {
    ...{ 'translator.regions': 12, 'translator.modules': 3, 'translator.bytes': 2 ** 20, 'translator.compileMs': 1500 },
    ...{ 'translator.storeHits': 7, 'translator.invalidations': 2, 'translator.evictions': 1 },
  },
};

it('tells what each tier did and what translation cost', () => {
  const text = formatStats(stats);
  expect(text).toMatch(/^instructions interpreted +25\.0 %$/m);
  expect(text).toMatch(/^instructions translated +75\.0 %$/m);
  expect(parseStatistics(text)).toMatchObject({
    ...{ regions: 12, modules: 3, 'WebAssembly made': 1, 'time translating': 1.5, 'regions from the store': 7 },
    ...{ 'regions dropped, code changed': 2, 'regions dropped, no room': 1, hypercalls: 7, '#PF (14)': 2 },
  });
});

it('says nothing about tiers where there is none', () => {
  const { translatedInstructions: _, other: __, ...rest } = stats;
  const text = formatStats(rest);
  expect(text).not.toContain('translated');
  expect(text).not.toContain('regions');
});
