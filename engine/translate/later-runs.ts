// SPDX-License-Identifier: MIT
// At a guest's end, what it came to again and again without being hot is translated: the next run has that from its start, with machine code.

import type { BlockStore, ModuleCompiler } from '../host.ts';
import { compileRegions } from './compile.ts';
import type { BlockPlace } from './installations.ts';
import { hostIn } from './profile.ts';
import type { Region } from './region.ts';
import { codeRanges, packModule, storeKey, type RegionWithCode } from './stored-regions.ts';
import { batchRegions } from './tuning.ts';

/** Where the regions come from and go to. */
export interface LaterRuns {
  readonly u8: Uint8Array;
  /** The region that begins at a place; undefined: there is none. */
  find(place: BlockPlace): Region | undefined;
  readonly store: Pick<BlockStore, 'put'>;
  /** Makes machine code for a module of the store; false: there is none, and the module is not stored. */
  readonly compile: NonNullable<ModuleCompiler['compileForLater']>;
  isOver(): boolean;
}

/** Stores regions for the places, in their order, but for those inside of one before. Returns how many. */
export function translateForLaterRuns(places: readonly BlockPlace[], later: LaterRuns): number {
  /** Host addresses of blocks. */
  const inside = new Set<number>();
  let made = 0;
  let batch: RegionWithCode[] = [];
  const flush = (): void => {
    if (batch.length === 0) return;
    const compiled = compileRegions(
      batch.map(({ region }) => region),
      'leave',
    );
    const value = packModule(compiled, batch, 'narrow');
    const key = storeKey(value);
    if (later.compile(key, compiled.bytes)) {
      later.store.put(key, value);
      made += batch.length;
    }
    batch = [];
  };
  for (const place of places) {
    if (later.isOver()) return made;
    const region = inside.has(place.code) ? undefined : later.find(place);
    if (!region) continue;
    for (const { at } of region.blocks) inside.add(hostIn(region.pages, at));
    batch.push({ region, ranges: codeRanges(region, later.u8) });
    if (batch.length >= batchRegions) flush();
  }
  flush();
  return made;
}
