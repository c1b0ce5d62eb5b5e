// SPDX-License-Identifier: MIT
// What VM processes keep: locks that die with their process, log files, atomic writes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeFileAtomically } from './atomic-file.ts';
import { lockFile } from './folder-lock.ts';
import { appendLog, readLogPage } from './machine-log.ts';

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-records-'));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

describe('lockFile', () => {
  it('is held by one, also against another process, and dies with it', async () => {
    const file = path.join(directory, 'lock');
    const module = new URL('./folder-lock.ts', import.meta.url).href;
    const script = `import { lockFile } from ${JSON.stringify(module)};
      globalThis.lock = lockFile(${JSON.stringify(file)}); console.log(globalThis.lock !== null); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    expect(String((await once(child.stdout, 'data'))[0])).toBe('true\n');
    expect(lockFile(file)).toBeNull();
    child.kill('SIGKILL');
    await once(child, 'exit');
    const lock = lockFile(file, 1000)!;
    expect(lockFile(file)).toBeNull();
    lock.release();
    lockFile(file)!.release();
    expect(fs.statSync(file).size).toBe(0);
  });
});

describe('the log', () => {
  const file = (): string => path.join(directory, 'machine.log');
  const add = (text: string, at = 1e12): void => appendLog(file(), { at, level: 'info', source: 'guest', text });

  it('is read back page by page, with what the runtime wrote in between', () => {
    for (let i = 0; i < 10; i++) add(`line ${i}\nmore`, 1e12 + i);
    fs.appendFileSync(file(), 'FATAL ERROR: heap\n');
    const last = readLogPage(file(), 3);
    expect(last.lines.map(({ text }) => text)).toEqual(['line 8\nmore', 'line 9\nmore', 'FATAL ERROR: heap']);
    expect(last.lines[2]).toMatchObject({ level: 'error', source: 'process', at: 1e12 + 9 });
    const before = readLogPage(file(), 100, last.start);
    expect(before.lines).toHaveLength(8);
    expect(before.start).toBe(0);
    expect(readLogPage(path.join(directory, 'none'), 5)).toEqual({ lines: [], start: 0 });
  });

  it('stays bounded, also for a process that has it as standard error', () => {
    const descriptor = fs.openSync(file(), 'a');
    for (let i = 0; i < 600; i++) add('x'.repeat(10_000));
    fs.writeSync(descriptor, 'last words\n');
    fs.closeSync(descriptor);
    expect(fs.readdirSync(directory).sort()).toEqual([
      'machine.log',
      'machine.log.1',
      'machine.log.2',
      'machine.log.3',
    ]);
    const sizes = fs.readdirSync(directory).map((name) => fs.statSync(path.join(directory, name)).size);
    expect(Math.max(...sizes)).toBeLessThan(1_100_000);
    expect(readLogPage(file(), 1).lines[0].text).toBe('last words');
  });
});

describe('writeFileAtomically', () => {
  it('replaces, keeps a copy, and leaves nothing behind when it fails', () => {
    const file = path.join(directory, 'f');
    writeFileAtomically(file, 'one', { backup: true });
    writeFileAtomically(file, 'two', { backup: true });
    expect([fs.readFileSync(file, 'utf8'), fs.readFileSync(`${file}.bak`, 'utf8')]).toEqual(['two', 'one']);
    fs.mkdirSync(path.join(directory, 'taken'));
    expect(() => writeFileAtomically(path.join(directory, 'taken'), 'x')).toThrow(/cannot be written/);
    expect(() => writeFileAtomically(path.join(directory, 'none', 'f'), 'x')).toThrow(/cannot be written/);
    expect(fs.readdirSync(directory).sort()).toEqual(['f', 'f.bak', 'taken']);
  });
});
