// SPDX-License-Identifier: MIT
// How well a text fits what was typed into the palette: letters in order, whole words and beginnings first.

/** Higher is better; null when it does not fit. */
export function rank(text: string, typed: string): number | null {
  const words = typed
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  const hay = text.toLowerCase();
  let total = 0;
  for (const word of words) {
    const score = rankWord(hay, word);
    if (score === null) return null;
    total += score;
  }
  // Among equals the shorter text says more exactly what was meant.
  return total - hay.length / 1000;
}

function rankWord(hay: string, word: string): number | null {
  const at = hay.indexOf(word);
  if (at === 0) return 4;
  if (at > 0) return /[\s.-]/.test(hay[at - 1]) ? 3 : 2;
  let from = 0;
  for (const letter of word) {
    const next = hay.indexOf(letter, from);
    if (next < 0) return null;
    from = next + 1;
  }
  return 1;
}
