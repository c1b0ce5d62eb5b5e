// SPDX-License-Identifier: MIT
// Checks the ELF writer against binutils' readelf, which judges headers, segments, notes and sections.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Assembler } from './assembler.ts';
import { encodeXenNotes, segmentsOf, writeElf, xenGuestSection, type ElfFile } from './elf-writer.ts';
import { eax } from './operands.ts';

function readelf(file: ElfFile, ...options: string[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'paravane-elf-'));
  try {
    const path = join(directory, 'guest.elf');
    writeFileSync(path, writeElf(file));
    return execFileSync('readelf', ['-W', ...options, path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function sampleImage(bits: 64 | 32, base: bigint): ReturnType<Assembler['link']> {
  const asm = new Assembler(bits);
  asm.label('start').mov(eax, 1).jmp('start');
  asm.section('data').label('word').dd(0x12345678);
  asm.section('bss').reserve(8192);
  return asm.link(base);
}

describe('writeElf', () => {
  it('writes a 64-bit kernel with Xen notes', () => {
    const base = 0xffffffff80100000n;
    const file: ElfFile = {
      bits: 64,
      entry: base,
      segments: segmentsOf(sampleImage(64, base), base, 0x100000n),
      notes: encodeXenNotes([
        { name: 'ENTRY', value: base },
        { name: 'XEN_VERSION', value: 'xen-3.0' },
        { name: 'FEATURES', value: Uint8Array.from([0x78]) },
      ]),
    };
    const headers = readelf(file, '-h', '-l');
    expect(headers).toMatch(/Class:\s+ELF64/);
    expect(headers).toMatch(/Machine:\s+Advanced Micro Devices X86-64/);
    expect(headers).toMatch(/LOAD\s+0x001000 0xffffffff80100000 0x0000000000100000 0x00000\w 0x00000\w R E 0x1000/);
    expect(headers).toMatch(/LOAD\s+0x002000 0xffffffff80101000 0x0000000000101000 0x000004 0x000004 RW  0x1000/);
    expect(headers).toMatch(/LOAD\s+0x00[23]000 0xffffffff80102000 0x0000000000102000 0x000000 0x002000 RW  0x1000/);
    const notes = readelf(file, '-n');
    expect(notes.match(/Xen\s+0x/g)).toHaveLength(3);
    expect(notes).toContain('description data: 00 00 10 80 ff ff ff ff');
    expect(notes).toContain('description data: 78 65 6e 2d 33 2e 30 00');
    expect(readelf(file, '-S')).toMatch(/\.text\s+PROGBITS\s+ffffffff80100000/);
  });

  it('writes a 32-bit kernel with a legacy section', () => {
    const file: ElfFile = {
      bits: 32,
      entry: 0xc0100000n,
      segments: segmentsOf(sampleImage(32, 0xc0100000n), 0xc0100000n, 0x100000n),
      sections: [xenGuestSection({ GUEST_OS: 'test', PAE: 'yes' })],
    };
    const headers = readelf(file, '-h', '-l', '-p', '__xen_guest');
    expect(headers).toMatch(/Class:\s+ELF32/);
    expect(headers).toMatch(/Entry point address:\s+0xc0100000/);
    expect(headers).toMatch(/LOAD\s+0x001000 0xc0100000 0x00100000/);
    expect(headers).toContain('GUEST_OS=test,PAE=yes');
    expect(headers).not.toContain('NOTE');
  });
});
