// SPDX-License-Identifier: MIT
// Machines from the smallest that boots to the largest: the kernel finds its memory, can use it, and gives it back.
import { afterAll, describe, expect, it } from 'vitest';
import { ExitCode } from '../../main/vm/outcome.ts';
import { LinuxGuests } from './support/linux-guest.ts';
import { BOOT_TIMEOUT_MS } from './support/linux-suite.ts';

const guests = new LinuxGuests();
afterAll(() => guests.dispose());

/** Fills a tmpfs with `mib` MiB, which is more than the page tables of a small machine reach, and reads it back. */
const useMemory = (mib: number): string => `
mount -t tmpfs -o size=95% tmpfs /tmp
dd if=/dev/zero of=/tmp/f bs=1M count=${mib} 2>/dev/null && ls -l /tmp/f | awk '{print "filled", $5}'
tail -c 5 /tmp/f | wc -c
awk '/MemTotal/ {print "total", $2}' /proc/meminfo
`;

describe.each([
  { memory: '80M', mib: 8, least: 28_000 },
  { memory: '128M', mib: 60, least: 80_000 },
  { memory: '2G', mib: 300, least: 1_900_000 },
  { memory: '3G', mib: 300, least: 2_900_000 },
])('$memory', ({ memory, mib, least }) => {
  it('boots and uses its memory', { timeout: BOOT_TIMEOUT_MS }, async () => {
    const result = await guests.run({ flavour: 'cloud', memory, script: useMemory(mib) });
    expect(result.stdout.replaceAll('\r', '')).toMatch(new RegExp(`^filled ${mib * 2 ** 20}\\n5\\n`, 'm'));
    expect(Number(/^total (\d+)/m.exec(result.stdout)?.[1])).toBeGreaterThan(least);
    expect(result.code).toBe(ExitCode.Poweroff);
  });
});
