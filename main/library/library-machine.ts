// SPDX-License-Identifier: MIT
// A machine of the library as it is read from its folder, with what can still be said when its file cannot be used.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { PvError } from '../../engine/errors.ts';
import type { MachineConfiguration } from '../contract/machine.ts';
import { readMachineBackup, readMachineFile } from './machine-file.ts';
import type { MachineFile } from './machine-file.ts';

/** A machine of the library. When its file cannot be used, `problem` says why and `file` holds what is known from the copy of it. */
export interface LibraryMachine {
  id: string;
  folder: string;
  file: MachineFile;
  problem: PvError | null;
}

/** Changes whenever the file is replaced. */
export function stampOf(file: string): string {
  const status = fs.statSync(file, { throwIfNoEntry: false, bigint: true });
  return status === undefined ? '' : `${status.ino} ${status.mtimeNs} ${status.size}`;
}

export function loadMachine(id: string, folder: string): LibraryMachine {
  try {
    return { id, folder, file: readMachineFile(folder), problem: null };
  } catch (error) {
    if (!(error instanceof PvError)) throw error;
    return { id, folder, file: fromBackup(id, folder), problem: error };
  }
}

/** What can still be said of a machine whose file is unusable. */
function fromBackup(id: string, folder: string): MachineFile {
  const configuration: MachineConfiguration = {
    name: path.basename(folder),
    kind: 'pv',
    kernel: folder,
    initrd: null,
    commandLine: '',
    memoryBytes: 512 * 2 ** 20,
    vcpus: 1,
    onReboot: 'restart',
    mfnOrder: 'offset',
    tags: [],
    notes: '',
    autostart: false,
    consolePty: false,
  };
  return readMachineBackup(folder) ?? { id, created: 0, configuration, kernelFacts: null };
}
