// SPDX-License-Identifier: MIT
// Page-table validation and updates through mmu_update and update_va_mapping, refusals included.

import { describe, expect, it } from 'vitest';
import { DOMID_IO, DOMID_SELF } from './context.ts';
import { EBUSY, EFAULT, EINVAL, EPERM, ESRCH } from './errno.ts';
import { FakeDomain, GUEST_PAGES, Table, va } from './fake-domain.ts';
import { Owner, PageType } from './page-types.ts';

const MMU_UPDATE = 1;
const UPDATE_VA = 14;
const REQUESTS = 2;
const RW = 0x27;
const RO = 0x25;
const KERNEL_MARK = 1n << 52n;

/** Machine address of entry `index` of the table at `pfn`. */
const entry = (g: FakeDomain, pfn: number, index: number): bigint => (BigInt(g.mfn(pfn)) << 12n) + BigInt(index * 8);

function mmuUpdate(
  g: FakeDomain,
  requests: readonly (readonly [bigint, bigint])[],
  domid: number = DOMID_SELF,
): number {
  g.put64(REQUESTS, 0, ...requests.flat());
  return g.call(MMU_UPDATE, [va(REQUESTS), requests.length, 0, domid]);
}

describe('initial page tables', () => {
  it('are validated, pinned and counted', () => {
    const g = new FakeDomain();
    const { pages } = g.domain;
    for (const [level, pfn] of [Table.l1, Table.l2, Table.l3, Table.l4].entries()) {
      expect(pages.hasType(g.mfn(pfn), (level + 1) as PageType)).toBe(true);
    }
    expect(pages.pinned[g.mfn(Table.l4)]).toBe(1);
    // Pin and root.
    expect(pages.typeCount[g.mfn(Table.l4)]).toBe(2);
    expect(pages.typeCount[g.mfn(7)]).toBe(1);
    expect(pages.type[g.mfn(7)]).toBe(PageType.writable);
    expect(g.domain.vcpus[0].kernelRoot).toBe(g.mfn(Table.l4));
    expect(g.cpu.root).toBe(g.mfn(Table.l4));
  });

  it('show the M2P read-only at its fixed address', () => {
    const g = new FakeDomain();
    const at = g.mfn(9) * 8;
    const host = g.cpu.translate(at, 0xffff8000, 0);
    expect(host).not.toBe(-1);
    expect(g.read64(host)).toBe(9n);
    expect(g.cpu.translate(at, 0xffff8000, 1)).toBe(-1);
    expect(g.domain.pages.owner[g.domain.m2p.l3]).toBe(Owner.xen);
  });

  it('cannot be started from tables that map themselves writable', () => {
    expect(
      () =>
        new (class extends FakeDomain {
          override pte(pfn: number, flags: number): bigint {
            return super.pte(pfn, pfn === Table.l1 ? RW : flags);
          }
        })(),
    ).toThrow('start failed: -16');
  });
});

describe('mmu_update', () => {
  it('changes an L1 entry, keeps the counts and drops the TLB entry', () => {
    const g = new FakeDomain();
    expect(mmuUpdate(g, [[entry(g, Table.l1, 7), g.pte(7, RO)]])).toBe(0);
    expect(g.get64(Table.l1, 7 * 8)).toBe(g.pte(7, RO));
    expect(g.domain.pages.typeCount[g.mfn(7)]).toBe(0);
    expect(g.domain.pages.refs[g.mfn(7)]).toBe(1);
    expect(g.cpu.changed).toEqual([[g.mfn(Table.l1), 7]]);
  });

  it('forgets where an L1 table was seen when everything was dropped for it', () => {
    const g = new FakeDomain();
    expect(mmuUpdate(g, [[entry(g, Table.l1, 7), g.pte(7, RO)]])).toBe(0);
    expect(g.cpu.forgottenTables).toEqual([]);
    g.cpu.isSeenTwice = true;
    expect(mmuUpdate(g, [[entry(g, Table.l1, 7), g.pte(7, RW)]])).toBe(0);
    expect(g.cpu.forgottenTables).toEqual([g.mfn(Table.l1)]);
  });

  it('forces USER on and marks entries that came without it', () => {
    const g = new FakeDomain();
    expect(mmuUpdate(g, [[entry(g, Table.l1, 100), g.pte(7, 0x23)]])).toBe(0);
    expect(g.get64(Table.l1, 100 * 8)).toBe(g.pte(7, RW) | KERNEL_MARK);
  });

  it('keeps accessed and dirty bits when asked to', () => {
    const g = new FakeDomain();
    g.put64(Table.l1, 7 * 8, g.pte(7, 0x67));
    expect(mmuUpdate(g, [[entry(g, Table.l1, 7) | 2n, g.pte(7, 0x5)]])).toBe(0);
    expect(g.get64(Table.l1, 7 * 8)).toBe(g.pte(7, 0x65));
  });

  it('refuses a writable mapping of a page table with -EBUSY and leaves the entry alone', () => {
    const g = new FakeDomain();
    for (const pfn of [Table.l1, Table.l2, Table.l3, Table.l4]) {
      expect(mmuUpdate(g, [[entry(g, Table.l1, 7), g.pte(pfn, RW)]])).toBe(-EBUSY);
    }
    expect(g.get64(Table.l1, 7 * 8)).toBe(g.pte(7, RW));
    expect(g.domain.pages.refs[g.mfn(Table.l1)]).toBe(2);
  });

  it('refuses cache attributes, foreign frames and frames that do not exist', () => {
    const g = new FakeDomain();
    for (const flag of [0x08, 0x10, 0x80]) {
      expect(mmuUpdate(g, [[entry(g, Table.l1, 7), g.pte(7, RW | flag)]])).toBe(-EINVAL);
    }
    expect(mmuUpdate(g, [[entry(g, Table.l1, 7), (BigInt(g.domain.m2p.l3) << 12n) | 0x25n]])).toBe(-EBUSY);
    expect(mmuUpdate(g, [[entry(g, Table.l1, 7), (0x7fff0n << 12n) | 0x25n]])).toBe(-EPERM);
    expect(mmuUpdate(g, [[entry(g, Table.l1, 7), (0xfffffffffn << 12n) | 0x25n]])).toBe(-EPERM);
    expect(mmuUpdate(g, [[0x7fff0000n, 0n]])).toBe(-EINVAL);
    expect(mmuUpdate(g, [[entry(g, Table.l1, 7) | 4n, 0n]])).toBe(-EINVAL);
  });

  it('accepts NX, GLOBAL and the available bits', () => {
    const g = new FakeDomain();
    const value = g.pte(7, RW | 0x100 | 0xe00) | (1n << 63n) | (0x7ffn << 52n);
    expect(mmuUpdate(g, [[entry(g, Table.l1, 7), value]])).toBe(0);
    expect(g.get64(Table.l1, 7 * 8)).toBe(value);
  });

  it('stops at the first error and reports how many were done', () => {
    const g = new FakeDomain();
    g.put64(
      REQUESTS,
      0,
      entry(g, Table.l1, 10),
      0n,
      entry(g, Table.l1, 11),
      g.pte(Table.l1, RW),
      entry(g, Table.l1, 12),
      0n,
    );
    g.put64(3, 0, 5n);
    expect(g.call(MMU_UPDATE, [va(REQUESTS), 3, va(3), DOMID_SELF])).toBe(-EBUSY);
    expect(g.get64(3) & 0xffffffffn).toBe(1n);
    expect(g.get64(Table.l1, 10 * 8)).toBe(0n);
    expect(g.get64(Table.l1, 12 * 8)).toBe(g.pte(12, RW));
  });

  it('adds to the count of a call that says it goes on', () => {
    const g = new FakeDomain();
    g.put64(REQUESTS, 0, entry(g, Table.l1, 10), 0n);
    g.put64(3, 0, 5n);
    expect(g.call(MMU_UPDATE, [va(REQUESTS), 0x80000001, va(3), DOMID_SELF])).toBe(0);
    expect(g.get64(3) & 0xffffffffn).toBe(6n);
  });

  it('stores into plain memory and into the M2P', () => {
    const g = new FakeDomain();
    expect(
      mmuUpdate(g, [
        [entry(g, 20, 3), 0x1234567890n],
        [(BigInt(g.mfn(21)) << 12n) | 1n, 77n],
      ]),
    ).toBe(0);
    expect(g.get64(20, 24)).toBe(0x1234567890n);
    expect(g.domain.m2p.get(g.mfn(21))).toBe(77);
    expect(g.cpu.written).toContain(g.host(20));
  });

  it('checks pointers and domain ids', () => {
    const g = new FakeDomain();
    expect(g.call(MMU_UPDATE, [0x1000, 1, 0, DOMID_SELF])).toBe(-EFAULT);
    expect(g.call(MMU_UPDATE, [va(REQUESTS), 0, 0x1000, DOMID_SELF])).toBe(0);
    expect(g.call(MMU_UPDATE, [va(REQUESTS), 0, 0, 0])).toBe(-EPERM);
    expect(g.call(MMU_UPDATE, [va(REQUESTS), 0, 0, 55])).toBe(-ESRCH);
    expect(g.call(MMU_UPDATE, [va(REQUESTS), 0, 0, DOMID_IO])).toBe(0);
    expect(g.call(MMU_UPDATE, [va(REQUESTS), 0, 0, DOMID_SELF | (56 << 16)])).toBe(-ESRCH);
  });

  it('reads requests that lie across a page boundary', () => {
    const g = new FakeDomain();
    g.put64(REQUESTS, 4088, entry(g, Table.l1, 10));
    g.put64(REQUESTS + 1, 0, g.pte(11, RO));
    expect(g.call(MMU_UPDATE, [va(REQUESTS, 4088), 1, 0, DOMID_SELF])).toBe(0);
    expect(g.get64(Table.l1, 80)).toBe(g.pte(11, RO));
  });
});

describe('upper levels', () => {
  /** Makes PFN `pfn` unmapped everywhere, so that it can become a page table. */
  const unmap = (g: FakeDomain, pfn: number): void => {
    expect(g.call(UPDATE_VA, [va(pfn), 0, 0])).toBe(0);
  };

  it('takes a new L1 under an L2 and gives it back', () => {
    const g = new FakeDomain();
    g.put64(30, 8, g.pte(7, 0x23));
    expect(mmuUpdate(g, [[entry(g, Table.l2, 1), g.pte(30, 0x67)]])).toBe(-EINVAL); // still mapped writable
    unmap(g, 30);
    expect(mmuUpdate(g, [[entry(g, Table.l2, 1), g.pte(30, 0x63)]])).toBe(0);
    expect(g.get64(Table.l2, 8)).toBe(g.pte(30, 0x67));
    expect(g.domain.pages.hasType(g.mfn(30), PageType.l1)).toBe(true);
    expect(g.get64(30, 8)).toBe(g.pte(7, RW) | KERNEL_MARK);
    expect(g.domain.pages.typeCount[g.mfn(7)]).toBe(2);
    expect(g.cpu.flushes).toBe(0);

    expect(mmuUpdate(g, [[entry(g, Table.l2, 1), 0n]])).toBe(0);
    expect(g.cpu.flushes).toBe(1);
    expect(g.domain.pages.typeCount[g.mfn(30)]).toBe(0);
    expect(g.domain.pages.typeCount[g.mfn(7)]).toBe(1);
  });

  it('does not flush when the table taken away is empty', () => {
    const g = new FakeDomain();
    unmap(g, 30);
    expect(
      mmuUpdate(g, [
        [entry(g, Table.l2, 1), g.pte(30, 0x67)],
        [entry(g, Table.l2, 1), 0n],
      ]),
    ).toBe(0);
    expect(g.cpu.flushes).toBe(0);
  });

  it('undoes the validation of a table with a bad entry', () => {
    const g = new FakeDomain();
    unmap(g, 30);
    g.put64(30, 0, g.pte(7, RO), g.pte(8, RW), g.pte(Table.l4, RW));
    expect(mmuUpdate(g, [[entry(g, Table.l2, 1), g.pte(30, 0x67)]])).toBe(-EBUSY);
    expect(g.domain.pages.typeCount[g.mfn(8)]).toBe(1);
    expect(g.domain.pages.refs[g.mfn(7)]).toBe(1);
    expect(g.domain.pages.refs[g.mfn(30)]).toBe(0);
  });

  it('refuses superpages, wrong levels and the Xen slots', () => {
    const g = new FakeDomain();
    expect(mmuUpdate(g, [[entry(g, Table.l2, 1), g.pte(0, 0xe7)]])).toBe(-EINVAL);
    expect(mmuUpdate(g, [[entry(g, Table.l3, 1), g.pte(Table.l1, 0x67)]])).toBe(-EINVAL);
    for (const slot of [256, 260, 271]) {
      expect(mmuUpdate(g, [[entry(g, Table.l4, slot), g.pte(Table.l3, 0x67)]])).toBe(-EINVAL);
    }
    expect(mmuUpdate(g, [[entry(g, Table.l4, 272), g.pte(Table.l3, 0x67)]])).toBe(0);
    expect(g.domain.pages.typeCount[g.mfn(Table.l3)]).toBe(2);
  });

  it('allows a linear mapping of the L4 by itself, read-only, and no change to writable', () => {
    const g = new FakeDomain();
    expect(mmuUpdate(g, [[entry(g, Table.l4, 300), g.pte(Table.l4, 0x67)]])).toBe(-EINVAL);
    expect(mmuUpdate(g, [[entry(g, Table.l4, 300), g.pte(Table.l4, 0x65)]])).toBe(0);
    expect(mmuUpdate(g, [[entry(g, Table.l4, 300), g.pte(Table.l4, 0x67)]])).toBe(-EINVAL);
    expect(mmuUpdate(g, [[entry(g, Table.l4, 300), 0n]])).toBe(0);
    expect(g.domain.pages.refs[g.mfn(Table.l4)]).toBe(3); // pin, root, its read-only mapping
  });
});

describe('update_va_mapping', () => {
  it("maps shared_info, which is not the guest's, read-write", () => {
    const g = new FakeDomain();
    const value = (BigInt(g.domain.sharedInfoMfn) << 12n) | 0x27n;
    expect(g.call(UPDATE_VA, [va(40), value, 2])).toBe(0);
    expect(g.cpu.translate(0x80000000 + 40 * 4096, 0xffffffff, 1)).toBe(g.mem.hostOf(g.domain.sharedInfoMfn));
  });

  it('refuses an address without L1 table, also in the M2P', () => {
    const g = new FakeDomain();
    expect(g.call(UPDATE_VA, [0x1000, 0, 0])).toBe(-EINVAL);
    expect(g.call(UPDATE_VA, [0xffff800000000000n, 0, 0])).toBe(-EINVAL);
  });

  it('lets a frame change from writable to page table and back (what a boot loader does)', () => {
    const g = new FakeDomain();
    const MMUEXT = 26;
    expect(g.call(UPDATE_VA, [va(33), 0, 0])).toBe(0);
    g.put64(4, 0, 0n, BigInt(g.mfn(33)), 0n);
    expect(g.call(MMUEXT, [va(4), 1, 0, DOMID_SELF])).toBe(0);
    expect(g.call(UPDATE_VA, [va(33), g.pte(33, RW), 0])).toBe(-EBUSY);
    expect(g.call(UPDATE_VA, [va(33), g.pte(33, RO), 0])).toBe(0);
    g.put64(4, 0, 4n, BigInt(g.mfn(33)), 0n);
    expect(g.call(MMUEXT, [va(4), 1, 0, DOMID_SELF])).toBe(0);
    expect(g.call(UPDATE_VA, [va(33), g.pte(33, RW), 0])).toBe(0);
  });

  it('flushes only when told to obey the guest', () => {
    const lazy = new FakeDomain();
    lazy.call(UPDATE_VA, [va(40), lazy.pte(40, RO), 1]);
    expect(lazy.cpu.flushes).toBe(0);
    const obedient = new FakeDomain({ obeyFlushes: true });
    obedient.call(UPDATE_VA, [va(40), obedient.pte(40, RO), 1]);
    expect(obedient.cpu.flushes).toBe(1);
  });

  it('is refused for other domains', () => {
    const g = new FakeDomain();
    expect(g.call(22, [va(40), 0, 0, 0])).toBe(-EPERM);
    expect(g.call(22, [va(40), 0, 0, 9])).toBe(-ESRCH);
    expect(g.call(22, [va(40), g.pte(40, RO), 0, DOMID_SELF])).toBe(0);
  });
});

it('random updates keep every count equal to what the tables say', () => {
  const g = new FakeDomain();
  let seed = 12345;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  for (let n = 0; n < 20000; n++) {
    const level = random(10) === 0 ? random(4) : 3;
    const table = [Table.l4, Table.l3, Table.l2, Table.l1][level];
    const target = random(GUEST_PAGES);
    const index = level === 3 ? 64 + random(100) : random(4);
    const flags = [0, RO, RW, 0x63, 0x65][random(5)];
    const where = random(8) === 0 ? random(GUEST_PAGES) : table;
    mmuUpdateQuiet(g, where, index, flags === 0 ? 0n : g.pte(target, flags));
  }
  expectConsistent(g);

  function mmuUpdateQuiet(d: FakeDomain, pfn: number, index: number, value: bigint): void {
    // The request page and the kernel's own path must survive.
    if (pfn === REQUESTS || (pfn === Table.l2 && index === 0)) return;
    mmuUpdate(d, [[entry(d, pfn, index), value]]);
  }
});

/** Recomputes references and types from the validated tables and compares. */
function expectConsistent(g: FakeDomain): void {
  const { pages } = g.domain;
  const refs = new Map<number, number>();
  const add = (mfn: number): void => {
    refs.set(mfn, (refs.get(mfn) ?? 0) + 1);
  };
  add(g.mfn(Table.l4));
  add(g.mfn(Table.l4));
  for (let pfn = 0; pfn < GUEST_PAGES; pfn++) {
    const mfn = g.mfn(pfn);
    const type = pages.typeCount[mfn] === 0 ? 0 : pages.type[mfn];
    if (type < PageType.l1 || type > PageType.l4) continue;
    for (let index = 0; index < 512; index++) {
      if (type === PageType.l4 && index >= 256 && index <= 271) continue;
      const value = g.read64(g.mem.hostOf(mfn) + index * 8);
      if ((value & 1n) === 0n) continue;
      const target = Number((value >> 12n) & 0xffffffffn);
      add(target);
      if (type === PageType.l1 && (value & 2n) !== 0n) expect(pages.isProtected(target)).toBe(false);
    }
  }
  for (let pfn = 0; pfn < GUEST_PAGES; pfn++)
    expect(pages.refs[g.mfn(pfn)], `pfn ${pfn}`).toBe(refs.get(g.mfn(pfn)) ?? 0);
}
