// SPDX-License-Identifier: MIT
// Which charts there are and what each shows: four small multiples, and the engine's own for those who care.
import type { Channel } from '../../main/contract/metrics.ts';
import { bytes, mips, percent, perSecond } from '../text/numbers.ts';

/** `Name`: what has a line of its own; channels of one machine, or machines. */
export interface Line<Name extends string = Channel> {
  channel: Name;
  label: string;
  /** Number of the series colour token. */
  colour: 1 | 2 | 3 | 4 | 5 | 6;
  /** Also show the highest value of each point, where points cover more than a second. */
  peaks?: boolean;
}

export interface ChartSpec<Name extends string = Channel> {
  id: string;
  title: string;
  /** One sentence for those who do not know what this is. */
  about: string;
  lines: readonly Line<Name>[];
  /** Areas that add up, instead of lines. */
  stacked?: boolean;
  /** The upper edge is at least this. */
  top?: number;
  /** Ticks at powers of two. */
  binary?: boolean;
  format: (value: number | null | undefined) => string;
}

export const MAIN_CHARTS: readonly ChartSpec[] = [
  {
    id: 'cpu',
    title: 'CPU',
    about:
      'Share of one host core: what the machine’s process used, and how much of the time its vCPU was in guest code (which includes waiting for a busy host).',
    lines: [
      { channel: 'cpu', label: 'Process', colour: 1, peaks: true },
      { channel: 'running', label: 'Guest code', colour: 2 },
    ],
    top: 1,
    format: percent,
  },
  {
    id: 'instructions',
    title: 'Guest instructions',
    about: 'Millions of guest instructions per second, by how they were executed.',
    lines: [
      { channel: 'translated', label: 'Translated', colour: 4 },
      { channel: 'interpreted', label: 'Interpreted', colour: 2 },
    ],
    stacked: true,
    // An idle guest's noise is not blown up to fill the chart.
    top: 10e6,
    format: mips,
  },
  {
    id: 'memory',
    title: 'Host memory',
    about: 'Memory of the machine’s process on this computer; it grows as the guest touches its own.',
    lines: [{ channel: 'memory', label: 'Process', colour: 3 }],
    binary: true,
    format: bytes,
  },
  {
    id: 'hypercalls',
    title: 'Hypercalls and events',
    about: 'Requests of the guest to the hypervisor by kind, and events delivered to the guest.',
    lines: [
      { channel: 'hypercallsMmu', label: 'Page tables', colour: 1 },
      { channel: 'hypercallsSched', label: 'Scheduling', colour: 2 },
      { channel: 'hypercallsEvents', label: 'Event channels', colour: 3 },
      { channel: 'hypercallsGrants', label: 'Grants', colour: 4 },
      { channel: 'hypercallsOther', label: 'Other', colour: 6 },
      { channel: 'events', label: 'Events in', colour: 5 },
    ],
    top: 100,
    format: perSecond,
  },
];

export const ENGINE_CHARTS: readonly ChartSpec[] = [
  {
    id: 'time',
    title: 'Where time goes',
    about:
      'Share of each second in translated code, in the interpreter and the hypervisor (told apart by twenty looks a second), and in idling; the rest is waiting for the host.',
    lines: [
      { channel: 'translatedTime', label: 'Translated code', colour: 4 },
      { channel: 'interpretedTime', label: 'Interpreter', colour: 2 },
      { channel: 'idle', label: 'Idle', colour: 6 },
    ],
    stacked: true,
    top: 1,
    format: percent,
  },
  {
    id: 'faults',
    title: 'Faults and TLB misses',
    about: 'Exceptions delivered to the guest, page faults among them, and address translations that were not at hand.',
    lines: [
      { channel: 'tlbMisses', label: 'TLB misses', colour: 3 },
      { channel: 'faults', label: 'Faults', colour: 2 },
      { channel: 'pageFaults', label: 'Page faults', colour: 1 },
    ],
    format: perSecond,
  },
];
