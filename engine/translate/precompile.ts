// SPDX-License-Identifier: MIT
// Regions made from a kernel image before anybody has seen the kernel run: which places are worth it, and their modules for the store.

import type { BlockStore } from '../host.ts';
import { compileRegions } from './compile.ts';
import { findRegion, type Region } from './region.ts';
import type { CodeEntry, CodeImage } from './static-code.ts';
import { codeRanges, packModule, storeKey } from './stored-regions.ts';

const pageBytes = 4096;
/** Few, because a module is compiled whole as soon as one of its regions is wanted, and most never are. */
const regionsPerModule = 4;

export interface PrecompileLimits {
  /** Regions to make at most, and bytes to put into the store. */
  readonly regions: number;
  readonly bytes: number;
}

export interface Precompiled {
  readonly regions: number;
  readonly modules: number;
  readonly bytes: number;
}

/** The places that are guessed to be executed most, first. */
export function rankEntries(entries: readonly CodeEntry[]): CodeEntry[] {
  return [...entries].sort((a, b) => b.frequency - a.frequency || a.offset - b.offset);
}

/**
 * Makes regions for the entries, in their order, and puts them into the store, until a limit is reached. `limits` of a region are those that
 * the translator has. `progress` is called for every module.
 */
export function precompileRegions(
  image: CodeImage,
  entries: readonly CodeEntry[],
  limits: PrecompileLimits,
  regionLimits: Parameters<typeof findRegion>[4],
  store: Pick<BlockStore, 'put'>,
  progress: (regions: number) => void = () => undefined,
): Precompiled {
  const done = { regions: 0, modules: 0, bytes: 0 };
  const seen = new Set<number>();
  let batch: Region[] = [];
  const flush = (): void => {
    if (batch.length === 0) return;
    const value = packModule(
      compileRegions(batch),
      batch.map((region) => ({ region, ranges: codeRanges(region, image.u8) })),
      'ahead',
    );
    store.put(storeKey(value), value);
    done.regions += batch.length;
    done.modules++;
    done.bytes += value.length;
    batch = [];
    progress(done.regions);
  };
  for (const { offset } of entries) {
    if (done.regions + batch.length >= limits.regions || done.bytes >= limits.bytes) break;
    if (seen.has(offset)) continue;
    seen.add(offset);
    const page = offset - (offset % pageBytes);
    const region = findRegion(
      image.u8,
      offset - page,
      // 0 would mean that nothing is mapped: images begin with a page that holds no code.
      page,
      (delta) => (image.isCode(page + delta * pageBytes) ? page + delta * pageBytes : 0),
      regionLimits,
      // What the guest really runs is translated anew, and counts then.
      { follows: () => true, usualTarget: () => undefined, learns: false },
    );
    // A few instructions are interpreted sooner than a region is entered.
    if (!region || region.instructions < smallestRegion) continue;
    batch.push(region);
    if (batch.length === regionsPerModule) flush();
  }
  flush();
  return done;
}

const smallestRegion = 6;
