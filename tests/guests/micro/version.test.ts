// SPDX-License-Identifier: MIT
// Micro-guests: xen_version, console_io, vm_assist, hypercalls that do not exist or are not for guests.
import { expect } from 'vitest';
import { addressOf, al, eax, ecx, mem, rax, rbx, rcx, rdi, rdx } from '../../../engine/x86/assembler/operands.ts';
import { ERRNO } from '../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './lib/guest.ts';
import { testMicroGuest } from './run.ts';

/** Checks that a buffer holds a text of at least `minimum` characters and that everything after its NUL is 0. */
function expectPadded(lib: GuestLib, name: string, buffer: string, size: number, minimum: number): void {
  const { asm } = lib;
  asm
    .cld()
    .lea(rdi, mem({ label: buffer }))
    .mov(eax, 0)
    .mov(ecx, size)
    .repne()
    .scas(1);
  asm.lea(rbx, mem({ label: buffer, disp: 1 + minimum })).cmp(rdi, rbx);
  lib.expectCondition(`${name}: not shorter than ${minimum.toString()}`, 'ae');
  asm.mov(eax, 0).rep().scas(1);
  lib.expectRegister(`${name}: nothing but NULs after the text`, rcx, 0);
}

testMicroGuest('xen_version', (asm, lib) => {
  lib.hypercall('xen_version', 0, 0);
  asm.mov(rbx, rax).shr(rax, 16);
  lib.expect('major version', 4);
  lib.hypercall('xen_version', 0, 0x7000);
  asm.sub(rax, rbx);
  lib.expect('the argument of version is ignored', 0);

  const buffer = lib.pages('buffer', 2);
  const filled = (command: number, name: string, result: number): void => {
    asm
      .cld()
      .lea(rdi, mem({ label: buffer }))
      .mov(eax, 0xff)
      .mov(ecx, 8192)
      .rep()
      .stos(1);
    lib.call(name, result, 'xen_version', command, addressOf(buffer));
  };
  for (const [command, name, size, minimum] of [
    [1, 'extraversion', 16, 2],
    [3, 'capabilities', 1024, 14],
    [4, 'changeset', 64, 0],
    [9, 'command line', 1024, 0],
  ] as const) {
    filled(command, name, 0);
    expectPadded(lib, name, buffer, size, minimum);
    lib.expectMemory(`${name}: nothing written behind it`, mem({ label: buffer, disp: size, size: 4 }), 0xffffffff);
    lib.call(`${name} to an unwritable place`, -ERRNO.EFAULT, 'xen_version', command, 0x7000);
  }
  filled(3, 'capabilities again', 0);
  asm.mov(rax, mem({ label: buffer }));
  lib.expect('capabilities begin with xen-3.0-', 0x2d302e332d6e6578n);
  asm.mov(eax, mem({ label: buffer, disp: 8 }));
  lib.expect('capabilities name x86_64', 0x5f363878);

  filled(2, 'compile info', 0);
  for (const [name, offset, size] of [
    ['compiler', 0, 64],
    ['compiled by', 64, 16],
    ['compile domain', 80, 32],
    ['compile date', 112, 32],
  ] as const) {
    asm
      .cld()
      .lea(rdi, mem({ label: buffer, disp: offset }))
      .mov(eax, 0)
      .mov(ecx, size)
      .repne()
      .scas(1);
    asm.rep().scas(1);
    lib.expectRegister(`${name}: NUL padded`, rcx, 0);
  }
  filled(5, 'platform parameters', 0);
  lib.expectMemory('virt_start', mem({ label: buffer, size: 8 }), 0xffff800000000000n);

  const features = lib.data((a) => a.dd(0, 0));
  lib.call('features', 0, 'xen_version', 6, features);
  asm
    .mov(eax, mem({ label: features.label, disp: 4 }))
    .mov(rbx, rax)
    .and(eax, 0x200e0);
  lib.expect('features 5, 6, 7 and 17', 0x200e0);
  asm.mov(rax, rbx).and(eax, 0x0f);
  lib.expect('none of features 0 to 3', 0);
  const beyond = lib.data((a) => a.dd(1, 0));
  lib.call('features, second word', -ERRNO.EINVAL, 'xen_version', 6, beyond);
  lib.call('page size', 4096, 'xen_version', 7, 0);
  filled(8, 'guest handle', 0);
  lib.expectMemory('guest handle: 16 bytes', mem({ label: buffer, disp: 16, size: 4 }), 0xffffffff);
  lib.call('build id', -ERRNO.ENODATA, 'xen_version', 10, 0);
  lib.call('unknown command', -ERRNO.ENOSYS, 'xen_version', 99, 0);
});

testMicroGuest(
  'console_io',
  (asm, lib) => {
    const text = lib.data((a) => a.ascii('written by console_io\n'));
    lib.call('write', 0, 'console_io', 0, 22, text);
    lib.call('write nothing', 0, 'console_io', 0, 0, text);
    const long = lib.data((a) => a.ascii('x'.repeat(3000)).ascii('\n'));
    lib.call('write a long text', 0, 'console_io', 0, 3001, long);
    lib.call('unknown command', -ERRNO.ENOSYS, 'console_io', 9, 1, text);
    lib.call('write from an unreadable place', -ERRNO.EFAULT, 'console_io', 0, 16, 0x7000);
    lib.call('read when nothing was typed', 0, 'console_io', 1, 16, text);
    asm.mov(al, 0);
  },
  {
    verify: ({ output }) => {
      expect(output).toContain('written by console_io\n');
      expect(output.replaceAll('\r', '')).toContain(`\n${'x'.repeat(3000)}\n`);
    },
  },
);

testMicroGuest('vm_assist', (_asm, lib) => {
  for (const type of [0, 1, 2, 3, 4, 5]) {
    lib.call(`enable ${type.toString()}`, 0, 'vm_assist', 0, type);
    lib.call(`disable ${type.toString()}`, 0, 'vm_assist', 1, type);
  }
  lib.call('unknown type', -ERRNO.EINVAL, 'vm_assist', 0, 17);
  lib.call('type beyond the word', -ERRNO.EINVAL, 'vm_assist', 0, 64);
  lib.call('unknown command', -ERRNO.ENOSYS, 'vm_assist', 2, 2);
});

testMicroGuest('hypercalls that are not there', (asm, lib) => {
  asm.mov(rbx, 0x1234).mov(rdx, 0x5678);
  for (const number of [11, 44, 47, 56, 63, 64, 100, 1000]) {
    lib.call(`hypercall ${number.toString()}`, -ERRNO.ENOSYS, number);
  }
  lib.call('number -1', -ERRNO.ENOSYS, -1);
  lib.expectRegister('other registers are left alone', rdx, 0x5678);
  lib.call('xenoprof_op', -ERRNO.ENOSYS, 'xenoprof_op', 0);
  lib.call('argo_op', -ERRNO.ENOSYS, 'argo_op', 0);
});

testMicroGuest('hypercalls for control domains only', (_asm, lib) => {
  const zeros = lib.pages('zeros');
  for (const name of ['sysctl', 'domctl'] as const) {
    lib.call(name, -ERRNO.EPERM, name, addressOf(zeros));
  }
  lib.call('update_va_mapping_otherdomain', -ERRNO.ESRCH, 'update_va_mapping_otherdomain', addressOf(zeros), 0, 0, 77);
});
