// SPDX-License-Identifier: MIT
// Writable page tables: stores to L1 tables become checked updates, or page faults with nothing changed.

import { beforeEach, describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { FakeDomain, Table, va } from './fake-domain.ts';
import { Gpr } from './guest-cpu.ts';
import { VmAssist } from './vm-assist.ts';

const WRITE_PRESENT = 7; // user bit as hardware sets it at CPL 3
const HANDLER = 0xffffffff80002000n;

describe('trapped page-table writes', () => {
  let g: FakeDomain;
  beforeEach(() => {
    g = new FakeDomain();
    g.trap(14, HANDLER);
    g.rip = va(1, 0x10);
    g.setReg(Gpr.rsp, va(3));
  });
  const enable = (): void => {
    expect(g.call(21, [0, VmAssist.writablePagetables])).toBe(0);
    g.rip = va(1, 0x10);
    g.setReg(Gpr.rsp, va(3));
  };
  /** The faulting instruction: a store of `value` into entry `index`, which also changes rax and rip. */
  const store = (index: number, value: bigint): void => {
    g.cpu.step = () => {
      g.put64(Table.l1, index * 8, value);
      g.setReg(Gpr.rax, 0x77n);
      g.rip += 3n;
      return Exit.Budget;
    };
    g.fault(14, WRITE_PRESENT, va(Table.l1, index * 8));
  };

  it('are page faults until the assist is enabled', () => {
    store(100, g.pte(7, 0x27));
    expect(g.rip).toBe(HANDLER);
  });

  it('set an entry, normalised and counted', () => {
    enable();
    store(100, g.pte(7, 0x23));
    expect(g.rip).toBe(va(1, 0x13));
    expect(g.get64(Table.l1, 800)).toBe(g.pte(7, 0x27) | (1n << 52n));
    expect(g.domain.pages.typeCount[g.mfn(7)]).toBe(2);
    expect(g.domain.vcpus[0].emulatedStores).toBe(1);
  });

  it('drop the TLB entry of what was there', () => {
    enable();
    store(7, 0n);
    expect(g.cpu.changed).toEqual([[g.mfn(Table.l1), 7]]);
    expect(g.domain.pages.typeCount[g.mfn(7)]).toBe(0);
  });

  it('are undone, registers included, when the entry is refused', () => {
    enable();
    g.setReg(Gpr.rax, 5n);
    store(7, (0x7ff00n << 12n) | 0x27n);
    expect(g.get64(Table.l1, 56)).toBe(g.pte(7, 0x27));
    expect(g.reg(Gpr.rax)).toBe(5n);
    expect(g.rip).toBe(HANDLER);
    const frame = g.reg(Gpr.rsp);
    expect(g.get64(2, Number(frame - va(2)) + 24)).toBe(va(1, 0x10));
    expect(g.domain.counters.get('ptwr.refused')).toBe(1);
  });

  it('lose the writable bit when they would map a page table writable', () => {
    enable();
    store(100, g.pte(Table.l2, 0x27));
    expect(g.rip).toBe(va(1, 0x13));
    expect(g.get64(Table.l1, 800)).toBe(g.pte(Table.l2, 0x25));
  });

  it('check every entry the instruction changed', () => {
    enable();
    g.cpu.step = (): 0 => {
      for (let n = 64; n < 128; n++) g.put64(Table.l1, n * 8, g.pte(n - 64 < 48 ? n - 64 : 0, 0x27));
      return Exit.Budget;
    };
    g.fault(14, WRITE_PRESENT, va(Table.l1, 64 * 8));
    expect(g.domain.pages.typeCount[g.mfn(9)]).toBe(2);
    expect(g.domain.pages.typeCount[g.mfn(0)]).toBe(2 + 16);
  });

  it('leave other faults alone: upper tables, ordinary read-only pages, user mode', () => {
    enable();
    g.cpu.step = (): never => {
      throw new Error('must not be stepped');
    };
    g.fault(14, WRITE_PRESENT, va(Table.l2, 8));
    expect(g.rip).toBe(HANDLER);
    expect(g.call(14, [va(20), g.pte(20, 0x25), 0])).toBe(0);
    g.setReg(Gpr.rsp, va(3));
    g.fault(14, WRITE_PRESENT, va(20));
    expect(g.rip).toBe(HANDLER);
    expect(g.domain.shutdown).toBeNull();
  });

  it('pass on another fault of the same instruction', () => {
    enable();
    g.cpu.step = (): 1 => {
      g.mem.u32[(g.cpu.base + 0x130) >>> 2] = 14;
      g.mem.u32[(g.cpu.base + 0x134) >>> 2] = 4;
      g.write64(g.cpu.base + 0x138, 0xdead000n);
      return Exit.Exception;
    };
    g.fault(14, WRITE_PRESENT, va(Table.l1, 800));
    expect(g.rip).toBe(HANDLER);
    expect(g.read64(g.domain.vcpus[0].info + 0x10)).toBe(0xdead000n);
  });
});
