// SPDX-License-Identifier: MIT
// Saves the manager's report for a bug: a zip in which personal paths are replaced.
import { invoke } from '../state/manager.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';
import { fromBase64 } from '../text/base64.ts';
import { saveFile } from './clipboard.ts';

/** `machine`: with its log and history too. */
export async function saveReport(machine?: string): Promise<void> {
  try {
    const { fileName, bytes } = await invoke('diagnostics:report', machine === undefined ? {} : { machine });
    saveFile(fileName, new Blob([fromBase64(bytes)], { type: 'application/zip' }));
    toasts.say(`Saved ${fileName}`);
  } catch (error) {
    toasts.failed(error);
  }
}
