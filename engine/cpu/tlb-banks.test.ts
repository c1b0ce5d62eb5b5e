// SPDX-License-Identifier: MIT
// Banks of TLBs: one per root and privilege while there are enough, taken from others where there are not, told to generated code at user privilege.

import { beforeEach, describe, expect, it } from 'vitest';
import { RootBanks, ST, Tlb } from './layout.ts';
import { MachineMemory } from './memory.ts';
import { TlbBanks } from './tlb-banks.ts';

const ROOT = 0x100;

let mem: MachineMemory;
let banks: TlbBanks;
/** Banks that were cleared, in turn. */
let cleared: number[];
/** From which bank to which entries were handed on, and the root of the former. */
let inherited: [from: number, to: number, root: number][];

/** The bank that the table holds for a root, undefined when it is not there. */
const published = (root: number): number | undefined => {
  const set = ST.rootBanks + (root % RootBanks.sets) * RootBanks.ways * RootBanks.entryBytes;
  for (let way = 0; way < RootBanks.ways; way++) {
    const at = (mem.layout.vcpus + set + way * RootBanks.entryBytes) >>> 2;
    if (mem.u32[at] === root) return mem.u32[at + 1];
  }
  return undefined;
};

/** Switches to an address space, as the vCPU does. */
const enter = (root: number, isUser = true): number => {
  const bank = banks.of(root, isUser);
  mem.u32[(mem.layout.vcpus + ST.asid) >>> 2] = bank;
  return bank;
};

/** Switches to a root as generated code does. */
const enterByTable = (root: number): void => {
  const bank = published(root)!;
  mem.u32[(mem.layout.vcpus + ST.asid) >>> 2] = bank;
  const at = (mem.layout.vcpus + ST.switches) >>> 2;
  mem.u32[((mem.layout.vcpus + ST.bankUse) >>> 2) + bank] = ++mem.u32[at]!;
};

beforeEach(() => {
  mem = new MachineMemory({ vcpus: 1, guestBytes: 4096, xenFrames: 0, mfnLimit: 16 });
  cleared = [];
  inherited = [];
  banks = new TlbBanks(mem, mem.layout.vcpus, {
    clear: (bank) => cleared.push(bank),
    inherit: (...how) => inherited.push(how),
  });
});

describe('banks of TLBs', () => {
  it('differ by root and privilege, and stay', () => {
    const all = [enter(ROOT), enter(ROOT, false), enter(ROOT + 1)];
    expect(new Set(all).size).toBe(3);
    expect([enter(ROOT), enter(ROOT, false), enter(ROOT + 1)]).toEqual(all);
    expect(cleared).toEqual(all);
  });

  it('inherit from the one in use, if that is of the same privilege and still has an owner', () => {
    const first = enter(ROOT);
    expect(inherited).toEqual([]);
    const second = enter(ROOT + 1);
    expect(inherited).toEqual([[first, second, ROOT]]);
    // Nothing new; from another privilege; from a root that is gone.
    enter(ROOT);
    const system = enter(ROOT, false);
    enter(ROOT + 2);
    banks.forget(ROOT + 2);
    enter(ROOT + 3);
    expect(inherited).toEqual([[first, second, ROOT]]);
    enter(ROOT, false);
    const other = enter(ROOT + 1, false);
    expect(inherited.slice(1)).toEqual([[system, other, ROOT]]);
    banks.forgetAll();
    enter(ROOT);
    expect(inherited.length).toBe(2);
  });

  it('of user privilege are published, of others not', () => {
    enter(ROOT, false);
    expect(published(ROOT)).toBeUndefined();
    const bank = enter(ROOT);
    expect(published(ROOT)).toBe(bank);
  });

  it('of the roots of a set used last are published', () => {
    const roots = Array.from({ length: RootBanks.ways + 1 }, (_, n) => ROOT + n * RootBanks.sets);
    const given = roots.map((root) => enter(root));
    expect(roots.map(published)).toEqual([undefined, ...given.slice(1)]);
    expect(enter(ROOT)).toBe(given[0]);
    expect(published(ROOT)).toBe(given[0]);
  });

  it('are free, and no longer published, after a root was forgotten', () => {
    const bank = enter(ROOT);
    const system = enter(ROOT, false);
    const other = enter(ROOT + RootBanks.sets);
    banks.forget(ROOT);
    expect([published(ROOT), published(ROOT + RootBanks.sets)]).toEqual([undefined, other]);
    expect([bank, system, other].map((n) => banks.isOwned(n))).toEqual([false, false, true]);
    // Each has a new owner, or the old one again: empty in any case.
    cleared = [];
    expect([enter(ROOT + 1), enter(ROOT)].sort()).toEqual([bank, system].sort());
    expect(cleared.sort()).toEqual([bank, system].sort());
    expect(enter(ROOT + RootBanks.sets)).toBe(other);
  });

  it('stay those of the current address space behind a flush', () => {
    enter(ROOT);
    const bank = enter(ROOT + 1);
    banks.forgetAll();
    expect(enter(ROOT + 1)).toBe(bank);
    expect(enter(ROOT)).not.toBe(bank);
  });

  it('are cleared before they are used again behind a flush', () => {
    const roots = [ROOT, ROOT + 1, ROOT + 2];
    roots.forEach((root) => enter(root));
    banks.forgetAll();
    expect(roots.map(published)).toEqual([undefined, undefined, undefined]);
    cleared = [];
    const again = roots.map((root) => enter(root));
    expect(cleared).toEqual(again);
    expect(new Set(again).size).toBe(3);
  });

  it('are taken away when there are too few: cleared, and not published for who had it', () => {
    const roots = Array.from({ length: Tlb.banks }, (_, n) => ROOT + n);
    roots.forEach((root) => enter(root));
    cleared = [];
    const bank = enter(0x500);
    expect(cleared).toEqual([bank]);
    expect(published(0x500)).toBe(bank);
    const lost = roots.filter((root) => published(root) === undefined);
    expect(lost.length).toBe(1);
    // Who lost it gets a cleared one.
    const next = enter(lost[0]!);
    expect(next).not.toBe(bank);
    expect(cleared).toEqual([bank, next]);
  });

  it('are never taken from the current address space', () => {
    for (let n = 0; n < 1000; n++) {
      const before = enter(ROOT + (n % 37), n % 5 !== 0);
      const after = enter(0x1000 + n);
      expect(after).not.toBe(before);
      expect(published(0x1000 + n)).toBe(after);
      // Used by nobody else: whoever is published has a bank of their own.
      const seen = Array.from({ length: 1000 }, (_, k) => published(0x1000 + k)).filter((b) => b !== undefined);
      expect(new Set(seen).size).toBe(seen.length);
    }
  });

  it('are not taken from one that was gone back to without a word', () => {
    for (let n = 0; n < Tlb.banks; n++) enter(ROOT + n);
    const bank = published(ROOT)!;
    mem.u32[(mem.layout.vcpus + ST.asid) >>> 2] = bank;
    expect(banks.of(0x500, true)).not.toBe(bank);
    expect(published(ROOT)).toBe(bank);
  });

  it('are taken from those that have not been switched to for longest, also by generated code', () => {
    mem.u32[(mem.layout.vcpus + ST.switches) >>> 2] = 0xfffffff0;
    const roots = Array.from({ length: Tlb.banks }, (_, n) => ROOT + n);
    roots.forEach((root) => enter(root));
    const busy = roots.slice(0, 4);
    for (let n = 0; n < 20; n++) {
      for (const root of busy) enterByTable(root);
      enter(0x600 + n);
      expect(busy.map(published)).not.toContain(undefined);
      const others = n < 4 ? roots.slice(5 + n) : [0x600 + n - 3];
      expect(others.map(published)).not.toContain(undefined);
    }
  });
});
