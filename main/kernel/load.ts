// SPDX-License-Identifier: MIT
// From a kernel file to the ELF image in it: recognises ELF, packed ELF and bzImage, unpacks, and says what was found.
import { PvError, pvError } from '../../engine/errors.ts';
import { detectCompressor, looksLikeBzImage, readBzImage } from '../../engine/formats/bzimage.ts';
import type { Compressor } from '../../engine/formats/bzimage.ts';
import { PT_INTERP, looksLikeElf, readElf } from '../../engine/formats/elf.ts';
import type { ElfImage } from '../../engine/formats/elf.ts';
import { readXenKernelInfo } from '../../engine/formats/xen-notes.ts';
import type { XenKernelInfo } from '../../engine/formats/xen-notes.ts';
import { decompress } from './decompress.ts';
import { readUserFile, userFileSize } from './files.ts';

/** Larger than any kernel, debugging information included; a file or payload above it is something else. Together they bound the memory. */
const MAX_KERNEL_FILE = 512 * 1024 * 1024;
const MAX_KERNEL_PACKED = 128 * 1024 * 1024;
const MAX_KERNEL_UNPACKED = 256 * 1024 * 1024;

/** What a kernel file contains, for the user and for decisions. */
export interface KernelDescription {
  readonly container: 'elf' | 'bzImage';
  /** Version text of a bzImage header; "" when there is none. */
  readonly version: string;
  readonly compressor: Compressor;
  readonly bits: 32 | 64;
  /** Can it be started as a Xen PV guest. */
  readonly pv: boolean;
}

export interface LoadedKernel {
  readonly path: string;
  readonly elf: ElfImage;
  /** Undefined when the kernel has no PV support. */
  readonly xen: XenKernelInfo | undefined;
  readonly description: KernelDescription;
}

/**
 * Reads any kernel. A kernel without PV support is not an error here; see `loadPvKernel`.
 * Throws the errors of `readUserFile` and the `kernel-...` errors.
 */
export async function loadKernel(path: string): Promise<LoadedKernel> {
  return unpackKernel(await readUserFile(path, 'kernel', MAX_KERNEL_FILE), path);
}

/** A kernel that can be started as a 64-bit PV guest. Throws also `kernel-no-pv-support` and `kernel-32-bit`. */
export async function loadPvKernel(path: string): Promise<LoadedKernel & { readonly xen: XenKernelInfo }> {
  const kernel = await loadKernel(path);
  const { xen } = kernel;
  if (xen === undefined) throw pvError('kernel-no-pv-support', { path });
  if (xen.bits === 32) throw pvError('kernel-32-bit', {});
  return { ...kernel, xen };
}

/**
 * Reads an initrd. One that cannot fit into the memory of the machine is refused before it is read (the domain builder checks exactly).
 * Throws the errors of `readUserFile` and `initrd-larger-than-memory`.
 */
export async function loadInitrd(path: string, memoryBytes: number): Promise<Uint8Array> {
  const size = await userFileSize(path, 'initrd', Infinity);
  if (size >= memoryBytes) {
    const toMiB = (bytes: number): number => Math.ceil(bytes / 2 ** 20);
    const details = { initrdMiB: toMiB(size), needMiB: toMiB(size * 2), haveMiB: toMiB(memoryBytes) };
    throw pvError('initrd-larger-than-memory', details);
  }
  return readUserFile(path, 'initrd', memoryBytes);
}

/** Recognises and unpacks a kernel in memory. `path` is for error texts. */
export async function unpackKernel(file: Uint8Array, path: string): Promise<LoadedKernel> {
  if (looksLikeElf(file)) return describe(file, path, { container: 'elf', version: '', compressor: 'none' });
  if (looksLikeBzImage(file)) {
    const image = readBzImage(file, path);
    const { compressor, version } = image;
    const elf = await unpackPayload(compressor, image.payload, path, image.unpackedSize);
    if (elf.length !== image.unpackedSize) {
      const detail = `it unpacks to ${elf.length} bytes instead of ${image.unpackedSize}`;
      throw pvError('kernel-payload-corrupt', { path, compressor, detail });
    }
    return describe(elf, path, { container: 'bzImage', version, compressor });
  }
  // A whole ELF file packed with gzip or another tool (mini-os.gz, vmlinux.xz). "lzma" has no magic number: not guessed at here.
  const compressor = detectCompressor(file);
  if (compressor === undefined || compressor === 'lzma') throw pvError('kernel-not-recognised', { path });
  const elf = await unpackPayload(compressor, file, path, undefined);
  return describe(elf, path, { container: 'elf', version: '', compressor });
}

async function unpackPayload(
  compressor: Compressor,
  data: Uint8Array,
  path: string,
  size: number | undefined,
): Promise<Uint8Array> {
  if (data.length > MAX_KERNEL_PACKED)
    throw pvError('file-too-large', { role: 'kernel', path, size: data.length, limit: MAX_KERNEL_PACKED });
  try {
    const limits = { maxOutput: MAX_KERNEL_UNPACKED, ...(size === undefined ? {} : { sizeHint: size }) };
    return await decompress(compressor, data, limits);
  } catch (error) {
    if (!(error instanceof PvError)) throw error;
    throw pvError('kernel-payload-corrupt', { path, compressor, detail: decapitalise(error.message) }, error);
  }
}

function describe(
  bytes: Uint8Array,
  path: string,
  found: Pick<KernelDescription, 'container' | 'version' | 'compressor'>,
): LoadedKernel {
  if (!looksLikeElf(bytes)) throw pvError('kernel-payload-not-elf', { path, compressor: found.compressor });
  const elf = readElf(bytes);
  if (elf.segments.some((segment) => segment.type === PT_INTERP)) throw pvError('kernel-is-program', { path });
  const xen = readXenKernelInfo(elf);
  return { path, elf, xen, description: { ...found, bits: elf.bits, pv: xen !== undefined } };
}

/** Makes a sentence fit for parentheses. */
function decapitalise(sentence: string): string {
  return sentence.charAt(0).toLowerCase() + sentence.slice(1).replace(/\.$/, '');
}
