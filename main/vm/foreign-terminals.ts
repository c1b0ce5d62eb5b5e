// SPDX-License-Identifier: MIT
// Near ends of pseudo-terminals that a process inherited: the C library leaves them open in every child on Linux, and a shell whose terminal
// somebody holds does not notice that its window is gone.
import * as fs from 'node:fs';

const DESCRIPTORS = '/proc/self/fd';

/** Closes them. Call before anything else of this process has opened one. */
export function closeForeignTerminals(): void {
  if (process.platform !== 'linux') return;
  for (const name of fs.readdirSync(DESCRIPTORS)) {
    const descriptor = Number(name);
    if (descriptor <= 2) continue;
    try {
      if (/\/ptmx$/.test(fs.readlinkSync(`${DESCRIPTORS}/${name}`))) fs.closeSync(descriptor);
    } catch {
      // The one through which the directory was read is gone by now.
    }
  }
}
