// SPDX-License-Identifier: MIT
// The manager with the real engine: the demonstration guest by the welcome command, seen, paused, reset, measured, crashed.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Gate } from '../../main/manager/gate.ts';
import { Manager } from '../../main/manager/manager.ts';
import { ManagerFixture, TestSession } from '../support/manager.ts';
import { eventually } from '../support/paravane.ts';

let fixture: ManagerFixture;
let manager: Manager;
let page: TestSession;
beforeAll(async () => {
  fixture = new ManagerFixture();
  manager = await Manager.open({ resident: true });
  page = new TestSession(manager, new Gate(manager, { checkReplies: true }));
});
afterAll(() => {
  manager.close();
  fixture.dispose();
});

it('goes through its life', async () => {
  const { machine: made } = await page.invoke('welcome:create', { task: 't', variant: 'demo', start: true });
  const machine = made.id;
  expect(made).toMatchObject({ name: 'Welcome', state: 'running', bits: 64 });
  await page.invoke('metrics:watch', { machines: [machine] });
  const { scrollback } = await page.invoke('console:attach', { machine });
  const seen = (): string => Buffer.from(scrollback, 'base64').toString() + page.output();
  await eventually(() => seen().includes('demo>'), 'prompt', 60_000);
  await eventually(() => page.payloads('metrics:sampled').length >= 2, 'samples', 10_000);
  const sampled = page.payloads('metrics:sampled').map(({ sample }) => sample.values);
  expect(Math.max(...sampled.map(({ instructions }) => instructions ?? 0))).toBeGreaterThan(0);
  const { hypercalls } = await page.invoke('metrics:counters', { machine });
  expect(Object.keys(hypercalls)).toContain('event_channel_op');

  await page.invoke('machine:pause', { machine });
  expect((await page.invoke('machine:resume', { machine })).state).toBe('running');
  const before = page.output().length;
  expect((await page.invoke('machine:reset', { machine })).state).toBe('running');
  await eventually(() => page.output().slice(before).includes('demo>'), 'prompt after the reset', 60_000);
  await page.invoke('console:input', { machine, bytes: Buffer.from('c').toString('base64') });
  await eventually(() => page.payloads('machine:crashed').length === 1, 'crash');
  expect(page.payloads('machine:crashed')[0].error.code).toBe('guest-crashed');
  expect((await page.invoke('machine:dismiss', { machine })).state).toBe('off');
}, 150_000);

it('tells the speed of guests here by ordinary work, and the same twice', async () => {
  const first = await page.invoke('host:measure', { task: 'speed' });
  const second = await page.invoke('host:measure', { task: 'speed-again' });
  expect(first.guestInstructionsPerSecond).toBeGreaterThan(10e6);
  expect(first.text).toMatch(/^about (\d+(\.5)? times slower than|as fast as) this computer$/);
  // Whatever else this computer does: it is not the time of day that is measured, but time at work.
  expect(second.slowdown! / first.slowdown!).toBeGreaterThan(0.5);
  expect(second.slowdown! / first.slowdown!).toBeLessThan(2);
  const steps = page.payloads('task:progressed').filter(({ task }) => task === 'speed');
  expect(steps.at(-1)).toMatchObject({ done: 4, total: 4 });
}, 150_000);
