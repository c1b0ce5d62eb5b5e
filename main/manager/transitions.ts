// SPDX-License-Identifier: MIT
// The states of a machine and every way between them; what the table does not have cannot happen.
import { pvError } from '../../engine/errors.ts';
import type { PvError } from '../../engine/errors.ts';
import type { MachineState } from '../contract/machine.ts';

/** What can happen to a machine: verbs of the user, and news from its process. */
export const happenings = [
  'start',
  'pause',
  'resume',
  'reset',
  'dismiss',
  /** A VM process that somebody else has started is found at work; what its guest does it says next. */
  'found',
  /** The guest runs for the first time, or stands still, or goes on. */
  'running',
  'standing',
  /** The guest begins anew. */
  'restarting',
  /** It ended in an ordinary way or by force, or could not be started. */
  'ended',
  /** The guest crashed, or its process died. */
  'crashed',
] as const;
export type Happening = (typeof happenings)[number];

const TRANSITIONS: Readonly<Record<MachineState, Readonly<Partial<Record<Happening, MachineState>>>>> = {
  off: { start: 'starting', found: 'starting' },
  starting: { running: 'running', standing: 'paused', restarting: 'starting', ended: 'off', crashed: 'crashed' },
  running: {
    // The records said that it runs; here is the process.
    found: 'starting',
    pause: 'running',
    reset: 'running',
    running: 'running',
    standing: 'paused',
    restarting: 'starting',
    ended: 'off',
    crashed: 'crashed',
  },
  paused: {
    resume: 'paused',
    reset: 'paused',
    standing: 'paused',
    running: 'running',
    restarting: 'starting',
    ended: 'off',
    crashed: 'crashed',
  },
  crashed: { start: 'starting', found: 'starting', dismiss: 'off' },
};

/** What to do instead, by state. */
const HINTS: Readonly<Record<MachineState, string>> = {
  off: 'start the machine first',
  starting: 'wait until it runs, or stop it by force',
  running: 'pause or stop the machine first',
  paused: 'resume or stop the machine first',
  crashed: 'start the machine again, or dismiss the crash',
};

/** The state after `happening`, or null when it is not possible. */
export function next(state: MachineState, happening: Happening): MachineState | null {
  return TRANSITIONS[state][happening] ?? null;
}

/** Whether a machine in this state has no guest, nor will it without a start. */
export function isOver(state: MachineState): boolean {
  return state === 'off' || state === 'crashed';
}

/** The error for a verb that the state does not allow; `verb` completes "it cannot ... now". */
export function notPossible(name: string, state: MachineState, verb: string): PvError {
  return pvError('machine-state', { name, state, verb, hint: HINTS[state] });
}
