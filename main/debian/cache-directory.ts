// SPDX-License-Identifier: MIT
// The cache of things that can be fetched or made again: $PARAVANE_CACHE, else the user's cache directory.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';

/** Leavings of interrupted commands are removed when they are older than this. */
const STALE_MS = 24 * 3600 * 1000;

/** The cache directory itself; it need not exist yet. */
export function cacheDirectory(): string {
  if (process.env.PARAVANE_CACHE) return path.resolve(process.env.PARAVANE_CACHE);
  if (process.platform === 'win32') return path.join(process.env.LOCALAPPDATA ?? os.tmpdir(), 'Paravane', 'cache');
  return path.join(process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'paravane');
}

/** A directory below the cache, created when missing. Throws PvError. */
export function cacheSubdirectory(...names: string[]): string {
  const directory = path.join(cacheDirectory(), ...names);
  try {
    fs.mkdirSync(directory, { recursive: true });
    fs.accessSync(directory, fs.constants.W_OK);
  } catch (error) {
    throw pvError('cache-unwritable', { path: directory, detail: (error as Error).message }, error);
  }
  return directory;
}

/** A fresh private directory on the cache's file system, to fill and then rename into place. */
export function temporaryDirectory(): string {
  const parent = cacheSubdirectory('tmp');
  for (const name of fs.readdirSync(parent)) {
    const old = path.join(parent, name);
    const age = Date.now() - (fs.statSync(old, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (age > STALE_MS) fs.rmSync(old, { recursive: true, force: true });
  }
  const directory = path.join(parent, `${process.pid}-${randomBytes(4).toString('hex')}`);
  fs.mkdirSync(directory);
  return directory;
}

/** Moves a finished directory to its place; when another process was faster, its result stays and ours is removed. */
export function moveIntoPlace(directory: string, destination: string): void {
  try {
    fs.renameSync(directory, destination);
  } catch (error) {
    if (!fs.existsSync(destination)) throw error;
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

/** Writes a file of the cache in one step, so that a reader sees the old or the new content. Returns its path. */
export function writeCacheFile(directory: string, name: string, content: Uint8Array): string {
  const file = path.join(directory, name);
  const temporary = `${file}.${process.pid}-${randomBytes(4).toString('hex')}`;
  fs.writeFileSync(temporary, content);
  fs.renameSync(temporary, file);
  return file;
}
