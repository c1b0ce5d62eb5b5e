// SPDX-License-Identifier: MIT
// Where Paravane keeps what is the user's: the library, settings, machines without a place of their own, the trash.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';

/** The data directory, `PARAVANE_DATA` or the platform's place; it need not exist yet. */
export function dataDirectory(): string {
  if (process.env.PARAVANE_DATA) return path.resolve(process.env.PARAVANE_DATA);
  if (process.platform === 'win32') return path.join(process.env.LOCALAPPDATA ?? os.homedir(), 'Paravane');
  if (process.platform === 'darwin') return path.join(os.homedir(), 'Library', 'Application Support', 'Paravane');
  return path.join(process.env.XDG_DATA_HOME || path.join(os.homedir(), '.local', 'share'), 'paravane');
}

/** Makes a directory usable by this user only. Throws `folder-unusable`. */
export function ensureDirectory(directory: string): string {
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    fs.accessSync(directory, fs.constants.W_OK);
  } catch (error) {
    throw pvError('folder-unusable', { path: directory, detail: (error as Error).message }, error);
  }
  return directory;
}

/** Throws `path-not-absolute`; paths are never taken relative to a directory nobody chose. */
export function absolutePath(given: string): string {
  if (!path.isAbsolute(given)) throw pvError('path-not-absolute', { path: given });
  return path.normalize(given);
}
