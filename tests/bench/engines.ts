// SPDX-License-Identifier: MIT
// Runs the bench's plan once under one engine - the CPU itself, QEMU TCG, Paravane - and measures each workload at its console markers.

import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Guest, PlannedWorkload } from './guest.ts';
import { TAG_VARIABLE, cpuSecondsOf, killAll, peakMemoryOf } from './processes.ts';
import { lineSplitter, parseMarker } from './protocol.ts';
import type { Marker } from './protocol.ts';

export const ENGINES = ['native', 'tcg', 'paravane'] as const;
export type Engine = (typeof ENGINES)[number];

export interface WorkloadResult {
  readonly checksum: string;
  /** Host CPU seconds of all the VM's processes; natively the program's own. */
  readonly cpu: number;
  /** Wall seconds by the guest's monotonic clock. */
  readonly wall: number;
  /** Wall seconds by the host's clock between the markers, pauses included. */
  readonly hostWall: number;
}

/** Host CPU and wall seconds from process start to the first line of user space. */
export interface Boot {
  readonly cpu: number;
  readonly wall: number;
}

export interface EngineRun {
  /** Host CPU and wall seconds from process start to the first line of user space. */
  readonly boot: Boot | null;
  /** The same with the store of translations that the run before it filled; null when there was none, or for engines without one. */
  readonly warmBoot: Boot | null;
  readonly workloads: ReadonlyMap<string, WorkloadResult>;
  /** MiB of the VM's processes at their peak beyond the guest RAM it had touched; and the same of the largest process alone. */
  readonly memory: { readonly beyondRam: number; readonly largestBeyondRam: number } | null;
  /** Percent of one core the VM used while its guest was idle. */
  readonly idlePercent: number | null;
  /** What the engine printed besides the guest's console, such as Paravane's statistics. */
  readonly tail: string;
  /** Why the run ended early, with the console's last lines; what was measured until then stands. null when it went through. */
  readonly failure: string | null;
}

export interface RunOptions {
  readonly root: string;
  readonly guest: Guest;
  readonly plan: readonly PlannedWorkload[];
  readonly memoryMiB: number;
  /** Seconds without a marker after which a run is given up. */
  readonly stallSeconds: number;
  /** Appended to `paravane run`, before what the bench itself sets. */
  readonly paravaneArguments: readonly string[];
  /** A directory for Paravane's store of translations, empty before the run. */
  readonly storeDirectory: string;
  /** Where Node keeps compiled sources: part of an installed program, so not cold in any run. */
  readonly compileCache: string;
  /** Boot Paravane once more when the plan is through. */
  readonly bootsWarm: boolean;
  readonly onProgress: (text: string) => void;
}

/** Tags of runs in progress, so that an interrupted bench leaves nothing behind. */
const active = new Set<string>();

/** Ends the processes of every run in progress. */
export function abandonAll(): void {
  for (const tag of active) killAll(tag);
}

function paravaneCommand(options: RunOptions): string[] {
  const manifest = JSON.parse(readFileSync(join(options.root, 'package.json'), 'utf8')) as {
    bin?: string | Record<string, string>;
  };
  const program = typeof manifest.bin === 'string' ? manifest.bin : manifest.bin?.['paravane'];
  if (program === undefined)
    throw new Error('package.json names no program "paravane"; run the other engines with --engines native,tcg');
  return [
    ...[process.execPath, join(options.root, program), 'run', ...options.paravaneArguments],
    ...[
      '--kernel',
      options.guest.kernel,
      '--initrd',
      options.guest.initrd,
      '--memory',
      `${options.memoryMiB}M`,
      '--stats',
    ],
    ...['--append', 'console=hvc0 quiet mitigations=off tsc=reliable'],
  ];
}

function tcgCommand(options: RunOptions): string[] {
  return [
    ...[
      'qemu-system-x86_64',
      '-accel',
      'tcg,thread=single',
      '-nographic',
      '-no-reboot',
      '-nic',
      'none',
      '-m',
      `${options.memoryMiB}`,
    ],
    ...['-kernel', options.guest.kernel, '-initrd', options.guest.initrd],
    ...['-append', 'console=ttyS0 quiet mitigations=off tsc=reliable'],
  ];
}

interface Watched {
  /** The last lines that were no markers. */
  readonly lines: readonly string[];
  /** Why it failed, null when it did not. */
  readonly problem: string | null;
}

/** Runs one command to its end, reporting markers as they arrive; ends it when none comes for `stallSeconds`. */
function watch(
  command: readonly string[],
  tag: string,
  stallSeconds: number,
  environment: Readonly<Record<string, string>>,
  onMarker: (marker: Marker) => void,
): Promise<Watched> {
  const [program = '', ...rest] = command;
  return new Promise((resolve) => {
    const lines: string[] = [];
    let problem: string | null = null;
    const stalled = (): void => {
      problem ??= `no progress for ${stallSeconds} s`;
      killAll(tag);
    };
    let timer = setTimeout(stalled, stallSeconds * 1000);
    const onLine = (line: string): void => {
      const marker = parseMarker(line);
      if (marker === null) {
        lines.push(line);
        if (lines.length > 2000) lines.splice(0, 1000);
        return;
      }
      clearTimeout(timer);
      timer = setTimeout(stalled, stallSeconds * 1000);
      if (marker.kind === 'failed') problem ??= `the workload ${marker.name} failed`;
      onMarker(marker);
    };
    const env = { ...process.env, ...environment, [TAG_VARIABLE]: tag };
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], env });
    child.stdout.on('data', lineSplitter(onLine));
    child.stderr.on('data', lineSplitter(onLine));
    child.on('error', (error) => (problem ??= `${program} did not start: ${error.message}`));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      killAll(tag);
      if (code !== 0) problem ??= `${program} ended with ${signal ?? `exit code ${code}`}`;
      resolve({ lines, problem });
    });
  });
}

/** Runs the plan under one engine. A run that fails on the way resolves too, with `failure` set; throws what prevents a start. */
export async function runEngine(engine: Engine, options: RunOptions): Promise<EngineRun> {
  const tag = randomUUID();
  active.add(tag);
  try {
    if (engine === 'native') return await runNative(tag, options);
    const run = await runVirtual(engine, tag, options);
    if (engine !== 'paravane' || !options.bootsWarm || run.failure !== null) return run;
    return { ...run, ...(await bootAgain(options)) };
  } finally {
    killAll(tag);
    active.delete(tag);
  }
}

async function runNative(tag: string, options: RunOptions): Promise<EngineRun> {
  const workloads = new Map<string, WorkloadResult>();
  let failure: string | null = null;
  for (const { name, amount, guestOnly } of options.plan) {
    if (guestOnly) continue;
    options.onProgress(`native: ${name}`);
    const command = [options.guest.program, name, `${amount}`, options.guest.busybox];
    const { problem } = await watch(command, tag, options.stallSeconds, {}, (marker) => {
      if (marker.kind !== 'end') return;
      // The kernel's own account is finer than /proc's 10 ms, and there is no one else to count.
      const cpu = marker.cpuNs / 1e9;
      workloads.set(name, { checksum: marker.checksum, cpu, wall: marker.wallNs / 1e9, hostWall: marker.wallNs / 1e9 });
    });
    if (problem !== null) failure ??= `${name}: ${problem}`;
  }
  return { boot: null, warmBoot: null, workloads, memory: null, idlePercent: null, tail: '', failure };
}

/** Paravane's store is the run's own: cold means that nobody has filled it. */
function environmentOf(
  engine: 'tcg' | 'paravane',
  { storeDirectory, compileCache }: RunOptions,
): Record<string, string> {
  return engine === 'paravane' ? { PARAVANE_CACHE: storeDirectory, NODE_COMPILE_CACHE: compileCache } : {};
}

/** Boots Paravane up to user space with the store as the last run left it. */
async function bootAgain(options: RunOptions): Promise<Pick<EngineRun, 'warmBoot' | 'failure'>> {
  const tag = randomUUID();
  active.add(tag);
  let warmBoot: Boot | null = null;
  options.onProgress('paravane: boot again');
  try {
    const started = performance.now();
    const { lines, problem } = await watch(
      paravaneCommand(options),
      tag,
      options.stallSeconds,
      environmentOf('paravane', options),
      (marker) => {
        if (marker.kind !== 'userspace') return;
        warmBoot = { cpu: cpuSecondsOf(tag), wall: (performance.now() - started) / 1000 };
        // The rest of the plan is not wanted.
        killAll(tag);
      },
    );
    if (warmBoot !== null) return { warmBoot, failure: null };
    return {
      warmBoot,
      failure: `second boot: ${problem ?? 'no user space'}. Its last lines:\n${lines.slice(-25).join('\n')}`,
    };
  } finally {
    killAll(tag);
    active.delete(tag);
  }
}

async function runVirtual(engine: 'tcg' | 'paravane', tag: string, options: RunOptions): Promise<EngineRun> {
  const workloads = new Map<string, WorkloadResult>();
  let boot: EngineRun['boot'] = null;
  let memory: EngineRun['memory'] = null;
  let idlePercent: number | null = null;
  let untouched = 0;
  let done = false;
  const started = performance.now();
  let before = { cpu: 0, at: started };
  options.onProgress(`${engine}: boot`);
  const { lines, problem } = await watch(
    engine === 'tcg' ? tcgCommand(options) : paravaneCommand(options),
    tag,
    options.stallSeconds,
    environmentOf(engine, options),
    (marker) => {
      const now = { cpu: cpuSecondsOf(tag), at: performance.now() };
      switch (marker.kind) {
        case 'userspace':
          boot = { cpu: now.cpu, wall: (now.at - started) / 1000 };
          break;
        case 'begin':
          options.onProgress(`${engine}: ${marker.name}`);
          before = now;
          break;
        case 'untouched':
          untouched = marker.bytes;
          break;
        case 'end': {
          const cpu = now.cpu - before.cpu;
          const hostWall = (now.at - before.at) / 1000;
          if (marker.name === 'idle') {
            idlePercent = (100 * cpu) / hostWall;
          } else if (marker.name === 'memory') {
            const peak = peakMemoryOf(tag);
            const touched = options.memoryMiB * 2 ** 20 - untouched;
            memory = {
              beyondRam: (peak.total - touched) / 2 ** 20,
              largestBeyondRam: (peak.largest - touched) / 2 ** 20,
            };
          } else {
            workloads.set(marker.name, { checksum: marker.checksum, cpu, wall: marker.wallNs / 1e9, hostWall });
          }
          break;
        }
        case 'done':
          done = true;
          break;
        default:
          break;
      }
    },
  );
  const missing = options.plan.filter((w) => !w.guestOnly && !workloads.has(w.name)).map((w) => w.name);
  let reason = problem;
  if (missing.length > 0) reason = `${reason ?? 'the guest ended early'}; no result for ${missing.join(', ')}`;
  else if (!done) reason ??= 'the guest ended before its last line';
  const failure = reason === null ? null : `${reason}. Its last lines:\n${lines.slice(-25).join('\n')}`;
  return { boot, warmBoot: null, workloads, memory, idlePercent, tail: lines.slice(-400).join('\n'), failure };
}
