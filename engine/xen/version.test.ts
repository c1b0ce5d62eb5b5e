// SPDX-License-Identifier: MIT
// xen_version: numbers, strings padded to their end, feature bits.

import { describe, expect, it } from 'vitest';
import { EFAULT, EINVAL, ENODATA, ENOSYS } from './errno.ts';
import { FakeDomain, va } from './fake-domain.ts';
import { VmAssist } from './vm-assist.ts';

const XEN_VERSION = 17;

describe('xen_version', () => {
  it('returns version and page size', () => {
    const g = new FakeDomain();
    expect(g.call(XEN_VERSION, [0, 0])).toBe(0x40011);
    expect(g.call(XEN_VERSION, [7, 0])).toBe(4096);
    expect(g.call(XEN_VERSION, [10, va(2)])).toBe(-ENODATA);
    expect(g.call(XEN_VERSION, [11, va(2)])).toBe(-ENOSYS);
  });

  it('pads every string with NULs and writes nothing beyond its field', () => {
    const g = new FakeDomain();
    for (const [command, size] of [
      [1, 16],
      [2, 144],
      [3, 1024],
      [4, 64],
      [9, 1024],
    ]) {
      g.mem.u8.fill(0xee, g.host(2), g.host(2) + 4096);
      expect(g.call(XEN_VERSION, [command, va(2)])).toBe(0);
      expect(g.mem.u8[g.host(2) + size - 1]).toBe(0);
      expect(g.mem.u8[g.host(2) + size]).toBe(0xee);
      if (command !== 2) {
        const bytes = g.mem.u8.slice(g.host(2), g.host(2) + size);
        expect(bytes.slice(bytes.indexOf(0)).every((byte) => byte === 0)).toBe(true);
      }
      expect(g.call(XEN_VERSION, [command, 0x1000])).toBe(-EFAULT);
    }
    expect(g.call(XEN_VERSION, [3, va(2)])).toBe(0);
    expect(String.fromCharCode(...g.mem.u8.slice(g.host(2), g.host(2) + 14))).toBe('xen-3.0-x86_64');
  });

  it('has the features of a PV guest and one submap', () => {
    const g = new FakeDomain();
    const features = (): bigint => {
      g.put64(2, 0, 0n);
      expect(g.call(XEN_VERSION, [6, va(2)])).toBe(0);
      return g.get64(2) >> 32n;
    };
    expect(features()).toBe(0x220e0n);
    expect(g.call(21, [0, VmAssist.paeExtendedCr3])).toBe(0);
    expect(features()).toBe(0x220f0n);
    g.put64(2, 0, 1n);
    expect(g.call(XEN_VERSION, [6, va(2)])).toBe(-EINVAL);
    expect(g.call(XEN_VERSION, [6, 0x1000])).toBe(-EFAULT);
  });

  it('tells where Xen begins and who the guest is', () => {
    const uuid = Uint8Array.from({ length: 16 }, (_, n) => n + 1);
    const g = new FakeDomain({ uuid });
    expect(g.call(XEN_VERSION, [5, va(2)])).toBe(0);
    expect(g.get64(2)).toBe(0xffff800000000000n);
    expect(g.call(XEN_VERSION, [8, va(2)])).toBe(0);
    expect(g.mem.u8.slice(g.host(2), g.host(2) + 16)).toEqual(uuid);
  });
});
