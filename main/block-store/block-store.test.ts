// SPDX-License-Identifier: MIT
// Tests of the block store as its users see it.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openBlockStore } from './block-store.ts';
import { blockEngineVersion } from './engine-version.ts';
import { TEST_STORE, TestLibrary, contentOf } from './fixtures/library.ts';
import { keyOf, valueOf } from './fixtures/values.ts';

let library: TestLibrary;
beforeEach(() => (library = new TestLibrary()));
afterEach(() => library.remove());

async function put(...indices: number[]): Promise<void> {
  const store = library.open();
  for (const i of indices) store.put(keyOf(i), valueOf(keyOf(i)));
  await store.close();
}

describe('block store', () => {
  it('gives the next run what was put', async () => {
    const store = library.open();
    const values = [0, 1, 1000, 1_000_000].map((bytes, i): [string, Uint8Array] => [
      keyOf(i),
      valueOf(keyOf(i), bytes),
    ]);
    for (const [key, value] of values) store.put(key, value);
    expect(contentOf(store).size).toBe(0);
    await store.close();
    expect(store.stats()).toMatchObject({ puts: 4, written: 4, misses: 4, refused: 0, bytes: library.bytes() });

    const next = library.open();
    expect(new Map([...contentOf(next)].map(([key, value]) => [key, Uint8Array.from(value)]))).toEqual(new Map(values));
    expect([...next.keys()].sort()).toEqual(values.map(([key]) => key).sort());
    expect(next.get(keyOf(2))).toEqual(Buffer.from(values[2][1]));
    expect(next.get(keyOf(99))).toBeNull();
    expect(next.stats()).toMatchObject({ entries: 4, hits: 1, damaged: 0, stale: 0, bytes: library.bytes() });
    expect(library.log).toEqual([]);
  });

  it('keeps keys exactly as they are', async () => {
    const store = library.open();
    const keys = ['a', 'A', '0', '00', 'f'.repeat(255)];
    for (const key of keys) store.put(key, Buffer.from(key));
    await store.close();
    const content = contentOf(library.open());
    for (const key of keys) expect(Buffer.from(content.get(key) ?? []).toString()).toBe(key);
    for (const key of ['', 'g', 'a/b', 'f'.repeat(256)])
      expect(() => library.open().put(key, Buffer.alloc(1))).toThrow();
  });

  it('is not changed by what is done to the bytes afterwards', async () => {
    const store = library.open();
    const value = new Uint8Array(new SharedArrayBuffer(10)).fill(7);
    store.put('01', value);
    value.fill(8);
    await store.close();
    const next = library.open();
    next.get('01')?.fill(9);
    for (const [, bytes] of next.entries()) bytes.fill(9);
    expect(next.get('01')).toEqual(Buffer.alloc(10, 7));
  });

  it('writes a value only once, and a new value of a key instead of the old one', async () => {
    await put(1);
    const before = library.bytes();
    const store = library.open();
    store.put(keyOf(1), valueOf(keyOf(1)));
    await store.close();
    expect(library.bytes()).toBe(before);
    expect(store.stats()).toMatchObject({ puts: 1, written: 0, unchanged: 1, refused: 0, hits: 1, misses: 0 });

    const other = library.open();
    other.put(keyOf(1), Buffer.from('new'));
    other.put(keyOf(1), Buffer.from('newer'));
    await other.close();
    expect([...contentOf(library.open())]).toEqual([[keyOf(1), Buffer.from('newer')]]);
  });

  it('counts each value that was of use once', async () => {
    await put(1, 2, 3);
    const store = library.open();
    for (const i of [1, 1, 2, 4]) store.touch(keyOf(i));
    store.get(keyOf(2));
    expect(store.stats()).toMatchObject({ hits: 2, misses: 0 });
  });

  it('notes uses lazily, and not for runs in quick succession', async () => {
    await put(1, 2);
    const before = library.bytes();
    const soon = library.open();
    soon.touch(keyOf(1));
    await soon.close();
    expect(library.bytes()).toBe(before);
    library.now += 3600_000;
    const later = library.open();
    later.touch(keyOf(1));
    expect(library.bytes()).toBe(before);
    await later.close();
    expect(library.bytes()).toBeGreaterThan(before);
    // Segments with the latest uses come first.
    expect([...contentOf(library.open()).keys()]).toEqual([keyOf(1), keyOf(2)]);
  });

  it('does not see values of another engine version or kind', async () => {
    await put(1);
    for (const other of [{ engineVersion: 'test2' }, { kind: 'pc' }]) {
      const store = library.open(other);
      expect(contentOf(store).size).toBe(0);
      // Nor when a file gets into the wrong directory.
      const wrong = path.join(library.directory, other.engineVersion ?? 'test', other.kind ?? 'pv');
      fs.mkdirSync(wrong, { recursive: true, mode: 0o700 });
      for (const file of library.segments()) fs.copyFileSync(file, path.join(wrong, path.basename(file)));
      const again = library.open(other);
      expect(contentOf(again).size).toBe(0);
      expect(again.stats()).toMatchObject({ entries: 0, stale: 1, damaged: 0 });
    }
    for (const bad of ['', '.', '..', 'a/b', '../x', 'a'.repeat(65)]) {
      expect(() => library.open({ kind: bad })).toThrow(RangeError);
      expect(() => library.open({ engineVersion: bad })).toThrow(RangeError);
    }
  });

  it('ignores everything in its directory that is not a segment', async () => {
    await put(1);
    fs.writeFileSync(path.join(library.store, 'notes.txt'), 'mine');
    fs.writeFileSync(path.join(library.store, '0123456789abcdef.blocks.tmp'), 'half');
    fs.mkdirSync(path.join(library.store, '00000000000000aa.blocks'));
    fs.symlinkSync(library.segments()[0], path.join(library.store, '00000000000000bb.blocks'));
    expect([...contentOf(library.open()).keys()]).toEqual([keyOf(1)]);
  });

  it.skipIf(process.geteuid === undefined)(
    'is for its user only, and not used when others can write to it',
    async () => {
      await put(1);
      expect(fs.statSync(library.store).mode & 0o777).toBe(0o700);
      expect(fs.statSync(library.segments()[0]).mode & 0o777).toBe(0o600);
      fs.chmodSync(library.store, 0o777);
      const store = library.open();
      store.put(keyOf(2), valueOf(keyOf(2)));
      await store.close();
      expect(store.stats()).toMatchObject({ entries: 0, puts: 1, written: 0, refused: 1 });
      expect(library.log).toEqual([
        `warn: The block store "${library.store}" is not used: other users can write to it.`,
      ]);
    },
  );

  it('goes on when its directory disappears', async () => {
    const store = library.open();
    store.put(keyOf(1), valueOf(keyOf(1)));
    fs.rmSync(library.directory, { recursive: true });
    store.put(keyOf(2), valueOf(keyOf(2)));
    await store.close();
    expect([...contentOf(library.open()).keys()]).toEqual([keyOf(2)]);
  });

  it('keeps nothing that is put after closing', async () => {
    const store = library.open();
    await store.close();
    store.put(keyOf(1), valueOf(keyOf(1)));
    await store.close();
    expect(store.stats()).toMatchObject({ puts: 1, refused: 1 });
    expect(library.segments()).toEqual([]);
  });

  it('lies in the cache unless told otherwise', async () => {
    vi.stubEnv('PARAVANE_CACHE', library.directory);
    try {
      const store = openBlockStore({ ...TEST_STORE, writing: 'direct' });
      store.put('01', Buffer.from('x'));
      await store.close();
      expect(fs.readdirSync(path.join(library.directory, 'blocks/test/pv'))).toHaveLength(1);
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

describe('writing in the background', () => {
  const options = (): Parameters<typeof openBlockStore>[0] => ({ directory: library.directory, ...TEST_STORE });

  it('writes everything before it is closed', async () => {
    const store = openBlockStore(options());
    for (let i = 0; i < 200; i++) store.put(keyOf(i), valueOf(keyOf(i)));
    await store.close();
    expect(store.stats()).toMatchObject({ puts: 200, written: 200, refused: 0, bytes: library.bytes() });
    const next = openBlockStore(options());
    for (const [key, value] of next.entries()) expect(Buffer.compare(value, valueOf(key))).toBe(0);
    expect(next.stats().entries).toBe(200);
    await next.close();
  });

  it('works while the thread that puts never returns to its event loop', async () => {
    const worker = new Worker(new URL('./fixtures/blocked-thread.ts', import.meta.url), {
      workerData: { directory: library.directory, count: 100 },
      execArgv: [],
    });
    const answer = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(answer).toMatchObject({ whileBlocked: 100, stats: { written: 100, refused: 0 } });
    await worker.terminate();
    expect(contentOf(library.open()).size).toBe(100);
  });

  it('takes no more than a bounded amount of memory, and drops the rest', async () => {
    const store = openBlockStore(options());
    const value = new Uint8Array(1_000_000);
    for (let i = 0; i < 100; i++) store.put(keyOf(i), value);
    await store.close();
    const { puts, written, refused } = store.stats();
    expect(puts).toBe(100);
    expect(written).toBeGreaterThanOrEqual(16);
    expect(refused).toBe(100 - written);
    expect(refused).toBeGreaterThan(0);
  });

  it('notes uses at the end without a thread', async () => {
    await put(1);
    library.now += 3600_000;
    const before = library.bytes();
    vi.spyOn(Date, 'now').mockImplementation(() => library.now);
    try {
      const store = openBlockStore(options());
      store.touch(keyOf(1));
      await store.close();
    } finally {
      vi.restoreAllMocks();
    }
    expect(library.bytes()).toBeGreaterThan(before);
  });

  it('says why it cannot write', async () => {
    const log: string[] = [];
    fs.writeFileSync(path.join(library.directory, 'test'), 'a file is in the way');
    const store = openBlockStore({ ...options(), log: (level, text) => log.push(`${level}: ${text}`) });
    store.put('01', Buffer.from('x'));
    store.put('02', Buffer.from('x'));
    await store.close();
    expect(log).toEqual([`warn: The block store "${library.store}" is not written any more (ENOTDIR).`]);
    expect(store.stats()).toMatchObject({ puts: 2, written: 0, refused: 2, writeErrors: 1 });
  });
});

describe('engine version', () => {
  it('depends on the interpreter and on the sources of the engine', () => {
    const file = path.join(library.directory, 'interpreter.wasm');
    const url = new URL(`file://${file}`);
    expect(() => blockEngineVersion(url)).toThrow(expect.objectContaining({ code: 'interpreter-missing' }));
    fs.writeFileSync(file, 'one');
    expect(() => blockEngineVersion(url)).toThrow(expect.objectContaining({ code: 'interpreter-missing' }));
    const sources = path.join(library.directory, 'interpreter-host-ops.json');
    fs.writeFileSync(sources, 'ab');
    const version = blockEngineVersion(url);
    expect(version).toMatch(/^[0-9a-f]{32}$/);
    expect(blockEngineVersion(url)).toBe(version);
    fs.writeFileSync(sources, 'cd');
    expect(blockEngineVersion(url)).not.toBe(version);
    fs.writeFileSync(sources, 'ab');
    expect(blockEngineVersion(url)).toBe(version);
    fs.writeFileSync(file, 'two');
    expect(blockEngineVersion(url)).not.toBe(version);
  });
});
