// SPDX-License-Identifier: MIT
// Medians, ratios and bars: turns the runs of all engines into the bench's table, its verdicts and its history record.

import type { Boot, Engine, EngineRun } from './engines.ts';

export interface Bar {
  readonly row: string;
  /** An engine, for the row's own unit, or two as `a/b` for their ratio. */
  readonly figure: string;
  readonly max?: number;
  readonly min?: number;
}

/** What a row has figures of: each engine with its first run and, under a name of its own, Paravane with the store that this one filled. */
export type Column = Engine | 'warm';

/** One row of the table: a median per column, in `unit`. */
export interface Row {
  readonly name: string;
  readonly unit: 's' | 'MIPS' | 'MiB' | '%';
  readonly what: string;
  readonly values: Partial<Record<Column, number>>;
  /** Every round's figure, in order, so that the spread can be seen. */
  readonly samples?: Partial<Record<Column, number[]>>;
  /** Wall seconds: the host's for boot, by the guest's clock for workloads; medians as well. */
  readonly wall?: Partial<Record<Column, number>>;
}

export interface Verdict extends Bar {
  /** null when the figure was not measured in this run. */
  readonly measured: number | null;
  readonly met: boolean | null;
}

export interface WorkloadText {
  readonly name: string;
  readonly what: string;
}

/** The middle value, or the mean of the two middle ones; undefined of nothing. */
export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const high = sorted[sorted.length >> 1];
  const low = sorted[(sorted.length - 1) >> 1];
  return high === undefined || low === undefined ? undefined : (low + high) / 2;
}

/**
 * Builds the table from all rounds.
 * @param instructions user-mode instructions of the whole `integer` workload, 0 when unknown
 */
export function tabulate(
  runs: ReadonlyMap<Engine, readonly EngineRun[]>,
  workloads: readonly WorkloadText[],
  instructions: number,
): Row[] {
  type Figure = (run: EngineRun) => number | null | undefined;
  type Samples = NonNullable<Row['samples']>;
  const present = (rounds: readonly EngineRun[], pick: Figure): number[] =>
    rounds.map(pick).filter((v) => v !== null && v !== undefined);
  const mediansOf = (samples: Samples): Row['values'] =>
    Object.fromEntries(Object.entries(samples).flatMap(([column, s]) => (s.length > 0 ? [[column, median(s)]] : [])));
  const measured = (pick: Figure, pickWarm: Figure = () => null): Pick<Row, 'values' | 'samples'> => {
    const samples: Samples = Object.fromEntries([...runs].map(([engine, rounds]) => [engine, present(rounds, pick)]));
    const warm = present(runs.get('paravane') ?? [], pickWarm);
    if (warm.length > 0) samples.warm = warm;
    return { samples, values: mediansOf(samples) };
  };
  const rows: Row[] = [
    {
      name: 'boot',
      unit: 's',
      what: 'process start to user space',
      ...measured((r) => r.boot?.cpu),
      wall: measured((r) => r.boot?.wall).values,
    },
  ];
  // Paravane's second boot beside what everybody else's every boot is.
  const again = (r: EngineRun): Boot | null => r.warmBoot ?? (runs.get('tcg')?.includes(r) ? r.boot : null);
  if ([...runs.values()].some((rounds) => rounds.some((r) => r.warmBoot !== null)))
    rows.push({
      ...{ name: 'boot-warm', unit: 's', what: 'the same, translations of the run before kept' },
      ...measured((r) => again(r)?.cpu),
      wall: measured((r) => again(r)?.wall).values,
    });
  for (const { name, what } of workloads) {
    const both = (figure: 'cpu' | 'wall'): Pick<Row, 'values' | 'samples'> =>
      measured(
        (r) => r.workloads.get(name)?.[figure],
        (r) => r.warmWorkloads.get(name)?.[figure],
      );
    const cpu = both('cpu');
    rows.push({ name, unit: 's', what, ...cpu, wall: both('wall').values });
    if (name === 'integer' && instructions > 0) {
      const mips: Partial<Record<Engine, number>> = {};
      for (const engine of runs.keys()) {
        const seconds = cpu.values[engine];
        if (seconds !== undefined && seconds > 0) mips[engine] = instructions / seconds / 1e6;
      }
      rows.push({ name: 'mips', unit: 'MIPS', what: 'instructions per CPU second of integer', values: mips });
    }
  }
  rows.push(
    { name: 'memory', unit: 'MiB', what: 'peak, beyond the guest RAM', ...measured((r) => r.memory?.beyondRam) },
    { name: 'idle', unit: '%', what: 'of one core, guest idle', ...measured((r) => r.idlePercent) },
  );
  return rows.filter((row) => Object.keys(row.values).length > 0);
}

/**
 * The figure a bar is about: `paravane`, or a ratio such as `paravane/tcg`, which is the median of the rounds' ratios: a shared machine is faster in one
 * round than in the next, and for all engines. Where rounds are missing it is that of the medians.
 */
export function figureOf(row: Row, figure: string): number | null {
  const [above, below] = figure.split('/') as [Column, Column?];
  const value = row.values[above];
  if (value === undefined) return null;
  if (below === undefined) return value;
  const divisor = row.values[below];
  if (divisor === undefined || divisor === 0) return null;
  const [dividends, divisors] = [row.samples?.[above] ?? [], row.samples?.[below] ?? []];
  if (dividends.length !== divisors.length || divisors.includes(0)) return value / divisor;
  return median(dividends.map((x, round) => x / divisors[round]!)) ?? value / divisor;
}

export function judge(rows: readonly Row[], bars: readonly Bar[]): Verdict[] {
  return bars.map((bar) => {
    const row = rows.find((r) => r.name === bar.row);
    const measured = row === undefined ? null : figureOf(row, bar.figure);
    const met = measured === null ? null : measured <= (bar.max ?? Infinity) && measured >= (bar.min ?? -Infinity);
    return { ...bar, measured, met };
  });
}

/** Workloads whose checksums differ between engines, their first and second runs, or rounds, each as a sentence. */
export function checksumDifferences(runs: ReadonlyMap<Engine, readonly EngineRun[]>): string[] {
  const seen = new Map<string, Map<string, string[]>>();
  for (const [engine, rounds] of runs)
    rounds.forEach((run, round) => {
      const note = (name: string, checksum: string, who: string): void => {
        const byChecksum = seen.get(name) ?? new Map<string, string[]>();
        byChecksum.set(checksum, [...(byChecksum.get(checksum) ?? []), who]);
        seen.set(name, byChecksum);
      };
      for (const [name, { checksum }] of run.workloads) note(name, checksum, `${engine} (round ${round + 1})`);
      for (const [name, { checksum }] of run.warmWorkloads)
        note(name, checksum, `${engine} (round ${round + 1}, warm)`);
    });
  const differences: string[] = [];
  for (const [name, byChecksum] of seen) {
    if (byChecksum.size < 2) continue;
    const sides = [...byChecksum].map(([checksum, who]) => `${checksum} under ${who.join(', ')}`);
    differences.push(`${name}: ${sides.join('; ')}`);
  }
  return differences;
}

/** A number of about three significant digits. */
function short(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toFixed(digits);
}

/** The table as text, one line per row, with its bars' verdicts at the end of the line; columns of second runs only where there are such. */
export function formatTable(rows: readonly Row[], verdicts: readonly Verdict[]): string {
  const isWarm = rows.some((row) => row.values.warm !== undefined);
  const columns: (readonly [title: string, figure: string])[] = [
    ['native', 'native'],
    ['TCG', 'tcg'],
    ['Paravane', 'paravane'],
    ...(isWarm ? [['warm', 'warm'] as const] : []),
    ['P/TCG', 'paravane/tcg'],
    ...(isWarm ? [['warm/TCG', 'warm/tcg'] as const] : []),
    ['P/native', 'paravane/native'],
    ['TCG/native', 'tcg/native'],
  ];
  const lines = [['row', 'unit', ...columns.map(([title]) => title), 'bars', 'what']];
  for (const row of rows) {
    const cell = (figure: string): string => {
      const isRatio = figure.includes('/');
      const x = isRatio && row.unit !== 's' ? null : figureOf(row, figure);
      return x === null ? '-' : `${short(x)}${isRatio ? 'x' : ''}`;
    };
    const bars = verdicts.filter((v) => v.row === row.name).map((v) => `${describeBar(v)}: ${word(v.met)}`);
    lines.push([row.name, row.unit, ...columns.map(([, figure]) => cell(figure)), bars.join(', '), row.what]);
  }
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const right = (column: number): boolean => column >= 2 && column < 2 + columns.length;
  return lines
    .map((line) =>
      line
        .map((cell, column) => (right(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** The rows as a history record has them: medians by column beside what belongs to them. */
export function recordOf(rows: readonly Row[]): Record<string, unknown> {
  return Object.fromEntries(
    rows.map(({ name, unit, values, wall, samples }) => [name, { unit, ...values, wall, samples }]),
  );
}

function word(met: boolean | null): string {
  return met === null ? 'not measured' : met ? 'met' : 'MISSED';
}

function describeBar(bar: Bar): string {
  const limit = bar.max !== undefined ? `<= ${bar.max}` : `>= ${bar.min ?? 0}`;
  const subject =
    { 'paravane/tcg': 'P/TCG ', 'paravane/native': 'P/native ', paravane: '' }[bar.figure] ?? `${bar.figure} `;
  return subject + limit;
}

/** The figures of `--stats` by label, e.g. `{ instructions: 123456, 'TLB misses': 789 }`; lines of other shapes are left out. */
export function parseStatistics(text: string): Record<string, number> {
  const figures: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const match = /^ *(\S.*?) {2,}([\d,]+(?:\.\d+)?)(?: s| MiB)?$/.exec(line);
    if (match !== null) figures[match[1]!] = Number(match[2]!.replaceAll(',', ''));
  }
  return figures;
}
