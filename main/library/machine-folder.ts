// SPDX-License-Identifier: MIT
// Machine folders as wholes: choosing a place, copying one, moving it also across file systems, its size.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import { describeWriteError } from '../vm/atomic-file.ts';
import { lockFile } from '../vm/folder-lock.ts';
import { runLockFile } from '../vm/run-record.ts';
import { absolutePath } from './directories.ts';

/** Files of a machine's folder that belong to its runs and not to what it is; a clone begins without them. */
const OF_RUNS = new Set([
  'logs',
  'run.json',
  'run.lock',
  'history.ring',
  'events.jsonl',
  'machine.json',
  'machine.json.bak',
]);

/** A folder for a new machine: the one asked for, which must be new or empty, or one named after the machine. Creates it. */
export function makeMachineFolder(asked: string | undefined, name: string, parent: string): string {
  const folder = asked === undefined ? freeFolder(parent, name) : absolutePath(asked);
  try {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (fs.readdirSync(folder).length > 0) throw pvError('folder-not-empty', { path: folder });
    return folder;
  } catch (error) {
    throw folderError(error, folder);
  }
}

function freeFolder(parent: string, name: string): string {
  // What every file system takes; the name itself stands in machine.json.
  const base = name.replace(/[^\p{L}\p{N}._-]+/gu, '-').replace(/^[.-]+|[.-]+$/g, '') || 'machine';
  for (let n = 1; ; n++) {
    const folder = path.join(parent, n === 1 ? base : `${base}-${n}`);
    if (!fs.existsSync(folder)) return folder;
  }
}

/** Copies a file into a folder, sharing blocks where the file system can. Returns its new path. */
export async function copyInto(file: string, folder: string): Promise<string> {
  const copy = path.join(folder, path.basename(file));
  try {
    await fs.promises.copyFile(file, copy, fs.constants.COPYFILE_FICLONE);
  } catch (error) {
    throw describeWriteError(error, copy);
  }
  return copy;
}

/** Copies what belongs to the machine itself; machine.json is written anew by the caller. */
export async function copyMachineFiles(from: string, to: string): Promise<void> {
  try {
    for (const name of await fs.promises.readdir(from)) {
      if (OF_RUNS.has(name) || name.endsWith('.tmp')) continue;
      await fs.promises.cp(path.join(from, name), path.join(to, name), {
        recursive: true,
        mode: fs.constants.COPYFILE_FICLONE,
      });
    }
  } catch (error) {
    throw describeWriteError(error, to);
  }
}

/** Moves a folder to a path that must not exist. Across file systems it is copied under another name first and appears at once. */
export function moveFolder(from: string, to: string): void {
  if (fs.existsSync(to)) throw pvError('folder-not-empty', { path: to });
  try {
    fs.mkdirSync(path.dirname(to), { recursive: true, mode: 0o700 });
    fs.renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw folderError(error, to);
    const partial = `${to}.partial`;
    try {
      fs.cpSync(from, partial, { recursive: true, preserveTimestamps: true });
      fs.renameSync(partial, to);
    } catch (copyError) {
      fs.rmSync(partial, { recursive: true, force: true });
      throw folderError(copyError, to);
    }
    fs.rmSync(from, { recursive: true, force: true });
  }
}

/** Throws `machine-locked` while a VM process, of whichever manager, has the machine. */
export function requireUnlocked(folder: string, name: string): void {
  if (isLocked(folder)) throw pvError('machine-locked', { name, holder: 'it is running there' });
}

export function isLocked(folder: string): boolean {
  if (!fs.existsSync(runLockFile(folder))) return false;
  const lock = lockFile(runLockFile(folder));
  lock?.release();
  return lock === null;
}

/** Bytes of all files below a folder; what cannot be read counts nothing. */
export async function folderBytes(folder: string): Promise<number> {
  let total = 0;
  const entries = await fs.promises.readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    total += (await fs.promises.stat(path.join(entry.parentPath, entry.name)).catch(() => null))?.size ?? 0;
  }
  return total;
}

function folderError(error: unknown, folder: string): unknown {
  if (!(error instanceof Error) || !('syscall' in error)) return error;
  if ('code' in error && error.code === 'ENOSPC') return pvError('disk-full', { path: folder }, error);
  return pvError('folder-unusable', { path: folder, detail: error.message }, error);
}
