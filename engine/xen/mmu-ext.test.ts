// SPDX-License-Identifier: MIT
// mmuext_op: pins, roots, page operations, flushes and their refusals.

import { describe, expect, it } from 'vitest';
import { DOMID_SELF } from './context.ts';
import { EACCES, EFAULT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from './errno.ts';
import { FakeDomain, Table, va } from './fake-domain.ts';
import { PageType } from './page-types.ts';

type Op = readonly [command: number, arg1?: bigint, arg2?: bigint];

function ext(g: FakeDomain, ...ops: readonly Op[]): number {
  g.put64(4, 0, ...ops.flatMap(([command, arg1, arg2]) => [BigInt(command), arg1 ?? 0n, arg2 ?? 0n]));
  return g.call(26, [va(4), ops.length, 0, DOMID_SELF]);
}
const unmap = (g: FakeDomain, pfn: number): number => g.call(14, [va(pfn), 0, 0]);

describe('pinning', () => {
  it('pins and unpins a table once', () => {
    const g = new FakeDomain();
    const mfn = BigInt(g.mfn(30));
    expect(ext(g, [0, mfn])).toBe(-EINVAL); // mapped writable
    expect(unmap(g, 30)).toBe(0);
    expect(ext(g, [4, mfn])).toBe(-EINVAL); // not pinned
    expect(ext(g, [0, mfn])).toBe(0);
    expect(ext(g, [0, mfn])).toBe(-EINVAL); // twice
    expect(ext(g, [1, mfn])).toBe(-EINVAL);
    expect(ext(g, [4, mfn])).toBe(0);
    expect(ext(g, [1, mfn])).toBe(0);
    expect(g.domain.pages.hasType(g.mfn(30), PageType.l2)).toBe(true);
  });

  it("refuses frames that are not the guest's", () => {
    const g = new FakeDomain();
    expect(ext(g, [3, BigInt(g.domain.sharedInfoMfn)])).toBe(-EINVAL);
    expect(ext(g, [3, 0xffffffffffn])).toBe(-EINVAL);
    expect(ext(g, [4, 0xffffffffffn])).toBe(-EINVAL);
  });
});

describe('roots', () => {
  it('replaces the tables as grub-xen does: pin, new root, unpin the old, in one call', () => {
    const g = new FakeDomain();
    for (const pfn of [20]) expect(unmap(g, pfn)).toBe(0);
    g.put64(20, 511 * 8, g.pte(Table.l3, 0x67));
    expect(ext(g, [3, BigInt(g.mfn(20))], [5, BigInt(g.mfn(20))], [4, BigInt(g.mfn(Table.l4))])).toBe(0);
    expect(g.cpu.root).toBe(g.mfn(20));
    expect(g.domain.pages.typeCount[g.mfn(Table.l4)]).toBe(0);
    expect(g.cpu.forgotten).toEqual([g.mfn(Table.l4)]);
    // The old root is ordinary memory again.
    expect(g.call(14, [va(Table.l4), g.pte(Table.l4, 0x27), 0])).toBe(0);
    // Xen's slot was put into the new one.
    expect(g.get64(20, 256 * 8) & 0xffffffff000n).toBe(BigInt(g.domain.m2p.l3) << 12n);
  });

  it('takes the kernel root as user root, and 0 as none', () => {
    const g = new FakeDomain();
    const v = g.domain.vcpus[0];
    expect(ext(g, [15, BigInt(g.mfn(Table.l4))])).toBe(0);
    expect(v.userRoot).toBe(g.mfn(Table.l4));
    expect(ext(g, [15, 0n])).toBe(0);
    expect(v.userRoot).toBe(0);
    expect(ext(g, [15, BigInt(g.mfn(5))])).toBe(-EINVAL);
    expect(ext(g, [5, BigInt(g.mfn(Table.l3))])).toBe(-EINVAL);
    expect(g.domain.pages.typeCount[g.mfn(Table.l4)]).toBe(2);
  });
});

describe('other operations', () => {
  it('clears and copies pages, but not page tables', () => {
    const g = new FakeDomain();
    g.put64(10, 8, 5n);
    expect(ext(g, [17, BigInt(g.mfn(11)), BigInt(g.mfn(10))])).toBe(0);
    expect(g.get64(11, 8)).toBe(5n);
    expect(ext(g, [16, BigInt(g.mfn(10))])).toBe(0);
    expect(g.get64(10, 8)).toBe(0n);
    expect(g.cpu.written).toEqual([g.host(11), g.host(10)]);
    expect(ext(g, [16, BigInt(g.mfn(Table.l1))])).toBe(-EINVAL);
    expect(ext(g, [17, BigInt(g.mfn(Table.l1)), BigInt(g.mfn(10))])).toBe(-EINVAL);
    expect(ext(g, [17, BigInt(g.mfn(10)), 0x99999n])).toBe(-EINVAL);
  });

  it('flushes only when told to obey the guest', () => {
    for (const obeyFlushes of [false, true]) {
      const g = new FakeDomain({ obeyFlushes });
      expect(ext(g, [6], [7, va(3)], [8, 0n, va(0)], [9, va(3), va(0)], [10], [11, va(3)])).toBe(0);
      expect(g.cpu.flushes).toBe(obeyFlushes ? 6 : 0);
      expect(ext(g, [8, 0n, 0x1000n])).toBe(-EFAULT);
    }
  });

  it('checks SET_LDT and refuses what a guest without devices may not do', () => {
    const g = new FakeDomain();
    expect(ext(g, [13, va(8), 16n])).toBe(0);
    expect(g.domain.vcpus[0].ldtEntries).toBe(16);
    expect(ext(g, [13, va(8) + 8n, 16n])).toBe(-EINVAL);
    expect(ext(g, [13, va(8), 8193n])).toBe(-EINVAL);
    expect(ext(g, [13, 0n, 0n])).toBe(0);
    expect(ext(g, [12])).toBe(-EACCES);
    expect(ext(g, [18])).toBe(-EACCES);
    expect(ext(g, [19])).toBe(-EOPNOTSUPP);
    expect(ext(g, [20])).toBe(-EOPNOTSUPP);
    expect(ext(g, [14])).toBe(-ENOSYS);
    expect(ext(g, [21])).toBe(-ENOSYS);
  });

  it('reports progress and checks its arguments', () => {
    const g = new FakeDomain();
    g.put64(4, 0, 6n, 0n, 0n, 99n, 0n, 0n);
    g.put64(5, 0, 0n);
    expect(g.call(26, [va(4), 2, va(5), DOMID_SELF])).toBe(-ENOSYS);
    expect(g.get64(5)).toBe(1n);
    expect(g.call(26, [0x1000, 1, 0, DOMID_SELF])).toBe(-EFAULT);
    expect(g.call(26, [va(4), 1, 0, 0])).toBe(-EPERM);
    expect(g.call(26, [va(4), 1, 0, 7])).toBe(-ESRCH);
  });
});
