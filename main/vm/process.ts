// SPDX-License-Identifier: MIT
// The process of one VM: starts the vCPU worker, serves attached consoles over a local socket, and ends with the guest.
// Started by `startVmProcess`; everything it needs arrives in one IPC message, after which the socket is the only door.
import * as net from 'node:net';
import { Worker } from 'node:worker_threads';
import { ConsoleClients } from './console-clients.ts';
import type { MachineConfig } from './machine.ts';
import type { VmOutcome, VmStats } from './outcome.ts';
import { outcomeOfError } from './outcome.ts';
import { logPath, removeEntry, writeEntry } from './runtime-directory.ts';
import type { VmEntry, VmIdentity } from './runtime-directory.ts';
import { Request, SharedControl } from './shared-control.ts';
import type { VcpuWorkerData, VcpuWorkerMessage, WorkerStats } from './vcpu-worker.ts';

/** What the starter sends. */
export interface VmProcessConfig {
  /** Identity chosen by the starter, which has already opened the log under it. */
  identity: VmIdentity;
  machine: MachineConfig;
  machineModule: string;
  /** What a guest that reboots gets: a fresh start, or the end of the VM. */
  onReboot: 'restart' | 'exit';
  /** How long a guest that was asked to power off may take before it is ended, in milliseconds. */
  graceMs: number;
}

/** What the process answers once its socket accepts connections. */
export interface VmProcessReady {
  type: 'ready';
}

/** A worker that does not stop within this time (it may be deep in a long slice) is terminated. */
const STOP_TIMEOUT_MS = 1000;

/** How long the last bytes may take to reach slow readers when everything is over. */
const FAREWELL_TIMEOUT_MS = 5000;

/** One VM: a sequence of guests (reboots), one worker at a time, any number of attached consoles. */
class VirtualMachine {
  readonly #config: VmProcessConfig;
  readonly #entry: VmEntry;
  readonly #clients: ConsoleClients;
  readonly #server: net.Server;
  #control = new SharedControl();
  #worker: Worker | null = null;
  #graceTimer: NodeJS.Timeout | null = null;
  #ended = false;

  constructor(config: VmProcessConfig) {
    this.#config = config;
    this.#entry = { ...config.identity, pid: process.pid };
    this.#clients = new ConsoleClients(this.#entry, {
      firstAttached: () => this.#startGuest(),
      input: (bytes) => this.#control.putInput(bytes),
      resize: ({ columns, rows }) => this.#control.setConsoleSize(columns, rows),
      powerOff: () => this.powerOff(),
      force: () => this.#stop(),
      // Nobody watches and nobody said "go on without me": the terminal was closed or the command was killed.
      abandoned: () => this.powerOff(),
      outputDelivered: (count) => this.#control.outputDelivered(count),
    });
    this.#server = net.createServer((socket) => this.#clients.accept(socket));
  }

  /** Opens the socket and announces the VM. The guest starts when the first console is attached, so that no output is lost. */
  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#entry.socket, resolve);
    });
    writeEntry(this.#entry);
  }

  /** The command that started this process is gone; without a guest there is nothing to stay for. */
  starterLeft(): void {
    if (this.#worker === null) this.powerOff();
  }

  /** Asks the guest to power off, and ends it when it has not done so after the grace time. */
  powerOff(): void {
    if (this.#ended || this.#graceTimer !== null) return;
    if (this.#worker === null) {
      void this.#end({ kind: 'forced' }, null);
      return;
    }
    this.#control.request(Request.PowerOff);
    this.#graceTimer = setTimeout(() => this.#stop(), this.#config.graceMs);
  }

  #stop(): void {
    if (this.#ended) return;
    const worker = this.#worker;
    if (worker === null) {
      void this.#end({ kind: 'forced' }, null);
      return;
    }
    this.#control.request(Request.Stop);
    setTimeout(() => {
      if (this.#worker === worker) void this.#end({ kind: 'forced' }, null);
    }, STOP_TIMEOUT_MS).unref();
  }

  #startGuest(): void {
    this.#control = new SharedControl();
    const size = this.#clients.consoleSize();
    if (size !== null) this.#control.setConsoleSize(size.columns, size.rows);
    const workerData: VcpuWorkerData = {
      config: this.#config.machine,
      machineModule: this.#config.machineModule,
      control: this.#control.buffer,
      log: logPath(this.#entry.id),
    };
    const worker = new Worker(new URL('./vcpu-worker.ts', import.meta.url), { workerData });
    this.#worker = worker;
    worker.on('message', (message: VcpuWorkerMessage) => {
      if (this.#worker === worker) this.#workerSays(message);
    });
    worker.on('error', (error) => {
      log(error instanceof Error ? (error.stack ?? error.message) : String(error));
      if (this.#worker === worker) void this.#end(outcomeOfError(error, logPath(this.#entry.id)), null);
    });
    worker.on('exit', () => {
      if (this.#worker !== worker || this.#ended) return;
      void this.#end(outcomeOfError(new Error('the vCPU stopped without a word'), logPath(this.#entry.id)), null);
    });
  }

  #workerSays(message: VcpuWorkerMessage): void {
    switch (message.type) {
      case 'output':
        this.#clients.output(message.bytes);
        break;
      case 'log':
        log(`${message.level}: ${message.text}`);
        break;
      case 'ended':
        if (message.outcome.kind === 'reboot' && this.#config.onReboot === 'restart' && this.#graceTimer === null) {
          this.#clients.notice('The guest reboots.');
          this.#startGuest();
        } else {
          void this.#end(message.outcome, message.stats);
        }
        break;
    }
  }

  async #end(outcome: VmOutcome, stats: WorkerStats | null): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const worker = this.#worker;
    this.#worker = null;
    if (this.#graceTimer !== null) clearTimeout(this.#graceTimer);
    this.#server.close();
    removeEntry(this.#entry, outcome.kind === 'failed');
    await Promise.race([
      this.#clients.farewell(outcome, stats && withHostCosts(stats)),
      new Promise((resolve) => setTimeout(resolve, FAREWELL_TIMEOUT_MS)),
    ]);
    await worker?.terminate();
    process.exit(0);
  }
}

function withHostCosts(stats: WorkerStats): VmStats {
  const usage = process.resourceUsage();
  return {
    ...stats,
    hostCpuNs: (usage.userCPUTime + usage.systemCPUTime) * 1000,
    peakRssBytes: usage.maxRSS * 1024,
  };
}

/** Standard error of this process is the VM's log file. */
function log(text: string): void {
  process.stderr.write(`${new Date().toISOString()} ${text}\n`);
}

if (process.send !== undefined) {
  process.once('message', (config: VmProcessConfig) => {
    const vm = new VirtualMachine(config);
    process.once('disconnect', () => vm.starterLeft());
    process.on('SIGTERM', () => vm.powerOff());
    // A terminal's signals are for the command that is attached, which passes them on as messages.
    process.on('SIGINT', () => undefined);
    process.on('SIGHUP', () => undefined);
    vm.listen().then(
      () => process.send?.({ type: 'ready' } satisfies VmProcessReady),
      (error: unknown) => {
        log(String(error));
        process.exit(1);
      },
    );
  });
}
