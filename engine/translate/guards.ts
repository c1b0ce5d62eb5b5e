// SPDX-License-Identifier: MIT
// What a region of several pages checks when it is entered: that its further pages are mapped where the code was read.

import type { RegionPage } from './region.ts';

/**
 * Slots (u32) of a region among its module's, in front of what it counts: when the pages were last found to be where they should (the
 * address of the entry page and ST.asid, i64, and `ST.execEpoch`, u64), and host addresses of the further pages.
 */
const stampSlots = 4;
export const Stamp = { tag: 0, epoch: 8 } as const;

/** Slots of one region, of all kinds: a batch's are no more than a stored module may have (`maxGuards`). Only links are left out to keep to it. */
export const regionSlots = 512;

/** Slots of a region with so many further pages. */
export const guardSlots = (furtherPages: number): number => (furtherPages === 0 ? 0 : stampSlots + furtherPages);

/** The further pages of a region: how many pages behind the entry page, and the number of the slot. */
export const guardsOf = (pages: readonly { readonly delta: number }[]): { delta: number; slot: number }[] =>
  pages.filter(({ delta }) => delta !== 0).map(({ delta }, n) => ({ delta, slot: stampSlots + n }));

/** Writes the slots of a region with these pages, at index `at` of `u32`; the further ones have not been looked for yet. */
export function writeGuards(u32: Uint32Array, at: number, pages: readonly RegionPage[]): void {
  const further = pages.filter(({ delta }) => delta !== 0);
  u32.fill(0, at, at + guardSlots(further.length));
  further.forEach(({ host }, n) => (u32[at + stampSlots + n] = host));
}
