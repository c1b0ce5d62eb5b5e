// SPDX-License-Identifier: MIT
// The worker thread that runs a VM's vCPU: slices of guest code, sleep while the guest idles, console bytes in and out.
import { parentPort, workerData } from 'node:worker_threads';
import type { MachineHost } from '../../engine/host.ts';
import type { ActivityWord } from './activity-sampler.ts';
import { IdleCollection } from './idle-collection.ts';
import type { LogLevel, Machine, MachineConfig, MachineModule } from './machine.ts';
import { outcomeOfError } from './outcome.ts';
import type { VmOutcome, VmStats } from './outcome.ts';
import { randomWord } from './random-word.ts';
import { Request, SharedControl } from './shared-control.ts';

/** Given to the worker at its start. */
export interface VcpuWorkerData {
  config: MachineConfig;
  /** URL of the module that makes the machine. */
  machineModule: string;
  control: SharedArrayBuffer;
  /** Path of the VM's log, named in error messages. */
  log: string;
}

/** What the worker measures; the rest of `VmStats` is known to the process only. */
export type WorkerStats = Omit<VmStats, 'hostCpuNs' | 'peakRssBytes' | 'translatedNs'>;

export type VcpuWorkerMessage =
  | { type: 'output'; bytes: Uint8Array<ArrayBuffer> }
  | { type: 'log'; level: LogLevel; text: string }
  /** The guest exists and runs, stands still, or runs again. */
  | { type: 'state'; state: 'running' | 'paused' }
  /** The guest exists: this tells what its vCPU is doing. */
  | { type: 'activity'; word: ActivityWord }
  /** The answer to Request.Sample. */
  | { type: 'sample'; stats: WorkerStats }
  | { type: 'ended'; outcome: VmOutcome; stats: WorkerStats | null };

/** Guest time per call of `run`: short enough that a key press is answered at once, long enough to cost nothing. */
const SLICE_NS = 4e6;
/** Console output is sent at the end of a slice, or when this much has gathered. */
const OUTPUT_BATCH_BYTES = 64 * 1024;
/** Input offered to the guest at a time. */
const INPUT_BATCH_BYTES = 4096;
/** Wait between offers when a guest that idles does not take its input. */
const INPUT_RETRY_MS = 20;

/** Gathers console bytes and posts them in batches. */
class OutputBatch {
  #bytes = new Uint8Array(OUTPUT_BATCH_BYTES);
  #length = 0;
  readonly #post: (bytes: Uint8Array<ArrayBuffer>) => void;

  constructor(post: (bytes: Uint8Array<ArrayBuffer>) => void) {
    this.#post = post;
  }

  append(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length;) {
      const count = Math.min(bytes.length - from, OUTPUT_BATCH_BYTES - this.#length);
      this.#bytes.set(bytes.subarray(from, from + count), this.#length);
      this.#length += count;
      from += count;
      if (this.#length === OUTPUT_BATCH_BYTES) this.flush();
    }
  }

  flush(): void {
    if (this.#length === 0) return;
    this.#post(this.#bytes.slice(0, this.#length));
    this.#length = 0;
  }
}

if (parentPort === null) throw new Error('vcpu-worker.ts runs as a worker thread only');
const port = parentPort;
const data = workerData as VcpuWorkerData;
const control = new SharedControl(data.control);
const startMs = performance.now();
const hostNs = (): number => (performance.now() - startMs) * 1e6;
/** Time spent paused before the present pause, and when that began: the guest's clock stands still meanwhile. */
let pausedNs = 0;
let pausedSinceNs: number | null = null;
const monotonicNs = (): number => (pausedSinceNs ?? hostNs()) - pausedNs;
const post = (message: VcpuWorkerMessage): void => port.postMessage(message);
const output = new OutputBatch((bytes) => {
  control.outputPosted(bytes.length);
  port.postMessage({ type: 'output', bytes } satisfies VcpuWorkerMessage, [bytes.buffer]);
});
let runNs = 0;
let idleNs = 0;

const host: MachineHost = {
  monotonicNs,
  wallClockNs: () => Date.now() * 1e6,
  randomWord,
  consoleOut: (bytes) => output.append(bytes),
  log: (level, text) => post({ type: 'log', level, text }),
};

function statsOf(machine: Machine): WorkerStats {
  return { ...machine.counts(), elapsedNs: monotonicNs(), runNs, idleNs };
}

/** Passes one batch of waiting input on. `flowing`: more may follow at once; `stuck`: the guest took none of it. */
function feedInput(machine: Machine): 'none' | 'flowing' | 'stuck' {
  const bytes = control.peekInput(INPUT_BATCH_BYTES);
  if (bytes.length === 0) return 'none';
  const taken = machine.consoleInput(bytes);
  control.consumeInput(taken);
  return taken > 0 ? 'flowing' : 'stuck';
}

/** Serves the main thread's requests; true when the machine has to stop now. */
function serveRequests(machine: Machine): boolean {
  const requests = control.takeRequests();
  if (requests & Request.Resize) {
    const { columns, rows } = control.consoleSize();
    machine.setConsoleSize(columns, rows);
  }
  if (requests & Request.PowerOff) machine.requestShutdown('poweroff');
  if (requests & Request.Sysrq) machine.sysrq?.(control.sysrqKey());
  if (requests & Request.Sample) post({ type: 'sample', stats: statsOf(machine) });
  // Both at once: pausing and resuming between two looks comes to nothing.
  if (requests & Request.Pause && pausedSinceNs === null) {
    pausedSinceNs = hostNs();
    output.flush();
    post({ type: 'state', state: 'paused' });
  }
  if (requests & Request.Resume && pausedSinceNs !== null) {
    pausedNs += hostNs() - pausedSinceNs;
    pausedSinceNs = null;
    post({ type: 'state', state: 'running' });
  }
  return (requests & Request.Stop) !== 0;
}

/** Runs the machine to its end. */
function runToEnd(machine: Machine): VmOutcome {
  const garbage = new IdleCollection();
  for (;;) {
    const seen = control.signalCount();
    if (serveRequests(machine)) return { kind: 'forced' };
    if (pausedSinceNs !== null) {
      control.sleep(seen, Infinity);
      continue;
    }
    if (!control.awaitOutputRoom(100)) continue;
    const input = feedInput(machine);
    const before = monotonicNs();
    control.setRunning(true);
    const result = machine.run(SLICE_NS);
    control.setRunning(false);
    const after = monotonicNs();
    runNs += after - before;
    output.flush();
    if (result.state === 'ended') return result.outcome;
    if (result.state === 'idle' && input !== 'flowing') {
      garbage.idle((result.wakeAtNs - after) / 1e6, after / 1e6);
      const untilWakeMs = Math.max(0, (result.wakeAtNs - monotonicNs()) / 1e6);
      control.sleep(seen, input === 'stuck' ? Math.min(untilWakeMs, INPUT_RETRY_MS) : untilWakeMs);
      idleNs += monotonicNs() - after;
    }
  }
}

let machine: Machine | null = null;
try {
  const module = (await import(data.machineModule)) as MachineModule;
  machine = await module.createMachine(data.config, host);
  if (machine.activity) post({ type: 'activity', word: machine.activity });
  post({ type: 'state', state: 'running' });
  const outcome = runToEnd(machine);
  await machine.close?.(outcome.kind === 'forced');
  post({ type: 'ended', outcome, stats: statsOf(machine) });
} catch (error) {
  output.flush();
  // The stack belongs into the log, not before the user.
  host.log('error', error instanceof Error ? (error.stack ?? error.message) : String(error));
  post({ type: 'ended', outcome: outcomeOfError(error, data.log), stats: machine && statsOf(machine) });
}
