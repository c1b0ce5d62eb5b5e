// SPDX-License-Identifier: MIT
// The process of one VM: starts the vCPU worker, serves attached consoles over a local socket, and ends with the guest.
// Started by `startVmProcess`; everything it needs arrives in one IPC message, after which the socket is the only door.
import * as net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { vmModules } from '../build/vm-modules.ts';
import { ActivitySampler } from './activity-sampler.ts';
import { ConsoleClients } from './console-clients.ts';
import { lockFile } from './folder-lock.ts';
import type { FileLock } from './folder-lock.ts';
import { appendLog } from './machine-log.ts';
import type { LogLevel, MachineConfig } from './machine.ts';
import type { VmOutcome, VmStats } from './outcome.ts';
import { describeOutcome, outcomeOfError } from './outcome.ts';
import type { GuestState } from './protocol.ts';
import { closeForeignTerminals } from './foreign-terminals.ts';
import { runLockFile, writeRunRecord } from './run-record.ts';
import type { RunRecord } from './run-record.ts';
import { logPath, removeEntry, writeEntry } from './runtime-directory.ts';
import type { VmEntry, VmIdentity } from './runtime-directory.ts';
import { Request, SharedControl } from './shared-control.ts';
import { starterOfThisProcess } from './starter.ts';
import type { VcpuWorkerData, VcpuWorkerMessage, WorkerStats } from './vcpu-worker.ts';

/** What the starter sends. */
export interface VmProcessConfig {
  /** Identity chosen by the starter, which has already opened the log under it. */
  identity: VmIdentity;
  machine: MachineConfig;
  /** Address of another machine module than the engine's; null: that one. */
  machineModule: string | null;
  /** What a guest that reboots gets: a fresh start, or the end of the VM. */
  onReboot: 'restart' | 'exit';
  /** How long a guest that was asked to power off may take before it is ended, in milliseconds; null: as long as it likes. */
  graceMs: number | null;
}

/** What the process answers once its socket accepts connections. */
export interface VmProcessReady {
  type: 'ready';
}

/** What it answers instead when the machine is running already. */
export interface VmProcessRefusal {
  type: 'locked';
}

/** Those who watch get a sample this often. */
const SAMPLE_MS = 1000;

/** A worker that does not stop within this time (it may be deep in a long slice) is terminated. */
const STOP_TIMEOUT_MS = 1000;

/** How long a terminated one may take to be gone. V8 ends JavaScript at once, but not WebAssembly that never comes back (see ENGINE_FLAGS). */
const TERMINATE_TIMEOUT_MS = 1000;

/** How long whoever started a machine may take to connect to it when it has ended already. */
const STARTER_MS = 5000;

/** How long the last bytes may take to reach slow readers when everything is over. */
const FAREWELL_TIMEOUT_MS = 5000;

/** One VM: a sequence of guests (reboots), one worker at a time, any number of attached consoles. */
class VirtualMachine {
  readonly #config: VmProcessConfig;
  readonly #entry: VmEntry;
  readonly #clients: ConsoleClients;
  readonly #server: net.Server;
  #control = new SharedControl();
  #activity: ActivitySampler | null = null;
  #worker: Worker | null = null;
  #graceTimer: NodeJS.Timeout | null = null;
  #powerOffAsked = false;
  #ended = false;
  #state: GuestState = 'starting';
  /** How many guests there were before this one. */
  #guest = 0;
  /** Somebody has attached, or whoever started this will not. */
  readonly #met: Promise<void>;
  #meet: () => void = () => undefined;
  /** A reset is under way: the end of the present guest is not the end of the VM. */
  #resetting = false;
  readonly #logFile: string;
  readonly #folder: string | null;
  #lock: FileLock | null = null;
  #record: RunRecord;

  constructor(config: VmProcessConfig) {
    this.#config = config;
    this.#met = new Promise((resolve) => (this.#meet = resolve));
    this.#entry = { ...config.identity, pid: process.pid };
    this.#folder = config.identity.folder;
    this.#logFile = logPath(config.identity);
    this.#record = {
      version: 1,
      pid: process.pid,
      startedAt: config.identity.startedAt,
      machine: { ...config.machine, onReboot: config.onReboot },
      endedAt: null,
      outcome: null,
      instructions: null,
    };
    this.#clients = new ConsoleClients(this.#entry, this.#folder !== null, {
      firstAttached: () => {
        this.#meet();
        // A machine of the library has begun already.
        if (this.#folder === null) this.#startGuest();
      },
      input: (bytes) => this.#control.putInput(bytes),
      inputWaiting: () => this.#control.inputWaiting(),
      resize: ({ columns, rows }) => this.#control.setConsoleSize(columns, rows),
      powerOff: () => this.powerOff(),
      force: () => this.#stop(),
      pause: () => this.#control.request(Request.Pause),
      resume: () => this.#control.request(Request.Resume),
      reset: () => this.#reset(),
      sysrq: (key) => this.#control.sendSysrq(key),
      guest: () => ({ state: this.#state, guest: this.#guest }),
      // Nobody watches and nobody said "go on without me": the terminal was closed or the command was killed.
      abandoned: () => this.powerOff(),
      outputDelivered: (count) => this.#control.outputDelivered(count),
    });
    this.#server = net.createServer((socket) => this.#clients.accept(socket));
  }

  /**
   * Opens the socket and announces the VM; false when the machine is running already. The guest starts when the first console is
   * attached, so that no output is lost, or at once when it is a machine of the library, whose output is kept.
   */
  async listen(): Promise<boolean> {
    if (this.#folder !== null) {
      this.#lock = lockFile(runLockFile(this.#folder));
      if (this.#lock === null) return false;
      writeRunRecord(this.#folder, this.#record);
    }
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#entry.socket, resolve);
    });
    writeEntry(this.#entry);
    setInterval(() => {
      if (this.#clients.watched()) this.#control.request(Request.Sample);
    }, SAMPLE_MS).unref();
    if (this.#folder !== null) {
      this.#log('info', 'process', `started as process ${process.pid}`);
      this.#startGuest();
    }
    return true;
  }

  /** The command that started this process is gone; without a guest there is nothing to stay for. */
  starterLeft(): void {
    this.#meet();
    if (this.#worker === null) this.powerOff();
  }

  /** Asks the guest to power off, and ends it when it has not done so after the grace time, if there is one. */
  powerOff(): void {
    if (this.#ended || this.#graceTimer !== null) return;
    this.#powerOffAsked = true;
    if (this.#worker === null) {
      void this.#end({ kind: 'forced' }, null);
      return;
    }
    this.#control.request(Request.PowerOff);
    const { graceMs } = this.#config;
    if (graceMs !== null) this.#graceTimer = setTimeout(() => this.#stop(), graceMs);
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

  /** Ends the guest and starts it anew; one that does not stop in time is cut off. */
  #reset(): void {
    const worker = this.#worker;
    if (this.#ended || worker === null || this.#resetting) return;
    this.#resetting = true;
    this.#log('info', 'process', 'reset');
    if (this.#graceTimer !== null) clearTimeout(this.#graceTimer);
    this.#graceTimer = null;
    this.#powerOffAsked = false;
    this.#control.request(Request.Stop);
    setTimeout(() => {
      if (this.#worker === worker) void this.#cutOff(worker);
    }, STOP_TIMEOUT_MS).unref();
  }

  async #cutOff(worker: Worker): Promise<void> {
    const isGone = await endsWhenTerminated(worker);
    if (this.#worker !== worker || this.#ended) return;
    if (isGone) this.#startAgain();
    else void this.#end(outcomeOfError(new Error('the vCPU could not be stopped'), this.#logFile), null);
  }

  #startAgain(): void {
    this.#resetting = false;
    this.#guest++;
    this.#setState('starting');
    this.#startGuest();
  }

  #setState(state: GuestState): void {
    this.#state = state;
    this.#clients.tell({ type: 'state', state, guest: this.#guest });
  }

  #log(level: LogLevel, source: 'process' | 'guest', text: string): void {
    const at = Date.now();
    try {
      appendLog(this.#logFile, { at, level, source, text });
    } catch {
      // A log that cannot be written is no reason to end a guest.
    }
    this.#clients.report({ type: 'log', at, level, source, text });
  }

  #startGuest(): void {
    this.#control = new SharedControl();
    this.#activity?.stop();
    this.#activity = null;
    const size = this.#clients.consoleSize();
    if (size !== null) this.#control.setConsoleSize(size.columns, size.rows);
    const modules = vmModules(this.#config.machineModule);
    const workerData: VcpuWorkerData = {
      config: this.#config.machine,
      machineModule: modules.machine,
      control: this.#control.buffer,
      log: this.#logFile,
    };
    const worker = new Worker(modules.worker, { workerData });
    this.#worker = worker;
    worker.on('message', (message: VcpuWorkerMessage) => {
      if (this.#worker === worker) this.#workerSays(message);
    });
    worker.on('error', (error) => {
      this.#log('error', 'process', error instanceof Error ? (error.stack ?? error.message) : String(error));
      if (this.#worker === worker) void this.#end(outcomeOfError(error, this.#logFile), null);
    });
    worker.on('exit', () => {
      if (this.#worker !== worker || this.#ended || this.#resetting) return;
      void this.#end(outcomeOfError(new Error('the vCPU stopped without a word'), this.#logFile), null);
    });
  }

  #workerSays(message: VcpuWorkerMessage): void {
    switch (message.type) {
      case 'output':
        this.#clients.output(message.bytes);
        break;
      case 'log':
        this.#log(message.level, 'guest', message.text);
        break;
      case 'state':
        this.#setState(message.state);
        break;
      case 'sample': {
        const stats = withHostCosts(message.stats, this.#activity);
        this.#record.instructions = stats.instructions;
        const rssBytes = process.memoryUsage.rss();
        this.#clients.report({ type: 'sample', at: Date.now(), guest: this.#guest, stats, rssBytes });
        break;
      }
      case 'activity':
        this.#activity = new ActivitySampler(message.word, this.#control);
        break;
      case 'ended':
        if (this.#resetting) {
          this.#startAgain();
        } else if (message.outcome.kind === 'reboot' && this.#config.onReboot === 'restart' && !this.#powerOffAsked) {
          this.#clients.tell({ type: 'notice', text: 'The guest reboots.' });
          this.#startAgain();
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
    // Nothing of the guest may be left when another process can have the machine: a thread that stays takes this process, and its lock, along.
    const isGone = worker === null || (await endsWhenTerminated(worker));
    // A guest that ends at once has often said why: whoever started it is about to ask.
    if (this.#folder !== null) await Promise.race([this.#met, sleep(STARTER_MS)]);
    this.#server.close();
    this.#recordEnd(outcome, stats);
    if (isGone) this.#lock?.release();
    removeEntry(this.#entry, outcome.kind === 'failed');
    await Promise.race([
      this.#clients.farewell(outcome, stats && withHostCosts(stats, this.#activity)),
      new Promise((resolve) => setTimeout(resolve, FAREWELL_TIMEOUT_MS)),
    ]);
    if (isGone) process.exit(0);
    process.kill(process.pid, 'SIGKILL');
  }

  #recordEnd(outcome: VmOutcome, stats: WorkerStats | null): void {
    if (this.#folder === null) return;
    const text = describeOutcome(outcome);
    this.#log(outcome.kind === 'failed' ? 'error' : 'info', 'process', `ended: ${outcome.kind}${text && `. ${text}`}`);
    const { instructions } = stats ?? this.#record;
    try {
      // A machine that was taken from under us (its folder removed) has nowhere to keep records.
      writeRunRecord(this.#folder, { ...this.#record, endedAt: Date.now(), outcome, instructions });
    } catch (error) {
      process.stderr.write(`${String(error)}\n`);
    }
  }
}

/** Whether the thread is gone within the time that it has for that. */
function endsWhenTerminated(worker: Worker): Promise<boolean> {
  return Promise.race([worker.terminate().then(() => true), sleep(TERMINATE_TIMEOUT_MS, false, { ref: false })]);
}

function withHostCosts(stats: WorkerStats, activity: ActivitySampler | null): VmStats {
  const usage = process.resourceUsage();
  return {
    ...stats,
    ...(activity && { translatedNs: activity.translatedNs(stats.runNs) }),
    hostCpuNs: (usage.userCPUTime + usage.systemCPUTime) * 1000,
    peakRssBytes: usage.maxRSS * 1024,
  };
}

const starter = starterOfThisProcess();
if (starter !== null) {
  closeForeignTerminals();
  starter.configured((config) => {
    const vm = new VirtualMachine(config);
    starter.left(() => vm.starterLeft());
    process.on('SIGTERM', () => vm.powerOff());
    // A terminal's signals are for the command that is attached, which passes them on as messages.
    process.on('SIGINT', () => undefined);
    process.on('SIGHUP', () => undefined);
    vm.listen().then(
      (started) => {
        if (started) starter.answer({ type: 'ready' });
        else starter.answer({ type: 'locked' }, () => process.exit(0));
      },
      (error: unknown) => {
        // Standard error of this process is the VM's log file.
        process.stderr.write(`${String(error)}\n`);
        process.exit(1);
      },
    );
  });
}
