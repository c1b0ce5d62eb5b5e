// SPDX-License-Identifier: MIT
// The process that fills the store of precompiled blocks for one kernel: boots it once without anybody's data, and translates what its symbols and
// control flow recommend. A process of its own because the kernel may be hostile; started and ended by `precompileKernel`.
import { PvError } from '../../engine/errors.ts';
import type { ErrorCode } from '../../engine/errors.ts';
import { precompileRegions, rankEntries } from '../../engine/translate/precompile.ts';
import type { Precompiled } from '../../engine/translate/precompile.ts';
import { exploreCode } from '../../engine/translate/static-code.ts';
import { regionLimits } from '../../engine/translate/tuning.ts';
import { PvMachine } from '../../engine/xen/machine.ts';
import { openBlockStore } from '../block-store/block-store.ts';
import type { DiskBlockStore } from '../block-store/block-store.ts';
import { blockEngineVersion } from '../block-store/engine-version.ts';
import { loadInterpreter } from '../build/interpreter-files.ts';
import { loadPvKernel } from '../kernel/load.ts';
import { openCodeStore } from '../machine-code/code-store.ts';
import { randomWord } from '../vm/random-word.ts';
import { readKernelCode } from './kernel-code.ts';
import type { KernelCode } from './kernel-code.ts';

/** What the starter sends. */
export interface PrecompilerJob {
  readonly kernel: string;
  readonly commandLine: string;
  /** False: only what the kernel's file says. */
  readonly rehearse: boolean;
  readonly limits: { readonly regions: number; readonly bytes: number };
}

/** What was done, for people. */
export interface PrecompilationReport {
  readonly symbols: KernelCode['symbols'];
  readonly functions: number;
  /** From symbols and control flow. */
  readonly static: Precompiled;
  /** From a boot of the kernel; null when there was none. */
  readonly rehearsal: {
    readonly outcome: 'ended' | 'idle' | 'stopped';
    readonly instructions: number;
    readonly seconds: number;
    readonly regions: number;
  } | null;
  /** Bytes of the store on disk. */
  readonly storeBytes: number;
}

export type PrecompilerMessage =
  | { readonly type: 'progress'; readonly text: string; readonly done: number; readonly total: number | null }
  | { readonly type: 'done'; readonly report: PrecompilationReport }
  | { readonly type: 'refused'; readonly code: ErrorCode; readonly details: PvError['details'] }
  | { readonly type: 'failed'; readonly detail: string };

const rehearsalMemory = 256 * 2 ** 20;
const sliceNs = 20e6;
/** A guest that has done nothing for so long has arrived; one that runs on is stopped. */
const idleSeconds = 2;
const rehearsalSeconds = 60;
/** Without a root file system Linux panics; it then shall end at once. */
const rehearsalArguments = 'console=hvc0 quiet panic=-1';

const tell = (message: PrecompilerMessage): void => void process.send!(message);

/** Boots the kernel until it has nothing to do, panics for want of a file system, or time is up. */
async function rehearse(
  elf: Uint8Array,
  commandLine: string,
  blocks: DiskBlockStore,
  engineVersion: string,
  code: KernelCode,
): Promise<PrecompilationReport['rehearsal']> {
  const codes = openCodeStore(engineVersion, () => undefined);
  const start = performance.now();
  const host = {
    monotonicNs: () => (performance.now() - start) * 1e6,
    wallClockNs: () => Date.now() * 1e6,
    randomWord,
    consoleOut: () => undefined,
    log: () => undefined,
  };
  const machine = await PvMachine.create({
    name: 'rehearsal',
    kernel: elf,
    commandLine: `${rehearsalArguments} ${commandLine}`.trim(),
    memoryBytes: rehearsalMemory,
    interpreter: loadInterpreter(codes?.compiler),
    host,
    blocks,
    ...(codes && { compiler: codes.compiler }),
  });
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  let outcome: 'ended' | 'idle' | 'stopped' = 'stopped';
  let idleMs = 0;
  for (let slice = 0; performance.now() - start < rehearsalSeconds * 1000; slice++) {
    if (slice % 16 === 0) {
      const seconds = Math.round((performance.now() - start) / 1000);
      tell({ type: 'progress', text: 'Booting the kernel once', done: seconds, total: null });
    }
    const result = machine.run(sliceNs);
    if (result.state === 'ended') {
      outcome = 'ended';
      break;
    }
    if (result.state === 'running') {
      idleMs = 0;
      continue;
    }
    const waitMs = Math.min(100, Math.max(0, (result.wakeAtNs - host.monotonicNs()) / 1e6));
    Atomics.wait(sleeper, 0, 0, waitMs);
    idleMs += waitMs;
    if (idleMs >= idleSeconds * 1000) {
      outcome = 'idle';
      break;
    }
  }
  // The kernel has patched its code: later boots will run what lies in memory now.
  const { memory } = machine;
  for (const { from, to } of code.lasting) {
    const at = memory.layout.guest + code.physical(from);
    code.image.u8.set(memory.u8.subarray(at, at + (to - from)), from);
  }
  const never = (): boolean => false;
  codes?.compiler.keep(never);
  machine.cpu.prepareLaterRuns(never);
  await codes?.close();
  const { instructions, translator } = machine.stats();
  const seconds = (performance.now() - start) / 1000;
  return { outcome, instructions, seconds, regions: translator?.regions ?? 0 };
}

async function precompile({ kernel, commandLine, rehearse: boots, limits }: PrecompilerJob): Promise<void> {
  tell({ type: 'progress', text: 'Reading the kernel', done: 0, total: null });
  const loaded = await loadPvKernel(kernel);
  const code = readKernelCode(loaded);
  const engineVersion = blockEngineVersion();
  const blocks = openBlockStore({ engineVersion, kind: 'pv', writing: 'direct' });
  const rehearsal = boots ? await rehearse(loaded.elf.bytes, commandLine, blocks, engineVersion, code) : null;
  const entries = exploreCode(code.image, code.roots, code.functions, (done, total) =>
    tell({ type: 'progress', text: 'Following the code', done, total }),
  );
  const made = precompileRegions(code.image, rankEntries(entries), limits, regionLimits, blocks, (done) =>
    tell({ type: 'progress', text: 'Translating', done, total: limits.regions }),
  );
  await blocks.close();
  const report = { symbols: code.symbols, functions: code.functions.length, static: made, rehearsal };
  tell({ type: 'done', report: { ...report, storeBytes: blocks.stats().bytes } });
}

process.once('message', (job: PrecompilerJob) => {
  // Nobody wants the result any more: what is in the store stays.
  process.once('disconnect', () => process.exit(1));
  precompile(job).then(
    () => process.disconnect?.(),
    (error: unknown) => {
      if (error instanceof PvError) tell({ type: 'refused', code: error.code, details: error.details });
      else tell({ type: 'failed', detail: error instanceof Error ? (error.stack ?? error.message) : String(error) });
      process.disconnect?.();
    },
  );
});
