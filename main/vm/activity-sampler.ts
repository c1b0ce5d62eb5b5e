// SPDX-License-Identifier: MIT
// Tells time in translated code from time in the interpreter, by looking twenty times a second at what the vCPU is doing.
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
  readonly #timer: NodeJS.Timeout;
  /** Looks since the last `translatedNs` that found guest code running, and of those in translated code. */
  #running = 0;
  #translated = 0;
  #runNs = 0;
  #translatedNs = 0;

  constructor({ memory, index }: ActivityWord, control: SharedControl) {
    this.#word = new Int32Array(memory);
    this.#index = index;
    this.#control = control;
    this.#timer = setInterval(() => this.look(), PERIOD_MS);
    this.#timer.unref();
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
    clearInterval(this.#timer);
  }
}
