// SPDX-License-Identifier: MIT
// library.journal: a machine's folder that is being renamed, and the index that is true once it has arrived. Folder and index cannot change in
// one step; whoever comes after a crash between the two finds here what to finish or to take back.
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as v from 'valibot';
import { syncDirectory, writeFileAtomically } from '../vm/atomic-file.ts';
import { hostPath } from '../contract/values.ts';
import { indexSchema, writeIndex } from './index-file.ts';
import { idInFolder } from './machine-file.ts';

const journalSchema = v.strictObject({
  version: v.literal(1),
  from: hostPath,
  to: hostPath,
  /** A complete copy that is put in place instead of `from`, which is then deleted: the two are on different file systems. */
  copy: v.nullable(hostPath),
  index: indexSchema,
});
export type Journal = Omit<v.InferOutput<typeof journalSchema>, 'version'>;

const journalPath = (dataDirectory: string): string => path.join(dataDirectory, 'library.journal');

export function isJournalOpen(dataDirectory: string): boolean {
  return fs.existsSync(journalPath(dataDirectory));
}

/** Moves a folder and replaces the index; both happen, or neither does, whenever this is interrupted. The caller has the library's lock. */
export function carryOut(dataDirectory: string, journal: Journal): void {
  const { from, to, copy, index } = journal;
  writeFileAtomically(journalPath(dataDirectory), JSON.stringify({ version: 1, ...journal }));
  try {
    fs.renameSync(copy ?? from, to);
    syncParents(copy ?? from, to);
    writeIndex(dataDirectory, index);
  } catch (error) {
    // Nothing may have been done halfway by a program that goes on.
    if (fs.existsSync(to) && !fs.existsSync(copy ?? from)) {
      fs.renameSync(to, copy ?? from);
      syncParents(copy ?? from, to);
    }
    close(dataDirectory);
    throw error;
  }
  if (copy !== null) fs.rmSync(from, { recursive: true, force: true });
  close(dataDirectory);
}

/** Finishes or takes back what a crash has interrupted. The caller has the library's lock. */
export function recover(dataDirectory: string): void {
  const journal = read(dataDirectory);
  if (journal === null) return;
  const { from, to, copy, index } = journal;
  if (hasArrived(journal)) {
    syncParents(copy ?? from, to);
    writeIndex(dataDirectory, index);
    if (copy !== null) fs.rmSync(from, { recursive: true, force: true });
  } else if (copy !== null) fs.rmSync(copy, { recursive: true, force: true });
  close(dataDirectory);
}

function hasArrived({ from, to, copy }: Journal): boolean {
  if (!fs.existsSync(to) || fs.existsSync(copy ?? from)) return false;
  // Before the original is deleted, what is in its place must be the same machine.
  return copy === null || !fs.existsSync(from) || idInFolder(from) === idInFolder(to);
}

function read(dataDirectory: string): Journal | null {
  let text: string;
  try {
    text = fs.readFileSync(journalPath(dataDirectory), 'utf8');
  } catch {
    return null;
  }
  try {
    return v.parse(journalSchema, JSON.parse(text));
  } catch {
    // It is written in one step, so somebody else has done this; there is nothing in it to go by.
    fs.renameSync(journalPath(dataDirectory), `${journalPath(dataDirectory)}.damaged`);
    return null;
  }
}

function close(dataDirectory: string): void {
  fs.rmSync(journalPath(dataDirectory), { force: true });
}

function syncParents(a: string, b: string): void {
  for (const parent of new Set([path.dirname(a), path.dirname(b)])) syncDirectory(parent);
}
