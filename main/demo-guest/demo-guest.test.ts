// SPDX-License-Identifier: MIT
// Unit tests of the demonstration guest: its image is sound for binutils, its hypercall macro refuses what would go wrong.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Assembler } from '../../engine/x86/assembler/assembler.ts';
import { addressOf, mem, rax, rbx, rdi, rsi } from '../../engine/x86/assembler/operands.ts';
import { buildDemoGuest } from './demo-guest.ts';
import { emitHypercall } from './hypercall.ts';

function inspect(tool: string, ...options: string[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'paravane-demo-'));
  try {
    const file = join(directory, 'demo.elf');
    writeFileSync(file, buildDemoGuest());
    return execFileSync(tool, [...options, file], { encoding: 'utf8', maxBuffer: 1 << 24 });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe('buildDemoGuest', () => {
  it('is the same every time', () => {
    expect(buildDemoGuest()).toEqual(buildDemoGuest());
  });

  it('contains nothing a disassembler does not understand', () => {
    const text = inspect('objdump', '-d');
    expect(text).toContain('syscall');
    expect(text).not.toContain('(bad)');
  });

  it('carries its Xen notes', () => {
    const notes = inspect('readelf', '-n', '-W');
    expect(notes.match(/Xen\s+0x/g)).toHaveLength(8);
  });
});

describe('emitHypercall', () => {
  it('refuses an argument that an earlier one has replaced', () => {
    expect(() => emitHypercall(new Assembler(), 'sched_op', 1, rdi)).toThrow('argument 1');
    expect(() => emitHypercall(new Assembler(), 'sched_op', 1, mem({ base: rdi }))).toThrow('argument 1');
    expect(() => emitHypercall(new Assembler(), 'sched_op', rdi, rsi)).not.toThrow();
    expect(() => emitHypercall(new Assembler(), 'mmu_update', 1, 2, 3, 4, 5, 6)).toThrow('five');
  });

  it('accepts numbers, registers, memory and addresses', () => {
    const asm = new Assembler();
    asm.label('here');
    emitHypercall(asm, 'mmuext_op', addressOf('here'), 1, mem({ base: rax }), rbx);
    expect(asm.link(0n).sections[0]?.memorySize).toBeGreaterThan(20);
  });
});
