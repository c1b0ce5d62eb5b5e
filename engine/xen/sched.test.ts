// SPDX-License-Identifier: MIT
// Tests of sched_op and the vCPU run states.

import { beforeEach, describe, expect, it } from 'vitest';
import { FakeDomain } from './fake-machine.ts';
import { VcpuState, schedOp, schedOpCompat } from './sched.ts';
import { Runstate } from './time.ts';

const ARG = 0x100;
const PORTS = 0x200;

let d: FakeDomain;
let port: number;
beforeEach(() => {
  d = new FakeDomain();
  port = d.events.bindInterdomainToHost(() => undefined);
  d.mem.u8[d.events.vcpuInfoAddress(0) + 1] = 1;
});

const clearPending = (): void => {
  d.mem.u32[(d.sharedInfo + 0x800) >>> 2] = 0;
};

describe('yield and block', () => {
  it('yield ends the slice once', () => {
    expect(d.call(schedOp, [0, 0])).toBe(0);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
    expect(d.sched.takeYield(0)).toBe(true);
    expect(d.sched.takeYield(0)).toBe(false);
  });

  it('block unmasks and sleeps until an event', () => {
    expect(d.call(schedOp, [1, 0])).toBe(0);
    expect(d.mem.u8[d.events.vcpuInfoAddress(0) + 1]).toBe(0);
    expect(d.sched.state(0)).toBe(VcpuState.Blocked);
    expect(d.sched.anyRunnable()).toBe(false);
    expect(d.time.runstate(0)).toBe(Runstate.Blocked);
    d.events.raise(port);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
    expect(d.time.runstate(0)).toBe(Runstate.Running);
  });

  it('block returns at once when an event waits', () => {
    d.events.raise(port);
    d.call(schedOp, [1, 0]);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
  });

  it('the compatibility call does the same', () => {
    expect(d.call(schedOpCompat, [0])).toBe(0);
    expect(d.sched.takeYield(0)).toBe(true);
    expect(d.call(schedOpCompat, [1])).toBe(0);
    expect(d.sched.state(0)).toBe(VcpuState.Blocked);
    expect(d.call(schedOpCompat, [2, 6])).toBe(-22);
    expect(d.call(schedOpCompat, [3])).toBe(-38);
    expect(d.call(schedOpCompat, [2, 1])).toBe(0);
    expect(d.sched.shutdown).toEqual({ reason: 'reboot' });
  });
});

describe('poll', () => {
  const poll = (nr: number, timeout: number): number => {
    d.put32(ARG, PORTS, 0, nr, 0, timeout, 0);
    return d.call(schedOp, [3, ARG]);
  };

  it('waits for its port, masked or not', () => {
    d.put32(PORTS, port);
    d.mem.u32[(d.sharedInfo + 0xa00) >>> 2] = 0xffffffff;
    expect(poll(1, 0)).toBe(0);
    expect(d.sched.state(0)).toBe(VcpuState.Polling);
    expect(d.sched.nextDeadline()).toBe(Infinity);
    d.events.raise(port);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
    // Pending now: does not sleep.
    expect(poll(1, 0)).toBe(0);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
  });

  it('is not woken by another masked port, but is when it polls several', () => {
    const other = d.events.bindInterdomainToHost(() => undefined);
    d.mem.u32[(d.sharedInfo + 0xa00) >>> 2] = 0xffffffff;
    d.put32(PORTS, port, other);
    poll(1, 0);
    d.events.raise(other);
    expect(d.sched.state(0)).toBe(VcpuState.Polling);
    d.sched.wakeVcpu(0);
    clearPending();
    poll(2, 0);
    expect(d.sched.state(0)).toBe(VcpuState.Polling);
    d.events.raise(other);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
  });

  it('ends at its timeout, which is absolute', () => {
    d.put32(PORTS, port);
    d.now = 1000;
    expect(poll(1, 5000)).toBe(0);
    expect(d.time.nextDeadline()).toBe(5000);
    d.now = 5000;
    d.time.fire(5000);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
    expect(d.sched.nextDeadline()).toBe(Infinity);
    expect(poll(1, 4000)).toBe(0);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
    expect(d.sched.takeYield(0)).toBe(true);
  });

  it('returns when an event is deliverable', () => {
    d.events.setUpcallMask(0, false);
    d.events.raise(port);
    clearPending();
    d.put32(PORTS, port);
    expect(poll(1, 0)).toBe(0);
    expect(d.sched.state(0)).toBe(VcpuState.Runnable);
  });

  it('refuses bad lists and survives every port number', () => {
    expect(poll(129, 0)).toBe(-22);
    d.put32(ARG, 0xfff0_0000, 0, 1, 0, 0, 0);
    expect(d.call(schedOp, [3, ARG])).toBe(-14);
    expect(d.call(schedOp, [3, 0x20000])).toBe(-14);
    for (const bad of [0, 2, 1023, 1024, 4095, 4096, 0x7fffffff, 0xffffffff]) {
      d.put32(PORTS, bad);
      expect(poll(1, 0)).toBe(-22);
    }
  });

  it('uses the 32-bit layout for a 32-bit guest', () => {
    const e = new FakeDomain({ wordSize: 4 });
    const p = e.events.bindInterdomainToHost(() => undefined);
    e.put32(PORTS, p);
    e.put32(ARG, PORTS, 1, 77, 0);
    expect(e.call(schedOp, [3, ARG])).toBe(0);
    expect(e.sched.state(0)).toBe(VcpuState.Polling);
    expect(e.sched.nextDeadline()).toBe(77);
  });
});

describe('shutdown', () => {
  it('records each reason', () => {
    for (const [code, reason] of ['poweroff', 'reboot', 'suspend', 'crash', 'watchdog', 'soft-reset'].entries()) {
      const e = new FakeDomain();
      e.put32(ARG, code);
      expect(e.call(schedOp, [2, ARG, 0x1234])).toBe(0);
      expect(e.sched.shutdown?.reason).toBe(reason);
      expect(e.sched.shutdown?.startInfoMfn).toBe(code === 2 ? 0x1234 : undefined);
    }
    d.put32(ARG, 6);
    expect(d.call(schedOp, [2, ARG])).toBe(-22);
    expect(d.call(schedOp, [2, 0x20000])).toBe(-14);
    expect(d.sched.shutdown).toBeNull();
  });

  it('shutdown_code latches the reason that is reported', () => {
    d.put32(ARG, 3);
    expect(d.call(schedOp, [5, ARG])).toBe(0);
    d.put32(ARG, 1);
    d.call(schedOp, [2, ARG]);
    expect(d.sched.shutdown).toEqual({ reason: 'crash' });
    d.sched.crash('later');
    expect(d.sched.shutdown).toEqual({ reason: 'crash' });
    d.sched.resume();
    expect(d.sched.shutdown).toBeNull();
    d.put32(ARG, 9);
    expect(d.call(schedOp, [5, ARG])).toBe(-22);
    expect(d.call(schedOp, [5, 0x20000])).toBe(-14);
    d.sched.crash('unhandled page fault');
    expect(d.sched.shutdown).toEqual({ reason: 'crash', message: 'unhandled page fault' });
  });

  it('remote_shutdown, pin_override and unknown ones are refused', () => {
    d.put32(ARG, 0, 0);
    expect(d.call(schedOp, [4, ARG])).toBe(-1);
    d.put32(ARG, 8, 0);
    expect(d.call(schedOp, [4, ARG])).toBe(-3);
    expect(d.call(schedOp, [4, 0x20000])).toBe(-14);
    expect(d.call(schedOp, [7, ARG])).toBe(-1);
    expect(d.call(schedOp, [7, 0x20000])).toBe(-14);
    expect(d.call(schedOp, [8, ARG])).toBe(-38);
  });

  it('watchdogs: two, re-armed, stopped, and fatal', () => {
    const watchdog = (id: number, seconds: number): number => {
      d.put32(ARG, id, seconds);
      return d.call(schedOp, [6, ARG]);
    };
    expect(watchdog(0, 0)).toBe(-22);
    expect(watchdog(0, 10)).toBe(1);
    expect(watchdog(0, 20)).toBe(2);
    expect(watchdog(0, 30)).toBe(-28);
    expect(watchdog(3, 1)).toBe(-22);
    expect(watchdog(1, 0)).toBe(0);
    expect(watchdog(1, 5)).toBe(-22);
    expect(watchdog(2, 40)).toBe(0);
    expect(d.sched.nextDeadline()).toBe(40e9);
    d.time.fire(39e9);
    expect(d.sched.shutdown).toBeNull();
    d.time.fire(40e9);
    expect(d.sched.shutdown).toEqual({ reason: 'watchdog' });
    expect(d.call(schedOp, [6, 0x20000])).toBe(-14);
  });
});

describe('vCPUs up and down', () => {
  it('brings them up, and powers off with the last', () => {
    expect(d.sched.isUp(1)).toBe(false);
    d.sched.bringUp(1);
    d.sched.bringUp(1);
    expect(d.sched.state(1)).toBe(VcpuState.Runnable);
    d.sched.takeDown(0);
    expect(d.time.runstate(0)).toBe(Runstate.Offline);
    // An event does not start an offline vCPU.
    d.sched.wakeVcpu(0);
    expect(d.sched.isUp(0)).toBe(false);
    expect(d.sched.shutdown).toBeNull();
    d.sched.takeDown(1);
    expect(d.sched.shutdown).toEqual({ reason: 'poweroff' });
  });
});
