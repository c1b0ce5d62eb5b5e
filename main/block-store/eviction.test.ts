// SPDX-License-Identifier: MIT
// Tests of the cap, the order of eviction and compaction, and of what interrupts them.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StoreFiles } from './directory.ts';
import { LOCK_NAME } from './directory.ts';
import { TestLibrary, contentOf } from './fixtures/library.ts';
import { keyOf, valueOf } from './fixtures/values.ts';

const KIB = 1024;
const HOUR_MS = 3600_000;

let library: TestLibrary;
beforeEach(() => (library = new TestLibrary()));
afterEach(() => library.remove());

/** One run of a VM: puts values of 1 KiB, an hour after the run before. */
async function run(first: number, count: number, capBytes: number, touched: number[] = []): Promise<number> {
  library.now += HOUR_MS;
  const store = library.open({ capBytes });
  for (const i of touched) store.touch(keyOf(i));
  for (let i = first; i < first + count; i++) store.put(keyOf(i), valueOf(keyOf(i), KIB));
  await store.close();
  return store.stats().evictions;
}

function indicesLeft(below: number): number[] {
  const content = contentOf(library.open());
  for (const [key, value] of content) expect(Buffer.compare(value, valueOf(key, KIB))).toBe(0);
  return Array.from({ length: below }, (_, i) => i).filter((i) => content.has(keyOf(i)));
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** The system's calls; the `n`th that changes something on the disk and all calls after it fail, as if the process were dead. */
function dyingFiles(n: number): { files: StoreFiles; changes: () => number } {
  let changes = 0;
  const isChange = (name: string, parameters: unknown[]): boolean =>
    /^(fdatasync|ftruncate|mkdir|rename|rmdir|unlink|utimes|write)/.test(name) ||
    (name === 'openSync' && parameters[1] !== 'r');
  const files = Object.fromEntries(
    Object.entries(fs).map(([name, call]) => [
      name,
      (...parameters: unknown[]): unknown => {
        if (changes < n && isChange(name, parameters)) changes++;
        // A dead process has no open files.
        if (changes >= n && name !== 'closeSync') throw new Error('killed');
        return (call as (...all: unknown[]) => unknown)(...parameters);
      },
    ]),
  );
  return { files: files as unknown as StoreFiles, changes: () => changes };
}

describe('eviction', () => {
  it('keeps the store below its cap, and the youngest values in it', async () => {
    const cap = 256 * KIB;
    const store = library.open({ capBytes: cap });
    let most = 0;
    for (let i = 0; i < 2000; i++) {
      store.put(keyOf(i), valueOf(keyOf(i), KIB));
      most = Math.max(most, library.bytes());
    }
    await store.close();
    expect(most).toBeLessThanOrEqual(cap);
    const left = indicesLeft(2000);
    expect(left).toEqual(range(2000 - left.length, 2000));
    expect(left.length).toBeGreaterThan(170);
    expect(store.stats()).toMatchObject({ puts: 2000, written: 2000, evictions: 2000 - left.length });
    expect(store.stats().bytes).toBe(library.bytes());
  });

  it('removes the least recently used values first', async () => {
    const cap = 256 * KIB;
    await run(0, 100, cap);
    await run(100, 100, cap);
    // These were used in between, and in the run that evicts.
    await run(200, 1, cap, range(10, 20));
    const evictions = await run(201, 60, cap, range(30, 40));
    const left = indicesLeft(261);
    expect(evictions).toBeGreaterThan(0);
    expect(left).toHaveLength(261 - evictions);
    expect(left).toEqual(expect.arrayContaining([...range(10, 20), ...range(30, 40), ...range(200, 261)]));
    // Of the others the oldest are gone.
    const others = left.filter((i) => i < 200 && !(i >= 10 && i < 20) && !(i >= 30 && i < 40));
    const all = range(0, 200).filter((i) => !(i >= 10 && i < 20) && !(i >= 30 && i < 40));
    expect(others).toEqual(all.slice(all.length - others.length));
  });

  it('remembers uses when the segments with their notes are compacted', async () => {
    const cap = 1024 * KIB;
    await run(0, 700, cap);
    for (let i = 0; i < 60; i++) await run(700 + i, 1, cap, [5, 6]);
    expect(library.segments().length).toBeLessThan(80);
    const evictions = await run(760, 250, cap);
    expect(evictions).toBeGreaterThan(100);
    expect(indicesLeft(1010)).toEqual([5, 6, ...range(evictions + 2, 1010)]);
  });

  it('refuses what is too large, and everything when the cap is 0', async () => {
    const store = library.open({ capBytes: 64 * KIB });
    store.put('01', new Uint8Array(9 * KIB));
    store.put('02', new Uint8Array(7 * KIB));
    expect(store.stats()).toMatchObject({ puts: 2, written: 1, refused: 1 });
    await store.close();
    const none = library.open({ capBytes: 0, kind: 'none' });
    none.put('01', new Uint8Array(1));
    none.put('02', new Uint8Array(0));
    await none.close();
    expect(none.stats()).toMatchObject({ written: 0, refused: 2, writeErrors: 0 });
  });

  it('shrinks a store to a smaller cap', async () => {
    await run(0, 200, 1024 * KIB);
    await run(200, 1, 64 * KIB);
    expect(library.bytes()).toBeLessThanOrEqual(64 * KIB);
    const left = indicesLeft(201);
    expect(left).toEqual(range(201 - left.length, 201));
  });

  it('never removes or rewrites what another process may still be writing', async () => {
    const cap = 128 * KIB;
    const other = library.open({ capBytes: cap });
    other.put(keyOf(0), valueOf(keyOf(0), KIB));
    const [active] = library.segments();
    const store = library.open({ capBytes: cap });
    for (let i = 1; i < 300; i++) store.put(keyOf(i), valueOf(keyOf(i), KIB));
    expect(store.stats().evictions).toBeGreaterThan(0);
    expect(fs.existsSync(active)).toBe(true);
    other.put(keyOf(300), valueOf(keyOf(300), KIB));
    await other.close();
    await store.close();
    expect(indicesLeft(301)).toEqual(expect.arrayContaining([0, 299, 300]));
  });

  it('continues in a new segment when its own was removed', async () => {
    const store = library.open();
    store.put(keyOf(0), valueOf(keyOf(0), KIB));
    for (const file of library.segments()) fs.rmSync(file);
    store.put(keyOf(1), valueOf(keyOf(1), KIB));
    await store.close();
    expect(indicesLeft(2)).toEqual([1]);
  });

  it('finds values again that another process has moved', async () => {
    await run(0, 20, 1024 * KIB);
    await run(20, 1, 1024 * KIB);
    const reader = library.open();
    const before = new Set(library.segments());
    for (let i = 0; i < 60; i++) await run(21 + i, 1, 1024 * KIB);
    expect(library.segments().filter((name) => before.has(name))).toEqual([]);
    expect(reader.get(keyOf(3))).not.toBeNull();
    expect(reader.stats().damaged).toBe(0);
    for (const [key, value] of reader.entries()) expect(Buffer.compare(value, valueOf(key, KIB))).toBe(0);
  });
});

describe('compaction', () => {
  it('puts the small segments of many runs together', async () => {
    for (let i = 0; i < 120; i++) await run(i, 1, 1024 * KIB);
    expect(library.segments().length).toBeLessThan(60);
    expect(indicesLeft(120)).toEqual(range(0, 120));
  });

  it('drops superseded and damaged values, and segments that are not usable', async () => {
    const cap = 256 * KIB;
    for (const fill of [1, 2, 3]) {
      library.now += HOUR_MS;
      const store = library.open({ capBytes: cap });
      for (let i = 0; i < 60; i++) store.put(keyOf(i), new Uint8Array(KIB).fill(fill));
      await store.close();
    }
    const bad = path.join(library.store, '0000000000000001.blocks');
    fs.writeFileSync(bad, 'no segment');
    fs.writeFileSync(path.join(library.store, '0000000000000002.blocks.tmp'), 'left by a compaction');
    fs.writeFileSync(path.join(library.store, 'notes.txt'), 'not the store’s');
    await run(100, 100, cap);
    const store = library.open();
    expect(store.stats()).toMatchObject({ entries: 160, damaged: 0 });
    for (let i = 0; i < 60; i++) expect(store.get(keyOf(i))).toEqual(Buffer.alloc(KIB, 3));
    expect(fs.readdirSync(library.store).filter((name) => !name.endsWith('.blocks'))).toEqual(['notes.txt']);
    expect(fs.existsSync(bad)).toBe(false);
  });

  it('loses nothing when it is killed before any change on the disk', async () => {
    const cap = 256 * KIB;
    for (let i = 0; i < 49; i++) {
      library.now += HOUR_MS;
      const store = library.open({ capBytes: cap });
      store.put(keyOf(i), valueOf(keyOf(i), KIB));
      store.put(keyOf(1000), Buffer.from([i]));
      await store.close();
    }
    const before = library.segments().length;
    const original = path.join(library.directory, 'original');
    fs.cpSync(library.store, original, { recursive: true });
    let next = 2000;
    const compact = async (files: StoreFiles): Promise<void> => {
      library.now += HOUR_MS;
      const store = library.open({ capBytes: cap }, files);
      store.put(keyOf(next++), valueOf(keyOf(0), KIB));
      await store.close();
    };
    const complete = dyingFiles(Infinity);
    await compact(complete.files);
    expect(library.segments().length).toBeLessThan(before / 4);
    expect(complete.changes()).toBeGreaterThan(100);
    for (let n = 1; n <= complete.changes(); n++) {
      fs.rmSync(library.store, { recursive: true });
      fs.cpSync(original, library.store, { recursive: true });
      await compact(dyingFiles(n).files);
      const content = contentOf(library.open());
      for (let i = 0; i < 49; i++) {
        if (Buffer.compare(content.get(keyOf(i)) ?? Buffer.alloc(0), valueOf(keyOf(i), KIB)) !== 0) {
          expect.fail(`value ${i} was lost when change ${n} did not happen`);
        }
      }
      expect(content.get(keyOf(1000))).toEqual(Buffer.from([48]));
      if (n % 10 !== 0) continue;
      // The next time it succeeds, whatever this one has left: its lock, temporary files, values twice.
      for (let i = 0; i < 50; i++) await compact(fs);
      expect(library.segments().length).toBeLessThan(before);
      expect(fs.readdirSync(library.store).filter((name) => !name.endsWith('.blocks'))).toEqual([]);
    }
  });

  it('leaves it to the process that is at it, unless that one is gone', async () => {
    const cap = 64 * KIB;
    const lock = (): string => path.join(library.store, LOCK_NAME);
    await run(0, 50, cap);
    fs.writeFileSync(lock(), `${process.pid} other\n`);
    fs.utimesSync(lock(), library.now / 1000, library.now / 1000);
    library.now += 1000;
    const waiting = library.open({ capBytes: cap });
    for (let i = 50; i < 100; i++) waiting.put(keyOf(i), valueOf(keyOf(i), KIB));
    expect(waiting.stats()).toMatchObject({ evictions: 0 });
    expect(waiting.stats().refused).toBeGreaterThan(0);
    expect(library.bytes()).toBeLessThanOrEqual(cap);
    expect(fs.readFileSync(lock(), 'latin1')).toBe(`${process.pid} other\n`);
    // Silent for too long.
    library.now += HOUR_MS;
    waiting.put(keyOf(100), valueOf(keyOf(100), KIB));
    expect(waiting.stats().evictions).toBeGreaterThan(0);
    expect(fs.existsSync(lock())).toBe(false);
    // Of a process that does not exist.
    fs.writeFileSync(lock(), '999999999 other\n');
    fs.utimesSync(lock(), library.now / 1000, library.now / 1000);
    for (let i = 101; i < 150; i++) waiting.put(keyOf(i), valueOf(keyOf(i), KIB));
    await waiting.close();
    expect(indicesLeft(150)).toContain(149);
    expect(fs.existsSync(lock())).toBe(false);
  });
});

describe('stores of other engine versions', () => {
  const versions = (): string[] => fs.readdirSync(library.directory).sort();
  const DAY_MS = 24 * HOUR_MS;

  async function fill(engineVersion: string, kib: number): Promise<void> {
    const store = library.open({ engineVersion });
    for (let i = 0; i < kib; i++) store.put(keyOf(i), new Uint8Array(KIB));
    await store.close();
    const directory = path.join(library.directory, engineVersion, 'pv');
    for (const name of fs.readdirSync(directory)) {
      fs.utimesSync(path.join(directory, name), library.now / 1000, library.now / 1000);
    }
  }

  it('go when nobody has used them for a month, or when they are too large together', async () => {
    for (const version of ['oldest', 'older', 'old', 'recent']) {
      await fill(version, 40);
      library.now += 5 * DAY_MS;
    }
    await run(0, 1, 100 * KIB);
    expect(versions()).toEqual(['old', 'recent', 'test']);
    library.now += 28 * DAY_MS;
    await run(1, 1, 100 * KIB);
    expect(versions()).toEqual(['test']);
    expect(indicesLeft(2)).toEqual([0, 1]);
  });

  it('go without anything else in the library', async () => {
    await fill('old', 4);
    fs.writeFileSync(path.join(library.directory, 'old', 'pv', 'notes.txt'), 'mine');
    fs.writeFileSync(path.join(library.directory, 'letter.txt'), 'mine');
    fs.mkdirSync(path.join(library.directory, 'empty'));
    fs.mkdirSync(path.join(library.directory, 'photos', 'summer'), { recursive: true });
    fs.writeFileSync(path.join(library.directory, 'photos', 'summer', '1.jpeg'), 'mine');
    library.now += 60 * DAY_MS;
    await run(0, 1, 100 * KIB);
    expect(versions()).toEqual(['empty', 'letter.txt', 'old', 'photos', 'test']);
    expect(fs.readdirSync(path.join(library.directory, 'old', 'pv'))).toEqual(['notes.txt']);
    expect(fs.readdirSync(path.join(library.directory, 'photos', 'summer'))).toEqual(['1.jpeg']);
  });
});
