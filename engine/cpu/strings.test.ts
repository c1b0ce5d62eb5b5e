// SPDX-License-Identifier: MIT
// String instructions in every tier: bulk copies, overlaps, faults in the middle.
import { describe, expect, it } from 'vitest';
import { Exit } from './exits.ts';
import { Reg, stop, TestMachine } from './test-machine.ts';

const code = 0x400000;
const data = 0x10000000;
const target = 0x11000000;
const directionFlag = 0x400;

describe.each(['interpret', 'translate'] as const)('string instructions (%s)', (tier) => {
  function machine(text: string) {
    const m = new TestMachine({ tier });
    m.write(m.page(code), `${text} ${stop}`);
    return m;
  }

  it.each([
    ['rep movsb', 'f3a4', 1],
    ['rep movsw', '66f3a5', 2],
    ['rep movsd', 'f3a5', 4],
    ['rep movsq', 'f348a5', 8],
  ])('%s copies overlapping ranges element by element', (_, text, bytes) => {
    for (const distance of [-17, -8, -4, -1, 0, 1, 2, 3, 4, 7, 8, 9, 64]) {
      for (const backwards of [false, true]) {
        for (const from of [0x100, 0xff0]) {
          const m = machine(text);
          const pages = [m.page(data - 0x1000), m.page(data), m.page(data + 0x1000)];
          const host = (at: number) => pages[(at >> 12) + 1]! + (at & 0xfff);
          const model = new Uint8Array(0x3000).map((__, i) => (i * 7 + (i >> 8)) & 0xff);
          pages.forEach((page, n) => m.mem.u8.set(model.subarray(n * 0x1000, (n + 1) * 0x1000), page));
          const count = 50;
          const step = backwards ? -bytes : bytes;
          for (let i = 0; i < count; i++)
            model.copyWithin(
              0x1000 + from + distance + i * step,
              0x1000 + from + i * step,
              0x1000 + from + i * step + bytes,
            );
          m.set(Reg.rsi, data + from);
          m.set(Reg.rdi, data + from + distance);
          m.set(Reg.rcx, count);
          m.cpu.setRflags(backwards ? directionFlag | 2 : 2);
          expect(m.run(code)).toBe(Exit.SoftInt);
          for (let at = -0x1000; at < 0x2000; at++)
            if (m.mem.u8[host(at)] !== model[at + 0x1000])
              expect.unreachable(`${_} by ${distance}, ${backwards ? 'down' : 'up'}: byte ${at.toString(16)} differs`);
          expect([m.reg(Reg.rcx), m.reg(Reg.rsi), m.reg(Reg.rdi)]).toEqual([
            0n,
            BigInt(data + from + count * step),
            BigInt(data + from + distance + count * step),
          ]);
        }
      }
    }
  });

  it.each([
    ['rep movsb', 'f3a4', 1],
    ['rep movsq', 'f348a5', 8],
    ['rep stosb', 'f3aa', 1],
    ['rep stosd', 'f3ab', 4],
    ['rep stosq, not uniform', 'f348ab', 8],
  ])('%s faults in the middle with the registers at the element that faults', (_, text, bytes) => {
    for (const offset of [0x1000 - 4 * bytes, 0x1000 - 4 * bytes - (bytes >> 1)]) {
      for (const kind of ['missing', 'read-only'] as const) {
        const m = machine(text);
        const source = m.page(data);
        m.mem.u8.fill(0x66, source, source + 0x1000);
        const host = m.page(target);
        if (kind === 'read-only') m.page(target + 0x1000, 0);
        m.page(data + 0x1000);
        m.set(Reg.rax, 0x1122334455667788n);
        m.set(Reg.rsi, data);
        m.set(Reg.rdi, target + offset);
        m.set(Reg.rcx, 100);
        m.cpu.setRflags(2);
        expect(m.run(code)).toBe(Exit.Exception);
        // Whole elements before the page's end are done; one that crosses it is not, and writes nothing.
        const done = Math.floor((0x1000 - offset) / bytes);
        expect(m.fault).toEqual({
          vector: 14,
          error: kind === 'read-only' ? 7 : 6,
          cr2: BigInt(target + 0x1000),
          rip: BigInt(code),
        });
        expect([m.reg(Reg.rcx), m.reg(Reg.rdi)]).toEqual([BigInt(100 - done), BigInt(target + offset + done * bytes)]);
        if (text.endsWith('a4') || text.endsWith('a5')) expect(m.reg(Reg.rsi)).toBe(BigInt(data + done * bytes));
        const rest = m.mem.u8.subarray(host + offset + done * bytes, host + 0x1000);
        expect(rest.every((b) => b === 0)).toBe(true);
        // On from there.
        m.map(target + 0x1000, m.frame());
        m.cpu.flushTlb();
        expect(m.run(code)).toBe(Exit.SoftInt);
        expect([m.reg(Reg.rcx), m.reg(Reg.rdi)]).toEqual([0n, BigInt(target + offset + 100 * bytes)]);
      }
    }
  });

  it('a source that faults stops a copy in front of the element', () => {
    const m = machine('f348a5');
    m.page(data);
    m.page(target);
    m.set(Reg.rsi, data + 0xff0);
    m.set(Reg.rdi, target);
    m.set(Reg.rcx, 10);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, error: 4, cr2: BigInt(data + 0x1000) });
    expect([m.reg(Reg.rcx), m.reg(Reg.rsi), m.reg(Reg.rdi)]).toEqual([8n, BigInt(data + 0x1000), BigInt(target + 16)]);
  });

  it('a comparison that faults leaves the flags of the last element', () => {
    const m = machine('f3a6');
    const source = m.page(data);
    m.mem.u8.fill(5, source, source + 0x1000);
    const host = m.page(target);
    m.mem.u8.fill(5, host, host + 0x1000);
    m.set(Reg.rsi, data + 0xffe);
    m.set(Reg.rdi, target);
    m.set(Reg.rcx, 10);
    m.cpu.setRflags(0x8d7);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, error: 4, cr2: BigInt(data + 0x1000), rip: BigInt(code) });
    expect([m.reg(Reg.rcx), m.cpu.getRflags()]).toEqual([8n, 0x46]);
  });

  it('nothing happens with a count of zero, not even a fault', () => {
    for (const text of ['f3a4', 'f348ab', 'f3a6', 'f2ae', 'f3ac']) {
      const m = machine(text);
      m.cpu.setRflags(0x8d7);
      expect(m.run(code)).toBe(Exit.SoftInt);
      expect(m.cpu.getRflags()).toBe(0x8d7);
    }
  });

  it('a 32-bit address size wraps its offsets and keeps the count to 32 bits', () => {
    const m = machine('67f3aa');
    m.page(0xfffff000);
    m.page(0);
    m.set(Reg.rdi, 0x77_ffff_fffen);
    m.set(Reg.rcx, 0x99_0000_0005n);
    m.set(Reg.rax, 0xab);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect([m.reg(Reg.rdi), m.reg(Reg.rcx)]).toEqual([3n, 0n]);
    expect(m.cpu.translate(2, 0, 0)).not.toBe(-1);
    expect(m.mem.u8[m.cpu.translate(2, 0, 0)]).toBe(0xab);
    expect(m.mem.u8[m.cpu.translate(3, 0, 0)]).toBe(0);
  });
});
