// SPDX-License-Identifier: MIT
// Which dialog is open: at most one at a time.

export interface Question {
  title: string;
  text: string;
  /** Label of the button that does it. */
  verb: string;
  run: () => void;
}

export type OpenDialog =
  | { kind: 'rename' | 'clone' | 'move' | 'commands'; machine: string }
  | { kind: 'confirm'; question: Question }
  /** `file` is a path on the manager's computer, `uploads` are files dropped on this page. */
  | { kind: 'newMachine'; file: string | null; uploads: readonly File[] }
  | { kind: 'palette' | 'help' };

class Dialogs {
  current = $state.raw<OpenDialog | null>(null);

  open(dialog: OpenDialog): void {
    this.current = dialog;
  }

  confirm(question: Question): void {
    this.open({ kind: 'confirm', question });
  }

  newMachine(from: { file?: string; uploads?: readonly File[] } = {}): void {
    this.open({ kind: 'newMachine', file: from.file ?? null, uploads: from.uploads ?? [] });
  }

  close(): void {
    this.current = null;
  }
}

export const dialogs = new Dialogs();
