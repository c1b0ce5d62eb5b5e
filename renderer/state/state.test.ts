// SPDX-License-Identifier: MIT
// The stores: places and addresses, the live library, what a failure becomes.
import { beforeEach, describe, expect, it } from 'vitest';
import { CHANNEL_NAMES } from '../../main/contract/metrics.ts';
import { CommandError } from '../../main/contract/wire.ts';
import { FakeLink } from '../testing/fake-link.ts';
import { aMachine } from '../testing/machines.ts';
import { library } from './library.svelte.ts';
import { reportOf, useLink } from './manager.svelte.ts';
import { hashOf, placeOf, type Place } from './navigation.svelte.ts';
import { oneAtATime } from './one-at-a-time.ts';

describe('places', () => {
  it.each<Place>([
    { page: 'start' },
    { page: 'machine', machine: 'abcdef0123', tab: 'performance' },
    { page: 'detached', machine: 'abcdef0123', tab: 'console' },
    { page: 'diagnostics' },
  ])('survive being an address: %j', (place) => {
    expect(placeOf(hashOf(place))).toEqual(place);
  });

  it.each(['#/machine/../../etc', '#/machine', '#/nowhere', '', '#/detached/<script>/console'])(
    'lead to the start from %s',
    (hash) => {
      expect(placeOf(hash)).toEqual({ page: 'start' });
    },
  );

  it('show the overview when the tab is unknown', () => {
    expect(placeOf('#/machine/abcdef01/disks')).toMatchObject({ tab: 'overview' });
  });
});

describe('work that is done by one run at a time', () => {
  it('is done once more for all calls in between, and again after a failure', async () => {
    const ends: { resolve: () => void; reject: (error: Error) => void }[] = [];
    let begun = 0;
    const work = oneAtATime(() => {
      begun++;
      return new Promise<void>((resolve, reject) => ends.push({ resolve, reject }));
    });
    const first = work();
    void work();
    const third = work();
    expect(begun).toBe(1);
    ends.shift()!.resolve();
    await Promise.resolve();
    await Promise.resolve();
    expect(begun).toBe(2);
    ends.shift()!.resolve();
    await Promise.all([first, third]);
    expect(begun).toBe(2);
    const failing = work();
    ends.shift()!.reject(new Error('no'));
    await expect(failing).rejects.toThrow('no');
    void work();
    expect(begun).toBe(4);
  });

  it('is not done once more when it has been ended meanwhile', async () => {
    let begun = 0;
    let done = () => {};
    const work = oneAtATime(() => {
      begun++;
      return new Promise<void>((resolve) => (done = resolve));
    });
    const first = work();
    void work();
    work.end();
    done();
    await first;
    await work();
    expect(begun).toBe(1);
  });
});

describe('failures', () => {
  it('keep the manager’s report, and get one when they have none', () => {
    const report = { code: 'disk-full', message: 'Full.', action: 'Make room.' };
    expect(reportOf(new CommandError(report))).toBe(report);
    expect(reportOf(new TypeError('x is not a function'))).toMatchObject({
      code: 'window-failed',
      cause: 'x is not a function',
    });
  });
});

describe('the library', () => {
  const first = aMachine({ id: 'aaaaaaaa', name: 'one', state: 'running' });
  const second = aMachine({ id: 'bbbbbbbb', name: 'two', tags: ['x'] });
  let link: FakeLink;

  beforeEach(async () => {
    const none = Object.fromEntries(CHANNEL_NAMES.map((name) => [name, []])) as never;
    link = new FakeLink({
      'machine:list': () => ({ machines: [first, second] }),
      'metrics:history': ({ machine }) => ({
        machine,
        periodMs: 1000,
        start: 0,
        length: 0,
        average: none,
        maximum: none,
        events: [],
      }),
    });
    useLink(link);
    library.follow();
    await new Promise((resolve) => setTimeout(resolve, 0));
  });

  it('lists in the user’s order and follows changes', () => {
    expect(library.machines.map(({ name }) => name)).toEqual(['one', 'two']);
    link.emit('library:reordered', { machines: ['bbbbbbbb', 'aaaaaaaa'] });
    link.emit('machine:changed', { machine: { ...second, name: 'deux' } });
    expect(library.machines.map(({ name }) => name)).toEqual(['deux', 'one']);
    expect(library.tags).toEqual(['x']);
    expect(library.active.map(({ name }) => name)).toEqual(['one']);
    link.emit('machine:removed', { machine: 'aaaaaaaa' });
    expect(library.machines).toHaveLength(1);
  });

  it('keeps seconds without a sample as gaps', () => {
    const sampled = (at: number, cpu: number): void =>
      link.emit('library:sampled', {
        at,
        machines: [{ machine: 'aaaaaaaa', cpu, instructionsPerSecond: null, memory: 5 }],
      });
    sampled(1_000, 0.1);
    sampled(4_000, 0.4);
    expect(library.activity.get('aaaaaaaa')?.cpu).toEqual([0.1, null, null, 0.4]);
    expect(library.memory).toBe(5);
    link.emit('machine:changed', { machine: { ...first, state: 'off' } });
    expect(library.activity.has('aaaaaaaa')).toBe(false);
  });

  it('calls machines by name where that is unique', () => {
    expect(library.nameOf('bbbbbbbb')).toBe('two');
    link.emit('machine:changed', { machine: aMachine({ id: 'cccccccc', name: 'two' }) });
    expect(library.nameOf('bbbbbbbb')).toBe('bbbbbbbb');
    link.emit('machine:removed', { machine: 'cccccccc' });
  });
});
