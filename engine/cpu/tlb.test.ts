// SPDX-License-Identifier: MIT
// TLBs: address spaces kept apart, entries dropped when tables change.
import { describe, expect, it } from 'vitest';
import { Exit } from './exits.ts';
import { ST, Tlb } from './layout.ts';
import { noExecute, Pte, Reg, stop, TestMachine } from './test-machine.ts';
import type { Tier } from './vcpu.ts';

const code = 0x400000;
const data = 0x10000000;

/** Code: eax = [rbx], then stop. */
function reader(tier: Tier) {
  const m = new TestMachine({ tier, frames: 96 });
  const codeFrame = m.frame();
  m.map(code, codeFrame);
  m.write(m.hostOf(codeFrame), `8b03 ${stop}`);
  const frames = [m.frame(), m.frame(), m.frame()];
  frames.forEach((mfn, n) => (m.mem.u32[m.hostOf(mfn) >>> 2] = 100 + n));
  const entry = m.map(data, frames[0]!);
  const see = (va = data): number => {
    m.set(Reg.rbx, va);
    expect(m.run(code)).toBe(Exit.SoftInt);
    return m.cpu.regLo(Reg.rax);
  };
  const point = (mfn: number) =>
    (m.mem.u64[entry.host >>> 3] = (BigInt(mfn) << 12n) | BigInt(Pte.present | Pte.writable | Pte.user));
  return { m, codeFrame, frames, entry, see, point };
}

describe.each(['interpret', 'translate'] as const)('the TLB (%s)', (tier) => {
  it('keeps the entries of several roots apart, and over switches', () => {
    const { m, codeFrame, frames, see } = reader(tier);
    const other = m.newRoot();
    const first = m.root;
    m.root = other;
    // Other addresses, so that the two do not compete for one place; one page in common, mapped elsewhere.
    m.map(code + 0x1000, codeFrame);
    m.map(code, codeFrame);
    m.map(data + 0x2000, frames[1]!);
    m.map(data, frames[2]!);
    expect(see()).toBe(100);
    m.cpu.setRoot(other);
    expect(see()).toBe(102);
    m.cpu.setRoot(first);
    expect(see()).toBe(100);
    m.cpu.setRoot(other);
    m.set(Reg.rbx, data + 0x2000);
    m.run(code + 0x1000);
    expect(m.cpu.regLo(Reg.rax)).toBe(101);
    m.cpu.setRoot(first);
    see();
    const misses = m.cpu.statistics().tlbMisses;
    for (let i = 0; i < 10; i++) {
      m.cpu.setRoot(other);
      m.set(Reg.rbx, data + 0x2000);
      m.run(code + 0x1000);
      m.cpu.setRoot(first);
      expect(see()).toBe(100);
    }
    expect(m.cpu.statistics().tlbMisses).toBe(misses);
  });

  it('keeps privileges apart', () => {
    const { m, see, entry } = reader(tier);
    m.mem.u64[entry.host >>> 3]! &= ~BigInt(Pte.user);
    m.cpu.setCpl(0);
    expect(see()).toBe(100);
    m.cpu.setCpl(3);
    m.set(Reg.rbx, data);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, error: 5, cr2: BigInt(data), rip: BigInt(code) });
  });

  it('forgets a root', () => {
    const { m, frames, see, point } = reader(tier);
    const spare = m.newRoot();
    expect(see()).toBe(100);
    point(frames[1]!);
    m.cpu.setRoot(spare);
    m.cpu.forgetRoot(m.root);
    m.cpu.setRoot(m.root);
    expect(see()).toBe(101);
    // The current one, too.
    point(frames[2]!);
    m.cpu.forgetRoot(m.root);
    expect(see()).toBe(102);
  });

  it('drops one page, in all address spaces, and no other', () => {
    const { m, frames, see, point } = reader(tier);
    m.map(data + 0x1000, frames[2]!);
    expect([see(), see(data + 0x1000)]).toEqual([100, 102]);
    point(frames[1]!);
    m.cpu.invalidatePage(data + 0x123, 0);
    const misses = m.cpu.statistics().tlbMisses;
    expect([see(), see(data + 0x1000)]).toEqual([101, 102]);
    expect(m.cpu.statistics().tlbMisses).toBe(misses + 1);
    m.cpu.setCpl(0);
    see();
    m.cpu.setCpl(3);
    point(frames[0]!);
    m.cpu.invalidatePage(data, 0);
    m.cpu.setCpl(0);
    expect(see()).toBe(100);
  });

  it('drops a page of the upper half', () => {
    const { m, frames, see } = reader(tier);
    const high = 0xffff_8880_0123_4000n;
    const at = m.map(high, frames[0]!);
    m.set(Reg.rbx, high);
    const look = () => {
      m.set(Reg.rbx, high);
      expect(m.run(code)).toBe(Exit.SoftInt);
      return m.cpu.regLo(Reg.rax);
    };
    expect(look()).toBe(100);
    m.mem.u64[at.host >>> 3] = (BigInt(frames[1]!) << 12n) | 7n;
    m.cpu.entryChanged(at.table, at.index);
    expect(look()).toBe(101);
    m.mem.u64[at.host >>> 3] = (BigInt(frames[2]!) << 12n) | 7n;
    m.cpu.invalidatePage(0x01234000, 0xffff8880);
    expect(look()).toBe(102);
    expect(see()).toBe(100);
  });

  it('follows a changed table entry, also of a table that is seen at two addresses', () => {
    const { m, frames, entry, see, point } = reader(tier);
    expect(see()).toBe(100);
    point(frames[1]!);
    expect(m.cpu.entryChanged(entry.table, entry.index)).toBe(false);
    expect(see()).toBe(101);
    // The same level-1 table once more, 1 GiB further on.
    const again = data + 0x40000000;
    m.setEntry(again, (BigInt(entry.table) << 12n) | 7n, 2);
    expect([see(again), see()]).toEqual([101, 101]);
    point(frames[2]!);
    expect(m.cpu.entryChanged(entry.table, entry.index)).toBe(true);
    // Nothing is known any more: from here on the one address only.
    m.cpu.forgetTable(entry.table);
    expect(see()).toBe(102);
    const before = m.cpu.get(ST.asid);
    point(frames[0]!);
    expect(m.cpu.entryChanged(entry.table, entry.index)).toBe(false);
    expect(m.cpu.get(ST.asid)).toBe(before);
    expect([see(), see(again)]).toEqual([100, 100]);
  });

  it('follows a changed entry for writes and for code', () => {
    const m = new TestMachine({ tier });
    const frames = [m.frame(), m.frame()];
    // mov eax, n; stop - in two frames.
    frames.forEach((mfn, n) => m.write(m.hostOf(mfn), `b8 0${n}000000 ${stop}`));
    const entry = m.map(code, frames[0]!);
    m.run(code);
    expect(m.cpu.regLo(0)).toBe(0);
    m.mem.u64[entry.host >>> 3] = (BigInt(frames[1]!) << 12n) | 7n;
    m.cpu.entryChanged(entry.table, entry.index);
    m.run(code);
    expect(m.cpu.regLo(0)).toBe(1);
    // No longer executable.
    m.mem.u64[entry.host >>> 3]! |= noExecute;
    m.cpu.entryChanged(entry.table, entry.index);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, error: 0x15, cr2: BigInt(code) });
  });

  it('never uses an entry that was there before a flush, or before its root was forgotten', () => {
    const { m, frames, see, point } = reader(tier);
    expect(see()).toBe(100);
    const seen = new Set<number>();
    for (let i = 0; i < 900; i++) {
      const n = i % 3;
      point(frames[n]!);
      if (i % 10 === 9) m.cpu.setRoot(m.root + 0x100000 + i);
      if (i % 2) m.cpu.flushTlb();
      else m.cpu.forgetRoot(m.root);
      m.cpu.setRoot(m.root);
      seen.add(m.cpu.get(ST.asid));
      // Most of the time nothing is looked at: entries of banks that nobody has stay.
      const host = m.cpu.translate(data, 0, i % 7 === 0 ? 1 : 0);
      if (i % 5 === 0) expect(host).toBe(m.hostOf(frames[n]!));
      if (i % 100 === 0) expect(see()).toBe(100 + n);
    }
    expect(seen.size).toBeGreaterThan(1);
  });

  it('keeps more address spaces apart than it has banks', () => {
    const { m, codeFrame, frames, see } = reader(tier);
    const [root, count] = [m.root, 2 * Tlb.banks + 3];
    // Tables of three kinds, and roots that share them.
    const tables = frames.map((frame) => {
      m.root = m.newRoot();
      m.map(code, codeFrame);
      m.map(data, frame);
      return m.mem.u64[m.hostOf(m.root) >>> 3]!;
    });
    const roots = Array.from({ length: count }, (_, n) => {
      m.root = m.newRoot();
      m.setEntry(code, tables[n % 3]!, 4);
      return m.root;
    });
    m.root = root;
    const at = (n: number) => {
      m.cpu.setRoot(roots[n]!);
      expect(see()).toBe(100 + (n % 3));
    };
    for (let n = 0; n < count; n++) at(n);
    for (let n = count - 1; n >= 0; n--) at(n);
    for (let k = 0; k < 200; k++) {
      at((k * k + (k >> 2)) % count);
      at(k % 4);
      if (k % 50 === 49) m.cpu.flushTlb();
      if (k % 20 === 7) m.cpu.forgetRoot(roots[k % count]!);
    }
    // More of them at a time than there are banks: one by one, each is the last one switched to.
    for (let k = 0; k < 100; k++) for (const n of [0, 1, 2, 3 + (k % (count - 3))]) at(n);
  });

  it('drops a page in each of its banks', () => {
    const { m, codeFrame, frames, see } = reader(tier);
    const spaces = Array.from({ length: Tlb.banks }, () => {
      m.root = m.newRoot();
      m.map(code, codeFrame);
      return { root: m.root, entry: m.map(data, frames[0]!) };
    });
    const seeAll = () =>
      spaces.map(({ root }) => {
        m.cpu.setRoot(root);
        return see();
      });
    const all = (value: number) => spaces.map(() => value);
    expect(seeAll()).toEqual(all(100));
    const { tlbMisses } = m.cpu.statistics();
    expect(seeAll()).toEqual(all(100));
    expect(m.cpu.statistics().tlbMisses).toBe(tlbMisses);
    const pointAll = (mfn: number) => {
      for (const { entry } of spaces) m.mem.u64[entry.host >>> 3] = (BigInt(mfn) << 12n) | 7n;
    };
    pointAll(frames[1]!);
    m.cpu.invalidatePage(data, 0);
    expect(seeAll()).toEqual(all(101));
    expect(m.cpu.statistics().tlbMisses).toBe(tlbMisses + Tlb.banks);
    pointAll(frames[2]!);
    m.cpu.flushTlb();
    expect(seeAll()).toEqual(all(102));
  });
});
