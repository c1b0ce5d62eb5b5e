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
  /** The workloads measured in that second run, too; empty when there was none, or when it was over at user space. */
  readonly warmWorkloads: ReadonlyMap<string, WorkloadResult>;
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
  /** Measure Paravane's boot once more when the plan is through, with the store as it is then. */
  readonly bootsWarm: boolean;
  /** Measure the plan's workloads in that second run, too. */
  readonly runsWarm: boolean;
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

/**
 * Runs one command to its end, reporting markers as they arrive; ends it when none comes for `stallSeconds`.
 * @param onMarker returns true when what is still to come is not wanted: the command is ended then, and that is no problem
 */
function watch(
  command: readonly string[],
  tag: string,
  stallSeconds: number,
  environment: Readonly<Record<string, string>>,
  onMarker: (marker: Marker) => boolean,
): Promise<Watched> {
  const [program = '', ...rest] = command;
  return new Promise((resolve) => {
    const lines: string[] = [];
    let problem: string | null = null;
    let isEnough = false;
    const stalled = (): void => {
      problem ??= `no progress for ${stallSeconds} s`;
      killAll(tag);
    };
    let timer = setTimeout(stalled, stallSeconds * 1000);
    const onLine = (line: string): void => {
      if (isEnough) return;
      const marker = parseMarker(line);
      if (marker === null) {
        lines.push(line);
        if (lines.length > 2000) lines.splice(0, 1000);
        return;
      }
      clearTimeout(timer);
      timer = setTimeout(stalled, stallSeconds * 1000);
      if (marker.kind === 'failed') problem ??= `the workload ${marker.name} failed`;
      isEnough = onMarker(marker);
      if (isEnough) killAll(tag);
    };
    const env = { ...process.env, ...environment, [TAG_VARIABLE]: tag };
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], env });
    child.stdout.on('data', lineSplitter(onLine));
    child.stderr.on('data', lineSplitter(onLine));
    child.on('error', (error) => (problem ??= `${program} did not start: ${error.message}`));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      killAll(tag);
      if (code !== 0 && !isEnough) problem ??= `${program} ended with ${signal ?? `exit code ${code}`}`;
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
    const measured = options.plan.filter((w) => !w.guestOnly).map((w) => w.name);
    const run = await runVirtual(engine, tag, options, { title: engine, wanted: measured, endsEarly: false });
    const again = options.runsWarm ? measured : [];
    if (engine !== 'paravane' || run.failure !== null || (!options.bootsWarm && again.length === 0)) return run;
    return { ...run, ...(await runAgain(options, again)) };
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
      if (marker.kind !== 'end') return false;
      // The kernel's own account is finer than /proc's 10 ms, and there is no one else to count.
      const cpu = marker.cpuNs / 1e9;
      workloads.set(name, { checksum: marker.checksum, cpu, wall: marker.wallNs / 1e9, hostWall: marker.wallNs / 1e9 });
      return false;
    });
    if (problem !== null) failure ??= `${name}: ${problem}`;
  }
  const unmeasured = { boot: null, warmBoot: null, memory: null, idlePercent: null };
  return { ...unmeasured, workloads, warmWorkloads: new Map(), tail: '', failure };
}

/** Paravane's store is the run's own: cold means that nobody has filled it. */
function environmentOf(
  engine: 'tcg' | 'paravane',
  { storeDirectory, compileCache }: RunOptions,
): Record<string, string> {
  return engine === 'paravane' ? { PARAVANE_CACHE: storeDirectory, NODE_COMPILE_CACHE: compileCache } : {};
}

/** Runs Paravane once more with the store as the last run left it, up to user space or to the end of the last of `wanted`. */
async function runAgain(
  options: RunOptions,
  wanted: readonly string[],
): Promise<Pick<EngineRun, 'warmBoot' | 'warmWorkloads' | 'failure'>> {
  const tag = randomUUID();
  active.add(tag);
  try {
    const run = await runVirtual('paravane', tag, options, { title: 'paravane again', wanted, endsEarly: true });
    return {
      warmBoot: options.bootsWarm ? run.boot : null,
      warmWorkloads: run.workloads,
      failure: run.failure === null ? null : `second run: ${run.failure}`,
    };
  } finally {
    killAll(tag);
    active.delete(tag);
  }
}

/** How much of the plan a run is for. The guest's image holds all of it, so a run that needs less has to be ended. */
interface Pass {
  /** For the progress lines. */
  readonly title: string;
  /** The workloads whose results must be there at the end. */
  readonly wanted: readonly string[];
  /** End the run as soon as they are, and user space has been reached. */
  readonly endsEarly: boolean;
}

async function runVirtual(
  engine: 'tcg' | 'paravane',
  tag: string,
  options: RunOptions,
  { title, wanted, endsEarly }: Pass,
): Promise<EngineRun> {
  const workloads = new Map<string, WorkloadResult>();
  let boot: EngineRun['boot'] = null;
  let memory: EngineRun['memory'] = null;
  let idlePercent: number | null = null;
  let untouched = 0;
  let isThrough = false;
  const started = performance.now();
  let before = { cpu: 0, at: started };
  options.onProgress(`${title}: boot`);
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
          options.onProgress(`${title}: ${marker.name}`);
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
          isThrough = true;
          break;
        default:
          break;
      }
      if (!endsEarly || boot === null || !wanted.every((name) => workloads.has(name))) return false;
      isThrough = true;
      return true;
    },
  );
  const missing = wanted.filter((name) => !workloads.has(name));
  let reason = problem;
  if (missing.length > 0) reason = `${reason ?? 'the guest ended early'}; no result for ${missing.join(', ')}`;
  else if (!isThrough) reason ??= 'the guest ended before its last line';
  const failure = reason === null ? null : `${reason}. Its last lines:\n${lines.slice(-25).join('\n')}`;
  const tail = lines.slice(-400).join('\n');
  return { boot, warmBoot: null, workloads, warmWorkloads: new Map(), memory, idlePercent, tail, failure };
}
