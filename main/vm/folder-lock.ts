// SPDX-License-Identifier: MIT
// A lock on a file that lasts as long as its process: the operating system lets go of it however the process ends.
// Node has no call for that; SQLite takes such a lock on its database file (fcntl, LockFileEx), so an empty database serves.
import { DatabaseSync } from 'node:sqlite';

/** A lock that is held. */
export interface FileLock {
  release(): void;
}

/** Takes the lock of `file`, which is created when missing; null when somebody else has had it for `waitMs`. Throws the system's error. */
export function lockFile(file: string, waitMs = 0): FileLock | null {
  const database = new DatabaseSync(file, { timeout: waitMs });
  try {
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    const SQLITE_BUSY = 5;
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return null;
    throw error;
  }
  return { release: () => database.close() };
}
