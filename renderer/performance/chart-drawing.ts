// SPDX-License-Identifier: MIT
// How chart.js draws our charts: no animation, no parsing, time as plain numbers, colours from the design tokens.
import {
  Chart,
  Filler,
  LinearScale,
  LineController,
  LineElement,
  PointElement,
  type ChartDataset,
  type ChartOptions,
  type Plugin,
} from 'chart.js';
import type { MachineEvent } from '../../main/contract/metrics.ts';
import { tick } from '../text/times.ts';
import type { ChartSpec } from './charts.ts';
import type { Column, Series } from './history.ts';

Chart.register(LineController, LineElement, PointElement, LinearScale, Filler);

export interface Point {
  x: number;
  y: number | null;
}

/** What is drawn over the lines. */
export interface Overlay {
  /** Time under the shared cursor; null when there is none. */
  cursor: number | null;
  events: readonly MachineEvent[];
  colours: { cursor: string; event: string; crash: string };
}

/** Two points this many periods apart are joined: a clock that ticks a little late leaves one period out, a gap leaves more. */
const BRIDGED = 2.1;

const token = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function overlayColours(): Overlay['colours'] {
  return { cursor: token('--text-3'), event: token('--text-3'), crash: token('--bad') };
}

function points(series: Pick<Series, 'start' | 'length' | 'periodMs'>, column: Column): Point[] {
  const half = series.periodMs / 2;
  return column.slice(0, series.length).map((y, i) => ({ x: series.start + i * series.periodMs + half, y: y ?? null }));
}

/** Lines of a chart, and behind them the peaks where a point covers more than one second. Their data comes by `fill`. */
export function datasetsOf<Name extends string>(
  spec: ChartSpec<Name>,
  periodMs: number,
): ChartDataset<'line', Point[]>[] {
  const datasets = spec.lines.map((line, i): ChartDataset<'line', Point[]> => {
    const colour = token(`--series-${line.colour}`);
    return {
      label: line.label,
      data: [],
      borderColor: colour,
      backgroundColor: `${colour}${spec.stacked === true ? '55' : '1c'}`,
      fill: spec.stacked === true ? (i === 0 ? 'origin' : '-1') : i === 0 && spec.lines.length <= 2 ? 'origin' : false,
      borderWidth: 1.4,
      pointRadius: 0,
      spanGaps: BRIDGED * periodMs,
      stack: spec.stacked === true ? spec.id : undefined,
    };
  });
  if (periodMs === 1000) return datasets;
  const peaks = peakLines(spec).map((line): ChartDataset<'line', Point[]> => ({
    label: `${line.label}, highest`,
    data: [],
    borderColor: `${token(`--series-${line.colour}`)}70`,
    borderWidth: 1,
    pointRadius: 0,
    fill: false,
    spanGaps: BRIDGED * periodMs,
  }));
  return [...datasets, ...peaks];
}

const peakLines = <Name extends string>(spec: ChartSpec<Name>) => spec.lines.filter((line) => line.peaks === true);

/** Gives the lines their points; the datasets stay, so that chart.js need not set them up every second. */
export function fillDatasets<Name extends string>(
  datasets: ChartDataset<'line', Point[]>[],
  spec: ChartSpec<Name>,
  series: Series<Name>,
): void {
  spec.lines.forEach((line, i) => (datasets[i].data = points(series, series.average[line.channel])));
  if (datasets.length === spec.lines.length) return;
  peakLines(spec).forEach((line, i) => {
    datasets[spec.lines.length + i].data = points(series, series.maximum[line.channel]);
  });
}

function isAlone(data: readonly Point[], i: number): boolean {
  return data[i]?.y !== null && (data[i - 1]?.y ?? null) === null && (data[i + 1]?.y ?? null) === null;
}

/** Distances of ticks that are round in the way time is. */
const STEPS_MS = [
  10_000,
  30_000,
  60_000,
  120_000,
  300_000,
  600_000,
  900_000,
  1_800_000,
  3_600_000,
  7_200_000,
  21_600_000,
  86_400_000,
  172_800_000,
  7 * 86_400_000,
  30 * 86_400_000,
];

export function tickStep(spanMs: number, room: number): number {
  return STEPS_MS.find((step) => spanMs / step <= room) ?? STEPS_MS.at(-1)!;
}

/** Round times between two moments, in local time. */
export function ticksBetween(from: number, to: number, step: number): number[] {
  const offset = new Date(from).getTimezoneOffset() * 60_000;
  const result: number[] = [];
  for (let at = Math.ceil((from - offset) / step) * step + offset; at <= to; at += step) result.push(at);
  return result;
}

export function optionsOf<Name extends string>(spec: ChartSpec<Name>, reducedWidth: boolean): ChartOptions<'line'> {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const font = { family: token('--font-ui'), size: 1.1 * rem };
  const grid = token('--grid');
  const text = token('--text-2');
  return {
    animation: false,
    parsing: false,
    normalized: true,
    responsive: true,
    maintainAspectRatio: false,
    events: [],
    layout: { padding: { top: 4, right: 2 } },
    scales: {
      x: {
        type: 'linear',
        border: { display: false },
        grid: { color: grid, drawTicks: false },
        ticks: {
          color: text,
          font,
          padding: 6,
          maxRotation: 0,
          autoSkip: false,
          callback: (value) => tick(Number(value), stepOf(value)),
        },
        afterBuildTicks: (axis) => {
          const step = tickStep(axis.max - axis.min, reducedWidth ? 4 : 6);
          axis.ticks = ticksBetween(axis.min, axis.max, step).map((value) => ({ value }));
          currentStep = step;
        },
      },
      y: {
        type: 'linear',
        min: 0,
        suggestedMax: spec.top ?? 1,
        stacked: spec.stacked === true,
        border: { display: false },
        grid: { color: grid, drawTicks: false },
        // One width for all, so that the time axes stand exactly below each other.
        afterFit: (axis) => {
          axis.width = 6.8 * rem;
        },
        afterBuildTicks: (axis) => {
          if (spec.binary === true) axis.ticks = binaryTicks(axis.max).map((value) => ({ value }));
        },
        ticks: { color: text, font, padding: 6, maxTicksLimit: 4, callback: (value) => spec.format(Number(value)) },
      },
    },
  };
}

/** Round amounts of bytes from 0 to `max`: a power of two apart, at most five of them. */
export function binaryTicks(max: number): number[] {
  const step = 2 ** Math.ceil(Math.log2(Math.max(1, max) / 4));
  const ticks: number[] = [];
  for (let value = 0; value <= max; value += step) ticks.push(value);
  return ticks;
}

/** Step of the axis whose ticks are being labelled: chart.js labels right after building, and asks one axis at a time. */
let currentStep = 60_000;
const stepOf = (_value: number | string): number => currentStep;

/** Event marks and the cursor, drawn over everything. */
export function overlayPlugin(overlay: () => Overlay): Plugin<'line'> {
  return {
    id: 'overlay',
    afterDatasetsDraw(chart) {
      const { ctx, chartArea, scales } = chart;
      const { cursor, events, colours } = overlay();
      const within = (x: number): boolean => x >= chartArea.left && x <= chartArea.right;
      ctx.save();
      for (const event of events) {
        const x = Math.round(scales.x.getPixelForValue(event.at)) + 0.5;
        if (!within(x)) continue;
        const colour = event.kind === 'crashed' ? colours.crash : colours.event;
        ctx.strokeStyle = ctx.fillStyle = colour;
        ctx.globalAlpha = 0.75;
        ctx.setLineDash([2, 3]);
        line(ctx, x, chartArea.top, chartArea.bottom);
        ctx.setLineDash([]);
        mark(ctx, event.kind, x, chartArea.top);
      }
      ctx.globalAlpha = 1;
      drawLonePoints(chart);
      if (cursor !== null) {
        const x = Math.round(scales.x.getPixelForValue(cursor)) + 0.5;
        ctx.strokeStyle = colours.cursor;
        if (within(x)) line(ctx, x, chartArea.top, chartArea.bottom);
      }
      ctx.restore();
    },
  };
}

/** A second with a gap on either side has no length as a line: it is drawn as a dot. */
function drawLonePoints(chart: Chart<'line'>): void {
  const { ctx, scales } = chart;
  for (const dataset of chart.data.datasets) {
    const data = dataset.data as Point[];
    for (let i = 0; i < data.length; i++) {
      if (!isAlone(data, i)) continue;
      ctx.fillStyle = dataset.borderColor as string;
      ctx.fillRect(scales.x.getPixelForValue(data[i].x) - 1, scales.y.getPixelForValue(data[i].y ?? 0) - 1, 2, 2);
    }
  }
}

function line(ctx: CanvasRenderingContext2D, x: number, top: number, bottom: number): void {
  ctx.beginPath();
  ctx.moveTo(x, top);
  ctx.lineTo(x, bottom);
  ctx.stroke();
}

/** A shape per kind of event, as for states: begin, end, crash, anything else. */
function mark(ctx: CanvasRenderingContext2D, kind: MachineEvent['kind'], x: number, y: number): void {
  ctx.beginPath();
  if (kind === 'started' || kind === 'resumed' || kind === 'reset') {
    ctx.moveTo(x - 3, y);
    ctx.lineTo(x + 4, y + 4);
    ctx.lineTo(x - 3, y + 8);
    ctx.fill();
  } else if (kind === 'stopped' || kind === 'paused') ctx.fillRect(x - 3, y + 1, 6, 6);
  else if (kind === 'crashed') {
    ctx.lineWidth = 2;
    ctx.moveTo(x - 3, y + 1);
    ctx.lineTo(x + 3, y + 7);
    ctx.moveTo(x + 3, y + 1);
    ctx.lineTo(x - 3, y + 7);
    ctx.stroke();
    ctx.lineWidth = 1;
  } else {
    ctx.arc(x, y + 4, 3, 0, 2 * Math.PI);
    ctx.fill();
  }
}

export { Chart };
