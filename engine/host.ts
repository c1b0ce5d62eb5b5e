// SPDX-License-Identifier: MIT
// The only door outward: what a machine in the engine may use of the program around it.

/** Provided by the process that runs the machine. All times are in nanoseconds. */
export interface MachineHost {
  /** Time since the machine started, pauses left out; never goes back. The guest's system time is made from it. */
  monotonicNs(): number;
  /** UTC now, since the epoch. */
  wallClockNs(): number;
  /** 32 bits that nobody can guess, for guests that make keys from them. */
  randomWord(): number;
  /** What the guest wrote to its console; the bytes are only valid during the call, and have to be copied. */
  consoleOut(bytes: Uint8Array): void;
  log(level: 'info' | 'warn' | 'error', text: string): void;
}

/** Makes WebAssembly runnable, with machine code that an earlier run has left where there is any. */
export interface ModuleCompiler {
  /** `key`: names these bytes as in a `BlockStore`. Throws as `new WebAssembly.Module` does. */
  compile(key: string, wasm: Uint8Array): WebAssembly.Module;
  /** There seems to be machine code for the module of this name: it can be had for next to nothing. */
  isReady(key: string): boolean;
  /** Leaves machine code for later runs without making anything runnable now; false: there is none. Absent: machine code is never kept. */
  compileForLater?(key: string, wasm: Uint8Array): boolean;
}

/**
 * Where translations are kept between runs. Values are opaque; a key is a hexadecimal string. The store may forget anything at any time,
 * and never returns bytes other than those that were put under the key.
 */
export interface BlockStore {
  /** Everything kept for this machine's kind of use, read at start: the engine decides what fits. */
  entries(): Iterable<readonly [key: string, value: Uint8Array]>;
  /** One value again, so that not all of them have to stay in memory; null when it is gone by now. Counts as a use. */
  get(key: string): Uint8Array | null;
  /** Keeps a value; may be written later, in the background. */
  put(key: string, value: Uint8Array): void;
  /** Says that a value was useful, for the order of eviction. */
  touch(key: string): void;
}
