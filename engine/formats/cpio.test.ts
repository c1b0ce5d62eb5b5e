// SPDX-License-Identifier: MIT
// Unit tests of the cpio writer and of UTF-8: read back field by field.
import { describe, expect, it } from 'vitest';
import { PvError } from '../errors.ts';
import type { CpioEntry } from './cpio.ts';
import { writeCpio } from './cpio.ts';
import { encodeUtf8 } from './utf8.ts';

const entries: CpioEntry[] = [
  { kind: 'directory', path: 'dev', permissions: 0o755 },
  { kind: 'character-device', path: 'dev/console', permissions: 0o600, major: 5, minor: 1 },
  { kind: 'file', path: 'init', permissions: 0o755, data: encodeUtf8('#!/bin/sh\n') },
  { kind: 'symlink', path: 'sh', target: 'bin/busybox' },
  { kind: 'file', path: 'größe', permissions: 0o644, data: new Uint8Array(0) },
];

/** Reads an archive back by the rules of the format. */
function parse(archive: Uint8Array): { name: string; fields: number[]; data: string }[] {
  const text = Buffer.from(archive);
  const found = [];
  for (let at = 0; ;) {
    expect(text.toString('latin1', at, at + 6)).toBe('070701');
    const fields = Array.from({ length: 13 }, (_, i) =>
      parseInt(text.toString('latin1', at + 6 + i * 8, at + 14 + i * 8), 16),
    );
    const [nameSize, size] = [fields[11]!, fields[6]!];
    const name = text.toString('utf8', at + 110, at + 110 + nameSize - 1);
    expect(text[at + 110 + nameSize - 1]).toBe(0);
    const dataAt = (at + 110 + nameSize + 3) & ~3;
    if (name === 'TRAILER!!!') return found;
    found.push({ name, fields, data: text.toString('utf8', dataAt, dataAt + size) });
    at = (dataAt + size + 3) & ~3;
  }
}

describe('cpio writer', () => {
  it('writes what can be read back', () => {
    const archive = writeCpio(entries);
    expect(archive.length % 512).toBe(0);
    const found = parse(archive);
    expect(found.map((e) => [e.name, e.fields[1]!.toString(8), e.data])).toEqual([
      ['dev', '40755', ''],
      ['dev/console', '20600', ''],
      ['init', '100755', '#!/bin/sh\n'],
      ['sh', '120777', 'bin/busybox'],
      ['größe', '100644', ''],
    ]);
    expect(found.map((e) => e.fields[0])).toEqual([1, 2, 3, 4, 5]);
    expect([found[1]!.fields[9], found[1]!.fields[10]]).toEqual([5, 1]);
    expect(found.every((e) => e.fields[2] === 0 && e.fields[3] === 0 && e.fields[5] === 0)).toBe(true);
  });

  it('is the same every time', () => {
    expect(Buffer.compare(writeCpio(entries), writeCpio(entries))).toBe(0);
  });

  it.each(['', '/etc', 'a/../b', 'a\0b', 'TRAILER!!!'])('refuses the path %j', (path) => {
    expect(() => writeCpio([{ kind: 'directory', path, permissions: 0o755 }])).toThrow(PvError);
  });
});

describe('UTF-8', () => {
  it.each(['', 'abc', 'größe', '€', '𝄞', 'a\ud800b', '\udc00'])('encodes %j as TextEncoder does', (text) => {
    expect([...encodeUtf8(text)]).toEqual([...new TextEncoder().encode(text)]);
  });
});
