// SPDX-License-Identifier: MIT
// Collects garbage while the guest idles: the engine's heap would otherwise grow to three times what is in use before V8 minds.

import * as v8 from 'node:v8';

/** The guest sleeps for at least this long: a collection takes about as many milliseconds. */
const IDLE_MS = 20;

/** Looking how large the heap is costs something, too. */
const LOOK_MS = 100;

/** Garbage that is worth a collection. */
const GROWN_BYTES = 8 * 2 ** 20;

/** The heap of this thread; `collect` is absent where V8 was started without `--expose-gc`. */
export interface Heap {
  usedBytes(): number;
  readonly collect: (() => void) | undefined;
}

const ownHeap: Heap = {
  usedBytes: () => v8.getHeapStatistics().used_heap_size,
  collect: globalThis.gc && (() => void globalThis.gc?.()),
};

export class IdleCollection {
  readonly #heap: Heap;
  #collectedBytes: number;
  #lookAtMs = 0;

  constructor(heap: Heap = ownHeap) {
    this.#heap = heap;
    this.#collectedBytes = heap.usedBytes();
  }

  /** The guest is about to sleep for so many milliseconds. */
  idle(untilWakeMs: number, nowMs: number): void {
    const { collect } = this.#heap;
    if (!collect || untilWakeMs < IDLE_MS || nowMs < this.#lookAtMs) return;
    this.#lookAtMs = nowMs + LOOK_MS;
    if (this.#heap.usedBytes() < this.#collectedBytes + GROWN_BYTES) return;
    collect();
    this.#collectedBytes = this.#heap.usedBytes();
  }
}
