// SPDX-License-Identifier: MIT
// Unit tests of the domain layout: the numbers that Xen 4.17's builder printed for the same kernel, and its limits.
import { describe, expect, it } from 'vitest';
import { PvError } from '../errors.ts';
import type { XenKernelInfo } from '../formats/xen-notes.ts';
import { computeLayout, describeLayout } from './builder-layout.ts';

/** Debian's 6.1 kernel, as far as the layout depends on it. */
const linux: XenKernelInfo = {
  bits: 64,
  source: 'notes',
  entry: 0xffffffff830791c0n,
  virtBase: 0xffffffff80000000n,
  paddrOffset: 0n,
  hypercallPage: undefined,
  initP2m: 0x8000000000n,
  modStartPfn: true,
  xenVersion: 'xen-3.0',
  guestOs: 'linux',
  guestVersion: '2.6',
  loader: 'generic',
  paeMode: 'yes',
  extendedCr3: true,
  features: [],
  supportedFeatures: 0x8801n,
  bsdSymtab: false,
  suspendCancel: true,
  hvStartLow: 0xffff800000000000n,
  kernelStart: 0xffffffff81000000n,
  kernelEnd: 0xffffffff84a00000n,
};

/** A kernel like mini-os: at virtual 0, everything mapped. */
const miniOs: XenKernelInfo = {
  ...linux,
  entry: 0n,
  virtBase: 0n,
  initP2m: undefined,
  modStartPfn: false,
  kernelStart: 0n,
  kernelEnd: 0x52000n,
};

function errorOf(action: () => unknown): PvError {
  try {
    action();
  } catch (error) {
    if (error instanceof PvError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('layout of Linux in 256 MiB', () => {
  // "domainbuilder" lines of Xen 4.17 for this kernel, memory and initrd size.
  const layout = computeLayout({ kernel: linux, pages: 0x10000, initrdBytes: 0x7cdc10 });

  it('is that of Xen 4.17', () => {
    expect(layout.kernel).toEqual({ pfn: 0x1000, count: 0x3a00 });
    expect([layout.startInfoPfn, layout.storePfn, layout.consolePfn]).toEqual([0x4a00, 0x4a01, 0x4a02]);
    expect(layout.pageTables).toEqual({ pfn: 0x4a03, count: 0x29 });
    expect(layout.bootStackPfn).toBe(0x4a2c);
    expect(layout.mappedPages).toBe(0x4c00);
    expect(layout.initrd).toMatchObject({ pfn: 0x4c00, count: 0x7ce, isMapped: false });
    expect(layout.p2m).toMatchObject({ pfn: 0x53ce, count: 0x80, isSeparate: true, virtualAddress: 0x8000000000n });
    expect(layout.p2mPageTables).toEqual({ pfn: 0x53ce + 0x80, count: 3 });
    expect(layout.endPfn).toBe(0x5451);
  });

  it('is described in the same words', () => {
    expect(describeLayout(layout)).toEqual([
      'kernel       : 0xffffffff81000000 -> 0xffffffff84a00000 (pfn 0x1000 + 0x3a00 pages)',
      'start info   : 0xffffffff84a00000 -> 0xffffffff84a01000 (pfn 0x4a00 + 0x1 pages)',
      'xenstore     : 0xffffffff84a01000 -> 0xffffffff84a02000 (pfn 0x4a01 + 0x1 pages)',
      'console      : 0xffffffff84a02000 -> 0xffffffff84a03000 (pfn 0x4a02 + 0x1 pages)',
      'page tables  : 0xffffffff84a03000 -> 0xffffffff84a2c000 (pfn 0x4a03 + 0x29 pages)',
      'boot stack   : 0xffffffff84a2c000 -> 0xffffffff84a2d000 (pfn 0x4a2c + 0x1 pages)',
      'mapped       : 0xffffffff80000000 -> 0xffffffff84c00000',
      'initrd       : 0xffffffff84c00000 -> 0xffffffff853ce000 (pfn 0x4c00 + 0x7ce pages)',
      'phys2mach    : 0xffffffff853ce000 -> 0xffffffff85451000 (pfn 0x53ce + 0x83 pages)',
    ]);
  });

  it('lists the tables top level first: one L4, L3, L2, then the L1s', () => {
    const main = layout.tables.slice(0, layout.pageTables.count);
    expect(main.map((t) => t.pfn)).toEqual(Array.from({ length: 0x29 }, (_, i) => 0x4a03 + i));
    expect(main.map((t) => t.level)).toEqual([4, 3, 2, ...new Array<number>(38).fill(1)]);
    expect(layout.tables.slice(0x29).map((t) => t.level)).toEqual([3, 2, 1]);
  });
});

describe('layout of a kernel without MOD_START_PFN and INIT_P2M', () => {
  it('maps initrd and P2M list, in this order, before start_info', () => {
    const layout = computeLayout({ kernel: miniOs, pages: 0x4000, initrdBytes: 5000 });
    expect(layout.kernel).toEqual({ pfn: 0, count: 0x52 });
    expect(layout.initrd).toMatchObject({ pfn: 0x52, count: 2, isMapped: true });
    expect(layout.p2m).toMatchObject({ pfn: 0x54, count: 0x20, isSeparate: false, virtualAddress: 0x54000n });
    expect([layout.startInfoPfn, layout.storePfn, layout.consolePfn]).toEqual([0x74, 0x75, 0x76]);
    expect(layout.pageTables).toEqual({ pfn: 0x77, count: 5 });
    expect(layout.bootStackPfn).toBe(0x7c);
    expect([layout.mappedPages, layout.endPfn]).toEqual([0x400, 0x400]);
    expect(layout.p2mPageTables.count).toBe(0);
    expect(describeLayout(layout).map((line) => line.slice(0, 11).trim())).toEqual([
      'kernel',
      'initrd',
      'phys2mach',
      'start info',
      'xenstore',
      'console',
      'page tables',
      'boot stack',
      'mapped',
    ]);
  });

  it('is that of Xen 4.17 for a 512 MiB domain with its kernel at 1 MiB', () => {
    // Seen on Xen: kernel 0x100000-0x111000, P2M 0x111000, then start_info; tables L4, L3, L2, L1, L1; mapped up to 4 MiB.
    const kernel = { ...miniOs, entry: 0x100000n, kernelStart: 0x100000n, kernelEnd: 0x111000n };
    const layout = computeLayout({ kernel, pages: 0x80 * 512, initrdBytes: 0 });
    expect(layout.p2m.pfn).toBe(0x111);
    expect(layout.startInfoPfn).toBe(0x191);
    expect(layout.tables.map((t) => t.level)).toEqual([4, 3, 2, 1, 1]);
    expect(layout.mappedPages).toBe(0x400);
  });

  it('moves the end of the region by 4 MiB when less than 512 KiB would be free', () => {
    const mappedFor = (kernelPages: number): number => {
      const kernel = { ...miniOs, kernelEnd: BigInt(kernelPages) * 4096n };
      return computeLayout({ kernel, pages: 0x4000, initrdBytes: 0 }).mappedPages;
    };
    // kernel + P2M 0x20 + 3 pages + 5 tables + stack + 0x80 free = 0x400
    const largest = 0x400 - 0x80 - 1 - 5 - 3 - 0x20;
    expect([mappedFor(largest), mappedFor(largest + 1)]).toEqual([0x400, 0x800]);
  });
});

describe('limits', () => {
  it('names the memory a kernel needs, and that is enough', () => {
    const error = errorOf(() => computeLayout({ kernel: linux, pages: 64 * 256, initrdBytes: 0 }));
    expect(error.code).toBe('memory-too-small-for-kernel');
    const needMiB = Number(error.details['needMiB']);
    expect(needMiB).toBe(77);
    expect(computeLayout({ kernel: linux, pages: needMiB * 256, initrdBytes: 0 }).endPfn).toBeLessThanOrEqual(
      needMiB * 256,
    );
    expect(errorOf(() => computeLayout({ kernel: linux, pages: (needMiB - 1) * 256, initrdBytes: 0 })).code).toBe(
      error.code,
    );
  });

  it('blames the initrd when only it is too large', () => {
    const error = errorOf(() => computeLayout({ kernel: linux, pages: 128 * 256, initrdBytes: 200 * 2 ** 20 }));
    expect(error.code).toBe('initrd-larger-than-memory');
    const needMiB = Number(error.details['needMiB']);
    expect(() => computeLayout({ kernel: linux, pages: needMiB * 256, initrdBytes: 200 * 2 ** 20 })).not.toThrow();
  });

  it.each([
    ['kernel-32-bit', { bits: 32 }],
    ['kernel-layout-invalid', { virtBase: 0xffffffff80000001n }],
    ['kernel-layout-invalid', { virtBase: 0x0n, initP2m: undefined }],
    // In Xen's own slots, across the hole, and up to the very end of the address space.
    [
      'kernel-layout-invalid',
      { virtBase: 0xffff830000000000n, kernelStart: 0xffff830000000000n, kernelEnd: 0xffff830000010000n },
    ],
    [
      'kernel-layout-invalid',
      { virtBase: 0x7fffffc00000n, kernelStart: 0x7fffffc00000n, kernelEnd: 0x7ffffffff000n, initP2m: undefined },
    ],
    [
      'kernel-layout-invalid',
      { virtBase: 0xffffffffffc00000n, kernelStart: 0xffffffffffc00000n, kernelEnd: 0xfffffffffffff000n },
    ],
    [
      'kernel-layout-invalid',
      { virtBase: 0x900000000000n, kernelStart: 0x900000000000n, kernelEnd: 0x900000010000n, initP2m: undefined },
    ],
    // The P2M list would run into the kernel.
    ['kernel-layout-invalid', { initP2m: 0xffffffff7ffff000n }],
  ] as [string, Partial<XenKernelInfo>][])('refuses with %s: %o', (code, change) => {
    expect(errorOf(() => computeLayout({ kernel: { ...linux, ...change }, pages: 0x10000, initrdBytes: 0 })).code).toBe(
      code,
    );
  });

  it.each([0, -1, 1.5, 2 ** 21])('refuses a domain of %d pages', (pages) => {
    expect(errorOf(() => computeLayout({ kernel: miniOs, pages, initrdBytes: 0 })).code).toBe('memory-size-invalid');
  });
});
