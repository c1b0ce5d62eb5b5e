// SPDX-License-Identifier: MIT
// A kernel as it will lie in guest memory, with what its symbols say about it: what is translated before its first boot.
import { pvError } from '../../engine/errors.ts';
import { readElfSymbols } from '../../engine/formats/elf-symbols.ts';
import { readKallsyms } from '../../engine/formats/kallsyms.ts';
import type { KernelSymbol } from '../../engine/formats/kallsyms.ts';
import { loadableSegments, physicalExtent } from '../../engine/formats/xen-notes.ts';
import type { LoadedKernel } from '../kernel/load.ts';
import type { XenKernelInfo } from '../../engine/formats/xen-notes.ts';
import type { CodeImage } from '../../engine/translate/static-code.ts';

const pageBytes = 4096;
const executable = 1;
const writable = 2;
/** Larger than any kernel with its data; the domain builder refuses more than memory has, which is not known here. */
const maxImageBytes = 1024 * 1024 * 1024;
/** Where Linux starts, by entry point or by the first process. */
const rootNames = new Set([
  'startup_xen',
  'xen_start_kernel',
  'start_kernel',
  'rest_init',
  'kernel_init',
  'do_basic_setup',
]);

export interface KernelCode {
  readonly image: CodeImage;
  /** Code that Linux keeps after its start but changes at it (alternatives, paravirt calls, returns): offsets in the image. */
  readonly lasting: readonly { readonly from: number; readonly to: number }[];
  /** Where the byte at an offset of the image lies in the guest's pseudo-physical memory. */
  physical(offset: number): number;
  /** Offsets in the image. */
  readonly roots: readonly number[];
  readonly functions: readonly number[];
  readonly symbols: 'elf' | 'kallsyms' | 'none';
}

/** Loads a kernel as the domain builder does, by physical addresses, and reads its symbols. Throws `kernel-layout-invalid`. */
export function readKernelCode({ elf, xen }: LoadedKernel & { readonly xen: XenKernelInfo }): KernelCode {
  const extent = physicalExtent(elf);
  if (extent.end - extent.start > BigInt(maxImageBytes))
    throw pvError('kernel-layout-invalid', { detail: 'it is larger than any kernel' });
  const virtualStart = xen.kernelStart - (xen.kernelStart % BigInt(pageBytes));
  // Offset 0 is a page of its own: an offset of zero means "none" to those who look for code.
  const before = pageBytes + Number(xen.kernelStart - virtualStart);
  const u8 = new Uint8Array(before + Number(extent.end - extent.start));
  const segments = loadableSegments(elf).map((s) => ({
    bytes: elf.bytes.subarray(s.offset, s.offset + s.fileSize),
    from: before + Number(s.physicalAddress - extent.start),
    flags: s.flags,
  }));
  for (const { bytes, from } of segments) u8.set(bytes, from);
  const code = segments
    .filter(({ flags }) => flags & executable)
    .map(({ bytes, from, flags }) => ({ from, to: from + bytes.length, lasts: !(flags & writable) }));
  const image = { u8, isCode: (offset: number) => code.some(({ from, to }) => offset >= from && offset < to) };
  const offsetOf = (address: bigint): number => pageBytes + Number(BigInt.asIntN(64, address - virtualStart));

  const elfSymbols = readElfSymbols(elf).filter((s) => s.isFunction);
  const symbols: readonly { readonly name: string; readonly address: bigint }[] =
    elfSymbols.length > 0 ? elfSymbols : embeddedSymbols(segments.map(({ bytes }) => bytes));
  const inCode = symbols
    .map(({ name, address }) => ({ name, offset: offsetOf(address) }))
    .filter(({ offset }) => image.isCode(offset));
  return {
    image,
    lasting: code.filter(({ lasts }) => lasts),
    physical: (offset) => offset - pageBytes + Number(virtualStart - xen.virtBase),
    roots: [offsetOf(xen.entry), ...inCode.filter(({ name }) => rootNames.has(name)).map(({ offset }) => offset)],
    functions: inCode.map(({ offset }) => offset),
    symbols: elfSymbols.length > 0 ? 'elf' : symbols.length > 0 ? 'kallsyms' : 'none',
  };
}

function embeddedSymbols(segments: readonly Uint8Array[]): KernelSymbol[] {
  for (const bytes of segments) {
    const found = readKallsyms(bytes);
    if (found) return found.filter(({ type }) => /[tTwW]/.test(type));
  }
  return [];
}
