// SPDX-License-Identifier: MIT
// Columns of measurements on one time axis: made from the manager's history, continued by live samples, gaps kept as gaps.
import {
  CHANNEL_NAMES,
  TIERS,
  type Channel,
  type MachineEvent,
  type MetricHistory,
  type MetricSample,
} from '../../main/contract/metrics.ts';

export type Column = (number | null)[];

export interface Series<Name extends string = Channel> {
  periodMs: number;
  /** Time of the first point's begin. */
  start: number;
  length: number;
  average: Record<Name, Column>;
  maximum: Record<Name, Column>;
  events: MachineEvent[];
}

export const RANGES = [
  { tier: 0, label: '10 min', name: 'Last 10 minutes, every second' },
  { tier: 1, label: '3 h', name: 'Last 3 hours, every 10 seconds' },
  { tier: 2, label: '1 week', name: 'Last week, every 5 minutes' },
  { tier: 3, label: '1 year', name: 'Last year, every day' },
] as const;

export type Tier = (typeof RANGES)[number]['tier'];

/** Milliseconds a tier covers. */
export function rangeMs(tier: Tier): number {
  return TIERS[tier].periodMs * TIERS[tier].points;
}

export function seriesOf(history: MetricHistory): Series {
  const { periodMs, start, length, average, maximum, events } = history;
  return { periodMs, start, length, average: { ...average }, maximum: { ...maximum }, events };
}

/** `series` with one more second, and without what is older than `keep` points. Samples out of order are dropped. */
export function continued(series: Series, sample: MetricSample, keep: number): Series {
  const { periodMs } = series;
  // A sample is named by the end of its second; its point by the begin. Rounded as the manager's history files are.
  const place = Math.floor((sample.at - 1 - series.start) / periodMs);
  if (place < series.length - 1) return series;
  const length = place + 1;
  const cut = Math.max(0, length - keep);
  const grow = (column: Column, value: number | null): Column => {
    const longer = column.slice(cut, series.length);
    while (longer.length < length - cut - 1) longer.push(null);
    longer[length - cut - 1] = value;
    return longer;
  };
  const columns = (of: Record<Channel, Column>): Record<Channel, Column> =>
    Object.fromEntries(CHANNEL_NAMES.map((name) => [name, grow(of[name], sample.values[name])])) as Record<
      Channel,
      Column
    >;
  return {
    ...series,
    start: series.start + cut * periodMs,
    length: length - cut,
    average: columns(series.average),
    maximum: columns(series.maximum),
  };
}

/** Index of the point that covers a time; null outside. */
export function indexAt(series: Pick<Series, 'start' | 'length' | 'periodMs'>, at: number): number | null {
  const index = Math.floor((at - series.start) / series.periodMs);
  return index >= 0 && index < series.length ? index : null;
}

/** Time of the first event or point with a value; null when there is none. */
export function firstKnown(series: Series): number | null {
  const event = Math.min(...series.events.map(({ at }) => at));
  for (let i = 0; i < series.length; i++) {
    if (CHANNEL_NAMES.some((name) => (series.average[name][i] ?? null) !== null)) {
      return Math.min(event, series.start + i * series.periodMs);
    }
  }
  return Number.isFinite(event) ? event : null;
}

/** Newest point with a value of any channel; null when there is none. */
export function latestIndex<Name extends string>(series: Series<Name>): number | null {
  const columns: Column[] = Object.values(series.average);
  for (let i = series.length - 1; i >= 0; i--) {
    if (columns.some((column) => (column[i] ?? null) !== null)) return i;
  }
  return null;
}

/** All points as comma-separated values (RFC 4180): a line per point, empty fields where nothing is known. */
export function toCsv(series: Series): string {
  const lines = [['time', ...CHANNEL_NAMES].join(',')];
  for (let i = 0; i < series.length; i++) {
    const values = CHANNEL_NAMES.map((name) => series.average[name][i] ?? '');
    if (values.every((value) => value === '')) continue;
    lines.push([new Date(series.start + i * series.periodMs).toISOString(), ...values].join(','));
  }
  return `${lines.join('\r\n')}\r\n`;
}
