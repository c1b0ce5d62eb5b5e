// SPDX-License-Identifier: MIT
// Tells time in translated code from time in the interpreter, by looking twenty times a second at what the vCPU is doing while it does something.
import { noRegion } from '../../engine/cpu/layout.ts';
import type { SharedControl } from './shared-control.ts';

/** Where a machine says which region of translated code its vCPU is in: `noRegion` outside. */
export interface ActivityWord {
  memory: SharedArrayBuffer;
  /** Of the word in `memory`, as in an Int32Array. */
  index: number;
}

const PERIOD_MS = 50;

export class ActivitySampler {
  readonly #word: Int32Array;
  readonly #index: number;
  readonly #control: SharedControl;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;
  /** Looks since the last `translatedNs` that found guest code running, and of those in translated code. */
  #running = 0;
  #translated = 0;
  #runNs = 0;
  #translatedNs = 0;

  constructor({ memory, index }: ActivityWord, control: SharedControl) {
    this.#word = new Int32Array(memory);
    this.#index = index;
    this.#control = control;
    void this.#begin();
  }

  /** Looks from the next time on that guest code runs: a guest that sleeps wakes nobody here. */
  async #begin(): Promise<void> {
    await this.#control.untilRunning();
    if (this.#stopped) return;
    this.#timer = setInterval(() => this.#lookWhileRunning(), PERIOD_MS);
    this.#timer.unref();
  }

  #lookWhileRunning(): void {
    if (this.#control.isRunning()) {
      this.look();
      return;
    }
    this.#rest();
    void this.#begin();
  }

  #rest(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  look(): void {
    if (!this.#control.isRunning()) return;
    this.#running++;
    if (this.#word[this.#index] !== (noRegion | 0)) this.#translated++;
  }

  /** Nanoseconds in translated code so far; `runNs`: in guest code so far. Between two calls the time is divided as the looks were. */
  translatedNs(runNs: number): number {
    if (this.#running > 0) this.#translatedNs += (runNs - this.#runNs) * (this.#translated / this.#running);
    this.#runNs = runNs;
    this.#running = 0;
    this.#translated = 0;
    return this.#translatedNs;
  }

  stop(): void {
    this.#stopped = true;
    this.#rest();
    this.#control.giveUpUntilRunning();
  }
}
