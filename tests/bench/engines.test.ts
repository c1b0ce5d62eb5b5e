// SPDX-License-Identifier: MIT
// How often the bench starts Paravane and how far it lets it come, tried with a program that only prints the guest's markers.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { runEngine } from './engines.ts';
import type { EngineRun, RunOptions } from './engines.ts';

const COLD = '00000000000000aa';
const WARM = '00000000000000bb';

/**
 * In place of Paravane: leaves a file in its store for each run and prints the markers of a plan of `one`, `two` and `idle`. A first run goes
 * to the end of it and powers off. A later one stays in `idle` for ever, if FAILING_RUN does not make it end at `two`.
 */
const PROGRAM = `
const { readdirSync, writeFileSync } = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const store = process.env.PARAVANE_CACHE;
const run = readdirSync(store).length + 1;
// Where a run is ended, it must not get further first, on a busy machine either.
const pause = run === 1 ? 20 : 500;
const say = (line) => writeFileSync(1, line + '\\n');
const note = (text) => writeFileSync(store + '/run-' + run, text);
async function main() {
  note('started');
  say('BENCH userspace');
  await sleep(pause);
  for (const name of ['one', 'two']) {
    note(name);
    if (name === 'two' && Number(process.env.FAILING_RUN) === run) process.exit(3);
    say('BENCH begin ' + name);
    say('BENCH end ' + name + ' ' + (run === 1 ? '${COLD}' : '${WARM}') + ' 1000000000 1000000000');
    await sleep(pause);
  }
  note('idle');
  say('BENCH begin idle');
  if (run > 1) await sleep(1e9);
  say('BENCH end idle ${COLD} 1000000000 0');
  say('BENCH done');
}
void main();
`;

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'paravane-bench-'));
  writeFileSync(join(root, 'package.json'), JSON.stringify({ bin: { paravane: 'program.cjs' } }));
  writeFileSync(join(root, 'program.cjs'), PROGRAM);
  mkdirSync(join(root, 'store'));
});
afterEach(() => {
  delete process.env.FAILING_RUN;
  rmSync(root, { recursive: true, force: true });
});

function runParavane(options: Pick<RunOptions, 'bootsWarm' | 'runsWarm'>): Promise<EngineRun> {
  return runEngine('paravane', {
    root,
    guest: { kernel: 'kernel', busybox: 'busybox', program: 'work', initrd: 'initrd' },
    plan: ['one', 'two', 'idle'].map((name) => ({ name, amount: 1, guestOnly: name === 'idle' })),
    memoryMiB: 64,
    stallSeconds: 10,
    paravaneArguments: [],
    storeDirectory: join(root, 'store'),
    compileCache: join(root, 'node'),
    onProgress: () => undefined,
    ...options,
  });
}

/** Where in the plan a run was when it ended; null when there was no such run. */
function endOf(number: number): string | null {
  const file = join(root, 'store', `run-${number}`);
  return existsSync(file) ? readFileSync(file, 'utf8') : null;
}

const checksumsOf = (workloads: EngineRun['workloads']): string[][] =>
  [...workloads].map(([name, { checksum }]) => [name, checksum]);

describe.skipIf(process.platform !== 'linux')('a run of Paravane (needs /proc)', () => {
  it('is followed by a second one with its store, which ends after the last workload', async () => {
    const run = await runParavane({ bootsWarm: true, runsWarm: true });
    expect(run.failure).toBeNull();
    expect(run.warmBoot?.wall).toBeGreaterThan(0);
    expect(checksumsOf(run.workloads)).toEqual([
      ['one', COLD],
      ['two', COLD],
    ]);
    expect(checksumsOf(run.warmWorkloads)).toEqual([
      ['one', WARM],
      ['two', WARM],
    ]);
    expect([endOf(1), endOf(2), endOf(3)]).toEqual(['idle', 'two', null]);
  });

  it('is followed by a boot only when no more is wanted', async () => {
    const run = await runParavane({ bootsWarm: true, runsWarm: false });
    expect(run).toMatchObject({ failure: null, warmBoot: { wall: expect.any(Number) as number } });
    expect(run.warmWorkloads.size).toBe(0);
    expect([endOf(2), endOf(3)]).toEqual(['started', null]);
  });

  it('measures workloads a second time without showing the boot before them', async () => {
    const run = await runParavane({ bootsWarm: false, runsWarm: true });
    expect(run).toMatchObject({ failure: null, warmBoot: null });
    expect(run.warmWorkloads.size).toBe(2);
  });

  it('is the only one when nothing of a second one is wanted, or when it failed', async () => {
    expect(await runParavane({ bootsWarm: false, runsWarm: false })).toMatchObject({ failure: null, warmBoot: null });
    expect(endOf(2)).toBeNull();
    rmSync(join(root, 'store/run-1'));
    process.env.FAILING_RUN = '1';
    const run = await runParavane({ bootsWarm: true, runsWarm: true });
    expect(run.failure).toContain('exit code 3; no result for two');
    expect(endOf(2)).toBeNull();
  });

  it('keeps what was measured before its second one failed', async () => {
    process.env.FAILING_RUN = '2';
    const run = await runParavane({ bootsWarm: true, runsWarm: true });
    expect(run.failure).toMatch(/^second run: .* ended with exit code 3; no result for two/);
    expect(run.warmBoot).not.toBeNull();
    expect(checksumsOf(run.warmWorkloads)).toEqual([['one', WARM]]);
    expect(run.workloads.size).toBe(2);
  });
});
