// SPDX-License-Identifier: MIT
// A person at the console of a booted guest: typing, line editing, Ctrl-C, Ctrl-D, jobs, and powering off from inside and outside.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ExitCode } from '../../main/vm/outcome.ts';
import type { RunningCommand } from '../support/paravane.ts';
import { LinuxGuests } from './support/linux-guest.ts';
import { BOOT_TIMEOUT_MS } from './support/linux-suite.ts';

const PROMPT = 'welcome:/root# ';

let guests: LinuxGuests;
beforeEach(() => {
  guests = new LinuxGuests();
});
afterEach(() => guests.dispose());

/** Types keys and waits until what the console showed since then matches. */
async function type(guest: RunningCommand, keys: string, answer: RegExp): Promise<void> {
  const before = guest.stdout.length;
  guest.type(keys);
  await expect
    .poll(() => guest.stdout.slice(before).replaceAll('\r', ''), { timeout: 20_000, interval: 20 })
    .toMatch(answer);
}

/** Types a line and waits for its answer and the next prompt. */
const enter = (guest: RunningCommand, keys: string, answer: string): Promise<void> =>
  type(guest, `${keys}\r`, new RegExp(`\\n${answer}\\n${PROMPT}`));

describe('a shell on the console', () => {
  it('is typed into, on a terminal', { timeout: BOOT_TIMEOUT_MS }, async () => {
    const guest = guests.cli.startOnTerminal('welcome', '--memory', '256M');
    await guest.until(/Ctrl-\] d detaches/, 60_000);
    await guest.until(new RegExp(PROMPT), 60_000);

    await enter(guest, 'echo $((6 * 7)) one', '42 one');
    // Backspace, and Ctrl-U, which throws the line away.
    await enter(guest, 'false\u007f\u007f\u007f\u007f\u007fecho edi\u007fited', 'edited');
    await enter(guest, 'echo thrown away\u0015echo kept', 'kept');
    await enter(guest, 'tty; stty size', '/dev/hvc0\\n30 100');

    await type(guest, 'echo go; sleep 1000\r', /\ngo\n/);
    await type(guest, '\u0003', new RegExp(`\\^C\\n${PROMPT}`));
    await enter(guest, 'echo interrupted: $?', 'interrupted: 130');
    await type(guest, 'echo go; sleep 1000\r', /\ngo\n/);
    await type(guest, '\u001a', new RegExp(`\\^Z\\[1\\]\\+ +Stopped.*\\n${PROMPT}`));
    await enter(guest, 'kill %1; fg; echo $?', 'Terminated\\n143|sleep 1000\\nTerminated\\n143');

    await type(guest, 'echo go; cat > /tmp/typed\r', /\ngo\n/);
    await type(guest, 'first line\r', /first line\n/);
    await type(guest, 'second line\r\u0004', new RegExp(PROMPT));
    await enter(guest, 'wc -l < /tmp/typed', '2');
    guest.type('poweroff\r');
    const result = await guest.finished;
    expect(result.code).toBe(ExitCode.Poweroff);
  });

  it('takes a large paste through a pipe whole', { timeout: BOOT_TIMEOUT_MS }, async () => {
    const guest = await guests.start({ flavour: 'cloud' });
    await guest.until(new RegExp(PROMPT), 60_000);
    const lines = Array.from({ length: 400 }, (_, n) => `line ${n} of something that is pasted`);
    await type(guest, 'stty -echo; echo go; cat > /tmp/paste\n', /\ngo\n/);
    guest.type(`${lines.join('\n')}\n`);
    await type(guest, '\u0004', new RegExp(PROMPT));
    await type(guest, 'wc /tmp/paste\n', /^ +400 +2800 +14690 \/tmp\/paste/);
    guest.type('exit\n');
    const result = await guest.finished;
    expect(result.stdout).toMatch(/The shell has ended: powering off/);
    expect(result.code).toBe(ExitCode.Poweroff);
  });

  it('powers off when the host asks', { timeout: BOOT_TIMEOUT_MS }, async () => {
    const guest = await guests.start({ flavour: 'generic' });
    await guest.until(new RegExp(PROMPT), 60_000);
    guest.child.kill('SIGTERM');
    const result = await guest.finished;
    expect(result.stderr).toMatch(/asking the guest to power off/);
    expect(result.code).toBe(ExitCode.Poweroff);
  });
});
