// SPDX-License-Identifier: MIT
// Tests of event channels and event_channel_op: every sub-operation with its refusals, and the delivery rules.

import { beforeEach, describe, expect, it } from 'vitest';
import { eventChannelOp, eventChannelOpCompat } from './event-channel-op.ts';
import { PortState, VIRQ_DEBUG, VIRQ_TIMER } from './events.ts';
import { FakeDomain } from './fake-machine.ts';
import { VcpuState } from './sched.ts';

const SELF = 0x7ff0;
const ARG = 0x100;

let d: FakeDomain;
beforeEach(() => {
  d = new FakeDomain();
});

/** Calls a sub-operation with its argument structure given as 32-bit words. */
function op(cmd: number, ...words: number[]): number {
  d.put32(ARG, ...words);
  return d.call(eventChannelOp, [cmd, ARG]);
}
const out = (offset: number): number => d.get32(ARG + offset);
const info = (vcpu: number): number => d.events.vcpuInfoAddress(vcpu);
const setMask = (port: number): void => {
  d.mem.u32[(d.sharedInfo + 0xa00 + (port >> 5) * 4) >>> 2] |= 1 << (port & 31);
};
const clearPending = (port: number): void => {
  d.mem.u32[(d.sharedInfo + 0x800 + (port >> 5) * 4) >>> 2] &= ~(1 << (port & 31));
};

describe('allocation', () => {
  it('gives the store and console ports 1 and 2, reported as interdomain', () => {
    expect(d.events.bindInterdomainToHost(() => undefined)).toBe(1);
    expect(d.events.bindInterdomainToHost(() => undefined)).toBe(2);
    expect(op(5, SELF, 2)).toBe(0);
    expect(out(8)).toBe(2);
    expect(out(16) & 0xffff).toBe(0);
  });

  it('alloc_unbound: own domain only, -ENOSPC at the limit of 1023 ports', () => {
    expect(op(6, SELF)).toBe(0);
    expect(out(4)).toBe(1);
    expect(op(6, 1 | (7 << 16))).toBe(0);
    expect(out(4)).toBe(2);
    expect(d.events.data.remoteDom[2]).toBe(7);
    expect(op(6, 0)).toBe(-1);
    expect(op(6, 5)).toBe(-3);
    let last = 0;
    while (op(6, SELF) === 0) last = out(4);
    expect(last).toBe(1023);
    expect(op(6, SELF)).toBe(-28);
    expect(op(7, 0)).toBe(-28);
    expect(op(1, VIRQ_TIMER, 0)).toBe(-28);
  });

  it('bind_interdomain: to an unbound port of its own, kicked once', () => {
    expect(op(6, SELF | (SELF << 16))).toBe(0);
    const remote = out(4);
    expect(op(0, SELF, remote)).toBe(0);
    const local = out(8);
    expect(d.events.isPending(local)).toBe(true);
    expect(op(5, SELF, local)).toBe(0);
    expect([out(8), out(16) & 0xffff, out(20)]).toEqual([2, 1, remote]);
    // Not unbound any more.
    expect(op(0, SELF, remote)).toBe(-22);
    expect(op(0, 0, 1)).toBe(-22);
    expect(op(0, 9, 1)).toBe(-3);
    clearPending(remote);
    expect(op(4, local)).toBe(0);
    expect(d.events.isPending(remote)).toBe(true);
    // Closing one side leaves the other unbound.
    expect(op(3, local)).toBe(0);
    expect(d.events.stateOf(remote)).toBe(PortState.Unbound);
    expect(op(4, remote)).toBe(0);
  });

  it('bind_virq: -EINVAL, -ENOENT, -EBUSY, -EEXIST', () => {
    expect(op(1, VIRQ_TIMER, 1)).toBe(0);
    const port = out(8);
    expect(op(5, SELF, port)).toBe(0);
    expect([out(8), out(12), out(16)]).toEqual([4, 1, VIRQ_TIMER]);
    expect(op(1, VIRQ_TIMER, 1)).toBe(-17);
    expect(op(1, VIRQ_DEBUG, 0)).toBe(0);
    expect(op(1, 24, 0)).toBe(-22);
    expect(op(1, 2, 0)).toBe(-16);
    expect(op(1, 2, 1)).toBe(-22);
    expect(op(1, VIRQ_TIMER, 2)).toBe(-2);
    expect(op(3, port)).toBe(0);
    expect(op(1, VIRQ_TIMER, 1)).toBe(0);
  });

  it('bind_ipi and bind_vcpu', () => {
    expect(op(7, 1)).toBe(0);
    const ipi = out(4);
    expect(op(7, 2)).toBe(-2);
    expect(op(8, ipi, 0)).toBe(-22);
    expect(op(6, SELF)).toBe(0);
    const port = out(4);
    expect(op(8, port, 1)).toBe(0);
    expect(d.events.data.vcpu[port]).toBe(1);
    expect(op(8, port, 2)).toBe(-2);
    expect(op(8, 500, 0)).toBe(-22);
    expect(op(4, ipi)).toBe(0);
    expect(d.mem.u8[info(1)]).toBe(1);
  });

  it('refuses pirqs, FIFO and unknown sub-operations with the expected errors', () => {
    expect(op(2, 4)).toBe(-1);
    expect(op(2, 5000)).toBe(-22);
    // init_control {gfn, offset, vcpu}: the arguments are judged first.
    expect(op(11, 0xfffffffe, 0xffffffff, 0, 0)).toBe(-22);
    expect(op(11, d.mfn(0), 0, 4, 0)).toBe(-22);
    expect(op(11, d.mfn(0), 0, 4096, 0)).toBe(-22);
    expect(op(11, d.mfn(0), 0, 0, 9)).toBe(-2);
    expect(op(11, d.mfn(0), 0, 0, 0)).toBe(-38);
    expect(op(12, d.mfn(0), 0)).toBe(-95);
    expect(op(13, 1, 7)).toBe(-38);
    expect(op(13, 5000, 7)).toBe(-22);
    expect(op(14)).toBe(-38);
    expect(d.call(eventChannelOp, [6, 0x10000])).toBe(-14);
  });

  it('status: closed ports, foreign domains, bad ports', () => {
    expect(op(5, SELF, 9)).toBe(0);
    expect(out(8)).toBe(0);
    expect(op(5, 0, 1)).toBe(-1);
    expect(op(5, 3, 1)).toBe(-3);
    expect(op(5, SELF, 1024)).toBe(-22);
  });

  it('close: clears pending, refuses what is not open; reset closes all', () => {
    let closed = 0;
    const port = d.events.bindInterdomainToHost({ onNotify: () => undefined, onClosed: () => closed++ });
    d.events.raise(port);
    expect(op(3, port)).toBe(0);
    expect(closed).toBe(1);
    expect(d.events.isPending(port)).toBe(false);
    expect(op(3, port)).toBe(-22);
    expect(op(3, 0)).toBe(-22);
    expect(op(3, 0xffffffff)).toBe(-22);
    expect(d.events.raise(port)).toBe(false);
    d.events.bindInterdomainToHost({ onNotify: () => undefined, onClosed: () => closed++ });
    expect(op(10, 0)).toBe(-1);
    expect(op(10, SELF)).toBe(0);
    expect(closed).toBe(2);
  });

  it('works through the old hypercall', () => {
    d.put32(ARG, 6, SELF, 0);
    expect(d.call(eventChannelOpCompat, [ARG])).toBe(0);
    expect(d.get32(ARG + 8)).toBe(1);
    expect(d.call(eventChannelOpCompat, [0x10000])).toBe(-14);
  });
});

describe('back ends', () => {
  it('hear the guest and bind to its ports', () => {
    let heard = 0;
    const port = d.events.bindInterdomainToHost(() => heard++);
    expect(op(4, port)).toBe(0);
    expect(heard).toBe(1);
    expect(op(6, SELF | (0 << 16))).toBe(0);
    const front = out(4);
    expect(d.events.raise(front)).toBe(false);
    expect(d.events.connectHost(front, () => heard++)).toBe(0);
    expect(d.events.connectHost(front, () => heard++)).toBe(-22);
    expect(op(4, front)).toBe(0);
    expect(heard).toBe(2);
    expect(d.events.disconnectHost(front)).toBe(0);
    expect(d.events.disconnectHost(front)).toBe(-22);
    expect(d.events.stateOf(front)).toBe(PortState.Unbound);
    // A port for another domain is not ours.
    expect(op(6, SELF | (3 << 16))).toBe(0);
    expect(d.events.connectHost(out(4), () => heard++)).toBe(-22);
  });
});

describe('delivery', () => {
  it('sets pending, selector and upcall, each once, and wakes the vCPU', () => {
    d.sched.block(0);
    const port = d.events.bindInterdomainToHost(() => undefined);
    expect(d.sched.state(0)).toBe(VcpuState.Blocked);
    expect(d.events.raise(port)).toBe(true);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
    expect(d.mem.u8[info(0)]).toBe(1);
    expect(d.mem.u32[(info(0) + 8) >>> 2]).toBe(1);
    // The guest clears the upcall and selector but not pending: nothing new happens.
    d.mem.u8[info(0)] = 0;
    d.mem.u32[(info(0) + 8) >>> 2] = 0;
    d.events.raise(port);
    expect(d.mem.u8[info(0)]).toBe(0);
  });

  it('selects by 64 ports on 64-bit and by 32 on 32-bit', () => {
    for (const wordSize of [8, 4] as const) {
      const e = new FakeDomain({ wordSize });
      let port = 0;
      while (port < 700) port = e.events.bindInterdomainToHost(() => undefined);
      e.events.raise(port);
      const selector = (e.events.vcpuInfoAddress(0) + (wordSize === 8 ? 8 : 4)) >>> 2;
      expect(e.mem.u32[selector]).toBe(wordSize === 8 ? 1 << 10 : 1 << 21);
    }
  });

  it('a masked port only becomes pending, and unmask delivers it', () => {
    const port = d.events.bindInterdomainToHost(() => undefined);
    setMask(port);
    d.events.raise(port);
    expect(d.events.isPending(port)).toBe(true);
    expect(d.mem.u8[info(0)]).toBe(0);
    expect(op(9, port)).toBe(0);
    expect(d.mem.u8[info(0)]).toBe(1);
    expect(op(9, 4096)).toBe(-22);
    expect(op(9, 900)).toBe(0);
  });

  it('is deliverable only while upcall_mask is clear', () => {
    const port = d.events.bindInterdomainToHost(() => undefined);
    d.events.setUpcallMask(0, true);
    d.events.raise(port);
    expect(d.events.deliverable(0)).toBe(false);
    d.events.setUpcallMask(0, false);
    expect(d.events.deliverable(0)).toBe(true);
  });

  it('raises VIRQs on their vCPU and drops unbound ones', () => {
    d.events.raiseVirq(VIRQ_TIMER, 1);
    expect(d.mem.u8[info(1)]).toBe(0);
    op(1, VIRQ_TIMER, 1);
    d.events.raiseVirq(VIRQ_TIMER, 1);
    expect(d.mem.u8[info(1)]).toBe(1);
    expect(d.mem.u8[info(0)]).toBe(0);
    expect(op(4, out(8))).toBe(-22);
  });
});

describe('register_vcpu_info', () => {
  it('copies, marks everything pending, and can be done once', () => {
    const place = d.host(0x2000);
    d.mem.u32[(info(0) + 16) >>> 2] = 0xabcd;
    d.mem.u8[info(0) + 1] = 1;
    expect(d.events.registerVcpuInfo(0, place)).toBe(0);
    expect(d.mem.u32[(place + 16) >>> 2]).toBe(0xabcd);
    expect([...d.mem.u8.subarray(place, place + 2)]).toEqual([1, 1]);
    expect(d.mem.u32[(place + 8) >>> 2]).toBe(0xffffffff);
    expect(d.mem.u32[(place + 12) >>> 2]).toBe(0xffffffff);
    expect(d.events.registerVcpuInfo(0, place + 64)).toBe(-22);
    expect(d.events.registerVcpuInfo(1, place + 3)).toBe(-22);
    expect(d.events.registerVcpuInfo(2, place)).toBe(-2);
    d.events.forgetVcpuInfos();
    expect(info(0)).toBe(d.sharedInfo);
  });

  it('gives a vCPU beyond 31 its first one, without losing what came before', () => {
    const many = new FakeDomain({ vcpus: 40 });
    expect(many.events.vcpuInfoAddress(35)).toBe(0);
    const port = many.events.bindIpi(35);
    expect(many.events.send(port)).toBe(0);
    many.events.setUpcallMask(35, false);
    many.events.markUpcallPending(35);
    expect(many.events.deliverable(35)).toBe(false);
    const place = many.host(0x3000);
    expect(many.events.registerVcpuInfo(35, place)).toBe(0);
    expect(many.events.isPending(port)).toBe(true);
    expect([...many.mem.u8.subarray(place, place + 2)]).toEqual([1, 1]);
  });
});
