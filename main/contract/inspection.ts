// SPDX-License-Identifier: MIT
// What the wizard learns about a file somebody dropped on it.
import * as v from 'valibot';
import { errorReport } from './errors.ts';
import { kernelFacts } from './machine.ts';
import { commandLine, count, hostPath, machineName, memoryBytes } from './values.ts';

/** What a PV kernel's notes say, as text for people. */
export const kernelNote = v.strictObject({ name: v.string(), value: v.string() });

/**
 * kernel: can be started, or `problem` says why not. initrd: goes with a kernel. other: recognised, but nothing that can be started yet.
 * unknown: not recognised.
 */
export const fileInspection = v.strictObject({
  path: hostPath,
  size: count,
  what: v.picklist(['kernel', 'initrd', 'other', 'unknown']),
  /** The file type in words, e.g. "Linux kernel (bzImage), gzip" or "qcow2 disk image". */
  title: v.string(),
  /** One or two sentences on what this means for the user. */
  explanation: v.string(),
  kernel: v.nullable(
    v.strictObject({
      ...kernelFacts.entries,
      /** Guest operating system as the kernel names it; "" when it does not. */
      guestOs: v.string(),
      notes: v.array(kernelNote),
    }),
  ),
  initrd: v.nullable(
    v.strictObject({
      /** e.g. "cpio (newc)"; several segments are joined with " + ". */
      format: v.string(),
      compressor: v.string(),
      /** Bytes unpacked; null when only unpacking it would tell. */
      unpackedSize: v.nullable(count),
    }),
  ),
  /** Why it cannot be used as it is. */
  problem: v.nullable(errorReport),
  /** A file next to a kernel that belongs to it by its name (vmlinuz-6.1 and initrd.img-6.1), or the other way round. */
  companion: v.nullable(hostPath),
  /** What the wizard proposes for a kernel that can be started. */
  proposal: v.nullable(
    v.strictObject({
      name: machineName,
      memoryBytes,
      /** Least memory the kernel starts with. */
      minimumMemoryBytes: memoryBytes,
      commandLine,
      /** Reasons, one per field that has one. */
      reasons: v.record(v.string(), v.string()),
    }),
  ),
});
export type FileInspection = v.InferOutput<typeof fileInspection>;

export const directoryEntry = v.strictObject({
  name: v.string(),
  path: hostPath,
  directory: v.boolean(),
  size: v.nullable(count),
  modified: v.nullable(v.number()),
  /** False when the user may not open it. */
  readable: v.boolean(),
});
export type DirectoryEntry = v.InferOutput<typeof directoryEntry>;
