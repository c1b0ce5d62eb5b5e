// SPDX-License-Identifier: MIT
// What is in a kernel file, found out in a thread of its own: unpacking one takes up to seconds, and a hostile one as long as it likes.
import { Worker } from 'node:worker_threads';
import { PvError, pvError } from '../../engine/errors.ts';
import type { ExaminationResult, ExaminedKernel } from './examination.ts';

/** The slowest method takes two seconds for the largest kernel on a slow computer. */
const TIME_LIMIT_MS = 30_000;
/** For JavaScript's own objects; the file and what it unpacks to are bounded by `loadKernel`. */
const HEAP_MIB = 128;

export interface ExaminationOptions {
  signal?: AbortSignal | undefined;
  timeLimitMs?: number;
}

/** One at a time: each may need some hundred megabytes. */
let last: Promise<unknown> = Promise.resolve();

/**
 * Examines a kernel file. Throws the errors of `loadKernel` and `examination-failed`; when `signal` is aborted, its reason.
 * The caller's thread does not wait for more than a message.
 */
export function examineKernel(path: string, options: ExaminationOptions = {}): Promise<ExaminedKernel> {
  const turn = last.then(() => examineNow(path, options));
  last = turn.catch(() => undefined);
  return options.signal === undefined ? turn : Promise.race([turn, aborted(options.signal)]);
}

/** Rejects when the signal is aborted, also while others have their turn. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

function examineNow(
  path: string,
  { signal, timeLimitMs = TIME_LIMIT_MS }: ExaminationOptions,
): Promise<ExaminedKernel> {
  signal?.throwIfAborted();
  const worker = new Worker(new URL('./examination.ts', import.meta.url), {
    workerData: { path },
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB, maxYoungGenerationSizeMb: 16 },
  });
  return new Promise<ExaminedKernel>((resolve, reject) => {
    const failed = (detail: string): void => reject(pvError('examination-failed', { path, detail }));
    const onAbort = (): void => reject(signal!.reason as Error);
    const timer = setTimeout(() => failed(`it took more than ${timeLimitMs / 1000} seconds`), timeLimitMs);
    signal?.addEventListener('abort', onAbort);
    worker.once('message', (result: ExaminationResult) => {
      if ('kernel' in result) resolve(result.kernel);
      else if ('refusal' in result) reject(new PvError(result.refusal.code, result.refusal.details));
      else failed(result.failure);
    });
    worker.once('error', (error) => failed(error instanceof Error ? error.message : String(error)));
    worker.once('exit', () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      failed('its thread ended without a word');
    });
  }).finally(() => worker.terminate());
}
