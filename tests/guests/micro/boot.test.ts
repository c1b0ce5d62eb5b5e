// SPDX-License-Identifier: MIT
// Micro-guests: the state at the first instruction, start_info, the initial mapping, hypercall page, legacy image section.
import {
  addressOf,
  eax,
  mem,
  r12,
  r13,
  r8,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  type Memory,
} from '../../../engine/x86/assembler/operands.ts';
import {
  ERRNO,
  FLAT_DS,
  FLAT_KERNEL_CS,
  FLAT_USER_CS,
  HYPERCALL,
  PTE,
  START_INFO,
} from '../../../main/demo-guest/xen-abi.ts';
import { VIRT_BASE } from './lib/page-tables.ts';
import { testMicroGuest } from './run.ts';

const startInfo = (disp: number, size: 4 | 8 = 8): Memory => mem({ base: rbx, disp, size });

testMicroGuest('registers at the first instruction', (_asm, lib) => {
  const entry = (slot: number): Memory => mem({ label: 'rt_entry_state', disp: slot * 8, size: 8 });
  for (const [slot, name] of ['rax', 'rcx', 'rdx', 'rbx', 'rbp', 'rdi', 'r8', 'r15'].entries()) {
    lib.expectMemory(name, entry(slot), 0);
  }
  lib.expectMemory('cs', entry(8), FLAT_USER_CS);
  lib.expectMemory('ss', entry(9), FLAT_DS);
  for (const [slot, name] of ['ds', 'es', 'fs', 'gs'].entries()) lib.expectMemory(name, entry(10 + slot), 0);
  lib.expectMemory('rflags', entry(14), 0x202);
});

testMicroGuest(
  'start_info',
  (asm, lib) => {
    asm
      .mov(rbx, mem({ label: 'rt_start_info' }))
      .mov(rax, rbx)
      .and(eax, 0xfff);
    lib.expect('is page-aligned', 0);
    lib.expectMemory('magic: xen-3.0-', startInfo(0), 0x2d302e332d6e6578n);
    lib.expectMemory('magic: x86_64', startInfo(8), 0x34365f363878n);
    lib.expectMemory('magic is padded', startInfo(16), 0);
    asm.mov(rax, startInfo(START_INFO.nrPages)).shr(rax, 8);
    lib.expect('nr_pages: 16 MiB', 16);
    asm.mov(rax, startInfo(START_INFO.sharedInfo)).and(eax, 0xfff);
    lib.expect('shared_info is the address of a page', 0);
    asm.mov(eax, startInfo(START_INFO.flags, 4)).and(eax, 3);
    lib.expect('neither privileged nor the initial domain', 0);
    asm.mov(eax, startInfo(START_INFO.storePort, 4)).test(eax, eax);
    lib.expectCondition('a xenstore port', 'nz');
    asm.mov(eax, startInfo(START_INFO.consolePort, 4)).test(eax, eax);
    lib.expectCondition('a console port', 'nz');
    lib.expectMemory('no module', startInfo(START_INFO.moduleStart), 0);
    lib.expectMemory('of no length', startInfo(START_INFO.moduleLength), 0);
    lib.expectMemory('command line', startInfo(START_INFO.commandLine), 0x7a20793d78n);

    // Order of the pieces: kernel, P2M, start_info, store page, console page, page tables, stack.
    asm.mov(rax, startInfo(START_INFO.mfnList)).cmp(rax, rbx);
    lib.expectCondition('the P2M lies before start_info', 'b');
    asm.mov(rax, startInfo(START_INFO.pageTableBase)).sub(rax, rbx);
    lib.expect('page tables follow start_info, store and console page', 3 * 4096);
    asm
      .mov(rcx, startInfo(START_INFO.nrPageTableFrames))
      .shl(rcx, 12)
      .add(rcx, startInfo(START_INFO.pageTableBase))
      .add(rcx, 4096);
    asm.mov(rax, mem({ label: 'rt_entry_state', disp: 15 * 8 })).sub(rax, rcx);
    lib.expect('rsp is the top of the stack page behind them', 0);
    const frame = (disp: number, page: number): void => {
      asm.mov(rax, rbx).mov(rcx, VIRT_BASE).sub(rax, rcx).shr(rax, 12).add(rax, page);
      asm
        .mov(rcx, startInfo(START_INFO.mfnList))
        .mov(rax, mem({ base: rcx, index: rax, scale: 8 }))
        .sub(rax, startInfo(disp));
    };
    frame(START_INFO.storeMfn, 1);
    lib.expect('the xenstore page comes first', 0);
    frame(START_INFO.consoleMfn, 2);
    lib.expect('then the console page', 0);
  },
  { commandLine: 'x=y z' },
);

testMicroGuest('the initial mapping', (asm, lib) => {
  asm.mov(rbx, VIRT_BASE).mov(eax, mem({ base: rbx }));
  lib.expect('frame 0 is mapped and empty', 0);
  asm
    .mov(rdi, VIRT_BASE)
    .mov(rsi, 1)
    .call('rt_walk')
    .mov(r12, r8)
    .mov(rax, mem({ base: rax }))
    .and(eax, 0xe9f);
  lib.expect('an ordinary page: present, writable, user', PTE.present | PTE.writable | PTE.user);
  asm.mov(r13, mem({ label: 'rt_start_info' })).mov(r13, mem({ base: r13, disp: START_INFO.pageTableBase }));
  asm
    .mov(rdi, r13)
    .mov(rsi, 1)
    .call('rt_walk')
    .mov(rax, mem({ base: rax }))
    .and(eax, 0xe9f);
  lib.expect('a page-table page: not writable', PTE.present | PTE.user);
  asm
    .mov(rdi, VIRT_BASE)
    .mov(rsi, 2)
    .call('rt_walk')
    .mov(rax, mem({ base: rax }))
    .and(eax, 0xfff);
  lib.expect('an L2 entry', 0x67);
  asm.mov(rdi, VIRT_BASE).mov(rsi, 4).call('rt_walk').sub(rax, r13);
  lib.expect('L4 slot 511', 511 * 8);

  // The mapping ends at a 4 MiB boundary with at least 512 KiB free behind the stack.
  asm
    .mov(rdi, mem({ label: 'rt_entry_state', disp: 15 * 8 }))
    .mov(rdx, rdi)
    .add(rdi, (512 << 10) - 1);
  asm.mov(rax, mem({ base: rdi, disp: -8 }));
  lib.expect('there is padding behind the stack', 0);
  asm
    .add(rdx, (4 << 20) - 1 + (512 << 10))
    .and(rdx, ~((4 << 20) - 1))
    .mov(rbp, rdx);
  asm.mov(rax, mem({ base: rbp, disp: -8 }));
  lib.expect('the last word', 0);
  lib.expectTrap('the first unmapped one', { vector: 14, error: 0 }, () => asm.mov(rax, mem({ base: rbp })));
});

testMicroGuest(
  'the hypercall page',
  (asm, lib) => {
    asm.mov(eax, mem({ label: 'rt_hypercall_page', disp: HYPERCALL.xen_version * 32 }));
    lib.expect('a stub begins: push rcx; push r11; mov eax', 0xb8534151);
    asm.mov(eax, mem({ label: 'rt_hypercall_page', disp: HYPERCALL.xen_version * 32 + 4 }));
    lib.expect('with its number', HYPERCALL.xen_version);
    asm
      .mov(rcx, 0x1234)
      .mov(rdi, 7)
      .mov(rsi, 0)
      .lea(rax, mem({ label: 'rt_hypercall_page', disp: HYPERCALL.xen_version * 32 }))
      .call(rax);
    lib.expect('a call through it', 4096);
    lib.expectRegister('preserves rcx', rcx, 0x1234);
    asm.lea(rax, mem({ label: 'rt_hypercall_page', disp: 63 * 32 })).call(rax);
    lib.expect('an unused number', -ERRNO.ENOSYS);
    const back = asm.unique('back');
    asm.push(FLAT_DS).push(addressOf('rt_stack_top')).push(2).push(FLAT_KERNEL_CS).push(addressOf(back)).push(0);
    asm.mov(rcx, 0x77).mov(rax, 0x88);
    asm.jmp('iret_stub');
    asm.label(back);
    lib.expect('iret: rax', 0x88);
    lib.expectRegister('iret: rcx', rcx, 0x77);
    asm.lea(rax, mem({ base: rsp }));
    lib.expect('iret: rsp', addressOf('rt_stack_top'));
    lib.shutDown(0);
    // The stub of iret is jumped to, with rax still holding the value to be restored.
    asm
      .label('iret_stub')
      .push(addressOf('rt_hypercall_page', HYPERCALL.iret * 32))
      .ret();
  },
  { hypercallPage: true },
);

testMicroGuest(
  'an image with the legacy section instead of notes',
  (asm, lib) => {
    asm
      .mov(rdi, 7)
      .mov(rsi, 0)
      .lea(rax, mem({ label: 'rt_hypercall_page', disp: HYPERCALL.xen_version * 32 }))
      .call(rax);
    lib.expect('its hypercall page works', 4096);
  },
  { legacySection: true },
);

testMicroGuest(
  'the P2M list at an address the image chose',
  (asm, lib) => {
    asm.mov(rbx, mem({ label: 'rt_start_info' })).mov(rax, startInfo(START_INFO.mfnList));
    lib.expect('mfn_list', 0x8000000000n);
    asm.mov(rax, mem({ base: rbx, disp: 0x488, size: 8 })).cmp(rax, 8 + 3);
    lib.expectCondition('nr_p2m_frames counts its page tables', 'ae');
    asm
      .mov(rax, mem({ base: rbx, disp: 0x480 }))
      .mov(rcx, 0x8000000000n)
      .mov(rdx, mem({ base: rcx, index: rax, scale: 8 }));
    asm.mov(rdi, 0x8000000000n).mov(rsi, rdx).shl(rsi, 12);
    asm
      .mov(rax, mem({ base: rbx, disp: 0x480 }))
      .mov(rcx, 0xffff800000000000n)
      .mov(rdx, mem({ base: rcx, index: rdx, scale: 8 }))
      .sub(rax, rdx);
    lib.expect('first_p2m_pfn is a frame of ours', 0);
  },
  { notes: [{ name: 'INIT_P2M', value: 0x8000000000n }] },
);

testMicroGuest('an NMI goes to trap entry 2, one at a time', (_asm, lib) => {
  lib.arm();
  lib.call('send_nmi', 0, 'vcpu_op', 11, 0, 0);
  lib.expectTrapRecord('NMI', { vector: 2, error: 'none' });
  lib.arm();
  lib.call('send_nmi again', 0, 'vcpu_op', 11, 0, 0);
  lib.expectTrapRecord('iret opened the door for the next', { vector: 2, error: 'none' });
});
