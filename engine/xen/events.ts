// SPDX-License-Identifier: MIT
// Event channels, 2-level ABI: ports, their bindings, and the pending/selector/upcall bits (public/event_channel.h, xen.h).

import { EEXIST, EBUSY, EINVAL, ENOENT, ENOSPC } from './errno.ts';
import type { MachineMemoryView } from './context.ts';

/** What a port is; the values other than `Host` are those that EVTCHNOP_status reports. */
export const PortState = {
  Free: 0,
  /** Allocated by the guest, waiting for `remoteDom` to bind. */
  Unbound: 1,
  /** Connected to another port of the same domain (`remotePort`). */
  Loopback: 2,
  Virq: 4,
  Ipi: 5,
  /** Connected to a back end of ours; the guest sees an interdomain channel to domain 0. */
  Host: 6,
} as const;
export type PortState = (typeof PortState)[keyof typeof PortState];

/** VIRQ numbers a guest may bind; all others are global and belong to the control domain. */
export const VIRQ_TIMER = 0;
export const VIRQ_DEBUG = 1;
const VIRQ_XENOPROF = 7;
const VIRQ_XENPMU = 13;
/** Number of VIRQs that exist. */
export const NR_VIRQS = 24;

/** Ports a guest may have by default: libxl's `event_channels` default. Port 0 never exists. */
export const DEFAULT_PORT_LIMIT = 1023;

const SHARED_VCPU_INFOS = 32;
const VCPU_INFO_BYTES = 64;
const PENDING_OFFSET = 0x800;

/** What the scheduler does when an event arrives. */
export interface EventWaker {
  /** The vCPU's upcall_pending went from 0 to 1: it must leave SCHEDOP_block or SCHEDOP_poll. */
  wakeVcpu(vcpu: number): void;
  /** The port became pending, masked or not: vCPUs that poll it must wake. */
  portPending(port: number): void;
}

/** Callbacks of the back end at the host side of a channel. */
export interface HostEnd {
  /** The guest notified the channel. Runs in the thread of the sending vCPU. */
  onNotify(): void;
  /** The guest closed its port (or reset all ports): the channel is gone. */
  onClosed?(): void;
}

/**
 * Port table as flat arrays indexed by port, so that it can move into shared memory when back ends get a thread
 * of their own: `raise` needs nothing else.
 */
export interface PortData {
  readonly state: Uint8Array;
  /** vCPU notified by the port. */
  readonly vcpu: Uint16Array;
  /** VIRQ number of a `Virq` port. */
  readonly virq: Uint8Array;
  /** Domain at the other end of an `Unbound`, `Loopback` or `Host` port. */
  readonly remoteDom: Uint16Array;
  /** Port at the other end of a `Loopback` or `Host` port. */
  readonly remotePort: Uint16Array;
}

export interface EventChannelOptions {
  readonly mem: MachineMemoryView;
  readonly domid: number;
  readonly vcpuCount: number;
  /** Host address of the shared_info page. */
  readonly sharedInfo: number;
  /** Bytes in a guest long: decides the bitmap layout. */
  readonly wordSize: 4 | 8;
  /** Highest port number; default `DEFAULT_PORT_LIMIT`. */
  readonly portLimit?: number;
  /** Host addresses of the u32 per vCPU that hold where its vcpu_info is; default: memory of our own. */
  readonly vcpuInfoSlots?: readonly number[];
}

/** The event channels of one domain. */
export class EventChannels {
  readonly data: PortData;
  /** Highest port number a guest may get. */
  readonly portLimit: number;
  readonly vcpuCount: number;
  readonly domid: number;
  private readonly mem: MachineMemoryView;
  private readonly wordSize: 4 | 8;
  private readonly sharedInfo: number;
  private readonly maskOffset: number;
  private readonly selectorOffset: number;
  /** Ports per selector bit, as a shift. */
  private readonly wordShift: number;
  private readonly hostEnds = new Map<number, HostEnd>();
  private readonly virqPort: Uint16Array;
  private readonly ownVcpuInfo: Uint8Array;
  /** Host address of each vCPU's vcpu_info, 0 for a vCPU that has none yet: `infos[infoIndex[vcpu]]`. */
  private readonly infos: Uint32Array;
  private readonly infoIndex: Uint32Array;
  private nextHostPort = 1;
  private waker: EventWaker | null = null;

  constructor(options: EventChannelOptions) {
    const capacity = options.wordSize === 8 ? 4096 : 1024;
    this.mem = options.mem;
    this.domid = options.domid;
    this.vcpuCount = options.vcpuCount;
    this.sharedInfo = options.sharedInfo;
    this.wordSize = options.wordSize;
    this.portLimit = Math.min(options.portLimit ?? DEFAULT_PORT_LIMIT, capacity - 1);
    this.maskOffset = options.wordSize === 8 ? 0xa00 : 0x880;
    this.selectorOffset = options.wordSize === 8 ? 8 : 4;
    this.wordShift = options.wordSize === 8 ? 6 : 5;
    this.data = {
      state: new Uint8Array(capacity),
      vcpu: new Uint16Array(capacity),
      virq: new Uint8Array(capacity),
      remoteDom: new Uint16Array(capacity),
      remotePort: new Uint16Array(capacity),
    };
    const slots = options.vcpuInfoSlots;
    this.infos = slots ? options.mem.u32 : new Uint32Array(options.vcpuCount);
    this.infoIndex = Uint32Array.from({ length: options.vcpuCount }, (_, v) => (slots ? slots[v] >>> 2 : v));
    this.virqPort = new Uint16Array(options.vcpuCount * NR_VIRQS);
    this.ownVcpuInfo = new Uint8Array(options.vcpuCount);
    this.forgetVcpuInfos();
  }

  /** Connects the scheduler; without one, events only set their bits. */
  setWaker(waker: EventWaker): void {
    this.waker = waker;
  }

  // --- Allocation and binding. Results: a port number, 0 for success, or a negated errno. ---

  /** Allocates a port that `remoteDom` may bind to (EVTCHNOP_alloc_unbound). */
  allocUnbound(remoteDom: number): number {
    const port = this.allocate(PortState.Unbound);
    if (port > 0) this.data.remoteDom[port] = remoteDom;
    return port;
  }

  /** Allocates a guest port already connected to a back end of ours, as libxl does for store and console. */
  bindInterdomainToHost(end: HostEnd | (() => void)): number {
    const port = this.allocate(PortState.Host);
    if (port > 0) this.attachHost(port, end);
    return port;
  }

  /** Binds a back end to a port the guest allocated for domain 0. -EINVAL when the port is not such a port. */
  connectHost(port: number, end: HostEnd | (() => void)): number {
    if (this.stateOf(port) !== PortState.Unbound || this.data.remoteDom[port] !== 0) return -EINVAL;
    this.attachHost(port, end);
    return 0;
  }

  /** Lets go of the host side: the guest's port becomes unbound again. -EINVAL when it was not connected to us. */
  disconnectHost(port: number): number {
    if (this.stateOf(port) !== PortState.Host) return -EINVAL;
    this.hostEnds.delete(port);
    this.data.state[port] = PortState.Unbound;
    this.data.remoteDom[port] = 0;
    return 0;
  }

  /** Binds a new local port to `remotePort` of the same domain, which must be unbound for it. */
  bindLoopback(remotePort: number): number {
    const d = this.data;
    const valid = this.stateOf(remotePort) === PortState.Unbound && d.remoteDom[remotePort] === this.domid;
    // The order of Xen's checks: a full table is reported before a bad remote port.
    const port = this.allocate(PortState.Loopback);
    if (port < 0) return port;
    if (!valid) {
      d.state[port] = PortState.Free;
      return -EINVAL;
    }
    d.remoteDom[port] = this.domid;
    d.remotePort[port] = remotePort;
    d.state[remotePort] = PortState.Loopback;
    d.remotePort[remotePort] = port;
    // A notification sent while the port was unbound was lost: the binder looks once.
    this.setPending(port);
    return port;
  }

  /** Binds a VIRQ of one vCPU. -EINVAL, -ENOENT (vCPU), -EBUSY (global VIRQ), -EEXIST, -ENOSPC. */
  bindVirq(virq: number, vcpu: number): number {
    if (virq >= NR_VIRQS) return -EINVAL;
    const global = isGlobalVirq(virq);
    if (global && vcpu !== 0) return -EINVAL;
    if (vcpu >= this.vcpuCount) return -ENOENT;
    // Global VIRQs report on the host; their handler is the control domain.
    if (global) return -EBUSY;
    const slot = vcpu * NR_VIRQS + virq;
    if (this.virqPort[slot] !== 0) return -EEXIST;
    const port = this.allocate(PortState.Virq);
    if (port < 0) return port;
    this.data.vcpu[port] = vcpu;
    this.data.virq[port] = virq;
    this.virqPort[slot] = port;
    return port;
  }

  /** Allocates an inter-processor port that notifies `vcpu`. -ENOENT, -ENOSPC. */
  bindIpi(vcpu: number): number {
    if (vcpu >= this.vcpuCount) return -ENOENT;
    const port = this.allocate(PortState.Ipi);
    if (port > 0) this.data.vcpu[port] = vcpu;
    return port;
  }

  /** Changes the vCPU a port notifies. -ENOENT (vCPU), -EINVAL (port, or a port tied to its vCPU). */
  bindVcpu(port: number, vcpu: number): number {
    if (vcpu >= this.vcpuCount) return -ENOENT;
    const state = this.stateOf(port);
    if (state !== PortState.Unbound && state !== PortState.Loopback && state !== PortState.Host) return -EINVAL;
    this.data.vcpu[port] = vcpu;
    return 0;
  }

  /** Closes a port: its pending bit is cleared, its peer becomes unbound. -EINVAL when it is not open. */
  close(port: number): number {
    const d = this.data;
    const state = this.stateOf(port);
    if (state === PortState.Free) return -EINVAL;
    d.state[port] = PortState.Free;
    if (state === PortState.Virq) {
      this.virqPort[d.vcpu[port] * NR_VIRQS + d.virq[port]] = 0;
    } else if (state === PortState.Loopback) {
      const peer = d.remotePort[port];
      d.state[peer] = PortState.Unbound;
      d.remoteDom[peer] = this.domid;
    }
    const end = this.hostEnds.get(port);
    this.hostEnds.delete(port);
    // A stale pending bit would surprise whoever gets the port next.
    Atomics.and(this.mem.i32, this.bitWord(PENDING_OFFSET, port), ~(1 << (port & 31)));
    end?.onClosed?.();
    return 0;
  }

  /** Closes every port (EVTCHNOP_reset, and resume after suspend). */
  closeAll(): void {
    for (let port = 1; port <= this.portLimit; port++) {
      if (this.data.state[port] !== PortState.Free) this.close(port);
    }
  }

  // --- Events. ---

  /** Guest notification (EVTCHNOP_send). -EINVAL for a port that cannot be sent on; sending on an unbound port is lost. */
  send(port: number): number {
    switch (this.stateOf(port)) {
      case PortState.Unbound:
        return 0;
      case PortState.Loopback:
        this.setPending(this.data.remotePort[port]);
        return 0;
      case PortState.Ipi:
        this.setPending(port);
        return 0;
      case PortState.Host:
        this.hostEnds.get(port)?.onNotify();
        return 0;
      default:
        return -EINVAL;
    }
  }

  /** Back end -> guest: makes a port connected to us pending. False when the guest closed it meanwhile. */
  raise(port: number): boolean {
    if (this.stateOf(port) !== PortState.Host) return false;
    this.setPending(port);
    return true;
  }

  /** Raises a per-vCPU VIRQ; lost when the guest has not bound it. */
  raiseVirq(virq: number, vcpu: number): void {
    const port = this.virqPort[vcpu * NR_VIRQS + virq];
    if (port !== undefined && port !== 0) this.setPending(port);
  }

  /** Clears the mask bit; a pending port is delivered as if it had just become pending. -EINVAL beyond the limit. */
  unmask(port: number): number {
    if (port > this.portLimit) return -EINVAL;
    if (this.stateOf(port) === PortState.Free) return 0;
    const bit = 1 << (port & 31);
    const old = Atomics.and(this.mem.i32, this.bitWord(this.maskOffset, port), ~bit);
    if ((old & bit) !== 0 && this.isPending(port)) this.select(port);
    return 0;
  }

  /** Whether the port's pending bit is set (the guest can set and clear it as it likes). */
  isPending(port: number): boolean {
    return (Atomics.load(this.mem.i32, this.bitWord(PENDING_OFFSET, port)) & (1 << (port & 31))) !== 0;
  }

  /** Whether the vCPU has an event and accepts it: upcall_pending is not 0 and upcall_mask is 0. */
  deliverable(vcpu: number): boolean {
    const info = this.vcpuInfoAddress(vcpu);
    return info !== 0 && this.mem.u8[info] !== 0 && this.mem.u8[info + 1] === 0;
  }

  /** Sets or clears the vCPU's upcall_mask (the virtual interrupt flag, inverted). */
  setUpcallMask(vcpu: number, masked: boolean): void {
    const info = this.vcpuInfoAddress(vcpu);
    if (info !== 0) this.mem.u8[info + 1] = masked ? 1 : 0;
  }

  /** Marks the upcall pending without a port (used when something must be looked at again) and wakes the vCPU. */
  markUpcallPending(vcpu: number): void {
    const info = this.vcpuInfoAddress(vcpu);
    if (info === 0) return;
    if ((Atomics.or(this.mem.u8, info, 1) & 1) === 0) this.waker?.wakeVcpu(vcpu);
  }

  // --- vcpu_info placement. ---

  /** Host address of the vCPU's vcpu_info, 0 while it has none (vCPU 32 and up before registration). */
  vcpuInfoAddress(vcpu: number): number {
    return this.infos[this.infoIndex[vcpu]];
  }

  /**
   * Moves a vCPU's vcpu_info (VCPUOP_register_vcpu_info) to a host address: contents are copied and every event is
   * marked again, because one may have been posted to the old place during the move. The caller has checked the frame
   * and that the 64 bytes do not cross it. -EINVAL when misaligned or already registered, -ENOENT for no such vCPU.
   */
  registerVcpuInfo(vcpu: number, hostAddress: number): number {
    if (vcpu >= this.vcpuCount) return -ENOENT;
    if (this.ownVcpuInfo[vcpu] !== 0 || (hostAddress & 7) !== 0) return -EINVAL;
    const old = this.vcpuInfoAddress(vcpu);
    if (old !== 0) {
      this.mem.u8.copyWithin(hostAddress, old, old + VCPU_INFO_BYTES);
    } else {
      this.mem.u8.fill(0, hostAddress, hostAddress + VCPU_INFO_BYTES);
      this.mem.u8[hostAddress + 1] = 1;
    }
    this.ownVcpuInfo[vcpu] = 1;
    this.infos[this.infoIndex[vcpu]] = hostAddress;
    const selector = (hostAddress + this.selectorOffset) >>> 2;
    Atomics.store(this.mem.i32, selector, -1);
    if (this.wordSize === 8) Atomics.store(this.mem.i32, selector + 1, -1);
    this.mem.u8[hostAddress] = 0;
    this.markUpcallPending(vcpu);
    return 0;
  }

  /** Puts every vcpu_info back into shared_info (resume after suspend: the guest registers anew). */
  forgetVcpuInfos(): void {
    this.ownVcpuInfo.fill(0);
    for (let v = 0; v < this.vcpuCount; v++) {
      this.infos[this.infoIndex[v]] = v < SHARED_VCPU_INFOS ? this.sharedInfo + v * VCPU_INFO_BYTES : 0;
    }
  }

  /** The state of a port; `Free` for numbers that cannot be ports. */
  stateOf(port: number): PortState {
    if (!(port > 0 && port <= this.portLimit)) return PortState.Free;
    return this.data.state[port] as PortState;
  }

  private allocate(state: PortState): number {
    const states = this.data.state;
    for (let port = 1; port <= this.portLimit; port++) {
      if (states[port] === PortState.Free) {
        states[port] = state;
        this.data.vcpu[port] = 0;
        return port;
      }
    }
    return -ENOSPC;
  }

  private attachHost(port: number, end: HostEnd | (() => void)): void {
    this.data.state[port] = PortState.Host;
    this.data.remoteDom[port] = 0;
    this.data.remotePort[port] = this.nextHostPort++ & 0xffff;
    this.hostEnds.set(port, typeof end === 'function' ? { onNotify: end } : end);
  }

  private setPending(port: number): void {
    const bit = 1 << (port & 31);
    if ((Atomics.or(this.mem.i32, this.bitWord(PENDING_OFFSET, port), bit) & bit) !== 0) return;
    if ((Atomics.load(this.mem.i32, this.bitWord(this.maskOffset, port)) & bit) === 0) this.select(port);
    this.waker?.portPending(port);
  }

  /** Sets the selector bit of an unmasked pending port and, when that is new, the upcall. */
  private select(port: number): void {
    const vcpu = this.data.vcpu[port];
    const info = this.vcpuInfoAddress(vcpu);
    // Without a vcpu_info the event is remembered by its pending bit; registration marks all selectors.
    if (info === 0) return;
    const word = port >>> this.wordShift;
    const bit = 1 << (word & 31);
    const at = ((info + this.selectorOffset) >>> 2) + (word >>> 5);
    if ((Atomics.or(this.mem.i32, at, bit) & bit) === 0) this.markUpcallPending(vcpu);
  }

  private bitWord(offset: number, port: number): number {
    return (this.sharedInfo + offset + ((port >>> 5) << 2)) >>> 2;
  }
}

function isGlobalVirq(virq: number): boolean {
  return virq !== VIRQ_TIMER && virq !== VIRQ_DEBUG && virq !== VIRQ_XENOPROF && virq !== VIRQ_XENPMU;
}
