// SPDX-License-Identifier: MIT
// Why a run ended, as errors and sentences for the user.
import { errorTable, PvError, pvError } from '../../engine/errors.ts';
import type { ErrorCode } from '../../engine/errors.ts';
import type { ErrorReport } from '../contract/errors.ts';
import type { RunOutcome } from '../contract/machine.ts';
import { machineLogFile, readLogPage } from '../vm/machine-log.ts';
import { describeOutcome } from '../vm/outcome.ts';
import type { VmOutcome } from '../vm/outcome.ts';

/** An error as data. Anything but a PvError is a defect; `command` says what it happened to. */
export function reportOf(error: unknown, command = 'internal'): ErrorReport {
  if (!(error instanceof PvError)) {
    const detail = error instanceof Error ? error.message : String(error);
    return reportOf(pvError('manager-failed', { command, detail }, error));
  }
  const { code, message, action, cause } = error;
  return { code, message, action, ...(cause instanceof Error && { cause: cause.message }) };
}

/** The error that a report was made of, with its texts as they were. */
function revive({ code, message, action }: Omit<ErrorReport, 'cause'>): PvError {
  const known: ErrorCode = Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'machine-failed';
  return Object.assign(new PvError(known, {}), { message, action });
}

/** What is wrong after such an end; null when nothing is. */
export function crashOf(outcome: VmOutcome): PvError | null {
  switch (outcome.kind) {
    case 'crash':
      return pvError('guest-crashed', { reason: outcome.reason.replace(/\.$/, '') });
    case 'refused':
    case 'failed':
      return outcome.error instanceof PvError ? outcome.error : revive(outcome.error);
    case 'poweroff':
    case 'reboot':
    case 'suspend':
    case 'forced':
      return null;
  }
}

export function runOutcomeOf(outcome: VmOutcome): RunOutcome {
  const problem = crashOf(outcome);
  const died = outcome.kind === 'failed' && outcome.error.code === 'vm-process-died';
  return {
    kind: died ? 'died' : outcome.kind,
    // The command line's hint about --on-reboot is of no use to a machine of the library.
    text: outcome.kind === 'reboot' ? 'The guest asked to be rebooted.' : describeOutcome(outcome),
    error: problem && reportOf(problem),
  };
}

/** The error for a VM process that is gone without a word; its log may have the runtime's last. */
export function deathOf(
  name: string,
  folder: string,
  exit: { code: number | null; signal: NodeJS.Signals | null } | null,
): PvError {
  const log = machineLogFile(folder);
  const { lines } = readLogPage(log, 50);
  const ofThisRun = lines.slice(lines.findLastIndex((line) => line.text.startsWith('started as process')) + 1);
  const fatal = ofThisRun.find((line) => /FATAL ERROR|out of memory|ERR_WORKER_OUT_OF_MEMORY/i.test(line.text));
  let detail = 'nobody saw how';
  if (fatal !== undefined) detail = `it ran out of memory: ${fatal.text.slice(0, 120)}`;
  else if (exit?.signal === 'SIGKILL')
    detail = 'it was killed (SIGKILL), by someone or because the computer ran out of memory';
  else if (exit?.signal) detail = `it was ended by the signal ${exit.signal}`;
  else if (exit !== null && exit.code !== null) detail = `it ended with code ${exit.code}`;
  return pvError('vm-process-died', { name, detail, log });
}
