// SPDX-License-Identifier: MIT
// Where the 64-bit PV domain builder puts things: pure computation, the same places as Xen's own builder (libxenguest) chooses.
// ABI: "start of day" description in xen/include/public/xen.h.
import { pvError } from '../errors.ts';
import type { XenKernelInfo } from '../formats/xen-notes.ts';

export const PAGE_SIZE = 4096;
const ENTRIES_PER_TABLE = 512;
const P2M_ENTRY_SIZE = 8;
/** The mapped region ends at a multiple of 4 MiB ... */
const REGION_ALIGNMENT_PAGES = (4 * 1024 * 1024) / PAGE_SIZE;
/** ... with at least this much free after the boot stack. */
const FREE_PAGES_AFTER_STACK = (512 * 1024) / PAGE_SIZE;
/** Nothing is placed above this: it keeps page numbers small whatever a kernel's notes say. */
const MAX_PAGES = 2 ** 32 / PAGE_SIZE;
/** L4 slots 256 to 271 belong to Xen. */
const FIRST_XEN_SLOT = 256;
const LAST_XEN_SLOT = 271;

/** A run of guest frames. */
export interface FrameRange {
  readonly pfn: number;
  readonly count: number;
}

/** One page-table page. `index` numbers the tables of its level over the whole address space: it maps from index * 512^level pages on. */
export interface PageTable {
  readonly level: 1 | 2 | 3 | 4;
  readonly index: number;
  readonly pfn: number;
}

/** A run of virtual pages mapped to consecutive frames. `page` is the virtual page number, the address's bits 12 to 47. */
interface Mapping {
  readonly page: number;
  readonly count: number;
  readonly pfn: number;
}

/** The whole plan. Everything in the main region is mapped at virtBase + pfn * 4096. */
export interface DomainLayout {
  readonly pages: number;
  readonly virtBase: bigint;
  readonly kernel: FrameRange;
  readonly initrd: (FrameRange & { readonly isMapped: boolean; readonly bytes: number }) | undefined;
  /** The P2M list; `virtualAddress` is where the guest sees it, `isSeparate` that it lies outside the main region (INIT_P2M). */
  readonly p2m: FrameRange & { readonly virtualAddress: bigint; readonly isSeparate: boolean };
  readonly startInfoPfn: number;
  readonly storePfn: number;
  readonly consolePfn: number;
  /** The page tables of the main region, top level first. */
  readonly pageTables: FrameRange;
  /** The page tables that only map a separate P2M list; they follow the list. */
  readonly p2mPageTables: FrameRange;
  readonly bootStackPfn: number;
  /** Frames mapped from PFN 0 on. */
  readonly mappedPages: number;
  /** First frame that nothing was placed in. */
  readonly endPfn: number;
  readonly tables: readonly PageTable[];
  readonly mappings: readonly Mapping[];
}

export interface LayoutInput {
  readonly kernel: XenKernelInfo;
  /** Memory of the domain in 4 KiB pages. */
  readonly pages: number;
  /** Size of the initrd in bytes, 0 for none. */
  readonly initrdBytes: number;
}

/**
 * Computes the layout. Throws `kernel-32-bit`, `kernel-layout-invalid`, `memory-size-invalid`, `memory-too-small-for-kernel` or
 * `initrd-larger-than-memory`; the last two name the memory that would be enough.
 */
export function computeLayout(input: LayoutInput): DomainLayout {
  if (input.kernel.bits !== 64) throw pvError('kernel-32-bit', {});
  if (!Number.isSafeInteger(input.pages) || input.pages < 1 || input.pages > MAX_PAGES)
    throw pvError('memory-size-invalid', {
      size: input.pages * PAGE_SIZE,
      detail: 'it must be between 4 KiB and 4 GiB',
    });
  const layout = place(input);
  if (layout.endPfn <= input.pages) return layout;
  const haveMiB = toMiB(input.pages);
  const needForKernel = smallestMemory({ ...input, initrdBytes: 0 });
  if (needForKernel > input.pages)
    throw pvError('memory-too-small-for-kernel', { needMiB: toMiB(needForKernel), haveMiB });
  throw pvError('initrd-larger-than-memory', {
    initrdMiB: toMiB(Math.ceil(input.initrdBytes / PAGE_SIZE)),
    needMiB: toMiB(smallestMemory(input)),
    haveMiB,
  });
}

/** Smallest number of pages, in whole MiB, that the layout fits into. The P2M list grows with memory, so this takes a few rounds. */
function smallestMemory(input: LayoutInput): number {
  const perMiB = 256;
  let pages = perMiB;
  for (;;) {
    const needed = Math.ceil(place({ ...input, pages }).endPfn / perMiB) * perMiB;
    if (needed <= pages) return pages;
    pages = needed;
  }
}

/** Places everything without asking whether memory is large enough. */
function place(input: LayoutInput): DomainLayout {
  const { kernel, pages, initrdBytes } = input;
  const { virtBase, initP2m } = kernel;
  if (virtBase % BigInt(PAGE_SIZE) !== 0n) throw invalid('its virtual base is not page-aligned');
  const kernelStart = Number(kernel.kernelStart - virtBase);
  const kernelEnd = Number(kernel.kernelEnd - virtBase);
  if (kernelEnd > MAX_PAGES * PAGE_SIZE) throw invalid('it lies more than 4 GiB above its virtual base');
  const kernelPfn = Math.floor(kernelStart / PAGE_SIZE);
  const initrdPages = Math.ceil(initrdBytes / PAGE_SIZE);
  const p2mPages = Math.ceil((pages * P2M_ENTRY_SIZE) / PAGE_SIZE);

  let next = kernelPfn;
  const take = (count: number): FrameRange => {
    const range = { pfn: next, count };
    next += count;
    return range;
  };
  const kernelFrames = take(Math.ceil(kernelEnd / PAGE_SIZE) - kernelPfn);
  const hasInitrd = initrdBytes > 0;
  const initrdIsMapped = !kernel.modStartPfn;
  let initrdFrames = hasInitrd && initrdIsMapped ? take(initrdPages) : undefined;
  let p2mFrames = initP2m === undefined ? take(p2mPages) : undefined;
  const startInfoPfn = take(1).pfn;
  const storePfn = take(1).pfn;
  const consolePfn = take(1).pfn;

  const basePage = virtualPage(virtBase);
  const firstTable = next;
  const { tables, mappedPages } = mainPageTables(basePage, firstTable);
  const pageTables = take(tables.length);
  const bootStackPfn = take(1).pfn;
  next = mappedPages;

  if (hasInitrd && !initrdIsMapped) initrdFrames = take(initrdPages);
  const mappings: Mapping[] = [{ page: basePage, count: mappedPages, pfn: 0 }];
  let p2mTables: PageTable[] = [];
  if (p2mFrames === undefined) {
    const p2mPage = virtualPage(initP2m!);
    if (p2mPage + p2mPages > basePage) throw invalid('the place of its P2M list overlaps the kernel');
    checkRange(p2mPage, p2mPages);
    p2mFrames = take(p2mPages);
    mappings.push({ page: p2mPage, count: p2mPages, pfn: p2mFrames.pfn });
    p2mTables = planTables(p2mPage, p2mPages, next, tables);
  }
  const p2mPageTables = take(p2mTables.length);

  return {
    pages,
    virtBase,
    kernel: kernelFrames,
    initrd: initrdFrames && { ...initrdFrames, isMapped: initrdIsMapped, bytes: initrdBytes },
    p2m: {
      ...p2mFrames,
      virtualAddress: initP2m ?? virtualAddress(virtBase, p2mFrames.pfn),
      isSeparate: initP2m !== undefined,
    },
    startInfoPfn,
    storePfn,
    consolePfn,
    pageTables,
    p2mPageTables,
    bootStackPfn,
    mappedPages,
    endPfn: next,
    tables: [...tables, ...p2mTables],
    mappings,
  };
}

/** The tables of the main region, from `firstTable` on. They map themselves, so their number and the region's end are found together. */
function mainPageTables(basePage: number, firstTable: number): { tables: PageTable[]; mappedPages: number } {
  let tableCount = 0;
  for (;;) {
    const used = firstTable + tableCount + 1 + FREE_PAGES_AFTER_STACK;
    const endPage = Math.ceil((basePage + used) / REGION_ALIGNMENT_PAGES) * REGION_ALIGNMENT_PAGES;
    const mappedPages = endPage - basePage;
    checkRange(basePage, mappedPages);
    const tables = planTables(basePage, mappedPages, firstTable, []);
    if (firstTable + tables.length + 1 + FREE_PAGES_AFTER_STACK <= mappedPages) return { tables, mappedPages };
    tableCount = tables.length;
  }
}

/** The tables needed to map `count` pages from `page` on that `existing` does not have yet, top level first, in frames from `pfn` on. */
function planTables(page: number, count: number, pfn: number, existing: readonly PageTable[]): PageTable[] {
  const planned: PageTable[] = [];
  for (const level of [4, 3, 2, 1] as const) {
    const span = ENTRIES_PER_TABLE ** level;
    const last = Math.floor((page + count - 1) / span);
    for (let index = Math.floor(page / span); index <= last; index++) {
      if (existing.some((table) => table.level === level && table.index === index)) continue;
      planned.push({ level, index, pfn: pfn + planned.length });
    }
  }
  return planned;
}

/** Refuses virtual pages that are not the guest's: across the canonical hole, past the end, or in Xen's slots. */
function checkRange(page: number, count: number): void {
  const halfSpace = ENTRIES_PER_TABLE ** 4 / 2;
  const last = page + count - 1;
  if (last >= 2 * halfSpace || page < halfSpace !== last < halfSpace)
    throw invalid('its virtual addresses leave the address space');
  const slotOf = (n: number): number => Math.floor(n / ENTRIES_PER_TABLE ** 3);
  if (slotOf(last) >= FIRST_XEN_SLOT && slotOf(page) <= LAST_XEN_SLOT)
    throw invalid('its virtual addresses belong to Xen');
}

/** Virtual page number (36 bits) of a canonical address. */
export function virtualPage(address: bigint): number {
  if (BigInt.asUintN(64, BigInt.asIntN(48, address)) !== address) throw invalid('a virtual address is not canonical');
  return Number(BigInt.asUintN(48, address) >> 12n);
}

/** Virtual address of a frame in the main region. */
export function virtualAddress(virtBase: bigint, pfn: number): bigint {
  return BigInt.asUintN(64, virtBase + BigInt(pfn) * BigInt(PAGE_SIZE));
}

/** The layout as lines for a log, in the words of Xen's builder so that the two can be laid side by side. */
export function describeLayout(layout: DomainLayout): string[] {
  const hex = (n: number | bigint): string => `0x${n.toString(16)}`;
  const line = (name: string, { pfn, count }: FrameRange): string =>
    `${name.padEnd(13)}: ${hex(virtualAddress(layout.virtBase, pfn))} -> ${hex(virtualAddress(layout.virtBase, pfn + count))}` +
    ` (pfn ${hex(pfn)} + ${hex(count)} pages)`;
  const lines = [
    line('kernel', layout.kernel),
    line('start info', { pfn: layout.startInfoPfn, count: 1 }),
    line('xenstore', { pfn: layout.storePfn, count: 1 }),
    line('console', { pfn: layout.consolePfn, count: 1 }),
    line('page tables', layout.pageTables),
    line('boot stack', { pfn: layout.bootStackPfn, count: 1 }),
    `mapped       : ${hex(layout.virtBase)} -> ${hex(virtualAddress(layout.virtBase, layout.mappedPages))}`,
  ];
  const { initrd, p2m } = layout;
  if (initrd !== undefined) lines.splice(initrd.isMapped ? 1 : lines.length, 0, line('initrd', initrd));
  const p2mLine = line('phys2mach', { pfn: p2m.pfn, count: p2m.count + layout.p2mPageTables.count });
  const beforeStartInfo = lines.findIndex((text) => text.startsWith('start info'));
  lines.splice(p2m.isSeparate ? lines.length : beforeStartInfo, 0, p2mLine);
  return lines;
}

function toMiB(pages: number): number {
  return Math.ceil(pages / 256);
}

function invalid(detail: string): Error {
  return pvError('kernel-layout-invalid', { detail });
}
