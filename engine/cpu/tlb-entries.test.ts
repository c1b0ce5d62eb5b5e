// SPDX-License-Identifier: MIT
// TLB entries at the edges: page ends, the end of a table, the last page there is, and entries that are empty.

import { describe, expect, it } from 'vitest';
import { Exit } from './exits.ts';
import { emptyTag, FillLog, ST, Tlb } from './layout.ts';
import { le, pageBytes, Pte, Reg, stop, TestMachine } from './test-machine.ts';
import type { Tier } from './vcpu.ts';

const code = 0x40000000;
const entries = Tlb.bytes / 16;
const topPage = 0xffff_ffff_ffff_f000n;

/** Code: rax = [rbx]; then, 16 bytes on, [rbx] = rax. */
function machine(tier: Tier, frames?: number) {
  const m = new TestMachine({ tier, ...(frames !== undefined && { frames }) });
  const host = m.page(code);
  m.write(host, `488b03 ${stop}`);
  m.write(host + 16, `488903 ${stop}`);
  const load = (va: number | bigint): bigint => {
    m.set(Reg.rbx, BigInt.asUintN(64, BigInt(va)));
    expect(m.run(code)).toBe(Exit.SoftInt);
    return m.reg(Reg.rax);
  };
  const store = (va: number | bigint, value: bigint): void => {
    m.set(Reg.rbx, BigInt.asUintN(64, BigInt(va)));
    m.set(Reg.rax, value);
    expect(m.run(code + 16)).toBe(Exit.SoftInt);
  };
  /** Both accesses fault, at an address. */
  const refuses = (va: number | bigint, cr2 = va): void => {
    for (const at of [code, code + 16]) {
      m.set(Reg.rbx, BigInt.asUintN(64, BigInt(va)));
      expect(m.run(at)).toBe(Exit.Exception);
      expect(m.fault).toMatchObject({ vector: 14, cr2: BigInt.asUintN(64, BigInt(cr2)) });
    }
  };
  const misses = () => m.cpu.statistics().tlbMisses;
  return { m, load, store, refuses, misses };
}

/** Bytes `from`, `from` + 1 and so on. */
const counting = (from: number): bigint =>
  BigInt(`0x${le(0, 0)}${[7, 6, 5, 4, 3, 2, 1, 0].map((n) => (from + n).toString(16).padStart(2, '0')).join('')}`);

describe.each(['interpret', 'translate'] as const)('an access (%s)', (tier) => {
  it.each([
    ['of pages in the middle', 0x10000000],
    ['where the table begins again', 0x10fff000],
    ['of the upper half', 0xffff_8880_00ff_f000n],
    ['of the first page', 0],
    ['of the last page and, behind it, the first', topPage],
  ])('up to the end of a page hits, across it does not: %s', (_, at) => {
    const { m, load, store, misses } = machine(tier);
    const page = BigInt(at);
    const behind = BigInt.asUintN(64, page + BigInt(pageBytes));
    const [first, second] = [m.page(page), m.page(behind)];
    m.mem.u8.set(
      Array.from({ length: 16 }, (_, n) => 0x20 + n),
      first + pageBytes - 16,
    );
    m.mem.u8.set(
      Array.from({ length: 16 }, (_, n) => 0x30 + n),
      second,
    );
    const end = page + BigInt(pageBytes);
    for (const round of [0, 1]) {
      expect(load(page)).toBe(0n);
      expect(load(behind)).toBe(counting(0x30));
      for (let n = 16; n >= 0; n--) expect(load(end - BigInt(n))).toBe(counting(0x30 - n));
      if (round === 0) for (const va of [page, behind]) store(va + 64n, 1n);
    }
    const before = misses();
    expect(load(end - 8n)).toBe(counting(0x28));
    store(end - 8n, counting(0x28));
    expect(misses()).toBe(before);
    store(end - 3n, 0x8877665544332211n);
    expect([...m.mem.u8.subarray(first + pageBytes - 4, first + pageBytes)]).toEqual([0x2c, 0x11, 0x22, 0x33]);
    expect([...m.mem.u8.subarray(second, second + 6)]).toEqual([0x44, 0x55, 0x66, 0x77, 0x88, 0x35]);
  });

  it('of a page that is not mapped faults, whatever its entry is empty for', () => {
    const { m, refuses } = machine(tier);
    const low = [0, 0x1000, 0x7ff000, 0x800000, 0x801000, 0xfff000, 0x1000000, 0x1800000];
    for (const va of low) {
      refuses(va);
      refuses(va + 0xff8);
      // Across the end: the first page is looked at first.
      refuses(va + 0xffc);
    }
    for (const va of [topPage, topPage - 0x1000n, topPage - 0x7ff000n, 0xffff_8000_0000_0000n]) {
      refuses(va);
      refuses(va + 0xff8n);
      refuses(va + 0xffcn);
    }
    // The second page is not there.
    m.page(0x7ff000);
    refuses(0x7ffffc, 0x800000);
    m.page(topPage);
    refuses(topPage + 0xffcn, 0);
  });

  it('of a page whose entry was dropped looks at the tables', () => {
    const { m, load, store, refuses } = machine(tier);
    for (const at of [0n, 0x7ff000n, 0x800000n, 0xfff000n, topPage]) {
      const entry = m.map(at, m.frame());
      store(at, 5n);
      expect(load(at)).toBe(5n);
      m.mem.u64[entry.host >>> 3] = 0n;
      m.cpu.invalidatePage(Number(at & 0xffffffffn), Number(at >> 32n));
      refuses(at);
      refuses(at + 0xffcn);
      m.map(at, m.frame());
      expect(load(at)).toBe(0n);
      store(at, 6n);
      m.mem.u64[entry.host >>> 3] = 0n;
      m.cpu.entryChanged(entry.table, entry.index);
      refuses(at);
    }
  });
});

/** The log of a bank. */
function fills({ mem, base }: TestMachine['cpu'], bank: number): Uint16Array {
  const at = (base + FillLog.offset + bank * FillLog.bankBytes) >>> 1;
  return mem.u16.subarray(at, at + FillLog.bankBytes / 2);
}

/** Entries of a bank that are not empty, by their place in it. */
function filled({ mem, base }: TestMachine['cpu'], bank: number): number[] {
  const start = (base + Tlb.offset + bank * Tlb.bankBytes) >>> 2;
  const places = Array.from({ length: Tlb.bankBytes / 16 }, (_, place) => place);
  const tag = (place: number) => emptyTag((place % entries) * pageBytes);
  return places.filter((place) => mem.u32[start + 4 * place] !== tag(place) || mem.u32[start + 4 * place + 1] !== 0);
}

describe.each(['interpret', 'translate'] as const)('the log of fills (%s)', (tier) => {
  // Pages that choose the same entry, 16 MiB apart, and another.
  const pages = [0x10000000, 0x11000000, 0x12345000];

  it.each([0, 1, 20, FillLog.most / 3, 600])('is enough to empty a bank after %i rounds', (rounds) => {
    const { m, load, store } = machine(tier);
    const { cpu } = m;
    pages.forEach((page) => m.page(page));
    const bank = cpu.get(ST.asid);
    for (let n = 0; n < rounds; n++) {
      for (const [k, page] of pages.entries()) {
        if ((n + k) % 2) store(page, BigInt(n));
        else load(page);
      }
    }
    const logged = [...fills(cpu, bank)];
    expect(logged[0]).toBeLessThanOrEqual(FillLog.most);
    if (logged[0] === FillLog.most) expect(rounds).toBeGreaterThan(300);
    else expect(logged.slice(1, 1 + logged[0]!)).toEqual(expect.arrayContaining(filled(cpu, bank)));
    expect(filled(cpu, bank).length).toBeGreaterThan(rounds > 0 ? 2 : -1);
    // All banks are given to other roots in turn, and emptied for them.
    cpu.flushTlb();
    for (let n = 0; n < Tlb.banks; n++) cpu.setRoot(m.newRoot());
    expect(filled(cpu, bank)).toEqual([]);
    expect(fills(cpu, bank)[0]).toBe(0);
  });

  it('begins full: a bank that was never emptied has entries that are not', () => {
    const { cpu } = new TestMachine({ tier });
    // Those up to the current one have had an owner.
    for (let bank = 0; bank < Tlb.banks; bank++) {
      const isOwned = bank <= cpu.get(ST.asid);
      expect(fills(cpu, bank)[0]).toBe(isOwned ? 0 : FillLog.most);
      if (isOwned) expect(filled(cpu, bank)).toEqual([]);
    }
  });
});

describe('an empty entry', () => {
  it('is hit by no access that chooses it', () => {
    for (let e = 0; e < entries; e++) {
      const tag = BigInt(emptyTag(e * pageBytes));
      for (const high of [0n, 1n << 24n, 0xffff_8000_0000_0000n, 0xffff_ffff_ff00_0000n]) {
        const page = high + BigInt(e * pageBytes);
        // The first byte lies in the page, the last one in it or in the next one.
        for (const last of [0, 1, 4094, 4095, 4096, 4097, 8190])
          expect(BigInt.asUintN(64, tag - (page + BigInt(last)))).toBeGreaterThan(4095n);
      }
    }
  });

  it('is what clearing a bank makes of all of its entries, and of no other', () => {
    const { mem, cpu } = new TestMachine();
    const start = (cpu.base + Tlb.offset) >>> 2;
    const words = mem.u32.subarray(start, start + (Tlb.banks * Tlb.bankBytes) / 4);
    words.fill(0x55555555);
    for (let bank = 0; bank < Tlb.banks; bank++) fills(cpu, bank).set([FillLog.most]);
    const epoch = cpu.get(ST.execEpoch);
    // The root forgets its bank and gets another one, or the same.
    cpu.flushTlb();
    expect(cpu.get(ST.execEpoch)).not.toBe(epoch);
    const bank = cpu.get(ST.asid);
    expect(cpu.get(ST.tlb)).toBe(cpu.base + Tlb.offset + bank * Tlb.bankBytes);
    const expected = new Uint32Array(words.length).fill(0x55555555);
    for (let tlb = 0; tlb < Tlb.bankBytes / Tlb.bytes; tlb++) {
      for (let e = 0; e < entries; e++) {
        const at = (bank * Tlb.bankBytes + tlb * Tlb.bytes) / 4 + e * 4;
        expected.fill(0, at, at + 4);
        expected[at] = emptyTag(e * pageBytes);
      }
    }
    expect(Buffer.compare(Buffer.from(words.slice().buffer), Buffer.from(expected.buffer))).toBe(0);
  });

  it('stays empty when a page becomes code that it seems to let write to', () => {
    const half = 0x800000;
    const { m, store } = machine('interpret', half / pageBytes + 64);
    const executed = m.frame();
    while (m.hostOf(executed) - m.hostOf(m.frame()) < half - pageBytes);
    const written = m.frame();
    expect(m.hostOf(executed) - m.hostOf(written)).toBe(half);
    // The entry goes, its addend stays: with the page that its tag names now that leads to the other frame.
    const data = 0x300000;
    m.map(data, written);
    store(data, 1n);
    m.cpu.invalidatePage(data, 0);
    const now = m.page(data);
    // Two ways to write to the other frame: all entries are looked at when it becomes code.
    for (const alias of [0x20000000, 0x20003000]) {
      m.map(alias, executed);
      store(alias + 64, 1n);
    }
    m.write(m.hostOf(executed), stop);
    m.map(0x21001000, executed, Pte.writable);
    expect(m.run(0x21001000)).toBe(Exit.SoftInt);
    store(data, 7n);
    expect([m.mem.u64[m.hostOf(written) >>> 3], m.mem.u64[now >>> 3]]).toEqual([1n, 7n]);
  });
});
