// SPDX-License-Identifier: MIT
// The manager with real VM processes and the fake machine: verbs, deaths, consoles, restarts, two managers.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManagerFixture, TestSession } from '../../tests/support/manager.ts';
import { eventually } from '../../tests/support/paravane.ts';
import { CommandError } from '../contract/wire.ts';

let fixture: ManagerFixture;
beforeEach(() => {
  fixture = new ManagerFixture();
});
afterEach(() => fixture.dispose());

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error: unknown) => {
      if (error instanceof CommandError) return error.report.code;
      throw error;
    },
  );
}

async function make(page: TestSession, commandLine: string, name = 'web'): Promise<string> {
  return (await page.invoke('machine:create', fixture.newMachine(name, commandLine))).machine.id;
}

const stateOf = async (page: TestSession, machine: string) =>
  (await page.invoke('machine:get', { machine })).summary.state;

describe('verbs', () => {
  it('start, pause, resume, reset and stop a guest, and tell of each', async () => {
    const { page } = await fixture.open();
    const machine = await make(page, 'idle');
    expect((await page.invoke('machine:start', { machine })).state).toBe('running');
    expect((await page.invoke('machine:pause', { machine })).state).toBe('paused');
    expect((await page.invoke('machine:resume', { machine })).state).toBe('running');
    expect((await page.invoke('machine:reset', { machine })).state).toBe('running');
    await page.invoke('machine:stop', { machine, how: 'ask' });
    await eventually(() => page.payloads('machine:stopped').length === 1, 'stopped');
    expect(await stateOf(page, machine)).toBe('off');
    for (const event of ['machine:started', 'machine:paused', 'machine:resumed', 'machine:reset'] as const)
      expect(page.payloads(event), event).toHaveLength(1);
    const kinds = page.payloads('machine:happened').map(({ event }) => event.kind);
    expect(kinds).toEqual(['created', 'started', 'paused', 'resumed', 'reset', 'stopped']);
    // And again at once.
    expect((await page.invoke('machine:start', { machine })).state).toBe('running');
    expect((await page.invoke('machine:stop', { machine, how: 'force' })).state).toBe('off');
  });

  it('are refused where the table has no way', async () => {
    const { page } = await fixture.open();
    const machine = await make(page, 'idle');
    expect(await codeOf(page.invoke('machine:pause', { machine }))).toBe('machine-state');
    expect(await codeOf(page.invoke('machine:dismiss', { machine }))).toBe('machine-state');
    expect(await codeOf(page.invoke('console:input', { machine, bytes: '' }))).toBe('console-not-running');
    await page.invoke('machine:start', { machine });
    expect(await codeOf(page.invoke('machine:start', { machine }))).toBe('machine-state');
    expect(await codeOf(page.invoke('machine:resume', { machine }))).toBe('machine-state');
    expect(await codeOf(page.invoke('machine:remove', { machine }))).toBe('machine-state');
    expect(await codeOf(page.invoke('machine:move', { machine, folder: path.join(fixture.directory, 'm') }))).toBe(
      'machine-state',
    );
    expect(await codeOf(page.invoke('machine:start', { machine: '00000000' }))).toBe('machine-unknown');
  });

  it('pausing stops the guest and its clock', async () => {
    const { page } = await fixture.open();
    const machine = await make(page, 'clock');
    await page.invoke('machine:start', { machine });
    await page.attach(machine);
    await eventually(() => /clock \d+/.test(page.output()), 'ticks');
    await page.invoke('machine:pause', { machine });
    const before = page.output();
    await new Promise((resolve) => setTimeout(resolve, 1200));
    expect(page.output()).toBe(before);
    await page.invoke('machine:resume', { machine });
    await eventually(() => page.output().length > before.length + 20, 'ticks again');
    const ticks = [...page.output().matchAll(/clock (\d+)/g)].map(([, ms]) => Number(ms));
    const jumps = ticks.slice(1).map((ms, i) => ms - ticks[i]);
    expect(Math.max(...jumps)).toBeLessThan(700);
  });

  it('a guest that does not listen is ended by force, one that hangs too', async () => {
    const { page } = await fixture.open();
    for (const does of ['spin deaf', 'hang']) {
      const machine = await make(page, does, does);
      await page.invoke('machine:start', { machine });
      await page.invoke('machine:stop', { machine, how: 'ask' });
      expect((await page.invoke('machine:stop', { machine, how: 'force' })).state).toBe('off');
    }
  });

  it('why a guest could not be started is said, and the machine is off', async () => {
    const { page } = await fixture.open();
    const machine = await make(page, 'refuse');
    expect(await codeOf(page.invoke('machine:start', { machine }))).toBe('file-missing');
    const { summary } = await page.invoke('machine:get', { machine });
    expect(summary).toMatchObject({ state: 'off', problem: { code: 'file-missing' } });
  });
});

it('a machine has one guest, and one more after a reset', async () => {
  const { page } = await fixture.open();
  const file = path.join(fixture.directory, 'made');
  const machine = await make(page, `count=${file} idle`);
  await page.invoke('machine:start', { machine });
  await page.attach(machine);
  await eventually(() => page.output().includes('fake web'), 'its output');
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(fs.readFileSync(file, 'utf8')).toBe('+');
  await page.invoke('machine:reset', { machine });
  expect(fs.readFileSync(file, 'utf8')).toBe('++');
});

describe('ends', () => {
  it('what a guest says that ends at once is not lost', async () => {
    const { page } = await fixture.open();
    for (const [does, state] of [
      ['lines=3 poweroff', 'off'],
      ['lines=3 crash=oops', 'crashed'],
    ]) {
      // prettier-ignore
      const machine = await make(page, does, does);
      await page.invoke('machine:start', { machine }).catch(() => undefined);
      await eventually(() => page.payloads('machine:happened').some(({ event, ...of }) => of.machine === machine && ['stopped', 'crashed'].includes(event.kind)), 'ended'); // prettier-ignore
      expect(await stateOf(page, machine)).toBe(state);
      const { scrollback } = await page.invoke('console:scrollback', { machine });
      expect(Buffer.from(scrollback, 'base64').toString()).toMatch(/^fake .*\nline 0\nline 1\nline 2\n$/);
    }
  });

  it('a guest that powers off by itself at once has been started all the same', async () => {
    const { page } = await fixture.open();
    const machine = await make(page, 'poweroff');
    await page.invoke('machine:start', { machine });
    await eventually(() => page.payloads('machine:stopped').length === 1, 'stopped');
    expect(page.payloads('machine:stopped')[0].outcome).toEqual({ kind: 'poweroff', text: '', error: null });
  });

  it('a crash is kept until it is dismissed, by the next manager too', async () => {
    const first = await fixture.open();
    const machine = await make(first.page, 'lines=3 crash=oops');
    await first.page.invoke('machine:start', { machine });
    await eventually(() => first.page.payloads('machine:crashed').length === 1, 'crashed');
    expect(first.page.payloads('machine:crashed')[0].error).toMatchObject({
      code: 'guest-crashed',
      message: 'The guest crashed: oops.',
    });
    first.manager.close();
    const second = await fixture.open();
    expect(await stateOf(second.page, machine)).toBe('crashed');
    const { scrollback, live } = await second.page.invoke('console:attach', { machine });
    expect(live).toBe(false);
    expect(Buffer.from(scrollback, 'base64').toString()).toContain('line 2');
    expect((await second.page.invoke('machine:dismiss', { machine })).state).toBe('off');
    second.manager.close();
    const third = await fixture.open();
    expect(await stateOf(third.page, machine)).toBe('off');
  });

  it('a VM process that is killed is noticed within a second, with its reason, log and console', async () => {
    const { page } = await fixture.open();
    const machine = await make(page, 'idle');
    await page.invoke('machine:start', { machine });
    await page.attach(machine);
    await eventually(() => page.output().includes('fake web'), 'its first output');
    const { pid } = await page.invoke('machine:get', { machine });
    process.kill(pid!, 'SIGKILL');
    await eventually(() => page.payloads('machine:crashed').length === 1, 'noticed', 1000);
    const { error } = page.payloads('machine:crashed')[0];
    expect(error.code).toBe('vm-process-died');
    expect(error.message).toMatch(/killed \(SIGKILL\)/);
    expect(error.action).toMatch(/Start the machine again/);
    const { entries } = await page.invoke('log:read', { machine, lines: 10 });
    expect(entries.map(({ text }) => text).join('\n')).toMatch(/started as process \d+[^]*ended unexpectedly/);
    // What was shown is written down in the background.
    let shown = '';
    for (let n = 0; n < 50 && !shown.includes('fake web'); n++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const { scrollback } = await page.invoke('console:scrollback', { machine });
      shown = Buffer.from(scrollback, 'base64').toString();
    }
    expect(shown).toContain('fake web');
    expect(fs.readdirSync(fixture.runtimeDirectory).filter((name) => name.startsWith(machine))).toEqual([]);
    expect((await page.invoke('machine:start', { machine })).state).toBe('running');
  });
});

describe('restart of the manager', () => {
  it('guests survive and are found again, with console and state', async () => {
    const first = await fixture.open();
    const machine = await make(first.page, 'idle');
    await first.page.invoke('machine:start', { machine });
    await first.page.invoke('console:input', { machine, bytes: Buffer.from('before').toString('base64') });
    await first.page.attach(machine);
    await eventually(() => first.page.output().includes('before'), 'echo');
    await first.page.invoke('machine:pause', { machine });
    const { pid } = await first.page.invoke('machine:get', { machine });
    first.manager.close();

    const second = await fixture.open();
    const found = await second.page.invoke('machine:get', { machine });
    expect(found.pid).toBe(pid);
    expect(found.summary).toMatchObject({ state: 'paused', available: true, problem: null });
    const { offset, scrollback } = await second.page.invoke('console:attach', { machine });
    expect(offset).toBe(0);
    expect(Buffer.from(scrollback, 'base64').toString()).toContain('before');
    await second.page.invoke('machine:resume', { machine });
    await second.page.invoke('console:input', { machine, bytes: Buffer.from('after').toString('base64') });
    await eventually(() => second.page.output().includes('after'), 'echo');
    expect((await second.page.invoke('machine:stop', { machine, how: 'force' })).state).toBe('off');
  });

  it('a guest that died meanwhile is found crashed', async () => {
    const first = await fixture.open();
    const machine = await make(first.page, 'idle');
    await first.page.invoke('machine:start', { machine });
    const { pid } = await first.page.invoke('machine:get', { machine });
    first.manager.close();
    process.kill(pid!, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 200));
    const second = await fixture.open();
    const { summary } = await second.page.invoke('machine:get', { machine });
    expect(summary).toMatchObject({ state: 'crashed', problem: { code: 'vm-process-died' } });
  });

  it('machines marked so start with the manager', async () => {
    const first = await fixture.open();
    const machine = await make(first.page, 'idle');
    await first.page.invoke('machine:set', { machine, changes: { autostart: true } });
    first.manager.close();
    const second = await fixture.open();
    await eventually(() => second.manager.control(machine).state === 'running', 'autostart');
  });
});

it('many that are marked so start a few at a time, in order; what crashed or cannot start is left alone', async () => {
  const first = await fixture.open();
  const ids: string[] = [];
  for (const [name, does] of [
    ['a', 'idle'],
    ['b', 'refuse'],
    ['c', 'idle'],
    ['d', 'crash=x'],
    ['e', 'idle'],
  ]) {
    const machine = await make(first.page, does, name);
    ids.push(machine);
    await first.page.invoke('machine:set', { machine, changes: { autostart: true } });
  }
  await first.page.invoke('machine:start', { machine: ids[3] }).catch(() => undefined);
  await eventually(() => first.page.payloads('machine:crashed').length === 1, 'crashed');
  first.manager.close();
  const second = await fixture.open();
  const states = () => ids.map((id) => second.manager.control(id).state);
  expect(states().filter((state) => state === 'starting')).toHaveLength(2);
  await eventually(() => states().join() === 'running,off,running,crashed,running', 'started');
  expect(second.manager.control(ids[1]).problem?.code).toBe('file-missing');
  expect(second.manager.counters.recent().some(({ text }) => /"b" did not start/.test(text))).toBe(true);
});

it('a manager that cannot open its library leaves it to the next', async () => {
  fs.mkdirSync(fixture.dataDirectory, { recursive: true });
  const index = path.join(fixture.dataDirectory, 'library.json');
  fs.writeFileSync(index, '{');
  await expect(fixture.open()).rejects.toMatchObject({ code: 'library-file-invalid' });
  fs.rmSync(index);
  await fixture.open();
});

describe('two managers on one library', () => {
  it('only one can stay', async () => {
    await fixture.open();
    await expect(fixture.open()).rejects.toMatchObject({ code: 'manager-running' });
  });

  it('cannot run one machine twice', async () => {
    const first = await fixture.open();
    const machine = await make(first.page, 'idle');
    const second = await fixture.open(false);
    await first.page.invoke('machine:start', { machine });
    expect(await codeOf(second.page.invoke('machine:start', { machine }))).toBe('machine-locked');
    // The second one's attempt has not disturbed the first.
    expect(await stateOf(first.page, machine)).toBe('running');
    expect(await codeOf(second.page.invoke('machine:remove', { machine }))).toBe('machine-locked');
  });

  it('see each other’s changes of the library', async () => {
    const first = await fixture.open();
    const second = await fixture.open(false);
    const machine = await make(first.page, 'idle');
    await second.page.invoke('machine:rename', { machine, name: 'renamed' });
    const { machines } = await first.page.invoke('machine:list', {});
    expect(machines.map(({ name }) => name)).toEqual(['renamed']);
  });
});

describe('consoles', () => {
  it('show the same to everyone, each resize to all', async () => {
    const { manager, gate, page } = await fixture.open();
    const other = new TestSession(manager, gate);
    const machine = await make(page, 'idle');
    await page.invoke('machine:start', { machine });
    for (const session of [page, other]) await session.attach(machine);
    await page.invoke('console:resize', { machine, size: { columns: 100, rows: 30 } });
    await other.invoke('console:input', { machine, bytes: Buffer.from('typed').toString('base64') });
    await eventually(() => page.output().includes('typed') && other.output() === page.output(), 'both show it');
    expect(other.payloads('console:resized')).toMatchObject([{ size: { columns: 100, rows: 30 } }]);
    expect((await page.invoke('console:attach', { machine })).size).toEqual({ columns: 100, rows: 30 });
  });

  it('the guest waits for a page that does not read, and nothing is lost', async () => {
    const { manager, page } = await fixture.open();
    const machine = await make(page, 'idle');
    await page.invoke('machine:set', { machine, changes: { commandLine: 'lines=300000 idle' } });
    await page.invoke('machine:start', { machine });
    await page.invoke('machine:stop', { machine, how: 'force' });
    page.backlog = 1e6;
    await page.attach(machine);
    await page.invoke('machine:start', { machine });
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(page.output().length).toBeLessThan(300_000);
    page.backlog = 0;
    manager.drained(page.session);
    await eventually(() => page.output().includes('line 299999\n'), 'all lines', 20_000);
    expect(page.payloads('console:output').every(({ skipped }) => skipped === 0)).toBe(true);
  });

  it('types text at a pace that can be cancelled', async () => {
    const { page } = await fixture.open();
    const machine = await make(page, 'idle');
    await page.invoke('machine:start', { machine });
    await page.attach(machine);
    await page.invoke('console:type', { machine, text: 'echo häuser\n', task: 't1' });
    await eventually(() => page.output().includes('echo häuser\r'), 'typed');
    const long = page.invoke('console:type', { machine, text: 'x'.repeat(5000), task: 't2' });
    await eventually(() => page.payloads('task:progressed').some(({ task }) => task === 't2'), 'progress');
    await page.invoke('task:cancel', { task: 't2' });
    expect(await codeOf(long)).toBe('cancelled');
  });
});

describe('measurements', () => {
  it('samples come each second to those who watch, and are kept across a restart of the manager', async () => {
    const first = await fixture.open();
    const machine = await make(first.page, 'spin');
    await first.page.invoke('machine:start', { machine });
    await first.page.invoke('metrics:watch', { machines: [machine] });
    // Two may come within one second of the history, a moment less than a second apart.
    await eventually(() => first.page.payloads('metrics:sampled').length >= 3, 'samples', 10_000);
    const { values } = first.page.payloads('metrics:sampled')[0].sample;
    expect(values.running).toBeGreaterThan(0.3);
    expect(values.instructions).toBeGreaterThan(0);
    expect(values.translated).toBeNull();
    expect(first.page.payloads('library:sampled').length).toBeGreaterThan(0);
    const counters = await first.page.invoke('metrics:counters', { machine });
    expect(counters.hypercalls).toEqual({ sched_op: 3 });
    first.manager.close();
    const second = await fixture.open();
    const now = Date.now();
    const history = await second.page.invoke('metrics:history', { machine, from: now - 60_000, to: now });
    expect(history.periodMs).toBe(1000);
    expect(history.average.running.filter((value) => value !== null).length).toBeGreaterThanOrEqual(2);
    expect(history.average.running[0]).toBeNull();
    expect(history.events.map(({ kind }) => kind)).toEqual(['created', 'started']);
  });
});
