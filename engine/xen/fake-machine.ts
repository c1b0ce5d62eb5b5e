// SPDX-License-Identifier: MIT
// For unit tests: a small machine memory, a guest address space and a domain without a CPU.

import type { DomainView, GuestAccess, HypercallContext, HypercallHandler, MachineMemoryView } from './context.ts';
import { Counters } from './counters.ts';
import { EventChannels } from './events.ts';
import { GrantTable } from './grants.ts';
import { Scheduler } from './sched.ts';
import { DomainTime } from './time.ts';

const PAGE_BYTES = 4096;
/** First MFN of a fake machine; not 0, so that a PFN taken for an MFN is noticed. */
export const FAKE_MFN_BASE = 0x100;

/** Machine memory of `pages` pages: frame `FAKE_MFN_BASE + n` is host page n; host page 0 is no frame. */
export function fakeMemory(pages: number): MachineMemoryView {
  const buffer = new SharedArrayBuffer(pages * PAGE_BYTES);
  return {
    u8: new Uint8Array(buffer),
    u16: new Uint16Array(buffer),
    u32: new Uint32Array(buffer),
    i32: new Int32Array(buffer),
    view: new DataView(buffer),
    hostOf(mfn) {
      const page = mfn - FAKE_MFN_BASE;
      return page > 0 && page < pages ? page * PAGE_BYTES : 0;
    },
  };
}

/**
 * Guest memory whose linear address range [0, size) lies at host address `base`; everything else faults.
 * `scratch` is the host address of 64 KiB for `copyIn`.
 */
export function fakeGuest(mem: MachineMemoryView, base: number, size: number, scratch: number): GuestAccess {
  return {
    copyIn(lo, hi, len) {
      if (hi !== 0 || lo + len > size) return -1;
      mem.u8.copyWithin(scratch, base + lo, base + lo + len);
      return scratch;
    },
    copyOut(lo, hi, src) {
      if (hi !== 0 || lo + src.length > size) return false;
      mem.u8.set(src, base + lo);
      return true;
    },
  };
}

/** Host pages of a fake domain. */
const SHARED_INFO_PAGE = 1;
const GUEST_PAGE = 2;
const GUEST_PAGES = 16;
const SCRATCH_PAGE = 20;
const XEN_PAGE = 40;
const PAGES = 200;

/** A domain without a CPU: the hypercall families around a fake memory. Guest linear memory is 64 KiB from 0. */
export class FakeDomain implements DomainView {
  readonly domid = 1;
  readonly vcpuCount: number;
  readonly mem: MachineMemoryView = fakeMemory(PAGES);
  readonly counters = new Counters();
  readonly events: EventChannels;
  readonly time: DomainTime;
  readonly sched: Scheduler;
  readonly grants: GrantTable;
  readonly guest: GuestAccess;
  readonly sharedInfo = SHARED_INFO_PAGE * PAGE_BYTES;
  readonly wordSize: 4 | 8;
  /** System time and UTC, set by the test. */
  now = 0;
  utc = 0;
  /** How many frames `allocateXenFrame` may still give. */
  framesLeft = 100;
  private nextXenPage = XEN_PAGE;

  constructor(options: { vcpus?: number; wordSize?: 4 | 8; portLimit?: number } = {}) {
    this.vcpuCount = options.vcpus ?? 2;
    this.wordSize = options.wordSize ?? 8;
    const { mem, counters, domid, sharedInfo, wordSize } = this;
    this.guest = fakeGuest(mem, GUEST_PAGE * PAGE_BYTES, GUEST_PAGES * PAGE_BYTES, SCRATCH_PAGE * PAGE_BYTES);
    const limit = options.portLimit === undefined ? {} : { portLimit: options.portLimit };
    this.events = new EventChannels({ mem, domid, vcpuCount: this.vcpuCount, sharedInfo, wordSize, ...limit });
    this.time = new DomainTime({
      mem,
      clock: { monotonicNs: () => this.now, wallClockNs: () => this.utc },
      events: this.events,
      sharedInfo,
      wordSize,
      guestAccess: () => this.guest,
    });
    this.sched = new Scheduler(this.events, this.time);
    const allocateXenFrame = (): number => (this.framesLeft-- > 0 ? FAKE_MFN_BASE + this.nextXenPage++ : 0);
    this.grants = new GrantTable({ mem, counters, domid, allocateXenFrame });
  }

  /** Calls a handler with number arguments (below 2^53; negative ones as two's complement). */
  call(handler: HypercallHandler, args: readonly number[], vcpu = 0): number {
    const ctx: HypercallContext = {
      domain: this,
      vcpu: { id: vcpu },
      mem: this.mem,
      guest: this.guest,
      wordSize: this.wordSize,
      argLo: Uint32Array.from({ length: 6 }, (_, i) => args[i] ?? 0),
      argHi: Uint32Array.from({ length: 6 }, (_, i) =>
        this.wordSize === 4 ? 0 : Math.floor((args[i] ?? 0) / 0x100000000),
      ),
    };
    return handler(ctx);
  }

  /** Host address of a guest linear address. */
  host(linear: number): number {
    return GUEST_PAGE * PAGE_BYTES + linear;
  }

  /** MFN of the guest page at a linear address. */
  mfn(linear: number): number {
    return FAKE_MFN_BASE + GUEST_PAGE + Math.floor(linear / PAGE_BYTES);
  }

  /** Stores 32-bit words at a guest address. */
  put32(linear: number, ...words: number[]): void {
    for (const [i, word] of words.entries()) this.mem.u32[(this.host(linear) >>> 2) + i] = word;
  }

  get32(linear: number): number {
    return this.mem.u32[this.host(linear) >>> 2];
  }

  put16(linear: number, value: number): void {
    this.mem.u16[this.host(linear) >>> 1] = value;
  }

  /** Signed, as statuses are. */
  get16(linear: number): number {
    return (this.mem.u16[this.host(linear) >>> 1] << 16) >> 16;
  }
}
