// SPDX-License-Identifier: MIT
// Dispatch, counting, tracing and multicall.

import { describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { DOMID_SELF } from './context.ts';
import { EFAULT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM } from './errno.ts';
import { FakeDomain, Table, va } from './fake-domain.ts';
import { Gpr } from './guest-cpu.ts';
import type { HypercallTrace } from './hypercalls.ts';

const MULTICALL = 13;
/** Writes multicall entries at `pfn`:`offset`. */
function list(g: FakeDomain, pfn: number, offset: number, calls: readonly (readonly (number | bigint)[])[]): void {
  for (const [n, [op, ...args]] of calls.entries()) {
    const words = [BigInt(op), 0x5555n, ...Array.from({ length: 6 }, (_, a) => BigInt(args[a] ?? 0))];
    for (const [w, word] of words.entries()) {
      const at = offset + n * 64 + w * 8;
      g.put64(pfn + (at >> 12), at & 0xfff, word);
    }
  }
}

describe('dispatch', () => {
  it('takes the number from the whole of rax and returns in rax; rcx and r11 are those of SYSCALL', () => {
    const g = new FakeDomain();
    g.rip = va(1, 2);
    expect(g.call(17, [7])).toBe(4096);
    expect([g.reg(Gpr.rcx), g.reg(Gpr.r11)]).toEqual([va(1, 2), 0x202n]);
    expect(g.reg(Gpr.rdi)).toBe(7n);
    g.setReg(Gpr.rax, (1n << 32n) | 17n);
    g.exit(Exit.Syscall);
    expect(g.reg(Gpr.rax)).toBe(BigInt.asUintN(64, BigInt(-ENOSYS)));
  });

  it('counts calls and unimplemented operations by name', () => {
    const g = new FakeDomain();
    expect(g.call(99)).toBe(-ENOSYS);
    expect(g.call(27)).toBe(-ENOSYS);
    expect(g.call(38)).toBe(-ENOSYS);
    expect(g.call(12, [63])).toBe(-ENOSYS);
    g.call(17, [0]);
    g.call(17, [0]);
    expect(g.domain.hypercalls.counts().get('xen_version')).toBe(2);
    expect(g.domain.counters.snapshot('enosys.')).toEqual(
      new Map([
        ['enosys.hypercall_99.0', 1],
        ['enosys.xsm_op.0', 1],
        ['enosys.tmem_op.0', 1],
        ['enosys.memory_op.63', 1],
      ]),
    );
  });

  it('refuses the calls of a control domain', () => {
    const g = new FakeDomain();
    for (const number of [7, 35, 36, 37, 41, 48]) expect(g.call(number)).toBe(-EPERM);
    for (const number of [31, 34, 39]) expect(g.call(number)).toBe(-ENOSYS);
    expect(g.call(40)).toBe(-EOPNOTSUPP);
  });

  it('reports every call to the trace hook', () => {
    const g = new FakeDomain();
    const seen: string[] = [];
    g.domain.hypercalls.trace = (t: HypercallTrace): void => {
      seen.push(`${t.vcpu} ${t.number} ${t.argLo[0]} -> ${t.result}${t.inMulticall ? ' (multicall)' : ''}`);
    };
    list(g, 4, 0, [[17, 7]]);
    g.call(MULTICALL, [va(4), 1]);
    g.call(17, [8, 0]);
    expect(seen[0]).toBe('0 17 7 -> 4096 (multicall)');
    expect(seen[1]).toMatch(/^0 13 /);
    expect(seen[2]).toBe(`0 17 8 -> ${-EFAULT}`);
  });
});

describe('multicall', () => {
  it('stores each result and succeeds although entries fail', () => {
    const g = new FakeDomain();
    list(g, 4, 0, [[17, 0], [14, 0x1000], [9, 7], [77], [3, 0x18, va(9)]]);
    expect(g.call(MULTICALL, [va(4), 5])).toBe(0);
    const results = [0, 1, 2, 3, 4].map((n) => BigInt.asIntN(64, g.get64(4, n * 64 + 8)));
    expect(results).toEqual([0x40011n, BigInt(-EINVAL), 0x400n, BigInt(-ENOSYS), 0n]);
    expect(g.domain.vcpus[0].kernelSpLo).toBe(Number(va(9) & 0xffffffffn));
  });

  it('runs lists that are unaligned or lie across a page', () => {
    const g = new FakeDomain();
    list(g, 4, 4096 - 40, [
      [17, 0],
      [17, 7],
    ]);
    expect(g.call(MULTICALL, [va(4, 4096 - 40), 2])).toBe(0);
    expect([g.get64(4, 4096 - 32), g.get64(5, 32)]).toEqual([0x40011n, 4096n]);
  });

  it('ends at an iret and writes nothing more', () => {
    const g = new FakeDomain();
    list(g, 4, 0, [[17, 0], [23], [17, 0]]);
    g.put64(6, 0, 0x99n, 0n, 0n, 0n, va(1, 8), 0xe030n, 0x202n, va(3), 0xe02bn);
    g.setReg(Gpr.rsp, va(6));
    expect(g.call(MULTICALL, [va(4), 3])).toBe(0x99);
    expect(g.rip).toBe(va(1, 8));
    expect([g.get64(4, 72), g.get64(4, 136)]).toEqual([0x5555n, 0x5555n]);
    // The next one works: no state is left behind.
    list(g, 4, 0, [[17, 0]]);
    expect(g.call(MULTICALL, [va(4), 1])).toBe(0);
  });

  it('faults on an unreadable list, an unwritable result, and refuses nesting', () => {
    const g = new FakeDomain();
    expect(g.call(MULTICALL, [0x1000, 1])).toBe(-EFAULT);
    expect(g.call(MULTICALL, [va(Table.l1, 2048), 1])).toBe(-EFAULT);
    list(g, 4, 0, [[MULTICALL, va(4), 1]]);
    expect(g.call(MULTICALL, [va(4), 1])).toBe(0);
    expect(BigInt.asIntN(64, g.get64(4, 8))).toBe(BigInt(-EINVAL));
  });

  it('batches page-table updates', () => {
    const g = new FakeDomain();
    g.put64(2, 0, (BigInt(g.mfn(Table.l1)) << 12n) + 80n, 0n);
    list(g, 4, 0, [
      [1, va(2), 1, 0, DOMID_SELF],
      [14, va(11), 0, 0],
    ]);
    expect(g.call(MULTICALL, [va(4), 2])).toBe(0);
    expect([g.get64(Table.l1, 80), g.get64(Table.l1, 88)]).toEqual([0n, 0n]);
  });
});
