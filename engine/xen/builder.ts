// SPDX-License-Identifier: MIT
// The 64-bit PV domain builder: writes kernel, initrd, start_info, P2M list and initial page tables into guest memory.
// ABI: "start of day" description in xen/include/public/xen.h. The places are computed in builder-layout.ts.
import { pvError } from '../errors.ts';
import type { ElfImage } from '../formats/elf.ts';
import { loadableSegments, physicalExtent } from '../formats/xen-notes.ts';
import type { XenKernelInfo } from '../formats/xen-notes.ts';
import { PAGE_SIZE, computeLayout, describeLayout, virtualAddress, virtualPage } from './builder-layout.ts';
import type { DomainLayout, PageTable } from './builder-layout.ts';
import { hypercallPage64 } from './hypercall-page.ts';
import { startInfoPage } from './start-info.ts';

const ENTRIES_PER_TABLE = 512;
const PTE_PRESENT = 0x001;
const PTE_WRITABLE = 0x002;
const PTE_USER = 0x004;
const PTE_ACCESSED = 0x020;
const PTE_DIRTY = 0x040;
/** The guest kernel runs in ring 3, so every entry needs USER. Page-table pages are mapped without WRITABLE. */
const READ_ONLY_PAGE = PTE_PRESENT | PTE_USER | PTE_ACCESSED;
const WRITABLE_PAGE = READ_ONLY_PAGE | PTE_WRITABLE;
const TABLE_ENTRY = WRITABLE_PAGE | PTE_DIRTY;

/** Guest memory as the builder needs it: bytes, and where each machine frame lies among them. */
export interface FrameMemory {
  readonly u8: Uint8Array;
  /** Offset of the frame's first byte in `u8`, 0 when there is no such frame. */
  hostOf(mfn: number): number;
}

export interface BuildInput {
  readonly mem: FrameMemory;
  /** Machine frame of each guest frame; its length is the size of the domain in pages. */
  readonly p2m: Uint32Array;
  readonly sharedInfoMfn: number;
  /** Event channel ports of xenstore and console, already connected. */
  readonly storePort: number;
  readonly consolePort: number;
  readonly elf: ElfImage;
  readonly kernel: XenKernelInfo;
  readonly initrd?: Uint8Array | undefined;
  readonly commandLine: string;
}

/** A 64-bit value as unsigned halves [low, high]. */
export type Pair = readonly [number, number];

export interface BuiltDomain {
  /** Start values of rip, rsp and rsi (the address of start_info). */
  readonly entry: Pair;
  readonly stackPointer: Pair;
  readonly startInfo: Pair;
  readonly cr3Mfn: number;
  /** Every page-table page, also those of a separate P2M list. The tree below the only level-4 table is to be pinned. */
  readonly pageTableFrames: readonly { readonly pfn: number; readonly mfn: number; readonly level: 1 | 2 | 3 | 4 }[];
  readonly storeMfn: number;
  readonly consoleMfn: number;
  readonly layout: DomainLayout;
  /** The layout as lines for a log. */
  readonly description: readonly string[];
}

/**
 * Builds the domain. Frames that the layout does not use are left as they are (fresh memory is zero). Throws the errors of `computeLayout`
 * and `startInfoPage`, and `kernel-layout-invalid` or `kernel-elf-invalid` when the kernel contradicts itself.
 */
export function buildDomain(input: BuildInput): BuiltDomain {
  const { p2m, kernel, initrd } = input;
  const layout = computeLayout({ kernel, pages: p2m.length, initrdBytes: initrd?.length ?? 0 });
  const mfnOf = (pfn: number): number => p2m[pfn]!;
  const frames = new GuestFrames(input.mem, p2m);
  const at = (pfn: number): bigint => virtualAddress(layout.virtBase, pfn);
  const topTable = layout.tables[0]!;

  const startInfo = startInfoPage({
    pages: p2m.length,
    sharedInfoMfn: input.sharedInfoMfn,
    storeMfn: mfnOf(layout.storePfn),
    storePort: input.storePort,
    consoleMfn: mfnOf(layout.consolePfn),
    consolePort: input.consolePort,
    ptBase: at(topTable.pfn),
    ptFrames: layout.pageTables.count,
    mfnList: layout.p2m.virtualAddress,
    separateP2m: layout.p2m.isSeparate
      ? { firstPfn: layout.p2m.pfn, frames: layout.p2m.count + layout.p2mPageTables.count }
      : undefined,
    initrd: layout.initrd && {
      start: layout.initrd.isMapped ? { virtualAddress: at(layout.initrd.pfn) } : { pfn: layout.initrd.pfn },
      bytes: layout.initrd.bytes,
    },
    commandLine: input.commandLine,
  });

  writeKernel(frames, input.elf, kernel, layout);
  if (kernel.hypercallPage !== undefined)
    frames.write(hypercallPageOffset(kernel, kernel.hypercallPage, layout), hypercallPage64());
  if (layout.initrd !== undefined && initrd !== undefined) {
    const start = layout.initrd.pfn * PAGE_SIZE;
    frames.write(start, initrd);
    frames.zero(start + initrd.length, start + layout.initrd.count * PAGE_SIZE);
  }
  frames.write(layout.startInfoPfn * PAGE_SIZE, startInfo);
  for (const pfn of [layout.storePfn, layout.consolePfn, layout.bootStackPfn])
    frames.zero(pfn * PAGE_SIZE, (pfn + 1) * PAGE_SIZE);
  writeP2m(frames, p2m, layout);
  writePageTables(frames, layout, mfnOf);

  return {
    entry: toPair(kernel.entry),
    stackPointer: toPair(at(layout.bootStackPfn + 1)),
    startInfo: toPair(at(layout.startInfoPfn)),
    cr3Mfn: mfnOf(topTable.pfn),
    pageTableFrames: layout.tables.map(({ pfn, level }) => ({ pfn, mfn: mfnOf(pfn), level })),
    storeMfn: mfnOf(layout.storePfn),
    consoleMfn: mfnOf(layout.consolePfn),
    layout,
    description: describeLayout(layout),
  };
}

/** Writes by pseudo-physical address; frames need not be consecutive in machine memory. */
class GuestFrames {
  private readonly mem: FrameMemory;
  private readonly p2m: Uint32Array;

  constructor(mem: FrameMemory, p2m: Uint32Array) {
    this.mem = mem;
    this.p2m = p2m;
  }

  write(address: number, data: Uint8Array): void {
    for (let done = 0; done < data.length;) {
      const offset = (address + done) % PAGE_SIZE;
      const count = Math.min(PAGE_SIZE - offset, data.length - done);
      const host = this.host(Math.floor((address + done) / PAGE_SIZE));
      this.mem.u8.set(data.subarray(done, done + count), host + offset);
      done += count;
    }
  }

  zero(start: number, end: number): void {
    for (let at = start; at < end;) {
      const offset = at % PAGE_SIZE;
      const count = Math.min(PAGE_SIZE - offset, end - at);
      const host = this.host(Math.floor(at / PAGE_SIZE)) + offset;
      this.mem.u8.fill(0, host, host + count);
      at += count;
    }
  }

  private host(pfn: number): number {
    const host = this.mem.hostOf(this.p2m[pfn]!);
    if (host === 0) throw new Error(`guest frame ${pfn} has no memory behind it`);
    return host;
  }
}

/** Loads by p_paddr, never by p_vaddr: Linux's per-CPU segment has virtual address 0. */
function writeKernel(frames: GuestFrames, elf: ElfImage, kernel: XenKernelInfo, layout: DomainLayout): void {
  const extent = physicalExtent(elf);
  const segments = loadableSegments(elf);
  const fileBytes = segments.reduce((sum, segment) => sum + segment.fileSize, 0);
  // Without overlaps this always holds; it bounds the work when a file has thousands of segments over the same bytes.
  if (fileBytes > Number(extent.end - extent.start))
    throw pvError('kernel-elf-invalid', { detail: 'its segments overlap' });
  const start = Number(kernel.kernelStart - kernel.virtBase);
  const placed = segments.map(({ offset, fileSize, physicalAddress }) => ({
    at: start + Number(physicalAddress - extent.start),
    data: elf.bytes.subarray(offset, offset + fileSize),
  }));
  // Only what no segment writes has to be zeroed: kernels have tens of megabytes.
  let written = layout.kernel.pfn * PAGE_SIZE;
  for (const { at, data } of placed.toSorted((a, b) => a.at - b.at)) {
    frames.zero(written, at);
    written = Math.max(written, at + data.length);
  }
  frames.zero(written, (layout.kernel.pfn + layout.kernel.count) * PAGE_SIZE);
  for (const { at, data } of placed) frames.write(at, data);
}

function hypercallPageOffset(kernel: XenKernelInfo, address: bigint, layout: DomainLayout): number {
  const offset = address - kernel.virtBase;
  const isInside = offset >= 0n && offset < BigInt(layout.mappedPages * PAGE_SIZE);
  if (!isInside || offset % BigInt(PAGE_SIZE) !== 0n)
    throw pvError('kernel-layout-invalid', { detail: 'its hypercall page is out of bounds' });
  return Number(offset);
}

function writeP2m(frames: GuestFrames, p2m: Uint32Array, layout: DomainLayout): void {
  const list = new Uint8Array(layout.p2m.count * PAGE_SIZE);
  const view = new DataView(list.buffer);
  for (let pfn = 0; pfn < p2m.length; pfn++) view.setUint32(pfn * 8, p2m[pfn]!, true);
  frames.write(layout.p2m.pfn * PAGE_SIZE, list);
}

function writePageTables(frames: GuestFrames, layout: DomainLayout, mfnOf: (pfn: number) => number): void {
  const tablePfns = new Set(layout.tables.map((table) => table.pfn));
  const tableOf = new Map(layout.tables.map((table) => [tableKey(table.level, table.index), table.pfn]));
  const page = new Uint8Array(PAGE_SIZE);
  const view = new DataView(page.buffer);
  for (const table of layout.tables) {
    page.fill(0);
    for (let entry = 0; entry < ENTRIES_PER_TABLE; entry++) {
      const index = table.index * ENTRIES_PER_TABLE + entry;
      const pfn = table.level === 1 ? frameMappedAt(layout, index) : tableOf.get(tableKey(table.level - 1, index));
      if (pfn === undefined) continue;
      const flags = table.level > 1 ? TABLE_ENTRY : tablePfns.has(pfn) ? READ_ONLY_PAGE : WRITABLE_PAGE;
      const mfn = mfnOf(pfn);
      view.setUint32(entry * 8, ((mfn << 12) | flags) >>> 0, true);
      view.setUint32(entry * 8 + 4, mfn >>> 20, true);
    }
    frames.write(table.pfn * PAGE_SIZE, page);
  }
}

function tableKey(level: number, index: PageTable['index']): string {
  return `${level}:${index}`;
}

/** The frame behind a virtual page, undefined when the page is not mapped. */
function frameMappedAt(layout: DomainLayout, page: number): number | undefined {
  const mapping = layout.mappings.find((m) => page >= m.page && page < m.page + m.count);
  return mapping && mapping.pfn + (page - mapping.page);
}

/** The virtual page is checked here because an entry address may be anything a note says. */
function toPair(address: bigint): Pair {
  virtualPage(address);
  return [Number(address & 0xffffffffn), Number(address >> 32n)];
}
