// SPDX-License-Identifier: MIT
// Micro-guests: set_gdt, update_descriptor, LDT, set_segment_base, fpu_taskswitch, debug-register hypercalls.
import {
  addressOf,
  ds,
  eax,
  es,
  fs,
  gs,
  mem,
  rax,
  rbx,
  rcx,
  rdx,
  rsi,
  xmm,
  type LabelAddress,
} from '../../../engine/x86/assembler/operands.ts';
import { DOMID_SELF, ERRNO, FLAT_DS, MMUEXT, PTE_RO, PTE_RW, UVMF } from '../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './lib/guest.ts';
import { testMicroGuest } from './run.ts';

/** Flat data segment, DPL 3. */
const FLAT_DATA = 0x00cff3000000ffffn;
/** The same with DPL 0, as kernels write it. */
const KERNEL_DATA = 0x00cf93000000ffffn;
/** A 32-bit interrupt gate: a system descriptor no guest may have. */
const INTERRUPT_GATE = 0x00008e0000000000n;

/** Remaps a page of the image with `flags`, checking the result. */
function protect(lib: GuestLib, check: string, page: string, flags: number): void {
  lib.machineAddress(page);
  lib.asm.or(rax, flags).mov(rsi, rax);
  lib.call(check, 0, 'update_va_mapping', addressOf(page), rsi, UVMF.invlpg);
}

/** Stores the frame number of `page` at `target`; returns its address. */
function frameList(lib: GuestLib, page: string): LabelAddress {
  const list = lib.data((a) => a.dq(0));
  lib.machineAddress(page);
  lib.asm.shr(rax, 12).mov(mem({ label: list.label }), rax);
  return list;
}

testMicroGuest('set_gdt', (asm, lib) => {
  const gdt = lib.pages('gdt');
  const store = (index: number, descriptor: bigint): void => {
    asm.mov(rax, descriptor).mov(mem({ label: gdt, disp: index * 8 }), rax);
  };
  store(2, FLAT_DATA);
  store(3, KERNEL_DATA);
  const list = frameList(lib, gdt);
  lib.call('a frame mapped writable', -ERRNO.EINVAL, 'set_gdt', list, 8);
  protect(lib, 'map read-only', gdt, PTE_RO);
  lib.call('one frame', 0, 'set_gdt', list, 8);
  asm.mov(eax, 0x13).movToSegment(ds, eax).movFromSegment(eax, ds);
  lib.expect('a segment of it can be loaded', 0x13);
  asm.mov(eax, 0x1b).movToSegment(es, eax).movFromSegment(eax, es);
  lib.expect('DPL 0 was raised to 3', 0x1b);
  asm.mov(eax, mem({ label: gdt, disp: 3 * 8 + 4 }));
  lib.expect('and the guest sees it', 0x00cff300);
  const missing = asm.unique('missing');
  lib.expectTrap('an empty entry', { vector: 13, error: 0x20, rip: missing }, () => {
    asm.mov(eax, 0x23).label(missing).movToSegment(ds, eax);
  });
  asm.mov(eax, FLAT_DS).movToSegment(ds, eax).movFromSegment(eax, ds);
  lib.expect('the reserved entries stay', FLAT_DS);
  const noWrite = asm.unique('no_write');
  lib.expectTrap('a GDT page cannot be written', { vector: 14, error: 3, cr2: addressOf(gdt), rip: noWrite }, () => {
    asm.label(noWrite).mov(mem({ label: gdt, size: 8 }), 0);
  });
  lib.machineAddress(gdt);
  asm.or(rax, PTE_RW).mov(rsi, rax);
  lib.call('nor be mapped writable', -ERRNO.EBUSY, 'update_va_mapping', addressOf(gdt), rsi, UVMF.invlpg);

  asm.mov(eax, 0).movToSegment(ds, eax).movToSegment(es, eax);
  lib.call('too many entries', -ERRNO.EINVAL, 'set_gdt', list, 7169);
  lib.call('unreadable list', -ERRNO.EFAULT, 'set_gdt', 0x7000, 8);
  const wild = lib.data((a) => a.dq(0xffffffffffffn));
  lib.call('a frame that does not exist', -ERRNO.EINVAL, 'set_gdt', wild, 8);
  lib.call('remove', 0, 'set_gdt', 0, 0);
  protect(lib, 'the page is ordinary memory again', gdt, PTE_RW);
  store(4, INTERRUPT_GATE);
  protect(lib, 'read-only with a gate in it', gdt, PTE_RO);
  lib.call('a system descriptor', -ERRNO.EINVAL, 'set_gdt', list, 8);
});

testMicroGuest('update_descriptor', (asm, lib) => {
  const gdt = lib.pages('gdt');
  const list = frameList(lib, gdt);
  protect(lib, 'map read-only', gdt, PTE_RO);
  lib.call('set_gdt', 0, 'set_gdt', list, 512);
  const update = (check: string, result: number, offset: number, descriptor: bigint): void => {
    lib.machineAddress(gdt);
    asm.add(rax, offset).mov(rcx, rax);
    lib.call(check, result, 'update_descriptor', rcx, descriptor);
  };
  update('a data segment', 0, 16, FLAT_DATA);
  asm.mov(eax, 0x13).movToSegment(fs, eax).movFromSegment(eax, fs);
  lib.expect('is there', 0x13);
  update('a DPL 0 segment', 0, 24, KERNEL_DATA);
  lib.expectMemory('is raised', mem({ label: gdt, disp: 24, size: 8 }), FLAT_DATA);
  update('not present', 0, 32, 0n);
  update('an interrupt gate', -ERRNO.EINVAL, 40, INTERRUPT_GATE);
  update('misaligned', -ERRNO.EINVAL, 20, FLAT_DATA);
  lib.expectMemory('a refusal writes nothing', mem({ label: gdt, disp: 40, size: 8 }), 0);
  lib.call('a machine address outside memory', -ERRNO.EINVAL, 'update_descriptor', 0xfffffff000n, FLAT_DATA);

  const plain = lib.pages('plain');
  lib.machineAddress(plain);
  asm.mov(rcx, rax);
  lib.call('ordinary memory', 0, 'update_descriptor', rcx, FLAT_DATA);
  lib.expectMemory('is written', mem({ label: plain, size: 8 }), FLAT_DATA);
  asm.mov(eax, 0).movToSegment(fs, eax);
});

testMicroGuest('local descriptor table', (asm, lib) => {
  const ldt = lib.pages('ldt');
  const op = (entries: number, base: LabelAddress | number): LabelAddress =>
    lib.data((a) => a.dd(MMUEXT.setLdt, 0).dq(base).dq(entries));
  asm.mov(rax, FLAT_DATA).mov(mem({ label: ldt, disp: 8 }), rax);
  protect(lib, 'map read-only', ldt, PTE_RO);
  lib.call('SET_LDT', 0, 'mmuext_op', op(512, addressOf(ldt)), 1, 0, DOMID_SELF);
  asm.mov(eax, 0xf).movToSegment(ds, eax).movFromSegment(eax, ds);
  lib.expect('a segment of it can be loaded', 0xf);
  asm.mov(eax, 0).movToSegment(ds, eax);
  lib.call('misaligned base', -ERRNO.EINVAL, 'mmuext_op', op(512, addressOf(ldt, 8)), 1, 0, DOMID_SELF);
  lib.call('too many entries', -ERRNO.EINVAL, 'mmuext_op', op(8193, addressOf(ldt)), 1, 0, DOMID_SELF);
  lib.call('remove', 0, 'mmuext_op', op(0, 0), 1, 0, DOMID_SELF);
  const gone = asm.unique('gone');
  lib.expectTrap('without an LDT', { vector: 13, error: 0xc, rip: gone }, () => {
    asm.mov(eax, 0xf).label(gone).movToSegment(ds, eax);
  });
});

testMicroGuest('set_segment_base', (asm, lib) => {
  const word = lib.data((a) => a.dq(0x0123456789abcdefn));
  lib.call('fs', 0, 'set_segment_base', 0, word);
  asm.mov(rax, mem({ disp: 0, seg: 'fs' }));
  lib.expect('fs is active', 0x0123456789abcdefn);
  lib.call('kernel gs', 0, 'set_segment_base', 2, word);
  asm.mov(rax, mem({ disp: 0, seg: 'gs' }));
  lib.expect('kernel gs is active', 0x0123456789abcdefn);
  const user = lib.data((a) => a.dq(0x5555));
  lib.call('user gs', 0, 'set_segment_base', 1, user);
  asm.mov(rax, mem({ disp: 0, seg: 'gs' }));
  lib.expect('user gs is not active in the kernel', 0x0123456789abcdefn);
  for (const which of [0, 1, 2]) {
    lib.call(`non-canonical base ${which.toString()}`, -ERRNO.EINVAL, 'set_segment_base', which, 1n << 60n);
  }
  lib.call('unknown', -ERRNO.EINVAL, 'set_segment_base', 4, 0);

  lib.setUpUserMode();
  lib.user(() => asm.mov(rbx, mem({ disp: 0, seg: 'gs' })).mov(rdx, mem({ disp: 0, seg: 'fs' })));
  lib.expectRegister('user gs is active in user mode', rbx, 0x5555);
  lib.expectRegister('fs is the same in both', rdx, 0x0123456789abcdefn);
  asm.mov(rax, mem({ disp: 0, seg: 'gs' }));
  lib.expect('kernel gs is back after the system call', 0x0123456789abcdefn);
  asm
    .mov(eax, 0)
    .movToSegment(fs, eax)
    .mov(rax, mem({ label: word.label, seg: 'fs' }));
  lib.expect('loading a null selector clears the base', 0x0123456789abcdefn);

  lib.call('user gs selector', 0, 'set_segment_base', 3, FLAT_DS);
  lib.call('a bad user gs selector is no error', 0, 'set_segment_base', 3, 0x1237);
  asm.movFromSegment(eax, gs);
  lib.expect('the kernel selector is another', 0);
});

testMicroGuest('fpu_taskswitch', (asm, lib) => {
  lib.call('set', 0, 'fpu_taskswitch', 1);
  lib.expectTrap('SSE raises #NM', { vector: 7, error: 'none' }, () => asm.xorps(xmm(0), xmm(0)));
  asm.xorps(xmm(0), xmm(0));
  lib.call('delivery of #NM cleared TS', 0, 'fpu_taskswitch', 1);
  lib.expectTrap('x87 raises #NM', { vector: 7, error: 'none' }, () => asm.fninit());
  lib.call('set again', 0, 'fpu_taskswitch', 1);
  lib.call('clear', 0, 'fpu_taskswitch', 0);
  asm.fninit().mov(rax, 1);
  lib.expect('no trap after clearing', 1);

  asm.mov(rax, 0x1122334455667788n).movToXmm(xmm(7), rax);
  lib.call('set with live registers', 0, 'fpu_taskswitch', 1);
  lib.expectTrap('#NM', { vector: 7, error: 'none', rip: false }, () => asm.movFromXmm(rbx, xmm(7)));
  asm.movFromXmm(rbx, xmm(7));
  lib.expectRegister('registers survive', rbx, 0x1122334455667788n);
});

testMicroGuest('set_debugreg and get_debugreg', (asm, lib) => {
  lib.call('dr6 at start', 0xffff0ff0, 'get_debugreg', 6);
  lib.call('dr7 at start', 0x400, 'get_debugreg', 7);
  for (const register of [0, 1, 2, 3]) {
    const name = `dr${register.toString()}`;
    lib.call(`set ${name}`, 0, 'set_debugreg', register, 0xffffffff80100000n);
    lib.hypercall('get_debugreg', register);
    lib.expect(`get ${name}`, 0xffffffff80100000n);
  }
  lib.call('an address of the hypervisor', -ERRNO.EPERM, 'set_debugreg', 0, 0xffff820000000000n);
  lib.call('set dr8', -ERRNO.ENODEV, 'set_debugreg', 8, 0);
  lib.call('get dr8', -ERRNO.ENODEV, 'get_debugreg', 8);
  lib.call('dr7 with general detect', -ERRNO.EPERM, 'set_debugreg', 7, 0x2400);
  lib.call('clear dr6', 0, 'set_debugreg', 6, 0);
  lib.call('dr6 keeps its fixed bits', 0xffff0ff0, 'get_debugreg', 6);

  const watched = lib.data((a) => a.dq(0));
  lib.call('watch a word', 0, 'set_debugreg', 0, watched);
  lib.call('8-byte write breakpoint', 0, 'set_debugreg', 7, 0x90402);
  const after = asm.unique('after');
  lib.expectTrap('a write raises #DB', { vector: 1, error: 'none', rip: after }, () => {
    asm.mov(mem({ label: watched.label, size: 8 }), 1).label(after);
  });
  lib.call('dr6 tells which', 0xffff0ff1, 'get_debugreg', 6);
  lib.call('off', 0, 'set_debugreg', 7, 0x400);
  asm.mov(mem({ label: watched.label, size: 8 }), 2);
  lib.expectMemory('no trap when off', mem({ label: watched.label, size: 8 }), 2);
});

testMicroGuest('breakpoints on instructions and reads', (asm, lib) => {
  const target = asm.unique('target');
  lib.call('a breakpoint on an instruction', 0, 'set_debugreg', 1, addressOf(target));
  lib.call('dr6 cleared', 0, 'set_debugreg', 6, 0);
  lib.call('enabled', 0, 'set_debugreg', 7, 0x404);
  asm.mov(rbx, 1);
  lib.expectTrap('raises #DB before it', { vector: 1, error: 'none', rip: target }, () => {
    asm.mov(rbx, 2).label(target).mov(rbx, 3);
  });
  lib.expectRegister('it has not happened', rbx, 2);
  lib.call('dr6: number 1', 0xffff0ff2, 'get_debugreg', 6);

  const words = lib.data((a) => a.dq(0x11, 0x22, 0x33));
  lib.call('watch the middle word', 0, 'set_debugreg', 3, addressOf(words.label, 8));
  lib.call('reads and writes', 0, 'set_debugreg', 7, 0xb0000440);
  asm.mov(rax, mem({ label: words.label })).mov(rax, mem({ label: words.label, disp: 16 }));
  lib.expect('its neighbours may be read', 0x33);
  const after = asm.unique('after');
  lib.expectTrap('a read raises #DB', { vector: 1, error: 'none', rip: after }, () => {
    asm.mov(rbx, mem({ label: words.label, disp: 8 })).label(after);
  });
  lib.expectRegister('it has happened', rbx, 0x22);
  const overlap = asm.unique('overlap');
  lib.expectTrap('so does a write that overlaps it', { vector: 1, error: 'none', rip: overlap }, () => {
    asm.mov(mem({ label: words.label, disp: 5, size: 4 }), 0).label(overlap);
  });
  const pushed = asm.unique('pushed');
  lib.expectTrap('and a read-modify-write', { vector: 1, error: 'none', rip: pushed }, () => {
    asm.inc(mem({ label: words.label, disp: 8, size: 8 })).label(pushed);
  });
  lib.call('all off', 0, 'set_debugreg', 7, 0x400);
  lib.call('dr6: number 3 too', 0xffff0ffa, 'get_debugreg', 6);
});
