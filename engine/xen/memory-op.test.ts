// SPDX-License-Identifier: MIT
// memory_op: ballooning, sizes, memory map, M2P location, and refusals.

import { describe, expect, it } from 'vitest';
import { DOMID_SELF } from './context.ts';
import { EFAULT, EINVAL, ENOMEM, ENOSYS, EPERM } from './errno.ts';
import { FakeDomain, GUEST_PAGES, va } from './fake-domain.ts';
import { Owner } from './page-types.ts';

const MEMORY_OP = 12;
const reservation = (g: FakeDomain, count: number, order = 0, domid: number = DOMID_SELF): void => {
  g.put64(2, 0, va(3), BigInt(count), BigInt(order), BigInt(domid));
};

describe('ballooning', () => {
  it('gives frames back and gets them again, zeroed and in the M2P', () => {
    const g = new FakeDomain();
    const { domain } = g;
    expect(g.call(14, [va(20), 0, 0])).toBe(0);
    expect(g.call(14, [va(21), 0, 0])).toBe(0);
    g.put64(20, 0, 0x1234n);
    reservation(g, 2);
    g.put64(3, 0, BigInt(g.mfn(20)), BigInt(g.mfn(21)));
    expect(g.call(MEMORY_OP, [1, va(2)])).toBe(2);
    expect(domain.totalPages).toBe(GUEST_PAGES - 2);
    expect(domain.pages.owner[g.mfn(20)]).toBe(Owner.none);
    expect(domain.m2p.get(g.mfn(20))).toBe(0xffffffff);

    reservation(g, 3);
    g.put64(3, 0, 20n, 21n, 22n);
    expect(g.call(MEMORY_OP, [6, va(2)])).toBe(2); // no more than it gave
    const mfns = [g.get64(3), g.get64(3, 8)].map(Number);
    expect(new Set(mfns)).toEqual(new Set([g.mfn(20), g.mfn(21)]));
    expect(domain.m2p.get(mfns[0])).toBe(20);
    expect(g.read64(g.mem.hostOf(mfns[0]))).toBe(0n);
    expect(domain.totalPages).toBe(GUEST_PAGES);
  });

  it('keeps a frame until its last mapping goes', () => {
    const g = new FakeDomain();
    reservation(g, 1);
    g.put64(3, 0, BigInt(g.mfn(20)));
    expect(g.call(MEMORY_OP, [1, va(2)])).toBe(1);
    expect(g.domain.pages.owner[g.mfn(20)]).toBe(Owner.guest);
    expect(g.call(MEMORY_OP, [1, va(2)])).toBe(0); // not twice
    expect(g.call(14, [va(20), 0, 0])).toBe(0);
    expect(g.domain.pages.owner[g.mfn(20)]).toBe(Owner.none);
  });

  it("stops at frames that are not the guest's and at bad lists", () => {
    const g = new FakeDomain();
    reservation(g, 2);
    g.put64(3, 0, BigInt(g.domain.sharedInfoMfn), 5n);
    expect(g.call(MEMORY_OP, [1, va(2)])).toBe(0);
    reservation(g, 1, 40);
    expect(g.call(MEMORY_OP, [1, va(2)])).toBe(0);
    reservation(g, 1, 0, 0);
    expect(g.call(MEMORY_OP, [1, va(2)])).toBe(-EPERM);
    reservation(g, 1, 0, 9);
    expect(g.call(MEMORY_OP, [1, va(2)])).toBe(0);
    expect(g.call(MEMORY_OP, [1, 0x1000])).toBe(0);
    g.put64(2, 0, 0x1000n, 1n, 0n, BigInt(DOMID_SELF));
    expect(g.call(MEMORY_OP, [1, va(2)])).toBe(0);
  });

  it('increases the reservation without a list', () => {
    const g = new FakeDomain();
    expect(g.call(14, [va(20), 0, 0])).toBe(0);
    reservation(g, 1);
    g.put64(3, 0, BigInt(g.mfn(20)));
    expect(g.call(MEMORY_OP, [1, va(2)])).toBe(1);
    g.put64(2, 0, 0n, 1n, 0n, BigInt(DOMID_SELF));
    expect(g.call(MEMORY_OP, [0, va(2)])).toBe(1);
    expect(g.domain.totalPages).toBe(GUEST_PAGES);
  });
});

describe('sizes and maps', () => {
  it('reports reservations of the caller only', () => {
    const g = new FakeDomain();
    g.put64(2, 0, BigInt(DOMID_SELF));
    expect(g.call(MEMORY_OP, [3, va(2)])).toBe(GUEST_PAGES);
    expect(g.call(MEMORY_OP, [4, va(2)])).toBe(GUEST_PAGES);
    expect(g.call(MEMORY_OP, [14, va(2)])).toBe(GUEST_PAGES - 1);
    g.put64(2, 0, 0n);
    expect(g.call(MEMORY_OP, [4, va(2)])).toBe(-EPERM);
    expect(g.call(MEMORY_OP, [3, 0x1000])).toBe(-EFAULT);
    expect(g.call(MEMORY_OP, [2])).toBe(g.domain.pages.frames - 1);
  });

  it('writes the memory map, or has none', () => {
    const bare = new FakeDomain();
    expect(bare.call(MEMORY_OP, [9, va(2)])).toBe(-ENOSYS);
    const g = new FakeDomain({ memoryMap: [{ address: 0, size: GUEST_PAGES * 4096, type: 1 }] });
    g.put64(2, 0, 16n, va(3));
    expect(g.call(MEMORY_OP, [9, va(2)])).toBe(0);
    expect(g.get64(2) & 0xffffffffn).toBe(1n);
    expect([g.get64(3), g.get64(3, 8), g.get64(3, 16)]).toEqual([0n, BigInt(GUEST_PAGES * 4096), 1n]);
    g.put64(2, 0, 0n, va(3));
    expect(g.call(MEMORY_OP, [9, va(2)])).toBe(-EINVAL);
    g.put64(2, 0, 16n, 0x1000n);
    expect(g.call(MEMORY_OP, [9, va(2)])).toBe(-EFAULT);
  });

  it('tells where the M2P is', () => {
    const g = new FakeDomain();
    expect(g.call(MEMORY_OP, [12, va(2)])).toBe(0);
    expect([g.get64(2), g.get64(2, 8), g.get64(2, 16)]).toEqual([
      0xffff800000000000n,
      0xffff804000000000n,
      BigInt(g.domain.pages.frames - 1),
    ]);
    expect(g.call(MEMORY_OP, [12, 0x1000])).toBe(-EFAULT);
  });

  it('refuses what is not for guests', () => {
    const g = new FakeDomain();
    for (const command of [5, 10]) expect(g.call(MEMORY_OP, [command, va(2)])).toBe(-EPERM);
    expect(g.call(MEMORY_OP, [7, va(2)])).toBe(-EINVAL);
    for (const command of [24, 28]) expect(g.call(MEMORY_OP, [command, va(2)])).toBe(-ENOSYS);
  });
});

describe('exchange', () => {
  const exchange = (
    g: FakeDomain,
    inList: bigint,
    inCount: number,
    inOrder: number,
    outCount: number,
    outOrder: number,
  ): number => {
    g.put64(2, 0, inList, BigInt(inCount), BigInt(inOrder), BigInt(DOMID_SELF));
    g.put64(2, 32, va(3), BigInt(outCount), BigInt(outOrder), BigInt(DOMID_SELF), 0n);
    return g.call(MEMORY_OP, [11, va(2)]);
  };

  it('finds no consecutive frames', () => {
    const g = new FakeDomain();
    for (let n = 0; n < 64; n++) g.put64(4, n * 8, BigInt(g.mfn(20)));
    expect(exchange(g, va(4), 64, 0, 1, 6)).toBe(-ENOMEM);
  });

  it('reads the frames to be given up first', () => {
    const g = new FakeDomain();
    expect(exchange(g, va(4), 64, 0, 1, 6)).toBe(-EINVAL);
    expect(exchange(g, 0x1000n, 64, 0, 1, 6)).toBe(-EFAULT);
  });

  it('checks sizes and list addresses first', () => {
    const g = new FakeDomain();
    expect(exchange(g, va(4), 63, 0, 1, 6)).toBe(-EINVAL);
    expect(exchange(g, va(4), 1, 3, 1, 3)).toBe(-EINVAL);
    expect(exchange(g, va(4), 2 ** 20, 0, 1, 20)).toBe(-EPERM);
    expect(exchange(g, 0xffff800000000000n, 64, 0, 1, 6)).toBe(-EFAULT);
    expect(g.call(MEMORY_OP, [11, 0x1000])).toBe(-EFAULT);
  });
});
