// SPDX-License-Identifier: MIT
// Tests of static-code.ts and precompile.ts: what is found in code that has not run, and what of it gets into the store.
import { describe, expect, it } from 'vitest';
import { bytesOf, le } from '../cpu/test-machine.ts';
import { precompileRegions, rankEntries } from './precompile.ts';
import { exploreCode, type CodeEntry, type CodeImage } from './static-code.ts';
import { unpackModule } from './stored-regions.ts';

const limits = { instructions: 120, pages: 4 };
const call = (at: number, target: number) => `e8${le(target - at - 5, 4)}`;

/** Puts pieces of code at offsets; everything from 0x1000 on can be executed. */
function image(pieces: Record<number, string>, bytes = 0x4000): CodeImage {
  const u8 = new Uint8Array(bytes).fill(0xcc);
  for (const [at, code] of Object.entries(pieces)) u8.set(bytesOf(code), Number(at));
  return { u8, isCode: (offset) => offset >= 0x1000 && offset < bytes };
}

// start: call work; ret.  work: a loop in a loop, the inner one calls leaf.  leaf: some sums.
const leafCode = `${'01c8'.repeat(8)} c3`;
const program = image({
  0x1000: `${call(0x1000, 0x1100)} c3`,
  0x1100: `b90a000000 ba0a000000 ${call(0x110a, 0x2200)} ffca 75f7 ffc9 75ee c3`,
  0x2200: leafCode,
  // Only a symbol tells of it.
  0x3000: leafCode,
});

const summary = (entries: readonly CodeEntry[]) => entries.map(({ offset, kind }) => `${kind} ${offset.toString(16)}`);

describe('exploring code', () => {
  it('finds functions, loops and where calls return to', () => {
    expect(summary(exploreCode(program, [0x1000], [])).sort()).toEqual([
      'function 1000',
      'function 1100',
      'function 2200',
      'loop 1105',
      'loop 110a',
      'return 1005',
      'return 110f',
    ]);
    expect(summary(exploreCode(program, [0x1000], [0x3000]))).toContain('function 3000');
  });

  it('guesses that inner loops run most and what nothing calls runs least', () => {
    const ranked = summary(rankEntries(exploreCode(program, [0x1000], [0x3000])));
    expect(ranked.slice(0, 2).sort()).toEqual(['loop 110a', 'return 110f']);
    expect(ranked.indexOf('function 2200')).toBeLessThan(ranked.indexOf('function 1100'));
    expect(ranked.at(-1)).toBe('function 3000');
  });

  it('ends at what is no code, with recursion and with jumps anywhere', () => {
    const odd = image({
      0x1000: `${call(0x1000, 0x1000)} ${call(0x1005, 0x100)} ${call(0x100a, 0x7fff_0000)} ebfe`,
      0x2000: '0fff',
      0x3ffe: '4889',
    });
    expect(summary(exploreCode(odd, [0x1000, 0x2000, 0x3ffe, -5, 1e9], [0x3fff]))).toContain('loop 100f');
  });

  it('says how far it is', () => {
    const told: number[] = [];
    exploreCode(program, [0x1000], [0x3000], (done, total) => told.push(done / total));
    expect(told.at(-1)).toBe(1);
  });
});

describe('translating ahead', () => {
  const entries = rankEntries(exploreCode(program, [0x1000], [0x3000]));
  const run = (most: { regions: number; bytes: number }) => {
    const values = new Map<string, Uint8Array>();
    const made = precompileRegions(program, entries, most, limits, {
      put: (key, value) => void values.set(key, value),
    });
    return { made, values };
  };

  it('puts modules into the store that say where they come from', () => {
    const { made, values } = run({ regions: 100, bytes: 1e9 });
    expect(made.regions).toBeGreaterThan(3);
    expect(made.modules).toBe(values.size);
    let regions = 0;
    for (const value of values.values()) {
      const module = unpackModule(value)!;
      expect(module.kind).toBe('ahead');
      expect(WebAssembly.validate(value.slice(module.wasmAt))).toBe(true);
      regions += module.regions.length;
    }
    expect(regions).toBe(made.regions);
    // The same again has the same names.
    expect([...run({ regions: 100, bytes: 1e9 }).values.keys()]).toEqual([...values.keys()]);
  });

  it('keeps to its limits', () => {
    expect(run({ regions: 2, bytes: 1e9 }).made.regions).toBe(2);
    expect(run({ regions: 0, bytes: 1e9 }).made.modules).toBe(0);
    expect(run({ regions: 100, bytes: 1 }).made.modules).toBe(1);
  });
});
