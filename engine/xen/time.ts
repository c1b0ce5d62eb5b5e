// SPDX-License-Identifier: MIT
// Guest time: vcpu_time_info, wall clock, the VIRQ_TIMER timers and runstate accounting (public/xen.h, public/vcpu.h).

import { storeU64, type GuestAccess, type MachineMemoryView } from './context.ts';
import { EFAULT, EINVAL } from './errno.ts';
import { VIRQ_TIMER, type EventChannels } from './events.ts';

/** Where the guest's clocks come from. */
export interface ClockSource {
  /** Nanoseconds of guest system time; never goes back. */
  monotonicNs(): number;
  /** UTC now, in nanoseconds since the epoch. */
  wallClockNs(): number;
}

/** Something with timeouts of its own (scheduler: polls and watchdogs). */
export interface DeadlineSource {
  /** Earliest timeout in system time, `Infinity` for none. */
  nextDeadline(): number;
  /** Handles every timeout at or before `now`. */
  fire(now: number): void;
}

/** Runstates a vCPU can be in (public/vcpu.h). */
export const Runstate = { Running: 0, Runnable: 1, Blocked: 2, Offline: 3 } as const;
export type Runstate = (typeof Runstate)[keyof typeof Runstate];

/** vcpu_time_info inside vcpu_info. */
const TIME_INFO_OFFSET = 0x20;
const TIME_INFO_BYTES = 32;
const PVCLOCK_TSC_STABLE = 1;
/**
 * The guest's TSC counts at 1 GHz and equals system time: (delta << 1) * 2^31 >> 32 = delta.
 * So the parameters never change, whatever the host's real clock does.
 */
const TSC_MUL = 0x80000000;
const TSC_SHIFT = 1;

/** Classic Xen's tick of a new vCPU; the guest stops it with VCPUOP_stop_periodic_timer. */
const INITIAL_PERIOD_NS = 10e6;
const MIN_PERIOD_NS = 1e6;
/** Longest delta Xen's timers handle; absurd one-shot timeouts are taken for an overflow in the guest. */
const MAX_DELTA_NS = 2 ** 50;
const OVERFLOW_DELAY_NS = 100e6;
const RUNSTATE_UPDATE_BIT = 0x80;

interface VcpuClock {
  /** One-shot deadline in system time, `Infinity` when off. */
  singleshot: number;
  /** Tick period in ns, 0 when off. */
  period: number;
  /** Next tick in system time. */
  nextTick: number;
  runstate: Runstate;
  /** System time at which the present runstate began. */
  since: number;
  /** Accumulated ns per runstate, without the present stay. */
  readonly total: number[];
  /** Guest address of the registered runstate area. */
  runstateArea: { lo: number; hi: number } | null;
  /** The area could not be written at the last change (user mode, unmapped): try again. */
  runstateStale: boolean;
}

export interface DomainTimeOptions {
  readonly mem: MachineMemoryView;
  readonly clock: ClockSource;
  readonly events: EventChannels;
  /** Host address of the shared_info page. */
  readonly sharedInfo: number;
  readonly wordSize: 4 | 8;
  /** Guest memory as a vCPU sees it now; used for the areas the guest registers. */
  readonly guestAccess: (vcpu: number) => GuestAccess;
}

/** Time of one domain. All absolute times are system time in ns. */
export class DomainTime {
  /** VMASST runstate_update_flag: mark the area while it is being updated. */
  runstateUpdateFlag = false;
  private readonly mem: MachineMemoryView;
  private readonly clock: ClockSource;
  private readonly events: EventChannels;
  private readonly sharedInfo: number;
  private readonly wordSize: 4 | 8;
  private readonly guestAccess: (vcpu: number) => GuestAccess;
  private readonly vcpus: VcpuClock[] = [];
  private readonly sources: DeadlineSource[] = [];

  constructor(options: DomainTimeOptions) {
    this.mem = options.mem;
    this.clock = options.clock;
    this.events = options.events;
    this.sharedInfo = options.sharedInfo;
    this.wordSize = options.wordSize;
    this.guestAccess = options.guestAccess;
    const now = this.nowNs();
    for (let v = 0; v < options.events.vcpuCount; v++) {
      this.vcpus.push({
        singleshot: Infinity,
        period: INITIAL_PERIOD_NS,
        nextTick: now + INITIAL_PERIOD_NS,
        runstate: v === 0 ? Runstate.Running : Runstate.Offline,
        since: now,
        total: [0, 0, 0, 0],
        runstateArea: null,
        runstateStale: false,
      });
    }
  }

  /** System time now: whole ns since the domain's time base. Also the value of the guest's TSC. */
  nowNs(): number {
    return Math.floor(this.clock.monotonicNs());
  }

  /** Includes another owner of timeouts in `nextDeadline` and `fire`. */
  addSource(source: DeadlineSource): void {
    this.sources.push(source);
  }

  // --- Shared pages. ---

  /** Fills the vCPU's time info in its vcpu_info. Call before the vCPU starts and when its vcpu_info has moved. */
  publishTimeInfo(vcpu: number): void {
    const info = this.events.vcpuInfoAddress(vcpu);
    if (info === 0) return;
    const at = info + TIME_INFO_OFFSET;
    const version = (this.mem.u32[at >>> 2] | 1) >>> 0;
    Atomics.store(this.mem.u32, at >>> 2, version);
    this.fillTimeInfo(at);
    Atomics.store(this.mem.u32, at >>> 2, (version + 1) >>> 0);
  }

  /** Publishes UTC at system time 0. Call before the first vCPU starts and when the host's clock was set. */
  publishWallClock(): void {
    const epoch = Math.max(0, Math.floor(this.clock.wallClockNs()) - this.nowNs());
    const seconds = Math.floor(epoch / 1e9);
    const [version, sec, nsec, secHi] =
      this.wordSize === 8 ? [0xc00, 0xc04, 0xc08, 0xc0c] : [0x900, 0x904, 0x908, 0x924];
    const { u32 } = this.mem;
    const begin = (u32[(this.sharedInfo + version) >>> 2] | 1) >>> 0;
    Atomics.store(u32, (this.sharedInfo + version) >>> 2, begin);
    u32[(this.sharedInfo + sec) >>> 2] = seconds >>> 0;
    u32[(this.sharedInfo + secHi) >>> 2] = Math.floor(seconds / 0x100000000);
    // Doubles hold today's epoch to a quarter of a microsecond: the remainder may round out of its range.
    u32[(this.sharedInfo + nsec) >>> 2] = Math.min(Math.max(epoch - seconds * 1e9, 0), 999_999_999);
    Atomics.store(u32, (this.sharedInfo + version) >>> 2, (begin + 1) >>> 0);
  }

  /**
   * Writes the vCPU's secondary time area; address 0 removes it. 0 or -EFAULT. The address need not be kept: the time
   * info never changes after the vCPU's start.
   */
  registerTimeArea(vcpu: number, lo: number, hi: number): number {
    if (lo === 0 && hi === 0) return 0;
    const image = new Uint8Array(TIME_INFO_BYTES);
    const info = this.events.vcpuInfoAddress(vcpu) + TIME_INFO_OFFSET;
    image.set(this.mem.u8.subarray(info, info + TIME_INFO_BYTES));
    return this.guestAccess(vcpu).copyOut(lo, hi, image) ? 0 : -EFAULT;
  }

  // --- Timers. ---

  /** Earliest instant at which `fire` has something to do; `Infinity` for never. Ticks count only for running vCPUs. */
  nextDeadline(): number {
    let next = Infinity;
    // By index: asked each time that the guest is left.
    for (let v = 0; v < this.vcpus.length; v++) {
      const clock = this.vcpus[v]!;
      if (clock.singleshot < next) next = clock.singleshot;
      if (clock.period !== 0 && clock.runstate === Runstate.Running && clock.nextTick < next) next = clock.nextTick;
    }
    for (let n = 0; n < this.sources.length; n++) {
      const deadline = this.sources[n]!.nextDeadline();
      if (deadline < next) next = deadline;
    }
    return next;
  }

  /** Raises VIRQ_TIMER for every timer due at `now` and lets the other sources handle theirs. */
  fire(now: number): void {
    for (const [vcpu, clock] of this.vcpus.entries()) {
      if (clock.singleshot <= now) {
        clock.singleshot = Infinity;
        this.events.raiseVirq(VIRQ_TIMER, vcpu);
      }
      if (clock.runstate === Runstate.Running) this.tick(vcpu, clock, now);
    }
    for (const source of this.sources) source.fire(now);
  }

  /**
   * One-shot by set_timer_op: 0 cancels, the past fires at once, and a value that looks like an overflow in the guest
   * fires after 100 ms (Linux used to pass such values). `timeout` is signed.
   */
  setTimer(vcpu: number, timeout: number): void {
    const now = this.nowNs();
    const clock = this.vcpus[vcpu];
    if (timeout === 0) clock.singleshot = Infinity;
    else if (timeout < 0 || timeout - now >= MAX_DELTA_NS) clock.singleshot = now + OVERFLOW_DELAY_NS;
    else this.startSingleshot(vcpu, timeout);
  }

  /** One-shot by VCPUOP_set_singleshot_timer; the past fires at once. */
  startSingleshot(vcpu: number, timeout: number): void {
    const clock = this.vcpus[vcpu];
    if (timeout > this.nowNs()) {
      clock.singleshot = timeout;
    } else {
      clock.singleshot = Infinity;
      this.events.raiseVirq(VIRQ_TIMER, vcpu);
    }
  }

  /** Stops the one-shot timer. */
  stopSingleshot(vcpu: number): void {
    this.vcpus[vcpu].singleshot = Infinity;
  }

  /** Starts the periodic tick; -EINVAL below 1 ms or above what timers handle. */
  startPeriodic(vcpu: number, periodNs: number): number {
    if (periodNs < MIN_PERIOD_NS || periodNs > MAX_DELTA_NS) return -EINVAL;
    const clock = this.vcpus[vcpu];
    clock.period = periodNs;
    clock.nextTick = this.nowNs() + periodNs;
    return 0;
  }

  /** Stops the periodic tick. */
  stopPeriodic(vcpu: number): void {
    this.vcpus[vcpu].period = 0;
  }

  // --- Runstates. ---

  /** Accounts a change of runstate and writes the registered area. */
  setRunstate(vcpu: number, runstate: Runstate): void {
    const clock = this.vcpus[vcpu];
    if (clock.runstate === runstate) return;
    const now = this.nowNs();
    clock.total[clock.runstate] = clock.total[clock.runstate] + Math.max(0, now - clock.since);
    clock.runstate = runstate;
    clock.since = now;
    // A blocked vCPU gets the tick it missed when it runs again, not while it sleeps.
    if (runstate === Runstate.Running) this.tick(vcpu, clock, now);
    this.writeRunstateArea(vcpu, clock);
  }

  /** The present runstate. */
  runstate(vcpu: number): Runstate {
    return this.vcpus[vcpu].runstate;
  }

  /** Ns spent in a runstate up to now (statistics). */
  timeIn(vcpu: number, runstate: Runstate): number {
    return this.timeInState(this.vcpus[vcpu], runstate);
  }

  /** Registers the area that follows the vCPU's runstate, and writes it. 0 or -EFAULT (the registration stays, as in Xen). */
  registerRunstateArea(vcpu: number, lo: number, hi: number): number {
    const clock = this.vcpus[vcpu];
    clock.runstateArea = { lo, hi };
    return this.writeRunstateArea(vcpu, clock) ? 0 : -EFAULT;
  }

  /** Writes the area again if the last change could not be written. Call on entry to the guest kernel. */
  flushRunstate(vcpu: number): void {
    const clock = this.vcpus[vcpu];
    if (clock.runstateStale) this.writeRunstateArea(vcpu, clock);
  }

  /** Whether the vCPU's runstate area has to be written when it enters its kernel. */
  isRunstateStale(vcpu: number): boolean {
    return this.vcpus[vcpu].runstateStale;
  }

  /** struct vcpu_runstate_info as the guest sees it: 48 bytes, or 44 for a 32-bit guest. */
  runstateImage(vcpu: number): Uint8Array {
    const clock = this.vcpus[vcpu];
    const first = this.wordSize === 8 ? 8 : 4;
    const image = new Uint8Array(first + 40);
    const view = new DataView(image.buffer);
    view.setInt32(0, clock.runstate, true);
    const put = (at: number, value: number): void => {
      view.setUint32(at, value >>> 0, true);
      view.setUint32(at + 4, Math.floor(value / 0x100000000), true);
    };
    put(first, clock.since);
    for (let i = 0; i < 4; i++) put(first + 8 + 8 * i, this.timeInState(clock, i as Runstate));
    return image;
  }

  /** Forgets what a suspended guest registers anew: areas and timers. */
  forgetRegistrations(): void {
    for (const clock of this.vcpus) {
      clock.singleshot = Infinity;
      clock.runstateArea = null;
      clock.runstateStale = false;
    }
  }

  private timeInState(clock: VcpuClock, runstate: Runstate): number {
    const present = clock.runstate === runstate ? Math.max(0, this.nowNs() - clock.since) : 0;
    return clock.total[runstate] + present;
  }

  private tick(vcpu: number, clock: VcpuClock, now: number): void {
    if (clock.period === 0 || clock.nextTick > now) return;
    clock.nextTick = now + clock.period;
    this.events.raiseVirq(VIRQ_TIMER, vcpu);
  }

  private fillTimeInfo(at: number): void {
    const now = this.nowNs();
    storeU64(this.mem, at + 8, now);
    storeU64(this.mem, at + 16, now);
    this.mem.u32[(at + 24) >>> 2] = TSC_MUL;
    this.mem.u8[at + 28] = TSC_SHIFT;
    this.mem.u8[at + 29] = PVCLOCK_TSC_STABLE;
  }

  private writeRunstateArea(vcpu: number, clock: VcpuClock): boolean {
    if (clock.runstateArea === null) return true;
    const { lo, hi } = clock.runstateArea;
    const guest = this.guestAccess(vcpu);
    const image = this.runstateImage(vcpu);
    let ok: boolean;
    if (this.runstateUpdateFlag) {
      const top = (this.wordSize === 8 ? 8 : 4) + 7;
      const flagged = image.slice();
      flagged[top] = flagged[top] | RUNSTATE_UPDATE_BIT;
      ok = guest.copyOut(lo, hi, flagged) && guest.copyOut(lo, hi, image);
    } else {
      ok = guest.copyOut(lo, hi, image);
    }
    clock.runstateStale = !ok;
    return ok;
  }
}
