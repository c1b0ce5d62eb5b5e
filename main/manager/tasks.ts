// SPDX-License-Identifier: MIT
// Things that take longer than a second: each has an identifier, tells how far it is, and can be cancelled.
import { pvError } from '../../engine/errors.ts';
import type { EventPayload } from '../contract/events.ts';

export type TaskProgress = EventPayload<'task:progressed'>;
export type TellProgress = (progress: Omit<TaskProgress, 'task'>) => void;

/** Progress is told at most this often. */
const PROGRESS_MS = 100;

export class Tasks {
  readonly #running = new Map<string, AbortController>();
  readonly #told: (progress: TaskProgress) => void;

  constructor(told: (progress: TaskProgress) => void) {
    this.#told = told;
  }

  /** Runs `work` as the task `id`. Rejects with `cancelled` when that is why it failed; throws `task-running`. */
  async run<T>(id: string, work: (tell: TellProgress, signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#running.has(id)) throw pvError('task-running', { task: id });
    const controller = new AbortController();
    this.#running.set(id, controller);
    let last = { at: 0, text: '' };
    const tell: TellProgress = (progress) => {
      const now = Date.now();
      if (progress.text === last.text && now - last.at < PROGRESS_MS && progress.done !== progress.total) return;
      last = { at: now, text: progress.text };
      this.#told({ task: id, ...progress });
    };
    try {
      const result = await work(tell, controller.signal);
      controller.signal.throwIfAborted();
      return result;
    } catch (error) {
      throw controller.signal.aborted ? pvError('cancelled', {}, error) : error;
    } finally {
      this.#running.delete(id);
    }
  }

  cancel(id: string): void {
    this.#running.get(id)?.abort();
  }

  cancelAll(): void {
    for (const controller of this.#running.values()) controller.abort();
  }
}
