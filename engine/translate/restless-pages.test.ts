// SPDX-License-Identifier: MIT
// Pauses of pages that keep changing.

import { expect, it } from 'vitest';
import { RestlessPages } from './restless-pages.ts';

it('bears a few changes, then pauses for longer and longer, up to a limit', () => {
  const pages = new RestlessPages();
  const pauses: number[] = [];
  let now = 1000;
  for (let i = 0; i < 16; i++) {
    pages.changed(0x5000, now);
    let pause = 0;
    while (pages.isRestless(0x5000, now + pause)) pause += 50;
    pauses.push(pause);
    now += pause + 10;
  }
  expect(pauses.slice(0, 6)).toEqual([0, 0, 0, 100, 200, 400]);
  expect(pauses[15]).toBe(10_000);
  expect(pages.isRestless(0x6000, now)).toBe(false);
});

it('forgives a page that came to rest', () => {
  const pages = new RestlessPages();
  for (let i = 0; i < 4; i++) pages.changed(0x5000, 0);
  expect(pages.isRestless(0x5000, 99)).toBe(true);
  expect(pages.isRestless(0x5000, 100)).toBe(false);
  pages.changed(0x5000, 6000);
  expect(pages.isRestless(0x5000, 6000)).toBe(false);
});

it('remembers a limited number of pages', () => {
  const pages = new RestlessPages();
  for (let i = 0; i < 4; i++) pages.changed(0, 0);
  for (let page = 1; page <= 5000; page++) pages.changed(page * 0x1000, 0);
  expect(pages.isRestless(0, 50)).toBe(false);
});
