// SPDX-License-Identifier: MIT
// vcpu_op: bringing up a second vCPU, vcpu_info placement, and refusals.

import { describe, expect, it } from 'vitest';
import { ST, Seg } from '../cpu/layout.ts';
import { EEXIST, EFAULT, EINVAL, ENOENT, ENOSYS, ENXIO } from './errno.ts';
import { FakeDomain, Table, va } from './fake-domain.ts';
import { Gpr } from './guest-cpu.ts';
import { VcpuState } from './sched.ts';

const VCPU_OP = 24;
const CONTEXT = 8; // two pages

/** Fills a vcpu_guest_context at PFN 8 as Linux does for a secondary CPU. */
function context(g: FakeDomain, fields: Record<number, bigint> = {}): void {
  const values: Record<number, bigint> = {
    0x200: 4n, // VGCF_in_kernel
    0x208: 15n, // r15
    [0x208 + 80]: 0xaan, // rax
    [0x208 + 128]: va(1, 0x500), // rip
    [0x208 + 136]: 0xe030n,
    [0x208 + 144]: 0x1000n, // rflags: IOPL 1
    [0x208 + 152]: va(10, 0x800),
    [0x208 + 160]: 0xe02bn,
    [0x2d0 + 14 * 16]: 14n | (4n << 8n) | (0xe033n << 16n),
    [0x2d0 + 14 * 16 + 8]: va(1, 0x600),
    4968: 0xe02bn,
    4976: va(10),
    [4984 + 24]: BigInt(g.mfn(Table.l4)) << 12n,
    5112: va(1, 0x700),
    5152: va(11), // kernel gs
    5160: 0x1234n,
    ...fields,
  };
  for (const page of [CONTEXT, CONTEXT + 1]) g.mem.u8.fill(0, g.host(page), g.host(page) + 4096);
  for (const [offset, value] of Object.entries(values)) {
    g.put64(CONTEXT + (Number(offset) >> 12), Number(offset) & 0xfff, value);
  }
}

describe('bringing up', () => {
  it('counts vCPUs by is_up', () => {
    const g = new FakeDomain({ vcpus: 2 });
    expect([0, 1, 2, 1000].map((id) => g.call(VCPU_OP, [3, id]))).toEqual([1, 0, -ENOENT, -ENOENT]);
  });

  it('initialises and starts a vCPU with the state given', () => {
    const g = new FakeDomain({ vcpus: 2 });
    expect(g.call(VCPU_OP, [1, 1])).toBe(-EINVAL);
    context(g);
    expect(g.call(VCPU_OP, [0, 1, va(CONTEXT)])).toBe(0);
    expect(g.call(VCPU_OP, [0, 1, va(CONTEXT)])).toBe(-EEXIST);
    expect(g.domain.sched.state(1)).toBe(VcpuState.Offline);
    expect(g.call(VCPU_OP, [1, 1])).toBe(0);
    expect(g.domain.sched.state(1)).toBe(VcpuState.Runnable);
    const v = g.domain.vcpus[1];
    const cpu = g.cpus[1];
    expect([g.reg(15, 1), g.reg(Gpr.rax, 1), g.reg(Gpr.rsp, 1)]).toEqual([15n, 0xaan, va(10, 0x800)]);
    expect(g.read64(cpu.base + ST.rip)).toBe(va(1, 0x500));
    expect(g.mem.u16[(cpu.base + ST.selector) / 2 + Seg.cs]).toBe(0xe033);
    expect(g.read64(cpu.base + ST.segBase + Seg.gs * 8)).toBe(va(11));
    expect([v.gsInactiveLo, v.iopl, v.kernelMode, v.kernelRoot]).toEqual([0x1234, 1, true, g.mfn(Table.l4)]);
    expect([v.trapAddress[28], v.trapFlags[14]]).toEqual([0x80001600, 4]);
    expect(cpu.getRflags()).toBe(0x202);
    expect(g.mem.u8[v.info + 1]).toBe(1);
    expect(g.domain.pages.typeCount[g.mfn(Table.l4)]).toBe(3);
  });

  it('refuses a context that cannot be and keeps nothing of it', () => {
    const g = new FakeDomain({ vcpus: 2 });
    const before = g.domain.pages.typeCount[g.mfn(Table.l4)];
    const impossible: Record<number, bigint>[] = [
      { [4984 + 24]: BigInt(g.mfn(5)) << 12n },
      { [4984 + 8]: BigInt(g.mfn(5)) << 12n },
      { [0x208 + 128]: 0x8000_00000000n },
      { 4824: 9000n },
      { 4960: 8000n },
      { 4960: 10n, 4832: BigInt(g.mfn(5)) },
    ];
    for (const fields of impossible) {
      context(g, fields);
      expect(g.call(VCPU_OP, [0, 1, va(CONTEXT)])).toBe(-EINVAL);
      expect(g.domain.pages.typeCount[g.mfn(Table.l4)]).toBe(before);
    }
    expect(g.call(VCPU_OP, [0, 1, 0x1000])).toBe(-EFAULT);
    expect(g.domain.vcpus[1].initialised).toBe(false);
  });

  it('powers off when the last vCPU goes down', () => {
    const g = new FakeDomain();
    expect(g.call(VCPU_OP, [2, 0])).toBe(0);
    expect(g.domain.shutdown?.reason).toBe('poweroff');
  });
});

describe('registered areas', () => {
  it('moves vcpu_info once, with its contents, and marks every event', () => {
    const g = new FakeDomain();
    const v = g.domain.vcpus[0];
    g.write64(v.info + 0x10, 0xc2n);
    g.put64(2, 0, BigInt(g.mfn(20)), 0x40n);
    expect(g.call(VCPU_OP, [10, 0, va(2)])).toBe(0);
    expect(v.info).toBe(g.host(20) + 0x40);
    expect(g.read64(v.info + 0x10)).toBe(0xc2n);
    expect(g.mem.u8[v.info]).toBe(1);
    expect(g.read64(v.info + 8)).toBe(0xffffffffffffffffn);
    expect(g.mem.u32[(v.info + 0x20) >>> 2] & 1).toBe(0);
    expect(g.call(VCPU_OP, [10, 0, va(2)])).toBe(-EINVAL);
  });

  it('checks where vcpu_info goes', () => {
    const g = new FakeDomain({ vcpus: 2 });
    const attempt = (mfn: number, offset: number): number => {
      g.put64(2, 0, BigInt(mfn), BigInt(offset));
      return g.call(VCPU_OP, [10, 1, va(2)]);
    };
    expect(attempt(g.mfn(20), 4096 - 63)).toBe(-ENXIO);
    expect(attempt(g.mfn(20), 3)).toBe(-EINVAL);
    expect(attempt(g.mfn(Table.l1), 0)).toBe(-EINVAL);
    expect(attempt(0xfffff, 0)).toBe(-EINVAL);
    expect(g.call(VCPU_OP, [10, 1, 0x1000])).toBe(-EFAULT);
    expect(attempt(g.mfn(20), 4096 - 64)).toBe(0);
    // The frame is in use: it cannot become a page table.
    expect(g.call(14, [va(20), 0, 0])).toBe(0);
    g.put64(4, 0, 0n, BigInt(g.mfn(20)), 0n);
    expect(g.call(26, [va(4), 1, 0, 0x7ff0])).toBe(-EINVAL);
  });

  it('registers the runstate area and writes it', () => {
    const g = new FakeDomain();
    g.put64(2, 0, va(20));
    expect(g.call(VCPU_OP, [5, 0, va(2)])).toBe(0);
    expect(g.get64(20) & 0xffffffffn).toBe(0n);
    expect(g.get64(20, 8)).toBe(1_000_000_000n);
  });
});

describe('the rest', () => {
  it('runs the timers and refuses the unknown', () => {
    const g = new FakeDomain({ vcpus: 2 });
    expect(g.call(VCPU_OP, [7, 0])).toBe(0);
    g.put64(2, 0, 500_000n);
    expect(g.call(VCPU_OP, [6, 0, va(2)])).toBe(-EINVAL);
    g.put64(2, 0, 2_000_000_000n, 0n);
    expect(g.call(VCPU_OP, [8, 0, va(2)])).toBe(0);
    expect(g.call(VCPU_OP, [8, 1, va(2)])).toBe(-EINVAL);
    expect(g.call(VCPU_OP, [9, 0])).toBe(0);
    expect(g.call(VCPU_OP, [4, 0, va(3)])).toBe(0);
    expect(g.call(VCPU_OP, [12, 0])).toBe(-EINVAL);
    expect(g.call(VCPU_OP, [14, 0])).toBe(-ENOSYS);
  });
});
