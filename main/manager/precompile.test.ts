// SPDX-License-Identifier: MIT
// Translating a kernel ahead, as a window asks for it: progress, the answer, cancelling, refusals.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ManagerFixture, TestSession } from '../../tests/support/manager.ts';
import { buildDemoGuest } from '../demo-guest/demo-guest.ts';
import type { Gate } from './gate.ts';
import type { Manager } from './manager.ts';

let fixture: ManagerFixture;
let manager: Manager;
let gate: Gate;
let kernel: string;
const saved = process.env.PARAVANE_CACHE;
beforeAll(async () => {
  fixture = new ManagerFixture();
  ({ manager, gate } = await fixture.open());
  process.env.PARAVANE_CACHE = path.join(manager.dataDirectory, 'cache');
  kernel = path.join(manager.dataDirectory, 'kernel');
  fs.writeFileSync(kernel, buildDemoGuest());
});
afterAll(async () => {
  if (saved === undefined) delete process.env.PARAVANE_CACHE;
  else process.env.PARAVANE_CACHE = saved;
  await fixture.dispose();
});

it('tells how far it is and what it made', async () => {
  const session = new TestSession(manager, gate);
  const made = await session.connection.invoke('kernel:precompile', { kernel, rehearse: false, task: 'ahead' });
  expect(made.static.regions).toBeGreaterThan(10);
  expect(made.storeBytes).toBeGreaterThan(made.static.bytes);
  const told = session.events.filter(({ event }) => event === 'task:progressed');
  expect(told.length).toBeGreaterThan(1);
  expect(told.every(({ payload }) => (payload as { task: string }).task === 'ahead')).toBe(true);
  expect(session.violations).toEqual([]);
});

it('can be cancelled', async () => {
  const session = new TestSession(manager, gate);
  const made = session.connection.invoke('kernel:precompile', { kernel, task: 'given-up' });
  await session.connection.invoke('task:cancel', { task: 'given-up' });
  await expect(made).rejects.toMatchObject({ report: { code: 'cancelled' } });
});

it('refuses what is no kernel', async () => {
  const session = new TestSession(manager, gate);
  const request = { kernel: path.join(manager.dataDirectory, 'nothing'), task: 'none' };
  await expect(session.connection.invoke('kernel:precompile', request)).rejects.toMatchObject({
    report: { code: 'file-missing' },
  });
});
