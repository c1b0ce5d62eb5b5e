// SPDX-License-Identifier: MIT
// Several processes with one store, and processes that are killed while they write.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BlockStoreStats } from './block-store.ts';
import { TestLibrary, contentOf } from './fixtures/library.ts';
import { keyOf, valueOf } from './fixtures/values.ts';

let library: TestLibrary;
let children: ChildProcess[] = [];
beforeEach(() => (library = new TestLibrary()));
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children = [];
  library.remove();
});

const script = fileURLToPath(new URL('./fixtures/put-values.ts', import.meta.url));

interface Putting {
  child: ChildProcess;
  /** Everything it has said, when it is over. */
  output: Promise<string>;
  started: Promise<void>;
}

function startPutting(capBytes: number, writing: 'direct' | 'background', first: number, count: number): Putting {
  const parameters = [script, library.directory, capBytes, writing, first, count].map(String);
  const child = spawn(process.execPath, parameters, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  let text = '';
  const output = new Promise<string>((resolve) => child.once('close', () => resolve(text)));
  const started = new Promise<void>((resolve) => {
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes('ready')) resolve();
    });
  });
  return { child, output, started };
}

/** Checks every value of the store; returns how many there are. */
function checkAll(): { count: number; keys: Set<string>; damaged: number } {
  const store = library.open();
  const content = contentOf(store);
  for (const [key, value] of content) {
    if (Buffer.compare(value, valueOf(key)) !== 0) expect.fail(`wrong value of ${key}`);
  }
  return { count: content.size, keys: new Set(content.keys()), damaged: store.stats().damaged };
}

const statsIn = (output: string): BlockStoreStats =>
  JSON.parse(output.trim().split('\n').at(-1) ?? '') as BlockStoreStats;

describe('processes writing at the same time', () => {
  it('do not lose anything, and can be read meanwhile', async () => {
    const cap = 256 * 1024 * 1024;
    // Half of the values are put by both.
    const writers = [startPutting(cap, 'background', 0, 600), startPutting(cap, 'direct', 300, 600)];
    await Promise.all(writers.map(({ started }) => started));
    let running = true;
    const ended = Promise.all(writers.map(({ output }) => output)).finally(() => (running = false));
    while (running) {
      checkAll();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    for (const output of await ended) {
      const { written, unchanged, ...others } = statsIn(output);
      expect(written + unchanged).toBe(600);
      expect(others).toMatchObject({ refused: 0, writeErrors: 0 });
    }
    expect(checkAll()).toMatchObject({ count: 900, damaged: 0 });
  });

  it('can evict and compact at the same time', async () => {
    const cap = 2 * 1024 * 1024;
    const writers = [0, 1, 2].map((i) => startPutting(cap, i === 0 ? 'background' : 'direct', i * 1000, 700));
    const outputs = await Promise.all(writers.map(({ output }) => output));
    for (const output of outputs) expect(statsIn(output)).toMatchObject({ puts: 700, writeErrors: 0 });
    const { count, damaged } = checkAll();
    expect(damaged).toBe(0);
    expect(count).toBeGreaterThan(20);
    expect(library.bytes()).toBeLessThan(2 * cap);
  });
});

describe('a process killed while it writes', () => {
  const ROUNDS = 20;

  it('leaves everything it had written', async () => {
    const written = new Set<string>();
    let torn = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const first = round * 100_000;
      const { child, output, started } = startPutting(256 * 1024 * 1024, 'direct', first, 100_000);
      await started;
      await new Promise((resolve) => setTimeout(resolve, 2 + ((round * 7) % 20)));
      child.kill('SIGKILL');
      const count = Number(/(\d+)\n\D*$/.exec(await output)?.[1] ?? 0);
      for (let i = 0; i < count; i++) written.add(keyOf(first + i));
      const { keys, damaged } = checkAll();
      for (const key of written) if (!keys.has(key)) expect.fail(`${key} was written and is gone (round ${round})`);
      expect(damaged).toBeLessThanOrEqual(round + 1);
      torn = damaged;
    }
    expect(written.size).toBeGreaterThan(ROUNDS);
    // The next process uses the store as if nothing had happened.
    const store = library.open();
    store.put(keyOf(1e9), valueOf(keyOf(1e9)));
    await store.close();
    expect(checkAll()).toMatchObject({ damaged: torn });
  }, 60_000);

  it('leaves a usable store while it evicts and compacts all the time', async () => {
    const cap = 1024 * 1024;
    for (let round = 0; round < ROUNDS; round++) {
      // Old enough to be compacted by the next one, and so is the lock of one that was killed.
      library.now += 3600_000;
      const { child, started, output } = startPutting(cap, round % 2 === 0 ? 'direct' : 'background', round * 1e5, 1e5);
      await started;
      await new Promise((resolve) => setTimeout(resolve, 30 + ((round * 41) % 70)));
      child.kill('SIGKILL');
      await output;
      checkAll();
    }
    expect(checkAll().count).toBeGreaterThan(5);
    library.now += 3600_000;
    const store = library.open({ capBytes: cap });
    for (let i = 0; i < 200; i++) store.put(keyOf(1e9 + i), valueOf(keyOf(1e9 + i)));
    await store.close();
    expect(store.stats()).toMatchObject({ refused: 0, writeErrors: 0 });
    expect(library.bytes()).toBeLessThanOrEqual(cap);
    expect(checkAll().keys).toContain(keyOf(1e9 + 199));
  }, 60_000);
});
