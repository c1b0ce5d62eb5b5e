// SPDX-License-Identifier: MIT
// Replaces a file in one step: a reader, or the next start after a power cut, sees the old content or the new.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';

export interface AtomicWriteOptions {
  /** Keep the former content under this path + ".bak". */
  backup?: boolean;
  /** Wait until the content is on the disk (the default). */
  durable?: boolean;
}

/** Pauses between attempts to rename; on Windows a virus scanner may hold the file for a moment. */
const RENAME_RETRY_MS = [10, 50, 200, 500];

/** Writes temporary file, fsync, rename. Throws `disk-full` or `file-write-failed`; the old file is then untouched. */
export function writeFileAtomically(
  file: string,
  content: string | Uint8Array,
  { backup = false, durable = true }: AtomicWriteOptions = {},
): void {
  const temporary = `${file}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
  try {
    const descriptor = fs.openSync(temporary, 'wx', 0o600);
    try {
      fs.writeFileSync(descriptor, content);
      if (durable) fs.fsyncSync(descriptor);
    } finally {
      fs.closeSync(descriptor);
    }
    if (backup && fs.existsSync(file)) {
      fs.rmSync(`${file}.bak`, { force: true });
      // A link costs nothing; file systems without links get a copy.
      try {
        fs.linkSync(file, `${file}.bak`);
      } catch {
        fs.copyFileSync(file, `${file}.bak`);
      }
    }
    renameWithPatience(temporary, file);
    if (durable) syncDirectory(path.dirname(file));
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw describeWriteError(error, file);
  }
}

function renameWithPatience(from: string, to: string): void {
  for (const pause of RENAME_RETRY_MS) {
    try {
      fs.renameSync(from, to);
      return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (process.platform !== 'win32' || (code !== 'EPERM' && code !== 'EACCES' && code !== 'EBUSY')) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pause);
    }
  }
  fs.renameSync(from, to);
}

/** Makes renames in a directory durable; Windows has no such call and needs none. */
export function syncDirectory(directory: string): void {
  if (process.platform === 'win32') return;
  const descriptor = fs.openSync(directory, 'r');
  try {
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Turns an error of the file system into one for the user. */
export function describeWriteError(error: unknown, file: string): unknown {
  if (!(error instanceof Error) || !('syscall' in error)) return error;
  if ('code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT'))
    return pvError('disk-full', { path: file }, error);
  return pvError('file-write-failed', { path: file, detail: error.message }, error);
}
