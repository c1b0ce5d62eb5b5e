// SPDX-License-Identifier: MIT
// What both of Debian's kernels have to do: run the commands, and end in each way a guest can with its own exit code.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ExitCode } from '../../../main/vm/outcome.ts';
import { busyboxCommands } from './busybox-commands.ts';
import { LinuxGuests } from './linux-guest.ts';
import type { LinuxGuestOptions } from './linux-guest.ts';
import { scriptOf } from './sections.ts';
import type { Section } from './sections.ts';
import { checkSection, completedSections } from './transcript.ts';

/** Ample for a boot on a loaded machine; a boot alone takes a few seconds. */
export const BOOT_TIMEOUT_MS = 120_000;

/** Boots once and has every command checked by a test of its own. */
export function describeCommands(options: Omit<LinuxGuestOptions, 'script'>): void {
  describe('busybox commands', () => {
    const guests = new LinuxGuests();
    let sections: Map<string, Section>;
    beforeAll(async () => {
      const result = await guests.run({ ...options, script: scriptOf(busyboxCommands) });
      sections = completedSections(result);
      expect(result.code).toBe(ExitCode.Poweroff);
    }, BOOT_TIMEOUT_MS);
    afterAll(() => guests.dispose());
    it.each(busyboxCommands.map((command) => [command.name, command] as const))('%s', (_, command) =>
      checkSection(sections, command),
    );
  });
}

/** Reboot and crash; powering off ends every other run. */
export function describeEnds(options: Omit<LinuxGuestOptions, 'script'>): void {
  describe('ways to end', () => {
    const guests = new LinuxGuests();
    afterAll(() => guests.dispose());

    it('reboot: exit code 10 and a sentence', { timeout: BOOT_TIMEOUT_MS }, async () => {
      const result = await guests.run({ ...options, script: 'reboot -f' });
      expect(result.code).toBe(ExitCode.Reboot);
      expect(result.stderr).toMatch(/^paravane: The guest asked to be rebooted/m);
    });

    it('kernel panic: exit code 11 with the reason', { timeout: BOOT_TIMEOUT_MS }, async () => {
      const result = await guests.run({ ...options, script: 'echo c > /proc/sysrq-trigger' });
      expect(result.code).toBe(ExitCode.Crash);
      expect(result.stdout).toMatch(/Kernel panic - not syncing: sysrq triggered crash/);
      expect(result.stderr).toMatch(/^paravane: The guest crashed: /m);
    });
  });
}
