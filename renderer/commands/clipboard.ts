// SPDX-License-Identifier: MIT
// Copying and saving from the window, with a word on what happened.
import { toasts } from '../state/toasts.svelte.ts';

/** Copies text; `what` completes "Copied ...". */
export async function copyText(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toasts.say(`Copied ${what}`);
  } catch (error) {
    toasts.failed(error);
  }
}

/** Hands a file to the browser's or the shell's download. */
export function saveFile(name: string, content: Blob): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  // The download has its own hold on the data once it has begun.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
