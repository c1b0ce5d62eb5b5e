// SPDX-License-Identifier: MIT
// Unusable kernels, initrds and sizes given to the real command line: one sentence, what to do, exit code 3, no stack trace.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ExitCode } from '../../main/vm/outcome.ts';
import { CommandLine } from '../support/paravane.ts';
import type { FinishedCommand } from '../support/paravane.ts';
import { debianFile, debianKernel } from '../support/requirements.ts';

const cli = new CommandLine('engine');
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-bad-'));
let kernelPath: string;
let kernel: Buffer;
let busybox: string;
let grub32: string;
beforeAll(async () => {
  kernelPath = await debianKernel('cloud');
  kernel = fs.readFileSync(kernelPath);
  busybox = await debianFile('busybox-static', 'bin/busybox');
  grub32 = await debianFile('grub-xen-host', 'usr/lib/grub-xen/grub-i386-xen.bin');
});
afterAll(() => {
  cli.dispose();
  fs.rmSync(directory, { recursive: true, force: true });
});

/** Path of a new file with this content. */
function file(name: string, content: Uint8Array): string {
  const target = path.join(directory, name);
  fs.writeFileSync(target, content);
  return target;
}

/** The kernel with bytes changed. */
function changed(name: string, change: (bytes: Buffer) => void): string {
  const copy = Buffer.from(kernel);
  change(copy);
  return file(name, copy);
}

/** Checks the form of a refusal: a sentence that matches, a sentence of advice, nothing else. */
function expectRefusal(result: FinishedCommand, sentence: RegExp, code: ExitCode = ExitCode.BadInput): void {
  expect(result.stderr).toMatch(sentence);
  const lines = result.stderr.trimEnd().split('\n');
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatch(/^paravane: .*[.)]$/);
  expect(lines[1]).toMatch(/^[A-Z].*\.$/);
  expect(result.stdout).toBe('');
  expect(result.code).toBe(code);
  expect(cli.entries()).toEqual([]);
}

const refuse = async (args: string[], sentence: RegExp): Promise<void> =>
  expectRefusal(await cli.run('run', ...args), sentence);

describe('kernels', () => {
  it('missing', () => refuse(['--kernel', path.join(directory, 'none')], /kernel file ".*none" does not exist/));
  it('a directory', () => refuse(['--kernel', directory], /kernel path ".*" is a directory/));
  it('a device', () => refuse(['--kernel', '/dev/zero'], /kernel path "\/dev\/zero" is not a regular file/));
  it('empty', () => refuse(['--kernel', file('empty', Buffer.alloc(0))], /kernel file ".*empty" is empty/));
  it.skipIf(process.getuid?.() === 0)('unreadable', async () => {
    const target = file('secret', kernel);
    fs.chmodSync(target, 0);
    await refuse(['--kernel', target], /kernel file ".*secret" cannot be read \(permission denied\)/);
  });
  it('text', () => refuse(['--kernel', file('text', Buffer.from('hello\n'.repeat(999)))], /is not a kernel/));
  it('a program', () => refuse(['--kernel', busybox], /no PV support; it can be started as a PC/));
  it('a 32-bit kernel', () => refuse(['--kernel', grub32], /is a 32-bit PV kernel/));
  it('truncated in the middle', () =>
    refuse(['--kernel', file('half', kernel.subarray(0, kernel.length >> 1))], /kernel (file|inside) ".*half" /));
  it('truncated in its header', () =>
    refuse(['--kernel', file('head', kernel.subarray(0, 600))], /kernel file ".*head" is incomplete/));
  it('with a damaged payload', () =>
    refuse(
      ['--kernel', changed('damaged', (b) => b.fill(0x5a, 2_000_000, 2_100_000))],
      /cannot be unpacked: its lz4 data/,
    ));
  it('with an unknown compression', async () => {
    const payload = (kernel[0x1f1] + 1) * 512 + kernel.readUInt32LE(0x248);
    await refuse(
      ['--kernel', changed('packed', (b) => b.fill(0x11, payload, payload + 8))],
      /packed with an unknown method/,
    );
  });
  it('with a payload length beyond the end', () =>
    refuse(['--kernel', changed('longer', (b) => b.writeUInt32LE(0x7fffffff, 0x24c))], /is incomplete/));
});

describe('initrds', () => {
  const withInitrd = (initrd: string, sentence: RegExp, ...more: string[]): Promise<void> =>
    refuse(['--kernel', kernelPath, '--initrd', initrd, ...more], sentence);

  it('missing', () => withInitrd(path.join(directory, 'none'), /initrd file ".*none" does not exist/));
  it('a directory', () => withInitrd(directory, /initrd path ".*" is a directory/));
  it('empty', () => withInitrd(file('empty-initrd', Buffer.alloc(0)), /initrd file ".*" is empty/));
  it('larger than memory', () => {
    const target = file('large', Buffer.alloc(0));
    fs.truncateSync(target, 300 * 2 ** 20);
    return withInitrd(target, /initrd \(300 MiB\) does not fit into the memory of the machine/, '--memory', '256M');
  });
  it('leaving no room for the kernel', () => {
    const target = file('nearly', Buffer.alloc(0));
    fs.truncateSync(target, 100 * 2 ** 20);
    return withInitrd(target, /does not fit into the memory|needs at least \d+ MiB/, '--memory', '128M');
  });
});

describe('memory sizes', () => {
  it('below what the kernel needs: says how much would do', () =>
    refuse(
      ['--kernel', kernelPath, '--memory', '64M'],
      /needs at least \d+ MiB of memory to start, but the machine has 64 MiB/,
    ));
  it('not a number of pages', () =>
    refuse(['--kernel', kernelPath, '--memory', '262145K'], /memory size of \d+ bytes is not possible/));
  it('beyond what can be addressed', () =>
    refuse(['--kernel', kernelPath, '--memory', '64G'], /memory size of \d+ bytes is not possible|cannot reserve/));
});

describe('command lines', () => {
  it('too long', () =>
    refuse(
      ['--kernel', kernelPath, '--append', 'x'.repeat(5000)],
      /command line has 5000 bytes; at most 1023 are possible/,
    ));
});

it("an init that is missing is the guest's crash, told with its reason", { timeout: 60_000 }, async () => {
  const result = await cli.run(
    'run',
    '--kernel',
    kernelPath,
    '--append',
    'console=hvc0 quiet panic=-1',
    '--memory',
    '128M',
  );
  expect(result.stdout).toMatch(/Kernel panic - not syncing: VFS: Unable to mount root fs/);
  expect(result.stderr).toMatch(/^paravane: The guest (crashed: .*|asked to be rebooted.*)\n$/);
  expect([ExitCode.Crash, ExitCode.Reboot]).toContain(result.code);
});
