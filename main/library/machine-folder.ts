// SPDX-License-Identifier: MIT
// Machine folders as wholes: choosing a place, copying one, moving it also across file systems, its size.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import { lockFile } from '../vm/folder-lock.ts';
import type { FileLock } from '../vm/folder-lock.ts';
import { runLockFile } from '../vm/run-record.ts';
import { copyFile, copyFolder } from './copy-files.ts';
import type { CopyOptions } from './copy-files.ts';
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

/** Copies a file into a folder. Returns its new path. */
export async function copyInto(file: string, folder: string, copying: CopyOptions): Promise<string> {
  const copy = path.join(folder, path.basename(file));
  await copyFile(file, copy, copying);
  return copy;
}

/** Copies what belongs to the machine itself; machine.json is written anew by the caller. */
export function copyMachineFiles(from: string, to: string, copying: CopyOptions): Promise<void> {
  return copyFolder(from, to, (name) => OF_RUNS.has(name) || name.endsWith('.tmp'), copying);
}

/** Copies a whole folder to a name beside `place`, from where it can be put into place in one step. Returns the copy's path. */
export async function copyBeside(from: string, place: string, copying: CopyOptions): Promise<string> {
  const copy = `${place}.partial-${Date.now()}`;
  try {
    fs.mkdirSync(copy, { recursive: true, mode: 0o700 });
    await copyFolder(from, copy, () => false, copying);
  } catch (error) {
    fs.rmSync(copy, { recursive: true, force: true });
    throw folderError(error, place);
  }
  return copy;
}

/** Throws `folder-not-empty` or `folder-unusable` unless a folder can be put there; makes what it lies in. */
export function requireNew(place: string): void {
  if (fs.existsSync(place)) throw pvError('folder-not-empty', { path: place });
  try {
    fs.mkdirSync(path.dirname(place), { recursive: true, mode: 0o700 });
  } catch (error) {
    throw folderError(error, place);
  }
}

/** Can the folder be renamed to `place`, whose parent exists? */
export function isOnSameFileSystem(folder: string, place: string): boolean {
  return fs.statSync(folder).dev === fs.statSync(path.dirname(place)).dev;
}

/** Where a removed machine goes: into the trash of the data directory, or, on another file system, beside its place. */
export function trashPlace(dataDirectory: string, id: string, folder: string, at: number): string {
  const trash = path.join(dataDirectory, 'trash');
  fs.mkdirSync(trash, { recursive: true, mode: 0o700 });
  const place = path.join(trash, `${id}-${at}`);
  return !fs.existsSync(folder) || isOnSameFileSystem(folder, place) ? place : `${folder}.removed-${at}`;
}

/** Files of a machine's folder that are opened as what they are called. */
const OPENED = ['machine.json', 'machine.json.bak', 'run.json', 'run.lock', 'history.ring', 'events.jsonl'];
const OPENED_IN_LOGS = ['machine.log', 'console.last'];
/** Each of them is far smaller. */
const OPENED_LIMIT = 16 * 1024 * 1024;

/**
 * Refuses a folder from elsewhere in which something else than an ordinary file bears the name of one of ours: a link, a pipe, a disk.
 * Throws `folder-not-machine` and `folder-unusable`.
 */
export function requireOrdinary(folder: string): void {
  const logs = fs.lstatSync(path.join(folder, 'logs'), { throwIfNoEntry: false });
  if (logs !== undefined && !logs.isDirectory())
    throw pvError('folder-unusable', { path: folder, detail: '"logs" in it is no folder' });
  for (const name of [...OPENED, ...OPENED_IN_LOGS.map((log) => path.join('logs', log))]) {
    const status = fs.lstatSync(path.join(folder, name), { throwIfNoEntry: false });
    if (status === undefined) continue;
    if (!status.isFile() || status.size > OPENED_LIMIT)
      throw pvError('folder-unusable', { path: folder, detail: `"${name}" in it is no ordinary file` });
    if (name === 'run.lock' && status.size > 0)
      throw pvError('folder-unusable', { path: folder, detail: '"run.lock" in it is no lock' });
  }
}

/** Takes the machine as its process would, so that nobody can start it. Throws `machine-locked`. */
export function lockMachine(folder: string, name: string): FileLock {
  const lock = lockFile(runLockFile(folder));
  if (lock === null) throw pvError('machine-locked', { name, holder: 'it is running there' });
  return lock;
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
