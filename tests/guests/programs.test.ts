// SPDX-License-Identifier: MIT
// C programs that exercise floating point, signals, processes, memory, threads, clocks, self-modifying code and 32-bit code:
// the same binary runs on the host and in a guest, and has to print the same.
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requireProgram } from '../support/requirements.ts';
import { LinuxGuests } from './support/linux-guest.ts';
import { BOOT_TIMEOUT_MS } from './support/linux-suite.ts';
import type { Section } from './support/sections.ts';
import { scriptOf } from './support/sections.ts';
import { completedSections } from './support/transcript.ts';

/** Parts of exercise.c, each run on its own. */
const PARTS = [
  ...['sse-double', 'x87-long-double', 'x87-transcendental', 'faults', 'signals', 'processes', 'memory', 'threads'],
  ...['clocks', 'self-modifying', 'int80'],
];

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-programs-'));
const source = (name: string): string => fileURLToPath(new URL(`programs/${name}`, import.meta.url));
const program = (name: string): string => path.join(directory, name);

function compile(name: string, ...flags: string[]): void {
  execFileSync('gcc', ['-Wall', '-static', '-o', program(name), source(`${name}.c`), ...flags]);
}

const guests = new LinuxGuests();
let sections: Map<string, Section>;
beforeAll(async () => {
  requireProgram('gcc');
  compile('exercise', '-O2', '-march=x86-64', '-pthread', '-lm');
  compile('compat32', '-m32', '-O1', '-nostdlib', '-ffreestanding', '-fno-pie', '-no-pie', '-fno-stack-protector');
  const commands = [
    ...PARTS.map((part) => ({ name: part, run: `/bin/exercise ${part}`, expect: '' })),
    { name: 'compat32', run: '/bin/compat32', expect: '' },
  ];
  const files = Object.fromEntries(
    ['exercise', 'compat32'].map((name) => [`/bin/${name}`, fs.readFileSync(program(name))]),
  );
  sections = completedSections(await guests.run({ flavour: 'cloud', script: scriptOf(commands), files }));
}, BOOT_TIMEOUT_MS);
afterAll(() => {
  guests.dispose();
  fs.rmSync(directory, { recursive: true, force: true });
});

function expectAsNative(name: string, executable: string, ...args: string[]): void {
  const native = spawnSync(program(executable), args, { encoding: 'utf8' });
  expect(sections.get(name)).toEqual({ output: native.stdout.replace(/\n+$/, ''), status: native.status });
}

describe('prints in the guest what it prints on the host', () => {
  it.each(PARTS)('%s', (part) => expectAsNative(part, 'exercise', part));
  it('compat32', () => expectAsNative('compat32', 'compat32'));
});
