// SPDX-License-Identifier: MIT
// Which modules the thread of a vCPU starts from: those that the build has put together when they are as new as the sources, else the sources.
import { readFileSync, statSync } from 'node:fs';

/** The thread's own module and the one that makes its machine, as addresses. */
export interface VmModules {
  readonly worker: URL;
  readonly machine: string;
}

/** Folder of what the build puts together (bundle.ts). */
export const vmModulesFolder = new URL('../../build/vm/', import.meta.url);
/** Names of its two entries there. */
export const workerEntry = 'vcpu-worker';
export const machineEntry = 'pv-machine';
/** In their folder: what they were made from, a list of `SourceStamp`. Written last, so that there is none while they are being made. */
export const stampsFile = 'sources.json';

/** Path relative to the folder, size in bytes and time of the last change in ms. */
export type SourceStamp = readonly [path: string, bytes: number, changed: number];

/**
 * The modules for a VM. `machine`: address of another machine module than the engine's. That comes with the sources' worker, whatever there is:
 * both have to have the same classes of errors.
 */
export function vmModules(machine: string | null, folder = vmModulesFolder): VmModules {
  if (machine === null && isBundleFresh(folder)) {
    return { worker: new URL(`${workerEntry}.js`, folder), machine: new URL(`${machineEntry}.js`, folder).href };
  }
  return {
    worker: new URL('../vm/vcpu-worker.ts', import.meta.url),
    machine: machine ?? new URL('../vm/pv-machine.ts', import.meta.url).href,
  };
}

/** Are there bundled modules, and has none of their sources changed since? Looking at the 200 files takes a millisecond or two. */
function isBundleFresh(folder: URL): boolean {
  try {
    const stamps = JSON.parse(readFileSync(new URL(stampsFile, folder), 'utf8')) as SourceStamp[];
    return stamps.every(([path, bytes, changed]) => {
      const { size, mtimeMs } = statSync(new URL(path, folder));
      return size === bytes && mtimeMs === changed;
    });
  } catch {
    return false;
  }
}
