// SPDX-License-Identifier: MIT
// Short messages at the bottom: what was done and can be undone, what was copied, and errors that have no better place.
import type { ErrorReport } from '../../main/contract/errors.ts';
import type { UndoStep } from '../../main/contract/machine.ts';
import { invoke, reportOf } from './manager.svelte.ts';

export interface Toast {
  id: number;
  text: string;
  undo: UndoStep | null;
  error: ErrorReport | null;
}

/** Long enough to read and reach the button; a toast under the pointer or focus stays. */
const SHOWN_MS = 8000;
const SHOWN_AT_ONCE = 3;

class Toasts {
  list = $state<Toast[]>([]);
  #nextId = 1;

  say(text: string): void {
    this.#add({ text, undo: null, error: null });
  }

  undoable(undo: UndoStep): void {
    this.#add({ text: undo.label, undo, error: null });
  }

  /** For failures of verbs that were given without an open panel to show them in. */
  failed(error: unknown): void {
    const report = reportOf(error);
    if (report.code === 'cancelled') return;
    this.#add({ text: report.message, undo: null, error: report });
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  /** Takes back the step of a toast; without one, the manager's latest, whose toast may not have come yet. */
  async undo(toast?: Toast): Promise<void> {
    const step = toast?.undo ?? null;
    try {
      const { undone } = await invoke('library:undo', step === null ? {} : { undo: step.id });
      this.list = this.list.filter((other) => other.undo?.id !== undone.id);
      this.say(`Undone: ${undone.label}`);
    } catch (error) {
      this.failed(error);
    }
  }

  #add(toast: Omit<Toast, 'id'>): void {
    const id = this.#nextId++;
    this.list = [...this.list, { id, ...toast }].slice(-SHOWN_AT_ONCE);
    if (toast.error === null) this.#dismissLater(id);
  }

  #dismissLater(id: number): void {
    setTimeout(() => {
      const element = document.querySelector(`[data-toast="${id}"]`);
      if (element?.matches(':hover, :focus-within')) this.#dismissLater(id);
      else this.dismiss(id);
    }, SHOWN_MS);
  }
}

export const toasts = new Toasts();
