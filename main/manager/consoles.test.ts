// SPDX-License-Identifier: MIT
// Consoles that several look at: who is heard, who may hold up a guest and for how long, and the console as a device for other programs.
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManagerFixture, TestSession } from '../../tests/support/manager.ts';
import { eventually } from '../../tests/support/paravane.ts';
import { noPty, ptyTest } from '../../tests/support/pseudo-terminals.ts';
import { ConsoleFeed } from './console-feed.ts';
import { Session } from './session.ts';
import { piecesOf } from './typing.ts';

let fixture: ManagerFixture;
beforeEach(() => {
  fixture = new ManagerFixture();
});
afterEach(() => fixture.dispose());

async function running(commandLine: string) {
  const opened = await fixture.open();
  const { machine } = await opened.page.invoke('machine:create', fixture.newMachine('web', commandLine));
  await opened.page.invoke('machine:start', { machine: machine.id });
  return { ...opened, machine: machine.id, other: new TestSession(opened.manager, opened.gate) };
}

const soon = (value: () => Promise<unknown>) => expect.poll(value, { timeout: 5000, interval: 20 });
const base64 = (text: string): string => Buffer.from(text).toString('base64');

describe('what a terminal says by itself', () => {
  it('is taken from the window that is worked in, and from no other', async () => {
    const { page, other, machine } = await running('idle');
    await page.attach(machine);
    await other.attach(machine);
    // The latest to come leads until somebody types.
    await page.invoke('console:input', { machine, bytes: base64('(page)'), answer: true });
    await other.invoke('console:input', { machine, bytes: base64('(other)'), answer: true });
    await page.invoke('console:input', { machine, bytes: base64('typed') });
    await page.invoke('console:input', { machine, bytes: base64('(page again)'), answer: true });
    await other.invoke('console:input', { machine, bytes: base64('(other again)'), answer: true });
    page.session.gone();
    await other.invoke('console:input', { machine, bytes: base64('(left alone)'), answer: true });
    await eventually(() => other.output().endsWith('(left alone)'), 'all is echoed');
    expect(other.output()).toMatch(/\(other\)typed\(page again\)\(left alone\)$/);
    expect(other.output()).not.toContain('(page)');
  });
});

describe('a reader that does not read', () => {
  const reader = (backlog: () => number): Session =>
    new Session('page', { send: () => undefined, backlog, close: () => undefined });

  it('holds the guest for a moment, and then loses output instead', async () => {
    const holds: boolean[] = [];
    let backlog = 1e9;
    const session = reader(() => backlog);
    const feed = new ConsoleFeed('aaaaaaaa', (hold) => holds.push(hold), 'console:output', 100);
    feed.attach(session);
    const write = (): void => feed.append(new Uint8Array(50_000));
    for (let i = 0; i < 4; i++) write();
    expect(holds).toEqual([true]);
    await eventually(() => holds.length === 2, 'given up');
    for (let i = 0; i < 10; i++) write();
    expect(holds, 'held once only').toEqual([true, false]);
    // It comes back to life: from then on it is waited for again.
    backlog = 0;
    feed.drained(session);
    backlog = 1e9;
    for (let i = 0; i < 4; i++) write();
    expect(holds).toEqual([true, false, true]);
    feed.detach(session);
    expect(holds).toEqual([true, false, true, false]);
  });

  it('in a console of a library machine is passed over, and told so', async () => {
    const { page, machine } = await running('idle');
    await page.attach(machine);
    const child = spawn(process.execPath, ['main/cli/paravane.js', 'console', machine]);
    let errors = '';
    child.stderr.on('data', (bytes: Buffer) => (errors += bytes.toString()));
    try {
      await new Promise((resolve) => child.stdout.once('data', resolve));
      // From here on nobody reads the command's pipe.
      child.stdout.pause();
      const line = base64('x'.repeat(49_999) + '\n');
      for (let i = 0; i < 60; i++) await page.invoke('console:input', { machine, bytes: line });
      await page.invoke('console:input', { machine, bytes: base64('the end') });
      await eventually(() => page.output().endsWith('the end'), 'the guest goes on', 20_000);
      child.stdout.resume();
      await eventually(() => /bytes of output are missing here/.test(errors), 'it is told', 10_000);
    } finally {
      child.kill('SIGKILL');
    }
  }, 40_000);
});

describe.skipIf(noPty)(ptyTest('the console as a pseudo-terminal'), () => {
  it('comes and goes with the setting, is found by the next manager, and is in step', async () => {
    const { page, machine, manager } = await running('idle');
    await page.attach(machine);
    expect((await page.invoke('machine:get', { machine })).consolePty).toBeNull();
    await page.invoke('machine:set', { machine, changes: { consolePty: true } });
    const path = async (): Promise<string | null> => (await page.invoke('machine:get', { machine })).consolePty;
    await soon(path).not.toBeNull();
    const device = (await path())!;
    const program = spawn('cat', [device], { stdio: ['ignore', 'pipe', 'ignore'] });
    let seen = '';
    program.stdout.on('data', (bytes: Buffer) => (seen += bytes.toString()));
    fs.writeFileSync(device, 'from outside ');
    await eventually(() => seen.endsWith('from outside '), 'the program is heard');
    await page.invoke('console:input', { machine, bytes: base64('and inside') });
    await eventually(() => seen.endsWith('from outside and inside'), 'the program sees both');
    await eventually(() => page.output().endsWith('from outside and inside'), 'and so does the page');

    // The VM process keeps it while managers change.
    manager.close();
    const next = await fixture.open();
    const again = async () => (await next.page.invoke('machine:get', { machine })).consolePty;
    await soon(again).toBe(device);
    await next.page.invoke('machine:set', { machine, changes: { consolePty: false } });
    await soon(again).toBeNull();
    await eventually(() => program.exitCode !== null || program.signalCode !== null, 'its reader is told');
    await next.page.invoke('library:undo', {});
    await soon(again).not.toBeNull();
    await next.page.invoke('machine:stop', { machine, how: 'force' });
    expect(await again()).toBeNull();
  }, 20_000);
});

describe('typed text', () => {
  it('is cut at the ends of lines, never inside a character', () => {
    const pieces = piecesOf('ab\r\nc\n' + 'ä'.repeat(20));
    expect(pieces.map((piece) => piece.join(''))).toEqual(['ab\r', 'c\r', 'ä'.repeat(16), 'ä'.repeat(4)]);
    expect(piecesOf('')).toEqual([]);
  });

  it('waits while the guest takes nothing', async () => {
    const { page, machine } = await running('idle');
    await page.attach(machine);
    await page.invoke('settings:set', { changes: { console: { ...(await page.invoke('settings:get', {})).console, typingSpeed: 10_000 } } }); // prettier-ignore
    await page.invoke('machine:pause', { machine });
    const typing = page.invoke('console:type', { machine, text: 'x'.repeat(100), task: 't' });
    await new Promise((resolve) => setTimeout(resolve, 300));
    // One piece is under way, and nobody claims more.
    expect(page.payloads('task:progressed')).toEqual([]);
    await page.invoke('machine:resume', { machine });
    await typing;
    await eventually(() => page.output().endsWith('x'.repeat(100)), 'all arrived');
    expect(page.payloads('task:progressed').at(-1)).toMatchObject({ done: 100, total: 100 });
  });
});
