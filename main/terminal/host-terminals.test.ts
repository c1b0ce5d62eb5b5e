// SPDX-License-Identifier: MIT
// Terminals on this computer: who may have one, a real shell in the machine's folder, and what is said where none can be had.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManagerFixture, TestSession } from '../../tests/support/manager.ts';
import { eventually } from '../../tests/support/paravane.ts';
import { noPty, ptyTest } from '../../tests/support/pseudo-terminals.ts';
import type { PvError } from '../../engine/errors.ts';
import { pvError } from '../../engine/errors.ts';
import type { CommandError } from '../contract/wire.ts';
import { Session } from '../manager/session.ts';
import { HostTerminals, userShell } from './host-terminals.ts';

let fixture: ManagerFixture;
beforeEach(() => {
  fixture = new ManagerFixture();
});
afterEach(() => fixture.dispose());

const size = { columns: 90, rows: 20 };
const base64 = (text: string): string => Buffer.from(text).toString('base64');

async function opened({ allowed = true } = {}) {
  const parts = await fixture.open();
  const { machine } = await parts.page.invoke('machine:create', fixture.newMachine('web', 'idle'));
  if (allowed) parts.manager.settings.set({ hostTerminal: true });
  return { ...parts, machine: machine.id, folder: machine.folder };
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (error as CommandError).report.code,
  );

const outputOf = (session: TestSession): string =>
  session
    .payloads('terminal:output')
    .map(({ bytes }) => Buffer.from(bytes, 'base64').toString())
    .join('');

describe('permission', () => {
  it('is not there at first, and everything is refused without it', async () => {
    const { page, machine } = await opened({ allowed: false });
    expect((await page.invoke('settings:get', {})).hostTerminal).toBe(false);
    expect(await codeOf(page.invoke('terminal:attach', { machine }))).toBe('terminal-off');
    expect(await codeOf(page.invoke('terminal:start', { machine, size }))).toBe('terminal-off');
    expect(await codeOf(page.invoke('terminal:input', { machine, bytes: '' }))).toBe('terminal-off');
    expect(await codeOf(page.invoke('terminal:resize', { machine, size }))).toBe('terminal-off');
  });

  it('cannot be given by a page to itself, but by a command line', async () => {
    const { page, gate, manager, machine } = await opened({ allowed: false });
    const allow = { changes: { hostTerminal: true } };
    expect(await codeOf(page.invoke('settings:set', allow))).toBe('terminal-not-from-page');
    expect(manager.settings.get().hostTerminal).toBe(false);
    const answers: string[] = [];
    const command = new Session('command', { send: (text) => answers.push(text), backlog: () => 0, close: () => {} });
    manager.addSession(command);
    await gate.receive(command, JSON.stringify({ id: 1, command: 'settings:set', request: allow }));
    expect(answers.join()).toContain('"hostTerminal":true');
    // What is allowed may be sent along with other changes.
    await page.invoke('settings:set', { changes: { hostTerminal: true, theme: 'dark' } });
    await page.invoke('settings:set', { changes: { hostTerminal: false } });
    expect(await codeOf(page.invoke('terminal:attach', { machine }))).toBe('terminal-off');
  });

  it.skipIf(noPty)(ptyTest('can be taken back by a page, and with it goes the shell'), async () => {
    const { page, machine } = await opened();
    await page.invoke('terminal:start', { machine, size });
    await page.invoke('settings:set', { changes: { hostTerminal: false } });
    await eventually(() => page.payloads('terminal:ended').length === 1, 'the end of the shell');
    expect(await codeOf(page.invoke('terminal:attach', { machine }))).toBe('terminal-off');
  });
});

describe.skipIf(noPty)(ptyTest('a terminal'), () => {
  it('is the user’s shell in the machine’s folder, of the size of the window, in step for all', async () => {
    const { page, gate, manager, machine, folder } = await opened();
    const other = new TestSession(manager, gate);
    expect(await page.invoke('terminal:attach', { machine })).toMatchObject({ shell: null, scrollback: '' });
    await other.invoke('terminal:attach', { machine });
    const { shell } = await page.invoke('terminal:start', { machine, size });
    expect(shell).toMatchObject({ program: userShell().program, directory: folder });
    expect(other.payloads('terminal:started')).toMatchObject([{ machine, shell }]);
    // Starting again is the same shell.
    expect((await other.invoke('terminal:start', { machine, size })).shell.pid).toBe(shell.pid);

    const type = (session: TestSession, text: string) =>
      session.invoke('terminal:input', { machine, bytes: base64(`${text}\r`) });
    await type(page, 'pwd; stty size; echo "$PARAVANE_MACHINE/$PARAVANE_MACHINE_NAME/$NODE_CHANNEL_FD."');
    const words = new RegExp(`${fs.realpathSync(folder)}\\r\\n20 90\\r\\n${machine}/web/\\.`);
    await eventually(() => words.test(outputOf(page)), 'its words');
    await page.invoke('terminal:resize', { machine, size: { columns: 120, rows: 40 } });
    expect(other.payloads('terminal:resized')).toEqual([{ machine, size: { columns: 120, rows: 40 } }]);
    await type(other, 'stty size');
    await eventually(() => /[\r\n]40 120\r\n/.test(outputOf(page)), 'the new size');
    await eventually(() => outputOf(page) === outputOf(other), 'the same in both');

    // A page that is loaded again finds everything.
    const reloaded = new TestSession(manager, gate);
    const attached = await reloaded.invoke('terminal:attach', { machine });
    expect(attached).toMatchObject({ shell: { pid: shell.pid }, size: { columns: 120, rows: 40 } });
    expect(Buffer.from(attached.scrollback, 'base64').toString()).toBe(outputOf(page));

    await type(page, 'exit 7');
    await eventually(() => page.payloads('terminal:ended').length === 1, 'the end');
    expect(page.payloads('terminal:ended')).toEqual([{ machine, exitCode: 7, signal: null }]);
    expect(await codeOf(page.invoke('terminal:input', { machine, bytes: '' }))).toBe('terminal-not-running');
  });

  it('hangs up when it is closed, and when the manager ends', async () => {
    const { page, machine, manager } = await opened();
    const alive = (pid: number): boolean => fs.existsSync(`/proc/${pid}/cmdline`);
    const first = (await page.invoke('terminal:start', { machine, size })).shell.pid;
    await page.invoke('terminal:stop', { machine });
    await eventually(() => !alive(first), 'hung up');
    // Its process is gone before the manager hears of it.
    await eventually(() => page.payloads('terminal:ended').length === 1, 'the end');
    const second = (await page.invoke('terminal:start', { machine, size })).shell.pid;
    expect(second).not.toBe(first);
    manager.close();
    await eventually(() => !alive(second), 'hung up with the manager');
  });

  it('of a machine whose folder is gone starts at home', async () => {
    const { page, machine, folder } = await opened();
    fs.renameSync(folder, `${folder}.elsewhere`);
    const { shell } = await page.invoke('terminal:start', { machine, size });
    expect(shell.directory).toBe(os.homedir());
  });

  it('does not keep its shell alive through a machine that was started meanwhile', async () => {
    const { page, machine } = await opened();
    await page.invoke('terminal:start', { machine, size });
    await page.invoke('machine:start', { machine });
    const { pid } = await page.invoke('machine:get', { machine });
    const open = fs.readdirSync(`/proc/${pid}/fd`).map((name) => {
      try {
        return fs.readlinkSync(`/proc/${pid}/fd/${name}`);
      } catch {
        return '';
      }
    });
    expect(open.filter((target) => target.endsWith('ptmx'))).toEqual([]);
  });
});

it('what cannot be had is said: no node-pty, no shell', async () => {
  const place = { id: 'aaaaaaaa', name: 'web', folder: fixture.directory };
  const nobody = { allowed: () => true, started: () => {}, ended: () => {}, resized: () => {} };
  const missing = new HostTerminals({
    ...nobody,
    load: () => Promise.reject(pvError('pty-missing', { detail: 'node-pty is not installed' })),
  });
  await expect(missing.start(place, size)).rejects.toMatchObject({
    code: 'pty-missing',
    action: expect.stringContaining('npm install') as string,
  });
  const broken = new HostTerminals({
    ...nobody,
    load: () =>
      Promise.resolve({
        native: null,
        spawn: () => {
          throw new Error('out of terminals');
        },
      }),
  });
  const failure = await broken.start(place, size).catch((error: unknown) => error as PvError);
  expect(failure).toMatchObject({
    code: 'terminal-failed',
    message: expect.stringContaining('out of terminals') as string,
  });
});

it.each([
  ['is not there', null, 'node-pty is not installed'],
  [
    'was not compiled',
    "throw new Error('Cannot find module pty.node\\nRequire stack:')",
    'Cannot find module pty.node',
  ],
])('where node-pty %s, the loader says so', (_, library, detail) => {
  const copy = path.join(fixture.directory, 'copy');
  const root = path.resolve(import.meta.dirname, '../..');
  for (const file of ['main/terminal/pty-library.ts', 'engine/errors.ts', 'package.json'])
    fs.cpSync(path.join(root, file), path.join(copy, file));
  if (library !== null) {
    fs.mkdirSync(path.join(copy, 'node_modules/node-pty'), { recursive: true });
    fs.writeFileSync(path.join(copy, 'node_modules/node-pty/index.js'), library);
  }
  const script = `import(${JSON.stringify(pathToFileURL(path.join(copy, 'main/terminal/pty-library.ts')).href)})
    .then((module) => module.loadPtyLibrary())
    .catch(({ code, message, action }) => console.log(JSON.stringify({ code, message, action })))`;
  const { stdout } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
  expect(JSON.parse(stdout)).toEqual({
    code: 'pty-missing',
    message: `Pseudo-terminals are not available: ${detail}.`,
    action: expect.stringContaining('run "npm install"') as string,
  });
});
