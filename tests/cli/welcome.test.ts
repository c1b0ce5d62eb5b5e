// SPDX-License-Identifier: MIT
// The welcome guest as `paravane welcome` starts it: Debian's kernel with a script, and the demonstration guest where there is no Debian.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ExitCode } from '../../main/vm/outcome.ts';
import { CommandLine } from '../support/paravane.ts';

const BOOT_TIMEOUT_MS = 120_000;

let cli: CommandLine;
let directory: string;
beforeEach(() => {
  cli = new CommandLine('engine');
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-welcome-'));
});
afterEach(() => {
  cli.dispose();
  fs.rmSync(directory, { recursive: true, force: true });
});

function script(text: string): string {
  const file = path.join(directory, 'script.sh');
  fs.writeFileSync(file, text);
  return file;
}

describe('Debian', () => {
  it('runs a script, prints figures, and powers off', { timeout: BOOT_TIMEOUT_MS }, async () => {
    const file = script('uname -s\ncat /sys/hypervisor/type\nhostname\nexit 7\n');
    const result = await cli.run('welcome', '--script', file, '--stats', '--memory', '256M');
    expect(result.stdout.replaceAll('\r', '')).toMatch(/Linux\nxen\nwelcome\nparavane: script ended with status 7\n/);
    expect(result.stderr).toMatch(/^instructions +[\d,]{9,}$/m);
    expect(result.stderr).toMatch(/^MIPS while running +\d/m);
    expect(result.stderr).toMatch(/^ +mmu_update +[\d,]+$/m);
    expect(result.code).toBe(ExitCode.Poweroff);
  });

  it('refuses a script that cannot be read before it starts anything', async () => {
    const result = await cli.run('welcome', '--script', path.join(directory, 'missing.sh'));
    expect(result.stderr).toMatch(/^paravane: The script file ".*missing\.sh" does not exist\.\nCheck the spelling/m);
    expect(result.code).toBe(ExitCode.BadInput);
  });
});

describe('demonstration guest', () => {
  it('powers off by itself with demo=auto', { timeout: BOOT_TIMEOUT_MS }, async () => {
    const result = await cli.run('welcome', '--demo', '--append', 'demo=auto', '--memory', '16M');
    expect(result.stdout).toMatch(/Paravane demonstration guest[^]*Xen interface 4\.\d+[^]*tick 3[^]*powering off/);
    expect(result.code).toBe(ExitCode.Poweroff);
  });

  it('takes the place of Debian where its tools are missing', { timeout: BOOT_TIMEOUT_MS }, async () => {
    // Nothing but an empty directory to find programs in: no apt, no dpkg.
    cli.environment.PATH = directory;
    const guest = cli.start('welcome', '--memory', '16M');
    await guest.until(/demo> /, 60_000);
    expect(guest.stderr).toMatch(/no Debian package tools.*Starting the demonstration guest instead\./);
    guest.type('q');
    expect((await guest.finished).code).toBe(ExitCode.Poweroff);
  });

  it('does not take the place of Debian when a script was to be run', async () => {
    cli.environment.PATH = directory;
    const result = await cli.run('welcome', '--script', script('true\n'));
    expect(result.stderr).toMatch(/^paravane: This computer has no Debian package tools/m);
    expect(result.code).toBe(ExitCode.BadInput);
  });
});
