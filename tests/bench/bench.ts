// SPDX-License-Identifier: MIT
// `npm run bench`: the same work natively, under QEMU TCG and under Paravane, in one run on one machine, as a table of ratios with bars.

import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { arch, cpus, loadavg, release } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';

import { findDebianFiles, requireTools } from './debian-files.ts';
import { ENGINES, abandonAll, runEngine } from './engines.ts';
import type { Engine, EngineRun } from './engines.ts';
import { buildGuest, buildProgram, instructionsPerUnit } from './guest.ts';
import type { PlannedWorkload } from './guest.ts';
import { checksumDifferences, formatTable, judge, parseStatistics, recordOf, tabulate } from './report.ts';
import type { Bar, WorkloadText } from './report.ts';

interface BenchConfig {
  readonly memoryMiB: number;
  readonly stallSeconds: number;
  readonly workloads: readonly (WorkloadText & { readonly amount: number })[];
  readonly idleSeconds: number;
  readonly memoryKeepMiB: number;
  readonly instructionSample: number;
  readonly appliedBars: string;
  readonly bars: Readonly<Record<string, readonly Bar[]>>;
}

const USAGE = `usage: npm run bench -- [OPTION]...
  --rounds N          rounds, engines interleaved; medians are shown (1)
  --engines LIST      of ${ENGINES.join(',')} (all)
  --only LIST         rows to measure, by name; boot comes with every guest
  --no-warm           do not repeat the workloads in Paravane's second run, which makes a round shorter
  --scale X           multiplies the amount of work (1)
  --bars SET          bars to judge by, a set of bench.json
  --kernel FILE, --busybox FILE   instead of Debian's cloud kernel and busybox-static
  --paravane-args STRING          more arguments for "paravane run", separated by blanks
  --stall SECONDS     how long a run may stay without progress
  --stats             print what Paravane's --stats said
  --no-history        do not append to history.jsonl
  --strict            exit code 1 when a bar is missed`;

const ROOT = join(import.meta.dirname, '../..');
const HISTORY = join(import.meta.dirname, 'history.jsonl');
const CACHE = join(ROOT, '.cache/bench');

class UsageError extends Error {}

function parseOptions(config: BenchConfig) {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  const { values } = parseArgs({
    options: {
      ...{
        rounds: text,
        engines: text,
        only: text,
        scale: text,
        bars: text,
        kernel: text,
        busybox: text,
        'paravane-args': text,
      },
      ...{ stall: text, 'no-warm': flag, stats: flag, 'no-history': flag, strict: flag, help: flag },
    },
  });
  const positive = (name: 'rounds' | 'scale' | 'stall', fallback: number): number => {
    const value = Number(values[name] ?? fallback);
    if (!(value > 0)) throw new UsageError(`--${name} needs a number above 0`);
    return value;
  };
  const list = (given: string | undefined, all: readonly string[], what: string): string[] => {
    const chosen = given?.split(',') ?? [...all];
    for (const name of chosen)
      if (!all.includes(name)) throw new UsageError(`there is no ${what} "${name}"; there are ${all.join(', ')}`);
    return all.filter((name) => chosen.includes(name));
  };
  const barSet = values.bars ?? config.appliedBars;
  const bars = config.bars[barSet];
  if (bars === undefined)
    throw new UsageError(`there is no set of bars "${barSet}"; there are ${Object.keys(config.bars).join(', ')}`);
  return {
    help: values.help,
    rounds: Math.ceil(positive('rounds', 1)),
    scale: positive('scale', 1),
    stallSeconds: positive('stall', config.stallSeconds),
    engines: list(values.engines, ENGINES, 'engine') as Engine[],
    only: list(values.only, ['boot', 'boot-warm', ...config.workloads.map((w) => w.name), 'idle', 'memory'], 'row'),
    runsWarm: !values['no-warm'],
    isPartial: values.only !== undefined,
    barSet,
    bars,
    kernel: values.kernel,
    busybox: values.busybox,
    paravaneArguments: values['paravane-args']?.split(' ').filter((a) => a !== '') ?? [],
    showStats: values.stats,
    keepHistory: !values['no-history'],
    isStrict: values.strict,
  };
}

/** First line a command prints, or 'unknown'. */
function firstLineOf(command: string, ...args: string[]): string {
  try {
    return (
      execFileSync(command, args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split(
        '\n',
      )[0] ?? 'unknown'
    );
  } catch {
    return 'unknown';
  }
}

/** Replacer for JSON: five decimals are more than any figure here can mean. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Math.round(value * 1e5) / 1e5 : value;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function complain(text: string): void {
  process.stderr.write(`${text}\n`);
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else process.stderr.write(`${text}\n`);
}

async function main(): Promise<number> {
  const config = JSON.parse(readFileSync(join(import.meta.dirname, 'bench.json'), 'utf8')) as BenchConfig;
  const options = parseOptions(config);
  if (options.help) {
    print(USAGE);
    return 0;
  }

  requireTools(options.engines.includes('tcg'));
  mkdirSync(CACHE, { recursive: true });
  const debian = await findDebianFiles(options.kernel, options.busybox);
  const program = buildProgram(CACHE);
  const plan: PlannedWorkload[] = config.workloads
    .filter((w) => options.only.includes(w.name))
    .map((w) => ({ name: w.name, amount: Math.max(1, Math.round(w.amount * options.scale)), guestOnly: false }));
  // Idle comes before the memory row: a guest that has just run out of memory is busy with itself.
  if (options.only.includes('idle')) plan.push({ name: 'idle', amount: config.idleSeconds, guestOnly: true });
  if (options.only.includes('memory')) plan.push({ name: 'memory', amount: config.memoryKeepMiB, guestOnly: true });
  const guest = buildGuest(CACHE, debian, program, plan);
  const integer = plan.find((w) => w.name === 'integer');
  const instructions =
    integer === undefined ? 0 : integer.amount * instructionsPerUnit(CACHE, program, config.instructionSample);

  const load = loadavg()[0] ?? 0;
  const runs = new Map<Engine, EngineRun[]>(options.engines.map((engine) => [engine, []]));
  const failures: string[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const engine of options.engines) {
      if (isInterrupted) return 130;
      const storeDirectory = mkdtempSync(join(CACHE, 'store-'));
      const onProgress = (text: string): void => progress(`round ${round}/${options.rounds}, ${text}`);
      try {
        const { memoryMiB } = config;
        const { stallSeconds, paravaneArguments, runsWarm } = options;
        const run = await runEngine(engine, {
          root: ROOT,
          guest,
          plan,
          memoryMiB,
          stallSeconds,
          paravaneArguments,
          storeDirectory,
          compileCache: join(CACHE, 'node'),
          bootsWarm: options.only.includes('boot-warm'),
          runsWarm,
          onProgress,
        });
        runs.get(engine)?.push(run);
        if (run.failure !== null) failures.push(`${engine}, round ${round}: ${run.failure}`);
      } catch (error) {
        failures.push(`${engine}, round ${round}: ${error instanceof Error ? error.message : String(error)}`);
      } finally {
        rmSync(storeDirectory, { recursive: true, force: true });
      }
    }
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  if (isInterrupted) return 130;

  const rows = tabulate(runs, config.workloads, instructions);
  const verdicts = judge(rows, options.bars);
  const differences = checksumDifferences(runs);
  const machine = {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    arch: arch(),
    loadBefore: load,
  };
  const versions = {
    node: process.version,
    v8: process.versions.v8,
    qemu: firstLineOf('qemu-system-x86_64', '--version').replace('QEMU emulator version ', ''),
    gcc: firstLineOf('gcc', '--version'),
    guestKernel: basename(guest.kernel),
  };

  print(
    `${machine.cpu}, ${machine.cores} cores, load ${load.toFixed(1)}; QEMU ${versions.qemu}; Node ${versions.node}; ${versions.guestKernel}`,
  );
  print(
    `CPU seconds of the host, median of ${options.rounds} round(s), scale ${options.scale}; bars: ${options.barSet}\n`,
  );
  print(formatTable(rows, verdicts));
  const missed = verdicts.filter((v) => v.met === false);
  print(
    `\n${verdicts.filter((v) => v.met === true).length} bars met, ${missed.length} missed, ${verdicts.filter((v) => v.met === null).length} not measured`,
  );
  if (options.showStats) for (const run of runs.get('paravane') ?? []) print(`\n${run.tail}`);

  if (options.keepHistory && rows.length > 0) {
    const record = {
      date: new Date().toISOString(),
      commit: firstLineOf('git', 'describe', '--always', '--dirty'),
      machine,
      versions,
      options: {
        rounds: options.rounds,
        scale: options.scale,
        only: options.isPartial ? options.only : null,
        paravaneArguments: options.paravaneArguments,
      },
      rows: recordOf(rows),
      paravaneStatistics: (runs.get('paravane') ?? []).map((run) => parseStatistics(run.tail)),
      instructions: { integer: instructions },
      bars: verdicts,
      checksumDifferences: differences,
      failures: failures.map((text) => text.split('\n')[0]),
    };
    appendFileSync(HISTORY, `${JSON.stringify(record, rounded)}\n`);
  }

  for (const failure of failures) complain(`\nFAILED  ${failure}`);
  for (const difference of differences) complain(`\nCHECKSUMS DIFFER  ${difference}`);
  if (differences.length > 0)
    complain(
      '\nThe same program computed different results: an engine is wrong, and no figure of this run means anything.',
    );
  return failures.length > 0 || differences.length > 0 || (options.isStrict && missed.length > 0) ? 1 : 0;
}

let isInterrupted = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    isInterrupted = true;
    abandonAll();
    // The run in progress now fails and main() ends by itself; if it does not, this does.
    setTimeout(() => process.exit(130), 3000).unref();
  });
process.on('exit', abandonAll);

try {
  if (!existsSync('/proc/self/stat')) throw new UsageError('the bench reads Linux /proc and runs on Linux only');
  process.exitCode = await main();
} catch (error) {
  const isOptionError =
    error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
  complain(`bench: ${error instanceof Error ? error.message : String(error)}`);
  if (error instanceof UsageError || isOptionError) complain(USAGE);
  process.exitCode = 2;
}
