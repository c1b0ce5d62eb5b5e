// SPDX-License-Identifier: MIT
// The store of precompiled blocks under real guests: the next boot begins with what others learned, at once and whatever became of them.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CommandLine, eventually } from '../support/paravane.ts';
import type { FinishedCommand } from '../support/paravane.ts';
import { debianKernel } from '../support/requirements.ts';

/** Boot goes on until Linux panics for want of a file system: that is the right end. */
const ARGUMENTS = 'console=hvc0 panic=-1';
const CRASHED = 11;
const BOOT_MS = 120_000;

let kernel: string;
beforeAll(async () => {
  kernel = await debianKernel('cloud');
}, 300_000);

/** A command line with a store of its own. */
class Library {
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-blocks-'));
  readonly line = new CommandLine('engine');

  constructor() {
    this.line.environment.PARAVANE_CACHE = this.directory;
    // Compiled sources are not what is tested here.
    this.line.environment.NODE_COMPILE_CACHE ??= path.join(os.tmpdir(), 'pv-node-cache');
  }

  start() {
    const command = this.line.start('run', '--kernel', kernel, '--append', ARGUMENTS, '--memory', '256M', '--stats');
    command.child.stdin!.end();
    return command;
  }

  boot(): Promise<FinishedCommand> {
    return this.start().finished;
  }

  dispose(): void {
    this.line.dispose();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

function figure({ stderr }: FinishedCommand, name: string): number {
  const found = new RegExp(`^ *${name.replaceAll('.', '\\.')} +([\\d,]+)$`, 'm').exec(stderr);
  if (found === null) throw new Error(`no "${name}" in:\n${stderr}`);
  return Number(found[1].replaceAll(',', ''));
}

function expectWholeBoot({ code, stdout, stderr }: FinishedCommand): void {
  expect(stdout).toContain('Unable to mount root fs');
  expect(code, stderr).toBe(CRASHED);
}

let library: Library;
beforeEach(() => {
  library = new Library();
});
afterEach(() => library.dispose());

describe('the store of blocks', () => {
  it(
    'is filled by two machines at once and used by the next',
    async () => {
      for (const run of await Promise.all([library.boot(), library.boot()])) {
        expectWholeBoot(run);
        expect(figure(run, 'block-store.written')).toBeGreaterThan(0);
        expect(figure(run, 'translator.laterRegions'), 'the tests need a C++ compiler (g++)').toBeGreaterThan(0);
        expect(figure(run, 'block-store.damaged')).toBe(0);
      }
      const next = await library.boot();
      expectWholeBoot(next);
      expect(figure(next, 'translator.storeHits')).toBeGreaterThan(20);
      expect(figure(next, 'block-store.damaged')).toBe(0);
      expect(figure(next, 'machine-code.hits')).toBeGreaterThan(20);
      // Far fewer are left to be made.
      expect(figure(next, 'block-store.written')).toBeLessThan(figure(next, 'block-store.entries'));
    },
    3 * BOOT_MS,
  );
});

describe('machine code that was damaged on disk', () => {
  it(
    'is compiled again',
    async () => {
      expectWholeBoot(await library.boot());
      const segments = fs.globSync('**/code-*/*.blocks', { cwd: library.directory });
      expect(segments.length).toBeGreaterThan(0);
      // One byte in each 4 KiB: hardly any module is left as it was.
      for (const segment of segments) {
        const file = path.join(library.directory, segment);
        const bytes = fs.readFileSync(file);
        for (let at = 2048; at < bytes.length; at += 4096) bytes[at] ^= 0x10;
        fs.writeFileSync(file, bytes);
      }
      const next = await library.boot();
      expectWholeBoot(next);
      expect(figure(next, 'translator.storeHits')).toBeGreaterThan(20);
      expect(figure(next, 'machine-code.misses')).toBeGreaterThan(figure(next, 'machine-code.hits'));
      const again = await library.boot();
      expectWholeBoot(again);
      expect(figure(again, 'machine-code.hits')).toBeGreaterThan(20);
    },
    3 * BOOT_MS,
  );
});

describe('a machine that is killed', () => {
  it(
    'leaves a store that the next one uses, whenever it was',
    async () => {
      for (let n = 0; n < 5; n++) {
        const command = library.start();
        await command.until(/Linux version/, BOOT_MS);
        await eventually(() => library.line.entries().length === 1, 'the machine is announced');
        const after = Math.round(Math.random() * 3000);
        await new Promise((resolve) => setTimeout(resolve, after));
        const [entry] = library.line.entries();
        if (entry !== undefined) process.kill(entry.pid, 'SIGKILL');
        await command.finished;
      }
      const next = await library.boot();
      expectWholeBoot(next);
      // A record that was being written is a damaged one, at most one for each machine.
      expect(figure(next, 'block-store.damaged')).toBeLessThanOrEqual(5);
      const again = await library.boot();
      expectWholeBoot(again);
      expect(figure(again, 'translator.storeHits')).toBeGreaterThan(20);
    },
    8 * BOOT_MS,
  );
});
