// SPDX-License-Identifier: MIT
// What the manager counts about itself, and the last lines of its own log: always on, shown by the diagnostics page.
import type { LogEntry } from '../contract/host.ts';

const KEPT_LINES = 500;

export class Counters {
  readonly #counts = new Map<string, number>();
  readonly #refusals = new Map<string, number>();
  readonly #recent: LogEntry[] = [];

  count(name: string): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  /** Something that was sent to the manager and not accepted, by the code of the reason. */
  refuse(reason: string): void {
    this.#refusals.set(reason, (this.#refusals.get(reason) ?? 0) + 1);
  }

  log(level: LogEntry['level'], text: string): void {
    this.#recent.push({ at: Date.now(), level, source: 'manager', text });
    if (this.#recent.length > KEPT_LINES) this.#recent.shift();
  }

  counts(): Record<string, number> {
    return Object.fromEntries([...this.#counts].sort());
  }

  refusals(): Record<string, number> {
    return Object.fromEntries([...this.#refusals].sort());
  }

  recent(): LogEntry[] {
    return [...this.#recent];
  }
}
