// SPDX-License-Identifier: MIT
// Long work: what is going on, how far it is, and a way to cancel it.
import { SvelteSet } from 'svelte/reactivity';
import type { EventPayload } from '../../main/contract/events.ts';
import { invoke, on } from './manager.svelte.ts';

export interface Task {
  id: string;
  /** What the user asked for: "Making the welcome guest". */
  title: string;
  /** When it began. */
  since: number;
  progress: EventPayload<'task:progressed'> | null;
  cancelling: boolean;
  cancel: () => void;
}

class Tasks {
  list = $state<Task[]>([]);
  /** Tasks whose progress the place that began them shows. */
  readonly shown = new SvelteSet<string>();

  follow(): void {
    on('task:progressed', (progress) => this.#patch(progress.task, { progress }));
  }

  get(id: string | null): Task | null {
    return this.list.find((task) => task.id === id) ?? null;
  }

  /** Runs work of the manager under a fresh task identifier. `known` gets it before the work begins. */
  async run<T>(title: string, work: (task: string) => Promise<T>, known?: (task: string) => void): Promise<T> {
    const id = crypto.randomUUID();
    const cancel = (): void => {
      this.#patch(id, { cancelling: true });
      void invoke('task:cancel', { task: id }).catch(() => undefined);
    };
    return this.#during(
      { id, title, since: Date.now(), progress: null, cancelling: false, cancel },
      () => work(id),
      known,
    );
  }

  /** Runs work of this page, which reports by itself and stops at the signal. */
  async runHere<T>(
    title: string,
    work: (signal: AbortSignal, report: (done: number, total: number) => void) => Promise<T>,
    known?: (task: string) => void,
  ): Promise<T> {
    const id = crypto.randomUUID();
    const abort = new AbortController();
    const cancel = (): void => {
      this.#patch(id, { cancelling: true });
      abort.abort();
    };
    const report = (done: number, total: number): void =>
      this.#patch(id, { progress: { task: id, text: title, done, total, unit: 'bytes' } });
    const task: Task = { id, title, since: Date.now(), progress: null, cancelling: false, cancel };
    return this.#during(task, () => work(abort.signal, report), known);
  }

  async #during<T>(task: Task, work: () => Promise<T>, known?: (task: string) => void): Promise<T> {
    this.list = [...this.list, task];
    known?.(task.id);
    try {
      return await work();
    } finally {
      this.list = this.list.filter((other) => other.id !== task.id);
    }
  }

  #patch(id: string, change: Partial<Task>): void {
    this.list = this.list.map((task) => (task.id === id ? { ...task, ...change } : task));
  }
}

export const tasks = new Tasks();
