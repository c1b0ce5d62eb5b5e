// SPDX-License-Identifier: MIT
// Tests of the welcome guest's initramfs: unpacked by busybox itself, its scripts parsed by busybox's shell.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { debianFile } from '../../tests/support/requirements.ts';
import { buildInitramfs } from './initramfs.ts';

let busybox: string;
let directory: string;
let archive: Uint8Array;

beforeAll(async () => {
  busybox = await debianFile('busybox-static', 'bin/busybox');
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-initramfs-'));
  const files = { '/usr/bin/probe': Buffer.from('x'), '/data/deep/file': Buffer.from('y') };
  archive = buildInitramfs({ busybox: fs.readFileSync(busybox), script: Buffer.from('echo hello\n'), files });
});
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

describe('buildInitramfs', () => {
  it('lists its entries, parents first', () => {
    const names = execFileSync(busybox, ['cpio', '-t'], { input: archive, stdio: ['pipe', 'pipe', 'ignore'] })
      .toString()
      .trim()
      .split('\n');
    expect(names.indexOf('data')).toBeLessThan(names.indexOf('data/deep'));
    expect(names).toEqual(
      expect.arrayContaining(['init', 'bin/busybox', 'bin/sh', 'dev/console', 'script', 'etc/motd']),
    );
  });

  it('unpacks into a usable tree', () => {
    // Device nodes need root; everything else does not.
    const patterns = ['init', 'bin*', 'usr*', 'data*', 'script', 'etc*'];
    execFileSync(busybox, ['cpio', '-idm', ...patterns], {
      input: archive,
      cwd: directory,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    const at = (name: string): string => path.join(directory, name);
    const permissions = (name: string): string => (fs.statSync(at(name)).mode & 0o777).toString(8);
    expect(permissions('init')).toBe('755');
    expect(permissions('usr/bin/probe')).toBe('755');
    expect(permissions('data/deep/file')).toBe('644');
    expect(fs.readlinkSync(at('bin/sh'))).toBe('busybox');
    expect(fs.readFileSync(at('script'), 'utf8')).toBe('echo hello\n');
    expect(fs.readFileSync(at('bin/busybox')).equals(fs.readFileSync(busybox))).toBe(true);
  });

  it('depends on its input only', () => {
    const options = { busybox: Buffer.from('b') };
    expect(buildInitramfs(options)).toEqual(buildInitramfs(options));
  });

  it.each(['init.sh', 'session.sh', 'profile.sh'])('%s is a script that busybox can read', (name) => {
    const file = new URL(`./${name}`, import.meta.url);
    execFileSync(busybox, ['sh', '-n'], { input: fs.readFileSync(file) });
  });

  it('uses only programs that busybox has', () => {
    const applets = execFileSync(busybox, ['--list']).toString().split('\n');
    const session = ['start-stop-daemon', 'setsid', 'cttyhack', 'stty', 'sed', 'sh'];
    for (const name of [...session, 'poweroff', 'reboot', 'halt', 'hostname', 'mount', 'sleep']) {
      expect(applets).toContain(name);
    }
  });
});
