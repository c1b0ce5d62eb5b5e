// SPDX-License-Identifier: MIT
// set_trap_table, set_callbacks, callback_op, nmi_op: registration and refusals.

import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL, ENOSYS } from './errno.ts';
import { FakeDomain, va } from './fake-domain.ts';

const NON_CANONICAL = 0x8000_00000000n;

describe('set_trap_table', () => {
  it('merges, and a null pointer empties the table', () => {
    const g = new FakeDomain();
    const v = g.domain.vcpus[0];
    g.trap(14, va(1), 4);
    g.trap(13, va(2), 3);
    expect([v.trapAddress[28], v.trapAddress[26], v.trapFlags[14], v.trapFlags[13]]).toEqual([
      0x80001000, 0x80002000, 4, 3,
    ]);
    expect(v.trapSelector[14]).toBe(0xe033);
    expect(g.call(0, [0])).toBe(0);
    expect(v.trapAddress.every((word) => word === 0)).toBe(true);
  });

  it('refuses a non-canonical handler and a table that cannot be read to its end', () => {
    const g = new FakeDomain();
    g.put64(2, 0, 6n, va(1), 7n, NON_CANONICAL);
    expect(g.call(0, [va(2)])).toBe(-EINVAL);
    expect(g.domain.vcpus[0].trapAddress[12]).toBe(0x80001000);
    g.put64(63, 4080, 6n, va(1));
    expect(g.call(0, [va(63, 4080)])).toBe(-EFAULT);
  });
});

describe('callback_op', () => {
  it('registers every type a 64-bit kernel has', () => {
    const g = new FakeDomain();
    const v = g.domain.vcpus[0];
    for (const type of [0, 1, 2, 4, 5, 7]) {
      g.put64(2, 0, BigInt(type) | (1n << 16n), va(type + 1));
      expect(g.call(30, [0, va(2)])).toBe(0);
    }
    expect([v.eventCallback.lo, v.failsafeCallback.lo, v.syscallCallback.lo]).toEqual([
      0x80001000, 0x80002000, 0x80003000,
    ]);
    expect([v.trapAddress[4], v.sysenterCallback.lo, v.syscall32Callback.lo]).toEqual([
      0x80005000, 0x80006000, 0x80008000,
    ]);
    expect(v.syscallCallback.maskEvents).toBe(true);
    expect(v.trapFlags[2]).toBe(4);
  });

  it('refuses unknown types, commands and addresses', () => {
    const g = new FakeDomain();
    g.put64(2, 0, 3n, va(1));
    expect(g.call(30, [0, va(2)])).toBe(-ENOSYS);
    expect(g.call(30, [2, va(2)])).toBe(-ENOSYS);
    expect(g.call(30, [0, 0x1000])).toBe(-EFAULT);
    g.put64(2, 0, 0n, NON_CANONICAL);
    expect(g.call(30, [0, va(2)])).toBe(-EINVAL);
  });

  it('unregisters only the NMI callback', () => {
    const g = new FakeDomain();
    g.trap(2, va(1));
    for (const [type, result] of [
      [0, -EINVAL],
      [1, -EINVAL],
      [4, 0],
      [9, -ENOSYS],
    ]) {
      g.put64(2, 0, BigInt(type));
      expect(g.call(30, [1, va(2)])).toBe(result);
    }
    expect(g.domain.vcpus[0].trapAddress[4]).toBe(0);
    expect(g.call(30, [1, 0x1000])).toBe(-EFAULT);
  });
});

it('set_callbacks takes three addresses', () => {
  const g = new FakeDomain();
  const v = g.domain.vcpus[0];
  expect(g.call(4, [va(1), va(2), va(3)])).toBe(0);
  expect([v.eventCallback.lo, v.failsafeCallback.lo, v.syscallCallback.lo]).toEqual([
    0x80001000, 0x80002000, 0x80003000,
  ]);
  expect(g.call(4, [va(1), NON_CANONICAL, va(3)])).toBe(-EINVAL);
});

it('nmi_op registers and unregisters', () => {
  const g = new FakeDomain();
  g.put64(2, 0, va(1), 0n);
  expect(g.call(28, [0, va(2)])).toBe(0);
  expect(g.domain.vcpus[0].trapAddress[4]).toBe(0x80001000);
  expect(g.call(28, [1])).toBe(0);
  expect(g.domain.vcpus[0].trapAddress[4]).toBe(0);
  expect(g.call(28, [2])).toBe(-ENOSYS);
  expect(g.call(28, [0, 0x1000])).toBe(-EFAULT);
});
