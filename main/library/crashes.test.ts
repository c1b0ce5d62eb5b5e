// SPDX-License-Identifier: MIT
// The computer stops at any call, and at any byte of a write, of every change of the library, with and without its power being cut. Afterwards
// each machine is as before or as after the change, nothing is lost, and the library goes on.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { MachineConfiguration } from '../contract/machine.ts';
import { isJournalOpen } from './journal.ts';
import { Library } from './library.ts';
import { CrashingDisk } from './testing/crashing-disk.ts';
import type { CrashPoint } from './testing/crashing-disk.ts';

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-crash-'));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

const configuration = (name: string): MachineConfiguration => ({
  name,
  kind: 'pv',
  kernel: path.join(directory, 'kernel'),
  initrd: null,
  commandLine: 'quiet',
  memoryBytes: 2 ** 26,
  vcpus: 1,
  onReboot: 'restart',
  mfnOrder: 'offset',
  tags: ['tag'],
  notes: 'note',
  autostart: false,
  consolePty: false,
});

const A = 'aaaaaaaa';
const B = 'bbbbbbbb';
const data = (): string => path.join(directory, 'data');
const open = (): Library =>
  new Library({
    dataDirectory: data(),
    machinesDirectory: () => path.join(data(), 'machines'),
    guard: () => undefined,
  });

/** A library with two machines, one of them with a disk, written as it would be on disk. */
function prepare(): void {
  fs.rmSync(directory, { recursive: true, force: true });
  for (const [id, name] of [
    [A, 'one'],
    [B, 'two'],
  ]) {
    // prettier-ignore
    const folder = path.join(data(), 'machines', name);
    fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(folder, 'disk'), `disk of ${name}`);
    const { kernel: _, ...rest } = configuration(name);
    const file = { version: 2, id, created: 1, ...rest, kernel: '/boot/vmlinuz', kernelFacts: null };
    fs.writeFileSync(path.join(folder, 'machine.json'), JSON.stringify(file));
  }
  const machines = [[A, 'one'], [B, 'two']].map(([id, name]) => ({ id, folder: path.join(data(), 'machines', name) })); // prettier-ignore
  fs.writeFileSync(path.join(data(), 'library.json'), JSON.stringify({ version: 1, machines, trash: [], undo: [] }));
}

/** Everything the user has, in a form that can be compared; folders are named from `directory` on. */
function snapshot(library: Library): string {
  const relative = (folder: string): string => path.relative(directory, folder).replace(/\d{10,}/, 'TIME');
  const machines = library.machines().map(({ id, folder, file, problem }) => ({
    id,
    folder: relative(folder),
    configuration: file.configuration,
    problem: problem?.code,
    disk: fs.existsSync(path.join(folder, 'disk')) ? fs.readFileSync(path.join(folder, 'disk'), 'utf8') : null,
  }));
  const trash = library.trash().map(({ id, name }) => ({ id, name }));
  return JSON.stringify({ machines, trash }, null, 1);
}

const elsewhere = (): string => path.join(directory, 'moved', 'here');

/** Each change with what comes before it. */
const changes: Record<string, { before?: (library: Library) => unknown; change: (library: Library) => unknown }> = {
  rename: { change: (library) => library.set(A, { name: 'new name' }) },
  set: { change: (library) => library.set(A, { notes: 'x'.repeat(300), memoryBytes: 2 ** 27 }) },
  order: { change: (library) => library.order([B]) },
  move: { change: (library) => library.move(A, elsewhere()) },
  'remove to the trash': { change: (library) => library.remove(A) },
  'restore from the trash': { before: (library) => library.remove(A), change: (library) => library.restore(A) },
  'restore beside another': {
    before: (library) => {
      library.remove(A);
      library.set(B, { name: 'one' });
    },
    change: (library) => library.restore(A),
  },
  'undo of a move': { before: (library) => library.move(A, elsewhere()), change: (library) => library.undo() },
  'undo of a removal': { before: (library) => library.remove(A), change: (library) => library.undo() },
  'undo of a change': { before: (library) => library.set(A, { notes: 'y' }), change: (library) => library.undo() },
};

/** Prepares, changes until the crash, and returns what the next program finds. */
async function crash(
  name: string,
  point: CrashPoint | null,
  power: boolean,
): Promise<{ disk: CrashingDisk; found: string }> {
  prepare();
  const { before, change } = changes[name];
  const library = open();
  await before?.(library);
  const disk = new CrashingDisk(point);
  await disk.run(() => change(library));
  if (power) disk.cutPower();
  return { disk, found: snapshot(open()) };
}

describe.each(Object.keys(changes))('%s', (name) => {
  it.each([false, true])('is done or not done, whatever call it is stopped at (power cut: %s)', async (power) => {
    prepare();
    const untouched = open();
    await changes[name].before?.(untouched);
    const old = snapshot(open());
    const { disk: whole, found: done } = await crash(name, null, false);
    expect(done).not.toBe(old);
    expect(whole.calls.length).toBeGreaterThan(5);
    const seen = new Set<string>();
    for (let call = 0; call < whole.calls.length; call++) {
      const { bytes } = whole.calls[call];
      const lengths = bytes === 0 ? [undefined] : [0, Math.floor(bytes / 2), bytes];
      for (const length of lengths) {
        const point = { call, ...(length !== undefined && { bytes: length }) };
        const { disk, found } = await crash(name, point, power);
        const where = `stopped in "${whole.calls[call].what}" (call ${call}, byte ${length ?? 0})`;
        expect(disk.crashed, where).toBe(true);
        expect([old, done], where).toContain(found);
        seen.add(found);
        // And the library goes on, with nothing half done left behind.
        const library = open();
        library.order([B, A].filter((id) => library.machines().some((machine) => machine.id === id)));
        expect(isJournalOpen(data()), where).toBe(false);
        for (const { folder } of library.machines()) expect(fs.existsSync(path.join(folder, 'disk')), where).toBe(true);
      }
    }
    // When the last call is the one that flushes, a power cut leaves nothing of the change.
    expect([...seen]).toEqual(power && !seen.has(done) ? [old] : [old, done]);
  });
});

it('at any byte of machine.json, the former content or the new one is there', async () => {
  const { disk: whole, found: done } = await crash('set', null, false);
  const call = whole.calls.findIndex(({ what }) => what.startsWith('write machine.json'));
  prepare();
  const old = snapshot(open());
  for (let bytes = 0; bytes <= whole.calls[call].bytes; bytes++) {
    for (const power of [false, true]) expect((await crash('set', { call, bytes }, power)).found).toBe(old);
  }
  expect(done).not.toBe(old);
});

it('emptying the trash that was interrupted is finished by the next program', async () => {
  const emptied = async (point: CrashPoint | null): Promise<CrashingDisk> => {
    prepare();
    const library = open();
    library.remove(A);
    const disk = new CrashingDisk(point);
    await disk.run(() => library.emptyTrash());
    return disk;
  };
  const whole = await emptied(null);
  for (let call = 0; call < whole.calls.length; call++) {
    await emptied({ call });
    const library = open();
    const listed = library.trash().map(({ id }) => id);
    const left = fs.readdirSync(path.join(data(), 'trash'));
    // Still there as a whole, or gone as a whole.
    expect(left.length).toBe(listed.length);
    if (listed.length > 0) {
      library.restore(A);
      expect(fs.readFileSync(path.join(library.get(A).folder, 'disk'), 'utf8')).toBe('disk of one');
    }
  }
});
