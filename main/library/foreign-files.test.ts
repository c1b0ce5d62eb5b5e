// SPDX-License-Identifier: MIT
// Files that somebody else has written: whatever is in machine.json and library.json is read or refused with an error of the table, and folders
// with pipes, links and endless files under our names are refused before they are opened.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PvError } from '../../engine/errors.ts';
import { readRunRecord } from '../vm/read-run-record.ts';
import { readIndex } from './index-file.ts';
import { Library } from './library.ts';
import { parseMachineFile, readMachineFile } from './machine-file.ts';

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-foreign-'));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

const fixture = (name: string): string => path.join(import.meta.dirname, 'testing', name);
const parsed = (name: string): Record<string, unknown> =>
  JSON.parse(fs.readFileSync(fixture(name), 'utf8')) as Record<string, unknown>;

/** The code of the error that `act` throws, which must be one of the table; "none" when it throws nothing. */
function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(PvError);
    return (error as PvError).code;
  }
  return 'none';
}

/** `sample` with some of its values, at any depth, replaced by anything. */
function spoilt(sample: unknown): fc.Arbitrary<unknown> {
  const inside =
    Array.isArray(sample) && sample.length > 0
      ? fc.tuple(...sample.map(spoilt))
      : typeof sample === 'object' && sample !== null && !Array.isArray(sample)
        ? fc.record(Object.fromEntries(Object.entries(sample).map(([key, value]) => [key, spoilt(value)])))
        : fc.constant(sample);
  return fc.oneof({ weight: 12, arbitrary: inside }, { weight: 1, arbitrary: fc.jsonValue() });
}

describe('machine.json', () => {
  const CODES = ['none', 'machine-file-invalid', 'machine-file-newer'];
  it('of any text is read or refused', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(CODES).toContain(codeOf(() => parseMachineFile(text, directory)));
      }),
    );
  });

  it.each(['machine-v1.json', 'machine-v2.json'])('like %s with any values is read or refused', (name) => {
    fc.assert(
      fc.property(spoilt(parsed(name)), (json) => {
        expect(CODES).toContain(codeOf(() => parseMachineFile(JSON.stringify(json), directory)));
      }),
      { numRuns: 500 },
    );
  });

  it('cut off or with any byte changed is read or refused', () => {
    const bytes = fs.readFileSync(fixture('machine-v1.json'));
    fc.assert(
      fc.property(fc.nat({ max: bytes.length - 1 }), fc.nat({ max: 255 }), fc.boolean(), (at, byte, cut) => {
        const changed = Buffer.from(cut ? bytes.subarray(0, at) : bytes);
        if (!cut) changed[at] = byte;
        expect(CODES).toContain(codeOf(() => parseMachineFile(changed.toString('utf8'), directory)));
      }),
      { numRuns: 500 },
    );
  });

  it('does not give its fields to other objects', () => {
    const text = fs
      .readFileSync(fixture('machine-v1.json'), 'utf8')
      .replace('"version": 1,', '"version": 1, "__proto__": {"x": 1},');
    expect(codeOf(() => parseMachineFile(text, directory))).toBe('machine-file-invalid');
    expect(({} as { x?: number }).x).toBeUndefined();
  });

  it('that is a pipe, an endless device or far too large is refused at once', () => {
    const file = path.join(directory, 'machine.json');
    execFileSync('mkfifo', [file]);
    expect(codeOf(() => readMachineFile(directory))).toBe('machine-file-invalid');
    fs.rmSync(file);
    fs.symlinkSync('/dev/zero', file);
    expect(codeOf(() => readMachineFile(directory))).toBe('machine-file-invalid');
    fs.rmSync(file);
    fs.writeFileSync(file, '');
    fs.truncateSync(file, 2 ** 32);
    expect(codeOf(() => readMachineFile(directory))).toBe('machine-file-invalid');
  });
});

describe('library.json', () => {
  const read = (json: unknown): string => {
    fs.writeFileSync(path.join(directory, 'library.json'), typeof json === 'string' ? json : JSON.stringify(json));
    return codeOf(() => readIndex(directory));
  };

  it('of every version is read', () => {
    expect(read(parsed('library-v1.json'))).toBe('none');
    const { undo, trash } = readIndex(directory);
    expect([undo.length, trash.length]).toEqual([6, 1]);
  });

  it('with anything in it is read or refused', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => void expect(['none', 'library-file-invalid']).toContain(read(text)))); // prettier-ignore
    fc.assert(
      fc.property(spoilt(parsed('library-v1.json')), (json) => {
        expect(['none', 'library-file-invalid']).toContain(read(json));
      }),
      { numRuns: 300 },
    );
  });

  it('refuses a step that would take back something else than it says', () => {
    const index = parsed('library-v1.json') as { undo: { request: object }[] };
    index.undo[0].request = { machine: '0a1b2c3d', folder: '/etc' };
    expect(read(index)).toBe('library-file-invalid');
  });
});

describe('a folder from elsewhere', () => {
  let folder: string;
  let library: Library;
  beforeEach(() => {
    folder = path.join(directory, 'foreign');
    fs.mkdirSync(path.join(folder, 'logs'), { recursive: true });
    fs.copyFileSync(fixture('machine-v1.json'), path.join(folder, 'machine.json'));
    const dataDirectory = path.join(directory, 'data');
    library = new Library({ dataDirectory, machinesDirectory: () => directory, guard: () => undefined });
  });
  const at = (name: string): string => path.join(folder, name);

  it('that is in order is taken', () => {
    expect(library.add(folder).machine.file.configuration.name).toBe('web');
  });

  it.each<[string, () => void]>([
    ['a pipe as its record', () => execFileSync('mkfifo', [at('run.json')])],
    ['a link as its history', () => fs.symlinkSync('/etc/passwd', at('history.ring'))],
    ['a link as its log', () => fs.symlinkSync('/etc/passwd', at('logs/machine.log'))],
    ['a folder as its events', () => fs.mkdirSync(at('events.jsonl'))],
    ['a database as its lock', () => fs.writeFileSync(at('run.lock'), 'SQLite format 3\0')],
    ['endless events', () => (fs.writeFileSync(at('events.jsonl'), ''), fs.truncateSync(at('events.jsonl'), 2 ** 33))],
    ['a link as its logs', () => (fs.rmdirSync(at('logs')), fs.symlinkSync('/etc', at('logs')))],
  ])('with %s is refused', (_what, spoil) => {
    spoil();
    expect(codeOf(() => library.add(folder))).toBe('folder-unusable');
    expect(library.machines()).toEqual([]);
  });

  it('with any record of a run can be looked at', () => {
    const record = {
      version: 1,
      pid: 5,
      startedAt: 1,
      machine: {
        name: 'web',
        kernel: '/k',
        commandLine: '',
        memoryBytes: 2 ** 26,
        mfnOrder: 'offset',
        onReboot: 'exit',
      },
      endedAt: 2,
      outcome: { kind: 'crash', reason: 'x' },
      instructions: 3,
    };
    fc.assert(
      fc.property(fc.oneof(spoilt(record), fc.jsonValue()), (json) => {
        fs.writeFileSync(at('run.json'), JSON.stringify(json));
        const read = readRunRecord(folder);
        if (read !== null) expect(typeof read.startedAt).toBe('number');
        if (read?.outcome) expect(typeof read.outcome.kind).toBe('string');
      }),
      { numRuns: 300 },
    );
  });
});
