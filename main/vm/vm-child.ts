// SPDX-License-Identifier: MIT
// What kind of process a VM gets: a detached Node under Node, a utility process in the desktop shell. Everything else about a VM is the same.
import { fork } from 'node:child_process';
import * as fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { VmProcessConfig, VmProcessReady, VmProcessRefusal } from './process.ts';

/** The starter's handle of a VM process; `ChildProcess` of Node is one. */
export interface VmChild {
  readonly pid?: number | undefined;
  /** Null while it runs or when a signal ended it. */
  readonly exitCode: number | null;
  readonly signalCode: NodeJS.Signals | null;
  /** False once `disconnect` was called. */
  readonly connected: boolean;
  send(config: VmProcessConfig): unknown;
  kill(signal: NodeJS.Signals): boolean;
  /** No more messages; the VM goes on. */
  disconnect(): void;
  /** The starter may end before the VM does. */
  unref(): void;
  ref(): void;
  once(event: 'exit', listener: (code: number | null, signal: NodeJS.Signals | null) => void): unknown;
  once(event: 'error', listener: (error: Error) => void): unknown;
  once(event: 'message', listener: (message: VmProcessReady | VmProcessRefusal) => void): unknown;
}

export interface VmLaunch {
  /** Standard output and error are appended to this file. */
  log: string;
  environment: NodeJS.ProcessEnv;
}

export type VmLauncher = (launch: VmLaunch) => VmChild;

/** The module that is the VM process, whoever launches it. */
export const VM_ENTRY = fileURLToPath(new URL('./process.ts', import.meta.url));

/**
 * V8's options where an engine runs. Young generations large enough for a batch of translations and small enough for many VMs; no work on
 * loops and calls of translated code that costs more time to compile than it saves, and none on JavaScript behind its middle tier:
 * what is hot here is WebAssembly, whose compiler is another. Garbage may be collected when there is time (idle-collection.ts).
 * No stack checks at the head of WebAssembly's functions and loops: generated code never recurses, and its loops look at the budget. So a thread
 * ends only where it comes back to JavaScript; who ends one does not rely on it (process.ts).
 */
export const ENGINE_FLAGS: readonly string[] = [
  '--max-semi-space-size=4',
  '--single-threaded-gc',
  '--no-wasm-loop-peeling',
  '--no-wasm-loop-unrolling',
  '--no-wasm-inlining',
  '--no-wasm-stack-checks',
  '--no-turbofan',
  '--expose-gc',
];

const forkDetached: VmLauncher = ({ log, environment }) => {
  // For appending: the process empties the file when it has grown too large.
  const output = fs.openSync(log, 'a', 0o600);
  const child = fork(VM_ENTRY, [], {
    detached: true,
    stdio: ['ignore', output, output, 'ipc'],
    execArgv: [...ENGINE_FLAGS],
    env: environment,
    windowsHide: true,
  });
  fs.closeSync(output);
  return child;
};

let launcher = forkDetached;

/** Starts a VM process, which then waits for its configuration. */
export function launchVm(launch: VmLaunch): VmChild {
  return launcher(launch);
}

/** From now on VMs get processes of this kind. */
export function useVmLauncher(chosen: VmLauncher): void {
  launcher = chosen;
}
