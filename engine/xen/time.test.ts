// SPDX-License-Identifier: MIT
// Tests of guest time: shared pages, timers, runstates.

import { beforeEach, describe, expect, it } from 'vitest';
import type { HypercallContext } from './context.ts';
import { VIRQ_TIMER } from './events.ts';
import { FakeDomain } from './fake-machine.ts';
import {
  setTimerOp,
  vcpuGetRunstateInfo,
  vcpuRegisterRunstateArea,
  vcpuRegisterTimeArea,
  vcpuSetPeriodicTimer,
  vcpuSetSingleshotTimer,
  vcpuStopPeriodicTimer,
  vcpuStopSingleshotTimer,
} from './time-op.ts';
import { Runstate } from './time.ts';

const ARG = 0x100;
const AREA = 0x800;

let d: FakeDomain;
let port: number;
beforeEach(() => {
  d = new FakeDomain();
  port = d.events.bindVirq(VIRQ_TIMER, 0);
  d.time.stopPeriodic(0);
});

/** Whether VIRQ_TIMER is pending; clears it. */
function ticked(): boolean {
  const was = d.events.isPending(port);
  d.mem.u32[(d.sharedInfo + 0x800) >>> 2] = 0;
  return was;
}

type VcpuOp = (ctx: HypercallContext, vcpu: number, lo: number, hi: number) => number;
const vcpuOp = (op: VcpuOp, vcpu: number, address: number, caller = 0): number =>
  d.call((ctx) => op(ctx, vcpu, address, 0), [], caller);

const u64 = (host: number): number => Number(d.mem.view.getBigUint64(host, true));

describe('time info', () => {
  it('makes the TSC equal system time: 1 GHz, stable', () => {
    d.now = 123456789.7;
    d.time.publishTimeInfo(0);
    const at = d.events.vcpuInfoAddress(0) + 0x20;
    expect(d.mem.u32[at >>> 2]).toBe(2);
    expect([u64(at + 8), u64(at + 16)]).toEqual([123456789, 123456789]);
    expect(d.mem.u32[(at + 24) >>> 2]).toBe(0x80000000);
    expect([d.mem.u8[at + 28], d.mem.u8[at + 29]]).toEqual([1, 1]);
    // What a guest computes at TSC = 2e9.
    const delta = 2_000_000_000n - 123456789n;
    expect(123456789n + (((delta << 1n) * 0x80000000n) >> 32n)).toBe(2_000_000_000n);
    d.time.publishTimeInfo(0);
    expect(d.mem.u32[at >>> 2]).toBe(4);
  });

  it('keeps large system times exact', () => {
    d.now = 2 ** 45 + 5;
    d.time.publishTimeInfo(1);
    expect(u64(d.events.vcpuInfoAddress(1) + 0x30)).toBe(2 ** 45 + 5);
  });

  it('skips a vCPU without vcpu_info and follows a registered one', () => {
    const many = new FakeDomain({ vcpus: 33 });
    many.time.publishTimeInfo(32);
    expect(d.events.registerVcpuInfo(0, d.host(0x4000))).toBe(0);
    d.time.publishTimeInfo(0);
    expect(d.get32(0x4000 + 0x20)).toBe(2);
  });

  it('fills a secondary area on request', () => {
    d.time.publishTimeInfo(0);
    d.put32(ARG, AREA, 0);
    expect(vcpuOp(vcpuRegisterTimeArea, 0, ARG)).toBe(0);
    expect(d.get32(AREA)).toBe(2);
    expect(d.get32(AREA + 24)).toBe(0x80000000);
    d.put32(ARG, 0, 0);
    expect(vcpuOp(vcpuRegisterTimeArea, 0, ARG)).toBe(0);
    d.put32(ARG, 0x20000, 0);
    expect(vcpuOp(vcpuRegisterTimeArea, 0, ARG)).toBe(-14);
    expect(vcpuOp(vcpuRegisterTimeArea, 0, 0x20000)).toBe(-14);
  });
});

describe('wall clock', () => {
  it('is UTC at system time 0', () => {
    d.utc = 1_800_000_000e9 + 512;
    d.now = 5e9;
    d.time.publishWallClock();
    const at = d.sharedInfo + 0xc00;
    expect(d.mem.u32[at >>> 2]).toBe(2);
    expect(d.mem.u32[(at + 4) >>> 2]).toBe(1_799_999_995);
    expect(d.mem.u32[(at + 8) >>> 2]).toBe(512);
    expect(d.mem.u32[(at + 12) >>> 2]).toBe(0);
  });

  it('lies elsewhere for 32-bit guests and survives seconds beyond 32 bits and rounding', () => {
    const e = new FakeDomain({ wordSize: 4 });
    e.utc = 5_000_000_000e9;
    e.time.publishWallClock();
    const at = e.sharedInfo + 0x900;
    expect(e.mem.u32[(at + 4) >>> 2]).toBe(5_000_000_000 % 2 ** 32);
    expect(e.mem.u32[(e.sharedInfo + 0x924) >>> 2]).toBe(1);
    for (let i = 0; i < 200; i++) {
      e.utc = 1_800_000_000e9 - 256 * i;
      e.time.publishWallClock();
      expect(e.mem.u32[(at + 8) >>> 2]).toBeLessThan(1e9);
    }
  });
});

describe('set_timer_op', () => {
  it('fires at its time, once', () => {
    expect(d.call(setTimerOp, [5000])).toBe(0);
    expect(d.time.nextDeadline()).toBe(5000);
    d.time.fire(4999);
    expect(ticked()).toBe(false);
    d.time.fire(5000);
    expect(ticked()).toBe(true);
    d.time.fire(6000);
    expect(ticked()).toBe(false);
    expect(d.time.nextDeadline()).toBe(Infinity);
  });

  it('fires at once for the past, not at all for 0, after 100 ms for nonsense', () => {
    d.now = 1e9;
    d.call(setTimerOp, [5]);
    expect(ticked()).toBe(true);
    d.call(setTimerOp, [2e9]);
    d.call(setTimerOp, [0]);
    expect(d.time.nextDeadline()).toBe(Infinity);
    d.call(setTimerOp, [2 ** 52]);
    expect(d.time.nextDeadline()).toBe(1.1e9);
    d.call(setTimerOp, [2 ** 63]);
    expect(d.time.nextDeadline()).toBe(1.1e9);
    expect(ticked()).toBe(false);
  });

  it('takes two words from a 32-bit guest', () => {
    const e = new FakeDomain({ wordSize: 4 });
    e.time.stopPeriodic(0);
    e.call(setTimerOp, [7, 2]);
    expect(e.time.nextDeadline()).toBe(2 * 2 ** 32 + 7);
  });
});

describe('vcpu_op timers', () => {
  it('singleshot: own vCPU only, past fires at once, stop', () => {
    d.put32(ARG, 9000, 0, 0, 0);
    expect(vcpuOp(vcpuSetSingleshotTimer, 0, ARG)).toBe(0);
    expect(d.time.nextDeadline()).toBe(9000);
    expect(vcpuOp(vcpuStopSingleshotTimer, 0, 0)).toBe(0);
    expect(d.time.nextDeadline()).toBe(Infinity);
    expect(vcpuOp(vcpuSetSingleshotTimer, 1, ARG)).toBe(-22);
    expect(vcpuOp(vcpuStopSingleshotTimer, 1, ARG)).toBe(-22);
    expect(vcpuOp(vcpuSetSingleshotTimer, 0, 0x20000)).toBe(-14);
    d.now = 10000;
    expect(vcpuOp(vcpuSetSingleshotTimer, 0, ARG)).toBe(0);
    expect(ticked()).toBe(true);
  });

  it('periodic: at least 1 ms, only while running', () => {
    d.put32(ARG, 999_999, 0);
    expect(vcpuOp(vcpuSetPeriodicTimer, 0, ARG)).toBe(-22);
    d.put32(ARG, 0, 0x7fffffff);
    expect(vcpuOp(vcpuSetPeriodicTimer, 0, ARG)).toBe(-22);
    d.put32(ARG, 4_000_000, 0);
    expect(vcpuOp(vcpuSetPeriodicTimer, 0, ARG)).toBe(0);
    expect(vcpuOp(vcpuSetPeriodicTimer, 0, 0x20000)).toBe(-14);
    expect(d.time.nextDeadline()).toBe(4e6);
    d.time.fire(4e6);
    expect(ticked()).toBe(true);
    expect(d.time.nextDeadline()).toBe(8e6);
    // Blocked: no deadline, no tick; it comes when the vCPU runs again.
    d.sched.block(0);
    d.mem.u8[d.events.vcpuInfoAddress(0)] = 0;
    d.mem.u32[(d.events.vcpuInfoAddress(0) + 8) >>> 2] = 0;
    d.sched.block(0);
    expect(d.time.nextDeadline()).toBe(Infinity);
    d.now = 20e6;
    d.time.fire(d.now);
    expect(ticked()).toBe(false);
    d.sched.wakeVcpu(0);
    expect(ticked()).toBe(true);
    expect(vcpuOp(vcpuStopPeriodicTimer, 0, 0)).toBe(0);
    expect(d.time.nextDeadline()).toBe(Infinity);
  });

  it('a new vCPU ticks at 100 Hz until it is stopped', () => {
    const e = new FakeDomain();
    expect(e.time.nextDeadline()).toBe(10e6);
  });
});

describe('runstates', () => {
  it('account the time spent and follow the registered area', () => {
    d.put32(ARG, AREA, 0);
    expect(vcpuOp(vcpuRegisterRunstateArea, 0, ARG)).toBe(0);
    expect(d.get32(AREA)).toBe(Runstate.Running);
    d.now = 100;
    d.sched.block(0);
    expect(d.get32(AREA)).toBe(Runstate.Blocked);
    expect([u64(d.host(AREA + 8)), u64(d.host(AREA + 16))]).toEqual([100, 100]);
    d.now = 250;
    d.sched.wakeVcpu(0);
    expect([u64(d.host(AREA + 16)), u64(d.host(AREA + 32))]).toEqual([100, 150]);
    expect(d.time.timeIn(0, Runstate.Blocked)).toBe(150);
    d.now = 300;
    expect(d.time.timeIn(0, Runstate.Running)).toBe(150);
    expect(vcpuOp(vcpuGetRunstateInfo, 0, 0xa00)).toBe(0);
    expect(u64(d.host(0xa00 + 16))).toBe(150);
    expect(vcpuOp(vcpuGetRunstateInfo, 0, 0x20000)).toBe(-14);
    expect(vcpuOp(vcpuRegisterRunstateArea, 0, 0x20000)).toBe(-14);
    d.put32(ARG, 0x20000, 0);
    expect(vcpuOp(vcpuRegisterRunstateArea, 0, ARG)).toBe(-14);
  });

  it('retries an area that could not be written, and forgets on resume', () => {
    d.put32(ARG, AREA, 0);
    vcpuOp(vcpuRegisterRunstateArea, 0, ARG);
    const copyOut = d.guest.copyOut.bind(d.guest);
    d.guest.copyOut = () => false;
    d.time.setRunstate(0, Runstate.Runnable);
    d.guest.copyOut = copyOut;
    expect(d.get32(AREA)).toBe(Runstate.Running);
    d.time.flushRunstate(0);
    expect(d.get32(AREA)).toBe(Runstate.Runnable);
    d.time.forgetRegistrations();
    d.time.setRunstate(0, Runstate.Running);
    expect(d.get32(AREA)).toBe(Runstate.Runnable);
  });

  it('marks the update when the guest asked for it', () => {
    const tops: number[] = [];
    const copyOut = d.guest.copyOut.bind(d.guest);
    d.guest.copyOut = (lo, hi, src) => {
      tops.push(src[15]);
      return copyOut(lo, hi, src);
    };
    d.time.runstateUpdateFlag = true;
    d.put32(ARG, AREA, 0);
    vcpuOp(vcpuRegisterRunstateArea, 0, ARG);
    expect(tops).toEqual([0x80, 0]);
  });

  it('is 44 bytes for a 32-bit guest', () => {
    const e = new FakeDomain({ wordSize: 4 });
    expect(e.time.runstateImage(0).length).toBe(44);
    expect(d.time.runstateImage(0).length).toBe(48);
  });
});
