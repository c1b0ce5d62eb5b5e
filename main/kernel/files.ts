// SPDX-License-Identifier: MIT
// Reading files a user names (kernels, initrds) with errors that say what is wrong with the path.
import { readFile, stat } from 'node:fs/promises';
import { pvError } from '../../engine/errors.ts';

/**
 * Reads a whole regular file. `role` is the word for it in error texts ("kernel", "initrd").
 * Throws `file-missing`, `file-unreadable`, `file-is-directory`, `file-not-regular`, `file-empty`, `file-too-large`.
 */
export async function readUserFile(path: string, role: string, limit: number): Promise<Uint8Array> {
  await userFileSize(path, role, limit);
  try {
    const bytes = await readFile(path);
    // It may have changed between the two calls.
    if (bytes.length === 0) throw pvError('file-empty', { role, path });
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  } catch (error) {
    throw describeFileError(error, path, role);
  }
}

/** Checks that a path is a readable kind of file without opening it (opening a pipe would wait). Returns its size in bytes. */
export async function userFileSize(path: string, role: string, limit: number): Promise<number> {
  let stats;
  try {
    stats = await stat(path);
  } catch (error) {
    throw describeFileError(error, path, role);
  }
  if (stats.isDirectory()) throw pvError('file-is-directory', { role, path });
  if (!stats.isFile()) throw pvError('file-not-regular', { role, path });
  if (stats.size === 0) throw pvError('file-empty', { role, path });
  if (stats.size > limit) throw pvError('file-too-large', { role, path, size: stats.size, limit });
  return stats.size;
}

/** Turns an error of the file system into a sentence; other errors pass unchanged. */
export function describeFileError(error: unknown, path: string, role: string): unknown {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return error;
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return pvError('file-missing', { role, path }, error);
    case 'EISDIR':
      return pvError('file-is-directory', { role, path }, error);
    case 'EACCES':
    case 'EPERM':
      return pvError('file-unreadable', { role, path, reason: 'permission denied' }, error);
    default:
      return pvError('file-unreadable', { role, path, reason: String(error.code) }, error);
  }
}
