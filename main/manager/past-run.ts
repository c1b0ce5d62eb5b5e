// SPDX-License-Identifier: MIT
// What a machine's records say of its last run, for a manager that was not there.
import { pvError } from '../../engine/errors.ts';
import type { PvError } from '../../engine/errors.ts';
import type { MachineState } from '../contract/machine.ts';
import { isLocked } from '../library/machine-folder.ts';
import { readRunRecord } from '../vm/read-run-record.ts';
import { writeRunRecord } from '../vm/run-record.ts';
import type { RunRecord } from '../vm/run-record.ts';
import type { Exit } from './child-exit.ts';
import type { VmOutcome } from '../vm/outcome.ts';
import { crashOf, deathOf } from './endings.ts';

/** How a machine stands before anybody has spoken with its process. */
export interface PastRun {
  state: MachineState;
  since: number | null;
  problem: PvError | null;
  /** False: a process has it that could not be reached yet. */
  available: boolean;
  startedAt: number | null;
}

/** Reads the records. A run whose process died while nobody watched is closed as such. */
export function readPastRun(name: string, folder: string): PastRun {
  const past: PastRun = { state: 'off', since: null, problem: null, available: true, startedAt: null };
  const record = readRunRecord(folder);
  if (record === null) return past;
  if (record.endedAt !== null) {
    const problem = record.outcome === null || record.dismissed ? null : crashOf(record.outcome);
    const state = problem === null || record.outcome?.kind === 'refused' ? 'off' : 'crashed';
    return { ...past, state, since: record.endedAt, problem };
  }
  const { startedAt } = record;
  if (isLocked(folder)) {
    const problem = pvError('machine-locked', { name, holder: 'it is running there' });
    return { state: 'running', since: startedAt, problem, available: false, startedAt };
  }
  const problem = deathOf(name, folder, null);
  closeRecord(folder, record, problem);
  return { ...past, state: 'crashed', since: startedAt, problem };
}

/**
 * How a run ended whose process is gone. It may have ended properly while our connection broke: its record knows. Otherwise the death is noted
 * there; `exit` is what the system says of it, if it was ours to hear.
 */
export function endOfLostRun(name: string, folder: string, startedAt: number | null, exit: Exit): VmOutcome {
  const record = readRunRecord(folder);
  if (record?.endedAt && record.startedAt === startedAt && record.outcome !== null) return record.outcome;
  const problem = deathOf(name, folder, exit);
  if (record !== null) closeRecord(folder, record, problem);
  return { kind: 'failed', error: problem };
}

/** Notes in the record of a run that its process has died. */
function closeRecord(folder: string, record: RunRecord, { code, message, action }: PvError): void {
  try {
    const outcome = { kind: 'failed', error: { code, message, action } } as const;
    writeRunRecord(folder, { ...record, endedAt: Date.now(), outcome });
  } catch {
    // The record is a report; the folder may be gone or full.
  }
}
