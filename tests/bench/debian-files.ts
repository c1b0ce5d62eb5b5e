// SPDX-License-Identifier: MIT
// What the bench takes from Debian by package name: QEMU and gcc (installed), the cloud kernel and busybox-static (downloaded and unpacked).

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { fetchKernel, fetchPackage } from '../../main/debian/packages.ts';
import { stderrProgress } from '../../main/debian/progress.ts';
import type { DebianFiles } from './guest.ts';

function isInstalled(command: string): boolean {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** Makes sure that gcc and, when `needsQemu`, QEMU are there; installs them where it may. Throws with the line to type where it may not. */
export function requireTools(needsQemu: boolean): void {
  const missing: string[] = [];
  if (!isInstalled('gcc')) missing.push('gcc', 'libc6-dev');
  if (needsQemu && !isInstalled('qemu-system-x86_64')) missing.push('qemu-system-x86');
  if (missing.length === 0) return;
  const install = ['install', '-y', '--no-install-recommends', ...missing];
  const line = `sudo apt-get ${install.join(' ')}`;
  if (process.getuid?.() !== 0) throw new Error(`${missing.join(' and ')} missing. Type: ${line}`);
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  if (spawnSync('apt-get', install, { stdio: ['ignore', 'ignore', 'inherit'], env: environment }).status === 0) return;
  // Package lists may be missing or old.
  spawnSync('apt-get', ['update'], { stdio: ['ignore', 'ignore', 'inherit'] });
  if (spawnSync('apt-get', install, { stdio: ['ignore', 'ignore', 'inherit'], env: environment }).status !== 0)
    throw new Error(`${missing.join(' and ')} could not be installed. Type: sudo apt-get update && ${line}`);
}

/** The bench guest's kernel and busybox, from Debian unless given. Throws with what to do where there is no apt. */
export async function findDebianFiles(kernel: string | undefined, busybox: string | undefined): Promise<DebianFiles> {
  for (const file of [kernel, busybox])
    if (file !== undefined && !existsSync(file)) throw new Error(`there is no file ${file}`);
  return {
    kernel: kernel ?? (await fetchKernel('linux-image-cloud-amd64', stderrProgress)).kernel,
    busybox: busybox ?? join((await fetchPackage('busybox-static', stderrProgress)).directory, 'bin/busybox'),
  };
}
