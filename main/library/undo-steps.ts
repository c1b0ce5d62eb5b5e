// SPDX-License-Identifier: MIT
// How a change of the library is noted so that it can be taken back, in the same write as the change itself.
import { randomBytes } from 'node:crypto';
import type { UndoStep } from '../contract/machine.ts';
import type { LibraryIndex, UndoCommand, UndoEntry } from './index-file.ts';

/** Notes a step that can be taken back; or, when the step is itself a taking back, strikes that out. */
export type RecordStep = (index: LibraryIndex, label: string, command: UndoCommand) => UndoStep;

export const recordStep: RecordStep = (index, label, command) => {
  const step = { id: randomBytes(4).toString('hex'), at: Date.now(), label };
  index.undo.push({ ...step, ...command } as UndoEntry);
  return step;
};

/** Taking back is not itself a step, or undo would only ever go to and fro. */
export const strikeOut =
  ({ id, at, label }: UndoEntry): RecordStep =>
  (index) => {
    index.undo = index.undo.filter((step) => step.id !== id);
    return { id, at, label };
  };
