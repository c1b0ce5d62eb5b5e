// SPDX-License-Identifier: MIT
// Where control goes on outside of a region: the functions that it calls or ends with a jump to.

import type { BlockPlace } from './installations.ts';
import type { Region } from './region.ts';

const pageBytes = 4096;

/** What a region calls or jumps to without going on there, by address relative to its entry page. */
export function leavesFor({ blocks }: Region): number[] {
  return blocks.flatMap(({ terminator: t }) =>
    (t.kind === 'call' || t.kind === 'jump') && t.target.kind === 'leave' ? [t.target.at] : [],
  );
}

/** The linear address of what lies at an address relative to the page of a block. */
export function linearOf({ code, lo, hi }: BlockPlace, at: number): Pick<BlockPlace, 'lo' | 'hi'> {
  const low = lo - (code % pageBytes) + at;
  return { lo: low >>> 0, hi: (hi + Math.floor(low / 2 ** 32)) >>> 0 };
}
