// SPDX-License-Identifier: MIT
// Tests of profile.ts.
import { describe, expect, it } from 'vitest';
import { allCodeBits, BranchSite, codeBits, Site } from '../cpu/layout.ts';
import { Profile, slotsOf } from './profile.ts';
import { findRegion } from './region.ts';

const frame = 0x10000;
const counters = 0x2000;

/** 0: jz 4; 2: jmp rax; 4: jnz 8; 6: jmp rbx; 8: ret */
const bytes = [0x74, 2, 0xff, 0xe0, 0x75, 2, 0xff, 0xe3, 0xc3];

function profile() {
  const u8 = new Uint8Array(0x11000);
  u8.set(bytes, frame);
  const u32 = new Uint32Array(u8.buffer);
  const region = findRegion(u8, 0, frame, () => 0, { instructions: 20, pages: 1 })!;
  const known = new Profile(u32);
  const set = (base: number, slot: number | undefined, field: number, value: number) =>
    (u32[(base + field) / 4 + slot!] = value);
  return { region, known, set, slots: slotsOf(region) };
}

describe('counters', () => {
  it('have places of their own', () => {
    const { region, slots } = profile();
    expect([region.computed.length, region.branches.length]).toEqual([3, 2]);
    const taken = [
      ...slots.computed.flatMap((s) => [...Array(Site.bytes / 4).keys()].map((n) => s + n)),
      ...slots.branches.flatMap((s) => [...Array(BranchSite.bytes / 4).keys()].map((n) => s + n)),
      slots.entries,
    ];
    expect([...taken].sort((a, b) => a! - b!)).toEqual([...Array(slots.total).keys()]);
  });

  it('are not there when nothing is to be learned', () => {
    expect(slotsOf({ computed: [], branches: [] }).total).toBe(0);
  });

  it('count entries for the sake of branches alone', () => {
    const { computed, entries, total } = slotsOf({ computed: [3, 9], branches: [] });
    expect(entries).toBeUndefined();
    expect(total).toBe((computed.length * Site.bytes) / 4);
  });
});

describe('the share of a branch that is taken', () => {
  it('is known when the branch was met often enough', () => {
    const { region, known, set, slots } = profile();
    expect(known.takenShare(frame)).toBeUndefined();
    known.add(region, counters);
    set(counters, slots.branches[0]!, BranchSite.met, 63);
    expect(known.takenShare(frame)).toBeUndefined();
    set(counters, slots.branches[0]!, BranchSite.met, 64);
    set(counters, slots.branches[0]!, BranchSite.taken, 48);
    expect(known.takenShare(frame)).toBe(0.75);
  });

  it('is that of all regions that count it', () => {
    const { region, known, set, slots } = profile();
    for (const [at, taken] of [
      [counters, 100],
      [counters + 0x1000, 0],
    ] as const) {
      known.add(region, at);
      set(at, slots.branches[0]!, BranchSite.met, 100);
      set(at, slots.branches[0]!, BranchSite.taken, taken);
    }
    expect(known.takenShare(frame)).toBe(0.5);
  });
});

describe('a way of a branch', () => {
  /** The first branch was met and taken so often while the region was entered so often. */
  const after = (met: number, taken: number, entries: number) => {
    const { region, known, set, slots } = profile();
    known.add(region, counters);
    set(counters, slots.branches[0]!, BranchSite.met, met);
    set(counters, slots.branches[0]!, BranchSite.taken, taken);
    set(counters, slots.entries, 0, entries);
    return [known.isUsual(frame, true), known.isUsual(frame, false)];
  };

  it('is usual until the opposite is known', () => {
    expect(after(0, 0, 0)).toEqual([true, true]);
    expect(after(63, 0, 63)).toEqual([true, true]);
  });

  it('is not when it is hardly ever gone', () => {
    expect(after(64, 0, 64)).toEqual([false, true]);
    expect(after(6400, 6400, 6400)).toEqual([true, false]);
    expect(after(6400, 99, 6400)).toEqual([false, true]);
    expect(after(6400, 100, 6400)).toEqual([true, true]);
  });

  it('is not known where it is not counted', () => {
    const { region, known } = profile();
    expect(known.isUsual(frame, true)).toBeUndefined();
    known.add({ ...region, branches: [] }, counters);
    expect(known.isUsual(frame, true)).toBeUndefined();
  });

  it('is usual at the end of a long loop', () => {
    expect(after(1_000_000, 1000, 1000)).toEqual([true, true]);
  });

  it('counts in all regions that have the branch', () => {
    const { region, known, set, slots } = profile();
    const others = counters + 4 * slots.total;
    known.add(region, counters);
    known.add(region, others);
    set(counters, slots.entries, 0, 6400);
    set(counters, slots.branches[0]!, BranchSite.met, 6400);
    expect(known.isUsual(frame, true)).toBe(false);
    set(others, slots.entries, 0, 200);
    set(others, slots.branches[0]!, BranchSite.met, 200);
    set(others, slots.branches[0]!, BranchSite.taken, 200);
    expect(known.isUsual(frame, true)).toBe(true);
    known.clear();
    expect(known.isUsual(frame, false)).toBeUndefined();
  });
});

describe('where a computed jump usually goes', () => {
  it.each([
    { what: 'near', target: 0xffffffff_81002345n, expected: 0x2345 },
    { what: 'before the page', target: 0xffffffff_80fffff0n, expected: -16 },
    { what: 'as far as a region can reach', target: 0xffffffff_81000000n - 0x80000000n, expected: -0x80000000 },
    { what: 'too far for a region', target: 0x5555_55554000n, expected: undefined },
  ])('is told relative to a page: $what', ({ target, expected }) => {
    const { region, known, set, slots } = profile();
    known.add(region, counters);
    const [slot] = slots.computed;
    set(counters, slot!, 0, Number(target & 0xffffffffn));
    set(counters, slot! + 1, 0, Number(target >> 32n));
    set(counters, slot!, Site.same, 1000);
    set(counters, slot!, Site.other, 1);
    expect(known.usualTarget(frame + 2, 0x81000000, 0xffffffff)).toBe(expected);
    set(counters, slot!, Site.other, 1000);
    expect(known.usualTarget(frame + 2, 0x81000000, 0xffffffff)).toBeUndefined();
  });
});

describe('what was counted', () => {
  it('is forgotten where the code changes, and only there', () => {
    for (const [changed, isKnown] of [
      [codeBits(0, 1), false],
      [codeBits(0x80, 0x1000), true],
      [allCodeBits, false],
    ] as const) {
      const { region, known, set, slots } = profile();
      known.add(region, counters);
      set(counters, slots.entries, 0, 1000);
      expect(known.isUsual(frame, true)).toBe(false);
      known.forget(frame + 0x1000, allCodeBits);
      known.forget(frame, changed);
      expect(known.isUsual(frame, true)).toBe(isKnown ? false : undefined);
    }
  });

  it('is of the latest regions alone', () => {
    const { region, known, set, slots } = profile();
    const places = [0, 1, 2, 3, 4].map((n) => counters + 4 * slots.total * n);
    set(places[0]!, slots.entries, 0, 1000);
    for (const place of places.slice(0, 4)) known.add(region, place);
    expect(known.isUsual(frame, true)).toBe(false);
    known.add(region, places[4]!);
    expect(known.isUsual(frame, true)).toBe(true);
  });
});
