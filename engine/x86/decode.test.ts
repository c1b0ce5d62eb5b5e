// SPDX-License-Identifier: MIT
// The decoder against hostile bytes and another disassembler.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Random } from '../../tests/oracle/random.ts';
import { decode, decoded } from './decode.ts';
import type { Entry } from './encoding.ts';
import { entries, opcodeTable } from './instructions.ts';
import type { Mode } from './stage.ts';

const prefixes = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65];

/** Bytes that often make an instruction: some prefixes, an opcode of any map, random rest. */
function candidate(r: Random, mode: Mode): number[] {
  const bytes: number[] = [];
  for (let n = r.pick([0, 0, 0, 1, 1, 2]); n > 0; n--) bytes.push(r.pick(prefixes));
  if (mode === 64 && r.chance(0.4)) bytes.push(0x40 | r.below(16));
  const map = r.below(8);
  if (map >= 4) bytes.push(0x0f);
  if (map === 6) bytes.push(0x38);
  if (map === 7) bytes.push(0x3a);
  while (bytes.length < 15) bytes.push(r.chance(0.1) ? r.pick([0, 0xff, 0x24, 0x04, 0x05]) : r.below(256));
  return bytes;
}

describe('hostile bytes', () => {
  it('never throw, never run over, and the same bytes decode the same', () => {
    const r = new Random(77);
    const buffer = new Uint8Array(64);
    const results = new Map<string, number>();
    for (let n = 0; n < 200_000; n++) {
      const mode = r.pick([64, 32, 16] as const);
      for (let i = 0; i < 32; i++) buffer[i] = r.below(256);
      if (r.chance(0.6)) buffer.set(candidate(r, mode));
      else if (r.chance(0.1)) buffer.fill(r.pick(prefixes), 0, 20);
      const end = r.below(20);
      const result = decode(buffer, 0, end, mode);
      results.set(result, (results.get(result) ?? 0) + 1);
      if (result === 'ok') {
        const { length, entry } = decoded;
        if (length > Math.min(15, end) || length < 1) expect.unreachable(`length ${length} of ${end}`);
        // More bytes behind it change nothing, one byte less makes it short.
        expect(decode(buffer, 0, 64, mode)).toBe('ok');
        if (decoded.length !== length || decoded.entry !== entry) expect.unreachable('depends on what follows');
        expect(decode(buffer, 0, length - 1, mode)).toBe('short');
      } else if (result === 'short' && end >= 15) expect.unreachable('short with 15 bytes at hand');
    }
    expect([...results.keys()].sort()).toEqual(['invalid', 'ok', 'short']);
    for (const count of results.values()) expect(count).toBeGreaterThan(5000);
  });

  it('of nothing but prefixes are invalid at fifteen, short before', () => {
    for (const prefix of prefixes) {
      const bytes = new Uint8Array(20).fill(prefix);
      expect(decode(bytes, 0, 14, 64)).toBe('short');
      expect(decode(bytes, 0, 15, 64)).toBe('invalid');
      // 14 prefixes and a one-byte instruction are just possible; LOCK is not allowed with it.
      bytes[14] = 0x90;
      expect(decode(bytes, 0, 20, 64)).toBe(prefix === 0xf0 ? 'invalid' : 'ok');
    }
  });

  it('stay within the given range', () => {
    const bytes = new Uint8Array(8).fill(0x48);
    expect(decode(bytes, 4, 8, 64)).toBe('short');
    expect(decode(bytes, 8, 8, 64)).toBe('short');
  });
});

/** A REX prefix that another prefix follows. */
function rexInFront(image: Uint8Array, at: number): boolean {
  for (let i = at; ; i++) {
    const rex = (image[i]! & 0xf0) === 0x40;
    const next = image[i + 1]!;
    if (rex && (prefixes.includes(next) || (next & 0xf0) === 0x40)) return true;
    if (!prefixes.includes(image[i]!)) return false;
  }
}

describe('lengths', () => {
  const slot = 32;
  const count = 40_000;
  const missing = spawnSync('objdump', ['--version']).status !== 0;

  it.skipIf(missing).each([64, 32, 16] as const)('agree with objdump in %i-bit mode', (mode) => {
    const r = new Random(1000 + mode);
    const image = new Uint8Array(count * slot).fill(0x90);
    for (let n = 0; n < count; n++) image.set(candidate(r, mode), n * slot);
    const folder = mkdtempSync(join(tmpdir(), 'paravane-decode-'));
    const machine = { 64: 'i386:x86-64', 32: 'i386', 16: 'i8086' }[mode];
    try {
      writeFileSync(join(folder, 'code'), image);
      const { stdout } = spawnSync(
        'objdump',
        ['-D', '-z', '-w', '-b', 'binary', '-m', machine, '-M', 'intel,intel64', join(folder, 'code')],
        { encoding: 'utf8', maxBuffer: 1 << 28 },
      );
      const lines = new Map<number, { length: number; text: string }>();
      for (const line of stdout.split('\n')) {
        const match = /^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(?:\t(.*))?$/.exec(line);
        if (match)
          lines.set(parseInt(match[1]!, 16), { length: match[2]!.trim().split(' ').length, text: match[3] ?? '' });
      }
      const wrong: string[] = [];
      let compared = 0;
      for (let n = 0; n < count; n++) {
        const at = n * slot;
        if (decode(image, at, at + slot, mode) !== 'ok') continue;
        // objdump takes FWAIT and what follows for one instruction, and a REX prefix in front of another prefix for one of its own.
        if (decoded.entry.opcode === 0x9b && decoded.entry.map === 0) continue;
        if (mode === 64 && rexInFront(image, at)) continue;
        // Prefixes that objdump has no use for get lines of their own.
        let end = at;
        let text: string;
        do {
          const line = lines.get(end);
          if (!line) break;
          text = line.text.trim();
          end += line.length;
        } while (/^(rex(\.[WRXB]+)?|data16|data32|addr16|addr32|lock|repn?z|[c-gs]s|\s)+$/.test(text));
        text ??= '';
        if (/\(bad\)/.test(text)) continue;
        compared++;
        if (end - at !== decoded.length) {
          const bytes = [...image.subarray(at, at + 15)].map((b) => b.toString(16).padStart(2, '0')).join(' ');
          wrong.push(`${bytes}: ${decoded.entry.text} has ${decoded.length}, objdump ${end - at} (${text})`);
        }
      }
      expect(wrong.slice(0, 20)).toEqual([]);
      expect(compared).toBeGreaterThan(count / 4);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

it('every described encoding is reached in a mode that has it', () => {
  const reached = new Set<Entry>();
  const buffer = new Uint8Array(24);
  const maps = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
  for (const [index, list] of opcodeTable.entries()) {
    if (list.length === 0) continue;
    const opcode = [...maps[index >> 8]!, index & 0xff];
    for (const mode of [64, 32] as const) {
      for (const prefix of [[], [0x66], [0xf2], [0xf3]]) {
        for (const rex of mode === 64 ? [[], [0x48]] : [[]]) {
          for (let modrm = 0; modrm < 256; modrm++) {
            buffer.fill(0);
            buffer.set([...prefix, ...rex, ...opcode, modrm]);
            if (decode(buffer, 0, 24, mode) === 'ok') reached.add(decoded.entry);
          }
        }
      }
    }
  }
  expect(entries.filter((e) => !reached.has(e)).map((e) => `${e.insn.name}: ${e.text}`)).toEqual([]);
});
