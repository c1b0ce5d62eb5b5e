// SPDX-License-Identifier: MIT
// The user's own order of the library, changed by dragging or by keys.
import { commandLineOf } from '../../main/contract/command-line.ts';
import { invoke } from '../state/manager.svelte.ts';
import { library } from '../state/library.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';

/** `order` with `id` moved to stand before `before`, or last when that is null. */
export function movedBefore(order: readonly string[], id: string, before: string | null): string[] {
  if (before === id) return [...order];
  const rest = order.filter((other) => other !== id);
  const at = before === null ? rest.length : rest.indexOf(before);
  return at < 0 ? [...order] : [...rest.slice(0, at), id, ...rest.slice(at)];
}

/** `order` with `id` one place up or down. */
export function movedBy(order: readonly string[], id: string, by: -1 | 1): string[] {
  const from = order.indexOf(id);
  const to = from + by;
  if (from < 0 || to < 0 || to >= order.length) return [...order];
  const moved = [...order];
  [moved[from], moved[to]] = [moved[to], moved[from]];
  return moved;
}

/** The shell line for `moveInOrder`. */
export function orderLine(id: string, by: -1 | 1): string | null {
  return commandLineOf('machine:order', { machines: movedBy(library.order, id, by) }, library.nameOf);
}

export function moveInOrder(id: string, by: -1 | 1): void {
  setOrder(movedBy(library.order, id, by));
}

/** Shown at once; goes back if the manager refuses. */
export function setOrder(machines: string[]): void {
  const before = library.order;
  if (machines.join() === before.join()) return;
  library.order = machines;
  invoke('machine:order', { machines }).then(
    ({ undo }) => toasts.undoable(undo),
    (error: unknown) => {
      library.order = before;
      toasts.failed(error);
    },
  );
}
