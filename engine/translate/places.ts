// SPDX-License-Identifier: MIT
// Where general registers are known to point in the code being emitted, and the windows that are open there: along one way, and where ways meet.

import type { Local } from '../wasm/function.ts';
import { Anchor, type Reach, type Window } from './windows.ts';

/** A register's value: `offset` bytes behind an anchor. */
export interface Place {
  readonly anchor: Anchor;
  readonly offset: number;
}

/** A register around which windows are open at the end of a way. All addresses are relative to the value that its anchor comes from. */
export interface OpenPlace {
  readonly register: number;
  readonly origin: object;
  readonly at: number;
  readonly read: Window | undefined;
  readonly write: Window | undefined;
}

const registers = 16;

const moved = (w: Window | undefined, by: number): Window | undefined =>
  w && { low: w.low + by, high: w.high + by, host: w.host };

/** The window that is open both ways, if it is. */
const common = (a: Window | undefined, b: Window | undefined): Window | undefined =>
  a && b && a.low === b.low && a.high === b.high && a.host.index === b.host.index ? a : undefined;

export class Places {
  private places = new Array<Place | undefined>(registers).fill(undefined);
  private reaches = new Array<Reach | undefined>(registers).fill(undefined);
  /** Locals of windows: those in use come first. */
  private readonly locals: Local[] = [];
  private inUse = 0;
  /** So many stay in use until a loop ends. */
  private pinned = 0;
  private readonly newLocal: () => Local;

  constructor(newLocal: () => Local) {
    this.newLocal = newLocal;
  }

  /** What a general register's 64 bits are relative to. */
  of(register: number): Place {
    return (this.places[register] ??= { anchor: new Anchor(this.reaches[register]), offset: 0 });
  }

  set(register: number, place: Place | undefined): void {
    this.places[register] = place;
  }

  /** What a register that gets another value will be used to reach. */
  expect(register: number, reach: Reach): void {
    this.reaches[register] = reach;
  }

  /** A local for a window's host address. */
  windowLocal(): Local {
    const local = (this.locals[this.inUse] ??= this.newLocal());
    this.inUse++;
    return local;
  }

  /** Notes what is known now; calling the result goes back to it. */
  mark(): () => void {
    const places = this.places.slice();
    const reaches = this.reaches.slice();
    const windows: (readonly [Anchor, Anchor['read'], Anchor['write']])[] = [];
    for (let n = 0; n < registers; n++) {
      const anchor = places[n]?.anchor;
      if (anchor) windows.push([anchor, anchor.read, anchor.write]);
    }
    const { inUse } = this;
    return () => {
      this.places = places;
      this.reaches = reaches;
      this.inUse = inUse;
      for (const [anchor, read, write] of windows) {
        anchor.read = read;
        anchor.write = write;
      }
    };
  }

  /** Nothing is known of these registers (bits). */
  forget(bits: number): void {
    for (let n = 0; n < registers; n++) if (bits & (1 << n)) this.places[n] = undefined;
  }

  /** A loop begins: what is open now stays so in each of its turns, so the locals are for nothing else until the result is called. */
  pin(): () => void {
    const { pinned } = this;
    this.pinned = this.inUse;
    return () => {
      this.pinned = pinned;
    };
  }

  /** What a way that ends here has open. */
  open(): OpenPlace[] {
    const found: OpenPlace[] = [];
    for (let register = 0; register < registers; register++) {
      const place = this.places[register];
      if (!place || (!place.anchor.read && !place.anchor.write)) continue;
      const { origin, base, read, write } = place.anchor;
      found.push({ register, origin, at: base + place.offset, read: moved(read, base), write: moved(write, base) });
    }
    return found;
  }

  /** Code begins to which these ways lead: of the registers that are alike in all, windows stay open. `reach`: what each register will reach. */
  begin(ways: readonly (readonly OpenPlace[])[], reach: (register: number) => Reach | undefined): void {
    this.places.fill(undefined);
    this.inUse = this.pinned;
    for (let n = 0; n < registers; n++) this.reaches[n] = reach(n);
    const [first, ...others] = ways;
    for (const { register, origin, at, ...windows } of first ?? []) {
      let { read, write } = windows;
      for (const way of others) {
        const other = way.find((o) => o.register === register && o.origin === origin && o.at === at);
        read = common(read, other?.read);
        write = common(write, other?.write);
      }
      if (!read && !write) continue;
      const anchor = new Anchor(this.reaches[register], { origin, base: at });
      anchor.read = moved(read, -at);
      anchor.write = moved(write, -at);
      this.places[register] = { anchor, offset: 0 };
      for (const w of [read, write]) if (w) this.inUse = Math.max(this.inUse, this.locals.indexOf(w.host) + 1);
    }
  }
}
