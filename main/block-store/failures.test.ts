// SPDX-License-Identifier: MIT
// A disk that is full, read-only or broken never makes a run fail, and never leaves wrong values.
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { StoreFiles } from './directory.ts';
import { TestLibrary, contentOf } from './fixtures/library.ts';
import { keyOf, valueOf } from './fixtures/values.ts';

let library: TestLibrary;
beforeEach(() => (library = new TestLibrary()));
afterEach(() => library.remove());

const failure = (code: string): Error => Object.assign(new Error(code), { code, syscall: 'test' });

/** A disk with room for so many more bytes: like the system, it first writes less than it should, and then fails. */
function fullDisk(room: number): { files: StoreFiles; attempts: () => number } {
  let left = room;
  let attempts = 0;
  const writeSync = (fd: number, bytes: Buffer, at: number, length: number, position: number): number => {
    attempts++;
    if (left === 0 && length > 0) throw failure('ENOSPC');
    const written = fs.writeSync(fd, bytes, at, Math.min(length, left), position);
    left -= written;
    return written;
  };
  return { files: { ...fs, writeSync: writeSync as typeof fs.writeSync }, attempts: () => attempts };
}

const SIZES = [10, 200, 1000];

async function putAll(files: StoreFiles): Promise<ReturnType<ReturnType<TestLibrary['open']>['stats']>> {
  const store = library.open({}, files);
  SIZES.forEach((bytes, i) => store.put(keyOf(i), valueOf(keyOf(i), bytes)));
  await store.close();
  return store.stats();
}

describe('a block store on a full disk', () => {
  it('stops writing, says so once, and keeps what is complete', async () => {
    const complete = await putAll(fs);
    expect(complete).toMatchObject({ written: 3, writeErrors: 0 });
    const needed = library.bytes();
    for (let room = 0; room <= needed; room += room < 60 || room > needed - 10 ? 1 : 13) {
      fs.rmSync(library.store, { recursive: true, force: true });
      library.log.length = 0;
      const stats = await putAll(fullDisk(room).files);
      const full = room < needed;
      expect(stats).toMatchObject({ puts: 3, writeErrors: full ? 1 : 0, refused: 3 - stats.written });
      const text = `warn: The block store "${library.store}" is not written any more (ENOSPC).`;
      expect(library.log).toEqual(full ? [text] : []);
      const next = library.open();
      const content = contentOf(next);
      expect(content.size).toBe(stats.written);
      expect(next.stats().damaged).toBe(0);
      for (const [key, value] of content) expect(Buffer.compare(value, valueOf(key, value.length))).toBe(0);
    }
  });

  it('does not try again', async () => {
    const disk = fullDisk(100);
    const store = library.open({}, disk.files);
    store.put(keyOf(0), valueOf(keyOf(0), 1000));
    const attempts = disk.attempts();
    for (let i = 1; i < 50; i++) store.put(keyOf(i), valueOf(keyOf(i), 10));
    await store.close();
    expect(disk.attempts()).toBe(attempts);
    expect(store.stats()).toMatchObject({ puts: 50, written: 0, refused: 50, writeErrors: 1 });
  });

  it('recognises the part of a record which it could not even cut off', async () => {
    const { files } = fullDisk(600);
    const ftruncateSync = (): never => {
      throw failure('EIO');
    };
    expect(await putAll({ ...files, ftruncateSync })).toMatchObject({ written: 2, writeErrors: 1 });
    const next = library.open();
    expect([...contentOf(next).keys()].sort()).toEqual([keyOf(0), keyOf(1)].sort());
    expect(next.stats().damaged).toBe(1);
  });

  it('loses nothing when there is no room to compact', async () => {
    for (let i = 0; i < 49; i++) {
      const store = library.open();
      store.put(keyOf(i), valueOf(keyOf(i)));
      await store.close();
    }
    library.now += 3600_000;
    const store = library.open({}, fullDisk(50_000).files);
    store.put(keyOf(100), valueOf(keyOf(100)));
    await store.close();
    expect(store.stats()).toMatchObject({ written: 0, writeErrors: 1 });
    expect(contentOf(library.open()).size).toBe(49);
    expect(fs.readdirSync(library.store).filter((name) => !name.endsWith('.blocks'))).toEqual([]);
  });
});

describe('a block store that cannot be written', () => {
  it('is read all the same', async () => {
    await putAll(fs);
    const readOnly: StoreFiles = {
      ...fs,
      openSync: ((file: string, flags: string, mode?: number) => {
        if (flags !== 'r') throw failure('EROFS');
        return fs.openSync(file, flags, mode);
      }) as typeof fs.openSync,
    };
    const store = library.open({}, readOnly);
    expect(contentOf(store).size).toBe(3);
    store.put(keyOf(7), valueOf(keyOf(7)));
    store.put(keyOf(8), valueOf(keyOf(8)));
    await store.close();
    expect(store.stats()).toMatchObject({ entries: 3, written: 0, refused: 2, writeErrors: 1 });
    expect(library.log).toEqual([`warn: The block store "${library.store}" is not written any more (EROFS).`]);
  });

  it.skipIf(process.geteuid === undefined)('is read by a process without the right to write', async () => {
    await putAll(fs);
    const nobody = process.geteuid?.() === 0 ? 65534 : undefined;
    let root = path.resolve(import.meta.dirname, '../..');
    if (nobody !== undefined) {
      // Whoever the process becomes must be able to read the sources: its writer thread loads them only then.
      const copy = path.join(library.directory, 'sources');
      for (const part of ['package.json', 'main/block-store', 'main/debian/cache-directory.ts', 'engine/errors.ts'])
        fs.cpSync(path.join(root, part), path.join(copy, part), { recursive: true });
      root = copy;
      const entries = fs.readdirSync(library.directory, { recursive: true, encoding: 'utf8' });
      for (const entry of ['', ...entries]) fs.chownSync(`${library.directory}/${entry}`, nobody, nobody);
    }
    fs.chmodSync(library.store, 0o500);
    const script = path.join(root, 'main/block-store/fixtures/read-only.ts');
    const user = nobody === undefined ? [] : [String(nobody)];
    const { stdout } = await promisify(execFile)(process.execPath, [script, library.directory, ...user]);
    const answer = JSON.parse(stdout) as { keys: string[] };
    expect(answer.keys.sort()).toEqual([0, 1, 2].map(keyOf).sort());
    expect(answer).toMatchObject({
      log: [`warn: The block store "${library.store}" is not written any more (EACCES).`],
      stats: { puts: 2, written: 0, refused: 2, writeErrors: 1 },
    });
    fs.chmodSync(library.store, 0o700);
  });
});

describe('a block store that cannot be read', () => {
  it('is as good as empty', async () => {
    await putAll(fs);
    let broken = false;
    const readSync = ((...parameters: Parameters<typeof fs.readSync>) => {
      if (broken) throw failure('EIO');
      return fs.readSync(...parameters);
    }) as typeof fs.readSync;
    const files: StoreFiles = { ...fs, readSync };
    const store = library.open({}, files);
    broken = true;
    expect(store.get(keyOf(0))).toBeNull();
    expect(contentOf(store).size).toBe(0);
    expect(store.stats()).toMatchObject({ entries: 2, damaged: 1 });
    expect(contentOf(library.open({}, files)).size).toBe(0);
    broken = false;
    expect(contentOf(library.open({}, files)).size).toBe(3);
  });
});
