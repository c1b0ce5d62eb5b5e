// SPDX-License-Identifier: MIT
// The palette: what fits what was typed, and what comes first.
import { expect, it } from 'vitest';
import { rank } from './ranking.ts';

const best = (typed: string, texts: string[]): string[] =>
  texts
    .map((text) => ({ text, score: rank(text, typed) }))
    .filter((item): item is { text: string; score: number } => item.score !== null)
    .sort((a, b) => b.score - a.score)
    .map(({ text }) => text);

it('prefers beginnings, then words, then parts, then letters in order', () => {
  expect(best('st', ['Fast', 'Reset', 'Start', 'Force stop', 'Show things'])).toEqual([
    'Start',
    'Force stop',
    'Fast',
    'Reset',
    'Show things',
  ]);
});

it('wants every word', () => {
  expect(best('new mach', ['New machine', 'New window', 'Next machine'])).toEqual(['New machine']);
  expect(rank('anything', '')).not.toBeNull();
});
