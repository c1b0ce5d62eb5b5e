// SPDX-License-Identifier: MIT
// What a translator counts.

import { wideZero } from '../specimens.ts';

export interface TranslatorStatistics {
  regions: number;
  modules: number;
  /** Bytes of WebAssembly made. */
  bytes: number;
  compileMs: number;
  /** Regions dropped because their code changed, and because room was needed. */
  invalidations: number;
  evictions: number;
  /** Regions taken from the store, and stored ones whose code turned out to be different. */
  storeHits: number;
  storeMismatches: number;
  /** Times that hot code was not translated because its page keeps changing. */
  postponed: number;
  /** Of the regions taken from the store, those that were made ahead of the first boot. */
  precompiledHits: number;
  /** Regions made at the end for later runs alone. */
  laterRegions: number;
}

export const newStatistics = (): TranslatorStatistics => ({
  regions: 0,
  modules: 0,
  bytes: 0,
  compileMs: wideZero,
  invalidations: 0,
  evictions: 0,
  storeHits: 0,
  storeMismatches: 0,
  postponed: 0,
  precompiledHits: 0,
  laterRegions: 0,
});
