// SPDX-License-Identifier: MIT
// Time in translated code, as seen from outside.
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect, it, vi } from 'vitest';
import { noRegion } from '../../engine/cpu/layout.ts';
import { ActivitySampler } from './activity-sampler.ts';
import { SharedControl } from './shared-control.ts';

it('divides the time between two questions as its looks were divided', () => {
  const memory = new SharedArrayBuffer(64);
  const word = new Int32Array(memory);
  const control = new SharedControl();
  const sampler = new ActivitySampler({ memory, index: 3 }, control);
  const look = (region: number, times: number) => {
    word[3] = region;
    for (let i = 0; i < times; i++) sampler.look();
  };
  look(7, 5);
  expect(sampler.translatedNs(1000)).toBe(0);
  control.setRunning(true);
  look(7, 3);
  look(noRegion, 1);
  expect(sampler.translatedNs(5000)).toBe(3000);
  control.setRunning(false);
  look(0, 9);
  control.setRunning(true);
  look(noRegion, 2);
  expect(sampler.translatedNs(9000)).toBe(3000);
  look(0, 1);
  expect(sampler.translatedNs(9500)).toBe(3500);
  sampler.stop();
});

it('looks while guest code runs, and wakes nobody while it does not', async () => {
  const memory = new SharedArrayBuffer(64);
  const control = new SharedControl();
  const isRunning = vi.spyOn(control, 'isRunning');
  const sampler = new ActivitySampler({ memory, index: 3 }, control);
  /** Looks in so many milliseconds. */
  const looksIn = async (ms: number): Promise<number> => {
    isRunning.mockClear();
    await sleep(ms);
    return isRunning.mock.calls.length;
  };
  expect(await looksIn(300)).toBe(0);
  // As the vCPU's thread does it.
  const url = JSON.stringify(new URL('./shared-control.ts', import.meta.url).href);
  const other = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
    import(${url}).then(({ SharedControl }) => {
      const control = new SharedControl(workerData);
      parentPort.on('message', (on) => control.setRunning(on));
      parentPort.postMessage('here');
    });`,
    { eval: true, workerData: control.buffer },
  );
  await new Promise((resolve) => other.once('message', resolve));
  try {
    for (let round = 0; round < 3; round++) {
      other.postMessage(true);
      await vi.waitFor(() => expect(isRunning.mock.calls.length).toBeGreaterThan(4), 5000);
      expect(sampler.translatedNs(1000 * (round + 1))).toBe(1000 * (round + 1));
      other.postMessage(false);
      // It finds out at its next look, and has none after that.
      await sleep(150);
      expect(await looksIn(300)).toBe(0);
    }
    sampler.stop();
    other.postMessage(true);
    expect(await looksIn(200)).toBe(0);
  } finally {
    await other.terminate();
  }
});

it('leaves nothing behind that waits', async () => {
  const control = new SharedControl();
  const waits = vi.spyOn(control, 'untilRunning');
  const sampler = new ActivitySampler({ memory: new SharedArrayBuffer(64), index: 3 }, control);
  sampler.stop();
  expect(waits).toHaveBeenCalledTimes(1);
  await waits.mock.results[0]!.value;
});
