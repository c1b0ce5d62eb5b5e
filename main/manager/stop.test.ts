// SPDX-License-Identifier: MIT
// Stopping with a deadline: a guest that does not listen is overdue after its time, or ended by force; those who wait hear how it goes on.
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { TestSession } from '../../tests/support/manager.ts';
import { ManagerFixture } from '../../tests/support/manager.ts';
import { eventually } from '../../tests/support/paravane.ts';
import type { CommandError } from '../contract/wire.ts';

let fixture: ManagerFixture;
let page: TestSession;
beforeEach(async () => {
  fixture = new ManagerFixture();
  ({ page } = await fixture.open());
});
afterEach(() => fixture.dispose());

async function running(commandLine: string): Promise<string> {
  const { machine } = await page.invoke('machine:create', fixture.newMachine('web', commandLine));
  await page.invoke('machine:start', { machine: machine.id });
  return machine.id;
}

const summary = async (machine: string) => (await page.invoke('machine:get', { machine })).summary;

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error: unknown) => (error as CommandError).report.code,
  );
}

it('a guest that listens is off, and whoever waited is told', async () => {
  const machine = await running('idle');
  const reply = await page.invoke('machine:stop', { machine, how: 'ask', task: 't' });
  expect(reply).toMatchObject({ state: 'off', activity: null, stopAsked: null });
  expect(page.payloads('task:progressed')[0]).toMatchObject({ task: 't', total: 60, unit: 'seconds' });
});

it('one that does not is overdue after its time; force still ends it', async () => {
  const machine = await running('idle deaf');
  const before = Date.now();
  const asked = await page.invoke('machine:stop', { machine, how: 'ask', seconds: 1 });
  expect(asked).toMatchObject({ state: 'running', activity: 'stopping', stopAsked: { overdue: false } });
  expect(asked.stopAsked!.until - asked.stopAsked!.at).toBe(1000);
  const overdue = (): boolean =>
    page.payloads('machine:changed').some(({ machine: changed }) => changed.stopAsked?.overdue === true);
  await eventually(overdue, 'overdue');
  expect(Date.now() - before).toBeGreaterThanOrEqual(950);
  expect(await summary(machine)).toMatchObject({
    state: 'running',
    activity: 'stopping',
    stopAsked: { overdue: true },
  });
  const { entries } = await page.invoke('log:read', { machine, lines: 5 });
  expect(entries.at(-1)?.text).toMatch(/has not done so within 1 seconds/);
  // Asked anew it gets new time.
  const again = await page.invoke('machine:stop', { machine, how: 'ask', seconds: 30 });
  expect(again.stopAsked?.overdue).toBe(false);
  expect(await page.invoke('machine:stop', { machine, how: 'force' })).toMatchObject({ state: 'off', stopAsked: null });
});

it('one that does not is an error for whoever waits, with force as the next step', async () => {
  const machine = await running('idle deaf');
  const waiting = page.invoke('machine:stop', { machine, how: 'ask', seconds: 1, task: 't' });
  const error = await waiting.catch((reason: unknown) => (reason as CommandError).report);
  expect(error).toMatchObject({ code: 'stop-timeout', action: expect.stringMatching(/by force/) });
});

it('may be ended by force after its time, also when nobody waits', async () => {
  const machine = await running('spin deaf');
  await page.invoke('machine:stop', { machine, how: 'ask', seconds: 1, thenForce: true });
  await eventually(() => page.payloads('machine:stopped').length === 1, 'stopped');
  expect(page.payloads('machine:stopped')[0].outcome.kind).toBe('forced');
  await page.invoke('machine:start', { machine });
  const reply = await page.invoke('machine:stop', { machine, how: 'ask', seconds: 1, thenForce: true, task: 't' });
  expect(reply.state).toBe('off');
});

it('the waiting can be cancelled; the guest runs on', async () => {
  const machine = await running('idle deaf');
  const waiting = page.invoke('machine:stop', { machine, how: 'ask', seconds: 60, task: 't' });
  await eventually(() => page.payloads('task:progressed').length > 0, 'progress');
  await page.invoke('task:cancel', { task: 't' });
  expect(await codeOf(waiting)).toBe('cancelled');
  expect(await summary(machine)).toMatchObject({ state: 'running', activity: null, stopAsked: null });
});

it('a reset ends the waiting, and a crash is told as what it is', async () => {
  const machine = await running('idle deaf');
  const waiting = page.invoke('machine:stop', { machine, how: 'ask', task: 't' });
  await eventually(() => page.payloads('task:progressed').length > 0, 'progress');
  await page.invoke('machine:reset', { machine });
  expect(await codeOf(waiting)).toBe('cancelled');
  expect((await summary(machine)).stopAsked).toBeNull();

  const dying = page.invoke('machine:stop', { machine, how: 'ask', task: 't' });
  const { pid } = await page.invoke('machine:get', { machine });
  process.kill(pid!, 'SIGKILL');
  expect(await codeOf(dying)).toBe('vm-process-died');
  expect(await summary(machine)).toMatchObject({ state: 'crashed', stopAsked: null });
});

it('a paused guest goes on to be able to stop', async () => {
  const machine = await running('idle');
  await page.invoke('machine:pause', { machine });
  expect((await page.invoke('machine:stop', { machine, how: 'ask', task: 't' })).state).toBe('off');
});
