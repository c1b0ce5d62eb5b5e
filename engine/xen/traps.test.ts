// SPDX-License-Identifier: MIT
// Bounce frames, events, soft interrupts, system-call entry and HYPERVISOR_iret.

import { beforeEach, describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { ST, Seg } from '../cpu/layout.ts';
import { DOMID_SELF } from './context.ts';
import { FakeDomain, Table, va } from './fake-domain.ts';
import { Gpr } from './guest-cpu.ts';

const HANDLER = va(2, 0x100);
const EVENT = va(2, 0x200);
const SYSCALL = va(2, 0x300);
const MASK_EVENTS = 4;

let g: FakeDomain;
const vcpu = (): FakeDomain['domain']['vcpus'][0] => g.domain.vcpus[0];
const mask = (): number => g.mem.u8[vcpu().info + 1];
const setMask = (value: number): void => {
  g.mem.u8[vcpu().info + 1] = value;
};
/** The quadwords from RSP up. */
const frame = (words: number): bigint[] => {
  const rsp = g.reg(Gpr.rsp);
  const pfn = Number((rsp - va(0)) >> 12n);
  return Array.from({ length: words }, (_, n) => {
    const at = Number(rsp & 0xfffn) + n * 8;
    return g.get64(pfn + (at >> 12), at & 0xfff);
  });
};
/** Sets up user mode: its root, the kernel stack, and a return to user code. */
const enterUser = (): void => {
  g.put64(4, 0, 15n, BigInt(g.mfn(Table.l4)), 0n);
  expect(g.call(26, [va(4), 1, 0, DOMID_SELF])).toBe(0);
  expect(g.call(3, [0xe02b, va(6)])).toBe(0);
  iret({ cs: 0xe033n, rip: 0x400000n, rsp: 0x7fff0000n, rflags: 0x202n, flags: 0n, ss: 0xe02bn });
  expect(vcpu().kernelMode).toBe(false);
};
interface IretFrame {
  rax?: bigint;
  r11?: bigint;
  rcx?: bigint;
  flags: bigint;
  rip: bigint;
  cs: bigint;
  rflags: bigint;
  rsp: bigint;
  ss: bigint;
}
const iret = (f: IretFrame, at = va(5, 0x100)): void => {
  const pfn = Number((at - va(0)) >> 12n);
  const values = [f.rax ?? 1n, f.r11 ?? 2n, f.rcx ?? 3n, f.flags, f.rip, f.cs, f.rflags, f.rsp, f.ss];
  for (const [n, value] of values.entries()) {
    const offset = Number(at & 0xfffn) + n * 8;
    g.put64(pfn + (offset >> 12), offset & 0xfff, value);
  }
  g.setReg(Gpr.rsp, at);
  g.setReg(Gpr.rax, 23n);
  g.exit(Exit.Syscall);
};

beforeEach(() => {
  g = new FakeDomain();
  g.rip = va(1, 0x40);
  setMask(0);
});

describe('exceptions in the kernel', () => {
  it('push an aligned frame without error code on the current stack', () => {
    g.trap(0, HANDLER);
    g.rip = va(1, 0x40);
    g.setReg(Gpr.rsp, va(3, 0x105));
    g.setReg(Gpr.rcx, 0xccn);
    g.setReg(Gpr.r11, 0x11n);
    g.cpu.setRflags(0x40302 | 0x4000 | 0x1);
    g.fault(0);
    expect(g.reg(Gpr.rsp)).toBe(va(3, 0x100 - 56));
    expect(frame(7)).toEqual([0xccn, 0x11n, va(1, 0x40), 0xe030n, 0x44303n, va(3, 0x105), 0xe02bn]);
    expect(g.rip).toBe(HANDLER);
    expect(g.cpu.getRflags()).toBe(0x203);
    expect(mask()).toBe(0);
    expect(g.selector(Seg.cs)).toBe(0xe033);
  });

  it('carry the error code, the saved mask in bits 32-39 and IF as its inverse', () => {
    g.trap(13, HANDLER, MASK_EVENTS);
    g.rip = va(1, 0x40);
    g.setReg(Gpr.rsp, va(3));
    setMask(1);
    g.fault(13, 0x18);
    const [, , error, rip, cs, rflags] = frame(8);
    expect([error, rip, cs, rflags]).toEqual([0x18n, va(1, 0x40), 0x1_0000e030n, 0x2n]);
    expect(mask()).toBe(1);
  });

  it('mask events through an interrupt gate', () => {
    g.trap(6, HANDLER, MASK_EVENTS);
    g.setReg(Gpr.rsp, va(3));
    g.fault(6);
    expect(mask()).toBe(1);
    expect(frame(4)[3]).toBe(0xe030n);
  });

  it('give page faults their address in vcpu_info and the user bit of the guest, not of the CPU', () => {
    g.trap(14, HANDLER);
    g.setReg(Gpr.rsp, va(3));
    g.fault(14, 0x6, 0xffff888012345678n);
    expect(frame(3)[2]).toBe(0x2n);
    expect(g.read64(vcpu().info + 0x10)).toBe(0xffff888012345678n);
  });

  it('may put a frame across two pages', () => {
    g.trap(13, HANDLER);
    g.rip = va(1, 0x40);
    g.setReg(Gpr.rsp, va(3, 0x20));
    g.fault(13, 8);
    expect(g.reg(Gpr.rsp)).toBe(va(2, 0xfe0));
    expect(frame(8).slice(2, 5)).toEqual([8n, va(1, 0x40), 0xe030n]);
    expect(frame(8)[6]).toBe(va(3, 0x20));
  });

  it('clear TS when #NM is delivered', () => {
    g.trap(7, HANDLER);
    expect(g.call(5, [1])).toBe(0);
    expect(g.cpu.taskSwitched).toBe(true);
    g.setReg(Gpr.rsp, va(3));
    g.fault(7);
    expect(g.cpu.taskSwitched).toBe(false);
  });

  it('add to DR6 what the processor reports', () => {
    g.trap(1, HANDLER);
    g.setReg(Gpr.rsp, va(3));
    g.mem.u32[(g.cpu.base + ST.debugStatus) >>> 2] = 0x4002;
    g.fault(1);
    expect(vcpu().debugLo[6]).toBe(0xffff4ff2);
  });
});

describe('crashes with a reason', () => {
  const reason = (): string => g.domain.shutdown?.message ?? '';

  it('no handler', () => {
    g.fault(6);
    expect(g.domain.shutdown?.reason).toBe('crash');
    expect(reason()).toContain('unhandled exception 6 (invalid opcode)');
    expect(reason()).toContain('rip=0xffffffff80001040');
    expect(g.log).toHaveLength(1);
  });

  it("kernel stack unmapped, in a page table, or in Xen's area", () => {
    for (const stack of [0x1000n, va(Table.l1, 0x800), 0xffff800000000100n, 0x8000_00000000n]) {
      g = new FakeDomain();
      g.trap(6, HANDLER);
      g.setReg(Gpr.rsp, stack);
      g.fault(6);
      expect(reason()).toContain('kernel stack');
    }
  });

  it('iret to user mode without user tables, or with an unreadable frame', () => {
    iret({ cs: 0xe033n, rip: 0n, rsp: 0n, rflags: 0n, flags: 0n, ss: 0n });
    expect(reason()).toContain('without user page tables');
    g = new FakeDomain();
    g.setReg(Gpr.rsp, 0x1000n);
    g.setReg(Gpr.rax, 23n);
    g.exit(Exit.Syscall);
    expect(reason()).toContain('unreadable frame');
  });
});

describe('events', () => {
  const pend = (): void => {
    g.mem.u8[vcpu().info] = 1;
  };
  beforeEach(() => {
    g.put64(0, 0, 0n, EVENT);
    expect(g.call(30, [0, va(0)])).toBe(0);
    g.setReg(Gpr.rsp, va(3));
    g.rip = va(1, 0x40);
  });

  it('are delivered after any exit when pending and not masked', () => {
    pend();
    g.exit(Exit.Budget);
    expect(g.rip).toBe(EVENT);
    expect(mask()).toBe(1);
    expect(frame(5)[3]).toBe(0xe030n);
    expect(frame(5)[4]).toBe(0x202n);
    // Pending stays for the guest to clear, and the mask keeps a second one away.
    expect(g.mem.u8[vcpu().info]).toBe(1);
    const rsp = g.reg(Gpr.rsp);
    g.exit(Exit.Budget);
    expect(g.reg(Gpr.rsp)).toBe(rsp);
    expect(g.domain.upcalls).toBe(1);
  });

  it('wait while masked and come with the hypercall after unmasking', () => {
    setMask(1);
    pend();
    expect(g.call(17, [0, 0])).toBe(0x40011);
    expect(g.rip).toBe(va(1, 0x40));
    setMask(0);
    expect(g.call(17, [0, 0])).toBe(0x40011);
    expect(g.rip).toBe(EVENT);
  });

  it('interrupt user code on the kernel stack', () => {
    enterUser();
    pend();
    g.exit(Exit.Budget);
    expect(vcpu().kernelMode).toBe(true);
    expect(g.reg(Gpr.rsp)).toBe(va(6) - 56n);
    expect(frame(7).slice(2)).toEqual([0x400000n, 0xe033n, 0x202n, 0x7fff0000n, 0xe02bn]);
  });

  it('are delivered at once by an iret that unmasks them', () => {
    setMask(1);
    pend();
    iret({ cs: 0xe030n, rip: va(1, 0x80), rsp: va(3), rflags: 0x202n, flags: 0n, ss: 0xe02bn });
    expect(g.rip).toBe(EVENT);
    expect(frame(3)[2]).toBe(va(1, 0x80));
  });

  it('come after an NMI, which is masked until iret', () => {
    g.trap(2, HANDLER, MASK_EVENTS);
    g.setReg(Gpr.rsp, va(3));
    expect(g.call(24, [11, 0, 0])).toBe(0);
    expect(g.rip).toBe(HANDLER);
    g.rip = va(1, 0x40);
    expect(g.call(24, [11, 0, 0])).toBe(0);
    expect(g.rip).toBe(va(1, 0x40));
    iret({ cs: 0xe030n, rip: va(1, 0x80), rsp: va(3), rflags: 0x202n, flags: 0n, ss: 0xe02bn });
    expect(g.rip).toBe(HANDLER);
  });
});

describe('HYPERVISOR_iret', () => {
  it('returns to the kernel with all registers of the frame', () => {
    g.setReg(Gpr.rbx, 0xbbn);
    iret({
      rax: 9n,
      r11: 8n,
      rcx: 7n,
      cs: 0xe030n,
      rip: va(1, 0x99),
      rsp: va(3, 8),
      rflags: 0x3ed7n,
      flags: 0n,
      ss: 0xe02bn,
    });
    expect([g.reg(Gpr.rax), g.reg(Gpr.r11), g.reg(Gpr.rcx), g.reg(Gpr.rbx)]).toEqual([9n, 8n, 7n, 0xbbn]);
    expect([g.rip, g.reg(Gpr.rsp)]).toEqual([va(1, 0x99), va(3, 8)]);
    expect(g.cpu.getRflags()).toBe(0xed7);
    expect(mask()).toBe(0);
    expect(g.selector(Seg.cs)).toBe(0xe033);
    expect(vcpu().kernelMode).toBe(true);
  });

  it('masks events when the frame has IF clear', () => {
    iret({ cs: 0xe030n, rip: va(1), rsp: va(3), rflags: 0x2n, flags: 0n, ss: 0xe02bn });
    expect(mask()).toBe(1);
    expect(g.cpu.getRflags()).toBe(0x202);
  });

  it('returns as SYSRET with VGCF_in_syscall', () => {
    iret({ rcx: 5n, r11: 5n, cs: 0x10n, rip: va(1, 4), rsp: va(3), rflags: 0x246n, flags: 0x100n, ss: 0x18n });
    expect(g.reg(Gpr.rcx)).toBe(va(1, 4));
    expect(g.reg(Gpr.r11)).toBe(0x246n);
    expect([g.selector(Seg.cs), g.selector(Seg.ss)]).toEqual([0xe033, 0xe02b]);
  });

  it('goes to user mode with swapped GS bases and the user root', () => {
    expect(g.call(25, [1, 0x1111])).toBe(0);
    expect(g.call(25, [2, va(7)])).toBe(0);
    enterUser();
    const gs = g.cpu.base + ST.segBase + Seg.gs * 8;
    expect(g.read64(gs)).toBe(0x1111n);
    vcpu().trapAddress.set([Number(HANDLER & 0xffffffffn), Number(HANDLER >> 32n)], 12);
    g.fault(6);
    expect(g.read64(gs)).toBe(va(7));
    expect(vcpu().kernelMode).toBe(true);
  });

  it('reads a frame that is unaligned or lies across pages', () => {
    for (const at of [va(5, 0xfd8), va(8, 0x103)]) {
      iret({ rax: 6n, cs: 0xe030n, rip: va(1, 0x33), rsp: va(3), rflags: 0x202n, flags: 0n, ss: 0xe02bn }, at);
      expect([g.reg(Gpr.rax), g.rip]).toEqual([6n, va(1, 0x33)]);
      if ((at & 7n) !== 0n) break;
    }
  });

  it('raises a bad code selector or rip in the context returned to', () => {
    g.trap(13, HANDLER);
    iret({ cs: 0x1238n, rip: va(1, 4), rsp: va(3), rflags: 0x202n, flags: 0n, ss: 0xe02bn });
    expect(g.rip).toBe(HANDLER);
    expect(frame(4).slice(2)).toEqual([0x1238n, va(1, 4)]);
    iret({ cs: 0xe030n, rip: 0x8000_00000000n, rsp: va(3), rflags: 0x202n, flags: 0n, ss: 0xe02bn });
    expect(frame(4).slice(2)).toEqual([0n, 0x8000_00000000n]);
  });
});

describe('system calls of user code', () => {
  const register = (type: bigint, address: bigint): void => {
    g.put64(0, 0, type, address);
    expect(g.call(30, [0, va(0)])).toBe(0);
  };

  it('enter the kernel at the syscall callback', () => {
    register(2n | (1n << 16n), SYSCALL);
    enterUser();
    g.cpu.setRflags(0x602);
    g.rip = 0x400002n;
    g.exit(Exit.Syscall);
    expect(g.rip).toBe(SYSCALL);
    expect(frame(7)).toEqual([0x400002n, 0x602n, 0x400002n, 0xe033n, 0x602n, 0x7fff0000n, 0xe02bn]);
    expect(g.cpu.getRflags()).toBe(0x202);
    expect(mask()).toBe(1);
  });

  it('use the 32-bit callback in compatibility mode', () => {
    register(7n, SYSCALL);
    enterUser();
    g.mem.i32[(g.cpu.base + ST.mode) >>> 2] = 32;
    g.exit(Exit.Syscall);
    expect(g.rip).toBe(SYSCALL);
    expect(frame(4)[3]).toBe(0xe023n);
  });

  it('are undefined instructions without callback', () => {
    g.trap(6, HANDLER);
    enterUser();
    g.rip = 0x400002n;
    g.exit(Exit.Syscall);
    expect(g.rip).toBe(HANDLER);
    expect(frame(3)[2]).toBe(0x400000n);
  });

  it('by SYSENTER have a frame without origin, or are #GP', () => {
    g.trap(13, HANDLER);
    enterUser();
    g.exit(Exit.Sysenter);
    expect(g.rip).toBe(HANDLER);
    register(5n, SYSCALL);
    enterUser();
    g.exit(Exit.Sysenter);
    expect(g.rip).toBe(SYSCALL);
    expect(frame(7).slice(2)).toEqual([0n, 3n, 0x202n, 0n, 0xe02bn]);
  });
});

describe('soft interrupts', () => {
  beforeEach(() => {
    g.trap(13, HANDLER);
    g.setReg(Gpr.rsp, va(3));
    g.rip = va(1, 0x42);
  });

  it('need DPL 1 from the kernel and 3 from user code, and push no error code', () => {
    g.trap(0x30, EVENT, 1);
    g.setReg(Gpr.rsp, va(3));
    g.rip = va(1, 0x42);
    g.softInterrupt(0x30);
    expect(g.rip).toBe(EVENT);
    expect(frame(3)[2]).toBe(va(1, 0x42));
    enterUser();
    g.rip = 0x400002n;
    g.softInterrupt(0x30);
    expect(g.rip).toBe(HANDLER);
    expect(frame(4).slice(2)).toEqual([0x182n, 0x400000n]);
  });

  it('0x80 without handler is #GP(0x402) at the instruction', () => {
    g.softInterrupt(0x80);
    expect(g.rip).toBe(HANDLER);
    expect(frame(4).slice(2)).toEqual([0x402n, va(1, 0x40)]);
  });

  it('INT3 and INTO ignore the DPL', () => {
    for (const vector of [3, 4]) {
      g.trap(vector, EVENT);
      g.setReg(Gpr.rsp, va(3));
      g.rip = va(1, 0x41);
      g.softInterrupt(vector);
      expect(g.rip).toBe(EVENT);
      expect(frame(3)[2]).toBe(va(1, 0x41));
    }
  });

  it('a vector that pushes an error code as an exception pushes none as INT n', () => {
    g.trap(10, EVENT, 3);
    g.setReg(Gpr.rsp, va(3));
    g.rip = va(1, 0x42);
    g.softInterrupt(10);
    expect(g.reg(Gpr.rsp)).toBe(va(3) - 56n);
    expect(frame(3)[2]).toBe(va(1, 0x42));
  });
});
