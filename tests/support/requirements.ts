// SPDX-License-Identifier: MIT
// What tests need from outside the checkout. What can be fetched without being root is fetched; for the rest, one line says what to type.
import { execFileSync } from 'node:child_process';
import * as path from 'node:path';
import { fetchKernel, fetchPackage } from '../../main/debian/packages.ts';
import { stderrProgress } from '../../main/debian/progress.ts';

/** Fails at once when a program is missing, with the command that installs the Debian package it is in. */
export function requireProgram(program: string, debianPackage = program): void {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' });
  } catch {
    throw new Error(`The tests need ${program}. Run: sudo apt-get install ${debianPackage}`);
  }
}

/** Path of Debian's kernel: `cloud` is the small one, `generic` the one for any PC. */
export async function debianKernel(flavour: 'cloud' | 'generic'): Promise<string> {
  const metapackage = flavour === 'cloud' ? 'linux-image-cloud-amd64' : 'linux-image-amd64';
  return (await fetchKernel(metapackage, stderrProgress)).kernel;
}

/** Path of a file of a Debian package, given by its installed path, e.g. `('busybox-static', 'bin/busybox')`. */
export async function debianFile(packageName: string, installedPath: string): Promise<string> {
  return path.join((await fetchPackage(packageName, stderrProgress)).directory, installedPath);
}
