// SPDX-License-Identifier: MIT
// Micro-guests: trap bouncing. Frame layout of every exception, error codes, cr2, software interrupts, set_trap_table.
import { expect } from 'vitest';
import type { Assembler } from '../../../engine/x86/assembler/assembler.ts';
import {
  addressOf,
  ds,
  eax,
  ebx,
  ecx,
  mem,
  r11,
  rax,
  rbp,
  rbx,
  rcx,
  rsp,
  xmm,
  type LabelAddress,
  type Memory,
} from '../../../engine/x86/assembler/operands.ts';
import { ERRNO, FLAT_DS, FLAT_KERNEL_CS, FLAT_USER_CS, PTE_RO, UVMF } from '../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './lib/guest.ts';
import { testMicroGuest } from './run.ts';

const CRASH = { kind: 'crash', reason: expect.any(String) as unknown } as const;
/** CF, PF, AF, ZF, SF, DF, OF and the fixed bit. */
const VISIBLE_FLAGS = 0xcd7;
const NESTED_TASK = 0x4000;
const INTERRUPT_FLAG = 0x200;
const TRAP_FLAG = 0x100;

/** A page that is not mapped. */
function unmappedPage(lib: GuestLib): string {
  const page = lib.pages('unmapped');
  lib.call(`unmap ${page}`, 0, 'update_va_mapping', addressOf(page), 0, UVMF.invlpg);
  return page;
}

/** A trap table with one entry, for refusals and replacements. */
function oneEntry(lib: GuestLib, vector: number, flags: number, address: bigint | string): LabelAddress {
  return lib.data((asm) => {
    asm.bytes([vector, flags]).dw(FLAT_USER_CS).dd(0);
    asm.dq(typeof address === 'string' ? addressOf(address) : address).dq(0, 0);
  });
}

testMicroGuest('trap frames: layout, alignment, flags', (asm, lib) => {
  for (const [name, misalignment, hasError] of [
    ['without error code, aligned stack', 0, false],
    ['without error code, misaligned stack', 8, false],
    ['with error code, aligned stack', 0, true],
    ['with error code, misaligned stack', 8, true],
  ] as const) {
    const after = asm.unique('after');
    const site = asm.unique('site');
    const bottom = -0x1000 - misalignment;
    lib.arm(after);
    asm.mov(rbx, rsp).lea(rsp, mem({ label: 'rt_stack_top', disp: bottom }));
    asm
      .push(VISIBLE_FLAGS | NESTED_TASK)
      .popf()
      .mov(rcx, 0x1111)
      .mov(r11, 0x2222);
    asm.label(site);
    if (hasError) asm.hlt();
    else asm.ud2();
    asm.label(after).mov(rax, rsp).mov(rsp, rbx).push(2).popf();
    lib.expect(`${name}: rsp afterwards`, addressOf('rt_stack_top', bottom));
    lib.expectRegister(`${name}: rcx afterwards`, rcx, 0x1111);
    lib.expectRegister(`${name}: r11 afterwards`, r11, 0x2222);
    lib.expectTrapRecord(name, { vector: hasError ? 13 : 6, error: hasError ? 0 : 'none', rip: site });
    const frameBytes = (hasError ? 8 : 7) * 8;
    lib.expectMemory(`${name}: frame`, lib.trap('frame'), addressOf('rt_stack_top', (bottom & ~15) - frameBytes));
    lib.expectMemory(`${name}: rcx slot`, lib.trap('rcx'), 0x1111);
    lib.expectMemory(`${name}: r11 slot`, lib.trap('r11'), 0x2222);
    // Interrupted in the kernel with events masked: RPL 0, saved mask 1 in bits 32-39, IF reads 0.
    lib.expectMemory(`${name}: cs slot`, lib.trap('cs'), (1n << 32n) | BigInt(FLAT_KERNEL_CS));
    lib.expectMemory(`${name}: rflags slot`, lib.trap('rflags'), VISIBLE_FLAGS | NESTED_TASK);
    lib.expectMemory(`${name}: rsp slot`, lib.trap('rsp'), addressOf('rt_stack_top', bottom));
    lib.expectMemory(`${name}: ss slot`, lib.trap('ss'), FLAT_DS);
    lib.expectMemory(`${name}: cs in the handler`, lib.trap('liveCs'), FLAT_USER_CS);
    lib.expectMemory(`${name}: ss in the handler`, lib.trap('liveSs'), FLAT_DS);
    lib.expectMemory(`${name}: rflags in the handler`, lib.trap('liveRflags'), VISIBLE_FLAGS | INTERRUPT_FLAG);
  }
});

testMicroGuest('exceptions: vector, error code, rip', (asm, lib) => {
  const divide = asm.unique('divide');
  lib.expectTrap('#DE', { vector: 0, error: 'none', rip: divide }, () => {
    asm.mov(eax, 1).mov(ecx, 0).mov(ebx, 0).label(divide).div(ecx);
  });
  lib.expectTrap('#UD', { vector: 6, error: 'none' }, () => asm.ud2());
  lib.call('fpu_taskswitch on', 0, 'fpu_taskswitch', 1);
  lib.expectTrap('#NM', { vector: 7, error: 'none' }, () => asm.xorps(xmm(0), xmm(0)));
  const load = asm.unique('load');
  lib.expectTrap('#GP by a non-canonical address', { vector: 13, error: 0, rip: load }, () => {
    asm
      .mov(rax, 0x1000000000000000n)
      .label(load)
      .mov(rax, mem({ base: rax }));
  });
  const stack = asm.unique('stack');
  lib.expectTrap('#SS by a non-canonical stack address', { vector: 12, error: 0, rip: stack }, () => {
    asm
      .mov(rbp, 0x1000000000000000n)
      .label(stack)
      .mov(rax, mem({ base: rbp }));
  });
  const selector = asm.unique('selector');
  lib.expectTrap('#GP by a selector', { vector: 13, error: 0x10, rip: selector }, () => {
    asm.mov(eax, 0x13).label(selector).movToSegment(ds, eax);
  });

  // Traps report the instruction after the one that raised them.
  const breakpoint = asm.unique('breakpoint');
  lib.expectTrap('#BP', { vector: 3, error: 'none', rip: breakpoint }, () => asm.int3().label(breakpoint));
  const overflow = asm.unique('overflow');
  lib.expectTrap('#OF by int 4', { vector: 4, error: 'none', rip: overflow }, () => asm.int(4).label(overflow));
  const stepped = asm.unique('stepped');
  lib.expectTrap('#DB by the trap flag', { vector: 1, error: 'none', rip: stepped }, () => {
    asm
      .push(TRAP_FLAG | 2)
      .popf()
      .nop()
      .label(stepped);
  });
  asm.push(2).popf();
  lib.hypercall('get_debugreg', 6);
  lib.expect('#DB: dr6 shows a single step', 0xffff4ff0);
  const icebp = asm.unique('icebp');
  lib.expectTrap('#DB by int1', { vector: 1, error: 'none', rip: icebp }, () => asm.int1().label(icebp));
  lib.expectTrap('the trap flag is clear in handlers', { vector: 3, error: 'none', rip: false }, () => {
    asm.int3();
  });
});

testMicroGuest('floating-point exceptions', (asm, lib) => {
  const control = lib.data((a) => a.dw(0x037b));
  const wait = asm.unique('wait');
  lib.expectTrap('#MF by an unmasked division by zero', { vector: 16, error: 'none', rip: wait }, () => {
    asm
      .fninit()
      .fldcw(mem({ label: control.label }))
      .fld1()
      .fldz()
      .fdivp()
      .label(wait)
      .fwait();
  });
  asm.fninit();
  const mxcsr = lib.data((a) => a.dd(0x1d80));
  const divide = asm.unique('divide');
  lib.expectTrap('#XM by an unmasked division by zero', { vector: 19, error: 'none', rip: divide }, () => {
    asm
      .ldmxcsr(mem({ label: mxcsr.label }))
      .mov(eax, 1)
      .cvtsi2sd(xmm(0), eax)
      .xorps(xmm(1), xmm(1));
    asm.label(divide).divsd(xmm(0), xmm(1));
  });
});

testMicroGuest('page faults: error code and cr2', (asm, lib) => {
  const page = unmappedPage(lib);
  const at = (disp: number): Memory => mem({ label: page, disp, size: 8 });
  lib.expectTrap('read of a missing page', { vector: 14, error: 0, cr2: addressOf(page, 8) }, () =>
    asm.mov(rax, at(8)),
  );
  lib.expectTrap('write to a missing page', { vector: 14, error: 2, cr2: addressOf(page, 16) }, () => {
    asm.mov(at(16), rax);
  });
  lib.expectTrap('read-modify-write', { vector: 14, error: 2, cr2: addressOf(page) }, () => asm.inc(at(0)));
  lib.expectTrap('page-crossing write', { vector: 14, error: 2, cr2: addressOf(page) }, () => asm.mov(at(-4), rax));
  lib.machineAddress(page);
  asm.or(rax, PTE_RO);
  lib.call('map read-only', 0, 'update_va_mapping', addressOf(page), rax, UVMF.invlpg);
  lib.expectTrap('write to a read-only page', { vector: 14, error: 3, cr2: addressOf(page, 24) }, () => {
    asm.mov(at(24), rax);
  });
  asm.mov(rax, at(24));
  lib.expect('a read-only page can be read', 0);
  lib.machineAddress(page);
  asm
    .mov(rcx, 1n << 63n)
    .or(rax, PTE_RO)
    .or(rax, rcx);
  lib.call('map without execution', 0, 'update_va_mapping', addressOf(page), rax, UVMF.invlpg);
  const after = asm.unique('after');
  lib.arm(after);
  asm.mov(rbx, rsp).call(page).label(after).mov(rsp, rbx);
  lib.expectTrapRecord('fetch from a no-execute page', { vector: 14, error: 0x11, cr2: addressOf(page), rip: page });

  lib.setUpUserMode();
  const inUser = (name: string, error: number, cr2: bigint | LabelAddress, body: () => void): void => {
    const after2 = asm.unique('after');
    lib.arm(after2);
    lib.user(() => {
      body();
      asm.label(after2);
    });
    lib.expectTrapRecord(name, { vector: 14, error, cr2 });
    lib.expectMemory(`${name}: cs slot`, lib.trap('cs'), (1n << 32n) | BigInt(FLAT_USER_CS));
    lib.expectMemory(`${name}: frame on the kernel stack`, lib.trap('frame'), addressOf('rt_kernel_stack_top', -64));
  };
  inUser('user write to a read-only page', 7, addressOf(page, 32), () => asm.mov(at(32), rax));
  inUser('user read of a missing page', 4, 0x7000n, () => asm.mov(rax, mem({ disp: 0x7000 })));
  inUser('user write to a missing page', 6, 0x7008n, () => asm.mov(mem({ disp: 0x7008 }), rax));
});

testMicroGuest('rep stops at the faulting element', (asm, lib) => {
  const pages = lib.pages('buffer', 2);
  lib.call('unmap the second page', 0, 'update_va_mapping', addressOf(pages, 4096), 0, UVMF.invlpg);
  const fault = asm.unique('fault');
  const expected = { vector: 14, error: 2, cr2: addressOf(pages, 4096), rip: fault };
  lib.expectTrap('rep stosq', expected, () => {
    asm.lea(rax, mem({ label: pages, disp: 4096 - 24 })).mov({ ...rax, name: 'rdi', code: 7 }, rax);
    asm.mov(rcx, 10).mov(rax, 7).label(fault).rep().stos(8);
  });
  lib.expectRegister('rep stosq: rcx', rcx, 7);
  lib.expectRegister('rep stosq: rdi', { ...rax, name: 'rdi', code: 7 }, addressOf(pages, 4096));
  lib.expectMemory('rep stosq: last element', mem({ label: pages, disp: 4088, size: 8 }), 7);
});

/** `int n` from the kernel, expecting delivery to the entry of that vector. */
function delivered(asm: Assembler, lib: GuestLib, name: string, vector: number, recorded = vector): void {
  const after = asm.unique('after');
  lib.expectTrap(name, { vector: recorded, error: 'none', rip: after }, () => asm.int(vector).label(after));
}

testMicroGuest('software interrupts', (asm, lib) => {
  const table = (dpl: number): LabelAddress =>
    lib.data((a) => {
      for (const vector of [0x80, 0x81]) {
        a.bytes([vector, dpl])
          .dw(FLAT_USER_CS)
          .dd(0)
          .dq(addressOf(`rt_trap_${vector.toString()}`));
      }
      a.dq(0, 0);
    });
  lib.expectTrap('int 0x81 at DPL 0', { vector: 13, error: 0x81 * 8 + 2 }, () => asm.int(0x81));
  lib.expectTrap('int 0x90 without a handler', { vector: 13, error: 0x90 * 8 + 2 }, () => asm.int(0x90));
  lib.call('DPL 1', 0, 'set_trap_table', table(1));
  delivered(asm, lib, 'int 0x81 at DPL 1', 0x81);
  lib.setUpUserMode();
  const inUser = (name: string, vector: number, expected: { vector: number; error: number | 'none' }): void => {
    const site = asm.unique('site');
    const after = asm.unique('after');
    lib.arm(after);
    lib.user(() => asm.label(site).int(vector).label(after));
    lib.expectTrapRecord(name, { ...expected, rip: expected.error === 'none' ? after : site });
  };
  inUser('int 0x81 at DPL 1 from user mode', 0x81, { vector: 13, error: 0x81 * 8 + 2 });
  lib.call('DPL 3', 0, 'set_trap_table', table(3));
  delivered(asm, lib, 'int 0x80 at DPL 3', 0x80);
  inUser('int 0x80 at DPL 3 from user mode', 0x80, { vector: 0x80, error: 'none' });
  inUser('int 0x81 at DPL 3 from user mode', 0x81, { vector: 0x81, error: 'none' });
  inUser('int3 from user mode ignores the DPL', 3, { vector: 3, error: 'none' });
  lib.call('clear all entries', 0, 'set_trap_table', 0);
  lib.call('put the exceptions back', 0, 'set_trap_table', addressOf('rt_trap_table'));
  lib.call(
    'remove entry 0x80',
    0,
    'set_trap_table',
    lib.data((a) => a.dq(0, 0)),
  );
});

testMicroGuest('int 0x80 without a handler is #GP', (asm, lib) => {
  lib.call('clear all entries', 0, 'set_trap_table', 0);
  const entry = oneEntry(lib, 13, 0, 'rt_trap_13');
  lib.call('register #GP only', 0, 'set_trap_table', entry);
  lib.expectTrap('int 0x80', { vector: 13, error: 0x402 }, () => asm.int(0x80));
});

testMicroGuest('set_trap_table merges, refuses, masks', (asm, lib) => {
  lib.call('replace one entry', 0, 'set_trap_table', oneEntry(lib, 3, 0, 'rt_trap_4'));
  lib.expectTrap('the new handler is used', { vector: 4, error: 'none', rip: false }, () => asm.int3());
  lib.expectTrap('others stay', { vector: 6, error: 'none' }, () => asm.ud2());
  lib.call('non-canonical handler', -ERRNO.EINVAL, 'set_trap_table', oneEntry(lib, 3, 0, 0x1000000000000000n));
  lib.call('unreadable table', -ERRNO.EFAULT, 'set_trap_table', 0x7000);
  lib.expectTrap('a refused entry changes nothing', { vector: 4, error: 'none', rip: false }, () => asm.int3());

  asm.mov(mem({ label: 'rt_shared_info', disp: 1, size: 1 }), 0);
  lib.expectTrap('events open', { vector: 6, error: 'none' }, () => asm.ud2());
  lib.expectMemory('saved mask 0', lib.trap('cs'), FLAT_KERNEL_CS);
  lib.expectMemory('a trap gate leaves the mask', lib.trap('mask'), 0);
  lib.call('interrupt gate', 0, 'set_trap_table', oneEntry(lib, 6, 4, 'rt_trap_6'));
  lib.expectTrap('interrupt gate', { vector: 6, error: 'none' }, () => asm.ud2());
  lib.expectMemory('an interrupt gate masks', lib.trap('mask'), 1);
  lib.expectMemory('saved mask is still 0', lib.trap('cs'), FLAT_KERNEL_CS);
  lib.expectMemory('iret opened the mask', mem({ label: 'rt_shared_info', disp: 1, size: 1 }), 0);
});

testMicroGuest(
  'an exception without a handler crashes the domain',
  (asm, lib) => {
    lib.call('clear all entries', 0, 'set_trap_table', 0);
    asm.ud2();
  },
  { outcome: CRASH },
);

testMicroGuest(
  'a frame that cannot be pushed crashes the domain',
  (asm, lib) => {
    const page = unmappedPage(lib);
    asm.lea(rsp, mem({ label: page, disp: 4096 })).ud2();
  },
  { outcome: CRASH },
);
