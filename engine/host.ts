// SPDX-License-Identifier: MIT
// The only door outward: what a machine in the engine may use of the program around it.

/** Provided by the process that runs the machine. All times are in nanoseconds. */
export interface MachineHost {
  /** Time since the machine started; never goes back. */
  monotonicNs(): number;
  /** UTC now, since the epoch. */
  wallClockNs(): number;
  /** What the guest wrote to its console; the bytes are only valid during the call. */
  consoleOut(bytes: Uint8Array): void;
  log(level: 'info' | 'warn' | 'error', text: string): void;
}
