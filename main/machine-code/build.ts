// SPDX-License-Identifier: MIT
// Builds the addon that keeps machine code, where it can be used and there is a C++ compiler. Everything else works without it.
import { execFileSync } from 'node:child_process';
import { renameSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { v8CodeFile } from './v8-code.ts';

const source = fileURLToPath(new URL('./v8-code.cc', import.meta.url));
const options = ['-std=c++20', '-O2', '-fPIC', '-shared', '-fvisibility=hidden'];

/** Returns a sentence on what became of it. */
export function buildV8Code(compiler = process.env['CXX'] ?? 'g++', file = v8CodeFile): string {
  if (process.platform !== 'linux') return 'machine code of translations is not kept on this platform';
  const target = fileURLToPath(file);
  const temporary = `${target}.${process.pid}`;
  try {
    execFileSync(compiler, [...options, '-o', temporary, source], { stdio: ['ignore', 'ignore', 'pipe'] });
    renameSync(temporary, target);
    return 'machine code of translations is kept';
  } catch (error) {
    rmSync(temporary, { force: true });
    rmSync(target, { force: true });
    const why =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? `there is no C++ compiler (${compiler})` : String(error);
    return `machine code of translations will not be kept: ${why}; guests run without it, and start slower`;
  }
}
