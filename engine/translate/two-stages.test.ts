// SPDX-License-Identifier: MIT
// One description, two stages: what the interpreter built from it does, the translator built from it does too.

import { describe, expect, it, vi } from 'vitest';
import { integer, Random } from '../../tests/oracle/random.ts';
import { Exit } from '../cpu/exits.ts';
import { ST } from '../cpu/layout.ts';
import { bytesOf, Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import type { Entry } from '../x86/encoding.ts';
import { decode, decoded } from '../x86/decode.ts';
import { opcodeTable } from '../x86/instructions.ts';
import { compileRegions } from './compile.ts';
import { Places } from './places.ts';
import { findRegion, isTranslatable, type Region } from './region.ts';
import { registersWritten } from './windows.ts';

const code = 0x400000;
const data = 0x10000000;

describe('the same description in both stages', () => {
  it.each([
    ['add rax, rcx', '4801c8'],
    ['sbb [rbx], dl', '1813'],
    ['imul rax, [rbx], -3', '486b03fd'],
    ['div ecx', 'f7f1'],
    ['shld rdx, rax, 13', '480fa4c20d'],
    ['rcr word [rbx], cl', '66d31b'],
    ['cmpxchg [rbx], rcx', '480fb10b'],
    ['bts [rbx], ecx', '0fab0b'],
    ['cmovbe edx, [rbx]', '0f4613'],
    ['movsx r9, ah and setg [rbx]', '0fbecc 0f9f03'],
    ['push [rbx] and popf', 'ff33 9d'],
    ['rep stosb', 'b910000000 488dbb00020000 f3aa'],
    ['addsd xmm1, [rbx]', 'f20f580b'],
    ['pshufb xmm0, xmm1', '660f3800c1'],
    ['cvttsd2si rax, xmm1 and ucomisd', 'f2480f2cc1 660f2ec8'],
    ['fld, fadd, fstp', 'dd03 dc4308 dd5b10'],
    ['jg over inc', '7f03 48ffc0'],
    ['mov eax, fs and mov [rbx], gs', '8ce0 8c2b'],
    ['mov gs, ecx of a null selector and mov r8, [gs:rbx]', 'b903000000 8ee9 654c8b03 8cea'],
    ['mov fs, ecx of no descriptor', '48ffc0 8ee1 48ffc0'],
    ['push fs and pop rax', '0fa0 58'],
    ['sldt eax, str ecx and smsw edx', '0f00c0 0f00c9 0f01e2'],
    ['lsl eax, ecx and verr dx', '0f03c1 0f00e2'],
    ['cpuid', '48ffc0 0fa2 48ffc0'],
    ['fxsave64 [rbx]', 'dd03 480fae03'],
    ['fxrstor64 [rbx] and fxsave [rbx+0x200]', 'c74318801f0000 480fae0b 0fae8300020000'],
    ['fxrstor [rbx] of reserved bits', '48ffc0 0fae0b'],
    ['fxsave64 at the end of a page', '480fae83f00e0000'],
    ['fxsave64 between paddd xmm1, xmm0', '660ffec8 480fae03 660ffec8'],
    ['fxrstor64 between paddd xmm1, xmm0', 'c74318801f0000 660ffec8 480fae0b 660ffec8'],
  ])('%s', (_, text) => {
    const r = new Random(bytesOf(text).reduce((a, b) => a * 31 + b, 7));
    const machines = (['interpret', 'translate'] as const).map((tier) => {
      const m = new TestMachine({ tier });
      m.write(m.page(code), `${text} ${stop}`);
      return { m, host: m.page(data) };
    });
    for (let round = 0; round < 60; round++) {
      const registers = Array.from({ length: 16 }, () => integer(r));
      const memory = Array.from({ length: 512 }, () => integer(r));
      const flags = (r.u32() & 0x8d5) | 2;
      const [one, two] = machines.map(({ m, host }) => {
        const { cpu, mem } = m;
        registers.forEach((v, n) => m.set(n, v));
        m.set(Reg.rbx, data + 0x100);
        m.set(Reg.rsp, data + 0x800);
        mem.u64.set(memory, host >>> 3);
        mem.u64.set(memory.slice(0, 32), (cpu.base + ST.xmm) >>> 3);
        cpu.set(ST.ftag, 0xff);
        cpu.set(ST.fsw, 0);
        cpu.setRflags(flags);
        const reason = m.run(code);
        return {
          reason,
          fault: reason === Exit.Exception ? m.fault : undefined,
          flags: cpu.getRflags(),
          registers: [...mem.u64.slice((cpu.base + ST.gpr) >>> 3, ((cpu.base + ST.gpr) >>> 3) + 16)],
          xmm: [...mem.u64.slice((cpu.base + ST.xmm) >>> 3, ((cpu.base + ST.xmm) >>> 3) + 32)],
          memory: [...mem.u64.slice(host >>> 3, (host >>> 3) + 512)],
        };
      });
      expect(two).toEqual(one);
    }
    expect(machines[1]!.m.cpu.statistics().regionEntries).toBeGreaterThan(0);
  });
});

/** A region of one instruction, for every description that may be translated, in every form and size. */
function* everyForm(): Generator<Region> {
  const frame = 0x1000;
  const u8 = new Uint8Array(0x3000);
  const maps = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
  const seen = new Set<string>();
  for (const [index, list] of opcodeTable.entries()) {
    if (list.length === 0) continue;
    const opcode = [...maps[index >> 8]!, index & 0xff];
    for (const prefix of [[], [0x66], [0xf2], [0xf3], [0x67], [0x65], [0x66, 0xf3]]) {
      for (const rex of [[], [0x48], [0x45]]) {
        for (const modrm of [
          0x03, 0x0b, 0x13, 0x1b, 0x23, 0x2b, 0x33, 0x3b, 0x05, 0x44, 0xc1, 0xc8, 0xd3, 0xe4, 0xf3, 0xf8, 0xf9, 0xff,
        ]) {
          u8.fill(0xcc, frame, frame + 64);
          u8.set([...prefix, ...rex, ...opcode, modrm, 1, 2, 3, 4, 5, 6, 7, 8], frame);
          if (decode(u8, frame, frame + 64, 64) !== 'ok' || !isTranslatable(decoded.entry.insn)) continue;
          const o = decoded.operands.slice(0, decoded.operandCount).map((x) => `${x.category}${x.bits}`);
          const { entry } = decoded;
          const key = `${entry.insn.name} ${entry.text} ${decoded.size} ${decoded.addressSize} ${o.join()} ${decoded.segment}`;
          if (seen.has(key)) continue;
          seen.add(key);
          u8.fill(0xcc, frame + decoded.length, frame + 64);
          yield findRegion(u8, 0, frame, () => 0, { instructions: 1, pages: 1 })!;
        }
      }
    }
  }
}

const instructionOf = (region: Region) => region.blocks[0]!.instructions[0]!;

it('every description that may be translated makes a valid module, in every form and size', () => {
  const entries = new Set<Entry>();
  const wrong: string[] = [];
  let batch: Region[] = [];
  const flush = () => {
    if (batch.length > 0 && !WebAssembly.validate(compileRegions(batch).bytes as Uint8Array<ArrayBuffer>))
      wrong.push(...batch.map((b) => instructionOf(b).entry.text));
    batch = [];
  };
  for (const region of everyForm()) {
    entries.add(instructionOf(region).entry);
    batch.push(region);
    if (batch.length === 40) flush();
  }
  flush();
  expect(wrong).toEqual([]);
  expect(entries.size).toBeGreaterThan(500);
});

it('no description writes a general register that is not known for it', () => {
  let written = 0;
  const set = vi.spyOn(Places.prototype, 'set').mockImplementation((register) => void (written |= 1 << register));
  const wrong: string[] = [];
  for (const region of everyForm()) {
    written = 0;
    compileRegions([region]);
    const i = instructionOf(region);
    if (written & ~registersWritten(i)) wrong.push(i.entry.text);
  }
  expect(set).toHaveBeenCalled();
  set.mockRestore();
  expect(wrong).toEqual([]);
});
