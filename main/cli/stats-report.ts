// SPDX-License-Identifier: MIT
// The figures printed by --stats.
import type { VmStats } from '../vm/outcome.ts';

/** Names of the x86 exceptions by vector (Intel SDM vol. 3A, table 6-1). */
const EXCEPTION_NAMES: Readonly<Record<string, string>> = {
  0: '#DE', 1: '#DB', 2: 'NMI', 3: '#BP', 4: '#OF', 5: '#BR', 6: '#UD', 7: '#NM', 8: '#DF', 10: '#TS',
  11: '#NP', 12: '#SS', 13: '#GP', 14: '#PF', 16: '#MF', 17: '#AC', 18: '#MC', 19: '#XM',
}; // prettier-ignore

const seconds = (ns: number): string => `${(ns / 1e9).toFixed(2)} s`;
const count = (n: number): string => n.toLocaleString('en-US');

/** A table of counts, largest first. */
function countLines(counts: Record<string, number>, nameOf: (key: string) => string): string[] {
  return Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([key, n]) => `  ${nameOf(key).padEnd(28)} ${count(n).padStart(16)}`);
}

const total = (counts: Record<string, number>): number => Object.values(counts).reduce((sum, n) => sum + n, 0);

/** Part of the instructions that a tier executed. */
const share = (part: number, whole: number): string => (whole === 0 ? '—' : `${((100 * part) / whole).toFixed(1)} %`);

/** Names of the translator's counters (`TranslatorStatistics`) for people. */
const TRANSLATION: readonly (readonly [counter: string, label: string, show: (n: number) => string])[] = [
  ['translator.regions', 'regions', count],
  ['translator.modules', 'modules', count],
  ['translator.bytes', 'WebAssembly made', (n) => `${(n / 2 ** 20).toFixed(1)} MiB`],
  ['translator.compileMs', 'time translating', (n) => seconds(n * 1e6)],
  ['translator.storeHits', 'regions from the store', count],
  ['translator.laterRegions', 'regions for later runs alone', count],
  ['machine-code.hits', 'modules with machine code', count],
  ['translator.invalidations', 'regions dropped, code changed', count],
  ['translator.evictions', 'regions dropped, no room', count],
];

/** The report as lines of text, ending in a newline. */
export function formatStats(stats: VmStats): string {
  const mips = stats.runNs > 0 ? (stats.instructions / stats.runNs) * 1e3 : 0;
  const translated = stats.translatedInstructions;
  const line = (label: string, value: string): string => `${label.padEnd(30)} ${value.padStart(16)}`;
  return [
    line('instructions', count(stats.instructions)),
    line('MIPS while running', mips.toFixed(1)),
    line('elapsed', seconds(stats.elapsedNs)),
    line('running', seconds(stats.runNs)),
    line('idle', seconds(stats.idleNs)),
    line('host CPU time', seconds(stats.hostCpuNs)),
    line('host memory, peak', `${(stats.peakRssBytes / 2 ** 20).toFixed(0)} MiB`),
    ...(translated === undefined
      ? []
      : [
          line('instructions interpreted', share(stats.instructions - translated, stats.instructions)),
          line('instructions translated', share(translated, stats.instructions)),
        ]),
    ...TRANSLATION.flatMap(([counter, label, show]) =>
      stats.other?.[counter] === undefined ? [] : [line(`  ${label}`, show(stats.other[counter]))],
    ),
    line('TLB misses', count(stats.tlbMisses)),
    line('faults', count(total(stats.faults))),
    ...countLines(stats.faults, (vector) => `${EXCEPTION_NAMES[vector] ?? ''} (${vector})`.trim()),
    line('hypercalls', count(total(stats.hypercalls))),
    ...countLines(stats.hypercalls, (name) => name),
    ...(stats.other ? ['counters', ...countLines(stats.other, (name) => name)] : []),
    '',
  ].join('\n');
}
