// SPDX-License-Identifier: MIT
// Fills the store of precompiled blocks ahead of a kernel's first boot: runs the process that does it, passes its progress on, ends it when asked.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { PvError, pvError } from '../../engine/errors.ts';
import { ENGINE_FLAGS } from '../vm/vm-child.ts';
import type { PrecompilationReport, PrecompilerJob, PrecompilerMessage } from './precompiler.ts';

export interface PrecompileOptions {
  kernel: string;
  /** Of the guest that the store is for: some arguments change how Linux patches its code. */
  commandLine?: string;
  rehearse?: boolean;
  regions?: number;
  progress?: (text: string, done: number, total: number | null) => void;
  signal?: AbortSignal;
}

/** Regions made from symbols and control flow alone: more take seconds, and few of them are ever wanted. See docs/decisions.md. */
const staticRegions = 256;
/** An eighth of the store, so that the learned ones of other guests stay. */
const staticBytes = 32 * 2 ** 20;
const timeLimitMs = 300_000;

/** Throws the errors of `loadPvKernel`, `precompile-failed`, and the reason of `signal`. The store is good whenever this ends. */
export async function precompileKernel(options: PrecompileOptions): Promise<PrecompilationReport> {
  const { kernel, commandLine = '', rehearse = true, regions = staticRegions, progress, signal } = options;
  signal?.throwIfAborted();
  const child = fork(fileURLToPath(new URL('./precompiler.ts', import.meta.url)), [], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    execArgv: [...ENGINE_FLAGS],
    windowsHide: true,
  });
  const report = new Promise<PrecompilationReport>((resolve, reject) => {
    const failed = (detail: string): void => reject(pvError('precompile-failed', { path: kernel, detail }));
    const onAbort = (): void => reject(signal!.reason as Error);
    const timer = setTimeout(() => failed(`it took more than ${timeLimitMs / 1000} seconds`), timeLimitMs);
    signal?.addEventListener('abort', onAbort);
    child.on('message', (message: PrecompilerMessage) => {
      if (message.type === 'progress') progress?.(message.text, message.done, message.total);
      else if (message.type === 'done') resolve(message.report);
      else if (message.type === 'refused') reject(new PvError(message.code, message.details));
      else failed(message.detail);
    });
    child.once('error', (error) => failed(error.message));
    child.once('exit', (status, by) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      failed(by === null ? `its process ended with code ${status}` : `its process ended by ${by}`);
    });
    child.send({ kernel, commandLine, rehearse, limits: { regions, bytes: staticBytes } } satisfies PrecompilerJob);
  });
  return report.finally(() => child.kill('SIGKILL'));
}
