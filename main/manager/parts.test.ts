// SPDX-License-Identifier: MIT
// Smaller parts of the manager: transitions, uploads, tasks, reports.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { redactor } from './report.ts';
import { Tasks } from './tasks.ts';
import { next, notPossible } from './transitions.ts';
import type { Happening } from './transitions.ts';
import { Uploads } from './uploads.ts';
import { makeZip } from './zip-file.ts';

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-parts-'));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));
const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'none';
};

describe('transitions', () => {
  const states = ['off', 'starting', 'running', 'paused', 'crashed'] as const;
  it('allow each verb where it makes sense only', () => {
    const where = (verb: Happening): string[] => states.filter((state) => next(state, verb) !== null);
    expect(where('start')).toEqual(['off', 'crashed']);
    expect(where('pause')).toEqual(['running']);
    expect(where('resume')).toEqual(['paused']);
    expect(where('reset')).toEqual(['running', 'paused']);
    expect(where('dismiss')).toEqual(['crashed']);
    expect(where('ended')).toEqual(['starting', 'running', 'paused']);
    expect(where('crashed')).toEqual(['starting', 'running', 'paused']);
  });
  it('say what to do instead', () => {
    expect(notPossible('web', 'off', 'be paused').message).toBe('The machine "web" is off; it cannot be paused now.');
  });
});

describe('uploads', () => {
  const owner = {};
  it('arrive whole under a harmless name', () => {
    const uploads = new Uploads(directory);
    const id = uploads.begin('..\\..//etc/..passwd', 6, owner);
    uploads.chunk(id, 0, Buffer.from('abc'), owner);
    uploads.chunk(id, 3, Buffer.from('def'), owner);
    const file = uploads.end(id, owner);
    expect(path.dirname(path.dirname(file))).toBe(directory);
    expect(path.basename(file)).toBe('passwd');
    expect(fs.readFileSync(file, 'utf8')).toBe('abcdef');
  });
  it('refuse gaps, too much, too little, and other sessions', () => {
    const uploads = new Uploads(directory);
    const id = uploads.begin('f', 4, owner);
    expect(codeOf(() => uploads.chunk(id, 1, Buffer.from('a'), owner))).toBe('upload-out-of-order');
    expect(codeOf(() => uploads.chunk(id, 0, Buffer.from('abcde'), owner))).toBe('upload-too-large');
    expect(codeOf(() => uploads.end(id, owner))).toBe('upload-out-of-order');
    expect(codeOf(() => uploads.chunk(id, 0, Buffer.from('a'), {}))).toBe('upload-unknown');
    expect(codeOf(() => uploads.begin('f', 1e12, owner))).toBe('upload-too-large');
    uploads.cancelOf(owner);
    expect(codeOf(() => uploads.end(id, owner))).toBe('upload-unknown');
    expect(fs.readdirSync(directory)).toEqual([]);
  });
});

describe('tasks', () => {
  it('tell progress, are cancelled, and have one name each', async () => {
    const told: string[] = [];
    const tasks = new Tasks(({ task, text, done }) => told.push(`${task} ${text} ${done}`));
    const forever = tasks.run('a', (tell, signal) => {
      tell({ text: 'x', done: 1, total: 5, unit: 'steps' });
      tell({ text: 'x', done: 2, total: 5, unit: 'steps' });
      tell({ text: 'x', done: 5, total: 5, unit: 'steps' });
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
    });
    await expect(tasks.run('a', async () => 1)).rejects.toMatchObject({ code: 'task-running' });
    tasks.cancel('a');
    tasks.cancel('unknown');
    await expect(forever).rejects.toMatchObject({ code: 'cancelled' });
    expect(told).toEqual(['a x 1', 'a x 5']);
    expect(await tasks.run('a', async () => 2)).toBe(2);
  });
});

describe('reports', () => {
  it('are zip files that others can read', () => {
    const file = path.join(directory, 'r.zip');
    fs.writeFileSync(
      file,
      makeZip(
        [
          { name: 'ä/b.txt', content: 'x'.repeat(1000) },
          { name: 'empty', content: '' },
        ],
        new Date(),
      ),
    );
    const script =
      'import sys,zipfile;z=zipfile.ZipFile(sys.argv[1]);print(z.testzip(),z.namelist(),len(z.read("ä/b.txt")))';
    expect(execFileSync('python3', ['-c', script, file]).toString()).toBe("None ['ä/b.txt', 'empty'] 1000\n");
  });
  it('name no place of the user’s own, inside the home directory or out of it', () => {
    const places = new Map([
      ['/srv/secret/machines', '<machines>'],
      ['/srv/secret/machines/bank', '<folder of 1>'],
      ['D:\\vault', '<files of 1>'],
    ]);
    const redact = redactor(places, '/home/ann', 'ann', 'annbox');
    expect(redact('/srv/secret/machines/bank/log /srv/secret/machines/x /boot/vmlinuz "D:\\\\vault\\\\kernel"')).toBe(
      '<folder of 1>/log <machines>/x /boot/vmlinuz "<files of 1>\\\\kernel"',
    );
  });
  it('name neither home nor user nor host', () => {
    const redact = redactor(new Map(), '/home/ann', 'ann', 'annbox');
    expect(redact('/home/ann/x /home/anna /media/ann/y "C:\\\\Users\\\\ann" annbox annboxes planning')).toBe(
      '~/x /home/anna /media/USER/y "C:\\\\Users\\\\USER" HOST annboxes planning',
    );
  });
});
