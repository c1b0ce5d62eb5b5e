// SPDX-License-Identifier: MIT
// For tests of parsers: damaged copies of a good input, from a fixed seed, and a small random generator.

/** xorshift32; returns unsigned 32-bit numbers. `seed` must not be 0. */
export function randomNumbers(seed: number): () => number {
  let x = seed | 0;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

/** Yields `count` damaged copies of `good`: flipped bits, random and extreme bytes, cuts, and shifted pieces. */
export function* mutations(good: Uint8Array, count: number, seed: number): Generator<Uint8Array> {
  const random = randomNumbers(seed);
  const extremes = [0x00, 0x01, 0x7f, 0x80, 0xff];
  for (let n = 0; n < count; n++) {
    let bytes: Uint8Array = good.slice();
    for (let edits = 1 + (random() % 4); edits > 0; edits--) {
      // Half of the edits hit the start, where the headers are.
      const at = random() % (random() % 2 === 0 ? Math.min(bytes.length, 64) : bytes.length);
      switch (random() % 5) {
        case 0:
          bytes[at] = bytes[at]! ^ (1 << (random() % 8));
          break;
        case 1:
          bytes[at] = random();
          break;
        case 2:
          bytes.fill(extremes[random() % extremes.length]!, at, at + 1 + (random() % 8));
          break;
        case 3:
          bytes.copyWithin(at, random() % bytes.length);
          break;
        default:
          if (at > 16) bytes = bytes.slice(0, at);
      }
    }
    yield bytes;
  }
}
