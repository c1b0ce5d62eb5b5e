// SPDX-License-Identifier: MIT
// Copies of machine folders: whole, followed, stopped in the middle without leaving anything, and moves between two file systems.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockFile } from '../vm/folder-lock.ts';
import { runLockFile } from '../vm/run-record.ts';
import { copyFile, copyFolder } from './copy-files.ts';
import { Library } from './library.ts';

const MIB = 2 ** 20;
let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-copy-'));
  for (const name of ['from/deep/er', 'to']) fs.mkdirSync(path.join(directory, name), { recursive: true });
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));
const at = (...names: string[]): string => path.join(directory, ...names);

/** Sees to it that bytes are really copied, on file systems that could share them too. */
const unshared = (file: string, bytes: number): void => fs.writeFileSync(file, Buffer.alloc(bytes, 7));

describe('copies', () => {
  it('have files, folders and links, and no pipes', async () => {
    fs.writeFileSync(at('from/a'), 'a');
    fs.writeFileSync(at('from/deep/er/b'), 'b');
    fs.writeFileSync(at('from/skipped'), '');
    fs.symlinkSync('../a', at('from/deep/link'));
    execFileSync('mkfifo', [at('from/pipe')]);
    await copyFolder(at('from'), at('to'), (name) => name === 'skipped');
    expect(fs.readdirSync(at('to'), { recursive: true }).sort()).toEqual([
      'a',
      'deep',
      'deep/er',
      'deep/er/b',
      'deep/link',
    ]);
    expect(fs.readFileSync(at('to/deep/er/b'), 'utf8')).toBe('b');
    expect(fs.readlinkSync(at('to/deep/link'))).toBe('../a');
    await expect(copyFolder(at('from'), at('to'), () => false)).rejects.toMatchObject({ code: 'file-write-failed' });
  });

  it('can be followed and stopped', async () => {
    unshared(at('from/disk'), 20 * MIB);
    const told: number[] = [];
    await copyFile(at('from/disk'), at('to/disk'), { tell: (done, total) => told.push(done / total) });
    expect(fs.statSync(at('to/disk')).size).toBe(20 * MIB);
    // Nothing is told where blocks were shared: it took no time.
    if (told.length > 0) expect([told.length, told.at(-1)]).toEqual([20, 1]);
    const controller = new AbortController();
    const stopped = copyFile(at('from/disk'), at('to/other'), {
      signal: controller.signal,
      tell: (done) => done > 5 * MIB && controller.abort(new Error('stop')),
    });
    if (told.length > 0) await expect(stopped).rejects.toThrow('stop');
  });
});

describe('machines', () => {
  let library: Library;
  const make = async () => {
    library = new Library({
      dataDirectory: at('data'),
      machinesDirectory: () => at('data/machines'),
      guard: () => undefined,
    });
    fs.copyFileSync(path.join(import.meta.dirname, 'testing/machine-v1.json'), at('from/machine.json'));
    unshared(at('from/vmlinuz'), 8 * MIB);
    return library.add(at('from')).machine;
  };
  const stopAtOnce = () => {
    const controller = new AbortController();
    return { signal: controller.signal, tell: () => controller.abort(new Error('stop')) };
  };

  it('a clone that is stopped leaves nothing', async () => {
    const { id } = await make();
    const copying = stopAtOnce();
    copying.tell();
    await expect(library.clone(id, 'copy', at('clone'), copying)).rejects.toThrow('stop');
    expect(fs.existsSync(at('clone'))).toBe(false);
    expect(library.machines()).toHaveLength(1);
    const { machine } = await library.clone(id, 'copy', at('clone'));
    expect(fs.statSync(path.join(machine.folder, 'vmlinuz')).size).toBe(8 * MIB);
    expect(fs.existsSync(path.join(machine.folder, 'deep/er'))).toBe(true);
  });

  it('taking back a change of the kernel takes back what was known of it', async () => {
    const { id, file } = await make();
    const facts = { ...file.kernelFacts!, version: '9.9' };
    library.set(id, { kernel: '/other' }, facts);
    expect(library.get(id).file.kernelFacts).toEqual(facts);
    await library.undo();
    expect(library.get(id).file).toMatchObject({
      kernelFacts: file.kernelFacts,
      configuration: { kernel: at('from/vmlinuz') },
    });
  });

  // Memory is another file system than the disk nearly everywhere; where it is not, there is nothing to test.
  const memory = '/dev/shm';
  const hasOther = fs.existsSync(memory) && fs.statSync(memory).dev !== fs.statSync(os.tmpdir()).dev;
  it.runIf(hasOther)('move between file systems, in one step as seen from outside', async () => {
    const { id, folder } = await make();
    const there = fs.mkdtempSync(path.join(memory, 'pv-copy-'));
    try {
      const place = path.join(there, 'm');
      await expect(library.move(id, place, stopAtOnce())).rejects.toThrow('stop');
      expect(fs.readdirSync(there)).toEqual([]);
      expect(library.get(id).folder).toBe(folder);
      const told: number[] = [];
      const moving = library.move(id, place, { tell: (done, total) => told.push(done / total) });
      // Nobody can start it meanwhile.
      expect(lockFile(runLockFile(folder))).toBeNull();
      const { machine } = await moving;
      expect(machine.folder).toBe(place);
      expect(told.at(-1)).toBe(1);
      expect(fs.existsSync(folder)).toBe(false);
      expect(fs.statSync(path.join(place, 'vmlinuz')).size).toBe(8 * MIB);
      await library.undo();
      expect(library.get(id).folder).toBe(folder);
      expect(fs.readdirSync(there)).toEqual([]);
      // The trash of a machine on another file system is beside it.
      await library.move(id, place);
      library.remove(id);
      expect(fs.readdirSync(there)).toEqual([expect.stringMatching(/^m\.removed-\d+$/)]);
      library.restore(id);
      expect(library.get(id).folder).toBe(place);
      library.remove(id);
      library.emptyTrash();
      expect(fs.readdirSync(there)).toEqual([]);
    } finally {
      fs.rmSync(there, { recursive: true, force: true });
    }
  });
});
