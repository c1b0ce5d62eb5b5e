// SPDX-License-Identifier: MIT
// Micro-guests: pvclock, wall clock, one-shot and periodic timers, vcpu_op.
import { expect } from 'vitest';
import {
  addressOf,
  eax,
  ecx,
  mem,
  r12,
  r13,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  type LabelAddress,
  type Memory,
} from '../../../engine/x86/assembler/operands.ts';
import { ERRNO, EVTCHN_OP, SCHED_OP, VCPU_INFO, VIRQ } from '../../../main/demo-guest/xen-abi.ts';
import { emitSystemTime, emitWallClock } from './lib/clock.ts';
import type { GuestLib } from './lib/guest.ts';
import { testMicroGuest } from './run.ts';

const MILLISECOND = 1_000_000;
const VCPUOP = {
  initialise: 0,
  up: 1,
  down: 2,
  isUp: 3,
  getRunstate: 4,
  registerRunstate: 5,
  setPeriodic: 6,
  stopPeriodic: 7,
  setSingleshot: 8,
  stopSingleshot: 9,
  registerVcpuInfo: 10,
  sendNmi: 11,
  getPhysicalId: 12,
  registerTimeArea: 13,
} as const;

/** Opens the mask and yields until an upcall has come, for a second at most; then masks again. */
function awaitUpcall(lib: GuestLib): void {
  const { asm } = lib;
  const next = asm.unique('next');
  const done = asm.unique('done');
  const before = mem({ label: 'upcalls_before', size: 8 });
  emitSystemTime(asm);
  asm
    .mov(r13, rax)
    .add(r13, 1000 * MILLISECOND)
    .mov(rax, lib.event('count'))
    .mov(before, rax);
  lib.unmaskEvents();
  asm.label(next).mov(rax, lib.event('count')).cmp(rax, before).j('ne', done);
  lib.hypercall('sched_op', SCHED_OP.yield, 0);
  emitSystemTime(asm);
  asm.cmp(rax, r13).j('b', next).label(done);
  lib.maskEvents();
}

function emitTimerData(lib: GuestLib): void {
  lib.data((d) => d.dq(0), 'upcalls_before');
}

function bindTimer(lib: GuestLib): Memory {
  const virq = lib.data((d) => d.dd(VIRQ.timer, 0, 0));
  lib.call('bind VIRQ_TIMER', 0, 'event_channel_op', EVTCHN_OP.bindVirq, virq);
  return mem({ label: virq.label, disp: 8, size: 4 });
}

testMicroGuest('pvclock is valid from the start and monotonic', (asm, lib) => {
  asm.mov(eax, mem({ label: 'rt_shared_info', disp: VCPU_INFO.timeVersion })).and(eax, 1);
  lib.expect('version is even', 0);
  asm.mov(eax, mem({ label: 'rt_shared_info', disp: VCPU_INFO.tscMultiplier })).test(eax, eax);
  lib.expectCondition('multiplier is set', 'nz');
  emitSystemTime(asm);
  asm.mov(rbx, rax).mov(rdi, 2000).mov(r12, 0);
  const next = asm.unique('next');
  const forward = asm.unique('forward');
  asm.label(next).push(rdi);
  emitSystemTime(asm);
  asm.pop(rdi).cmp(rax, rbx).j('ae', forward).inc(r12).label(forward).mov(rbx, rax).dec(rdi).j('nz', next);
  lib.expectRegister('readings that went back', r12, 0);
  asm.rdtsc().shl(rdx, 32).or(rax, rdx).mov(rbx, rax).rdtsc().shl(rdx, 32).or(rax, rdx).cmp(rax, rbx);
  lib.expectCondition('the TSC does not go back', 'ae');
});

testMicroGuest('system time goes on while blocked', (asm, lib) => {
  lib.setUpEvents();
  lib.call('stop the periodic timer', 0, 'vcpu_op', VCPUOP.stopPeriodic, 0, 0);
  bindTimer(lib);
  emitSystemTime(asm);
  asm.mov(rbx, rax).add(rax, 50 * MILLISECOND);
  lib.call('set_timer_op', 0, 'set_timer_op', rax);
  lib.call('block', 0, 'sched_op', SCHED_OP.block, 0);
  emitSystemTime(asm);
  asm.sub(rax, rbx).cmp(rax, 50 * MILLISECOND);
  lib.expectCondition('at least 50 ms passed', 'ae');
  asm.cmp(rax, 2000 * MILLISECOND);
  lib.expectCondition('but not seconds', 'b');
});

testMicroGuest(
  'wall clock',
  (asm, lib) => {
    asm.mov(eax, mem({ label: 'rt_shared_info', disp: 0xc00 })).and(eax, 1);
    lib.expect('version is even', 0);
    lib.expectMemory('high seconds', mem({ label: 'rt_shared_info', disp: 0xc0c, size: 4 }), 0);
    asm.mov(eax, mem({ label: 'rt_shared_info', disp: 0xc08 })).cmp(eax, 1_000_000_000);
    lib.expectCondition('nanoseconds are below a second', 'b');
    emitWallClock(asm);
    asm.mov(mem({ label: 'wall_clock' }), rax);
    asm.section('data').align(8).label('wall_clock').dq(0).section('text');
    asm
      .mov(rdi, addressOf('wall_text'))
      .call('rt_put_text')
      .mov(rdi, mem({ label: 'wall_clock' }))
      .call('rt_put_hex')
      .call('rt_end_line');
    asm.section('data').label('wall_text').asciz('WALL ').section('text');
  },
  {
    verify: ({ output }) => {
      const nanoseconds = Number(BigInt(/WALL (0x[0-9a-f]+)/.exec(output)?.[1] ?? '0'));
      expect(Math.abs(nanoseconds / 1e6 - Date.now())).toBeLessThan(60_000);
    },
  },
);

testMicroGuest('set_timer_op', (asm, lib) => {
  lib.setUpEvents();
  lib.call('stop the periodic timer', 0, 'vcpu_op', VCPUOP.stopPeriodic, 0, 0);
  const port = bindTimer(lib);
  lib.call('in the past', 0, 'set_timer_op', 1);
  lib.call('block', 0, 'sched_op', SCHED_OP.block, 0);
  lib.takeEvent(port);
  lib.expect('fires at once', 1);
  lib.maskEvents();
  emitSystemTime(asm);
  asm.mov(rbx, 3600 * 1000 * MILLISECOND).add(rax, rbx);
  lib.call('in an hour', 0, 'set_timer_op', rax);
  emitSystemTime(asm);
  asm.add(rax, 2 * MILLISECOND).mov(rbx, rax);
  lib.call('replaced by 2 ms', 0, 'set_timer_op', rbx);
  lib.call('block', 0, 'sched_op', SCHED_OP.block, 0);
  emitSystemTime(asm);
  asm.sub(rax, rbx).cmp(rax, 1000 * MILLISECOND);
  lib.expectCondition('the second setting counts', 'b');
  lib.takeEvent(port);
  lib.expect('the timer again', 1);
  lib.maskEvents();

  // Cancelled long before its time, also on a busy host: only the poll's own timeout ends the wait.
  emitSystemTime(asm);
  asm.add(rax, 200 * MILLISECOND);
  lib.call('set', 0, 'set_timer_op', rax);
  lib.call('cancel', 0, 'set_timer_op', 0);
  const poll = lib.data((d) => d.dq(0).dd(0, 0).dq(0));
  emitSystemTime(asm);
  asm.add(rax, 260 * MILLISECOND).mov(mem({ label: poll.label, disp: 16 }), rax);
  lib.call('poll', 0, 'sched_op', SCHED_OP.poll, poll);
  lib.unmaskEvents();
  lib.takeEvent(port);
  lib.expect('a cancelled timer does not fire', 0);
  lib.maskEvents();
  emitSystemTime(asm);
  asm.mov(rbx, rax);
  lib.call('an absurd time', 0, 'set_timer_op', -5);
  lib.call('block', 0, 'sched_op', SCHED_OP.block, 0);
  emitSystemTime(asm);
  asm.sub(rax, rbx).cmp(rax, 2000 * MILLISECOND);
  lib.expectCondition('fires soon', 'b');
});

testMicroGuest('vcpu_op timers', (asm, lib) => {
  lib.setUpEvents();
  const port = bindTimer(lib);
  lib.call('stop_periodic', 0, 'vcpu_op', VCPUOP.stopPeriodic, 0, 0);
  // A tick may have come just before.
  lib.unmaskEvents();
  lib.takeEvent(port);
  lib.maskEvents();
  const shot = lib.data((d) => d.dq(0).dd(0, 0));
  emitSystemTime(asm);
  asm
    .add(rax, 3 * MILLISECOND)
    .mov(rbx, rax)
    .mov(mem({ label: shot.label }), rax);
  lib.call('singleshot', 0, 'vcpu_op', VCPUOP.setSingleshot, 0, shot);
  lib.call('block', 0, 'sched_op', SCHED_OP.block, 0);
  lib.takeEvent(port);
  lib.expect('it fired', 1);
  emitSystemTime(asm);
  asm.cmp(rax, rbx);
  lib.expectCondition('in time', 'ae');
  lib.call('stop_singleshot', 0, 'vcpu_op', VCPUOP.stopSingleshot, 0, 0);
  lib.call('an unreadable time', -ERRNO.EFAULT, 'vcpu_op', VCPUOP.setSingleshot, 0, 0x7000);

  const period = (ns: number): LabelAddress => lib.data((d) => d.dq(ns));
  lib.call('period below 1 ms', -ERRNO.EINVAL, 'vcpu_op', VCPUOP.setPeriodic, 0, period(MILLISECOND - 1));
  emitTimerData(lib);
  lib.maskEvents();
  lib.call('period of 2 ms', 0, 'vcpu_op', VCPUOP.setPeriodic, 0, period(2 * MILLISECOND));
  for (const round of [1, 2, 3]) {
    awaitUpcall(lib);
    lib.takeEvent(port);
    lib.expect(`tick ${round.toString()}`, 1);
  }
  lib.call('stop_periodic again', 0, 'vcpu_op', VCPUOP.stopPeriodic, 0, 0);
});

testMicroGuest('the periodic timer runs from the start', (_asm, lib) => {
  lib.setUpEvents();
  const port = bindTimer(lib);
  emitTimerData(lib);
  for (const round of [1, 2]) {
    awaitUpcall(lib);
    lib.takeEvent(port);
    lib.expect(`tick ${round.toString()}`, 1);
  }
});

testMicroGuest('vcpu_op: questions and refusals', (asm, lib) => {
  const zeros = lib.pages('zeros', 2);
  lib.call('is_up of vCPU 0', 1, 'vcpu_op', VCPUOP.isUp, 0, 0);
  lib.call('is_up of one that does not exist', -ERRNO.ENOENT, 'vcpu_op', VCPUOP.isUp, 33, 0);
  lib.call('is_up beyond all', -ERRNO.ENOENT, 'vcpu_op', VCPUOP.isUp, 0xffffff, 0);
  lib.call('up of one that does not exist', -ERRNO.ENOENT, 'vcpu_op', VCPUOP.up, 33, 0);
  lib.call('initialise what is running', -ERRNO.EEXIST, 'vcpu_op', VCPUOP.initialise, 0, addressOf(zeros));
  lib.call('initialise from an unreadable place', -ERRNO.EFAULT, 'vcpu_op', VCPUOP.initialise, 0, 0x7000);
  lib.call('unknown', -ERRNO.ENOSYS, 'vcpu_op', 99, 0, 0);

  const runstate = lib.data((d) => d.dq(0, 0, 0, 0, 0, 0));
  lib.call('get_runstate_info', 0, 'vcpu_op', VCPUOP.getRunstate, 0, runstate);
  lib.expectMemory('running', mem({ label: runstate.label, size: 4 }), 0);
  asm.mov(rax, mem({ label: runstate.label, disp: 8 })).test(rax, rax);
  lib.expectCondition('since some time', 'nz');
  const area = lib.data((d) => d.dq(0, 0, 0, 0, 0, 0));
  lib.call(
    'register_runstate',
    0,
    'vcpu_op',
    VCPUOP.registerRunstate,
    0,
    lib.data((d) => d.dq(area)),
  );
  asm.mov(rax, mem({ label: area.label, disp: 8 })).test(rax, rax);
  lib.expectCondition('it is written at once', 'nz');
  asm.mov(ecx, 0).mov(rbx, mem({ label: area.label, disp: 16 + 16 }));
  const poll = lib.data((d) => d.dq(0).dd(0, 0).dq(0));
  emitSystemTime(asm);
  // Long enough for what a busy host takes away between reading the clock and polling.
  asm.add(rax, 100 * MILLISECOND).mov(mem({ label: poll.label, disp: 16 }), rax);
  lib.call('poll for 100 ms', 0, 'sched_op', SCHED_OP.poll, poll);
  asm
    .mov(rax, mem({ label: area.label, disp: 16 + 16 }))
    .sub(rax, rbx)
    .cmp(rax, 4 * MILLISECOND);
  lib.expectCondition('time blocked has grown', 'ae');
  lib.expectMemory('running again', mem({ label: area.label, size: 4 }), 0);
});

testMicroGuest('a second place for the time', (asm, lib) => {
  const area = lib.data((d) => d.dq(0, 0, 0, 0));
  const argument = lib.data((d) => d.dq(area));
  lib.call('register_vcpu_time_memory_area', 0, 'vcpu_op', VCPUOP.registerTimeArea, 0, argument);
  asm
    .mov(eax, mem({ label: area.label, disp: 24 }))
    .sub(eax, mem({ label: 'rt_shared_info', disp: VCPU_INFO.tscMultiplier }));
  lib.expect('it has the same multiplier', 0);
});

testMicroGuest('register_vcpu_info', (asm, lib) => {
  lib.setUpEvents();
  const page = lib.pages('info');
  const ipi = lib.data((d) => d.dd(0, 0));
  lib.call('bind an IPI', 0, 'event_channel_op', EVTCHN_OP.bindIpi, ipi);
  lib.call('send it', 0, 'event_channel_op', EVTCHN_OP.send, addressOf(ipi.label, 4));
  const place = (offset: number): LabelAddress => {
    const argument = lib.data((d) => d.dq(0).dd(offset, 0));
    lib.machineAddress(page);
    asm.shr(rax, 12).mov(mem({ label: argument.label }), rax);
    return argument;
  };
  lib.call('across a page', -ERRNO.ENXIO, 'vcpu_op', VCPUOP.registerVcpuInfo, 0, place(4096 - 32));
  lib.call(
    'a frame that does not exist',
    -ERRNO.EINVAL,
    'vcpu_op',
    VCPUOP.registerVcpuInfo,
    0,
    lib.data((d) => d.dq(0x7fffffff, 0)),
  );
  lib.call('register', 0, 'vcpu_op', VCPUOP.registerVcpuInfo, 0, place(128));
  const info = (disp: number, size: 1 | 4 | 8): Memory => mem({ label: page, disp: 128 + disp, size });
  lib.expectMemory('the mask is copied', info(VCPU_INFO.upcallMask, 1), 1);
  lib.expectMemory('the event is pending in the new place', info(VCPU_INFO.upcallPending, 1), 1);
  asm.mov(rax, info(VCPU_INFO.pendingSelector, 8)).and(eax, 1);
  lib.expect('with its selector', 1);
  asm.mov(eax, info(VCPU_INFO.tscMultiplier, 4)).test(eax, eax);
  lib.expectCondition('the time is there', 'nz');
  asm.mov(rdi, 0).lea(rsi, mem({ label: page, disp: 128 }));
  const fault = asm.unique('fault');
  const after = asm.unique('after');
  lib.arm(after);
  asm
    .label(fault)
    .mov(rax, mem({ disp: 0x7abc }))
    .label(after);
  lib.expectMemory('cr2 is reported in the new place', info(VCPU_INFO.cr2, 8), 0x7abc);
  lib.expectMemory('and the trap was that one', lib.trap('rip'), addressOf(fault));
  asm.mov(rcx, 0);
});
