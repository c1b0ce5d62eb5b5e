// SPDX-License-Identifier: MIT
// A guest's own grant mappings: entries, references, and what becomes of the frame afterwards.

import { expect, it } from 'vitest';
import { DOMID_SELF } from './context.ts';
import { FakeDomain, Table, va } from './fake-domain.ts';
import { Gntst, type GrantMmu } from './grants.ts';

const READONLY = 4;
const CONTAINS_PTE = 16;
const halves = (address: bigint): [number, number] => [Number(address & 0xffffffffn), Number(address >> 32n)];
const mmu = (g: FakeDomain): GrantMmu => g.domain.grants.mmu as GrantMmu;

it('installs and removes a mapping by linear address and by entry', () => {
  const g = new FakeDomain();
  const frame = g.mfn(20);
  const entry = (BigInt(g.mfn(Table.l1)) << 12n) + 800n;
  expect(mmu(g).installGrantMapping(...halves(va(40)), frame, 2)).toBe(Gntst.okay);
  expect(g.get64(Table.l1, 320)).toBe(g.pte(20, 0x67));
  expect(mmu(g).installGrantMapping(...halves(entry), frame, 2 | READONLY | CONTAINS_PTE)).toBe(Gntst.okay);
  expect(g.get64(Table.l1, 800)).toBe(g.pte(20, 0x25));
  expect(mmu(g).removeGrantMapping(...halves(va(40)), g.mfn(21), 2)).toBe(Gntst.generalError);
  expect(mmu(g).removeGrantMapping(...halves(va(40)), frame, 2)).toBe(Gntst.okay);
  expect(mmu(g).removeGrantMapping(...halves(entry), frame, 2 | CONTAINS_PTE)).toBe(Gntst.okay);
  expect(g.get64(Table.l1, 320)).toBe(0n);
  expect(g.domain.pages.refs[frame]).toBe(1);
  // Nothing is left that would keep it from becoming a page table.
  expect(g.call(14, [va(20), 0, 0])).toBe(0);
  g.put64(4, 0, 3n, BigInt(frame), 0n);
  expect(g.call(26, [va(4), 1, 0, DOMID_SELF])).toBe(0);
});

it('fails cleanly for bad places and page tables', () => {
  const g = new FakeDomain();
  const entry = (BigInt(g.mfn(Table.l1)) << 12n) + 800n;
  expect(mmu(g).installGrantMapping(0x1000, 0, g.mfn(20), 2)).toBe(Gntst.generalError);
  expect(mmu(g).installGrantMapping(...halves(entry + 1n), g.mfn(20), 2 | CONTAINS_PTE)).toBe(Gntst.generalError);
  expect(mmu(g).installGrantMapping(...halves(BigInt(g.mfn(9)) << 12n), g.mfn(20), 2 | CONTAINS_PTE)).toBe(
    Gntst.generalError,
  );
  expect(mmu(g).installGrantMapping(...halves(va(40)), g.mfn(Table.l2), 2)).toBe(Gntst.generalError);
  expect(mmu(g).takeFrame(g.mfn(Table.l2), true)).toBe(false);
  expect(mmu(g).takeFrame(g.mfn(20), true)).toBe(true);
  mmu(g).dropFrame(g.mfn(20), true);
  expect(mmu(g).takeFrame(g.domain.m2p.l3, false)).toBe(false);
});
