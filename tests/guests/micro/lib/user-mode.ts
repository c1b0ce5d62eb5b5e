// SPDX-License-Identifier: MIT
// Guest code that enters user mode through HYPERVISOR_iret and comes back by a system call.
import type { Assembler } from '../../../../engine/x86/assembler/assembler.ts';
import {
  addressOf,
  eax,
  mem,
  r11,
  rax,
  rcx,
  rdi,
  rsp,
  type Memory,
} from '../../../../engine/x86/assembler/operands.ts';
import { emitHypercall } from '../../../../main/demo-guest/hypercall.ts';
import {
  CALLBACK,
  CALLBACK_OP,
  DOMID_SELF,
  FLAT_DS,
  MMUEXT,
  START_INFO,
  VCPU_INFO,
} from '../../../../main/demo-guest/xen-abi.ts';

/** Fields of `rt_syscall_record`: the frame of the last system call, and rax as user code passed it. */
export const SYSCALL = {
  frame: 0,
  rcx: 8,
  r11: 16,
  rip: 24,
  cs: 32,
  rflags: 40,
  rsp: 48,
  ss: 56,
  mask: 64,
  rax: 72,
} as const;
export type SyscallField = keyof typeof SYSCALL;

export function syscallField(name: SyscallField): Memory {
  return mem({ label: 'rt_syscall_record', disp: SYSCALL[name], size: 8 });
}

/** Emits the system-call entry point and `rt_user_setup`. */
export function emitUserModeRoutines(asm: Assembler): void {
  asm.label('rt_syscall').mov(syscallField('rax'), rax).mov(syscallField('frame'), rsp).pop(rcx).pop(r11);
  asm.mov(syscallField('rcx'), rcx).mov(syscallField('r11'), r11);
  for (const [slot, name] of (['rip', 'cs', 'rflags', 'rsp', 'ss'] as const).entries()) {
    asm.mov(rax, mem({ base: rsp, disp: slot * 8 })).mov(syscallField(name), rax);
  }
  asm.movzx(eax, mem({ label: 'rt_shared_info', disp: VCPU_INFO.upcallMask, size: 1 }));
  asm.mov(syscallField('mask'), rax);
  asm.mov(rsp, mem({ label: 'rt_user_return_rsp' })).jmp(mem({ label: 'rt_user_return', size: 8 }));

  // rt_user_setup: kernel stack, system-call entry, and the kernel's own page tables as the user root.
  asm.label('rt_user_setup');
  emitHypercall(asm, 'stack_switch', FLAT_DS, addressOf('rt_kernel_stack_top'));
  emitHypercall(asm, 'callback_op', CALLBACK_OP.register, addressOf('rt_syscall_callback'));
  asm.mov(rdi, mem({ label: 'rt_start_info' })).mov(rdi, mem({ base: rdi, disp: START_INFO.pageTableBase }));
  asm
    .call('rt_maddr')
    .shr(rax, 12)
    .mov(mem({ label: 'rt_user_root_op', disp: 8 }), rax);
  emitHypercall(asm, 'mmuext_op', addressOf('rt_user_root_op'), 1, 0, DOMID_SELF);
  asm.ret();

  asm.section('data').align(8).label('rt_syscall_record').reserve(80);
  asm.label('rt_user_return').dq(0).label('rt_user_return_rsp').dq(0);
  asm.label('rt_syscall_callback').dw(CALLBACK.syscall, 0).dd(0).dq(addressOf('rt_syscall'));
  asm.label('rt_user_root_op').dd(MMUEXT.newUserBasePointer, 0).dq(0, 0);
  asm.section('bss').align(16).reserve(4096).label('rt_kernel_stack_top');
  asm.reserve(4096).label('rt_user_stack_top').section('text');
}

/**
 * Builds an iret frame on the stack and leaves through it: to `rip` with `cs`, and with `flags` as the VGCF word. The
 * rax slot holds the current rax.
 */
export function emitIretTo(
  asm: Assembler,
  rip: string,
  stack: string,
  options: { cs: number; ss?: number; rflags?: number; flags?: number },
): void {
  const { cs, ss = FLAT_DS, rflags = 2, flags = 0 } = options;
  asm.push(ss).push(addressOf(stack)).push(rflags).push(cs);
  asm.push(addressOf(rip)).push(flags).push(rcx).push(r11).push(rax).mov(eax, 23).syscall();
}
