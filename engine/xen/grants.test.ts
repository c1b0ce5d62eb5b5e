// SPDX-License-Identifier: MIT
// Tests of grant tables and grant_table_op: both versions, back-end access, the guest's own mappings, refusals.

import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { FakeDomain } from './fake-machine.ts';
import { Gntst, type GrantMmu } from './grants.ts';
import { grantTableOp } from './grant-table-op.ts';

const SELF = 0x7ff0;
const ARG = 0x100;
const LIST = 0x1000;
/** A guest page that is granted. */
const PAGE = 0x5000;

/** Counts references as a memory manager would. */
class FakeMmu implements GrantMmu {
  readonly taken = new Map<number, number>();
  readonly mapped = new Map<string, number>();
  /** Frames that may not become writable (page tables). */
  readonly tables = new Set<number>();
  readonly inUse = new Set<number>();
  takeFrame(mfn: number, writable: boolean): boolean {
    if (writable && this.tables.has(mfn)) return false;
    this.taken.set(mfn, (this.taken.get(mfn) ?? 0) + 1);
    return true;
  }
  dropFrame(mfn: number): void {
    this.taken.set(mfn, (this.taken.get(mfn) ?? 0) - 1);
  }
  installGrantMapping(lo: number, hi: number, mfn: number): number {
    if (hi !== 0) return Gntst.badVirtAddr;
    this.mapped.set(String(lo), mfn);
    return Gntst.okay;
  }
  removeGrantMapping(lo: number, _hi: number, mfn: number): number {
    return this.mapped.get(String(lo)) === mfn && this.mapped.delete(String(lo)) ? Gntst.okay : Gntst.generalError;
  }
  isFrameMapped(mfn: number): boolean {
    return this.inUse.has(mfn);
  }
  /** References outstanding over all frames. */
  get references(): number {
    return [...this.taken.values()].reduce((a, b) => a + b, 0);
  }
}

let d: FakeDomain;
let mmu: FakeMmu;
beforeEach(() => {
  d = new FakeDomain();
  mmu = new FakeMmu();
  d.grants.setMmu(mmu);
});

const op = (cmd: number, count = 1): number => d.call(grantTableOp, [cmd, ARG, count]);
const entry = (ref: number): number =>
  d.mem.hostOf(d.grants.frames[ref >> (d.grants.version === 1 ? 9 : 8)]) +
  (d.grants.version === 1 ? (ref & 511) * 8 : (ref & 255) * 16);
const flags = (ref: number): number => d.mem.u16[entry(ref) >> 1];
const status = (ref: number): number => d.mem.u16[(d.mem.hostOf(d.grants.statusFrames[0]) >> 1) + ref];

/** The guest grants a page. */
function grant(ref: number, linear: number, entryFlags = 1, domid = 0): void {
  const at = entry(ref);
  if (d.grants.version === 1) d.mem.u32[(at >> 2) + 1] = d.mfn(linear);
  else {
    d.mem.u32[(at >> 2) + 2] = d.mfn(linear);
    d.mem.u32[(at >> 2) + 3] = 0;
  }
  d.mem.u16[(at >> 1) + 1] = domid;
  d.mem.u16[at >> 1] = entryFlags;
}

describe('the table', () => {
  it('setup_table grows on demand and reports MFNs', () => {
    d.put32(ARG, SELF, 3, 0, 0, LIST, 0);
    expect(op(2)).toBe(0);
    expect(d.get16(ARG + 8)).toBe(Gntst.okay);
    expect(d.grants.frames.length).toBe(3);
    expect([0, 8, 16].map((at) => d.get32(LIST + at))).toEqual(d.grants.frames);
    expect(d.get32(LIST + 4)).toBe(0);
  });

  it('setup_table: too many, no frames, foreign domains, bad addresses, bad counts', () => {
    d.put32(ARG, SELF, 65, 0, 0, LIST, 0);
    expect(op(2)).toBe(0);
    expect(d.get16(ARG + 8)).toBe(Gntst.generalError);
    d.framesLeft = 0;
    d.put32(ARG, SELF, 1, 0, 0, LIST, 0);
    op(2);
    expect(d.get16(ARG + 8)).toBe(Gntst.generalError);
    d.framesLeft = 10;
    d.put32(ARG, 0, 1, 0, 0, LIST, 0);
    op(2);
    expect(d.get16(ARG + 8)).toBe(Gntst.permissionDenied);
    d.put32(ARG, 44, 1, 0, 0, LIST, 0);
    op(2);
    expect(d.get16(ARG + 8)).toBe(Gntst.badDomain);
    d.put32(ARG, SELF, 1, 0, 0, 0xffff0000, 0);
    op(2);
    expect(d.get16(ARG + 8)).toBe(Gntst.badVirtAddr);
    for (const cmd of [2, 6, 8, 9]) expect(op(cmd, 2)).toBe(-22);
    expect(d.call(grantTableOp, [2, 0x20000, 1])).toBe(-14);
    expect(op(2, 0x80000000)).toBe(-22);
  });

  it('setup_table uses 32-bit words for a 32-bit guest', () => {
    const e = new FakeDomain({ wordSize: 4 });
    e.put32(ARG, SELF, 2, 0, LIST);
    expect(e.call(grantTableOp, [2, ARG, 1])).toBe(0);
    expect([e.get32(LIST), e.get32(LIST + 4)]).toEqual(e.grants.frames);
  });

  it('query_size and get_version', () => {
    d.grants.grow(2);
    d.put32(ARG, SELF, 0, 0, 0);
    expect(op(6)).toBe(0);
    expect([d.get32(ARG + 4), d.get32(ARG + 8), d.get16(ARG + 12)]).toEqual([2, 64, 0]);
    d.put32(ARG, 9);
    op(6);
    expect(d.get16(ARG + 12)).toBe(Gntst.badDomain);
    d.put32(ARG, SELF, 0);
    expect(op(10)).toBe(0);
    expect(d.get32(ARG + 4)).toBe(1);
    d.put32(ARG, 0, 0);
    expect(op(10)).toBe(-1);
    d.put32(ARG, 9, 0);
    expect(op(10)).toBe(-3);
  });

  it('seeds console and xenstore', () => {
    d.grants.seed(0, 0x111);
    d.grants.seed(1, 0x222);
    expect([flags(0), d.mem.u32[(entry(0) >> 2) + 1]]).toEqual([1, 0x111]);
    expect([flags(1), d.mem.u32[(entry(1) >> 2) + 1]]).toEqual([1, 0x222]);
  });
});

describe('versions', () => {
  it('translates reserved entries both ways and clears the rest', () => {
    d.grants.seed(0, d.mfn(PAGE));
    grant(20, PAGE);
    d.put32(ARG, 2);
    expect(op(8)).toBe(0);
    expect(d.grants.version).toBe(2);
    expect([flags(0), d.mem.u32[(entry(0) >> 2) + 2]]).toEqual([1, d.mfn(PAGE)]);
    expect(flags(20)).toBe(0);
    expect(d.grants.entryCount).toBe(256);
    d.put32(ARG, 1, SELF, LIST, 0);
    expect(op(9)).toBe(0);
    expect(d.get16(ARG + 6)).toBe(0);
    expect(d.get32(LIST)).toBe(d.grants.statusFrames[0]);
    d.put32(ARG, 2, SELF, LIST, 0);
    op(9);
    expect(d.get16(ARG + 6)).toBe(Gntst.generalError);
    d.put32(ARG, 1);
    expect(op(8)).toBe(0);
    expect([flags(0), d.mem.u32[(entry(0) >> 2) + 1]]).toEqual([1, d.mfn(PAGE)]);
    // Same frames again for the next change.
    const left = d.framesLeft;
    d.put32(ARG, 2);
    op(8);
    expect(d.framesLeft).toBe(left);
  });

  it('carries the marks of a reserved entry in use across the change', () => {
    d.grants.seed(1, d.mfn(PAGE));
    expect(d.grants.access(1, true)).toBe(d.host(PAGE));
    expect(d.grants.setVersion(2)).toBe(0);
    expect([flags(1), status(1)]).toEqual([1, 24]);
    expect(d.grants.setVersion(1)).toBe(0);
    expect(flags(1)).toBe(25);
    d.grants.endAccess(1, true);
    expect(flags(1)).toBe(1);
  });

  it('refuses other numbers, entries in use, mapped status frames, reserved entries that do not fit', () => {
    d.put32(ARG, 3);
    expect(op(8)).toBe(-22);
    d.put32(ARG, 1);
    expect(op(8)).toBe(0);
    d.grants.grow(1);
    grant(9, PAGE);
    d.grants.access(9, false);
    d.put32(ARG, 2);
    expect(op(8)).toBe(-16);
    d.grants.endAccess(9, false);
    expect(op(8)).toBe(0);
    mmu.inUse.add(d.grants.statusFrames[0]);
    d.put32(ARG, 1);
    expect(op(8)).toBe(-16);
    mmu.inUse.clear();
    d.mem.u16[entry(3) >> 1] = 3;
    expect(d.grants.setVersion(1)).toBe(-34);
    d.mem.u16[entry(3) >> 1] = 1;
    d.mem.u32[(entry(3) >> 2) + 3] = 1;
    expect(d.grants.setVersion(1)).toBe(-34);
    d.mem.u32[(entry(3) >> 2) + 3] = 0;
    expect(d.grants.setVersion(1)).toBe(0);
    d.grants.reset();
    expect(flags(0)).toBe(0);
  });

  it('reports -ENOMEM when no status frame can be had', () => {
    d.grants.grow(1);
    d.framesLeft = 0;
    expect(d.grants.setVersion(2)).toBe(-12);
    expect(d.grants.version).toBe(1);
  });
});

describe.each([1, 2] as const)('access by back ends, version %i', (version) => {
  beforeEach(() => {
    d.grants.setVersion(version);
    d.grants.grow(1);
  });
  const marks = (ref: number): number => (version === 1 ? flags(ref) & 24 : status(ref));

  it('marks reading and writing while in use, and clears them after', () => {
    grant(8, PAGE);
    expect(d.grants.access(8, false)).toBe(d.host(PAGE));
    expect(marks(8)).toBe(8);
    expect(d.grants.access(8, true)).toBe(d.host(PAGE));
    expect(marks(8)).toBe(24);
    d.grants.endAccess(8, true);
    expect(marks(8)).toBe(8);
    d.grants.endAccess(8, true);
    expect(marks(8)).toBe(8);
    d.grants.endAccess(8, false);
    expect(marks(8)).toBe(0);
    expect(mmu.references).toBe(0);
  });

  it('refuses what was not granted', () => {
    grant(8, PAGE, 1 | 4);
    expect(d.grants.access(8, true)).toBe(-1);
    expect(d.grants.access(8, false)).toBe(d.host(PAGE));
    d.grants.endAccess(8, false);
    grant(8, PAGE, 1, 5);
    expect(d.grants.access(8, false)).toBe(-1);
    for (const type of [0, 2, 3]) {
      grant(8, PAGE, type);
      expect(d.grants.access(8, false)).toBe(-1);
    }
    expect(d.grants.access(100000, false)).toBe(-1);
    expect(d.grants.access(0xffffffff, false)).toBe(-1);
    expect(d.counters.get('grant.refused.read')).toBe(6);
    expect(mmu.references).toBe(0);
  });

  it('refuses frames that do not exist or must not be written', () => {
    grant(8, PAGE);
    d.mem.u32[(entry(8) >> 2) + (version === 1 ? 1 : 2)] = 0xfffffff0;
    expect(d.grants.access(8, false)).toBe(-1);
    expect(marks(8)).toBe(0);
    grant(8, PAGE);
    mmu.tables.add(d.mfn(PAGE));
    expect(d.grants.access(8, true)).toBe(-1);
    expect(marks(8)).toBe(0);
    expect(d.grants.access(8, false)).toBe(d.host(PAGE));
    expect(d.grants.access(8, true)).toBe(-1);
    expect(marks(8)).toBe(8);
  });

  it('keeps the frame of the first access when the guest swaps it underneath', () => {
    grant(8, PAGE);
    d.grants.access(8, false);
    grant(8, PAGE + 0x1000, 1 | 8);
    expect(d.grants.access(8, false)).toBe(d.host(PAGE));
  });

  it('balances marks and references whatever the order (property)', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3), fc.boolean(), fc.boolean()), { maxLength: 40 }), (steps) => {
        for (let r = 8; r < 12; r++) grant(r, PAGE);
        const open: [number, boolean][] = [];
        for (const [r, writable, begin] of steps) {
          if (begin && d.grants.access(8 + r, writable) !== -1) open.push([8 + r, writable]);
          const last = begin ? undefined : open.pop();
          if (last !== undefined) d.grants.endAccess(...last);
          for (let ref = 8; ref < 12; ref++) {
            const mine = open.filter(([o]) => o === ref);
            expect(marks(ref)).toBe((mine.length > 0 ? 8 : 0) | (mine.some(([, w]) => w) ? 16 : 0));
          }
          expect(mmu.references).toBe(open.length);
        }
        for (const [ref, writable] of open) d.grants.endAccess(ref, writable);
      }),
      { seed: 5, numRuns: 60 },
    );
  });
});

it('a version 2 sub-page grant covers its range only', () => {
  d.grants.setVersion(2);
  d.grants.grow(1);
  grant(8, PAGE, 1 | 256);
  d.mem.u16[(entry(8) >> 1) + 2] = 100;
  d.mem.u16[(entry(8) >> 1) + 3] = 50;
  expect(d.grants.access(8, false)).toBe(-1);
  expect(d.grants.access(8, false, 100, 50)).toBe(d.host(PAGE));
  expect(d.grants.access(8, false, 99, 10)).toBe(-1);
  expect(d.grants.access(8, false, 120, 31)).toBe(-1);
});

describe('mapping its own grants', () => {
  beforeEach(() => {
    d.grants.grow(1);
  });
  /** map_grant_ref; the status. */
  function map(address: number, mapFlags: number, ref: number, domid = SELF): number {
    d.put32(ARG, address, 0, mapFlags, ref, domid, 0, 0, 0);
    expect(op(0)).toBe(0);
    return d.get16(ARG + 18);
  }
  function unmap(address: number, handle: number, device = 0): number {
    d.put32(ARG, address, 0, device, 0, handle, 0);
    expect(op(1)).toBe(0);
    return d.get16(ARG + 20);
  }

  it('maps, reports the handle and bus address, and unmaps', () => {
    grant(8, PAGE, 1, 1);
    expect(map(0x9000, 2, 8)).toBe(0);
    const handle = d.get32(ARG + 20);
    expect(d.get32(ARG + 24)).toBe((d.mfn(PAGE) * 4096) >>> 0);
    expect(mmu.mapped.get(String(0x9000))).toBe(d.mfn(PAGE));
    expect(flags(8)).toBe(25);
    expect(unmap(0x8000, handle)).toBe(Gntst.generalError);
    expect(unmap(0x9000, handle)).toBe(0);
    expect(flags(8)).toBe(1);
    expect(mmu.references).toBe(0);
    expect(unmap(0x9000, handle)).toBe(Gntst.badHandle);
    expect(unmap(0x9000, 0xffffffff)).toBe(Gntst.badHandle);
  });

  it('reads a read-only grant only read-only', () => {
    grant(8, PAGE, 5, 1);
    expect(map(0x9000, 2, 8)).toBe(Gntst.generalError);
    expect(map(0x9000, 2 | 4, 8)).toBe(0);
    expect(flags(8)).toBe(13);
    // Handles are reused.
    const first = d.get32(ARG + 20);
    unmap(0x9000, first);
    map(0x9000, 2 | 4, 8);
    expect(d.get32(ARG + 20)).toBe(first);
  });

  it('unmaps host and device halves separately', () => {
    grant(8, PAGE, 1, 1);
    expect(map(0x9000, 3, 8)).toBe(0);
    const handle = d.get32(ARG + 20);
    expect(unmap(0x9000, handle)).toBe(0);
    expect(flags(8)).toBe(25);
    expect(unmap(0, handle, 4096)).toBe(Gntst.generalError);
    expect(unmap(0, handle, d.mfn(PAGE) * 4096)).toBe(0);
    expect(flags(8)).toBe(1);
  });

  it('refuses with a negative status each time and leaves no trace', () => {
    grant(8, PAGE, 1, 1);
    expect(map(0x9000, 0, 8)).toBe(Gntst.badGntref);
    expect(map(0x9000, 2, 99999)).toBe(Gntst.badGntref);
    expect(map(0x9000, 2, 8, 0)).toBe(Gntst.badGntref);
    expect(map(0x9000, 2, 8, 77)).toBe(Gntst.badDomain);
    expect(map(0x9000, 2, 9)).toBe(Gntst.generalError);
    expect(map(0x9001, 2 | 16, 8)).toBe(Gntst.generalError);
    d.put32(ARG, 0x9000, 1, 2, 8, SELF, 0, 0, 0);
    op(0);
    expect(d.get16(ARG + 18)).toBe(Gntst.badVirtAddr);
    expect(flags(8)).toBe(1);
    expect(mmu.references).toBe(0);
    expect(d.call(grantTableOp, [0, 0x20000, 1])).toBe(-14);
    expect(d.call(grantTableOp, [1, 0x20000, 1])).toBe(-14);
  });

  it('handles an array and stops where it cannot be read', () => {
    grant(8, PAGE, 1, 1);
    const at = 0x10000 - 32;
    d.put32(at, 0x9000, 0, 2, 8, SELF, 0, 0, 0);
    expect(d.call(grantTableOp, [0, at, 2])).toBe(-14);
    expect(d.get16(at + 18)).toBe(0);
  });
});

describe('copy, swap and the rest', () => {
  beforeEach(() => {
    d.grants.grow(1);
  });
  const GREF_SOURCE = 1;
  const GREF_DEST = 2;
  function copy(
    source: [number, number, number],
    dest: [number, number, number],
    length: number,
    copyFlags: number,
  ): number {
    d.put32(ARG, source[0], 0, source[1] | (source[2] << 16), 0, dest[0], 0, dest[1] | (dest[2] << 16), 0);
    d.put32(ARG + 32, length | (copyFlags << 16), 0);
    expect(op(5)).toBe(0);
    return d.get16(ARG + 36);
  }

  it('copies between its own pages and grants', () => {
    grant(8, PAGE, 5, 1);
    d.mem.u8.set([1, 2, 3, 4], d.host(PAGE + 10));
    expect(copy([8, SELF, 10], [d.mfn(0x7000), SELF, 20], 4, GREF_SOURCE)).toBe(0);
    expect([...d.mem.u8.subarray(d.host(0x7014), d.host(0x7018))]).toEqual([1, 2, 3, 4]);
    grant(9, 0x8000, 1, 1);
    expect(copy([d.mfn(PAGE), SELF, 10], [9, 1, 0], 4, GREF_DEST)).toBe(0);
    expect([...d.mem.u8.subarray(d.host(0x8000), d.host(0x8004))]).toEqual([1, 2, 3, 4]);
    expect([flags(8), flags(9), mmu.references]).toEqual([5, 1, 0]);
  });

  it('refuses bad ranges, domains, refs and frames, releasing what it took', () => {
    grant(8, PAGE, 5, 1);
    const page = d.mfn(0x7000);
    expect(copy([page, SELF, 4000], [page, SELF, 0], 97, 0)).toBe(Gntst.badCopyArg);
    expect(copy([page, SELF, 0], [page, SELF, 4000], 97, 0)).toBe(Gntst.badCopyArg);
    expect(copy([page, 0, 0], [page, SELF, 0], 1, 0)).toBe(Gntst.permissionDenied);
    expect(copy([8, 0, 0], [page, SELF, 0], 1, GREF_SOURCE)).toBe(Gntst.badGntref);
    expect(copy([8, 5, 0], [page, SELF, 0], 1, GREF_SOURCE)).toBe(Gntst.badDomain);
    expect(copy([page, SELF, 0], [8, SELF, 0], 1, GREF_DEST)).toBe(Gntst.generalError);
    expect(copy([0xffffffff, SELF, 0], [page, SELF, 0], 1, 0)).toBe(Gntst.badPage);
    mmu.tables.add(page);
    expect(copy([8, SELF, 0], [page, SELF, 0], 1, GREF_SOURCE)).toBe(Gntst.badPage);
    expect([flags(8), mmu.references]).toEqual([5, 0]);
  });

  it('swaps entries that are not in use', () => {
    grant(8, PAGE);
    const swap = (a: number, b: number): number => {
      d.put32(ARG, a, b, 0);
      expect(op(11)).toBe(0);
      return d.get16(ARG + 8);
    };
    expect(swap(8, 9)).toBe(0);
    expect([flags(8), flags(9)]).toEqual([0, 1]);
    expect(swap(9, 9)).toBe(0);
    expect(swap(9, 5000)).toBe(Gntst.badGntref);
    d.grants.access(9, false);
    expect(swap(8, 9)).toBe(Gntst.eagain);
  });

  it('refuses cache_flush, transfer, unmap_and_replace, dump_table and unknown ones', () => {
    d.put32(ARG, 0, 0, 4090 | (10 << 16), 1);
    expect(op(12)).toBe(-22);
    d.put32(ARG, 0, 0, 0 | (10 << 16), 4);
    expect(op(12)).toBe(-22);
    d.put32(ARG, 0, 0, 0 | (10 << 16), 1);
    expect(op(12)).toBe(-95);
    d.put32(ARG, 0, 0, 0, 1);
    expect(op(12)).toBe(0);
    for (const cmd of [3, 4, 7, 13, 99]) expect(op(cmd)).toBe(-38);
  });
});

it('without a memory manager nothing can be used', () => {
  const e = new FakeDomain();
  e.grants.seed(1, e.mfn(PAGE));
  expect(e.grants.access(1, false)).toBe(-1);
});

it('random arguments never throw nor leave references (fuzz, fixed seed)', () => {
  fc.assert(
    fc.property(
      fc.nat(14),
      fc.uint8Array({ minLength: 160, maxLength: 160 }),
      fc.integer({ min: 0, max: 3 }),
      (cmd, bytes, count) => {
        const e = new FakeDomain();
        const m = new FakeMmu();
        e.grants.setMmu(m);
        e.grants.grow(1);
        e.mem.u8.set(bytes, e.host(ARG));
        const table = e.mem.hostOf(e.grants.frames[0]);
        e.mem.u8.set(bytes, table);
        // Make the domain ids plausible half of the time.
        if ((bytes[0] & 1) === 0) e.put16(ARG + 16, SELF);
        const result = e.call(grantTableOp, [cmd, ARG, count]);
        expect(Number.isInteger(result)).toBe(true);
        expect(m.references).toBeGreaterThanOrEqual(0);
      },
    ),
    { seed: 7, numRuns: 400 },
  );
});
