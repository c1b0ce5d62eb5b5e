// SPDX-License-Identifier: MIT
// Whatever happens to the bytes of a store, it never returns anything but what was put.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestLibrary, contentOf } from './fixtures/library.ts';
import { keyOf, valueOf } from './fixtures/values.ts';
import { MAX_VALUE_BYTES, RecordType, encodeRecord, encodeSegmentHeader, storeTag } from './format.ts';

let library: TestLibrary;
beforeEach(() => (library = new TestLibrary()));
afterEach(() => library.remove());

const SIZES = [0, 1, 40, 100];
/** Of the record that says that a segment is complete. */
const END_BYTES = 36;
const KEYS = SIZES.map((_, i) => keyOf(i));

/** One segment with a few small values; its path and bytes. */
async function smallSegment(): Promise<{ file: string; bytes: Buffer }> {
  const store = library.open();
  SIZES.forEach((bytes, i) => store.put(KEYS[i], valueOf(KEYS[i], bytes)));
  await store.close();
  const [file] = library.segments();
  return { file, bytes: fs.readFileSync(file) };
}

const VALUES = new Map(KEYS.map((key, i) => [key, valueOf(key, SIZES[i])]));

/** Opens the store and checks everything in it, by both ways of reading; returns the keys that are left. */
function survivors(): { keys: string[]; damaged: number } {
  const store = library.open();
  const content = contentOf(store);
  // Thousands of times: plain comparisons, `expect` would take longer than everything else.
  for (const [key, value] of content) {
    if (Buffer.compare(value, VALUES.get(key) ?? Buffer.from('none')) !== 0) throw new Error(`wrong value of ${key}`);
  }
  const byKey = library.open();
  for (const key of KEYS) if ((byKey.get(key) !== null) !== content.has(key)) throw new Error(`get differs for ${key}`);
  return { keys: [...content.keys()], damaged: store.stats().damaged };
}

describe('a damaged block store', () => {
  it('loses at most one value to any flipped bit after the header, and notices', async () => {
    const { file, bytes } = await smallSegment();
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >>> 3] ^= 1 << (bit & 7);
      fs.writeFileSync(file, flipped);
      const { keys, damaged } = survivors();
      const lost = bit >>> 3 < 44 ? KEYS.length : bit >>> 3 < bytes.length - END_BYTES ? 1 : 0;
      if (keys.length !== KEYS.length - lost) expect(keys, `bit ${bit}`).toEqual(`all but ${lost}`);
      if (damaged !== 1) expect(damaged, `bit ${bit}`).toBe(1);
    }
  });

  it('loses nothing but the end when it is truncated anywhere', async () => {
    const { file, bytes } = await smallSegment();
    const ends = [44];
    KEYS.forEach((key, i) => ends.push(ends[i] + 36 + key.length + SIZES[i]));
    for (let length = 0; length <= bytes.length; length++) {
      fs.writeFileSync(file, bytes.subarray(0, length));
      const { keys, damaged } = survivors();
      expect(keys).toHaveLength(ends.slice(1).filter((end) => end <= length).length);
      const whole = ends.includes(length) || length === bytes.length;
      expect(damaged, `length ${length}`).toBe(whole ? 0 : 1);
    }
  });

  it('loses at most two values to a wrong, missing or doubled byte after the header', async () => {
    const { file, bytes } = await smallSegment();
    for (let at = 0; at < bytes.length; at++) {
      const before = bytes.subarray(0, at);
      for (const byte of [[], [0], [0xff], [bytes[at], bytes[at]]]) {
        fs.writeFileSync(file, Buffer.concat([before, Buffer.from(byte), bytes.subarray(at + 1)]));
        const { keys } = survivors();
        if (at >= 44 && keys.length < KEYS.length - 2) expect(keys, `byte ${at}`).toEqual('all but two');
      }
    }
  });

  it('survives random damage', async () => {
    const { file, bytes } = await smallSegment();
    let state = 20240229;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return Math.floor(((state >>> 0) / 2 ** 32) * below);
    };
    for (let round = 0; round < 1500; round++) {
      let content = Buffer.from(bytes);
      for (let changes = 1 + random(4); changes > 0; changes--) {
        const from = random(content.length);
        const length = 1 + random(60);
        switch (random(5)) {
          case 0:
            content[from] = random(256);
            break;
          case 1:
            content.fill(random(256), from, Math.min(from + length, content.length));
            break;
          case 2:
            // A block that is written to the wrong place.
            content.copy(content, random(content.length), from, from + length);
            break;
          case 3:
            content = Buffer.concat([content.subarray(0, from), content.subarray(from + length)]);
            break;
          case 4:
            content = Buffer.concat([content.subarray(0, from), content.subarray(random(content.length))]);
            break;
        }
        if (content.length === 0) break;
      }
      fs.writeFileSync(file, content);
      survivors();
    }
  });

  it('survives files full of noise, zeros and lies', async () => {
    const { file, bytes } = await smallSegment();
    const mark = bytes.subarray(28, 36);
    const header = bytes.subarray(0, 44);
    const contents = [
      Buffer.alloc(0),
      Buffer.alloc(100_000),
      Buffer.concat([header, Buffer.alloc(300_000)]),
      Buffer.concat([header, ...Array.from({ length: 20_000 }, () => mark)]),
      // A record which claims that it has more bytes than any may have, or than there are.
      ...[MAX_VALUE_BYTES + 1, 0xffffffff, 1_000_000].map((length) => {
        const lie = encodeRecord(mark, RecordType.Value, 'aa', Buffer.alloc(10), 0);
        lie.writeUInt32LE(length, 24);
        return Buffer.concat([header, lie]);
      }),
      ...[Number.NaN, Infinity].map((time) =>
        Buffer.concat([header, encodeRecord(mark, RecordType.Value, 'aa', Buffer.alloc(10), time)]),
      ),
    ];
    for (const content of contents) {
      fs.writeFileSync(file, content);
      expect(survivors()).toMatchObject({ keys: [] });
    }
  });

  it('does not take a part of a value for a record', async () => {
    const { file, bytes } = await smallSegment();
    const tag = storeTag('test', 'pv');
    const foreign = encodeSegmentHeader(tag);
    // What a guest may know: the format, the engine's version, and any mark but the one of the segment its value gets into.
    const forged = encodeRecord(foreign.mark, RecordType.Value, KEYS[3], Buffer.from('forged'), Date.now());
    const mark = bytes.subarray(28, 36);
    const carrier = encodeRecord(mark, RecordType.Value, 'cc', Buffer.concat([foreign.header, forged, forged]), 0);
    carrier[30] ^= 1;
    fs.writeFileSync(file, Buffer.concat([bytes.subarray(0, 44), carrier, bytes.subarray(44)]));
    expect(survivors()).toMatchObject({ damaged: 1, keys: expect.arrayContaining(KEYS) });
  });

  it('puts a damaged value again', async () => {
    const { file, bytes } = await smallSegment();
    bytes[bytes.length - END_BYTES - 1] ^= 1;
    fs.writeFileSync(file, bytes);
    library.now += 1000;
    const store = library.open();
    store.put(KEYS[3], valueOf(KEYS[3], SIZES[3]));
    await store.close();
    expect(store.stats()).toMatchObject({ misses: 1, written: 1, damaged: 1 });
    expect(survivors().keys.sort()).toEqual([...KEYS].sort());
  });

  it('ignores damaged notes of use', async () => {
    const store = library.open();
    for (const [i, key] of KEYS.entries()) store.put(key, valueOf(key, SIZES[i]));
    await store.close();
    const values = library.segments();
    library.now += 3600_000;
    const touching = library.open();
    touching.touch(KEYS[0]);
    await touching.close();
    const [file] = library.segments().filter((name) => !values.includes(name));
    const bytes = fs.readFileSync(file);
    for (let at = 0; at < bytes.length; at++) {
      const flipped = Buffer.from(bytes);
      flipped[at] ^= 0x55;
      fs.writeFileSync(path.join(library.store, path.basename(file)), flipped);
      expect(survivors().keys.sort()).toEqual([...KEYS].sort());
    }
  });
});
