// SPDX-License-Identifier: MIT
// The page's one beat a second: the time of day for "running 3 h 12 min", and the moment at which whatever changes every second is drawn.
// Everything that is drawn together costs one frame; three things drawn apart cost three. Where machines run, their samples give the beat.
import { on } from './manager.svelte.ts';

const BEAT_MS = 1000;
/** Without samples for this long the timer gives the beat. */
const LATE_MS = 1400;

class Clock {
  now = $state(Date.now());
  readonly #listeners = new Set<() => void>();

  follow(): void {
    on('library:sampled', () => this.#beat());
    setInterval(() => {
      if (Date.now() - this.now > LATE_MS) this.#beat();
    }, BEAT_MS);
    document.addEventListener('visibilitychange', () => this.#beat());
  }

  /** Calls `listener` about once a second while the page can be seen; returns a function that ends it. */
  onBeat(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #beat(): void {
    if (document.hidden) return;
    this.now = Date.now();
    for (const listener of [...this.#listeners]) listener();
  }
}

export const clock = new Clock();
