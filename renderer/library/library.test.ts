// SPDX-License-Identifier: MIT
// Search, filters and order of the library.
import { describe, expect, it } from 'vitest';
import { aMachine } from '../testing/machines.ts';
import { movedBefore, movedBy } from './order.ts';
import { found, passes } from './search.ts';

describe('search', () => {
  const machine = aMachine({ name: 'Build server', notes: 'for Monday', tags: ['ci'], state: 'paused', bits: 32 });

  it.each(['', 'build', 'SERVER monday', '#ci'.slice(1), 'xen 32-bit', 'paused'])('finds "%s"', (words) => {
    expect(found(machine, words)).toBe(true);
  });

  it.each(['web', 'build tuesday', '64-bit'])('does not find "%s"', (words) => {
    expect(found(machine, words)).toBe(false);
  });

  it('filters by state and tag', () => {
    expect(passes(machine, { by: 'active' })).toBe(true);
    expect(passes(aMachine({ state: 'crashed' }), { by: 'active' })).toBe(false);
    expect(passes(machine, { by: 'tag', tag: 'ci' })).toBe(true);
    expect(passes(machine, { by: 'tag', tag: 'c' })).toBe(false);
  });
});

describe('order', () => {
  const order = ['a', 'b', 'c', 'd'];

  it('moves a machine before another, or to the end', () => {
    expect(movedBefore(order, 'd', 'b')).toEqual(['a', 'd', 'b', 'c']);
    expect(movedBefore(order, 'a', null)).toEqual(['b', 'c', 'd', 'a']);
    expect(movedBefore(order, 'b', 'b')).toEqual(order);
    expect(movedBefore(order, 'b', 'gone')).toEqual(order);
  });

  it('moves a machine by one place, not beyond the ends', () => {
    expect(movedBy(order, 'b', 1)).toEqual(['a', 'c', 'b', 'd']);
    expect(movedBy(order, 'a', -1)).toEqual(order);
    expect(movedBy(order, 'd', 1)).toEqual(order);
  });
});
