// SPDX-License-Identifier: MIT
// Random words for guests: each is given out once, also behind the end of a page of them.

import { expect, it } from 'vitest';
import { randomWord } from './random-word.ts';

it('gives out words of 32 bits that do not come again', () => {
  const words = Array.from({ length: 6000 }, randomWord);
  expect(words.every((word) => Number.isInteger(word) && word >= 0 && word < 2 ** 32)).toBe(true);
  // By twos, as guests get them: two alike among 3000 of 64 bits are not to be expected in the life of this test.
  const numbers = words.flatMap((word, n) => (n % 2 === 0 ? [`${word} ${words[n + 1]}`] : []));
  expect(new Set(numbers).size).toBe(3000);
  // Each bit is set in half of them, but for 400 (ten standard deviations).
  for (let bit = 0; bit < 32; bit++)
    expect(Math.abs(words.filter((word) => (word >>> bit) & 1).length - 3000)).toBeLessThan(400);
});
