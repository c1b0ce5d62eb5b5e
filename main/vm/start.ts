// SPDX-License-Identifier: MIT
// Starts the process of a VM and waits until it can be talked to.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import { cacheDirectory } from '../debian/cache-directory.ts';
import type { MachineConfig } from './machine.ts';
import type { VmProcessConfig } from './process.ts';
import { logPath, newIdentity, removeOldLogs } from './runtime-directory.ts';
import type { VmIdentity } from './runtime-directory.ts';
import { launchVm } from './vm-child.ts';
import type { VmChild } from './vm-child.ts';

/** How long a guest may take to power off by itself before it is ended. */
const GRACE_MS = 10_000;

/** What to start. */
export interface VmStartOptions {
  machine: Omit<MachineConfig, 'name'>;
  /** Null makes one up. */
  name: string | null;
  onReboot: 'restart' | 'exit';
  /** The machine of the library this is; it then runs on whether somebody watches or not, and keeps its records in the folder. */
  library?: { id: string; folder: string };
  /** URL of another machine module than the engine's; used by tests. */
  machineModule?: string;
}

export interface StartedVm {
  identity: VmIdentity;
  child: VmChild;
}

/** Starts a VM process and waits until consoles can attach; the guest itself starts with the first one. Throws PvError. */
export async function startVmProcess(options: VmStartOptions): Promise<StartedVm> {
  removeOldLogs();
  const identity = newIdentity(options.name, options.library);
  if (options.library !== undefined) fs.mkdirSync(path.dirname(logPath(identity)), { recursive: true });
  const child = launchVm({
    log: logPath(identity),
    // Few malloc arenas: there may be many VMs.
    environment: { ...process.env, MALLOC_ARENA_MAX: '2', MALLOC_TRIM_THRESHOLD_: '131072', ...compileCache() },
  });
  const config: VmProcessConfig = {
    identity,
    machine: { ...options.machine, name: identity.name },
    machineModule: options.machineModule ?? null,
    onReboot: options.onReboot,
    graceMs: options.library === undefined ? GRACE_MS : null,
  };
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code, signal) => reject(processDied(identity, code, signal)));
    child.once('error', (error) => reject(processDied(identity, null, null, error)));
    child.once('message', (message) => {
      if (message.type === 'ready') resolve();
      else reject(pvError('machine-locked', { name: identity.name, holder: 'it is running there' }));
    });
    child.send(config);
  });
  return { identity, child };
}

/** The error for a VM process that ended without saying how the guest ended. */
export function processDied(
  identity: Pick<VmIdentity, 'id' | 'name' | 'folder'>,
  code: number | null,
  signal: NodeJS.Signals | null,
  cause?: Error,
): Error {
  const detail =
    cause !== undefined
      ? cause.message
      : signal !== null
        ? `signal ${signal}`
        : code !== null
          ? `code ${code}`
          : 'connection lost';
  return pvError('vm-process-died', { name: identity.name, detail, log: logPath(identity) }, cause);
}

/** Node keeps compiled sources there, so that a VM starts sooner and smaller the next time; a user's own choice stays. */
function compileCache(): Record<string, string> {
  return process.env.NODE_COMPILE_CACHE === undefined
    ? { NODE_COMPILE_CACHE: path.join(cacheDirectory(), 'node') }
    : {};
}
