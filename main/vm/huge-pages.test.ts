// SPDX-License-Identifier: MIT
// Huge pages: that Linux has noted the request for the memory that is meant.

import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { requestHugePages } from './huge-pages.ts';

const isThere = process.platform === 'linux' && existsSync('/sys/kernel/mm/transparent_hugepage/enabled');

/** Sizes in KiB of this process's mappings for which huge pages were asked ("hg", proc(5)). */
function sizesAsked(): number[] {
  const mappings = readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  return mappings
    .filter((text) => /^VmFlags:.* hg\b/m.test(text))
    .map((text) => Number(/^Size:\s+(\d+) kB$/m.exec(text)![1]));
}

it('are asked for that part of the memory, or nothing happens', () => {
  const pages = 48 * 16;
  const before = sizesAskedOrNone();
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
  const taken = requestHugePages(memory, 16 * 4096, pages * 65536 - 16 * 4096);
  if (isThere && process.getBuiltinModule('node:ffi')) expect(taken).toBe(true);
  const more = sizesAskedOrNone().filter((size) => !before.includes(size));
  expect(more).toEqual(taken ? [pages * 64 - 64] : []);
  new Uint8Array(memory.buffer).fill(1, 0, 1 << 20);
});

function sizesAskedOrNone(): number[] {
  return isThere ? sizesAsked() : [];
}
