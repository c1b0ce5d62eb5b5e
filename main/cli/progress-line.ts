// SPDX-License-Identifier: MIT
// Progress of something long on standard error: one line that is rewritten on a terminal, a line per step elsewhere.
import type { EventPayload } from '../contract/events.ts';
import { printable, size } from './tables.ts';

type Progress = EventPayload<'task:progressed'>;

/** What is over sooner has no progress to tell of. */
const QUIET_MS = 700;

/** Standard error, or a test's. */
export interface ProgressOutput {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

export class ProgressLine {
  readonly #output: ProgressOutput;
  readonly #since = Date.now();
  #last = '';

  constructor(output: ProgressOutput = process.stderr) {
    this.#output = output;
  }

  show(progress: Progress): void {
    if (Date.now() - this.#since < QUIET_MS) return;
    const terminal = this.#output.isTTY === true;
    const line = terminal ? describeProgress(progress) : progress.text;
    if (line === this.#last) return;
    this.#last = line;
    const text = printable(line);
    // One column is left free: a full line would wrap, and the next could not replace it.
    this.#output.write(terminal ? `\r\u001b[K${text.slice(0, (this.#output.columns ?? 80) - 1)}` : `${text}\n`);
  }

  /** Leaves the terminal as it was. */
  end(): void {
    if (this.#output.isTTY === true && this.#last !== '') this.#output.write('\r\u001b[K');
  }
}

/** `Downloading linux-image: 12 of 30 MiB (40 %)`. */
export function describeProgress({ text, done, total, unit }: Progress): string {
  const amount = (n: number): string => (unit === 'bytes' ? size(n) : String(Math.floor(n)));
  if (total === null) return done === 0 ? `${text} ...` : `${text}: ${amount(done)}`;
  if (unit === 'seconds') return `${text}: ${amount(done)} of ${amount(total)} s`;
  return `${text}: ${amount(done)} of ${amount(total)} (${total === 0 ? 100 : Math.floor((done / total) * 100)} %)`;
}
