// SPDX-License-Identifier: MIT
// Pauses of code that keeps changing.

import { expect, it } from 'vitest';
import { RestlessCode } from './restless-code.ts';

it('bears a few changes, then pauses for longer and longer, up to a limit', () => {
  const code = new RestlessCode();
  const pauses: number[] = [];
  let now = 1000;
  for (let i = 0; i < 16; i++) {
    code.changed([0x5000], now);
    let pause = 0;
    while (code.isRestless(0x5000, now + pause)) pause += 50;
    pauses.push(pause);
    now += pause + 10;
  }
  expect(pauses.slice(0, 6)).toEqual([0, 0, 0, 100, 200, 400]);
  expect(pauses[15]).toBe(10_000);
  expect(code.isRestless(0x6000, now)).toBe(false);
});

it('takes a change for one however many translations begin there, and for none of those that begin elsewhere in the page', () => {
  const code = new RestlessCode();
  for (let i = 0; i < 3; i++) code.changed([0x5000, 0x5010, 0x507f], 0);
  expect(code.isRestless(0x5000, 99)).toBe(false);
  code.changed([0x5010], 0);
  expect(code.isRestless(0x507f, 99)).toBe(true);
  expect(code.isRestless(0x5080, 99)).toBe(false);
});

it('forgives code that came to rest', () => {
  const code = new RestlessCode();
  for (let i = 0; i < 4; i++) code.changed([0x5000], 0);
  expect(code.isRestless(0x5000, 99)).toBe(true);
  expect(code.isRestless(0x5000, 100)).toBe(false);
  code.changed([0x5000], 6000);
  expect(code.isRestless(0x5000, 6000)).toBe(false);
});

it('remembers a limited amount of code', () => {
  const code = new RestlessCode();
  for (let i = 0; i < 4; i++) code.changed([0], 0);
  for (let n = 1; n <= 20_000; n++) code.changed([n * 0x80], 0);
  expect(code.isRestless(0, 50)).toBe(false);
});
