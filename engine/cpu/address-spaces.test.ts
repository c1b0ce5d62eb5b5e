// SPDX-License-Identifier: MIT
// The generated functions for address spaces: switching to roots that have a bank of TLBs, dropping what an entry of a table led to.

import { beforeEach, describe, expect, it } from 'vitest';
import { i32 } from '../wasm/expr.ts';
import { ModuleBuilder } from '../wasm/module.ts';
import { buildAddressSpaceFunctions } from './address-spaces.ts';
import { emptyTag, ST, Tlb } from './layout.ts';
import { pageBytes, Reg, TestMachine } from './test-machine.ts';

const data = 0xffff_8880_01ff_f000n;
const [low, high] = [Number(data & 0xffffffffn), Number(data >> 32n)];

let m: TestMachine;
/** As the generated functions, for the machine's vCPU. */
let switchRoot: (root: number) => number;
let entryChanged: (table: number, index: number) => number;

beforeEach(() => {
  m = new TestMachine({ frames: 96 });
  const module = new ModuleBuilder();
  module.importMemory({ module: 'env', name: 'memory', initialPages: 1, maximumPages: 65536, shared: true });
  const spaces = buildAddressSpaceFunctions(module);
  const state = i32(m.cpu.base);
  const first = module.function(['i32'], ['i32'], 'switchRoot').body;
  first.return(first.callExpr(spaces.switchRoot, state, first.param(0)));
  const second = module.function(['i32', 'i32'], ['i32'], 'entryChanged').body;
  second.return(second.callExpr(spaces.entryChanged, state, second.param(0), second.param(1)));
  const compiled = new WebAssembly.Module(module.encode() as Uint8Array<ArrayBuffer>);
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory: m.mem.wasm } });
  switchRoot = exports['switchRoot'] as typeof switchRoot;
  entryChanged = exports['entryChanged'] as typeof entryChanged;
});

const where = () => [ST.rootMfn, ST.root, ST.asid, ST.asid + 4, ST.tlb].map((field) => m.cpu.get(field));

/** Entries of all banks whose tags are not those of empty ones. */
const taken = (): number => {
  const start = (m.cpu.base + Tlb.offset) >>> 2;
  let count = 0;
  for (let n = 0; n < (Tlb.banks * Tlb.bankBytes) / 16; n++)
    if (m.mem.u32[start + 4 * n] !== emptyTag(n * pageBytes) || m.mem.u32[start + 4 * n + 1] !== 0) count++;
  return count;
};

/** As many roots as there are banks, each with one, and a page in common. */
const fill = () => {
  const first = m.root;
  const entry = m.map(data, m.frame());
  const tables = m.mem.u64[(m.hostOf(first) + 8 * 273) >>> 3]!;
  const roots = Array.from({ length: Tlb.banks }, () => {
    m.root = m.newRoot();
    m.setEntry(data, tables, 4);
    m.cpu.setRoot(m.root);
    return m.root;
  });
  return { roots, entry };
};

describe('switching roots', () => {
  it('does what the vCPU itself does, for roots that have a bank', () => {
    const { roots } = fill();
    const expected = roots.map((root) => {
      m.cpu.setRoot(root);
      return where();
    });
    expect(new Set(expected.map(([, , bank]) => bank)).size).toBe(Tlb.banks);
    for (const n of [0, 5, 2, 7]) {
      expect(switchRoot(roots[n]!)).toBe(1);
      expect(where()).toEqual(expected[n]);
    }
  });

  it('changes nothing for roots that have lost theirs', () => {
    const { roots } = fill();
    // The second one was used last but one, and the first one is in use.
    for (const n of [3, 4, 5, 6, 7, 2, 1, 0]) expect(switchRoot(roots[n]!)).toBe(1);
    m.cpu.setRoot(m.newRoot());
    const before = where();
    expect(switchRoot(roots[3]!)).toBe(0);
    expect(where()).toEqual(before);
    expect([0, 1, 2, 4, 5, 6, 7].map((n) => switchRoot(roots[n]!))).not.toContain(0);
    m.cpu.forgetRoot(roots[5]!);
    expect(switchRoot(roots[5]!)).toBe(0);
    m.cpu.flushTlb();
    expect([0, 1, 2, 4, 6].map((n) => switchRoot(roots[n]!))).toEqual([0, 0, 0, 0, 0]);
  });
});

describe('a root that is new', () => {
  const user = 0x4000_0000n;
  const [read, write, execute] = [0, 1, 2] as const;
  const all = [read, write, execute];

  /** A root in use whose TLBs know a page of each half, and another one that maps what `share` says. */
  const roots = (share: (first: bigint, at: bigint) => bigint) => {
    const first = m.root;
    // All banks are in use, so none is as the machine began with it.
    for (let n = 0; n < Tlb.banks; n++) m.cpu.setRoot(m.newRoot());
    const frame = m.frame();
    m.map(data, frame);
    m.map(user, m.frame());
    m.cpu.setRoot(first);
    for (const access of all) {
      m.cpu.translate(low, high, access);
      m.cpu.translate(Number(user), 0, access);
    }
    expect(taken()).toBe(6);
    const second = m.newRoot();
    for (let at = 0n; at < 512n; at++)
      m.mem.u64[(m.hostOf(second) >>> 3) + Number(at)] = share(m.mem.u64[(m.hostOf(first) >>> 3) + Number(at)]!, at);
    return { first, second, frame };
  };
  const misses = () => m.cpu.get(ST.tlbMisses);

  it('inherits what is known of the upper half', () => {
    const { first, second } = roots((entry) => entry);
    m.cpu.setRoot(second);
    expect(taken()).toBe(9);
    const before = misses();
    const host = all.map((access) => m.cpu.translate(low, high, access));
    expect(misses()).toBe(before);
    for (const access of all) m.cpu.translate(Number(user), 0, access);
    expect(misses()).toBe(before + 3);
    m.cpu.setRoot(first);
    expect(all.map((access) => m.cpu.translate(low, high, access))).toEqual(host);
    // As what it found itself, it goes with the page, and with the bank.
    m.cpu.setRoot(second);
    m.cpu.forgetRoot(second);
    expect(taken()).toBe(6);
    m.cpu.setRoot(first);
    m.cpu.forgetRoot(second);
    m.cpu.setRoot(second);
    expect(taken()).toBe(9);
    m.cpu.invalidatePage(low, high);
    expect(taken()).toBe(3);
  });

  it.each([
    ['one that was accessed is one that was not', (entry: bigint) => entry & ~0x20n, 9],
    ['the lower half is another', (entry: bigint, at: bigint) => (at < 256n ? 0n : entry), 9],
    [
      'a page of the upper half cannot be written',
      (entry: bigint, at: bigint) => (at === 273n ? entry & ~2n : entry),
      6,
    ],
    ['the last page of the upper half is another', (entry: bigint, at: bigint) => (at === 511n ? 0x1000n : entry), 6],
    ['the first page of the upper half is another', (entry: bigint, at: bigint) => (at === 256n ? 1n : entry), 6],
  ])('inherits, or not, when %s', (_, share, entries) => {
    m.cpu.setRoot(roots(share).second);
    expect(taken()).toBe(entries);
  });

  it.each([
    ['one address', [], 9],
    ['several', [data + 0x5000n, data + 0x7000n], 13],
  ])('lets no writes pass to inherited pages that have become code since: at %s', (_, aliases, entries) => {
    const { first, second, frame } = roots((entry) => entry);
    m.root = first;
    for (const alias of aliases) {
      m.map(alias, frame);
      m.cpu.translate(Number(alias & 0xffffffffn), high, write);
    }
    m.cpu.setRoot(second);
    expect(taken()).toBe(entries);
    // mov eax, 1; int3
    m.write(m.hostOf(frame), 'b801000000 cc');
    m.run(data & -0x1000n);
    expect(m.cpu.regLo(Reg.rax)).toBe(1);
    expect(taken()).toBe(7);
  });
});

describe('a changed entry', () => {
  it.each([
    ['reading', 0, false],
    ['writing', 1, false],
    ['execution', 2, true],
  ] as const)('drops what all banks know of it for %s', (_, access, isExecuted) => {
    const { roots, entry } = fill();
    expect(taken()).toBe(0);
    for (const root of roots) {
      expect(switchRoot(root)).toBe(1);
      m.cpu.translate(low, high, access);
    }
    expect(taken()).toBe(Tlb.banks);
    const epoch = m.cpu.get(ST.execEpoch);
    expect(entryChanged(entry.table, entry.index ^ 1)).toBe(1);
    expect(taken()).toBe(Tlb.banks);
    expect(m.cpu.get(ST.execEpoch)).toBe(epoch);
    expect(entryChanged(entry.table, entry.index)).toBe(1);
    expect(taken()).toBe(0);
    expect(m.cpu.get(ST.execEpoch) > epoch).toBe(isExecuted);
  });

  it('is the same as dropping its page, as the vCPU does', () => {
    const { roots } = fill();
    for (const root of roots) {
      m.cpu.setRoot(root);
      for (const access of [0, 1, 2] as const) m.cpu.translate(low, high, access);
    }
    const epoch = m.cpu.get(ST.execEpoch);
    m.cpu.invalidatePage(low, high ^ 1);
    expect(taken()).toBe(3 * Tlb.banks);
    m.cpu.invalidatePage(low, high);
    expect(taken()).toBe(0);
    expect(m.cpu.get(ST.execEpoch)).toBe(epoch + Tlb.banks);
    // What is filled in again replaces nothing.
    m.cpu.translate(low, high, 2);
    expect(m.cpu.get(ST.execEpoch)).toBe(epoch + Tlb.banks);
  });
});
