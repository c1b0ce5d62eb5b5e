// SPDX-License-Identifier: MIT
// Brings a file that was dropped on the page to the manager: a browser shows a page the bytes of a file, but not its path.
import { UPLOAD_CHUNK_BYTES } from '../../main/contract/values.ts';
import { CommandError } from '../../main/contract/wire.ts';
import { invoke } from '../state/manager.svelte.ts';
import { tasks } from '../state/tasks.svelte.ts';
import { toBase64 } from '../text/base64.ts';

/** The path of the copy on the manager's computer. Rejects with `CommandError`, `cancelled` when the user had enough. */
export function uploadFile(file: File, known: (task: string) => void): Promise<string> {
  return tasks.runHere(
    `Copying ${file.name}`,
    async (signal, report) => {
      const { upload } = await invoke('file:uploadBegin', { name: file.name, size: file.size });
      try {
        for (let offset = 0; offset < file.size; offset += UPLOAD_CHUNK_BYTES) {
          if (signal.aborted) throw new CommandError({ code: 'cancelled', message: 'Cancelled.', action: '' });
          const chunk = new Uint8Array(await file.slice(offset, offset + UPLOAD_CHUNK_BYTES).arrayBuffer());
          await invoke('file:uploadChunk', { upload, offset, bytes: toBase64(chunk) });
          report(offset + chunk.length, file.size);
        }
        return (await invoke('file:uploadEnd', { upload })).path;
      } catch (error) {
        invoke('file:uploadCancel', { upload }).catch(() => undefined);
        throw error;
      }
    },
    known,
  );
}
