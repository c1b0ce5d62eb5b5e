// SPDX-License-Identifier: MIT
// Scheduler state of the vCPUs and sched_op: yield, block, poll, shutdown, watchdog (public/sched.h).

import {
  DOMID_CONTROL,
  DOMID_SELF,
  advanceHi,
  advanceLo,
  loadU64,
  wordHi,
  wordLo,
  type HypercallContext,
} from './context.ts';
import { EFAULT, EINVAL, ENOSPC, ENOSYS, EPERM, ESRCH } from './errno.ts';
import type { EventChannels, EventWaker } from './events.ts';
import { Runstate, type DeadlineSource, type DomainTime } from './time.ts';

/** What a vCPU is doing, as far as the machine loop is concerned. */
export const VcpuState = {
  /** Execute guest code. */
  Runnable: 0,
  /** Nothing to do until an event or timer wakes it. */
  Blocked: 1,
  /** In SCHEDOP_poll: as blocked, but also woken by its ports or its timeout. */
  Polling: 2,
  /** Not brought up by the guest. */
  Offline: 3,
} as const;
export type VcpuState = (typeof VcpuState)[keyof typeof VcpuState];

/** Why the guest ended, by SHUTDOWN_* code. */
export const SHUTDOWN_REASONS = ['poweroff', 'reboot', 'suspend', 'crash', 'watchdog', 'soft-reset'] as const;
export type ShutdownReason = (typeof SHUTDOWN_REASONS)[number];

const SHUTDOWN_POWEROFF = 0;
const SHUTDOWN_SUSPEND = 2;
const SHUTDOWN_CRASH = 3;
const SHUTDOWN_WATCHDOG = 4;

/** How a domain stopped. */
export interface ShutdownRecord {
  readonly reason: ShutdownReason;
  /** For a crash the hypervisor caused: why. */
  readonly message?: string;
  /** For suspend: the machine frame of the guest's start_info page (third argument of the hypercall). */
  readonly startInfoMfn?: number;
}

const MAX_POLL_PORTS = 128;
const WATCHDOGS = 2;
const NO_POLL = -1;
/** The vCPU polls several ports: any pending port wakes it and it looks itself. */
const POLL_ANY = 0;

/** By index, not by iterator: asked each time that the guest is left. */
function earliest(deadlines: Float64Array): number {
  let next = Infinity;
  for (let n = 0; n < deadlines.length; n++) if (deadlines[n]! < next) next = deadlines[n]!;
  return next;
}

/** Run states of a domain's vCPUs and its end. Plain arrays, indexed by vCPU. */
export class Scheduler implements EventWaker, DeadlineSource {
  /** Set once the domain has stopped. */
  shutdown: ShutdownRecord | null = null;
  private readonly events: EventChannels;
  private readonly time: DomainTime;
  private readonly states: Uint8Array;
  private readonly yielded: Uint8Array;
  private readonly pollPort: Int32Array;
  private readonly pollDeadline: Float64Array;
  private readonly watchdogs = new Float64Array(WATCHDOGS).fill(Infinity);
  private latchedReason = -1;

  /** Connects itself to the event channels (wake-ups) and to the domain's time (timeouts). vCPU 0 is up. */
  constructor(events: EventChannels, time: DomainTime) {
    this.events = events;
    this.time = time;
    const n = events.vcpuCount;
    this.states = new Uint8Array(n).fill(VcpuState.Offline);
    this.states[0] = VcpuState.Runnable;
    this.yielded = new Uint8Array(n);
    this.pollPort = new Int32Array(n).fill(NO_POLL);
    this.pollDeadline = new Float64Array(n).fill(Infinity);
    events.setWaker(this);
    time.addSource(this);
  }

  /** What the machine loop should do with a vCPU. Meaningless once `shutdown` is set. */
  state(vcpu: number): VcpuState {
    return this.states[vcpu] as VcpuState;
  }

  /** Whether some vCPU has guest code to execute. */
  anyRunnable(): boolean {
    return this.states.includes(VcpuState.Runnable);
  }

  /** True once after the vCPU yielded: its time slice ends here. */
  takeYield(vcpu: number): boolean {
    const was = this.yielded[vcpu] !== 0;
    this.yielded[vcpu] = 0;
    return was;
  }

  /** Gives up the rest of the time slice. */
  yield(vcpu: number): void {
    this.yielded[vcpu] = 1;
  }

  /** SCHEDOP_block: unmasks events and sleeps, unless one is deliverable already. */
  block(vcpu: number): void {
    this.events.setUpcallMask(vcpu, false);
    if (!this.events.deliverable(vcpu)) this.sleep(vcpu, VcpuState.Blocked);
  }

  /**
   * SCHEDOP_poll over ports the caller has checked. `timeout` is absolute system time, 0 for none. Returns at once
   * when an event is deliverable, a port is pending, or the timeout has passed.
   */
  poll(vcpu: number, ports: readonly number[], timeout: number): void {
    if (ports.some((port) => this.events.isPending(port))) return;
    if (timeout !== 0 && timeout <= this.time.nowNs()) {
      // The guest is spinning on its own clock: let others run.
      this.yield(vcpu);
      return;
    }
    this.pollPort[vcpu] = ports.length === 1 ? ports[0] : POLL_ANY;
    this.pollDeadline[vcpu] = timeout === 0 ? Infinity : timeout;
    this.sleep(vcpu, VcpuState.Polling);
  }

  /** Wakes a blocked or polling vCPU; anything else is left alone. */
  wakeVcpu(vcpu: number): void {
    const state = this.states[vcpu];
    if (state !== VcpuState.Blocked && state !== VcpuState.Polling) return;
    this.states[vcpu] = VcpuState.Runnable;
    this.pollPort[vcpu] = NO_POLL;
    this.pollDeadline[vcpu] = Infinity;
    this.time.setRunstate(vcpu, Runstate.Running);
  }

  /** Wakes the vCPUs that poll a port that became pending. */
  portPending(port: number): void {
    for (let v = 0; v < this.states.length; v++) {
      const polled = this.pollPort[v];
      if (polled === port || polled === POLL_ANY) this.wakeVcpu(v);
    }
  }

  /** Earliest poll timeout or watchdog. */
  nextDeadline(): number {
    return Math.min(earliest(this.pollDeadline), earliest(this.watchdogs));
  }

  /** Ends polls and fires watchdogs that are due. */
  fire(now: number): void {
    for (let v = 0; v < this.states.length; v++) {
      if (this.pollDeadline[v] <= now) this.wakeVcpu(v);
    }
    if (this.watchdogs.some((deadline) => deadline <= now)) {
      this.watchdogs.fill(Infinity);
      this.shutDown(SHUTDOWN_WATCHDOG);
    }
  }

  // --- vCPUs up and down (vcpu_op). ---

  /** Whether the guest brought the vCPU up (blocked counts as up). */
  isUp(vcpu: number): boolean {
    return this.states[vcpu] !== VcpuState.Offline;
  }

  /** VCPUOP_up for an initialised vCPU. */
  bringUp(vcpu: number): void {
    if (this.states[vcpu] !== VcpuState.Offline) return;
    this.states[vcpu] = VcpuState.Runnable;
    this.time.setRunstate(vcpu, Runstate.Running);
  }

  /** VCPUOP_down: the last vCPU to go down powers the domain off. */
  takeDown(vcpu: number): void {
    this.sleep(vcpu, VcpuState.Offline);
    if (this.states.every((state) => state === VcpuState.Offline)) this.shutDown(SHUTDOWN_POWEROFF);
  }

  // --- The end. ---

  /** Stops the domain with a SHUTDOWN_* code (0 to 5); the first reason stays, and a latched one comes before it. */
  shutDown(code: number, details: { message?: string; startInfoMfn?: number } = {}): void {
    if (this.shutdown !== null) return;
    if (this.latchedReason < 0) this.latchedReason = code;
    this.shutdown = { reason: SHUTDOWN_REASONS[this.latchedReason] ?? 'crash', ...details };
  }

  /** Stops the domain because it did something that real hardware or Xen would not survive. */
  crash(message: string): void {
    this.shutDown(SHUTDOWN_CRASH, { message });
  }

  /** Lets a suspended domain run on. */
  resume(): void {
    this.shutdown = null;
    this.latchedReason = -1;
  }

  /** SCHEDOP_shutdown_code: fixes the reason that a later shutdown reports. */
  latchReason(code: number): void {
    if (this.latchedReason < 0) this.latchedReason = code;
  }

  /**
   * SCHEDOP_watchdog. `id` 0 arms a free one (returns its id, 1 or 2); otherwise that one is re-armed, or with timeout 0
   * stopped. Timeout in seconds. -EINVAL, -ENOSPC.
   */
  watchdog(id: number, timeoutSeconds: number): number {
    const deadline = this.time.nowNs() + timeoutSeconds * 1e9;
    if (id === 0) {
      if (timeoutSeconds === 0) return -EINVAL;
      const free = this.watchdogs.indexOf(Infinity);
      if (free < 0) return -ENOSPC;
      this.watchdogs[free] = deadline;
      return free + 1;
    }
    if (id > WATCHDOGS || this.watchdogs[id - 1] === Infinity) return -EINVAL;
    this.watchdogs[id - 1] = timeoutSeconds === 0 ? Infinity : deadline;
    return 0;
  }

  private sleep(vcpu: number, state: VcpuState): void {
    this.states[vcpu] = state;
    this.time.setRunstate(vcpu, state === VcpuState.Offline ? Runstate.Offline : Runstate.Blocked);
  }
}

/** sched_op(cmd, argument*): hypercall 29. After it, look at `scheduler.state(vcpu)`, `takeYield` and `shutdown`. */
export function schedOp(ctx: HypercallContext): number {
  const { sched } = ctx.domain;
  const lo = ctx.argLo[1];
  const hi = ctx.argHi[1];
  switch (ctx.argLo[0]) {
    case 0:
      sched.yield(ctx.vcpu.id);
      return 0;
    case 1:
      sched.block(ctx.vcpu.id);
      return 0;
    case 2: {
      const at = ctx.guest.copyIn(lo, hi, 4);
      return at < 0 ? -EFAULT : shutDown(ctx, ctx.mem.u32[at >>> 2]);
    }
    case 3:
      return poll(ctx, lo, hi);
    case 4: {
      const at = ctx.guest.copyIn(lo, hi, 8);
      if (at < 0) return -EFAULT;
      const domid = ctx.mem.u16[at >>> 1];
      return domid === DOMID_CONTROL || domid === DOMID_SELF || domid === ctx.domain.domid ? -EPERM : -ESRCH;
    }
    case 5: {
      const at = ctx.guest.copyIn(lo, hi, 4);
      if (at < 0) return -EFAULT;
      const code = ctx.mem.u32[at >>> 2];
      if (code >= SHUTDOWN_REASONS.length) return -EINVAL;
      sched.latchReason(code);
      return 0;
    }
    case 6: {
      const at = ctx.guest.copyIn(lo, hi, 8);
      return at < 0 ? -EFAULT : sched.watchdog(ctx.mem.u32[at >>> 2], ctx.mem.u32[(at >>> 2) + 1]);
    }
    case 7:
      return ctx.guest.copyIn(lo, hi, 4) < 0 ? -EFAULT : -EPERM;
    default:
      return -ENOSYS;
  }
}

/** sched_op_compat(cmd, argument): hypercall 6; the shutdown reason is the argument itself. */
export function schedOpCompat(ctx: HypercallContext): number {
  const { sched } = ctx.domain;
  switch (ctx.argLo[0]) {
    case 0:
      sched.yield(ctx.vcpu.id);
      return 0;
    case 1:
      sched.block(ctx.vcpu.id);
      return 0;
    case 2:
      return shutDown(ctx, ctx.argLo[1]);
    default:
      return -ENOSYS;
  }
}

function shutDown(ctx: HypercallContext, code: number): number {
  if (code >= SHUTDOWN_REASONS.length) return -EINVAL;
  ctx.domain.sched.shutDown(code, code === SHUTDOWN_SUSPEND ? { startInfoMfn: ctx.argLo[2] } : {});
  return 0;
}

/** struct sched_poll {u32 ports*; u32 nr_ports; u64 timeout} */
function poll(ctx: HypercallContext, lo: number, hi: number): number {
  const { events, sched } = ctx.domain;
  const at = ctx.guest.copyIn(lo, hi, ctx.wordSize === 8 ? 24 : 16);
  if (at < 0) return -EFAULT;
  const nr = ctx.mem.u32[(at + ctx.wordSize) >>> 2];
  if (nr > MAX_POLL_PORTS) return -EINVAL;
  const timeout = loadU64(ctx.mem, at + 2 * ctx.wordSize);
  const listLo = wordLo(ctx, at);
  const listHi = wordHi(ctx, at);
  if (events.deliverable(ctx.vcpu.id)) return 0;
  const ports: number[] = [];
  for (let i = 0; i < nr; i++) {
    // One by one, as Xen reads them: a pending port ends the poll before a bad one behind it is seen.
    const from = ctx.guest.copyIn(advanceLo(listLo, 4 * i), advanceHi(listLo, listHi, 4 * i), 4);
    if (from < 0) return -EFAULT;
    const port = ctx.mem.u32[from >>> 2];
    if (events.stateOf(port) === 0) return -EINVAL;
    if (events.isPending(port)) return 0;
    ports.push(port);
  }
  sched.poll(ctx.vcpu.id, ports, timeout);
  return 0;
}
