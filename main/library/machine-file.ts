// SPDX-License-Identifier: MIT
// machine.json: what a machine is, in its folder. Files inside the folder are named relative to it, so that the folder can be moved and
// copied. Unknown fields are refused by name; every older version has a migration and a fixture (testing/machine-vN.json).
import * as path from 'node:path';
import * as v from 'valibot';
import { pvError } from '../../engine/errors.ts';
import { describeIssues } from '../contract/issues.ts';
import { kernelFacts, machineConfiguration } from '../contract/machine.ts';
import type { KernelFacts, MachineConfiguration } from '../contract/machine.ts';
import { machineId, timestamp } from '../contract/values.ts';
import { writeFileAtomically } from '../vm/atomic-file.ts';
import { readSmallFile } from '../vm/small-file.ts';

export const MACHINE_FILE_VERSION = 2;

/** Many times what the longest notes and names take. */
const SIZE_LIMIT = 1024 * 1024;

/** What the file says; paths of `configuration` are absolute here. */
export interface MachineFile {
  id: string;
  created: number;
  configuration: MachineConfiguration;
  kernelFacts: KernelFacts | null;
}

const fileSchema = v.strictObject({
  version: v.literal(MACHINE_FILE_VERSION),
  id: machineId,
  created: timestamp,
  ...machineConfiguration.entries,
  kernelFacts: v.nullable(kernelFacts),
});

/** Turns a file of version N into one of version N + 1. Never removed. */
export type Migration = (file: Record<string, unknown>) => Record<string, unknown>;

/** By the version they start from. Version 1 is the first. */
const migrations: Readonly<Record<number, Migration>> = {
  1: (file) => ({ consolePty: false, ...file }),
};

export const machineFilePath = (folder: string): string => path.join(folder, 'machine.json');

/**
 * Brings a file to `target` step by step. Throws `machine-file-newer` and `machine-file-invalid`.
 * `path` is for error texts.
 */
export function migrate(
  file: Record<string, unknown>,
  filePath: string,
  target = MACHINE_FILE_VERSION,
  steps: Readonly<Record<number, Migration>> = migrations,
): Record<string, unknown> {
  let current = file;
  for (;;) {
    const { version } = current;
    if (typeof version !== 'number' || !Number.isInteger(version) || version < 1)
      throw pvError('machine-file-invalid', { path: filePath, detail: 'it has no version' });
    if (version === target) return current;
    if (version > target) throw pvError('machine-file-newer', { path: filePath, version, known: target });
    current = { ...steps[version](current), version: version + 1 };
  }
}

/** Reads the machine in a folder. Throws `folder-not-machine`, `machine-file-invalid`, `machine-file-newer`. */
export function readMachineFile(folder: string): MachineFile {
  const file = machineFilePath(folder);
  let text: string;
  try {
    text = readSmallFile(file, SIZE_LIMIT);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw pvError('folder-not-machine', { path: folder }, error);
    throw pvError('machine-file-invalid', { path: file, detail: (error as Error).message }, error);
  }
  return parseMachineFile(text, folder);
}

/** The machine whose file cannot be used, from the copy of its last good state; null when there is none. */
export function readMachineBackup(folder: string): MachineFile | null {
  try {
    return parseMachineFile(readSmallFile(`${machineFilePath(folder)}.bak`, SIZE_LIMIT), folder);
  } catch {
    return null;
  }
}

/** The identifier in a folder's machine file, whatever else is wrong with it; null when it says none. */
export function idInFolder(folder: string): string | null {
  try {
    const { id } = JSON.parse(readSmallFile(machineFilePath(folder), SIZE_LIMIT)) as { id?: unknown };
    return typeof id === 'string' ? id : null;
  } catch {
    return null;
  }
}

export function parseMachineFile(text: string, folder: string): MachineFile {
  const file = machineFilePath(folder);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw pvError(
      'machine-file-invalid',
      { path: file, detail: `it is not JSON (${(error as Error).message})` },
      error,
    );
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw pvError('machine-file-invalid', { path: file, detail: 'it is not an object' });
  const result = v.safeParse(fileSchema, migrate(json as Record<string, unknown>, file));
  if (!result.success) throw pvError('machine-file-invalid', { path: file, detail: describeIssues(result.issues) });
  const { version: _, id, created, kernelFacts: facts, ...stored } = result.output;
  const configuration = {
    ...stored,
    kernel: path.resolve(folder, stored.kernel),
    initrd: stored.initrd === null ? null : path.resolve(folder, stored.initrd),
  };
  return { id, created, configuration, kernelFacts: facts };
}

/** Writes the file in one step and keeps the former one as machine.json.bak. Throws `disk-full`, `file-write-failed`. */
export function writeMachineFile(
  folder: string,
  { id, created, configuration, kernelFacts: facts }: MachineFile,
): void {
  const file = {
    version: MACHINE_FILE_VERSION,
    id,
    created,
    ...configuration,
    kernel: relativeInside(folder, configuration.kernel),
    initrd: configuration.initrd === null ? null : relativeInside(folder, configuration.initrd),
    kernelFacts: facts,
  };
  writeFileAtomically(machineFilePath(folder), `${JSON.stringify(file, null, 2)}\n`, { backup: true });
}

/** A path inside the folder is written relative to it, with forward slashes on every platform; any other stays absolute. */
function relativeInside(folder: string, file: string): string {
  const relative = path.relative(folder, file);
  const inside = relative !== '' && !relative.startsWith('..') && !path.isAbsolute(relative);
  return inside ? relative.replaceAll(path.sep, '/') : file;
}
