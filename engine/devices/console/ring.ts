// SPDX-License-Identifier: MIT
// Back end of the PV console: the shared ring page of hvc_xen and its relatives (public/io/console.h).
//
// The protocol carries bytes only: there is no terminal size in the ring or in xenstore, and Linux's hvc_xen never
// changes its window size. A guest learns the size from the terminal itself (CSI 6 n, `resize`) or from `stty`.

import type { MachineMemoryView } from '../../xen/context.ts';
import type { Counters } from '../../xen/counters.ts';

const IN_BYTES = 1024;
const OUT_BYTES = 2048;
const IN = 0;
const OUT = 0x400;
const IN_CONS = 0xc00;
const IN_PROD = 0xc04;
const OUT_CONS = 0xc08;
const OUT_PROD = 0xc0c;

/** With this many bytes waiting, the guest may have stopped for want of space and needs to hear of the new room. */
const KICK_THRESHOLD = OUT_BYTES / 2;

export interface ConsoleRingOptions {
  readonly mem: MachineMemoryView;
  /** Host address of the ring page. */
  readonly page: number;
  readonly counters: Counters;
  /** Notifies the guest's console port. */
  readonly notifyGuest: () => void;
  /** Takes the guest's output; the bytes are a copy. */
  readonly onOutput: (bytes: Uint8Array) => void;
}

/** One console ring. The indices are free running; all four can be overwritten by the guest at any time. */
export class ConsoleRing {
  private readonly mem: MachineMemoryView;
  private readonly page: number;
  private readonly counters: Counters;
  private readonly notifyGuest: () => void;
  private readonly onOutput: (bytes: Uint8Array) => void;

  constructor(options: ConsoleRingOptions) {
    this.mem = options.mem;
    this.page = options.page;
    this.counters = options.counters;
    this.notifyGuest = options.notifyGuest;
    this.onOutput = options.onOutput;
  }

  /** Takes all output the guest has produced. Call when the guest notifies the port (or polls). */
  service(): void {
    let kick = false;
    for (;;) {
      const cons = this.index(OUT_CONS);
      const waiting = (this.index(OUT_PROD) - cons) >>> 0;
      if (waiting === 0) break;
      if (waiting > OUT_BYTES) {
        // An impossible distance: nothing sensible can be read until the guest repairs its index.
        this.counters.count('console.bad-output-index');
        break;
      }
      if (waiting >= KICK_THRESHOLD) kick = true;
      const bytes = this.read(cons, waiting);
      Atomics.store(this.mem.u32, (this.page + OUT_CONS) >>> 2, (cons + waiting) >>> 0);
      this.counters.count('console.bytes-out', waiting);
      this.onOutput(bytes);
    }
    if (kick) this.notifyGuest();
  }

  /** Bytes that `push` would accept now. */
  inputSpace(): number {
    const used = (this.index(IN_PROD) - this.index(IN_CONS)) >>> 0;
    if (used > IN_BYTES) {
      this.counters.count('console.bad-input-index');
      return 0;
    }
    return IN_BYTES - used;
  }

  /**
   * Puts input into the ring and notifies the guest. Returns how many bytes fitted; offer the rest again later
   * (the guest notifies the port when it has read).
   */
  push(bytes: Uint8Array): number {
    const accepted = Math.min(bytes.length, this.inputSpace());
    if (accepted === 0) return 0;
    const prod = this.index(IN_PROD);
    for (let i = 0; i < accepted; i++) {
      this.mem.u8[this.page + IN + ((prod + i) & (IN_BYTES - 1))] = bytes[i];
    }
    Atomics.store(this.mem.u32, (this.page + IN_PROD) >>> 2, (prod + accepted) >>> 0);
    this.counters.count('console.bytes-in', accepted);
    this.notifyGuest();
    return accepted;
  }

  private index(offset: number): number {
    return Atomics.load(this.mem.u32, (this.page + offset) >>> 2);
  }

  private read(cons: number, length: number): Uint8Array {
    const begin = cons & (OUT_BYTES - 1);
    const first = Math.min(length, OUT_BYTES - begin);
    const base = this.page + OUT;
    const bytes = new Uint8Array(length);
    bytes.set(this.mem.u8.subarray(base + begin, base + begin + first));
    bytes.set(this.mem.u8.subarray(base, base + length - first), first);
    return bytes;
  }
}
