// SPDX-License-Identifier: MIT
// VM processes of the desktop shell: Electron's utility processes. They run the same module as under Node, but end with the application.
import { utilityProcess } from 'electron';
import { EventEmitter } from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import type { VmProcessConfig } from '../vm/process.ts';
import { VM_ENTRY } from '../vm/vm-child.ts';
import type { VmChild, VmLauncher } from '../vm/vm-child.ts';

class UtilityVm extends EventEmitter implements VmChild {
  exitCode: number | null = null;
  signalCode: NodeJS.Signals | null = null;
  connected = true;
  pid: number | undefined;
  readonly #process: Electron.UtilityProcess;

  constructor(log: string, environment: NodeJS.ProcessEnv) {
    super();
    this.#process = utilityProcess.fork(VM_ENTRY, [], {
      serviceName: 'Paravane machine',
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output = fs.createWriteStream(log, { flags: 'a', mode: 0o600 });
    // A log that cannot be written is no reason to stop a guest.
    output.on('error', () => undefined);
    this.#process.stdout?.pipe(output, { end: false });
    this.#process.stderr?.pipe(output, { end: false });
    this.#process.once('spawn', () => (this.pid = this.#process.pid));
    this.#process.on('message', (message: unknown) => this.emit('message', message));
    this.#process.once('exit', (code) => {
      this.#ended(code);
      output.end();
    });
  }

  #ended(status: number): void {
    this.connected = false;
    this.signalCode = signalOf(status);
    this.exitCode = this.signalCode !== null ? null : status > 255 ? status >> 8 : status;
    this.emit('exit', this.exitCode, this.signalCode);
  }

  send(config: VmProcessConfig): void {
    this.#process.postMessage(config);
  }

  kill(signal: NodeJS.Signals): boolean {
    const { pid } = this.#process;
    return signal === 'SIGKILL' && pid !== undefined ? process.kill(pid, signal) : this.#process.kill();
  }

  disconnect(): void {
    this.connected = false;
  }

  unref(): void {
    // Utility processes never keep the application from ending.
  }

  ref(): void {
    // As above.
  }
}

/**
 * Electron reports what `waitpid` said: on POSIX an end by signal is the signal's number, perhaps with the bit for a core dump. A VM process
 * itself ends with 0 or 1.
 */
function signalOf(status: number): NodeJS.Signals | null {
  if (process.platform === 'win32' || status < 2 || status > 255) return null;
  const names = Object.entries(os.constants.signals) as [NodeJS.Signals, number][];
  return names.find(([, number]) => number === (status & 0x7f))?.[0] ?? null;
}

export const launchUtilityVm: VmLauncher = ({ log, environment }) => new UtilityVm(log, environment);
