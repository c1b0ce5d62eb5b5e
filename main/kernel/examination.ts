// SPDX-License-Identifier: MIT
// The worker thread that unpacks and reads one kernel file for `examineKernel`: it may take seconds, and the file may be hostile.
import { parentPort, workerData } from 'node:worker_threads';
import { PvError } from '../../engine/errors.ts';
import type { ErrorCode } from '../../engine/errors.ts';
import type { XenKernelInfo } from '../../engine/formats/xen-notes.ts';
import { loadKernel } from './load.ts';
import type { KernelDescription } from './load.ts';

/** What is found in a kernel file without keeping its content. */
export interface ExaminedKernel {
  readonly description: KernelDescription;
  readonly xen: XenKernelInfo | undefined;
}

/** What the thread says, once. */
export type ExaminationResult =
  { kernel: ExaminedKernel } | { refusal: { code: ErrorCode; details: PvError['details'] } } | { failure: string };

/** Texts of the file are shown to people; a file may claim anything. */
const TEXT_LIMIT = 200;
const LIST_LIMIT = 64;

function bounded<T extends object>(facts: T): T {
  const entries = Object.entries(facts).map(([name, value]: [string, unknown]) => {
    if (typeof value === 'string') return [name, value.slice(0, TEXT_LIMIT)];
    if (Array.isArray(value))
      return [name, value.slice(0, LIST_LIMIT).map((item) => String(item).slice(0, TEXT_LIMIT))];
    return [name, value];
  });
  return Object.fromEntries(entries) as T;
}

async function examine(path: string): Promise<ExaminationResult> {
  try {
    const { description, xen } = await loadKernel(path);
    return { kernel: { description: bounded(description), xen: xen && bounded(xen) } };
  } catch (error) {
    if (error instanceof PvError) return { refusal: { code: error.code, details: error.details } };
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}

if (parentPort !== null) parentPort.postMessage(await examine((workerData as { path: string }).path));
