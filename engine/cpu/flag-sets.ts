// SPDX-License-Identifier: MIT
// Sets of status flags, from the letters that descriptions of instructions name them by.

import type { FlagLetters } from '../x86/types.ts';
import { flagNames, type FlagName } from './stage-base.ts';

/** A set of flags: the bits that `flagBit` says. */
export type FlagSet = number;

const statusLetters: Record<FlagName, string> = { fz: 'z', fs: 's', fp: 'p', fc: 'c', fo: 'o', fa: 'a' };
export const flagBit = Object.fromEntries(flagNames.map((name, n) => [name, 1 << n])) as Record<FlagName, FlagSet>;
export const allFlags: FlagSet = (1 << flagNames.length) - 1;

export const flagSet = (letters: FlagLetters = ''): FlagSet =>
  flagNames.reduce((set, name) => set | (letters.includes(statusLetters[name]) ? flagBit[name] : 0), 0);
