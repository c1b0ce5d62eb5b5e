// SPDX-License-Identifier: MIT
// GDT and LDT of a guest: taking pages, checking descriptors, segment bases.

import { describe, expect, it } from 'vitest';
import { ST, Seg } from '../cpu/layout.ts';
import { DOMID_SELF } from './context.ts';
import { EBUSY, EFAULT, EINVAL } from './errno.ts';
import { FakeDomain, Table, va } from './fake-domain.ts';
import { PageType } from './page-types.ts';

const CODE64 = 0x00af9b000000ffffn;
const DATA = 0x00cf93000000ffffn;
const TSS = 0x0000890000000067n;
const DPL3 = 0x6000n << 32n;
const GDT = 20;

const readOnly = (g: FakeDomain, pfn: number): void => {
  expect(g.call(14, [va(pfn), g.pte(pfn, 0x25), 0])).toBe(0);
};
const setGdt = (g: FakeDomain, entries: number, ...frames: number[]): number => {
  g.put64(2, 0, ...frames.map(BigInt));
  return g.call(2, [va(2), entries]);
};

describe('set_gdt', () => {
  it('takes a read-only page, raises DPLs, and finds its descriptors', () => {
    const g = new FakeDomain();
    g.put64(GDT, 0x10, CODE64, DATA);
    expect(setGdt(g, 16, g.mfn(GDT))).toBe(-EINVAL); // mapped writable
    readOnly(g, GDT);
    expect(setGdt(g, 16, g.mfn(GDT))).toBe(0);
    expect(g.get64(GDT, 0x10)).toBe(CODE64 | DPL3);
    expect(g.domain.descriptorAddress(0, 0x13)).toBe(g.host(GDT) + 0x10);
    expect(g.domain.descriptorAddress(0, 0x1013)).toBe(0);
    // And it cannot be mapped writable while it is loaded.
    expect(g.call(14, [va(GDT), g.pte(GDT, 0x27), 0])).toBe(-EBUSY);
    expect(setGdt(g, 0)).toBe(0);
    expect(g.call(14, [va(GDT), g.pte(GDT, 0x27), 0])).toBe(0);
  });

  it('can be set again to the same page', () => {
    const g = new FakeDomain();
    readOnly(g, GDT);
    expect(setGdt(g, 16, g.mfn(GDT))).toBe(0);
    expect(setGdt(g, 16, g.mfn(GDT))).toBe(0);
    expect(g.domain.pages.typeCount[g.mfn(GDT)]).toBe(1);
  });

  it('refuses bad pages, counts and pointers, and keeps the old table then', () => {
    const g = new FakeDomain();
    readOnly(g, GDT);
    readOnly(g, GDT + 1);
    expect(setGdt(g, 16, g.mfn(GDT))).toBe(0);
    g.put64(GDT + 1, 0xff8, TSS); // in the tail that the entry count leaves out
    expect(setGdt(g, 513, g.mfn(GDT), g.mfn(GDT + 1))).toBe(-EINVAL);
    expect(g.domain.pages.typeCount[g.mfn(GDT)]).toBe(1);
    expect(g.domain.pages.typeCount[g.mfn(GDT + 1)]).toBe(0);
    expect(setGdt(g, 16, g.mfn(Table.l1))).toBe(-EINVAL);
    expect(setGdt(g, 16, 0xfffff)).toBe(-EINVAL);
    expect(g.call(2, [va(2), 7169])).toBe(-EINVAL);
    expect(g.call(2, [0x1000, 16])).toBe(-EFAULT);
    expect(g.domain.descriptorAddress(0, 0x10)).toBe(g.host(GDT) + 0x10);
  });

  it("always has Xen's own entries", () => {
    const g = new FakeDomain();
    expect(g.read64(g.domain.descriptorAddress(0, 0xe033))).toBe(0x00affb000000ffffn);
    expect(g.read64(g.domain.descriptorAddress(0, 0xe02b))).toBe(0x00cff3000000ffffn);
    expect(g.read64(g.domain.descriptorAddress(0, 0xe023))).toBe(0x00cffb000000ffffn);
    expect(g.domain.descriptorAddress(0, 0xf000)).toBe(0);
  });
});

describe('update_descriptor', () => {
  it('writes into a loaded table and into plain memory', () => {
    const g = new FakeDomain();
    readOnly(g, GDT);
    expect(setGdt(g, 16, g.mfn(GDT))).toBe(0);
    const address = (pfn: number, offset: number): bigint => (BigInt(g.mfn(pfn)) << 12n) + BigInt(offset);
    expect(g.call(10, [address(GDT, 0x78), 0x40f50000000000n])).toBe(0);
    expect(g.get64(GDT, 0x78)).toBe(0x40f50000000000n);
    expect(g.call(10, [address(21, 8), DATA])).toBe(0);
    expect(g.get64(21, 8)).toBe(DATA | DPL3);
    expect(g.call(10, [address(21, 8), 0])).toBe(0);
    expect(g.call(10, [address(21, 4), DATA])).toBe(-EINVAL);
    expect(g.call(10, [address(21, 8), TSS])).toBe(-EINVAL);
    expect(g.call(10, [address(Table.l1, 8), DATA])).toBe(-EINVAL);
    expect(g.call(10, [BigInt(g.domain.sharedInfoMfn) << 12n, DATA])).toBe(-EINVAL);
  });

  it('accepts call gates without their DPL, and anything not present', () => {
    const g = new FakeDomain();
    const address = BigInt(g.mfn(21)) << 12n;
    expect(g.call(10, [address, 0x0000ec0000080000n])).toBe(0);
    expect(g.get64(21)).toBe(0x00008c0000080000n);
    expect(g.call(10, [address, 0x0000090000000067n])).toBe(0);
  });
});

describe('LDT', () => {
  it('is looked up, checked and held on first use', () => {
    const g = new FakeDomain();
    g.put64(22, 8, DATA);
    readOnly(g, 22);
    g.put64(4, 0, 13n, va(22), 600n);
    expect(g.call(26, [va(4), 1, 0, DOMID_SELF])).toBe(0);
    expect(g.domain.pages.typeCount[g.mfn(22)]).toBe(0);
    expect(g.domain.descriptorAddress(0, 0xf)).toBe(g.host(22) + 8);
    expect(g.domain.pages.hasType(g.mfn(22), PageType.segdesc)).toBe(true);
    expect(g.domain.descriptorAddress(0, 0x1007)).toBe(0); // next page is mapped writable
    expect(g.domain.descriptorAddress(0, (700 << 3) | 7)).toBe(0);
    g.put64(4, 0, 13n, 0n, 0n);
    expect(g.call(26, [va(4), 1, 0, DOMID_SELF])).toBe(0);
    expect(g.domain.pages.typeCount[g.mfn(22)]).toBe(0);
  });
});

describe('set_segment_base', () => {
  const base = (g: FakeDomain, segment: number): bigint => g.read64(g.cpu.base + ST.segBase + segment * 8);

  it('sets FS, the live kernel GS and the waiting user GS', () => {
    const g = new FakeDomain();
    expect([g.call(25, [0, va(1)]), g.call(25, [1, va(2)]), g.call(25, [2, va(3)])]).toEqual([0, 0, 0]);
    expect([base(g, Seg.fs), base(g, Seg.gs)]).toEqual([va(1), va(3)]);
    expect(g.domain.vcpus[0].gsInactiveLo).toBe(Number(va(2) & 0xffffffffn));
    for (const which of [0, 1, 2]) expect(g.call(25, [which, 0x8000_00000000n])).toBe(-EINVAL);
    expect(g.call(25, [4, 0])).toBe(-EINVAL);
  });

  it('loads the user GS selector and turns a bad one into NUL', () => {
    const g = new FakeDomain();
    g.put64(GDT, 0x18, 0x12cf93345678ffffn);
    readOnly(g, GDT);
    expect(setGdt(g, 16, g.mfn(GDT))).toBe(0);
    expect(g.call(25, [2, va(3)])).toBe(0);
    expect(g.call(25, [3, 0x18])).toBe(0);
    expect(g.selector(Seg.gs)).toBe(0x1b);
    expect(g.domain.vcpus[0].gsInactiveLo).toBe(0x12345678);
    expect(base(g, Seg.gs)).toBe(va(3));
    expect(g.call(25, [3, 0x7778])).toBe(0);
    expect(g.selector(Seg.gs)).toBe(0);
    expect(g.domain.vcpus[0].gsInactiveLo).toBe(0);
  });
});
