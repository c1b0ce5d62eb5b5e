// SPDX-License-Identifier: MIT
// TLB tags: one per root and privilege, the latest of user privilege in the table that generated code looks into.

import { beforeEach, describe, expect, it } from 'vitest';
import { RootTags, ST } from './layout.ts';
import { MachineMemory } from './memory.ts';
import { TlbTags } from './tlb-tags.ts';

const ROOT = 0x100;

let mem: MachineMemory;
let tags: TlbTags;

/** The tag that the table holds for a root, undefined when it is not there. */
const published = (root: number): number | undefined => {
  const set = ST.rootTags + (root % RootTags.sets) * RootTags.ways * RootTags.entryBytes;
  for (let way = 0; way < RootTags.ways; way++) {
    const at = (mem.layout.vcpus + set + way * RootTags.entryBytes) >>> 2;
    if (mem.u32[at] === root) return mem.u32[at + 1];
  }
  return undefined;
};

beforeEach(() => {
  mem = new MachineMemory({ vcpus: 1, guestBytes: 4096, xenFrames: 0, mfnLimit: 16 });
  tags = new TlbTags(mem, mem.layout.vcpus);
});

describe('TLB tags', () => {
  it('differ by root and privilege, and stay', () => {
    const all = [tags.of(ROOT, true), tags.of(ROOT, false), tags.of(ROOT + 1, true)];
    expect(new Set(all).size).toBe(3);
    expect([tags.of(ROOT, true), tags.of(ROOT, false), tags.of(ROOT + 1, true)]).toEqual(all);
  });

  it('of user privilege are published, of others not', () => {
    tags.of(ROOT, false);
    expect(published(ROOT)).toBeUndefined();
    const tag = tags.of(ROOT, true);
    expect(published(ROOT)).toBe(tag);
  });

  it('of the roots of a set used last are published', () => {
    const roots = Array.from({ length: RootTags.ways + 1 }, (_, n) => ROOT + n * RootTags.sets);
    const given = roots.map((root) => tags.of(root, true));
    expect(roots.map(published)).toEqual([undefined, ...given.slice(1)]);
    expect(tags.of(ROOT, true)).toBe(given[0]);
    expect(published(ROOT)).toBe(given[0]);
  });

  it('are new after a root was forgotten', () => {
    const tag = tags.of(ROOT, true);
    const other = tags.of(ROOT + RootTags.sets, true);
    tags.forget(ROOT);
    expect([published(ROOT), published(ROOT + RootTags.sets)]).toEqual([undefined, other]);
    expect(tags.of(ROOT, true)).not.toBe(tag);
  });

  it('are all new after a flush, and begin again when they have run out', () => {
    const first = tags.of(ROOT, true);
    tags.forgetAll();
    expect(published(ROOT)).toBeUndefined();
    expect(tags.of(ROOT, true)).not.toBe(first);
    for (let n = 0; n < 5000; n++) tags.of(ROOT + n, false);
    expect(tags.of(1, true)).toBe(0);
    tags.restart();
    expect(tags.of(1, true)).toBe(first);
  });
});
