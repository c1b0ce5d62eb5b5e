// SPDX-License-Identifier: MIT
// Micro-guests: sched_op. Yield, block, poll, the reasons for shutting down, refusals.
import { expect } from 'vitest';
import { addressOf, mem, rax, rbx, rcx, type LabelAddress } from '../../../engine/x86/assembler/operands.ts';
import { ERRNO, EVTCHN_OP, SCHED_OP, SHUTDOWN, VIRQ } from '../../../main/demo-guest/xen-abi.ts';
import { emitSystemTime } from './lib/clock.ts';
import { testMicroGuest } from './run.ts';

const MILLISECOND = 1_000_000;
const CRASH = { kind: 'crash', reason: expect.any(String) as unknown } as const;

testMicroGuest('sched_op: yield and refusals', (_asm, lib) => {
  lib.call('yield', 0, 'sched_op', SCHED_OP.yield, 0);
  lib.call('old yield', 0, 'sched_op_compat', 0, 0);
  lib.call('unknown', -ERRNO.ENOSYS, 'sched_op', 99, 0);
  lib.call('unreadable shutdown reason', -ERRNO.EFAULT, 'sched_op', SCHED_OP.shutdown, 0x7000);
});

testMicroGuest('block waits for a timer and opens the mask', (asm, lib) => {
  lib.setUpEvents();
  const virq = lib.data((d) => d.dd(VIRQ.timer, 0, 0));
  lib.call('stop the periodic timer', 0, 'vcpu_op', 7, 0, 0);
  lib.call('bind VIRQ_TIMER', 0, 'event_channel_op', EVTCHN_OP.bindVirq, virq);
  emitSystemTime(asm);
  asm.mov(rbx, rax).add(rbx, 20 * MILLISECOND);
  lib.call('set_timer_op', 0, 'set_timer_op', rbx);
  lib.call('block', 0, 'sched_op', SCHED_OP.block, 0);
  lib.expectMemory('one upcall', lib.event('count'), 1);
  lib.expectMemory('the mask was open', mem({ label: 'rt_shared_info', disp: 1, size: 1 }), 0);
  emitSystemTime(asm);
  asm.cmp(rax, rbx);
  lib.expectCondition('not before its time', 'ae');
  lib.takeEvent(mem({ label: virq.label, disp: 8, size: 4 }));
  lib.expect('it was the timer', 1);
  asm.sub(rbx, MILLISECOND);
  lib.maskEvents();
  lib.call('a time in the past', 0, 'set_timer_op', rbx);
  lib.call('block again', 0, 'sched_op', SCHED_OP.block, 0);
  lib.expectMemory('fires at once', lib.event('count'), 2);
});

testMicroGuest('poll', (asm, lib) => {
  lib.call('stop the periodic timer', 0, 'vcpu_op', 7, 0, 0);
  const ipi = lib.data((d) => d.dd(0, 0));
  lib.call('bind an IPI', 0, 'event_channel_op', EVTCHN_OP.bindIpi, ipi);
  const port = mem({ label: ipi.label, disp: 4, size: 4 });
  const list = lib.data((d) => d.dd(0));
  const poll = lib.data((d) => d.dq(list).dd(1, 0).dq(0));
  const timeout = mem({ label: poll.label, disp: 16, size: 8 });
  asm.mov({ ...rcx, name: 'ecx', size: 4 }, port).mov(mem({ label: list.label }), { ...rcx, name: 'ecx', size: 4 });

  emitSystemTime(asm);
  asm
    .add(rax, 10 * MILLISECOND)
    .mov(rbx, rax)
    .mov(timeout, rax);
  lib.call('until a time', 0, 'sched_op', SCHED_OP.poll, poll);
  emitSystemTime(asm);
  asm.cmp(rax, rbx);
  lib.expectCondition('it waited', 'ae');
  asm.mov(timeout, 1);
  lib.call('until a time in the past', 0, 'sched_op', SCHED_OP.poll, poll);

  // Masked and with events off: poll still sees the port.
  asm.mov({ ...rcx, name: 'ecx', size: 4 }, port).lock();
  asm.bts(mem({ label: 'rt_shared_info', disp: 0xa00, size: 4 }), { ...rcx, name: 'ecx', size: 4 });
  asm.mov(timeout, 0);
  lib.call('send', 0, 'event_channel_op', EVTCHN_OP.send, addressOf(ipi.label, 4));
  lib.call('a pending port, for ever', 0, 'sched_op', SCHED_OP.poll, poll);

  const one = (value: number): LabelAddress => {
    const ports = lib.data((d) => d.dd(value));
    return lib.data((d) => d.dq(ports).dd(1, 0).dq(1));
  };
  lib.call('a port beyond all', -ERRNO.EINVAL, 'sched_op', SCHED_OP.poll, one(0x100000));
  lib.call(
    'too many ports',
    -ERRNO.EINVAL,
    'sched_op',
    SCHED_OP.poll,
    lib.data((d) => d.dq(0).dd(129, 0).dq(1)),
  );
  lib.call(
    'an unreadable list',
    -ERRNO.EFAULT,
    'sched_op',
    SCHED_OP.poll,
    lib.data((d) => d.dq(0x7000).dd(1, 0).dq(1)),
  );
  lib.call('an unreadable argument', -ERRNO.EFAULT, 'sched_op', SCHED_OP.poll, 0x7000);
  lib.call(
    'no ports, until a time in the past',
    0,
    'sched_op',
    SCHED_OP.poll,
    lib.data((d) => d.dq(0).dd(0, 0).dq(1)),
  );
});

testMicroGuest('watchdog: arguments', (_asm, lib) => {
  const slot = lib.data((d) => d.dd(0, 30));
  lib.call('a new watchdog', 1, 'sched_op', SCHED_OP.watchdog, slot);
  lib.call(
    'pet it',
    0,
    'sched_op',
    SCHED_OP.watchdog,
    lib.data((d) => d.dd(1, 30)),
  );
  lib.call(
    'stop it',
    0,
    'sched_op',
    SCHED_OP.watchdog,
    lib.data((d) => d.dd(1, 0)),
  );
  lib.call(
    'one that does not exist',
    -ERRNO.EINVAL,
    'sched_op',
    SCHED_OP.watchdog,
    lib.data((d) => d.dd(9, 1)),
  );
});

testMicroGuest('remote_shutdown is for control domains', (_asm, lib) => {
  const control = lib.data((d) => d.dw(0, 0).dd(0));
  lib.call('of domain 0', -ERRNO.EPERM, 'sched_op', SCHED_OP.remoteShutdown, control);
});

testMicroGuest('suspend', (_asm, lib) => lib.shutDown(SHUTDOWN.suspend), { outcome: { kind: 'suspend' } });

testMicroGuest('taking the last vCPU down powers off', (_asm, lib) => lib.hypercall('vcpu_op', 2, 0, 0));

testMicroGuest(
  'a watchdog nobody pets',
  (asm, lib) => {
    lib.call(
      'set for two seconds',
      1,
      'sched_op',
      SCHED_OP.watchdog,
      lib.data((d) => d.dd(0, 2)),
    );
    asm.label('sleep_on');
    lib.hypercall('sched_op', SCHED_OP.block, 0);
    asm.jmp('sleep_on');
  },
  { outcome: CRASH },
);

for (const [name, outcome] of [
  ['poweroff', { kind: 'poweroff' }],
  ['reboot', { kind: 'reboot' }],
  ['crash', CRASH],
] as const) {
  testMicroGuest(`shutdown: ${name}`, (_asm, lib) => lib.shutDown(SHUTDOWN[name]), { outcome });
}

testMicroGuest(
  'the old shutdown',
  (_asm, lib) => {
    lib.hypercall('sched_op_compat', SCHED_OP.shutdown, SHUTDOWN.reboot);
  },
  { outcome: { kind: 'reboot' } },
);
