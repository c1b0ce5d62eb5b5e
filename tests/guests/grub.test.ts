// SPDX-License-Identifier: MIT
// GRUB as a PV guest: a kernel of another making, which polls its console, maps grants at boot and never blocks.
import { afterAll, expect, it } from 'vitest';
import { ExitCode } from '../../main/vm/outcome.ts';
import { CommandLine } from '../support/paravane.ts';
import { debianFile } from '../support/requirements.ts';

const cli = new CommandLine('engine');
afterAll(() => cli.dispose());

/** GRUB moves the cursor around every typed character. */
// eslint-disable-next-line no-control-regex -- terminal control sequences are what is removed
const plain = (text: string): string => text.replace(/\u001b\[[\d;?]*[A-Za-z]/g, '').replaceAll('\r', '');

it('reaches its prompt, answers, and halts', { timeout: 120_000 }, async () => {
  const image = await debianFile('grub-xen-host', 'usr/lib/grub-xen/grub-x86_64-xen.bin');
  const grub = cli.start('run', '--kernel', image, '--memory', '128M');
  await grub.until(/grub> /, 60_000);
  const ask = async (command: string, answer: RegExp): Promise<void> => {
    const before = grub.stdout.length;
    grub.type(`${command}\r`);
    await grub.until(/grub> $/, 20_000);
    await expect.poll(() => plain(grub.stdout.slice(before)), { timeout: 20_000 }).toMatch(answer);
  };
  await ask('echo hello from grub', /\nhello from grub\ngrub> $/);
  await ask('ls', /\n\(memdisk\).*\ngrub> $/);
  await ask('ls (memdisk)/', /\ngrub\.cfg.*\ngrub> $/);
  await ask('set x=4; echo ${x}2', /\n42\ngrub> $/);
  await ask('lsmmap', /available RAM\n[^]*grub> $/);
  await ask('if [ 3 -gt 2 ]; then echo yes; fi', /\nyes\ngrub> $/);
  await ask('nonsense', /error: can't find command `nonsense'/);
  grub.type('halt\r');
  const result = await grub.finished;
  expect(result.code).toBe(ExitCode.Poweroff);
});
