// SPDX-License-Identifier: MIT
// Emulated privileged instructions: control and debug registers, MSRs, ports, virtual IOPL, forced CPUID.

import { beforeEach, describe, expect, it } from 'vitest';
import { ST, Seg } from '../cpu/layout.ts';
import { DOMID_SELF } from './context.ts';
import { FakeDomain, Table, va } from './fake-domain.ts';
import { Gpr } from './guest-cpu.ts';
import { VmAssist } from './vm-assist.ts';

const CODE = 12;
const HANDLER = va(2, 0x100);
let g: FakeDomain;
let trapped = false;

/** Lets the instruction raise #GP; true when it was emulated and rip is behind it. */
function run(bytes: readonly number[], offset = 0): boolean {
  for (const [n, byte] of bytes.entries()) g.putBytes(CODE + ((offset + n) >> 12), (offset + n) & 0xfff, [byte]);
  g.rip = va(CODE, offset);
  g.setReg(Gpr.rsp, va(6));
  g.fault(13, 0);
  trapped = g.rip === HANDLER;
  return g.rip === va(CODE, offset + bytes.length);
}
const rdmsr = (index: bigint): bigint | 'fault' => {
  g.setReg(Gpr.rcx, index);
  return run([0x0f, 0x32]) ? (g.reg(Gpr.rdx) << 32n) | g.reg(Gpr.rax) : 'fault';
};
const wrmsr = (index: bigint, value: bigint): boolean => {
  g.setReg(Gpr.rcx, index);
  g.setReg(Gpr.rax, value & 0xffffffffn);
  g.setReg(Gpr.rdx, value >> 32n);
  return run([0x0f, 0x30]);
};
const setIopl = (iopl: number): number => {
  g.put64(3, 0, BigInt(iopl));
  return g.call(33, [6, va(3)]);
};
/** Makes user code run: without executing anything. */
const enterUser = (): void => {
  g.put64(4, 0, 15n, BigInt(g.mfn(Table.l4)), 0n);
  expect(g.call(26, [va(4), 1, 0, DOMID_SELF])).toBe(0);
  expect(g.call(3, [0xe02b, va(6)])).toBe(0);
  g.domain.vcpus[0].toggleMode();
};

beforeEach(() => {
  g = new FakeDomain();
  g.trap(13, HANDLER);
  g.trap(6, HANDLER);
});

describe('control registers', () => {
  it('reads CR0, CR3 and CR4 as Xen shows them', () => {
    expect(run([0x0f, 0x20, 0xc0])).toBe(true); // mov rax, cr0
    expect(g.reg(Gpr.rax)).toBe(0x80050033n);
    expect(run([0x41, 0x0f, 0x20, 0xd9])).toBe(true); // mov r9, cr3
    expect(g.reg(Gpr.r9)).toBe(BigInt(g.mfn(Table.l4)) << 12n);
    expect(run([0x0f, 0x20, 0xe3])).toBe(true); // mov rbx, cr4
    expect(g.reg(Gpr.rbx)).toBe(0x660n);
    expect(run([0x44, 0x0f, 0x20, 0xc0])).toBe(false); // mov rax, cr8
    expect(trapped).toBe(true);
  });

  it('changes TS only, by CR0 or CLTS', () => {
    g.setReg(Gpr.rax, 0x8005003bn);
    expect(run([0x0f, 0x22, 0xc0])).toBe(true);
    expect(g.cpu.taskSwitched).toBe(true);
    expect(run([0x0f, 0x20, 0xc1])).toBe(true);
    expect(g.reg(Gpr.rcx)).toBe(0x8005003bn);
    expect(run([0x0f, 0x06])).toBe(true);
    expect(g.cpu.taskSwitched).toBe(false);
    g.setReg(Gpr.rax, 0x80050032n);
    expect(run([0x0f, 0x22, 0xc0])).toBe(false);
  });

  it('mirrors CR2 in vcpu_info', () => {
    g.setReg(Gpr.rax, 0xabcdef12345n);
    expect(run([0x0f, 0x22, 0xd0])).toBe(true);
    expect(g.read64(g.domain.vcpus[0].info + 0x10)).toBe(0xabcdef12345n);
    expect(run([0x0f, 0x20, 0xd1])).toBe(true);
    expect(g.reg(Gpr.rcx)).toBe(0xabcdef12345n);
  });

  it('loads CR3 like NEW_BASEPTR and refuses what is no L4', () => {
    g.setReg(Gpr.rax, BigInt(g.mfn(Table.l4)) << 12n);
    expect(run([0x0f, 0x22, 0xd8])).toBe(true);
    g.setReg(Gpr.rax, BigInt(g.mfn(9)) << 12n);
    expect(run([0x0f, 0x22, 0xd8])).toBe(false);
  });

  it('takes TSD from CR4 and ignores the rest', () => {
    g.setReg(Gpr.rax, 0x1506fffn);
    expect(run([0x0f, 0x22, 0xe0])).toBe(true);
    expect(g.cpu.guestCr4).toBe(4);
    expect(run([0x0f, 0x31])).toBe(true); // rdtsc, which TSD made fault
    expect(g.reg(Gpr.rax)).toBe(1_000_000_000n);
  });
});

describe('MSRs', () => {
  it('writes the GS base before any handler exists (the first thing Linux does)', () => {
    expect(g.call(0, [0])).toBe(0);
    expect(wrmsr(0xc0000101n, 0xffffffff83044000n)).toBe(true);
    expect(g.read64(g.cpu.base + ST.segBase + Seg.gs * 8)).toBe(0xffffffff83044000n);
    expect(rdmsr(0xc0000101n)).toBe(0xffffffff83044000n);
    expect(g.domain.shutdown).toBeNull();
  });

  it('has the user GS base under KERNEL_GS_BASE, and refuses non-canonical bases', () => {
    expect(wrmsr(0xc0000102n, 0x7000n)).toBe(true);
    expect(g.domain.vcpus[0].gsInactiveLo).toBe(0x7000);
    expect(rdmsr(0xc0000102n)).toBe(0x7000n);
    for (const index of [0xc0000100n, 0xc0000101n, 0xc0000102n]) expect(wrmsr(index, 0x8000_00000000n)).toBe(false);
  });

  it('answers the ones kernels look at', () => {
    expect(rdmsr(0x1bn)).toBe(0xfee00900n);
    expect(rdmsr(0x8bn)).toBe(0n);
    expect(rdmsr(0x277n)).toBe(0x50100070406n);
    expect(rdmsr(0xc0000080n)).toBe(0xd01n);
    expect(rdmsr(0x10n)).toBe(1_000_000_000n);
    expect([wrmsr(0x8bn, 0n), wrmsr(0xc0000080n, 0xd01n), wrmsr(0xc0000103n, 5n)]).toEqual([true, true, true]);
    expect([wrmsr(0x8bn, 1n), wrmsr(0xc0000080n, 0n), wrmsr(0x277n, 0n)]).toEqual([false, false, false]);
    expect(rdmsr(0xc0000103n)).toBe(5n);
  });

  it('faults on the unknown, but fakes a read while there is no #GP handler', () => {
    expect(rdmsr(0xc0010055n)).toBe('fault');
    expect(trapped).toBe(true);
    expect(g.call(0, [0])).toBe(0);
    expect(rdmsr(0xc0010055n)).toBe(0n);
    expect(g.domain.counters.get('msr.faked-read.0xc0010055')).toBe(1);
  });

  it('fills a hypercall page through its MSR', () => {
    expect(wrmsr(0x40000000n, BigInt(g.mfn(20)) << 12n)).toBe(true);
    expect(g.mem.u8.slice(g.host(20) + 32 * 17, g.host(20) + 32 * 17 + 5)).toEqual(
      Uint8Array.of(0x51, 0x41, 0x53, 0xb8, 17),
    );
    expect(wrmsr(0x40000000n, BigInt(g.mfn(Table.l1)) << 12n)).toBe(false);
    expect(wrmsr(0x40000000n, (BigInt(g.mfn(20)) << 12n) + 1n)).toBe(false);
  });

  it('belong to the kernel', () => {
    enterUser();
    g.setReg(Gpr.rcx, 0x1bn);
    expect(run([0x0f, 0x32])).toBe(false);
  });
});

describe('ports and virtual IOPL', () => {
  const OUT = [0xe6, 0x80];
  const CLI = [0xfa];

  it('let the kernel at IOPL 1 and user code at 3', () => {
    expect([run(CLI), run(OUT)]).toEqual([false, false]);
    expect(setIopl(1)).toBe(0);
    expect([run(CLI), run([0xfb]), run(OUT)]).toEqual([true, true, true]);
    enterUser();
    expect(run(CLI)).toBe(false);
    g.domain.vcpus[0].kernelMode = true;
    expect(setIopl(3)).toBe(0);
    g.domain.vcpus[0].kernelMode = false;
    expect([run(CLI), run(OUT)]).toEqual([true, true]);
  });

  it('count the kernel as CPL 0 with architectural_iopl', () => {
    expect(g.call(21, [0, VmAssist.architecturalIopl])).toBe(0);
    expect(run(CLI)).toBe(true);
  });

  it('read as ones, in the width asked for', () => {
    expect(setIopl(1)).toBe(0);
    const read = (bytes: readonly number[]): bigint => {
      g.setReg(Gpr.rax, 0x1111111111111111n);
      expect(run(bytes)).toBe(true);
      return g.reg(Gpr.rax);
    };
    expect(read([0xe4, 0x61])).toBe(0x11111111111111ffn);
    expect(read([0x66, 0xed])).toBe(0x111111111111ffffn);
    expect(read([0xed])).toBe(0xffffffffn);
  });

  it('are opened one by one by the bitmap', () => {
    g.mem.u8.fill(0xff, g.host(30), g.host(30) + 4096);
    g.mem.u8[g.host(30) + 0x10] = 0xfd; // port 0x81
    g.put64(3, 0, va(30), 1024n);
    expect(g.call(33, [7, va(3)])).toBe(0);
    enterUser();
    expect([run([0xe6, 0x81]), run([0xe6, 0x80]), run([0xe7, 0x81])]).toEqual([true, false, false]);
    expect(g.domain.vcpus[0].kernelMode).toBe(true); // the refused ones were delivered
  });

  it('do string transfers, repeated', () => {
    expect(setIopl(1)).toBe(0);
    g.setReg(Gpr.rdi, va(20, 0xffe));
    g.setReg(Gpr.rcx, 3n);
    g.mem.u8.fill(0, g.host(21), g.host(21) + 8);
    expect(run([0xf3, 0x66, 0x6d])).toBe(true); // rep insw
    expect([g.reg(Gpr.rdi), g.reg(Gpr.rcx)]).toEqual([va(21, 4), 0n]);
    expect(g.get64(21)).toBe(0xffffffffn);
    g.setReg(Gpr.rsi, va(20));
    expect(run([0x6e])).toBe(true); // outsb
    expect(g.reg(Gpr.rsi)).toBe(va(20, 1));
    g.setReg(Gpr.rdi, 0x1000n);
    expect(run([0x6c])).toBe(false);
  });
});

describe('the rest', () => {
  it('ignores WBINVD and refuses HLT, INVLPG, LGDT', () => {
    expect(run([0x0f, 0x09])).toBe(true);
    for (const bytes of [[0xf4], [0x0f, 0x01, 0x38], [0x0f, 0x01, 0x10]]) expect(run(bytes)).toBe(false);
    expect(g.domain.shutdown).toBeNull();
  });

  it('decodes instructions that lie across a page', () => {
    expect(run([0x0f, 0x20, 0xc0], 4095)).toBe(true);
  });

  it('executes the forced emulation prefix with CPUID only', () => {
    const forced = (bytes: readonly number[]): bigint => {
      g.putBytes(CODE, 0, bytes);
      g.rip = va(CODE);
      g.setReg(Gpr.rsp, va(6));
      g.fault(6);
      return g.rip;
    };
    g.setReg(Gpr.rax, 0x40000000n);
    expect(forced([0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2])).toBe(va(CODE, 7));
    expect([g.reg(Gpr.rax), g.reg(Gpr.rbx), g.reg(Gpr.rcx), g.reg(Gpr.rdx)]).toEqual([
      0x40000005n,
      0x566e6558n,
      0x65584d4dn,
      0x4d4d566en,
    ]);
    expect(forced([0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0x31])).toBe(HANDLER);
    expect(forced([0x0f, 0x0b])).toBe(HANDLER);
  });
});

it('debug registers are emulated and checked', () => {
  const v = g.domain.vcpus[0];
  g.setReg(Gpr.rax, va(9));
  expect(run([0x0f, 0x23, 0xc8])).toBe(true); // mov dr1, rax
  expect(v.debugLo[1]).toBe(0x80009000);
  expect(run([0x0f, 0x21, 0xcb])).toBe(true); // mov rbx, dr1
  expect(g.reg(Gpr.rbx)).toBe(va(9));
  g.setReg(Gpr.rax, 0xffff800000000000n);
  expect(run([0x0f, 0x23, 0xc8])).toBe(false);
});
