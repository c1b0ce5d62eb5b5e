// SPDX-License-Identifier: MIT
// Brings a file that was dropped on the page to the manager: a browser shows a page the bytes of a file, but not its path.
// Disk images are large and known by their first bytes: those are sent first, and the rest only of what may be of use.
import type { FileInspection } from '../../main/contract/inspection.ts';
import { UPLOAD_CHUNK_BYTES } from '../../main/contract/values.ts';
import { CommandError } from '../../main/contract/wire.ts';
import { invoke } from '../state/manager.svelte.ts';
import { tasks } from '../state/tasks.svelte.ts';
import { toBase64 } from '../text/base64.ts';

/** Smaller files are sent whole at once. */
const LARGE_BYTES = 16 * 2 ** 20;
/** Enough for every format that is known by its beginning; that of an ISO image ends at 34 KiB. */
const HEAD_BYTES = 2 ** 20;
/** What the manager takes; see its uploads. */
const MOST_BYTES = 2 * 2 ** 30;

/**
 * What a dropped file is when nothing can be made of it, else the path of its copy on the manager's computer. Rejects with `CommandError`,
 * `cancelled` when the user had enough.
 */
export async function identifyFile(file: File, known: (task: string) => void): Promise<FileInspection | string> {
  if (file.size > LARGE_BYTES) {
    const path = await uploadFile(new File([file.slice(0, HEAD_BYTES)], file.name), known);
    const head = await invoke('file:inspect', { path });
    if (head.what === 'other' || (head.what === 'unknown' && file.size > MOST_BYTES)) {
      return { ...head, path: file.name, size: file.size };
    }
  }
  return uploadFile(file, known);
}

async function bytesOf(file: File, offset: number): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await file.slice(offset, offset + UPLOAD_CHUNK_BYTES).arrayBuffer());
  } catch (error) {
    throw new CommandError({
      code: 'file-unreadable',
      message: `${file.name} cannot be read.`,
      cause: error instanceof Error ? error.message : String(error),
      action: 'It may have been moved or changed since it was dropped: drop it again.',
    });
  }
}

/** The path of the copy on the manager's computer. Rejects with `CommandError`, `cancelled` when the user had enough. */
function uploadFile(file: File, known: (task: string) => void): Promise<string> {
  return tasks.runHere(
    `Copying ${file.name}`,
    async (signal, report) => {
      const { upload } = await invoke('file:uploadBegin', { name: file.name, size: file.size });
      try {
        for (let offset = 0; offset < file.size; offset += UPLOAD_CHUNK_BYTES) {
          if (signal.aborted) throw new CommandError({ code: 'cancelled', message: 'Cancelled.', action: '' });
          const chunk = await bytesOf(file, offset);
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
