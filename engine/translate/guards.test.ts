// SPDX-License-Identifier: MIT
// Regions of several pages: they apply only where all of their pages are mapped as they were when the code was read, whatever has been found out before.
import { describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { RegionLink, ST, Tlb } from '../cpu/layout.ts';
import { bytesOf, le, pageBytes, Pte, Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import { compileRegions } from './compile.ts';
import { guardSlots, guardsOf, regionSlots, writeGuards } from './guards.ts';
import { slotsOf } from './profile.ts';
import { findRegion, type Region } from './region.ts';
import { maxGuards } from './stored-regions.ts';
import { batchRegions, regionLimits } from './tuning.ts';

const code = 0x400000;
const second = code + pageBytes;
/** Pages at this distance share a place in the TLB. */
const tlbReach = 4096 * pageBytes;

/** At `code`: jmp to the next page, where eax is set to 1; other pages set it to 2 and 3. */
function machine() {
  const m = new TestMachine({ tier: 'translate' });
  const first = m.frame();
  m.write(m.hostOf(first), `e9${le(pageBytes - 5, 4)}`);
  const frames = [1, 2, 3].map((value) => {
    const frame = m.frame();
    m.write(m.hostOf(frame), `b8${le(value, 4)} ${stop}`);
    return frame;
  });
  m.map(code, first);
  const entry = m.map(second, frames[0]!);
  const seen = (at = code): number => {
    m.set(Reg.rax, 0);
    expect(m.run(at)).toBe(Exit.SoftInt);
    return m.cpu.regLo(Reg.rax);
  };
  const point = (frame: number) =>
    (m.mem.u64[entry.host >>> 3] = (BigInt(frame) << 12n) | BigInt(Pte.present | Pte.user));
  // Twice: the second time the region knows its pages.
  expect([seen(), seen()]).toEqual([1, 1]);
  expect(m.cpu.statistics().translator!.regions).toBeGreaterThan(0);
  return { m, first, frames, entry, seen, point };
}

describe('a region of two pages', () => {
  it('is not used where the second one is mapped elsewhere now', () => {
    const { m, frames, entry, seen, point } = machine();
    point(frames[1]!);
    m.cpu.entryChanged(entry.table, entry.index);
    expect([seen(), seen()]).toEqual([2, 2]);
    point(frames[0]!);
    m.cpu.invalidatePage(second, 0);
    expect([seen(), seen()]).toEqual([1, 1]);
    expect(m.cpu.statistics().regionMisfits).toBeGreaterThan(0);
  });

  it('is not used where it was mapped elsewhere while the TLB knew nothing of it', () => {
    const { m, frames, entry, seen, point } = machine();
    m.map(second + tlbReach, frames[2]!);
    expect(seen(second + tlbReach)).toBe(3);
    point(frames[1]!);
    m.cpu.entryChanged(entry.table, entry.index);
    expect(seen()).toBe(2);
  });

  it('is not used by an address space that has got the same bank of TLBs again', () => {
    const { m, frames, seen, point } = machine();
    const bank = m.cpu.get(ST.asid);
    point(frames[1]!);
    m.cpu.setRoot(m.newRoot());
    m.cpu.flushTlb();
    for (let n = 0; n < bank; n++) m.cpu.setRoot(m.newRoot());
    m.cpu.setRoot(m.root);
    expect(m.cpu.get(ST.asid)).toBe(bank);
    expect(seen()).toBe(2);
  });

  it('is not used by an address space that has taken the bank from another one', () => {
    const { m, first, frames, seen } = machine();
    const bank = m.cpu.get(ST.asid);
    m.root = m.newRoot();
    m.map(code, first);
    m.map(second, frames[1]!);
    const tables = m.mem.u64[m.hostOf(m.root) >>> 3]!;
    for (let n = 0; n < Tlb.banks; n++) {
      m.root = m.newRoot();
      m.setEntry(code, tables, 4);
      m.cpu.setRoot(m.root);
      if (m.cpu.get(ST.asid) === bank) break;
    }
    expect(m.cpu.get(ST.asid)).toBe(bank);
    expect(seen()).toBe(2);
  });

  it('is not used at an address behind which there is another one', () => {
    const { m, first, frames, seen } = machine();
    const elsewhere = 0x10000000;
    m.map(elsewhere, first);
    m.map(elsewhere + pageBytes, frames[1]!);
    for (let n = 0; n < 3; n++) expect([seen(elsewhere), seen()]).toEqual([2, 1]);
  });

  it('is not used in an address space with another one', () => {
    const { m, first, frames, seen } = machine();
    const [root, other] = [m.root, m.newRoot()];
    m.root = other;
    m.map(code, first);
    m.map(second, frames[1]!);
    for (let n = 0; n < 3; n++) {
      m.cpu.setRoot(other);
      expect(seen()).toBe(2);
      m.cpu.setRoot(root);
      expect(seen()).toBe(1);
    }
  });
});

describe('the slots of guards', () => {
  it('are a stamp, and one for each page but the first', () => {
    expect([0, 1, 3].map(guardSlots)).toEqual([0, 5, 7]);
    expect(guardsOf([{ delta: 0 }])).toEqual([]);
    expect(guardsOf([{ delta: 0 }, { delta: 2 }, { delta: -1 }])).toEqual([
      { delta: 2, slot: 4 },
      { delta: -1, slot: 5 },
    ]);
  });

  it('of a region that comes back forget what was found out', () => {
    const u32 = new Uint32Array(9).fill(7);
    const entry = { delta: 0, host: 0x9000 };
    writeGuards(u32, 1, [entry]);
    expect([...u32]).toEqual(new Array(9).fill(7));
    writeGuards(u32, 1, [entry, { delta: 2, host: 0x1000 }, { delta: -1, host: 0x5000 }]);
    expect([...u32]).toEqual([7, 0, 0, 0, 0, 0x1000, 0x5000, 7, 7]);
  });
});

it('the slots of a batch of the largest regions are no more than a stored module may have', () => {
  const { instructions, pages } = regionLimits;
  // Every instruction a computed jump: these count most.
  const counters = slotsOf({ computed: new Array<number>(instructions).fill(0), branches: [] }).total;
  expect(guardSlots(pages - 1) + counters).toBeLessThanOrEqual(regionSlots);
  expect(batchRegions * regionSlots).toBeLessThanOrEqual(maxGuards);
});

it('a region of nothing but ways out has links for as many as there is room for', () => {
  const { instructions } = regionLimits;
  // jz far away, each to somewhere else.
  const u8 = bytesOf(Array.from({ length: instructions }, (_, n) => `0f84 ${le(0x100000 + 16 * n, 4)}`).join(''));
  const memory = new Uint8Array(2 * pageBytes);
  memory.set(u8, pageBytes);
  const guide = { follows: (host: number) => host !== 0, usualTarget: () => undefined, learns: true };
  const region = findRegion(memory, 0, pageBytes, () => 0, regionLimits, guide)!;
  expect(region.instructions).toBe(instructions);
  const { bytes, guards, guardStart } = compileRegions(new Array<Region>(batchRegions).fill(region));
  expect(guardStart[1]).toBeGreaterThan(regionSlots - RegionLink.bytes / 4);
  expect(guards).toBeLessThanOrEqual(maxGuards);
  expect(WebAssembly.validate(bytes as Uint8Array<ArrayBuffer>)).toBe(true);
});
