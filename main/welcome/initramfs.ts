// SPDX-License-Identifier: MIT
// The welcome guest's initramfs: busybox, a first program and a few files, as one uncompressed newc archive.
import * as fs from 'node:fs';
import { writeCpio } from '../../engine/formats/cpio.ts';
import type { CpioEntry } from '../../engine/formats/cpio.ts';

export interface InitramfsOptions {
  /** Content of a statically linked busybox for x86-64. */
  busybox: Uint8Array;
  /** A shell script that the guest runs instead of a shell, after which it powers off. */
  script?: Uint8Array;
  /** Further files by absolute path; those below a `bin` directory are executable. */
  files?: Readonly<Record<string, Uint8Array>>;
}

const template = (name: string): Uint8Array => fs.readFileSync(new URL(`./${name}`, import.meta.url));

/** Builds the archive. The same input gives the same bytes. */
export function buildInitramfs(options: InitramfsOptions): Uint8Array {
  const files: Record<string, Uint8Array> = {
    '/init': template('init.sh'),
    '/bin/busybox': options.busybox,
    '/etc/profile': template('profile.sh'),
    '/etc/session': template('session.sh'),
    '/etc/motd': template('motd.txt'),
    '/sbin/follow-size': template('follow-size.sh'),
    '/etc/passwd': Buffer.from('root::0:0:root:/root:/bin/sh\n'),
    '/etc/group': Buffer.from('root:x:0:\n'),
    ...(options.script !== undefined && { '/script': options.script }),
    ...options.files,
  };
  return writeCpio([
    ...directoriesOf(['/dev/console', ...Object.keys(files)]).map((path): CpioEntry => ({
      kind: 'directory',
      path,
      permissions: 0o755,
    })),
    // The kernel opens it for the first program before anything is mounted on /dev.
    { kind: 'character-device', path: 'dev/console', permissions: 0o600, major: 5, minor: 1 },
    { kind: 'symlink', path: 'bin/sh', target: 'busybox' },
    ...Object.entries(files).map(([path, data]): CpioEntry => ({
      kind: 'file',
      path: relative(path),
      permissions: isProgram(path) ? 0o755 : 0o644,
      data,
    })),
  ]);
}

/** Archive paths have no leading slash. */
const relative = (path: string): string => path.replace(/^\/+/, '');

const isProgram = (path: string): boolean => path === '/init' || /(^|\/)s?bin\//.test(path);

/** Every directory above the given files, parents first. */
function directoriesOf(paths: string[]): string[] {
  const directories = new Set<string>();
  for (const path of paths) {
    const parts = relative(path).split('/').slice(0, -1);
    parts.forEach((_, i) => directories.add(parts.slice(0, i + 1).join('/')));
  }
  return [...directories].sort();
}
