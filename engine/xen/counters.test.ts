// SPDX-License-Identifier: MIT
// Tests of the named counters.

import { expect, it } from 'vitest';
import { Counters } from './counters.ts';

it('counts by name and reports by prefix', () => {
  const counters = new Counters();
  counters.count('store.request.read');
  counters.count('store.request.read', 4);
  counters.count('grant.refused.read');
  expect(counters.get('store.request.read')).toBe(5);
  expect(counters.get('never')).toBe(0);
  expect(counters.snapshot('store.')).toEqual(new Map([['store.request.read', 5]]));
  expect(counters.snapshot().size).toBe(2);
});
