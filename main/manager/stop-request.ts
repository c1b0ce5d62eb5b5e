// SPDX-License-Identifier: MIT
// A guest that was asked to power off: how long it may take, what happens then, and how others follow it. A guest cannot be un-asked, but
// nobody has to wait for it.
import { pvError } from '../../engine/errors.ts';
import type { StopAsked } from '../contract/machine.ts';
import type { MachineControl } from './machine-control.ts';

/** Those who wait are told how long it has been this often. */
const TELL_MS = 500;

/** The clock of one machine's stop. */
export class StopRequest {
  #asked: StopAsked | null = null;
  #timer: NodeJS.Timeout | null = null;

  /** What windows show; null when no guest was asked. */
  get asked(): StopAsked | null {
    return this.#asked;
  }

  /** Begins anew; `overdue` is called when the time is over and nobody has called `end`. */
  begin(seconds: number, overdue: () => void): void {
    this.end();
    const at = Date.now();
    this.#asked = { at, until: at + seconds * 1000, overdue: false };
    this.#timer = setTimeout(() => {
      if (this.#asked !== null) this.#asked = { ...this.#asked, overdue: true };
      overdue();
    }, seconds * 1000);
  }

  /** Nobody waits any more. False when nobody did. */
  end(): boolean {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const waited = this.#asked !== null;
    this.#asked = null;
    return waited;
  }
}

/**
 * Follows a stop that `control` was asked for. Resolves when the machine is off; rejects with `stop-timeout` when it is overdue and not to be
 * forced, with what is wrong when the guest crashes instead, with `cancelled` when the waiting was ended elsewhere or by `signal`.
 */
export async function followStop(
  control: MachineControl,
  thenForce: boolean,
  tell: (seconds: number, of: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const { stopAsked } = control;
  if (stopAsked === null) return;
  const total = (stopAsked.until - stopAsked.at) / 1000;
  const over = (): boolean => control.state === 'off' || control.state === 'crashed';
  while (!over()) {
    if (signal.aborted) control.endStopping();
    // The guest may also have begun anew.
    if (control.stopAsked === null) throw pvError('cancelled', {});
    if (control.stopAsked.overdue && !thenForce) throw pvError('stop-timeout', { name: control.name, seconds: total });
    tell(Math.min(total, (Date.now() - stopAsked.at) / 1000), total);
    await control.until(over, TELL_MS).catch(() => undefined);
  }
  if (control.state === 'crashed' && control.problem !== null) throw control.problem;
}
