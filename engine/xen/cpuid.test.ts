// SPDX-License-Identifier: MIT
// The CPUID policy: x86-64-v2, nothing a PV guest must not see, and Xen's leaves.

import { describe, expect, it } from 'vitest';
import { cpuid, defaultCpuPolicy } from './cpuid.ts';

const leaf = (n: number, sub = 0, policy = defaultCpuPolicy): Uint32Array => {
  const out = new Uint32Array(4);
  cpuid(policy, n, sub, 0, out);
  return out;
};
const has = (word: number, bit: number): boolean => ((word >>> bit) & 1) === 1;

describe('features', () => {
  it('are those of x86-64-v2', () => {
    const [, , ecx, edx] = leaf(1);
    for (const bit of [0, 9, 13, 19, 20, 23]) expect(has(ecx, bit), `ecx ${bit}`).toBe(true);
    for (const bit of [0, 4, 5, 6, 8, 15, 23, 24, 25, 26]) expect(has(edx, bit), `edx ${bit}`).toBe(true);
    const [, , extendedEcx, extendedEdx] = leaf(0x80000001);
    expect(has(extendedEcx, 0)).toBe(true);
    for (const bit of [11, 20, 29]) expect(has(extendedEdx, bit)).toBe(true);
  });

  it('leave out what a PV guest must not use', () => {
    const [, , ecx, edx] = leaf(1);
    // VME DE PSE MTRR PGE MCA PSE36; MONITOR VMX x2APIC XSAVE OSXSAVE AVX PCID.
    for (const bit of [1, 2, 3, 7, 12, 13, 14, 17]) expect(has(edx, bit), `edx ${bit}`).toBe(false);
    for (const bit of [3, 5, 17, 21, 26, 27, 28]) expect(has(ecx, bit), `ecx ${bit}`).toBe(false);
    expect([...leaf(7)]).toEqual([0, 1 << 18, 0, 0]);
    expect([...leaf(0xd)]).toEqual([0, 0, 0, 0]);
    expect(has(leaf(0x80000001)[3], 26)).toBe(false);
  });

  it('announce random numbers: a kernel that has them needs not gather them from interrupts', () => {
    expect(has(leaf(1)[2], 30)).toBe(true);
    expect(has(leaf(7)[1], 18)).toBe(true);
  });

  it('announce fast strings when told to', () => {
    expect(has(leaf(7, 0, { ...defaultCpuPolicy, fastStrings: true })[1], 9)).toBe(true);
    expect(has(leaf(7)[1], 9)).toBe(false);
  });
});

describe('identification', () => {
  it('spells vendor and brand', () => {
    const [max, ebx, ecx, edx] = leaf(0);
    expect(max).toBe(7);
    expect(Buffer.from(new Uint32Array([ebx, edx, ecx]).buffer).toString()).toBe('GenuineIntel');
    const brand = [0x80000002, 0x80000003, 0x80000004].flatMap((n) => [...leaf(n)]);
    expect(Buffer.from(new Uint32Array(brand).buffer).toString()).toBe(
      'Paravane virtual CPU (x86-64-v2)'.padEnd(48, '\0'),
    );
  });

  it("has Xen's leaves, with an address width that keeps Linux on grant tables version 1", () => {
    expect(leaf(0x40000000)[0]).toBe(0x40000005);
    expect(leaf(0x40000001)[0]).toBe(0x40011);
    expect([...leaf(0x40000002)]).toEqual([1, 0x40000000, 1, 0]);
    expect(leaf(0x40000005)[1]).toBeLessThanOrEqual(44);
    expect([...leaf(0x40000006)]).toEqual([0, 0, 0, 0]);
  });

  it('gives cache sizes in leaf 4 and zero beyond', () => {
    const [eax, ebx, ecx] = leaf(4, 0);
    expect(eax & 0x1f).toBe(1);
    expect(((ebx >>> 22) + 1) * ((ebx & 0xfff) + 1) * (ecx + 1)).toBe(32768);
    expect(leaf(4, 3)[0]).toBe(0);
    expect([...leaf(0x8fffffff)]).toEqual([0, 0, 0, 0]);
  });
});
