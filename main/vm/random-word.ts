// SPDX-License-Identifier: MIT
// Random numbers for guests: the operating system's, taken a page at a time.

import { randomFillSync } from 'node:crypto';

const words = new Uint32Array(1024);
let next = words.length;

/** 32 bits that nobody can guess, and that are given out once. */
export function randomWord(): number {
  if (next === words.length) {
    randomFillSync(words);
    next = 0;
  }
  const word = words[next]!;
  words[next++] = 0;
  return word;
}
