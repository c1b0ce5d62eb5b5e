// SPDX-License-Identifier: MIT
// Runs the demonstration guest: what it prints, its keys, its three ways to end.
import { describe, expect, it } from 'vitest';
import { buildDemoGuest } from '../../../main/demo-guest/demo-guest.ts';
import { runGuest, type RunOptions, type RunResult } from './run.ts';

/** The benchmark alone takes some tens of millions of instructions. */
const INSTRUCTION_LIMIT = 400_000_000;

function run(options: RunOptions): Promise<RunResult> {
  return runGuest(buildDemoGuest(), { instructionLimit: INSTRUCTION_LIMIT, ...options });
}

describe('demonstration guest', () => {
  it.each(['offset', 'permuted'] as const)('shows the machine and powers off with demo=auto (%s)', async (mfnOrder) => {
    const { output, outcome } = await run({ commandLine: 'quiet demo=auto', mfnOrder });
    const text = output.replaceAll('\r', '');
    expect(outcome).toEqual({ kind: 'poweroff' });
    expect(text).toMatch(/^Paravane demonstration guest: first words/);
    expect(text).toMatch(/magic\s+xen-3\.0-x86_64\n/);
    expect(text).toMatch(/memory\s+16 MiB in 4096 frames\n/);
    expect(text).toMatch(/console\s+machine frame 0x[0-9a-f]+, port \d+\n/);
    expect(text).toMatch(/command line\s+"quiet demo=auto"\n/);
    expect(text).toMatch(/Xen interface 4\.\d+\n/);
    const date = /(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC/.exec(text)?.[1] ?? '';
    expect(Math.abs(Date.parse(`${date.replace(' ', 'T')}Z`) - Date.now())).toBeLessThan(60_000);
    expect(text).toMatch(/tick 1\n +tick 2\n +tick 3\n/);
    expect(text.match(/ \d+\.\d ns\n/g)).toHaveLength(5);
    expect(text).toContain('demo=auto: powering off');
  });

  it('obeys keys and powers off', async () => {
    const { output, outcome } = await run({
      steps: [
        { waitFor: 'demo>', send: 'h' },
        { waitFor: 'demo>', send: 'z' },
        { waitFor: 'demo>', send: 't' },
        { waitFor: 'demo>', send: 'q' },
      ],
    });
    expect(outcome).toEqual({ kind: 'poweroff' });
    expect(output).toContain('c  crash: follow a null pointer');
    expect(output).toContain('press h for help');
    expect(output.match(/ UTC/g)).toHaveLength(2);
    expect(output).toContain('powering off');
  });

  it('reboots', async () => {
    const { outcome } = await run({ steps: [{ waitFor: 'demo>', send: 'r' }] });
    expect(outcome).toEqual({ kind: 'reboot' });
  });

  it('crashes with a reason', async () => {
    const { output, outcome } = await run({ steps: [{ waitFor: 'demo>', send: 'c' }] });
    expect(outcome).toMatchObject({ kind: 'crash' });
    expect(output).toMatch(/page fault at address 0x0, instruction at 0xffffffff801[0-9a-f]+, error code 0/);
  });
});
