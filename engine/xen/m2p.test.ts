// SPDX-License-Identifier: MIT
// The M2P: entries, invalid marks, and its size in frames.

import { expect, it } from 'vitest';
import { xenFramesNeeded } from './domain.ts';
import { FAKE_MFN_BASE, fakeMemory } from './fake-machine.ts';
import { M2p, m2pFrames } from './m2p.ts';
import { PageTypes } from './page-types.ts';

it('holds an entry per frame and takes the frames it says', () => {
  const mem = fakeMemory(64);
  for (const frames of [FAKE_MFN_BASE + 64, 512, 513, 20000]) {
    let allocated = 0;
    const m2p = new M2p(mem, new PageTypes(frames), () => FAKE_MFN_BASE + 1 + allocated++);
    expect(allocated).toBe(m2pFrames(frames));
    expect(xenFramesNeeded(frames)).toBeGreaterThan(allocated);
    expect(m2p.get(frames - 1)).toBe(0xffffffff);
    m2p.set(frames - 1, 77, 0);
    m2p.set(0, 1, 2);
    expect([m2p.get(frames - 1), m2p.get(0), m2p.get(1)]).toEqual([77, 1, 0xffffffff]);
    m2p.clear(0);
    expect(m2p.get(0)).toBe(0xffffffff);
  }
});
