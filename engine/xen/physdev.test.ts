// SPDX-License-Identifier: MIT
// physdev_op, console_io, vm_assist and the other small calls: effects and refusals.

import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL, ENOSYS } from './errno.ts';
import { FakeDomain, va } from './fake-domain.ts';
import { VmAssist } from './vm-assist.ts';

describe('physdev_op', () => {
  it('sets the virtual IOPL, in both forms of the call', () => {
    const g = new FakeDomain();
    g.put64(2, 0, 2n);
    expect(g.call(33, [6, va(2)])).toBe(0);
    expect(g.domain.vcpus[0].iopl).toBe(2);
    g.put64(2, 0, 6n, 1n);
    expect(g.call(19, [va(2)])).toBe(0);
    expect(g.domain.vcpus[0].iopl).toBe(1);
    g.put64(2, 0, 4n);
    expect(g.call(33, [6, va(2)])).toBe(-EINVAL);
    expect(g.call(33, [6, 0x1000])).toBe(-EFAULT);
    expect(g.call(19, [0x1000])).toBe(-EFAULT);
  });

  it('sets the I/O bitmap', () => {
    const g = new FakeDomain();
    g.put64(2, 0, va(3), 65536n);
    expect(g.call(33, [7, va(2)])).toBe(0);
    expect(g.domain.vcpus[0].ioBitmapPorts).toBe(65536);
    g.put64(2, 0, va(3), 65537n);
    expect(g.call(33, [7, va(2)])).toBe(-EINVAL);
    expect(g.call(33, [7, 0x1000])).toBe(-EFAULT);
    for (const command of [5, 10, 13, 25, 28]) expect(g.call(33, [command, va(2)])).toBe(-ENOSYS);
  });
});

describe('console_io', () => {
  it('writes any amount and reads nothing', () => {
    const g = new FakeDomain();
    g.mem.u8.fill(0x41, g.host(10), g.host(10) + 1);
    for (const [n, char] of [...'hello'].entries()) g.mem.u8[g.host(10) + n] = char.charCodeAt(0);
    expect(g.call(18, [0, 5, va(10)])).toBe(0);
    expect(g.console).toEqual(['hello']);
    expect(g.call(18, [0, 10000, va(10)])).toBe(0);
    expect(g.console.slice(1).map((text) => text.length)).toEqual([4096, 4096, 1808]);
    expect(g.call(18, [1, 16, va(10)])).toBe(0);
    expect(g.call(18, [0, 5, 0x1000])).toBe(-EFAULT);
    expect(g.call(18, [0, 0x7fffffff, va(10)])).toBe(-EINVAL);
    expect(g.call(18, [2])).toBe(-ENOSYS);
  });
});

describe('vm_assist', () => {
  it('switches the known types on and off', () => {
    const g = new FakeDomain();
    for (const type of [0, 1, 2, 3, 4, 5, 32]) expect(g.call(21, [0, type])).toBe(0);
    expect(g.domain.assists(VmAssist.writablePagetables)).toBe(true);
    expect([g.domain.architecturalIopl, g.domain.m2pStrict, g.domain.time.runstateUpdateFlag]).toEqual([
      true,
      true,
      true,
    ]);
    expect(g.call(21, [1, VmAssist.writablePagetables])).toBe(0);
    expect(g.domain.assists(VmAssist.writablePagetables)).toBe(false);
    for (const type of [6, 31, 33]) expect(g.call(21, [0, type])).toBe(-EINVAL);
    expect(g.call(21, [2, 0])).toBe(-ENOSYS);
  });
});

it('stack_switch and fpu_taskswitch change the vCPU', () => {
  const g = new FakeDomain();
  expect(g.call(3, [0x18, va(9)])).toBe(0);
  expect([g.domain.vcpus[0].kernelSs, g.domain.vcpus[0].kernelSpLo]).toEqual([0x1b, 0x80009000]);
  expect(g.call(5, [1])).toBe(0);
  expect(g.cpu.taskSwitched).toBe(true);
  expect(g.call(5, [0])).toBe(0);
  expect(g.cpu.taskSwitched).toBe(false);
});
