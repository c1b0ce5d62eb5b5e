// SPDX-License-Identifier: MIT
// Links from region to region: that they are used, and that they hold no longer than what they were made for.

import { describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { RegionTable, ReturnLinks, setOf, ST } from '../cpu/layout.ts';
import { le, Reg, stop, TestMachine } from '../cpu/test-machine.ts';

/** Odd: the tier for tests enters the region behind its calls. */
const code = 0x400001;
const library = 0x600000;
const data = 0x10000000;
const rounds = 1000;

/** A function in another page that is not short: adds `step` to RAX 20 times, with an instruction of its own in between. */
const adding = (step: number): string => `${`4883c0${le(step, 1)}`.repeat(20)} c3`;

/** Calls the function `rounds` times; directly or by way of RBX. */
function machine(isComputed = false) {
  const m = new TestMachine({ tier: 'translate' });
  const call = isComputed ? 'ffd3 909090' : `e8${le(library - code - 5, 4)}`;
  m.write(m.page(code) + 1, `${call} ffc9 75f7 ${stop}`);
  const host = m.page(library);
  m.write(host, adding(1));
  m.page(data);
  /** Runs it, and says what that added in a round, and how often the interpreter entered a region. */
  const run = () => {
    m.set(Reg.rsp, data + 0x800);
    m.set(Reg.rax, 0);
    m.set(Reg.rbx, library);
    m.set(Reg.rcx, rounds);
    const before = m.cpu.statistics().regionEntries;
    expect(m.run(code)).toBe(Exit.SoftInt);
    return { step: m.cpu.regLo(Reg.rax) / rounds, entries: m.cpu.statistics().regionEntries - before };
  };
  const { base } = m.cpu;
  const withoutTable = () => m.mem.u8.fill(0, base + RegionTable.offset, base + RegionTable.offset + RegionTable.bytes);
  return { m, host, run, withoutTable };
}

describe.each([
  ['direct calls', false],
  ['computed calls', true],
])('%s and returns', (_, isComputed) => {
  it('go on without the table of regions, once they have been made', () => {
    const { run, withoutTable } = machine(isComputed);
    run();
    run();
    withoutTable();
    const { step, entries } = run();
    expect(step).toBe(20);
    expect(entries).toBeLessThan(10);
  });

  it('look the way up again when a region has gone since', () => {
    const { m, run, withoutTable } = machine(isComputed);
    run();
    run();
    withoutTable();
    m.mem.u32[(m.cpu.base + ST.linkEpoch + 4) >>> 2]!++;
    const { step, entries } = run();
    expect(step).toBe(20);
    expect(entries).toBeGreaterThan(rounds);
  });

  it('lead to new code where the old was overwritten', () => {
    const { m, host, run } = machine(isComputed);
    run();
    run();
    m.write(host, adding(3));
    expect(run().step).toBe(60);
  });

  it('lead to another page where the address is mapped to that now', () => {
    const { m, run } = machine(isComputed);
    run();
    run();
    const other = m.page(library);
    m.write(other, adding(5));
    m.cpu.flushTlb();
    expect(run().step).toBe(100);
  });

  it('are left when the budget is used up', () => {
    const { m, run } = machine(isComputed);
    run();
    run();
    m.set(Reg.rsp, data + 0x800);
    m.set(Reg.rbx, library);
    m.set(Reg.rcx, 2 ** 31);
    m.setRip(code);
    const before = m.cpu.instructions;
    expect(m.cpu.run(10_000)).toBe(Exit.Budget);
    expect(m.cpu.instructions - before).toBeLessThan(10_100);
  });
});

it('a wrong guess where a function returns to is no more than that', () => {
  const { m, run } = machine();
  run();
  const links = (m.cpu.base + ReturnLinks.offset) >>> 2;
  const known = m.mem.u32.subarray(links, links + ReturnLinks.entries);
  const used = known.filter((link) => link !== 0);
  expect(used.length).toBeGreaterThan(0);
  // The link of the call, where that of the return should be.
  known.fill(used[0]! - 12);
  expect(run().step).toBe(20);
  known.fill(used[0]! + 12);
  expect(run().step).toBe(20);
});

it('are forgotten with the memory that they lie in', () => {
  const { m, run } = machine();
  run();
  const links = (m.cpu.base + ReturnLinks.offset) >>> 2;
  const known = m.mem.u32.subarray(links, links + ReturnLinks.entries);
  expect(known.some((link) => link !== 0)).toBe(true);
  (m.cpu as unknown as { dropAll(): void }).dropAll();
  expect(known.some((link) => link !== 0)).toBe(false);
  expect(run().step).toBe(20);
});

it('places in one set of the table of regions do not send each other to the interpreter', () => {
  const m = new TestMachine({ tier: 'translate', frames: 512 });
  const functions: number[] = [];
  // Places of code that share a set with the first of them, a function in each: add rax, 1; ret
  let set = -1;
  for (let n = 0; functions.length < 8; n++) {
    const linear = library + n * 0x1000;
    const host = m.page(linear);
    for (let at = 0; at < 0x1000; at += 1 << RegionTable.lowBits) {
      if (set === -1) set = setOf(RegionTable, host + at);
      if (setOf(RegionTable, host + at) !== set) continue;
      m.write(host + at, '4883c001 c3');
      functions.push(linear + at);
    }
  }
  const host = m.page(data);
  functions.forEach((target, n) => m.write(host + 8 * n, le(target, 8)));
  // call [rbx+8*rcx]; dec ecx; jns back; dec edx; mov ecx, the last of them; jnz back
  m.write(m.page(code) + 1, `ff14cb ffc9 79f9 ffca b9${le(functions.length - 1, 4)} 75f0 ${stop}`);
  const run = () => {
    m.set(Reg.rsp, data + 0x800);
    m.set(Reg.rbx, data);
    m.set(Reg.rcx, functions.length - 1);
    m.set(Reg.rdx, rounds);
    m.set(Reg.rax, 0);
    const before = m.cpu.statistics().regionEntries;
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(Reg.rax)).toBe(rounds * functions.length);
    return m.cpu.statistics().regionEntries - before;
  };
  run();
  expect(run()).toBeLessThan(rounds / 10);
});
