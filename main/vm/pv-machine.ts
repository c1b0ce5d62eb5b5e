// SPDX-License-Identifier: MIT
// The machine module of paravirtualised guests: reads the files and hands them to the engine.
import { PvMachine } from '../../engine/xen/machine.ts';
import { loadInterpreter } from '../build/interpreter-files.ts';
import { loadInitrd, loadPvKernel } from '../kernel/load.ts';
import type { Machine, MachineConfig, MachineHost } from './machine.ts';

/** Makes a Xen PV machine from a configuration; throws PvError. */
export async function createMachine(config: MachineConfig, host: MachineHost): Promise<Machine> {
  const { elf } = await loadPvKernel(config.kernel);
  const initrd = config.initrd === undefined ? undefined : await loadInitrd(config.initrd, config.memoryBytes);
  const machine = await PvMachine.create({
    name: config.name,
    kernel: elf.bytes,
    ...(initrd !== undefined && { initrd }),
    commandLine: config.commandLine,
    memoryBytes: config.memoryBytes,
    mfnOrder: config.mfnOrder,
    interpreter: loadInterpreter(),
    host,
  });
  return {
    run: (sliceNs) => machine.run(sliceNs),
    consoleInput: (bytes) => machine.consoleInput(bytes),
    setConsoleSize: (columns, rows) => machine.setConsoleSize(columns, rows),
    requestShutdown: (kind) => machine.requestShutdown(kind),
    sysrq: (key) => machine.store.write('/local/domain/1/control/sysrq', key),
    counts() {
      const { instructions, hypercalls, faults, tlbMisses, upcalls, counters } = machine.stats();
      return { instructions, hypercalls, faults, tlbMisses, events: upcalls, other: counters };
    },
  };
}
