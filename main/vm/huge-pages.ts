// SPDX-License-Identifier: MIT
// Asks Linux to back a machine's memory with huge pages, as other virtual machines do: fewer faults while a guest starts, fewer misses of the CPU's TLB.

import type * as Ffi from 'node:ffi';

/** madvise(2): "enable transparent huge pages for pages in the range". */
const MADV_HUGEPAGE = 14;

/**
 * For `bytes` of the memory from `at` on (whole pages of 4 KiB), before anything is written there. Returns whether the request was taken: not where the system or its kernel has no such
 * thing, nor where Node cannot call the C library (Electron's, and builds without `node:ffi`). Nothing depends on it.
 */
export function requestHugePages({ buffer }: WebAssembly.Memory, at: number, bytes: number): boolean {
  if (process.platform !== 'linux') return false;
  try {
    const ffi = process.getBuiltinModule('node:ffi') as typeof Ffi | undefined;
    if (!ffi) return false;
    const { functions } = ffi.dlopen(null, {
      madvise: { arguments: ['pointer', 'uint64', 'int32'], return: 'int32' },
    });
    // Whole pages only: `at` is one's begin.
    const address = ffi.getRawPointer(new Uint8Array(buffer, at, bytes));
    return functions.madvise(address, BigInt(bytes), MADV_HUGEPAGE) === 0;
  } catch {
    return false;
  }
}
