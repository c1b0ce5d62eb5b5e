// SPDX-License-Identifier: MIT
// Micro-guests: HYPERVISOR_iret in all its forms, native iretq, system calls, stack_switch, callback registration.
import { expect } from 'vitest';
import { Assembler } from '../../../engine/x86/assembler/assembler.ts';
import {
  addressOf,
  eax,
  mem,
  r11,
  r12,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  type LabelAddress,
} from '../../../engine/x86/assembler/operands.ts';
import {
  CALLBACK,
  CALLBACK_OP,
  DOMID_SELF,
  ERRNO,
  FLAT_DS,
  FLAT_KERNEL_CS,
  FLAT_USER_CS,
  FLAT_USER_CS32,
  HYPERCALL,
  PTE_RO,
  PTE_RW,
} from '../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './lib/guest.ts';
import { syscallField } from './lib/user-mode.ts';
import { testMicroGuest } from './run.ts';

const CRASH = { kind: 'crash', reason: expect.any(String) as unknown } as const;
/** VGCF_in_syscall: return like SYSRET. */
const IN_SYSCALL = 0x100;
const MASK_EVENTS = 1;

function callback(lib: GuestLib, type: number, flags: number, handler: string | bigint): LabelAddress {
  return lib.data((a) =>
    a
      .dw(type, flags)
      .dd(0)
      .dq(typeof handler === 'string' ? addressOf(handler) : handler),
  );
}

const eventMask = mem({ label: 'rt_shared_info', disp: 1, size: 1 });

testMicroGuest('iret to the kernel', (asm, lib) => {
  for (const [name, cs] of [
    ['RPL 0', FLAT_KERNEL_CS],
    ['RPL 1', FLAT_KERNEL_CS | 1],
    ['RPL 2', FLAT_KERNEL_CS | 2],
  ] as const) {
    const back = asm.unique('back');
    asm.mov(rcx, 0x11).mov(r11, 0x22).mov(rax, 0x33).mov(rbx, 0x44);
    lib.iretTo(back, 'rt_stack_top', { cs, rflags: 0x3cd7 });
    asm.label(back).pushf().pop(r12).cld();
    lib.expect(`${name}: rax comes from the frame`, 0x33);
    lib.expectRegister(`${name}: rcx comes from the frame`, rcx, 0x11);
    lib.expectRegister(`${name}: r11 comes from the frame`, r11, 0x22);
    lib.expectRegister(`${name}: rbx is unchanged`, rbx, 0x44);
    lib.expectRegister(`${name}: rflags without IOPL, with IF`, r12, 0xed7);
    asm.lea(rax, mem({ base: rsp }));
    lib.expect(`${name}: rsp`, addressOf('rt_stack_top'));
    asm.movFromSegment(eax, { kind: 'sreg', name: 'cs', code: 1 });
    lib.expect(`${name}: cs`, FLAT_USER_CS);
    lib.expectMemory(`${name}: IF 0 masks events`, eventMask, 1);
  }
  const open = asm.unique('open');
  lib.iretTo(open, 'rt_stack_top', { cs: FLAT_KERNEL_CS, rflags: 0x202 });
  asm.label(open);
  lib.expectMemory('IF 1 opens the mask', eventMask, 0);
});

testMicroGuest('iret to user mode and system calls', (asm, lib) => {
  lib.setUpUserMode();
  const user = asm.unique('user');
  const after = asm.unique('after');
  asm.mov(rbx, 0x5150);
  lib.user(() => {
    asm.label(user).mov(r12, rcx).mov(rax, 0x99).mov(rcx, 0x1).mov(r11, 0x2).push(0x8d7).popf().syscall().label(after);
  });
  lib.expectMemory('rax reaches the entry point', syscallField('rax'), 0x99);
  lib.expectMemory(
    'frame on the kernel stack, no error code',
    syscallField('frame'),
    addressOf('rt_kernel_stack_top', -56),
  );
  lib.expectMemory('rcx slot is rip', syscallField('rcx'), addressOf(after));
  lib.expectMemory('r11 slot is rflags', syscallField('r11'), 0xad7);
  lib.expectMemory('rip slot is after the instruction', syscallField('rip'), addressOf(after));
  asm.mov(rax, syscallField('cs')).and(eax, 0xffff);
  lib.expect('cs slot names user mode', FLAT_USER_CS);
  lib.expectMemory('rflags slot has IF as the mask says', syscallField('rflags'), 0x8d7);
  lib.expectMemory('rsp slot', syscallField('rsp'), addressOf('rt_user_stack_top'));
  lib.expectMemory('ss slot', syscallField('ss'), FLAT_DS);
  lib.expectMemory('the entry point runs with events as they were', syscallField('mask'), 1);
  lib.expectRegister('rbx went through', rbx, 0x5150);

  lib.call(
    'mask events on entry',
    0,
    'callback_op',
    CALLBACK_OP.register,
    callback(lib, CALLBACK.syscall, MASK_EVENTS, 'rt_syscall'),
  );
  lib.user(() => asm.mov(rax, 1), { rflags: 0x202 });
  lib.expectMemory('masked', syscallField('mask'), 1);
  asm.mov(rax, syscallField('cs')).shr(rax, 32);
  lib.expect('the saved mask was open', 0);
  lib.call(
    'do not mask events on entry',
    0,
    'callback_op',
    CALLBACK_OP.register,
    callback(lib, CALLBACK.syscall, 0, 'rt_syscall'),
  );
  lib.user(() => asm.mov(rax, 1), { rflags: 0x202 });
  lib.expectMemory('not masked', syscallField('mask'), 0);
  lib.maskEvents();

  // SYSRET style: rcx and r11 are not taken from the frame but hold rip and rflags.
  const fast = asm.unique('fast');
  const back = asm.unique('back');
  asm
    .mov(rax, addressOf(back))
    .mov(mem({ label: 'rt_user_return' }), rax)
    .mov(mem({ label: 'rt_user_return_rsp' }), rsp);
  asm.mov(rcx, 0x111).mov(r11, 0x222);
  lib.iretTo(fast, 'rt_user_stack_top', { cs: FLAT_USER_CS, rflags: 0x8d7, flags: IN_SYSCALL });
  asm.label(fast).mov(rbx, rcx).mov(r12, r11).syscall().label(back);
  lib.expectRegister('in_syscall: rcx is rip', rbx, addressOf(fast));
  lib.expectRegister('in_syscall: r11 is rflags', r12, 0xad7);

  lib.arm();
  const trap = asm.unique('trap');
  lib.user(() => asm.int3().label(trap).mov(rax, 0x77));
  lib.expectTrapRecord('a trap from user mode', { vector: 3, error: 'none', rip: trap });
  lib.expectMemory('user mode went on after it', syscallField('rax'), 0x77);
});

testMicroGuest('a system call without an entry point is #UD', (asm, lib) => {
  lib.setUpUserMode();
  lib.call('unregister', 0, 'callback_op', CALLBACK_OP.register, callback(lib, CALLBACK.syscall, 0, 0n));
  const gate = lib.data((a) => a.bytes([0x80, 3]).dw(FLAT_USER_CS).dd(0).dq(addressOf('rt_syscall')).dq(0, 0));
  lib.call('another way back', 0, 'set_trap_table', gate);
  const user = asm.unique('user');
  const resume = asm.unique('resume');
  const back = asm.unique('back');
  asm
    .mov(rax, addressOf(back))
    .mov(mem({ label: 'rt_user_return' }), rax)
    .mov(mem({ label: 'rt_user_return_rsp' }), rsp);
  lib.arm(resume);
  lib.iretTo(user, 'rt_user_stack_top', { cs: FLAT_USER_CS });
  asm.label(user).syscall().label(resume).int(0x80).label(back);
  lib.expectTrapRecord('syscall', { vector: 6, error: 'none', rip: user });
});

testMicroGuest(
  'iret to user mode without a user root crashes the domain',
  (asm, lib) => {
    const user = asm.unique('user');
    lib.iretTo(user, 'rt_user_stack_top', { cs: FLAT_USER_CS });
    asm.label(user).ud2();
  },
  { outcome: CRASH },
);

testMicroGuest(
  'iret with an unreadable frame crashes the domain',
  (asm) => {
    asm.mov(rsp, 0x7000).mov(eax, HYPERCALL.iret).syscall();
  },
  { outcome: CRASH },
);

testMicroGuest('user mode in 32 bits', (asm, lib) => {
  // The code must lie below 4 GiB: slot 0 of the kernel's own top level gets a page at 0x5000.
  const [l3, l2, l1, code] = [lib.pages('l3'), lib.pages('l2'), lib.pages('l1'), lib.pages('code')];
  const program = new Assembler(32);
  program.mov(eax, 0x1234).int(0x80).mov(eax, 0x5678).syscall();
  const bytes = program.link(0x5000n).sections[0].bytes;
  const source = lib.data((d) => d.bytes(bytes));
  asm
    .cld()
    .lea(rsi, mem({ label: source.label }))
    .lea(rdi, mem({ label: code }))
    .mov(rcx, bytes.length)
    .rep()
    .movs(1);
  const link = (table: string, index: number, target: string): void => {
    lib.machineAddress(target);
    asm.or(rax, PTE_RW).mov(mem({ label: table, disp: index * 8 }), rax);
  };
  link(l3, 0, l2);
  link(l2, 0, l1);
  link(l1, 5, code);
  for (const table of [l3, l2, l1]) lib.remap(table, table, PTE_RO);
  const block = lib.data((d) => d.dq(0, 0)).label;
  lib.walk(code, 4);
  asm.and(rdx, ~0xfff).mov(mem({ label: block }), rdx);
  lib.machineAddress(l3);
  asm.or(rax, PTE_RW).mov(mem({ label: block, disp: 8 }), rax);
  lib.call('hook the tables up', 0, 'mmu_update', addressOf(block), 1, 0, DOMID_SELF);

  lib.setUpUserMode();
  lib.call('syscall32', 0, 'callback_op', CALLBACK_OP.register, callback(lib, CALLBACK.syscall32, 0, 'rt_syscall'));
  const gate = lib.data((a) => a.bytes([0x80, 3]).dw(FLAT_USER_CS).dd(0).dq(addressOf('rt_syscall')).dq(0, 0));
  lib.call('int 0x80', 0, 'set_trap_table', gate);
  const enter = (rip: number): void => {
    const back = asm.unique('back');
    asm
      .mov(rax, addressOf(back))
      .mov(mem({ label: 'rt_user_return' }), rax)
      .mov(mem({ label: 'rt_user_return_rsp' }), rsp);
    asm.push(FLAT_DS).push(0x5800).push(2).push(FLAT_USER_CS32).push(rip).push(0).push(rcx).push(r11).push(rax);
    asm.mov(eax, HYPERCALL.iret).syscall().label(back);
  };
  enter(0x5000);
  lib.expectMemory('int 0x80: eax', syscallField('rax'), 0x1234);
  lib.expectMemory('int 0x80: rip', syscallField('rip'), 0x5007);
  asm.mov(rax, syscallField('cs')).and(eax, 0xffff);
  lib.expect('int 0x80: cs', FLAT_USER_CS32);
  lib.expectMemory('int 0x80: rsp', syscallField('rsp'), 0x5800);
  enter(0x5007);
  lib.expectMemory('syscall: eax', syscallField('rax'), 0x5678);
  lib.expectMemory('syscall: rip', syscallField('rip'), 0x5000 + bytes.length);
  asm.mov(rax, syscallField('cs')).and(eax, 0xffff);
  lib.expect('syscall: cs', FLAT_USER_CS32);
});

testMicroGuest('native iretq within the kernel', (asm, lib) => {
  const back = asm.unique('back');
  asm.mov(rbx, rsp).push(FLAT_DS).push(rbx).push(0x8d7).push(FLAT_USER_CS).push(addressOf(back)).iret();
  asm.label(back).pushf().pop(rax);
  lib.expect('IF cannot be cleared, the other flags come from the frame', 0xad7);
  asm.mov(rax, rsp).sub(rax, rbx);
  lib.expect('rsp', 0);
  lib.expectMemory('the event mask is not touched', eventMask, 1);
});

testMicroGuest('stack_switch', (asm, lib) => {
  lib.setUpUserMode();
  lib.call('another stack', 0, 'stack_switch', FLAT_DS, addressOf('rt_kernel_stack_top', -0x105));
  lib.user(() => asm.mov(rax, 1));
  lib.expectMemory(
    'frames go there, aligned to 16',
    syscallField('frame'),
    addressOf('rt_kernel_stack_top', -0x110 - 56),
  );
  lib.call('selector with RPL 0', 0, 'stack_switch', FLAT_DS & ~3, addressOf('rt_kernel_stack_top'));
  lib.user(() => asm.mov(rax, 1));
  lib.expectMemory('is corrected', syscallField('frame'), addressOf('rt_kernel_stack_top', -56));
});

testMicroGuest('callback_op and set_callbacks', (_asm, lib) => {
  const register = (type: number, flags = 0, handler: string | bigint = 'rt_event'): LabelAddress =>
    callback(lib, type, flags, handler);
  for (const [name, type] of Object.entries(CALLBACK)) {
    lib.call(`register ${name}`, 0, 'callback_op', CALLBACK_OP.register, register(type));
  }
  lib.call(
    'register failsafe, masking events',
    0,
    'callback_op',
    CALLBACK_OP.register,
    register(CALLBACK.failsafe, MASK_EVENTS),
  );
  lib.call('unknown type', -ERRNO.ENOSYS, 'callback_op', CALLBACK_OP.register, register(9));
  lib.call('unknown operation', -ERRNO.ENOSYS, 'callback_op', 7, register(CALLBACK.event));
  lib.call(
    'non-canonical handler',
    -ERRNO.EINVAL,
    'callback_op',
    CALLBACK_OP.register,
    register(CALLBACK.event, 0, 1n << 60n),
  );
  lib.call('unreadable argument', -ERRNO.EFAULT, 'callback_op', CALLBACK_OP.register, 0x7000);
  const unregister = (type: number): LabelAddress => lib.data((a) => a.dw(type, 0));
  lib.call('unregister nmi', 0, 'callback_op', CALLBACK_OP.unregister, unregister(CALLBACK.nmi));
  lib.call('unregister event', -ERRNO.EINVAL, 'callback_op', CALLBACK_OP.unregister, unregister(CALLBACK.event));
  lib.call('set_callbacks', 0, 'set_callbacks', addressOf('rt_event'), addressOf('rt_event'), addressOf('rt_syscall'));
});
