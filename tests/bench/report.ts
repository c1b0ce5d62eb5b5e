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

/** One row of the table: a median per engine, in `unit`. */
export interface Row {
  readonly name: string;
  readonly unit: 's' | 'MIPS' | 'MiB' | '%';
  readonly what: string;
  readonly values: Partial<Record<Engine, number>>;
  /** Every round's figure, in order, so that the spread can be seen. */
  readonly samples?: Partial<Record<Engine, number[]>>;
  /** Wall seconds: the host's for boot, by the guest's clock for workloads; medians as well. */
  readonly wall?: Partial<Record<Engine, number>>;
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
  const samplesOf = (pick: Figure): Partial<Record<Engine, number[]>> =>
    Object.fromEntries(
      [...runs].map(([engine, rounds]) => [engine, rounds.map(pick).filter((v) => v !== null && v !== undefined)]),
    );
  const mediansOf = (samples: Partial<Record<Engine, number[]>>): Partial<Record<Engine, number>> =>
    Object.fromEntries(Object.entries(samples).flatMap(([engine, s]) => (s.length > 0 ? [[engine, median(s)]] : [])));
  const measured = (pick: Figure): Pick<Row, 'values' | 'samples'> => {
    const samples = samplesOf(pick);
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
    const cpu = measured((r) => r.workloads.get(name)?.cpu);
    rows.push({ name, unit: 's', what, ...cpu, wall: measured((r) => r.workloads.get(name)?.wall).values });
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

/** The figure a bar is about: `paravane`, or a ratio such as `paravane/tcg`. */
export function figureOf(row: Row, figure: string): number | null {
  const [above = '', below] = figure.split('/') as [Engine, Engine?];
  const value = row.values[above as Engine];
  if (value === undefined) return null;
  if (below === undefined) return value;
  const divisor = row.values[below];
  return divisor === undefined || divisor === 0 ? null : value / divisor;
}

export function judge(rows: readonly Row[], bars: readonly Bar[]): Verdict[] {
  return bars.map((bar) => {
    const row = rows.find((r) => r.name === bar.row);
    const measured = row === undefined ? null : figureOf(row, bar.figure);
    const met = measured === null ? null : measured <= (bar.max ?? Infinity) && measured >= (bar.min ?? -Infinity);
    return { ...bar, measured, met };
  });
}

/** Workloads whose checksums differ between engines or rounds, each as a sentence. */
export function checksumDifferences(runs: ReadonlyMap<Engine, readonly EngineRun[]>): string[] {
  const seen = new Map<string, Map<string, string[]>>();
  for (const [engine, rounds] of runs)
    rounds.forEach((run, round) => {
      for (const [name, { checksum }] of run.workloads) {
        const byChecksum = seen.get(name) ?? new Map<string, string[]>();
        byChecksum.set(checksum, [...(byChecksum.get(checksum) ?? []), `${engine} (round ${round + 1})`]);
        seen.set(name, byChecksum);
      }
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

/** The table as text, one line per row, with its bars' verdicts at the end of the line. */
export function formatTable(rows: readonly Row[], verdicts: readonly Verdict[]): string {
  const ratios = ['paravane/tcg', 'paravane/native', 'tcg/native'];
  const lines = [['row', 'unit', 'native', 'TCG', 'Paravane', 'P/TCG', 'P/native', 'TCG/native', 'bars', 'what']];
  for (const row of rows) {
    const value = (engine: Engine): string => (row.values[engine] === undefined ? '-' : short(row.values[engine]));
    const ratio = (figure: string): string => {
      const x = row.unit === 's' ? figureOf(row, figure) : null;
      return x === null ? '-' : `${short(x)}x`;
    };
    const bars = verdicts.filter((v) => v.row === row.name).map((v) => `${describeBar(v)}: ${word(v.met)}`);
    lines.push([
      row.name,
      row.unit,
      value('native'),
      value('tcg'),
      value('paravane'),
      ...ratios.map(ratio),
      bars.join(', '),
      row.what,
    ]);
  }
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const right = (column: number): boolean => column >= 2 && column <= 7;
  return lines
    .map((line) =>
      line
        .map((cell, column) => (right(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
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
