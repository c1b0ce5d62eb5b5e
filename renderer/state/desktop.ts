// SPDX-License-Identifier: MIT
// The desktop around this window, where there is one, and its dialogs.
import { invoke } from './manager.svelte.ts';

/** False in a browser. */
export const inDesktop = typeof window !== 'undefined' && window.paravane !== undefined;

/** A path chosen in the desktop's own dialog, or null. Rejects with `CommandError`. */
export async function chooseFile(
  title: string,
  pick: 'file' | 'directory',
  start: string | null,
): Promise<string | null> {
  return (await invoke('window:chooseFile', { title, pick, start })).path;
}
