// SPDX-License-Identifier: MIT
// What the interpreter has counted of the ways that branches go, as the search for a narrow region asks for it.

import { rarely } from './tuning.ts';

/** How often the conditional branch at a host address was interpreted and went this way; undefined: nobody knows. */
export type TimesGone = (host: number, taken: boolean) => number | undefined;

/**
 * For a region about to be found: whether a branch was interpreted going some way often enough, compared to how often the first one was met at
 * all. What hardly ever happens is most of a kernel's code.
 */
export function seenToGo(timesGone: TimesGone): (at: number, taken: boolean) => boolean {
  let met: number | undefined;
  return (at, taken) => {
    const times = timesGone(at, taken);
    if (times === undefined) return true;
    met ??= times + timesGone(at, !taken)!;
    return times * rarely >= met;
  };
}

/** Part of the times that the branch at a host address was taken when it was interpreted; undefined: nobody knows. */
export function seenTaken(timesGone: TimesGone, at: number): number | undefined {
  const taken = timesGone(at, true);
  if (taken === undefined) return undefined;
  const met = taken + timesGone(at, false)!;
  return met === 0 ? undefined : taken / met;
}
