// SPDX-License-Identifier: MIT
// set_debugreg and get_debugreg: defaults, reserved bits, refusals.

import { describe, expect, it } from 'vitest';
import { ENODEV, EPERM } from './errno.ts';
import { FakeDomain, va } from './fake-domain.ts';
import { Gpr } from './guest-cpu.ts';

const SET = 8;
const GET = 9;

describe('debug registers', () => {
  it('start at their defaults', () => {
    const g = new FakeDomain();
    expect([0, 3, 6, 7].map((n) => g.call(GET, [n]))).toEqual([0, 0, 0xffff0ff0, 0x400]);
  });

  it('hold whole addresses, which the result carries', () => {
    const g = new FakeDomain();
    expect(g.call(SET, [2, va(5)])).toBe(0);
    g.call(GET, [2]);
    expect(g.reg(Gpr.rax)).toBe(va(5));
  });

  it('reach the processor', () => {
    const g = new FakeDomain();
    g.call(SET, [1, 0x5000]);
    g.call(SET, [7, 0x10004]);
    expect(g.cpu.breakpoints).toEqual([0x10404, 0, 0x5000, 0, 0]);
    expect(g.call(SET, [7, 0x2400])).toBe(-EPERM);
    expect(g.cpu.breakpoints[0]).toBe(0x10404);
  });

  it('force reserved bits', () => {
    const g = new FakeDomain();
    expect(g.call(SET, [6, 0x1001])).toBe(0);
    expect(g.call(GET, [6])).toBe(0xffff0ff1);
    expect(g.call(SET, [7, 0xd855])).toBe(0);
    expect(g.call(GET, [7])).toBe(0x455);
    // 4 and 5 are 6 and 7 while CR4.DE is clear.
    expect(g.call(GET, [5])).toBe(0x455);
  });

  it("refuse Xen's addresses, general detect, I/O breakpoints and numbers that do not exist", () => {
    const g = new FakeDomain();
    for (const address of [0xffff800000000000n, 0xffff87ffffffffffn, 0x8000_00000000n]) {
      expect(g.call(SET, [0, address])).toBe(-EPERM);
    }
    expect(g.call(SET, [7, 0x2400])).toBe(-EPERM);
    expect(g.call(SET, [7, 0x20401])).toBe(-EPERM);
    expect(g.call(SET, [8, 0])).toBe(-ENODEV);
    expect(g.call(GET, [8])).toBe(-ENODEV);
    g.domain.vcpus[0].cr4 = 8;
    expect(g.call(GET, [4])).toBe(-ENODEV);
  });
});
