// SPDX-License-Identifier: MIT
// Builds what every engine runs: the workload program (gcc), and the guest's initramfs of busybox, that program and the plan.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { writeCpio } from '../../engine/formats/cpio.ts';
import type { CpioEntry } from '../../engine/formats/cpio.ts';

export interface PlannedWorkload {
  readonly name: string;
  readonly amount: number;
  /** True for what only makes sense in a virtual machine: an idle guest, a guest that fills its memory. */
  readonly guestOnly: boolean;
}

/** What comes from Debian: absolute paths. */
export interface DebianFiles {
  readonly kernel: string;
  /** A statically linked busybox. */
  readonly busybox: string;
}

/** Absolute paths of everything a run needs. */
export interface Guest extends DebianFiles {
  readonly program: string;
  readonly initrd: string;
}

const SOURCES = join(import.meta.dirname, 'workloads');

/** Flags for the baseline x86-64: the same binary runs natively and under every engine, whatever CPU it shows. */
const FLAGS = ['-O2', '-static', '-march=x86-64', '-std=gnu17', '-Wall', '-Wextra', '-Werror'];

/** Compiles the workload program into `folder`. Throws with gcc's message. */
export function buildProgram(folder: string): string {
  mkdirSync(folder, { recursive: true });
  const program = join(folder, 'work');
  const sources = readdirSync(SOURCES).filter((name) => name.endsWith('.c'));
  execFileSync('gcc', [...FLAGS, '-o', program, ...sources.map((name) => join(SOURCES, name))], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return program;
}

/** Writes the initramfs for `plan` into `folder`; it is not compressed, so that no engine's boot includes unpacking it. */
export function buildGuest(
  folder: string,
  debian: DebianFiles,
  program: string,
  plan: readonly PlannedWorkload[],
): Guest {
  const directory = (path: string): CpioEntry => ({ kind: 'directory', path, permissions: 0o755 });
  const file = (path: string, data: Uint8Array): CpioEntry => ({ kind: 'file', path, permissions: 0o755, data });
  const archive = writeCpio([
    ...['bin', 'dev', 'proc'].map(directory),
    { kind: 'character-device', path: 'dev/console', permissions: 0o600, major: 5, minor: 1 },
    file('bin/busybox', readFileSync(debian.busybox)),
    file('bin/work', readFileSync(program)),
    file('plan', Buffer.from(plan.map((w) => `${w.name} ${w.amount}\n`).join(''))),
    file('init', readFileSync(join(import.meta.dirname, 'init.sh'))),
  ]);
  const initrd = join(folder, 'initrd.cpio');
  writeFileSync(initrd, archive);
  return { ...debian, program, initrd };
}

/**
 * User-mode instructions per unit of the integer workload, counted by single steps over `sample` units.
 * Takes seconds, so the figure is kept in `folder` for as long as the program stays the same.
 */
export function instructionsPerUnit(folder: string, program: string, sample: number): number {
  const key = createHash('sha256').update(readFileSync(program)).update(`${sample}`).digest('hex').slice(0, 32);
  const file = join(folder, `integer-instructions-${key}`);
  if (!existsSync(file))
    writeFileSync(file, execFileSync(program, ['count', 'integer', `${sample}`], { encoding: 'utf8' }));
  return Number(readFileSync(file, 'utf8')) / sample;
}
