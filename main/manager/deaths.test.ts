// SPDX-License-Identifier: MIT
// However the process of a VM ends, the manager knows within a second, says why, keeps the log, and the machine can be started again. And every
// way through the states of a machine is one of the table.
import * as fs from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManagerFixture } from '../../tests/support/manager.ts';
import type { TestSession } from '../../tests/support/manager.ts';
import { eventually } from '../../tests/support/paravane.ts';
import { machineState } from '../contract/machine.ts';
import type { Manager } from './manager.ts';
import { happenings, next } from './transitions.ts';

let fixture: ManagerFixture;
let manager: Manager;
let page: TestSession;
beforeEach(async () => {
  fixture = new ManagerFixture();
  ({ manager, page } = await fixture.open());
});
afterEach(() => fixture.dispose());

async function running(commandLine: string): Promise<{ machine: string; pid: number }> {
  const made = await page.invoke('machine:create', fixture.newMachine('web', commandLine));
  const machine = made.machine.id;
  await page.invoke('machine:start', { machine });
  return { machine, pid: (await page.invoke('machine:get', { machine })).pid! };
}

const crashes = () => page.payloads('machine:crashed');

/** What everyone may rely on after a death. */
async function expectKnown(machine: string, pid: number, reason: RegExp): Promise<void> {
  const { summary } = await page.invoke('machine:get', { machine });
  expect(summary.state).toBe('crashed');
  const [{ error }] = crashes();
  expect(error.message).toMatch(reason);
  expect(error.action).toMatch(/Start the machine again/);
  expect(summary.problem).toEqual(error);
  const { entries } = await page.invoke('log:read', { machine, lines: 50 });
  expect(entries.some(({ text }) => text === `started as process ${pid}`)).toBe(true);
  expect(page.payloads('machine:happened').map(({ event }) => event.kind)).toContain('crashed');
  await page.invoke('machine:set', { machine, changes: { commandLine: 'idle' } });
  expect((await page.invoke('machine:start', { machine })).state).toBe('running');
}

describe('a VM process', () => {
  it.each<[NodeJS.Signals, RegExp]>([
    ['SIGKILL', /killed \(SIGKILL\)/],
    ['SIGSEGV', /ended by the signal SIGSEGV/],
    ['SIGABRT', /ended by the signal SIGABRT/],
    ['SIGBUS', /ended by the signal SIGBUS/],
  ])('ended by %s is known within a second', async (signal, reason) => {
    const { machine, pid } = await running('idle');
    const before = Date.now();
    process.kill(pid, signal);
    await eventually(() => crashes().length === 1, 'noticed', 1000);
    expect(Date.now() - before).toBeLessThan(1000);
    await expectKnown(machine, pid, reason);
  });

  it('that runs out of memory says so', async () => {
    const before = process.env.NODE_OPTIONS;
    process.env.NODE_OPTIONS = '--max-old-space-size=64';
    try {
      const { machine, pid } = await running('eat');
      await eventually(() => crashes().length === 1, 'noticed', 20_000);
      process.env.NODE_OPTIONS = before ?? '';
      await expectKnown(machine, pid, /memory/);
    } finally {
      if (before === undefined) delete process.env.NODE_OPTIONS;
      else process.env.NODE_OPTIONS = before;
    }
  }, 60_000);

  it.each([
    ['quit', /the vCPU stopped without a word/],
    ['throw', /the fake broke/],
  ])('whose vCPU fails (%s) says so', async (does, reason) => {
    const { machine } = (await page.invoke('machine:create', fixture.newMachine('web', does))) as unknown as { machine: { id: string } }; // prettier-ignore
    await page.invoke('machine:start', { machine: machine.id }).catch(() => undefined);
    await eventually(() => crashes().length === 1, 'noticed');
    expect(crashes()[0].error).toMatchObject({ code: 'machine-failed', message: expect.stringMatching(reason) });
  });

  it('whose folder is gone is known all the same', async () => {
    const { machine, pid } = await running('idle');
    fs.rmSync((await page.invoke('machine:get', { machine })).summary.folder, { recursive: true });
    process.kill(pid, 'SIGKILL');
    await eventually(() => crashes().length === 1, 'noticed', 1000);
    const { machines } = await page.invoke('machine:list', {});
    expect(machines).toMatchObject([{ id: machine, state: 'crashed', problem: { code: 'folder-not-machine' } }]);
  });

  it('that is stopped by a debugger is not taken for dead, and goes on', async () => {
    const { machine, pid } = await running('idle');
    process.kill(pid, 'SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(crashes()).toEqual([]);
    process.kill(pid, 'SIGCONT');
    expect((await page.invoke('machine:pause', { machine })).state).toBe('paused');
  });

  it('that hangs and cannot even be asked is killed by force', async () => {
    const { machine, pid } = await running('idle');
    process.kill(pid, 'SIGSTOP');
    expect((await page.invoke('machine:stop', { machine, how: 'force' })).state).toBe('off');
    expect(() => process.kill(pid, 0)).toThrow();
  }, 20_000);
});

describe('many at once', () => {
  it('each death is told of its own machine, and the others run on', async () => {
    const made = await Promise.all(
      ['a', 'b', 'c', 'd'].map((name) => page.invoke('machine:create', fixture.newMachine(name, 'idle'))),
    );
    await Promise.all(made.map(({ machine }) => page.invoke('machine:start', { machine: machine.id })));
    const pids = await Promise.all(made.map(async ({ machine }) => (await page.invoke('machine:get', { machine: machine.id })).pid!)); // prettier-ignore
    process.kill(pids[0], 'SIGKILL');
    process.kill(pids[2], 'SIGKILL');
    await eventually(() => crashes().length === 2, 'noticed', 1500);
    expect(
      crashes()
        .map((crash) => crash.machine)
        .sort(),
    ).toEqual([made[0].machine.id, made[2].machine.id].sort());
    const states = (await page.invoke('machine:list', {})).machines.map(({ state }) => state);
    expect(states).toEqual(['crashed', 'running', 'crashed', 'running']);
  });
});

describe('states', () => {
  it('lead from each to each as the table says, and nowhere else', () => {
    const ways = machineState.options.flatMap((from) =>
      happenings.flatMap((happening) => {
        const to = next(from, happening);
        return to === null || to === from ? [] : [`${from} ${happening} ${to}`];
      }),
    );
    expect(ways).toEqual([
      'off start starting',
      'off found starting',
      'starting running running',
      'starting standing paused',
      'starting ended off',
      'starting crashed crashed',
      'running found starting',
      'running standing paused',
      'running restarting starting',
      'running ended off',
      'running crashed crashed',
      'paused running running',
      'paused restarting starting',
      'paused ended off',
      'paused crashed crashed',
      'crashed start starting',
      'crashed dismiss off',
      'crashed found starting',
    ]);
  });

  it('whatever verbs come in whatever order, each is carried out or refused, and each change is one of the table', async () => {
    const { machine } = await running('idle');
    const verbs = ['machine:start', 'machine:pause', 'machine:resume', 'machine:reset', 'machine:dismiss', 'kill', 'force'] as const; // prettier-ignore
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...verbs), { minLength: 1, maxLength: 6 }), async (sequence) => {
        page.events.length = 0;
        let state = (await page.invoke('machine:get', { machine })).summary.state;
        for (const verb of sequence) {
          const { pid } = await page.invoke('machine:get', { machine });
          if (verb === 'kill') {
            if (pid === null) continue;
            process.kill(pid, 'SIGKILL');
            await eventually(() => manager.control(machine).state === 'crashed', 'noticed', 2000);
          } else {
            const request = verb === 'force' ? page.invoke('machine:stop', { machine, how: 'force' }) : page.invoke(verb, { machine }); // prettier-ignore
            await request.catch((error: unknown) => {
              expect((error as { report: { code: string } }).report.code).toBe('machine-state');
            });
          }
        }
        for (const { machine: changed } of page.payloads('machine:changed')) {
          const from = state;
          const possible =
            from === changed.state || happenings.some((happening) => next(from, happening) === changed.state);
          expect(possible, `${from} to ${changed.state}`).toBe(true);
          ({ state } = changed);
        }
      }),
      { numRuns: 12, endOnFailure: true },
    );
  }, 60_000);
});
