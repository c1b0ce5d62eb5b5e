// SPDX-License-Identifier: MIT
// run.json in a machine's folder: the run that goes on or the last one, kept by the VM process so that it is true whoever watches.
// A record without an end whose lock nobody holds tells of a process that died without a word.
import * as path from 'node:path';
import { writeFileAtomically } from './atomic-file.ts';
import type { MachineConfig } from './machine.ts';
import type { VmOutcome } from './outcome.ts';

export interface RunRecord {
  version: 1;
  pid: number;
  /** Milliseconds since 1970. */
  startedAt: number;
  /** What the guest was started with; a difference to machine.json waits for the next start. */
  machine: MachineConfig & { onReboot: 'restart' | 'exit' };
  endedAt: number | null;
  outcome: VmOutcome | null;
  /** The user has taken note of a crash. */
  dismissed?: boolean;
  /** Guest instructions of the whole run, null when not known. */
  instructions: number | null;
}

export const runRecordFile = (folder: string): string => path.join(folder, 'run.json');
export const runLockFile = (folder: string): string => path.join(folder, 'run.lock');

export function writeRunRecord(folder: string, record: RunRecord): void {
  writeFileAtomically(runRecordFile(folder), JSON.stringify(record), { durable: false });
}
