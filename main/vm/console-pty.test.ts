// SPDX-License-Identifier: MIT
// The console's pseudo-terminal with real programs at its far end: bytes pass unchanged, nobody who does not read stops anything.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { noPty, ptyTest } from '../../tests/support/pseudo-terminals.ts';
import { ConsolePty } from './console-pty.ts';

let pty: ConsolePty;
let input: Buffer;
const children: ChildProcess[] = [];

/** Closes what it has inherited from this process, the near end of the terminal above all, as a program that a user starts never has it. */
const CLEAN_CAT =
  'for f in /proc/$$/fd/*; do n=${f##*/}; if [ $n -gt 2 ]; then eval "exec $n>&-"; fi; done; exec cat "$0"';

function reader(): { text: () => string; child: ChildProcess } {
  const child = spawn('bash', ['-c', CLEAN_CAT, pty.path], { stdio: ['ignore', 'pipe', 'ignore'] });
  children.push(child);
  let received = Buffer.alloc(0);
  child.stdout!.on('data', (bytes: Buffer) => (received = Buffer.concat([received, bytes])));
  return { text: () => received.toString('latin1'), child };
}

const eventually = (check: () => unknown) => expect.poll(check, { timeout: 5000, interval: 20 });

describe.skipIf(noPty)(ptyTest('a pseudo-terminal'), () => {
  beforeEach(async () => {
    input = Buffer.alloc(0);
    pty = await ConsolePty.open((bytes) => (input = Buffer.concat([input, bytes])));
  });
  afterEach(() => {
    pty.close();
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  it('is a device of this user that passes bytes unchanged in both directions', async () => {
    expect(fs.statSync(pty.path).isCharacterDevice()).toBe(true);
    const every = Uint8Array.from({ length: 256 }, (_, i) => i);
    const { text } = reader();
    pty.output(every);
    await eventually(() => text().length).toBe(256);
    expect(Buffer.from(text(), 'latin1')).toEqual(Buffer.from(every));
    fs.writeFileSync(pty.path, every);
    await eventually(() => input.length).toBe(256);
    expect(input).toEqual(Buffer.from(every));
    // Nothing of what was written came back as an echo.
    expect(text().length).toBe(256);
  });

  it('gives everything to a reader that reads, however much there is', async () => {
    const { text } = reader();
    await eventually(() => (pty.output(Buffer.from('?')), text().length)).toBeGreaterThan(0);
    const before = text().length;
    const all = Array.from({ length: 40_000 }, (_, i) => `line ${i}\n`).join('');
    for (let at = 0; at < all.length; at += 16_384) {
      pty.output(Buffer.from(all.slice(at, at + 16_384)));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await eventually(() => text().length - before).toBeGreaterThanOrEqual(all.length);
    expect(text().endsWith(all)).toBe(true);
  });

  describe('a reader that does not read', () => {
    const flood = async (lines: number): Promise<number> => {
      let longest = 0;
      for (let i = 0; i < lines; i += 100) {
        const began = performance.now();
        pty.output(Buffer.from(Array.from({ length: 100 }, (_, n) => `line ${i + n}\n`).join('')));
        longest = Math.max(longest, performance.now() - began);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      return longest;
    };

    it('costs nothing, and who comes later finds the end of it', async () => {
      expect(await flood(60_000)).toBeLessThan(100);
      await new Promise((resolve) => setTimeout(resolve, 2500));
      pty.output(Buffer.from('the end\n'));
      const { text } = reader();
      await eventually(text).toMatch(/line 59999\n[^]*the end\n$/);
      expect(text().length).toBeLessThan(200_000);
      // And is served as any other from then on.
      const before = text().length;
      await flood(20_000);
      await eventually(() => text().slice(before)).toMatch(/^line 0\n[^]*line 19999\n$/);
      expect(text().slice(before).split('\n')).toHaveLength(20_001);
    });

    it('may be stopped in the middle and go on', async () => {
      const { text, child } = reader();
      await eventually(() => (pty.output(Buffer.from('?')), text().length)).toBeGreaterThan(0);
      child.kill('SIGSTOP');
      expect(await flood(60_000)).toBeLessThan(100);
      child.kill('SIGCONT');
      await eventually(() => (pty.output(Buffer.from('awake\n')), text())).toMatch(/awake/);
    });
  });

  it('ends for its readers when it is closed', async () => {
    const { child } = reader();
    await new Promise((resolve) => setTimeout(resolve, 100));
    pty.close();
    await eventually(() => child.exitCode ?? child.signalCode).not.toBeNull();
  });
});
