// SPDX-License-Identifier: MIT
// How a run of a VM can end, what it cost, and the exit codes that tell a shell which it was.
import { PvError } from '../../engine/errors.ts';
import type { GuestOutcome, MachineCounts } from './machine.ts';

/** An error in a form that crosses threads, processes and sockets. */
export interface ErrorReport {
  code: string;
  message: string;
  action: string;
}

/** The end of a VM: the guest's own outcome, or what happened to it from outside. */
export type VmOutcome =
  | GuestOutcome
  /** Ended from outside without the guest's consent. */
  | { kind: 'forced' }
  /** The guest could not be started: something it was to be made from is unusable. */
  | { kind: 'refused'; error: ErrorReport }
  /** A defect of Paravane. */
  | { kind: 'failed'; error: ErrorReport };

/** Figures of one run: the machine's counts and what the host spent. Times in nanoseconds. */
export interface VmStats extends MachineCounts {
  /** From the creation of the machine, pauses left out. */
  elapsedNs: number;
  /** Spent inside `Machine.run`. */
  runNs: number;
  /** Of that, time in translated code, by samples; absent when the machine does not tell. */
  translatedNs?: number;
  /** Spent waiting because the guest had nothing to do. */
  idleNs: number;
  /** CPU time of the whole VM process, user and system, all threads. */
  hostCpuNs: number;
  /** Peak resident set of the VM process in bytes. */
  peakRssBytes: number;
}

/** Exit codes of `paravane run`, `attach` and `welcome`; documented by `paravane help`. */
export const ExitCode = {
  Poweroff: 0,
  InternalError: 1,
  Usage: 2,
  BadInput: 3,
  Reboot: 10,
  Crash: 11,
  Suspend: 12,
  Forced: 13,
  VmProcessDied: 14,
  StopTimeout: 15,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export function exitCodeOf(outcome: VmOutcome): ExitCode {
  switch (outcome.kind) {
    case 'poweroff':
      return ExitCode.Poweroff;
    case 'reboot':
      return ExitCode.Reboot;
    case 'crash':
      return ExitCode.Crash;
    case 'suspend':
      return ExitCode.Suspend;
    case 'forced':
      return ExitCode.Forced;
    case 'refused':
      return ExitCode.BadInput;
    case 'failed':
      return ExitCode.InternalError;
  }
}

/** One sentence for the user; empty for the ordinary end. */
export function describeOutcome(outcome: VmOutcome): string {
  switch (outcome.kind) {
    case 'poweroff':
      return '';
    case 'reboot':
      return 'The guest asked to be rebooted (use --on-reboot restart to do so).';
    case 'crash':
      return `The guest crashed: ${outcome.reason}`;
    case 'suspend':
      return 'The guest suspended itself.';
    case 'forced':
      return 'The machine was powered off by force.';
    case 'refused':
    case 'failed':
      return outcome.error.message;
  }
}

/** The outcome for an error thrown while a machine was made or run: a PvError is the input's fault, anything else ours. */
export function outcomeOfError(error: unknown, log: string): VmOutcome {
  if (error instanceof PvError) {
    return { kind: 'refused', error: { code: error.code, message: error.message, action: error.action } };
  }
  const detail = error instanceof Error ? error.message : String(error);
  const failure = new PvError('machine-failed', { detail, log });
  return { kind: 'failed', error: { code: failure.code, message: failure.message, action: failure.action } };
}
