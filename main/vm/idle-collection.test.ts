// SPDX-License-Identifier: MIT
// Tests of when garbage is collected: only while the guest sleeps, and only when there is some.

import { describe, expect, it } from 'vitest';
import { IdleCollection } from './idle-collection.ts';

const mebibyte = 2 ** 20;

function make(bytes: number) {
  const heap = {
    bytes,
    collections: 0,
    usedBytes: () => heap.bytes,
    collect: () => {
      heap.collections++;
      heap.bytes = bytes;
    },
  };
  return { heap, collection: new IdleCollection(heap) };
}

describe('garbage', () => {
  it('is collected while the guest sleeps, once it has grown', () => {
    const { heap, collection } = make(20 * mebibyte);
    collection.idle(1000, 0);
    expect(heap.collections).toBe(0);
    heap.bytes += 9 * mebibyte;
    collection.idle(1000, 200);
    expect(heap.collections).toBe(1);
    // What is left is the new measure.
    heap.bytes += 7 * mebibyte;
    collection.idle(1000, 400);
    expect(heap.collections).toBe(1);
  });

  it('waits for a sleep that is long enough', () => {
    const { heap, collection } = make(20 * mebibyte);
    heap.bytes += 50 * mebibyte;
    collection.idle(3, 0);
    expect(heap.collections).toBe(0);
    collection.idle(30, 1);
    expect(heap.collections).toBe(1);
  });

  it('is not looked for at each of many short sleeps', () => {
    const { heap, collection } = make(20 * mebibyte);
    collection.idle(30, 1000);
    heap.bytes += 50 * mebibyte;
    collection.idle(30, 1050);
    expect(heap.collections).toBe(0);
    collection.idle(30, 1100);
    expect(heap.collections).toBe(1);
  });

  it('stays where it is when V8 does not offer to collect it', () => {
    const collection = new IdleCollection({ usedBytes: () => 1e9, collect: undefined });
    expect(() => collection.idle(1000, 0)).not.toThrow();
  });
});
