// SPDX-License-Identifier: MIT
// Prints a case for people: disassembly by objdump, the inputs it uses, and what differs.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CODE_BASE, DATA_BASE, memoryBefore } from './case.ts';
import type { Case } from './case.ts';
import { FORMS } from './forms/index.ts';
import type { Difference } from './compare.ts';

/** Instructions of a code sequence as objdump prints them: address, bytes, mnemonic and operands in Intel order. */
export function disassemble(code: Uint8Array, mode: 64 | 32, address: number): { address: number; text: string }[] {
  const folder = mkdtempSync(join(tmpdir(), 'paravane-oracle-'));
  try {
    const file = join(folder, 'code');
    writeFileSync(file, code);
    const machine = mode === 64 ? 'i386:x86-64' : 'i386';
    const objdump = spawnSync(
      'objdump',
      ['-D', '-w', '-b', 'binary', '-m', machine, '-M', 'intel', `--adjust-vma=${address}`, file],
      { encoding: 'utf8' },
    );
    if (objdump.error) return [{ address, text: `${hexBytes(code)} (install binutils to see it disassembled)` }];
    return objdump.stdout
      .split('\n')
      .map((line) => /^\s*([0-9a-f]+):\t([0-9a-f ]+)(?:\t(.*))?$/.exec(line))
      .filter((m) => m !== null)
      .map((m) => ({ address: parseInt(m[1], 16), text: `${m[2].trim().padEnd(30)} ${(m[3] ?? '').trim()}` }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function hexBytes(bytes: ArrayLike<number> & Iterable<number>): string {
  return [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(' ');
}

const NAMES = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
];

const FLOATING: ReadonlySet<string> = new Set(FORMS.filter((f) => /^(x87|mmx|sse)$/.test(f.family)).map((f) => f.key));

/** Words of memory that a story tells. */
const MOST_WORDS = 16;
const isMemory = ({ what }: Difference): boolean => what.startsWith('[');

/** The whole story of a failing case in a few lines. */
export function describe(c: Case, base: Uint8Array, found: Difference[]): string {
  const lines: string[] = [`${c.mode}-bit mode:`];
  for (const { address, text } of disassemble(c.code, c.mode, CODE_BASE + c.codeOffset))
    lines.push(`  ${address.toString(16)}: ${text}`);
  const registers = [...c.gpr].map((v, n) => `${NAMES[n]}=${v.toString(16)}`).filter((s) => !s.endsWith('=0'));
  lines.push(`  with ${registers.join(' ')} rflags=${c.rflags.toString(16)}`);
  if (c.steps.some((s) => FLOATING.has(s.form))) lines.push(`  ${floatState(c.fx)}`);
  for (const p of c.patches) lines.push(`  [${(DATA_BASE + p.offset).toString(16)}] = ${hexBytes(p.data)}`);
  for (const s of c.steps) {
    const memory = s.address === undefined ? [] : memoryBefore(c, base, s.address, 16);
    if (memory.length > 0) lines.push(`  memory at ${(s.address ?? 0).toString(16)}: ${hexBytes(memory)}`);
  }
  lines.push('  differs:');
  const told = [...found.filter((d) => !isMemory(d)), ...found.filter(isMemory).slice(0, MOST_WORDS)];
  for (const d of told) lines.push(`    ${d.what}: native ${d.native}, engine ${d.engine}`);
  if (told.length < found.length) lines.push(`    and ${found.length - told.length} more words of memory`);
  return lines.join('\n');
}

function floatState(fx: Uint8Array): string {
  const view = new DataView(fx.buffer, fx.byteOffset, 512);
  const parts = [
    `fcw=${view.getUint16(0, true).toString(16)} fsw=${view.getUint16(2, true).toString(16)} ftag=${fx[4].toString(16)} mxcsr=${view.getUint32(24, true).toString(16)}`,
  ];
  for (let n = 0; n < 8; n++) {
    const at = 32 + 16 * n;
    const exponent = view.getUint16(at + 8, true);
    const significand = view.getBigUint64(at, true);
    if (exponent !== 0 || significand !== 0n) parts.push(`st${n}=${exponent.toString(16)}:${significand.toString(16)}`);
  }
  for (let n = 0; n < 16; n++) {
    const at = 160 + 16 * n;
    const high = view.getBigUint64(at + 8, true);
    const low = view.getBigUint64(at, true);
    if (high !== 0n || low !== 0n) parts.push(`xmm${n}=${high.toString(16)}:${low.toString(16).padStart(16, '0')}`);
  }
  return parts.join(' ');
}
