// SPDX-License-Identifier: MIT
// The history of one machine: four tiers of points in a file of fixed size (ring-format.ts), each finer one feeding the coarser ones.
import * as fs from 'node:fs';
import { CHANNEL_NAMES, TIERS } from '../contract/metrics.ts';
import type { Channel } from '../contract/metrics.ts';
import { CHANNELS, isUsable, makeUsable, readSlots, widen, writeSlot } from './ring-format.ts';
import type { Slot } from './ring-format.ts';

export type Values = Readonly<Record<Channel, number | null>>;

/** A stretch of one tier in columns; gaps are null. */
export interface Stretch {
  periodMs: number;
  /** Start of the first point. */
  start: number;
  length: number;
  average: Record<Channel, (number | null)[]>;
  maximum: Record<Channel, (number | null)[]>;
}

/** What has been gathered of a coarser tier's running period. */
interface Gathering {
  period: number;
  sums: Float64Array;
  counts: Uint32Array;
  maxima: Float64Array;
}

/** History of a machine, open for writing by one manager; reading opens the file for each look. */
export class RingFile {
  readonly #file: string;
  #descriptor: number | null = null;
  readonly #gathering: (Gathering | null)[] = TIERS.map(() => null);

  constructor(file: string) {
    this.#file = file;
  }

  /** Keeps one second's values. `at` is the end of the second, in milliseconds since 1970. Throws the system's errors. */
  append(at: number, values: Values): void {
    const descriptor = this.#open();
    // All of them before anything is written: what is gathered anew is read from the finer tiers.
    const gatherings: Gathering[] = [];
    TIERS.forEach(({ periodMs }, tier) => {
      gatherings.push(this.#gatheringOf(descriptor, tier, Math.floor((at - 1) / periodMs), gatherings[tier - 1]));
    });
    gatherings.forEach((gathering, tier) => {
      CHANNEL_NAMES.forEach((name, i) => {
        const value = values[name];
        if (value === null) return;
        gathering.sums[i] += value;
        gathering.counts[i]++;
        gathering.maxima[i] = Math.max(gathering.maxima[i], value);
      });
      // The coarse points are written as they grow, so that a crash loses nothing.
      writeSlot(descriptor, tier, gathering.period, (i) => ({
        average: gathering.counts[i] === 0 ? NaN : gathering.sums[i] / gathering.counts[i],
        maximum: gathering.counts[i] === 0 ? NaN : gathering.maxima[i],
      }));
    });
  }

  /** What is already in the file of this period counts on: the manager may have been restarted in the middle of it. */
  #gatheringOf(descriptor: number, tier: number, period: number, finer: Gathering | undefined): Gathering {
    const current = this.#gathering[tier];
    if (current?.period === period) return current;
    const fresh: Gathering = {
      period,
      sums: new Float64Array(CHANNELS),
      counts: new Uint32Array(CHANNELS),
      maxima: new Float64Array(CHANNELS).fill(-Infinity),
    };
    // A period after one that was gathered has nothing yet; any other may have: the file was just opened, or the clock was set back.
    if (finer !== undefined && (current === null || period < current.period))
      gatherFromFiner(descriptor, tier, fresh, finer);
    this.#gathering[tier] = fresh;
    return fresh;
  }

  #open(): number {
    if (this.#descriptor !== null) return this.#descriptor;
    makeUsable(this.#file);
    this.#descriptor = fs.openSync(this.#file, 'r+');
    return this.#descriptor;
  }

  close(): void {
    if (this.#descriptor === null) return;
    fs.closeSync(this.#descriptor);
    this.#descriptor = null;
    this.#gathering.fill(null);
  }

  /** The points of a tier that touch [from, to). At most as many as the tier keeps, the newest. */
  read(from: number, to: number, tier: number): Stretch {
    const { periodMs, points } = TIERS[tier];
    const last = Math.floor((to - 1) / periodMs);
    const first = Math.max(Math.floor(from / periodMs), last - points + 1);
    const length = Math.max(0, last - first + 1);
    const slots = this.#readSlots(tier, first, length);
    const column = (which: 'average' | 'maximum') =>
      Object.fromEntries(
        CHANNEL_NAMES.map((name, i) => [
          name,
          slots.map((slot) => (slot === null || Number.isNaN(slot[which][i]) ? null : slot[which][i])),
        ]),
      ) as Record<Channel, (number | null)[]>;
    return { periodMs, start: first * periodMs, length, average: column('average'), maximum: column('maximum') };
  }

  #readSlots(tier: number, first: number, length: number): (Slot | null)[] {
    if (fs.existsSync(this.#file)) widen(this.#file);
    if (!isUsable(this.#file)) return new Array<null>(length).fill(null);
    const descriptor = fs.openSync(this.#file, 'r');
    try {
      return readSlots(descriptor, tier, first, length);
    } finally {
      fs.closeSync(descriptor);
    }
  }
}

/** The finest tier that reaches back to `from`, seen from `now`. */
export function tierFor(from: number, now: number): number {
  const reaching = TIERS.findIndex(({ periodMs, points }) => from >= now - periodMs * points);
  return reaching < 0 ? TIERS.length - 1 : reaching;
}

/**
 * Takes up what the file has of a coarse period: its finer points, each of which counts as whole, but for the one that is being gathered and knows
 * of how many seconds it is.
 */
function gatherFromFiner(descriptor: number, tier: number, gathering: Gathering, present: Gathering): void {
  const finer = TIERS[tier - 1];
  const perPoint = finer.periodMs / 1000;
  const points = TIERS[tier].periodMs / finer.periodMs;
  const first = gathering.period * points;
  readSlots(descriptor, tier - 1, first, points).forEach((slot, n) => {
    if (slot === null || first + n === present.period) return;
    for (let i = 0; i < CHANNELS; i++) {
      if (Number.isNaN(slot.average[i])) continue;
      gathering.sums[i] += slot.average[i] * perPoint;
      gathering.counts[i] += perPoint;
      gathering.maxima[i] = Math.max(gathering.maxima[i], slot.maximum[i]);
    }
  });
  for (let i = 0; i < CHANNELS; i++) {
    gathering.sums[i] += present.sums[i];
    gathering.counts[i] += present.counts[i];
    gathering.maxima[i] = Math.max(gathering.maxima[i], present.maxima[i]);
  }
}
