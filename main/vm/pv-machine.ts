// SPDX-License-Identifier: MIT
// The machine module of paravirtualised guests: reads the files and hands them to the engine.
import { ST } from '../../engine/cpu/layout.ts';
import type { MachineHost } from '../../engine/host.ts';
import { PvMachine } from '../../engine/xen/machine.ts';
import { openBlockStore } from '../block-store/block-store.ts';
import type { StoreLog } from '../block-store/directory.ts';
import { blockEngineVersion } from '../block-store/engine-version.ts';
import { openCodeStore } from '../machine-code/code-store.ts';
import { loadInterpreter } from '../build/interpreter-files.ts';
import { loadInitrd, loadPvKernel } from '../kernel/load.ts';
import type { Machine, MachineConfig } from './machine.ts';

/** What may be spent on later runs when a guest has ended, in milliseconds: somebody may be waiting for that. */
const LATER_RUNS_MS = 2000;

/** Makes a Xen PV machine from a configuration; throws PvError. */
export async function createMachine(config: MachineConfig, host: MachineHost): Promise<Machine> {
  const { elf } = await loadPvKernel(config.kernel);
  const initrd = config.initrd === undefined ? undefined : await loadInitrd(config.initrd, config.memoryBytes);
  const stores = config.blockStore === false ? undefined : openStores(host);
  const { blocks, code } = stores ?? {};
  const machine = await PvMachine.create({
    name: config.name,
    kernel: elf.bytes,
    ...(initrd !== undefined && { initrd }),
    commandLine: config.commandLine,
    memoryBytes: config.memoryBytes,
    mfnOrder: config.mfnOrder,
    interpreter: loadInterpreter(code?.compiler),
    host,
    ...(blocks && { blocks }),
    ...(code && { compiler: code.compiler }),
    ...(config.tier && { tier: config.tier }),
  });
  // The guest has its own copy of both: give back what may be a quarter of its memory now, not when a collection happens to come.
  for (const bytes of [elf.bytes, initrd]) release(bytes);
  return {
    async close(isForced) {
      const until = performance.now() + (isForced ? 0 : LATER_RUNS_MS);
      const isOver = (): boolean => performance.now() >= until;
      try {
        // First what this run has found worth its time.
        code?.compiler.keep(isOver);
        machine.cpu.prepareLaterRuns(isOver);
      } finally {
        await Promise.all([blocks?.close(), code?.close()]);
      }
    },
    run: (sliceNs) => machine.run(sliceNs),
    consoleInput: (bytes) => machine.consoleInput(bytes),
    setConsoleSize: (columns, rows) => machine.setConsoleSize(columns, rows),
    requestShutdown: (kind) => machine.requestShutdown(kind),
    sysrq: (key) => machine.store.write('/local/domain/1/control/sysrq', key),
    activity: {
      memory: machine.memory.wasm.buffer as SharedArrayBuffer,
      index: (machine.cpu.base + ST.region) >>> 2,
    },
    counts() {
      const {
        instructions,
        hypercalls,
        faults,
        tlbMisses,
        upcalls,
        counters,
        regionInstructions,
        regionEntries,
        translator,
      } = machine.stats();
      const translation = translator && prefixed('translator.', { ...translator, entries: regionEntries });
      const store = blocks && prefixed('block-store.', blocks.stats());
      const kept = code && prefixed('machine-code.', code.compiler.statistics);
      return {
        instructions,
        hypercalls,
        faults,
        tlbMisses,
        events: upcalls,
        translatedInstructions: regionInstructions,
        other: { ...counters, ...translation, ...store, ...kept },
      };
    },
  };
}

/** Where translations and their machine code are kept between runs; the latter not everywhere. */
function openStores(host: MachineHost) {
  const engineVersion = blockEngineVersion();
  const log: StoreLog = (level, text) => host.log(level, text);
  return { blocks: openBlockStore({ engineVersion, kind: 'pv', log }), code: openCodeStore(engineVersion, log) };
}

/** Frees the memory behind an array that nobody looks at any more. (A buffer moved elsewhere would be freed by a collection of garbage only.) */
function release(bytes: Uint8Array | undefined): void {
  if (bytes?.buffer instanceof ArrayBuffer) bytes.buffer.transfer(0);
}

function prefixed(prefix: string, counts: object): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).map(([name, n]) => [prefix + name, Math.round(n as number)]));
}
