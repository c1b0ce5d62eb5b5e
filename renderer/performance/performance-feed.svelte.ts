// SPDX-License-Identifier: MIT
// The measurements of one machine over the chosen range, kept up to date while they are shown.
import { CHANNEL_NAMES, TIERS, type MetricSample } from '../../main/contract/metrics.ts';
import { clock } from '../state/clock.svelte.ts';
import { invoke, on, whenConnected } from '../state/manager.svelte.ts';
import { watchMetrics } from '../state/watch.ts';
import { continued, latestIndex, rangeMs, seriesOf, type Series, type Tier } from './history.ts';

/** Coarser tiers are read again this often; their points do not change faster. */
const RELOAD_MS = 10_000;
const CATCH_UP_MS = 4000;
/** Without a sample for this long the axis moves by itself. */
const LATE_MS = 1800;

export class PerformanceFeed {
  readonly machine: string;
  tier = $state<Tier>(0);
  series = $state.raw<Series | null>(null);
  /** While paused, what is shown stays; measuring goes on. */
  paused = $state(false);
  /** Right edge of the charts. */
  now = $state(Date.now());
  error = $state.raw<unknown>(null);

  readonly #endings: (() => void)[];
  #request = 0;
  #latest: Series | null = null;
  /** False while `#latest` waits for the next beat. */
  #drawn = true;

  constructor(machine: string, tier: Tier = 0) {
    this.machine = machine;
    this.tier = tier;
    // The manager's history is a moment behind; what it missed while this page began to listen is there a little later.
    const catchUp = setTimeout(() => this.load(), CATCH_UP_MS);
    const reload = setInterval(() => {
      if (this.tier !== 0 && !document.hidden) this.load();
    }, RELOAD_MS);
    this.#endings = [
      watchMetrics(machine),
      whenConnected(() => this.load()),
      on('metrics:sampled', ({ machine: id, sample }) => {
        if (id !== machine || this.tier !== 0 || this.#latest === null) return;
        // Drawn with everything else that changes every second.
        this.#latest = continued(this.#latest, sample, TIERS[0].points);
        this.#drawn = false;
      }),
      on('machine:happened', ({ machine: id, event }) => {
        if (id !== machine || this.#latest === null) return;
        this.#show({ ...this.#latest, events: [...this.#latest.events, event] });
      }),
      clock.onBeat(() => this.#beat()),
      () => clearInterval(reload),
      () => clearTimeout(catchUp),
    ];
  }

  choose(tier: Tier): void {
    this.tier = tier;
    this.series = this.#latest = null;
    this.paused = false;
    this.load();
  }

  pause(paused: boolean): void {
    this.paused = paused;
    if (paused) return;
    this.now = Date.now();
    this.series = this.#latest;
  }

  load(): void {
    const request = ++this.#request;
    const to = Date.now();
    invoke('metrics:history', { machine: this.machine, from: to - rangeMs(this.tier), to, tier: this.tier }).then(
      (history) => {
        if (request !== this.#request) return;
        this.error = null;
        this.#show(this.#joined(seriesOf(history)));
      },
      (error: unknown) => {
        if (request === this.#request) this.error = error;
      },
    );
  }

  dispose(): void {
    for (const end of this.#endings) end();
  }

  /** History read again, followed by the live seconds that it does not have yet. */
  #joined(read: Series): Series {
    const live = this.#latest;
    if (live === null || live.periodMs !== read.periodMs || this.tier !== 0) return read;
    const last = latestIndex(read);
    const end = last === null ? -Infinity : read.start + last * read.periodMs;
    let joined = read;
    for (let i = 0; i < live.length; i++) {
      const at = live.start + i * live.periodMs;
      if (at <= end) continue;
      const values = Object.fromEntries(
        CHANNEL_NAMES.map((name) => [name, live.average[name][i] ?? null]),
      ) as MetricSample['values'];
      joined = continued(joined, { at: at + live.periodMs, values }, TIERS[0].points);
    }
    return joined;
  }

  #show(series: Series): void {
    this.#latest = series;
    this.#drawn = true;
    if (this.paused) return;
    this.series = series;
    this.now = Date.now();
  }

  #beat(): void {
    if (!this.#drawn && this.#latest !== null) this.#show(this.#latest);
    else if (!this.paused && Date.now() - this.now > LATE_MS) this.now = Date.now();
  }
}
