// SPDX-License-Identifier: MIT
// What the vCPU worker needs of a machine: the seam between one VM's process and the engine (or a test's stand-in for it).
import type { MachineHost } from '../../engine/host.ts';
import type { ActivityWord } from './activity-sampler.ts';

/** How a guest ended of its own accord. */
export type GuestOutcome =
  { kind: 'poweroff' } | { kind: 'reboot' } | { kind: 'suspend' } | { kind: 'crash'; reason: string };

/** What to do after a slice; `wakeAtNs` is in the time of `MachineHost.monotonicNs`, Infinity when only an event can wake the guest. */
export type RunResult =
  { state: 'running' } | { state: 'idle'; wakeAtNs: number } | { state: 'ended'; outcome: GuestOutcome };

/** Counts kept by the machine itself since it was created. */
export interface MachineCounts {
  /** Guest instructions executed. */
  instructions: number;
  /** Calls by hypercall name, unknown ones included. */
  hypercalls: Record<string, number>;
  /** Faults by vector number. */
  faults: Record<string, number>;
  tlbMisses: number;
  /** Events delivered to the guest. */
  events?: number;
  /** Of the instructions, those executed by translated code; absent when the machine does not tell them apart. */
  translatedInstructions?: number;
  /** Everything else worth a look, by name. */
  other?: Record<string, number>;
}

/** One guest. All methods are called from the vCPU worker's thread, never while `run` is active. */
export interface Machine {
  /** Runs guest code for about `sliceNs` nanoseconds. */
  run(sliceNs: number): RunResult;
  /** Offers console input; returns how many bytes were accepted. The rest is offered again after the next `run`. */
  consoleInput(bytes: Uint8Array): number;
  setConsoleSize(columns: number, rows: number): void;
  /** Asks the guest to end by itself. */
  requestShutdown(kind: 'poweroff' | 'reboot'): void;
  /** Sends a Linux magic SysRq key to the guest; absent in machines that have no way to. */
  sysrq?(key: string): void;
  counts(): MachineCounts;
  /** Where it says whether translated code runs; absent in machines that do not say. */
  readonly activity?: ActivityWord;
  /** Writes what is to be kept for the next run; called once, after the last `run`. `isForced`: somebody wants it to be over at once. */
  close?(isForced: boolean): Promise<void>;
}

export type LogLevel = 'info' | 'warn' | 'error';

/** Order of the guest's machine frames: pfn plus a constant, or a fixed permutation that exposes confusions of the two. */
export type Tier = 'auto' | 'interpret' | 'translate';
export type MfnOrder = 'offset' | 'permuted';

/** Everything needed to make a machine; travels from the command line to the VM process and on to its worker. */
export interface MachineConfig {
  name: string;
  /** Paths of files; the worker reads them. */
  kernel: string;
  initrd?: string;
  commandLine: string;
  memoryBytes: number;
  mfnOrder: MfnOrder;
  /** Which code is translated to WebAssembly: hot code (the default), none, or all at first sight. */
  tier?: Tier;
  /** False: translations are neither taken from the store nor kept. */
  blockStore?: boolean;
}

/** What a machine module exports. */
export interface MachineModule {
  /** Makes the machine; throws PvError when the configuration or a file cannot be used. */
  createMachine(config: MachineConfig, host: MachineHost): Promise<Machine>;
}
