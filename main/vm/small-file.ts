// SPDX-License-Identifier: MIT
// Reads files of a machine's folder, which may come from anywhere: a pipe there must not stop the reader, nor an endless file fill its memory.
import * as fs from 'node:fs';

/** The text of an ordinary file of at most `limit` bytes. Throws the system's errors, and an Error that says what else is wrong. */
export function readSmallFile(file: string, limit: number): string {
  // Opening a pipe without this flag waits for its writer; Windows has neither.
  const descriptor = fs.openSync(file, fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0));
  try {
    const status = fs.fstatSync(descriptor);
    if (!status.isFile()) throw new Error('it is not an ordinary file');
    if (status.size > limit) throw new Error(`it has more than ${limit} bytes`);
    return fs.readFileSync(descriptor, 'utf8');
  } finally {
    fs.closeSync(descriptor);
  }
}
