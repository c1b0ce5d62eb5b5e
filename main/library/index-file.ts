// SPDX-License-Identifier: MIT
// library.json: which machines there are, in the user's order, what lies in the trash, and what can be taken back.
// What a machine is called and made of stands in its own folder only.
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as v from 'valibot';
import { pvError } from '../../engine/errors.ts';
import { describeIssues } from '../contract/issues.ts';
import { undoStep } from '../contract/machine.ts';
import { hostPath, machineId, timestamp } from '../contract/values.ts';
import { writeFileAtomically } from '../vm/atomic-file.ts';

/** How many steps can be taken back. */
const UNDO_STEPS = 30;

const indexSchema = v.strictObject({
  version: v.literal(1),
  machines: v.array(v.strictObject({ id: machineId, folder: hostPath })),
  trash: v.array(
    v.strictObject({
      id: machineId,
      name: v.string(),
      removedAt: timestamp,
      /** Where it was, and where it is. */
      folder: hostPath,
      trashFolder: hostPath,
      /** Place in the order. */
      position: v.number(),
    }),
  ),
  undo: v.array(
    v.strictObject({
      ...undoStep.entries,
      /** The command that takes the step back, and its request. */
      command: v.picklist([
        'machine:rename',
        'machine:set',
        'machine:move',
        'machine:remove',
        'machine:order',
        'trash:restore',
      ]),
      request: v.record(v.string(), v.unknown()),
    }),
  ),
});
export type LibraryIndex = v.InferOutput<typeof indexSchema>;
export type TrashEntry = LibraryIndex['trash'][number];
export type UndoEntry = LibraryIndex['undo'][number];

export const indexFilePath = (dataDirectory: string): string => path.join(dataDirectory, 'library.json');

/** Reads the index; an absent file is an empty library. Throws `library-file-invalid`. */
export function readIndex(dataDirectory: string): LibraryIndex {
  const file = indexFilePath(dataDirectory);
  if (!fs.existsSync(file)) return { version: 1, machines: [], trash: [], undo: [] };
  let json: unknown;
  try {
    json = JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    throw pvError('library-file-invalid', { path: file, detail: (error as Error).message }, error);
  }
  const result = v.safeParse(indexSchema, json);
  if (!result.success) throw pvError('library-file-invalid', { path: file, detail: describeIssues(result.issues) });
  return result.output;
}

export function writeIndex(dataDirectory: string, index: LibraryIndex): void {
  const kept = { ...index, undo: index.undo.slice(-UNDO_STEPS) };
  writeFileAtomically(indexFilePath(dataDirectory), `${JSON.stringify(kept, null, 2)}\n`, { backup: true });
}
