// SPDX-License-Identifier: MIT
// "What did I drop": finds out what a file is, what can be done with it, and what to propose for a machine made of it.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { PvError, pvError } from '../../engine/errors.ts';
import { detectCompressor, looksLikeBzImage } from '../../engine/formats/bzimage.ts';
import type { Compressor } from '../../engine/formats/bzimage.ts';
import { looksLikeElf } from '../../engine/formats/elf.ts';
import type { XenKernelInfo } from '../../engine/formats/xen-notes.ts';
import type { FileInspection } from '../contract/inspection.ts';
import { describeFileError, userFileSize } from '../kernel/files.ts';
import { examineKernel } from '../kernel/examine.ts';
import type { ExaminedKernel } from '../kernel/examination.ts';
import { absolutePath } from '../library/directories.ts';
import { reportOf } from './endings.ts';
import { isCpio, readInitrdLayout } from './initrd-layout.ts';
import { recogniseOther } from './known-formats.ts';

/** Enough to recognise every format by. */
const HEAD_BYTES = 64 * 1024;
const MIB = 2 ** 20;
const DEFAULT_MEMORY = 512 * MIB;

type Facts = Partial<FileInspection> & Pick<FileInspection, 'what' | 'title' | 'explanation'>;

/**
 * Looks at a file. Throws the errors of `readUserFile` and `path-not-absolute`, and the reason of `signal` when that is aborted; that the
 * file is unusable is no error but the answer.
 */
export async function inspectFile(given: string, signal?: AbortSignal): Promise<FileInspection> {
  const file = absolutePath(given);
  const size = await userFileSize(file, 'chosen', Infinity);
  const head = await readHead(file, size);
  const facts = await recognise(file, size, head, signal);
  return {
    path: file,
    size,
    kernel: null,
    initrd: null,
    problem: null,
    companion: null,
    proposal: null,
    ...facts,
  };
}

async function recognise(file: string, size: number, head: Buffer, signal?: AbortSignal): Promise<Facts> {
  if (looksLikeElf(head) || looksLikeBzImage(head)) return describeKernel(file, signal);
  if (isCpio(head)) return describeInitrd(file, head, 'none');
  const other = recogniseOther(head, await readTail(file, size));
  if (other !== null) return { what: 'other', ...other };
  const compressor = detectCompressor(head);
  if (compressor !== undefined && compressor !== 'none') return describePacked(file, head, compressor, signal);
  return {
    what: 'unknown',
    title: 'Unknown file',
    explanation: 'This is neither a kernel nor an initial ramdisk, nor a disk image of a known kind.',
  };
}

/** A packed file is a kernel, an initial ramdisk or something else; its first unpacked bytes tell where they are cheap to get. */
async function describePacked(
  file: string,
  head: Buffer,
  compressor: Compressor,
  signal?: AbortSignal,
): Promise<Facts> {
  const inside = await unpackedHead(file, compressor);
  if (inside !== null) {
    if (isCpio(inside)) return describeInitrd(file, head, compressor);
    if (looksLikeElf(inside)) return describeKernel(file, signal);
    return {
      what: 'other',
      title: `File packed with ${compressor}`,
      explanation: 'What is in it is neither a kernel nor an initial ramdisk. Unpack it and open what it contains.',
    };
  }
  // The other methods can only be unpacked whole; the name has to do first.
  if (/^(initr|initramfs|ramdisk)|\.cpio/i.test(path.basename(file))) return describeInitrd(file, head, compressor);
  const kernel = await describeKernel(file, signal);
  if (kernel.problem === null || kernel.problem?.code !== 'kernel-payload-not-elf') return kernel;
  return describeInitrd(file, head, compressor);
}

async function describeInitrd(file: string, head: Buffer, compressor: Compressor): Promise<Facts> {
  const layout =
    compressor === 'none' ? await readInitrdLayout(file) : { format: 'cpio (newc)', compressor, unpackedSize: null };
  const companion = companionOf(file, 'kernel');
  return {
    what: 'initrd',
    title:
      layout.compressor === 'none'
        ? `Initial ramdisk, ${layout.format}`
        : `Initial ramdisk, ${layout.format}, ${layout.compressor}`,
    explanation:
      companion === null
        ? 'It goes with a kernel: choose that one too.'
        : `It goes with a kernel; "${path.basename(companion)}" beside it seems to be the one.`,
    initrd: head.length === 0 ? null : layout,
    companion,
  };
}

async function describeKernel(file: string, signal?: AbortSignal): Promise<Facts> {
  let kernel: ExaminedKernel;
  try {
    kernel = await examineKernel(file, { signal });
  } catch (error) {
    if (!(error instanceof PvError)) throw error;
    const program = error.code === 'kernel-is-program';
    return {
      what: program ? 'other' : 'kernel',
      title: program ? 'Program' : 'Kernel that cannot be used',
      explanation: error.message,
      problem: reportOf(error),
    };
  }
  const { description, xen } = kernel;
  const packing = description.compressor === 'none' ? '' : `, ${description.compressor}`;
  const system = (xen?.guestOs || 'Linux').replace(/^\w/, (letter) => letter.toUpperCase());
  const title = `${system} kernel (${description.container}${packing}), ${description.bits}-bit`;
  const facts = {
    what: 'kernel' as const,
    title,
    kernel: { ...description, guestOs: xen?.guestOs ?? '', notes: xen === undefined ? [] : notesOf(xen) },
    companion: companionOf(file, 'initrd'),
  };
  const problem =
    xen === undefined
      ? pvError('kernel-no-pv-support', { path: file })
      : xen.bits === 32
        ? pvError('kernel-32-bit', {})
        : null;
  if (problem !== null || xen === undefined) {
    return { ...facts, explanation: problem!.message, problem: reportOf(problem) };
  }
  return {
    ...facts,
    explanation: 'It has Xen PV support and can be started.',
    problem: null,
    proposal: proposalFor(file, kernel, xen, facts.companion),
  };
}

function proposalFor(
  file: string,
  kernel: ExaminedKernel,
  xen: XenKernelInfo,
  companion: string | null,
): FileInspection['proposal'] {
  // The kernel itself, page tables and start-up structures, and room to unpack an initial ramdisk.
  const kernelBytes = Number(xen.kernelEnd - xen.virtBase);
  const ramdisk = companion === null ? 0 : (fs.statSync(companion, { throwIfNoEntry: false })?.size ?? 0);
  const roundUp = (bytes: number): number => Math.ceil(bytes / (16 * MIB)) * 16 * MIB;
  const minimumMemoryBytes = Math.min(4096 * MIB, roundUp(kernelBytes + 2 * ramdisk + 16 * MIB));
  const memoryBytes = Math.min(4096 * MIB, Math.max(DEFAULT_MEMORY, roundUp(2 * minimumMemoryBytes)));
  const isLinux = /linux/i.test(xen.guestOs);
  const version = /^\S+/.exec(kernel.description.version)?.[0];
  const name = (version ?? path.basename(file)).replace(/[^\p{L}\p{N}._ -]+/gu, '-').slice(0, 60) || 'machine';
  const reasons: Record<string, string> = {
    memoryBytes:
      memoryBytes > DEFAULT_MEMORY ? 'Twice what this kernel and its ramdisk need.' : 'Enough for most guests.',
  };
  if (isLinux) reasons.commandLine = 'hvc0 is the console of Linux as a PV guest.';
  return { name, memoryBytes, minimumMemoryBytes, commandLine: isLinux ? 'console=hvc0' : '', reasons };
}

const hex = (n: bigint): string => `0x${n.toString(16)}`;

function notesOf(xen: XenKernelInfo): { name: string; value: string }[] {
  const notes: [string, string | undefined][] = [
    ['Guest system', [xen.guestOs, xen.guestVersion].filter((text) => text !== '').join(' ')],
    ['Loader', xen.loader],
    ['Xen interface', xen.xenVersion],
    ['Entry', hex(xen.entry)],
    ['Virtual base', hex(xen.virtBase)],
    ['Hypercall page', xen.hypercallPage === undefined ? undefined : hex(xen.hypercallPage)],
    ['P2M list', xen.initP2m === undefined ? undefined : hex(xen.initP2m)],
    ['PAE', xen.paeMode],
    ['Features', xen.features.join(', ')],
    ['Described by', xen.source],
  ];
  return notes.flatMap(([name, value]) => (value ? [{ name, value }] : []));
}

/** A file beside this one that distributions name alike. */
function companionOf(file: string, wanted: 'kernel' | 'initrd'): string | null {
  const directory = path.dirname(file);
  const base = path.basename(file);
  const match =
    wanted === 'initrd'
      ? /^(?:vmlinuz|vmlinux|bzImage|kernel)[-.]?(.*)$/.exec(base)
      : /^(?:initrd\.img|initramfs|initrd)[-.]?(.*?)(?:\.img)?$/.exec(base);
  if (match === null) return null;
  const [, version] = match;
  const names =
    wanted === 'initrd'
      ? version === ''
        ? ['initrd.img', 'initrd', 'initramfs.img', 'initrd.gz']
        : [
            `initrd.img-${version}`,
            `initramfs-${version}.img`,
            `initramfs-${version}`,
            `initrd-${version}`,
            `initrd-${version}.img`,
          ]
      : version === ''
        ? ['vmlinuz', 'vmlinux', 'bzImage']
        : [`vmlinuz-${version}`, `vmlinux-${version}`, `kernel-${version}`];
  return names.map((name) => path.join(directory, name)).find((candidate) => fs.existsSync(candidate)) ?? null;
}

async function readHead(file: string, size: number): Promise<Buffer> {
  return readPart(file, 0, Math.min(size, HEAD_BYTES));
}

/** The last sector: some disk formats have their mark there. */
async function readTail(file: string, size: number): Promise<Buffer> {
  return readPart(file, Math.max(0, size - 512), Math.min(size, 512));
}

async function readPart(file: string, at: number, length: number): Promise<Buffer> {
  try {
    const handle = await fs.promises.open(file, 'r');
    try {
      const bytes = Buffer.alloc(length);
      const { bytesRead } = await handle.read(bytes, 0, length, at);
      return bytes.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw describeFileError(error, file, 'chosen');
  }
}

/** The first unpacked bytes where Node can stream; null for other methods. Damaged data has whatever came before the damage. */
function unpackedHead(file: string, compressor: Compressor): Promise<Buffer | null> {
  const unpacker = compressor === 'gzip' ? createGunzip() : compressor === 'zstd' ? createZstdDecompress() : null;
  if (unpacker === null) return Promise.resolve(null);
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let length = 0;
    const source = fs.createReadStream(file);
    const finish = (): void => {
      source.destroy();
      unpacker.destroy();
      resolve(Buffer.concat(parts));
    };
    unpacker.on('data', (part: Buffer) => {
      parts.push(part);
      length += part.length;
      if (length >= 512) finish();
    });
    unpacker.on('end', finish);
    unpacker.on('error', finish);
    source.on('error', finish);
    source.pipe(unpacker);
  });
}
