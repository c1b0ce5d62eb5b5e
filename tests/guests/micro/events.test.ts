// SPDX-License-Identifier: MIT
// Micro-guests: event_channel_op with all sub-operations, and the rules by which events are delivered.
import {
  addressOf,
  eax,
  ecx,
  mem,
  r12,
  rax,
  rbx,
  rcx,
  rdx,
  rsp,
  type LabelAddress,
  type Memory,
} from '../../../engine/x86/assembler/operands.ts';
import {
  DOMID_SELF,
  ERRNO,
  EVTCHN_OP,
  FLAT_KERNEL_CS,
  FLAT_USER_CS,
  SHARED_INFO,
  VIRQ,
} from '../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './lib/guest.ts';
import { testMicroGuest } from './run.ts';

const STATUS = { closed: 0, unbound: 1, interdomain: 2, pirq: 3, virq: 4, ipi: 5 } as const;
type Port = Memory;

/** Binds an IPI of vCPU 0 to a new port. */
function bindIpi(lib: GuestLib, check = 'bind an IPI'): Port {
  const op = lib.data((d) => d.dd(0, 0));
  lib.call(check, 0, 'event_channel_op', EVTCHN_OP.bindIpi, op);
  return mem({ label: op.label, disp: 4, size: 4 });
}

/** An operation whose argument starts with the port number. */
function onPort(lib: GuestLib, check: string, result: number, op: number, port: Port | number, second = 0): void {
  const argument = lib.data((d) => d.dd(typeof port === 'number' ? port : 0, second));
  if (typeof port !== 'number') lib.asm.mov(ecx, port).mov(mem({ label: argument.label }), ecx);
  lib.call(check, result, 'event_channel_op', op, argument);
}

/** Checks status (and vCPU) of a port. */
function expectStatus(lib: GuestLib, check: string, port: Port, status: number): LabelAddress {
  const argument = lib.data((d) => d.dw(DOMID_SELF, 0).dd(0, 99, 99, 0, 0));
  lib.asm.mov(ecx, port).mov(mem({ label: argument.label, disp: 4 }), ecx);
  lib.hypercall('event_channel_op', EVTCHN_OP.status, argument);
  lib.asm.mov(eax, mem({ label: argument.label, disp: 8 }));
  lib.expect(check, status);
  return argument;
}

/** CF = the port's bit in a bitmap of shared_info. */
function testBit(lib: GuestLib, bitmap: number, port: Port): void {
  lib.asm.mov(ecx, port).bt(mem({ label: 'rt_shared_info', disp: bitmap, size: 4 }), ecx);
}

function setMask(lib: GuestLib, port: Port): void {
  lib.asm
    .mov(ecx, port)
    .lock()
    .bts(mem({ label: 'rt_shared_info', disp: SHARED_INFO.eventMask, size: 4 }), ecx);
}

const upcallPending = mem({ label: 'rt_shared_info', disp: 0, size: 1 });
const upcallMask = mem({ label: 'rt_shared_info', disp: 1, size: 1 });

testMicroGuest('the start: everything masked by the upcall mask, nothing by port', (asm, lib) => {
  lib.expectMemory('upcall mask', upcallMask, 1);
  asm
    .mov(rbx, 0)
    .mov(rcx, 0)
    .lea(rdx, mem({ label: 'rt_shared_info', disp: SHARED_INFO.eventMask }));
  const next = asm.unique('next');
  asm
    .label(next)
    .or(rbx, mem({ base: rdx, index: rcx, scale: 8 }))
    .inc(rcx)
    .cmp(rcx, 64)
    .j('b', next);
  lib.expectRegister('port masks', rbx, 0);
  lib.expectMemory('upcall mask of vCPU 1', mem({ label: 'rt_shared_info', disp: 65, size: 1 }), 1);
});

testMicroGuest('an IPI is delivered when the mask opens', (asm, lib) => {
  lib.setUpEvents();
  const port = bindIpi(lib);
  onPort(lib, 'send', 0, EVTCHN_OP.send, port);
  lib.expectMemory('upcall pending', upcallPending, 1);
  testBit(lib, SHARED_INFO.pendingEvents, port);
  lib.expectCondition('port pending', 'c');
  lib.expectMemory('selector', mem({ label: 'rt_shared_info', disp: 8, size: 8 }), 1);
  lib.expectMemory('not delivered while masked', lib.event('count'), 0);

  const store = asm.unique('store');
  asm.mov(upcallMask, 0).label(store);
  lib.hypercall('xen_version', 0, 0);
  lib.expectMemory('delivered', lib.event('count'), 1);
  lib.expectMemory('the entry point runs masked', lib.event('mask'), 1);
  lib.expectMemory('the saved mask is open and RPL is 0', lib.event('cs'), FLAT_KERNEL_CS);
  asm.mov(rax, lib.event('rflags')).and(eax, 0x200);
  lib.expect('IF shows an open mask', 0x200);
  lib.expectMemory('upcall_pending is left to the guest', lib.event('pending'), 1);
  lib.expectMemory('the mask is open again', upcallMask, 0);
  lib.takeEvent(port);
  lib.expect('it was this port', 1);
  asm.mov(rax, lib.event('rsp')).and(rax, ~15).sub(rax, lib.event('frame'));
  lib.expect('frame of seven words, aligned', 56);

  onPort(lib, 'send with the mask open', 0, EVTCHN_OP.send, port);
  lib.expectMemory('delivered at once', lib.event('count'), 2);
  lib.takeEvent(port);
  lib.expect('again this port', 1);
});

testMicroGuest('a masked port stays pending until it is unmasked', (asm, lib) => {
  lib.setUpEvents();
  lib.unmaskEvents();
  const port = bindIpi(lib);
  setMask(lib, port);
  onPort(lib, 'send', 0, EVTCHN_OP.send, port);
  testBit(lib, SHARED_INFO.pendingEvents, port);
  lib.expectCondition('pending', 'c');
  lib.expectMemory('no upcall', lib.event('count'), 0);
  lib.expectMemory('nothing in upcall_pending', upcallPending, 0);
  onPort(lib, 'unmask', 0, EVTCHN_OP.unmask, port);
  lib.expectMemory('delivered', lib.event('count'), 1);
  testBit(lib, SHARED_INFO.eventMask, port);
  lib.expectCondition('the mask bit is clear', 'nc');
  onPort(lib, 'unmask again', 0, EVTCHN_OP.unmask, port);
  lib.expectMemory('nothing to deliver', lib.event('count'), 1);

  // A second notification before the first was taken is one event.
  lib.maskEvents();
  onPort(lib, 'send twice', 0, EVTCHN_OP.send, port);
  onPort(lib, '(second)', 0, EVTCHN_OP.send, port);
  lib.unmaskEvents();
  lib.expectMemory('is one upcall', lib.event('count'), 2);
  asm.nop();
});

testMicroGuest('an event that arrives in user mode', (asm, lib) => {
  lib.setUpEvents();
  lib.setUpUserMode();
  const port = bindIpi(lib);
  onPort(lib, 'send', 0, EVTCHN_OP.send, port);
  const user = asm.unique('user');
  lib.user(() => asm.label(user).mov(eax, 1), { rflags: 0x202 });
  lib.expectMemory('delivered', lib.event('count'), 1);
  lib.expectMemory('before the first instruction', lib.event('rip'), addressOf(user));
  lib.expectMemory('cs slot', lib.event('cs'), FLAT_USER_CS);
  lib.expectMemory('rsp slot', lib.event('rsp'), addressOf('rt_user_stack_top'));
  lib.expectMemory('frame on the kernel stack', lib.event('frame'), addressOf('rt_kernel_stack_top', -56));
});

testMicroGuest('iret, traps and events: the mask follows', (asm, lib) => {
  lib.setUpEvents();
  const port = bindIpi(lib);
  onPort(lib, 'send', 0, EVTCHN_OP.send, port);
  lib.expectTrap('a trap while an event waits', { vector: 6, error: 'none' }, () => asm.ud2());
  lib.expectMemory('delivers nothing', lib.event('count'), 0);
  const open = asm.unique('open');
  lib.iretTo(open, 'rt_stack_top', { cs: FLAT_KERNEL_CS, rflags: 0x202 });
  asm.label(open);
  lib.expectMemory('iret with IF delivers', lib.event('count'), 1);
  lib.expectMemory('at its target', lib.event('rip'), addressOf(open));
  asm.mov(rax, rsp);
  lib.expect('and comes back there', addressOf('rt_stack_top'));
  lib.takeEvent(port);
  lib.expect('the port', 1);
});

testMicroGuest('VIRQs', (asm, lib) => {
  const bind = (check: string, result: number, virq: number, vcpu: number): Port => {
    const op = lib.data((d) => d.dd(virq, vcpu, 0));
    lib.call(check, result, 'event_channel_op', EVTCHN_OP.bindVirq, op);
    return mem({ label: op.label, disp: 8, size: 4 });
  };
  const timer = bind('TIMER', 0, VIRQ.timer, 0);
  const status = expectStatus(lib, 'status', timer, STATUS.virq);
  lib.expectMemory('status: vCPU', mem({ label: status.label, disp: 12, size: 4 }), 0);
  lib.expectMemory('status: VIRQ', mem({ label: status.label, disp: 16, size: 4 }), VIRQ.timer);
  bind('TIMER twice', -ERRNO.EEXIST, VIRQ.timer, 0);
  bind('DEBUG', 0, VIRQ.debug, 0);
  bind('a vCPU that does not exist', -ERRNO.ENOENT, VIRQ.timer, 7);
  bind('a VIRQ that does not exist', -ERRNO.EINVAL, 24, 0);
  bind('a VIRQ beyond all', -ERRNO.EINVAL, 0xffffffff, 0);
  onPort(lib, 'a VIRQ cannot be sent', -ERRNO.EINVAL, EVTCHN_OP.send, timer);
  onPort(lib, 'nor moved', -ERRNO.EINVAL, EVTCHN_OP.bindVcpu, timer);
  onPort(lib, 'close', 0, EVTCHN_OP.close, timer);
  expectStatus(lib, 'closed', timer, STATUS.closed);
  bind('TIMER again', 0, VIRQ.timer, 0);
  asm.nop();
});

testMicroGuest('unbound and interdomain channels', (asm, lib) => {
  lib.setUpEvents();
  const alloc = lib.data((d) => d.dw(DOMID_SELF, DOMID_SELF).dd(0));
  lib.call('alloc_unbound', 0, 'event_channel_op', EVTCHN_OP.allocUnbound, alloc);
  const first = mem({ label: alloc.label, disp: 4, size: 4 });
  expectStatus(lib, 'unbound', first, STATUS.unbound);
  onPort(lib, 'a send to nobody is dropped', 0, EVTCHN_OP.send, first);

  const bind = lib.data((d) => d.dw(DOMID_SELF, 0).dd(0, 0));
  asm.mov(ecx, first).mov(mem({ label: bind.label, disp: 4 }), ecx);
  lib.call('bind_interdomain', 0, 'event_channel_op', EVTCHN_OP.bindInterdomain, bind);
  const second = mem({ label: bind.label, disp: 8, size: 4 });
  const status = expectStatus(lib, 'interdomain', second, STATUS.interdomain);
  asm.mov(eax, mem({ label: status.label, disp: 20 })).sub(eax, first);
  lib.expect('status names the other port', 0);
  testBit(lib, SHARED_INFO.pendingEvents, second);
  lib.expectCondition('the new port is pending once', 'c');
  lib.unmaskEvents();
  lib.takeEvent(second);
  lib.expect('and delivered', 1);
  onPort(lib, 'send to the other end', 0, EVTCHN_OP.send, second);
  lib.takeEvent(first);
  lib.expect('arrives there', 1);
  onPort(lib, 'and back', 0, EVTCHN_OP.send, first);
  lib.takeEvent(second);
  lib.expect('arrives here', 1);
  onPort(lib, 'bind_vcpu', 0, EVTCHN_OP.bindVcpu, first, 0);
  onPort(lib, 'bind_vcpu to a vCPU that does not exist', -ERRNO.ENOENT, EVTCHN_OP.bindVcpu, first, 9);
  onPort(lib, 'close one end', 0, EVTCHN_OP.close, second);
  expectStatus(lib, 'the other is unbound again', first, STATUS.unbound);

  const again = lib.data((d) => d.dw(DOMID_SELF, 0).dd(4000, 0));
  lib.call('bind to a port that is not there', -ERRNO.EINVAL, 'event_channel_op', EVTCHN_OP.bindInterdomain, again);
  const stranger = lib.data((d) => d.dw(77, 0).dd(1, 0));
  lib.call('bind to a domain that is not there', -ERRNO.ESRCH, 'event_channel_op', EVTCHN_OP.bindInterdomain, stranger);
});

testMicroGuest('ports: refusals', (asm, lib) => {
  for (const [name, op] of [
    ['close', EVTCHN_OP.close],
    ['send', EVTCHN_OP.send],
    ['unmask', EVTCHN_OP.unmask],
    ['bind_vcpu', EVTCHN_OP.bindVcpu],
  ] as const) {
    if (name !== 'unmask') onPort(lib, `${name} of port 0`, -ERRNO.EINVAL, op, 0);
    onPort(lib, `${name} of a port beyond all`, -ERRNO.EINVAL, op, 0x100000);
    lib.call(`${name} with an unreadable argument`, -ERRNO.EFAULT, 'event_channel_op', op, 0x7000);
  }
  onPort(lib, 'send to a closed port', -ERRNO.EINVAL, EVTCHN_OP.send, 500);
  onPort(lib, 'close of a closed port', -ERRNO.EINVAL, EVTCHN_OP.close, 500);
  const ipi = bindIpi(lib);
  onPort(lib, 'an IPI cannot be moved', -ERRNO.EINVAL, EVTCHN_OP.bindVcpu, ipi);
  const badIpi = lib.data((d) => d.dd(9, 0));
  lib.call('IPI of a vCPU that does not exist', -ERRNO.ENOENT, 'event_channel_op', EVTCHN_OP.bindIpi, badIpi);
  lib.call('unknown operation', -ERRNO.ENOSYS, 'event_channel_op', 99, badIpi);
  const stranger = lib.data((d) => d.dw(77, 0).dd(1, 0, 0, 0, 0));
  lib.call('status in another domain', -ERRNO.ESRCH, 'event_channel_op', EVTCHN_OP.status, stranger);
  const beyond = lib.data((d) => d.dw(DOMID_SELF, 0).dd(0x100000, 0, 0, 0, 0));
  lib.call('status of a port beyond all', -ERRNO.EINVAL, 'event_channel_op', EVTCHN_OP.status, beyond);
  asm.nop();
});

testMicroGuest('FIFO operations validate before anything else', (_asm, lib) => {
  const control = lib.data((d) => d.dq(0xfffffffffffffffen).dd(0, 0).dq(0));
  lib.call('init_control with a bad frame', -ERRNO.EINVAL, 'event_channel_op', EVTCHN_OP.initControl, control);
  const array = lib.data((d) => d.dq(0xfffffffffffffffen));
  lib.hypercall('event_channel_op', EVTCHN_OP.expandArray, array);
  lib.asm
    .add(rax, ERRNO.EOPNOTSUPP)
    .mov(rbx, rax)
    .add(rbx, ERRNO.ENOSYS - ERRNO.EOPNOTSUPP);
  lib.asm.imul(rax, rbx);
  lib.expect('expand_array without a control block: ENOSYS or EOPNOTSUPP', 0);
});

testMicroGuest('ports run out with ENOSPC', (asm, lib) => {
  const op = lib.data((d) => d.dd(0, 0));
  const next = asm.unique('next');
  asm.mov(r12, 0).label(next);
  lib.hypercall('event_channel_op', EVTCHN_OP.bindIpi, op);
  asm.inc(r12).cmp(r12, 5000).j('a', 'too_many').test(rax, rax).j('z', next);
  asm.label('too_many');
  lib.expect('the error', -ERRNO.ENOSPC);
  asm.cmp(r12, 1000);
  lib.expectCondition('after about a thousand or four thousand', 'a');
  lib.call(
    'reset closes them all',
    0,
    'event_channel_op',
    EVTCHN_OP.reset,
    lib.data((d) => d.dw(DOMID_SELF)),
  );
  lib.call('so that there is room again', 0, 'event_channel_op', EVTCHN_OP.bindIpi, op);
});

testMicroGuest('operations for domains with devices or FIFO events', (_asm, lib) => {
  const port = bindIpi(lib);
  onPort(lib, 'set_priority', -ERRNO.ENOSYS, EVTCHN_OP.setPriority, port, 3);
  const pirq = lib.data((d) => d.dd(9, 0, 0));
  lib.call('bind_pirq', -ERRNO.EPERM, 'event_channel_op', EVTCHN_OP.bindPirq, pirq);
  lib.call(
    'of a number beyond all',
    -ERRNO.EINVAL,
    'event_channel_op',
    EVTCHN_OP.bindPirq,
    lib.data((d) => d.dd(0x7fffffff, 0, 0)),
  );
});

testMicroGuest('the old event_channel_op', (asm, lib) => {
  const bind = lib.data((d) => d.dd(EVTCHN_OP.bindIpi, 0, 0, 0, 0, 0, 0));
  lib.call('bind_ipi', 0, 'event_channel_op_compat', bind);
  asm.mov(ecx, mem({ label: bind.label, disp: 8 })).test(ecx, ecx);
  lib.expectCondition('a port came back', 'nz');
  lib.call(
    'unknown',
    -ERRNO.ENOSYS,
    'event_channel_op_compat',
    lib.data((d) => d.dd(99, 0, 0, 0, 0, 0, 0)),
  );
});
