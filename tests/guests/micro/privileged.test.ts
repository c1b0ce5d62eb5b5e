// SPDX-License-Identifier: MIT
// Micro-guests: privileged instructions that the hypervisor emulates, those it refuses, MSRs, CPUID, virtual IOPL.
import {
  al,
  ax,
  cr,
  dr,
  eax,
  ebx,
  ecx,
  edx,
  mem,
  rax,
  rbx,
  rcx,
  rdx,
  xmm,
  type LabelAddress,
} from '../../../engine/x86/assembler/operands.ts';
import type { Assembler } from '../../../engine/x86/assembler/assembler.ts';
import { ERRNO, START_INFO, VCPU_INFO } from '../../../main/demo-guest/xen-abi.ts';
import type { GuestLib } from './lib/guest.ts';
import { testMicroGuest } from './run.ts';

const MSR = {
  apicBase: 0x1b,
  pat: 0x277,
  efer: 0xc0000080,
  fsBase: 0xc0000100,
  gsBase: 0xc0000101,
  kernelGs: 0xc0000102,
};
const PHYSDEVOP_SET_IOPL = 6;

function readMsr(asm: Assembler, msr: number): void {
  asm.mov(ecx, msr).rdmsr().shl(rdx, 32).or(rax, rdx);
}

function writeMsr(asm: Assembler, msr: number, value: bigint): void {
  asm
    .mov(ecx, msr)
    .mov(eax, value & 0xffffffffn)
    .mov(edx, value >> 32n)
    .wrmsr();
}

/** Runs one instruction that must raise #GP(0) at its own address. */
function refused(lib: GuestLib, name: string, prepare: () => void, instruction: () => void): void {
  const site = lib.asm.unique('site');
  prepare();
  lib.expectTrap(name, { vector: 13, error: 0, rip: site }, () => {
    lib.asm.label(site);
    instruction();
  });
}

testMicroGuest('control registers', (asm, lib) => {
  asm.movFrom(rax, cr(0));
  lib.expect('cr0', 0x80050033);
  asm.or(rax, 8).movTo(cr(0), rax).movFrom(rax, cr(0));
  lib.expect('cr0 with TS written', 0x8005003b);
  lib.expectTrap('TS written through cr0 raises #NM', { vector: 7, error: 'none' }, () => asm.xorps(xmm(0), xmm(0)));
  asm.movFrom(rax, cr(0));
  lib.expect('#NM cleared TS', 0x80050033);
  lib.call('fpu_taskswitch on', 0, 'fpu_taskswitch', 1);
  asm.movFrom(rax, cr(0));
  lib.expect('cr0 shows TS', 0x8005003b);
  asm.clts().movFrom(rax, cr(0));
  lib.expect('clts clears TS', 0x80050033);
  asm.xorps(xmm(0), xmm(0));
  refused(
    lib,
    'cr0 write of another bit',
    () => asm.movFrom(rax, cr(0)).btr(rax, 16),
    () => asm.movTo(cr(0), rax),
  );

  asm.movTo(cr(2), rax).mov(rax, mem({ label: 'rt_shared_info', disp: VCPU_INFO.cr2 }));
  lib.expect('cr2 is written to vcpu_info', 0x80040033);
  asm.movFrom(rax, cr(2));
  lib.expect('cr2 reads back', 0x80040033);

  asm
    .mov(rax, mem({ label: 'rt_start_info' }))
    .mov({ ...rax, name: 'rdi', code: 7 }, mem({ base: rax, disp: START_INFO.pageTableBase }));
  asm.call('rt_maddr').mov(rbx, rax).movFrom(rax, cr(3)).sub(rax, rbx);
  lib.expect('cr3 is the machine address of the top-level table', 0);
  asm.movTo(cr(3), rbx).movFrom(rax, cr(3)).sub(rax, rbx);
  lib.expect('cr3 can be written', 0);

  asm.movFrom(rax, cr(4)).mov(rbx, rax).and(eax, 0x20);
  lib.expect('cr4 has PAE', 0x20);
  asm.mov(rax, rbx).and(eax, 0x80 | 0x10 | 0x100000 | 0x200000 | 0x2000);
  lib.expect('cr4 hides PGE, PSE, SMEP, SMAP, VMXE', 0);
  asm.mov(rax, rbx).or(rax, 0x2000).movTo(cr(4), rax).movFrom(rax, cr(4)).sub(rax, rbx);
  lib.expect('cr4 ignores bits it does not offer', 0);
  asm.mov(rax, rbx).or(rax, 4).movTo(cr(4), rax).movFrom(rax, cr(4)).sub(rax, rbx);
  lib.expect('cr4 takes TSD', 4);
  asm.movTo(cr(4), rbx);
  refused(
    lib,
    'cr8 read',
    () => asm.nop(),
    () => asm.movFrom(rax, cr(8)),
  );
});

testMicroGuest('refused instructions', (asm, lib) => {
  const nothing = (): void => {
    asm.nop();
  };
  refused(lib, 'hlt', nothing, () => asm.hlt());
  refused(lib, 'lgdt', nothing, () => asm.lgdt(mem({ label: 'rt_trap' })));
  refused(lib, 'lidt', nothing, () => asm.lidt(mem({ label: 'rt_trap' })));
  refused(
    lib,
    'lldt',
    () => asm.mov(eax, 0),
    () => asm.lldt(eax),
  );
  refused(
    lib,
    'ltr',
    () => asm.mov(eax, 0x40),
    () => asm.ltr(eax),
  );
  refused(
    lib,
    'lmsw',
    () => asm.mov(eax, 0x33),
    () => asm.lmsw(eax),
  );
  refused(lib, 'invlpg', nothing, () => asm.invlpg(mem({ label: 'rt_trap' })));
  refused(lib, 'invd', nothing, () => asm.invd());
  refused(lib, 'swapgs', nothing, () => asm.swapgs());
  refused(lib, 'sysret', nothing, () => asm.sysret());
  refused(lib, 'cli at IOPL 0', nothing, () => asm.cli());
  refused(lib, 'sti at IOPL 0', nothing, () => asm.sti());
  refused(lib, 'in at IOPL 0', nothing, () => asm.in(al, 0x80));
  refused(lib, 'out at IOPL 0', nothing, () => asm.out(0x80, al));
  refused(
    lib,
    'rdpmc',
    () => asm.mov(ecx, 0x7000),
    () => asm.rdpmc(),
  );
});

testMicroGuest('virtual IOPL', (asm, lib) => {
  const iopl = (level: number): LabelAddress => lib.data((a) => a.dd(level));
  lib.call('IOPL 4', -ERRNO.EINVAL, 'physdev_op', PHYSDEVOP_SET_IOPL, iopl(4));
  lib.call('IOPL 1', 0, 'physdev_op', PHYSDEVOP_SET_IOPL, iopl(1));
  asm.cli();
  lib.expectMemory('cli leaves the event mask alone', mem({ label: 'rt_shared_info', disp: 1, size: 1 }), 1);
  asm.pushf().pop(rax).and(eax, 0x3200);
  lib.expect('the real flags show IF and no IOPL', 0x200);
  asm.sti();
  lib.expectMemory('sti leaves the event mask alone', mem({ label: 'rt_shared_info', disp: 1, size: 1 }), 1);
  asm.mov(eax, 0).mov(edx, 0x5678).in(al, 'dx');
  lib.expect('a port nobody owns reads ones', 0xff);
  asm.mov(eax, 0).in(ax, 'dx');
  lib.expect('16-bit port read', 0xffff);
  asm.mov(eax, 0).in(eax, 'dx');
  lib.expect('32-bit port read', 0xffffffff);
  asm.out('dx', al);

  lib.setUpUserMode();
  const inUser = (name: string): void => {
    const site = asm.unique('site');
    const after = asm.unique('after');
    lib.arm(after);
    lib.user(() => asm.label(site).cli().label(after));
    lib.expectTrapRecord(name, { vector: 13, error: 0, rip: site });
  };
  inUser('cli from user mode at IOPL 1');
  lib.call('IOPL 3', 0, 'physdev_op', PHYSDEVOP_SET_IOPL, iopl(3));
  lib.user(() => asm.cli().mov(eax, 77));
  asm.mov(rax, mem({ label: 'rt_syscall_record', disp: 72 }));
  lib.expect('cli from user mode at IOPL 3', 77);
  lib.call('IOPL 0', 0, 'physdev_op', PHYSDEVOP_SET_IOPL, iopl(0));
  refused(
    lib,
    'cli at IOPL 0 again',
    () => asm.nop(),
    () => asm.cli(),
  );
});

testMicroGuest('model-specific registers', (asm, lib) => {
  readMsr(asm, MSR.efer);
  asm.and(eax, 0xd01);
  lib.expect('EFER: SCE, LME, LMA, NX', 0xd01);
  readMsr(asm, MSR.pat);
  lib.expect('PAT', 0x050100070406n);
  readMsr(asm, MSR.apicBase);
  asm.and(rax, 0xfffff900);
  lib.expect('APIC_BASE: bootstrap processor', 0xfee00900);
  for (const [name, msr] of [
    ['FS_BASE', MSR.fsBase],
    ['GS_BASE', MSR.gsBase],
    ['KERNEL_GS_BASE', MSR.kernelGs],
  ] as const) {
    writeMsr(asm, msr, 0xffffffff80012340n);
    readMsr(asm, msr);
    lib.expect(`${name} written and read`, 0xffffffff80012340n);
    refused(
      lib,
      `${name} non-canonical`,
      () => asm.mov(ecx, msr).mov(eax, 0).mov(edx, 0x10000000),
      () => asm.wrmsr(),
    );
    readMsr(asm, msr);
    lib.expect(`${name} unchanged by the refusal`, 0xffffffff80012340n);
  }
  const word = lib.data((a) => a.dq(0x1122334455667788n));
  asm
    .lea(rax, mem({ label: word.label }))
    .mov(rdx, rax)
    .shr(rdx, 32)
    .mov(ecx, MSR.gsBase)
    .wrmsr();
  asm.mov(rax, mem({ disp: 0, seg: 'gs' }));
  lib.expect('GS_BASE is the active base', 0x1122334455667788n);
  asm
    .lea(rax, mem({ label: word.label, disp: -8 }))
    .mov(rdx, rax)
    .shr(rdx, 32)
    .mov(ecx, MSR.fsBase)
    .wrmsr();
  asm.mov(rax, mem({ disp: 8, seg: 'fs' }));
  lib.expect('FS_BASE is the active base', 0x1122334455667788n);
  refused(
    lib,
    'read of an unknown MSR',
    () => asm.mov(ecx, 0x12345678),
    () => asm.rdmsr(),
  );
  refused(
    lib,
    'write to an unknown MSR',
    () => asm.mov(ecx, 0x12345678).mov(eax, 0).mov(edx, 0),
    () => asm.wrmsr(),
  );
});

testMicroGuest('an unknown MSR reads 0 while no #GP handler is registered', (asm, lib) => {
  lib.call('clear all entries', 0, 'set_trap_table', 0);
  asm.mov(ecx, 0x12345678).mov(eax, 1).mov(edx, 2).rdmsr();
  lib.expect('eax', 0);
  lib.expectRegister('edx', rdx, 0);
});

/** CPUID behind the forced-emulation prefix. */
function forcedCpuid(asm: Assembler, leaf: number): void {
  asm.mov(eax, leaf).mov(ecx, 0).bytes([0x0f, 0x0b, 0x78, 0x65, 0x6e]).cpuid();
}

testMicroGuest('CPUID behind the forced-emulation prefix', (asm, lib) => {
  asm.push(rbx);
  forcedCpuid(asm, 0x40000000);
  lib.expectRegister('signature, first part', rbx, 0x566e6558);
  lib.expectRegister('signature, second part', rcx, 0x65584d4d);
  lib.expectRegister('signature, third part', rdx, 0x4d4d566e);
  asm.cmp(eax, 0x40000002);
  lib.expectCondition('at least leaves +1 and +2', 'ae');
  forcedCpuid(asm, 0x40000001);
  asm.push(rax);
  lib.hypercall('xen_version', 0, 0);
  asm.pop(rbx).sub(rax, rbx);
  lib.expect('leaf +1 is the version', 0);
  forcedCpuid(asm, 0x40000002);
  lib.expect('leaf +2: one hypercall page', 1);
  lib.expectRegister('leaf +2: MSR', rbx, 0x40000000);
  forcedCpuid(asm, 1);
  asm.mov(rax, rdx).and(eax, 0x07008161);
  lib.expect('leaf 1 shows FPU, MSR, PAE, CX8, CMOV, FXSR, SSE, SSE2', 0x07008161);
  asm.mov(rax, rdx).and(eax, 0x3008);
  lib.expect('leaf 1 hides PSE, MTRR, PGE', 0);
  asm.mov(rax, rcx).shr(eax, 31);
  lib.expect('leaf 1 shows the hypervisor bit', 1);
  forcedCpuid(asm, 0x80000001);
  asm.mov(rax, rdx).and(eax, 0x20100800);
  lib.expect('leaf 80000001 shows LM, NX, SYSCALL', 0x20100800);
  asm.pop(rbx);
  const other = asm.unique('other');
  lib.expectTrap('the prefix before another instruction is #UD', { vector: 6, error: 'none', rip: other }, () => {
    asm.label(other).bytes([0x0f, 0x0b, 0x78, 0x65, 0x6e]).nop();
  });
});

testMicroGuest('debug registers by instruction', (asm, lib) => {
  asm.movFrom(rax, dr(6));
  lib.expect('dr6', 0xffff0ff0);
  asm.movFrom(rax, dr(7));
  lib.expect('dr7', 0x400);
  asm
    .lea(rbx, mem({ label: 'rt_trap' }))
    .movTo(dr(0), rbx)
    .movFrom(rax, dr(0))
    .sub(rax, rbx);
  lib.expect('dr0 written and read', 0);
  lib.hypercall('get_debugreg', 0);
  asm.lea(rbx, mem({ label: 'rt_trap' })).sub(rax, rbx);
  lib.expect('get_debugreg sees it', 0);
  asm.wbinvd().mov(ebx, 1);
  lib.expectRegister('wbinvd is ignored', rbx, 1);
});
