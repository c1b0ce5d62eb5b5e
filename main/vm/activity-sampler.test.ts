// SPDX-License-Identifier: MIT
// Time in translated code, as seen from outside.
import { expect, it } from 'vitest';
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
