// SPDX-License-Identifier: MIT
// What a machine of the library is started with, and where the manager writes down what happens to it.
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { LibraryMachine } from '../library/library-machine.ts';
import { appendLog, machineLogFile } from '../vm/machine-log.ts';
import type { LogLine } from '../vm/machine-log.ts';
import type { VmStartOptions } from '../vm/start.ts';

export function startOptionsOf({ id, folder, file }: LibraryMachine, machineModule?: string): VmStartOptions {
  const { kernel, initrd, commandLine, memoryBytes, mfnOrder, onReboot, name } = file.configuration;
  return {
    machine: { kernel, ...(initrd !== null && { initrd }), commandLine, memoryBytes, mfnOrder },
    name,
    onReboot,
    library: { id, folder },
    ...(machineModule !== undefined && { machineModule }),
  };
}

/** Keeps a line in the machine's log; a folder that is gone or full has none. */
export function keepLogLine(folder: string, line: LogLine): void {
  try {
    fs.mkdirSync(path.dirname(machineLogFile(folder)), { recursive: true });
    appendLog(machineLogFile(folder), line);
  } catch {
    // There is nowhere to say so either.
  }
}
