// SPDX-License-Identifier: MIT
// library.json: which machines there are, in the user's order, what lies in the trash, and what can be taken back.
// What a machine is called and made of stands in its own folder only.
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as v from 'valibot';
import { pvError } from '../../engine/errors.ts';
import { describeIssues } from '../contract/issues.ts';
import { kernelFacts, machineChanges, undoStep } from '../contract/machine.ts';
import { hostPath, machineId, machineName, timestamp } from '../contract/values.ts';
import { writeFileAtomically } from '../vm/atomic-file.ts';

/** How many steps can be taken back. */
const UNDO_STEPS = 30;

/** The command that takes a step back, and its request. */
const undo = <Command extends string, Request extends v.GenericSchema>(command: Command, request: Request) =>
  v.strictObject({ ...undoStep.entries, command: v.literal(command), request });

const undoEntry = v.variant('command', [
  undo('machine:rename', v.strictObject({ machine: machineId, name: machineName })),
  undo(
    'machine:set',
    v.strictObject({
      machine: machineId,
      changes: machineChanges,
      /** What was known of the former kernel, when that is what changed. */
      kernelFacts: v.optional(v.nullable(kernelFacts)),
    }),
  ),
  undo('machine:move', v.strictObject({ machine: machineId, folder: hostPath })),
  undo('machine:remove', v.strictObject({ machine: machineId })),
  undo('machine:order', v.strictObject({ machines: v.array(machineId) })),
  undo('trash:restore', v.strictObject({ machine: machineId })),
]);

export const indexSchema = v.strictObject({
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
      position: v.pipe(v.number(), v.integer(), v.minValue(0)),
    }),
  ),
  undo: v.array(undoEntry),
});
export type LibraryIndex = v.InferOutput<typeof indexSchema>;
export type TrashEntry = LibraryIndex['trash'][number];
export type UndoEntry = LibraryIndex['undo'][number];
type CommandOf<Entry> = Entry extends UndoEntry ? Pick<Entry, 'command' | 'request'> : never;
export type UndoCommand = CommandOf<UndoEntry>;

export const indexFilePath = (dataDirectory: string): string => path.join(dataDirectory, 'library.json');

/** Reads the index; an absent file is an empty library. Throws `library-file-invalid`. */
export function readIndex(dataDirectory: string): LibraryIndex {
  const file = indexFilePath(dataDirectory);
  // Only what is surely absent is an empty library.
  if (fs.statSync(file, { throwIfNoEntry: false }) === undefined)
    return { version: 1, machines: [], trash: [], undo: [] };
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
