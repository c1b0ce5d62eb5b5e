// SPDX-License-Identifier: MIT
// When code is translated, into regions of which size, and when these are made again: docs/decisions.md says where the figures come from.

import type { RegionLimits } from './region.ts';
import type { StoredKind } from './stored-regions.ts';

/**
 * Code is translated in two steps: soon into narrow regions, which end where others begin and leave out what was never reached; and when that turns
 * out to be really hot into wide ones, which go on through whatever they call, and behind computed jumps where the narrow ones saw them go, but not where branches hardly ever went.
 */
export const regionLimits: RegionLimits = { instructions: 120, pages: 4 };
export const wideLimits: RegionLimits = { instructions: 240, pages: 8 };
/** Looks after which a block is translated. */
export const hotLooks = 40;
/**
 * So many are enough if the first one was that long ago, in milliseconds, and no more blocks than so have been decoded since. The block has been busy
 * for a while, at such a rate that its translation has paid when it is busy for a few times as long; and the guest goes round in code that it knows,
 * so that is likely.
 */
export const steady = { looks: 8, least: 60, most: 180, decoded: 100 };
/** Entries after which a block is translated along with a region that leaves for it: half of what makes the region hot that is left for it. */
export const entriesToComeAlong = 500;
/** At the end, so many of the blocks with so many looks that have no region are translated for later runs: 1 ms each. */
export const lukewarm = { looks: 1, most: 3000 };
/** With one region come so many others at most: 20 to 50 ms. */
export const mostAlong = 32;
/**
 * Samples after which that is done again: of a block that one in so many of the samples since its first one hit, and of any other. The time that
 * it takes is four times as long, and what it saves of a broad load is little.
 */
export const wideSamples = { ofMany: 64, oneIn: 32, ofFew: 1000 };
/** Looks after which a region is used that an earlier run found worth making: its code has been busy before, but may have been later than now. */
export const storedLooks = 6;
/** Samples after which a better one is. */
export const storedWideSamples = 200;
/** The same of one that has its machine code: the first look at its block comes after so many entries, and a better one's after so many samples. */
export const ready = { entries: 8, wideSamples: 20 };
/** Looks after which a region made ahead of the first boot is used: it costs less than one that has yet to be made. */
export const precompiledLooks = 8;
/** The kinds that a narrow region may be replaced by. */
export const better: readonly StoredKind[] = ['wide', 'patient', 'exact'];
/** A region leaves out where a branch goes less than once in so many times. */
export const rarely = 32;
export const batchRegions = 8;
/** A batch is compiled this long after its first region was queued. */
export const batchDelayMs = 5;
/** All regions are dropped beyond this much WebAssembly. */
export const maxBytes = 48 << 20;
