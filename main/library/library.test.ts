// SPDX-License-Identifier: MIT
// The library on disk: every verb and its way back, damaged files, foreign file systems' worth of refusals, two programs at once.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { MachineConfiguration } from '../contract/machine.ts';
import { lockFile } from '../vm/folder-lock.ts';
import { runLockFile } from '../vm/run-record.ts';
import { Library } from './library.ts';
import { migrate, readMachineFile, writeMachineFile } from './machine-file.ts';

let directory: string;
let library: Library;
const data = (): string => path.join(directory, 'data');
const open = (): Library =>
  new Library({
    dataDirectory: data(),
    machinesDirectory: () => path.join(data(), 'machines'),
    guard: () => undefined,
  });

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-library-'));
  fs.writeFileSync(path.join(directory, 'kernel'), 'kernel');
  library = open();
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

const configuration = (name: string): MachineConfiguration => ({
  name,
  kind: 'pv',
  kernel: path.join(directory, 'kernel'),
  initrd: null,
  commandLine: '',
  memoryBytes: 2 ** 26,
  vcpus: 1,
  onReboot: 'restart',
  mfnOrder: 'offset',
  tags: [],
  notes: '',
  autostart: false,
  consolePty: false,
});
const create = async (name: string, copyFiles = false) =>
  (await library.create({ configuration: configuration(name), kernelFacts: null, copyFiles })).machine;
const names = (of = library): string[] => of.machines().map(({ file }) => file.configuration.name);
const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'none';
};

describe('machines', () => {
  it('are made in folders named after them, and are there for another program', async () => {
    const machine = await create('My machine 1');
    expect(path.basename(machine.folder)).toBe('My-machine-1');
    expect(names(open())).toEqual(['My machine 1']);
    const place = path.join(directory, 'elsewhere');
    const { machine: other } = await library.create({
      configuration: configuration('b'),
      kernelFacts: null,
      folder: place,
    });
    expect(other.folder).toBe(place);
  });

  it('need free names and new folders', async () => {
    await create('web');
    await expect(create('WEB')).rejects.toMatchObject({ code: 'machine-name-taken' });
    const request = { configuration: configuration('b'), kernelFacts: null };
    await expect(library.create({ ...request, folder: directory })).rejects.toMatchObject({ code: 'folder-not-empty' });
    await expect(library.create({ ...request, folder: 'relative' })).rejects.toMatchObject({
      code: 'path-not-absolute',
    });
    const inFile = path.join(directory, 'kernel', 'sub');
    await expect(library.create({ ...request, folder: inFile })).rejects.toMatchObject({ code: 'folder-unusable' });
    expect(names()).toEqual(['web']);
  });

  it('leave nothing behind when a file cannot be copied', async () => {
    const request = {
      configuration: { ...configuration('b'), kernel: '/nonexistent' },
      kernelFacts: null,
      copyFiles: true,
    };
    await expect(library.create(request)).rejects.toMatchObject({ code: 'file-write-failed' });
    expect(fs.readdirSync(path.join(data(), 'machines'))).toEqual([]);
  });

  it('with files of their own can be moved and cloned', async () => {
    const { id, folder } = await create('web', true);
    expect(JSON.parse(fs.readFileSync(path.join(folder, 'machine.json'), 'utf8')).kernel).toBe('kernel');
    const place = path.join(directory, 'new', 'place');
    const { machine: moved } = await library.move(id, place);
    expect(moved.file.configuration.kernel).toBe(path.join(place, 'kernel'));
    expect(fs.existsSync(folder)).toBe(false);
    const { machine: copy } = await library.clone(id, 'copy');
    expect(copy.file.configuration.kernel).toBe(path.join(copy.folder, 'kernel'));
    expect(copy.id).not.toBe(id);
    await expect(library.move(id, copy.folder)).rejects.toMatchObject({ code: 'folder-not-empty' });
  });

  it('that run somewhere are left where they are', async () => {
    const { id, folder } = await create('web');
    const lock = lockFile(runLockFile(folder))!;
    await expect(library.move(id, path.join(directory, 'x'))).rejects.toMatchObject({ code: 'machine-locked' });
    expect(codeOf(() => library.remove(id))).toBe('machine-locked');
    lock.release();
    library.remove(id);
    expect(names()).toEqual([]);
  });

  it('can be added from a folder, under a new identifier if need be', async () => {
    const { id, folder } = await create('web');
    expect(codeOf(() => library.add(folder))).toBe('folder-in-library');
    expect(codeOf(() => library.add(directory))).toBe('folder-not-machine');
    const copy = path.join(directory, 'copy');
    fs.cpSync(folder, copy, { recursive: true });
    expect(codeOf(() => library.add(copy))).toBe('machine-name-taken');
    library.set(id, { name: 'other' });
    expect(library.add(copy).machine.id).not.toBe(id);
  });
});

describe('undo', () => {
  it('takes back each verb, latest first', async () => {
    const a = await create('a');
    await create('b');
    library.set(a.id, { name: 'c' });
    library.set(a.id, { notes: 'note', memoryBytes: 2 ** 27 });
    const place = path.join(directory, 'm');
    await library.move(a.id, place);
    library.order([library.machines()[1].id]);
    library.remove(a.id);
    expect(names()).toEqual(['b']);

    expect((await library.undo()).label).toBe('Removed "c"');
    expect(names()).toEqual(['b', 'c']);
    await library.undo();
    expect(names()).toEqual(['c', 'b']);
    await library.undo();
    expect(library.get(a.id).folder).toBe(a.folder);
    await library.undo();
    expect(library.get(a.id).file.configuration).toMatchObject({ notes: '', memoryBytes: 2 ** 26 });
    await library.undo();
    expect(names()).toEqual(['a', 'b']);
    await library.undo();
    await library.undo();
    expect(names()).toEqual([]);
    await expect(library.undo()).rejects.toMatchObject({ code: 'undo-nothing' });
    expect(library.trash().map(({ name }) => name)).toEqual(['b', 'a']);
  });

  it('works from another program and for a step that is not the latest', async () => {
    const a = await create('a');
    const { undo } = library.set(a.id, { name: 'b' });
    library.set(a.id, { notes: 'n' });
    await open().undo(undo.id);
    expect(names()).toEqual(['a']);
    expect(library.get(a.id).file.configuration.notes).toBe('n');
    await expect(library.undo(undo.id)).rejects.toMatchObject({ code: 'undo-unknown' });
  });

  it('keeps a bounded number of steps and still takes back the latest', async () => {
    const { id } = await create('a');
    for (let n = 0; n < 40; n++) library.set(id, { notes: String(n) });
    for (let n = 38; n >= 10; n--) {
      await library.undo();
      expect(library.get(id).file.configuration.notes).toBe(String(n));
    }
  });
});

describe('the trash', () => {
  it('gives back a machine beside what has taken its place and name', async () => {
    const { id, folder } = await create('web');
    library.remove(id);
    const second = await create('web');
    expect(second.folder).toBe(folder);
    expect(library.restore(id)).toMatchObject({ folder: `${folder}-2`, file: { configuration: { name: 'web 2' } } });
  });

  it('is emptied for good', async () => {
    const { id } = await create('web');
    library.remove(id);
    expect(library.emptyTrash()).toEqual([id]);
    expect(fs.readdirSync(path.join(data(), 'trash'))).toEqual([]);
    expect(codeOf(() => library.restore(id))).toBe('machine-unknown');
    await expect(library.undo()).rejects.toMatchObject({ code: 'undo-nothing' });
  });
});

describe('machine.json', () => {
  it('refuses unknown fields by name, and the machine stays in sight', async () => {
    const { id, folder } = await create('web');
    const file = path.join(folder, 'machine.json');
    fs.writeFileSync(file, JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), colour: 'red' }));
    const { problem } = library.get(id);
    expect(problem?.code).toBe('machine-file-invalid');
    expect(problem?.message).toContain('there is no field "colour"');
    expect(codeOf(() => library.set(id, { notes: 'x' }))).toBe('machine-file-invalid');
    fs.writeFileSync(file, '{');
    expect(library.get(id).problem?.message).toContain('it is not JSON');
  });

  it('a damaged one is described by its copy', async () => {
    const { id, folder } = await create('web');
    library.set(id, { notes: 'second' });
    fs.writeFileSync(path.join(folder, 'machine.json'), '');
    expect(library.get(id).file.configuration.name).toBe('web');
  });

  it('of every version can be read', () => {
    const fixtures = fs
      .readdirSync(path.join(import.meta.dirname, 'testing'))
      .filter((name) => /^machine-.*json$/.test(name));
    expect(fixtures).toEqual(['machine-v1.json', 'machine-v2.json']);
    for (const fixture of fixtures) {
      fs.copyFileSync(path.join(import.meta.dirname, 'testing', fixture), path.join(directory, 'machine.json'));
      const file = readMachineFile(directory);
      expect(file.configuration).toMatchObject({
        name: 'web',
        kernel: path.join(directory, 'vmlinuz'),
        tags: ['test'],
        consolePty: fixture === 'machine-v2.json',
      });
      writeMachineFile(directory, file);
      expect(readMachineFile(directory)).toEqual(file);
    }
  });

  it('is migrated step by step, and one from the future is refused', () => {
    const steps = {
      1: ({ old, ...rest }: Record<string, unknown>) => ({ ...rest, new: old }),
      2: (file: object) => ({ ...file, more: 1 }),
    };
    expect(migrate({ version: 1, old: 5 }, 'f', 3, steps)).toEqual({ version: 3, new: 5, more: 1 });
    expect(codeOf(() => migrate({ version: 4 }, 'f', 3, steps))).toBe('machine-file-newer');
    for (const version of [undefined, 0, 1.5, '1'])
      expect(codeOf(() => migrate({ version }, 'f', 3, steps))).toBe('machine-file-invalid');
  });
});

it('a damaged index is refused, not overwritten', async () => {
  await create('web');
  fs.writeFileSync(path.join(data(), 'library.json'), '{"version":1,"machines":[]}');
  expect(codeOf(open)).toBe('library-file-invalid');
  expect(codeOf(() => library.order([]))).toBe('library-file-invalid');
});

it('waits for another program that is changing the library, but not for ever', async () => {
  const lock = lockFile(path.join(data(), 'library.lock'))!;
  expect(codeOf(() => library.order([]))).toBe('library-busy');
  lock.release();
  library.order([]);
}, 10_000);
