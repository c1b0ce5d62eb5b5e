// SPDX-License-Identifier: MIT
// Guest code that changes itself, in every tier.
import { describe, expect, it } from 'vitest';
import { Exit } from './exits.ts';
import { ST } from './layout.ts';
import { bytesOf, le, Reg, stop, TestMachine } from './test-machine.ts';

const code = 0x400000;
const alias = 0x20000000;

describe.each(['interpret', 'translate', 'auto'] as const)('self-modifying code (%s)', (tier) => {
  /** Code at `code`, its frame writable there and at `alias`; rbx = alias. */
  function machine(text: string) {
    const m = new TestMachine({ tier });
    const frame = m.frame();
    m.map(code, frame);
    m.map(alias, frame);
    const host = m.hostOf(frame);
    m.write(host, text);
    m.set(Reg.rbx, alias);
    return { m, host };
  }

  it('changes the next instructions of the running block', () => {
    // mov byte [rbx+4], 7: the immediate of mov eax, 1 behind it.
    const { m } = machine(`c6430507 b801000000 ${stop}`);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(0)).toBe(7);
    // Again, from memory as it is now, with another value.
    m.write(m.cpu.translate(code, 0, 2) + 3, '09');
    m.run(code);
    expect(m.cpu.regLo(0)).toBe(9);
  });

  it('changes an instruction that has run before, in a loop', () => {
    // loop: add eax, imm8; inc byte [rbx+2]; dec ecx; jnz loop
    const { m } = machine(`83c001 fe4302 ffc9 75f6 ${stop}`);
    m.set(Reg.rcx, 40);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(0)).toBe((40 * 41) / 2);
  });

  it('changes another block of the same page, and one of another page', () => {
    const { m, host } = machine('');
    // a: call b (at +0x800); call c (next page); inc bytes of both; dec ecx; jnz a
    const page2 = m.page(code + 0x1000);
    m.write(host + 0x800, '83c001 c3');
    m.write(page2, '83c201 c3');
    m.write(host, `e8fb070000 e8f60f0000 fe8302080000 fe05ec0f0000 ffc9 75e6 ${stop}`);
    m.page(0x10000000);
    m.set(Reg.rsp, 0x10000800);
    m.set(Reg.rcx, 30);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect([m.cpu.regLo(Reg.rax), m.cpu.regLo(Reg.rdx)]).toEqual([465, 465]);
  });

  it.each([
    ['push', '50'],
    ['stosb', 'aa'],
    ['rep movsb', 'f3a4'],
    ['movups', '0f1107'],
    ['add [rdi]', '000790'],
    ['xchg', '86 07'],
  ])('is noticed when %s writes', (_, text) => {
    const { m, host } = machine('');
    const target = code + 0x400;
    m.write(host + 0x400, `b8 00000000 ${stop} ${'90'.repeat(20)}`);
    m.write(host, `${text} e9 ${le(0x400 - bytesOf(text).length - 5, 4)}`);
    const source = m.page(0x10000000);
    m.write(source, `2a000000 ${stop} ${'90'.repeat(11)}`);
    expect(m.run(target)).toBe(Exit.SoftInt);
    m.set(Reg.rax, 0x9090cc0000002an);
    m.set(Reg.rsp, alias + 0x409);
    m.set(Reg.rsi, 0x10000000);
    m.set(Reg.rdi, alias + 0x401);
    m.set(Reg.rcx, 16);
    m.mem.u8.copyWithin(m.cpu.base + ST.xmm, source, source + 16);
    const before = m.mem.u8.slice(host + 0x400, host + 0x410);
    m.run(code);
    const now = m.mem.u8.slice(host + 0x400, host + 0x410);
    expect(now).not.toEqual(before);
    expect(m.cpu.regLo(0)).toBe(0x2a);
    // What a machine that never saw the code before makes of it.
    const fresh = new TestMachine();
    fresh.write(fresh.page(code) + 0x400, now);
    expect(m.run(target)).toBe(fresh.run(target));
    expect([m.reg(0), m.rip]).toEqual([fresh.reg(0), fresh.rip]);
  });

  it('sees a write that only grazes the code: neighbours stay translated, results right', () => {
    const { m, host } = machine(`8903 83c101 ${stop}`);
    m.set(Reg.rbx, alias + 0x800);
    m.run(code);
    const { codeInvalidations } = m.cpu.statistics();
    // Far away in the same page: not code.
    m.set(Reg.rbx, alias + 0xf00);
    for (let i = 0; i < 50; i++) m.run(code);
    expect(m.cpu.statistics().codeInvalidations).toBe(codeInvalidations);
    expect(m.cpu.regLo(Reg.rcx)).toBe(51);
    expect(m.mem.u32[(host + 0xf00) >>> 2]).toBe(m.cpu.regLo(0));
  });

  it('finishes a repeated instruction that writes over itself, and other code in the next stretch', () => {
    const { m, host } = machine('90'.repeat(0xf8) + stop);
    // Code in the next stretch of 128 bytes is known.
    expect(m.run(code + 0x90)).toBe(Exit.SoftInt);
    m.write(host + 0x7c, 'f3ab');
    m.set(Reg.rdi, code + 0x68);
    m.set(Reg.rcx, 0x1e);
    m.set(Reg.rax, 0xc0ffc0ff);
    expect(m.run(code + 0x7c)).toBe(Exit.SoftInt);
    expect([m.reg(Reg.rcx), m.reg(Reg.rdi)]).toEqual([0n, BigInt(code + 0xe0)]);
  });

  it('sees a write across the start of the code page', () => {
    const m = new TestMachine({ tier });
    const before = m.page(code - 0x1000);
    m.frame();
    const host = m.page(code);
    m.write(host, `b8 01000000 ${stop}`);
    const helper = m.page(0x500000);
    m.write(helper, `48890b c3`);
    m.page(0x10000000);
    m.run(code);
    // mov [rbx], rcx at code - 4: its upper half is b8 05 00 00.
    m.set(Reg.rbx, code - 4);
    m.set(Reg.rcx, 0x000005b8_aabbccddn);
    m.set(Reg.rsp, 0x10000800);
    m.write(helper + 0x100, stop);
    m.mem.u64[(m.cpu.translate(0x10000800, 0, 0) >>> 3) >>> 0] = BigInt(0x500100);
    expect(m.run(0x500000)).toBe(Exit.SoftInt);
    expect(m.mem.u32[(before + 0xffc) >>> 2]).toBe(0xaabbccdd);
    m.run(code);
    expect(m.cpu.regLo(0)).toBe(5);
  });

  it('sees what the machine around writes', () => {
    const { m, host } = machine(`b801000000 ${stop}`);
    for (let i = 0; i < 5; i++) m.run(code);
    m.write(host + 1, '02');
    m.run(code);
    expect(m.cpu.regLo(0)).toBe(2);
    m.mem.u8[m.cpu.scratch] = 3;
    expect(m.cpu.copyOut(alias + 1, 0, m.cpu.scratch, 1)).toBe(true);
    m.run(code);
    expect(m.cpu.regLo(0)).toBe(3);
  });

  it('follows the second page of an instruction that crosses into it', () => {
    const m = new TestMachine({ tier });
    const first = m.page(code);
    const frames = [m.frame(), m.frame()];
    const entry = m.map(code + 0x1000, frames[0]!);
    // mov eax, imm32 in the last two bytes of the page: three bytes of it are in the next one.
    m.write(first + 0xffe, 'b811');
    frames.forEach((mfn, n) => m.write(m.hostOf(mfn), `0${n} 0000 ${stop}`));
    const value = () => {
      expect(m.run(code + 0xffe)).toBe(Exit.SoftInt);
      return m.cpu.regLo(0);
    };
    for (let i = 0; i < 3; i++) expect(value()).toBe(0x11);
    m.mem.u64[entry.host >>> 3] = (BigInt(frames[1]!) << 12n) | 7n;
    m.cpu.entryChanged(entry.table, entry.index);
    for (let i = 0; i < 3; i++) expect(value()).toBe(0x111);
    // Written to, in the second page only.
    m.write(m.hostOf(frames[1]!), '22');
    expect(value()).toBe(0x2211);
    m.write(first + 0xfff, '33');
    expect(value()).toBe(0x2233);
    // Gone.
    m.mem.u64[entry.host >>> 3] = 0n;
    m.cpu.entryChanged(entry.table, entry.index);
    expect(m.run(code + 0xffe)).toBe(Exit.Exception);
    expect(m.fault).toEqual({ vector: 14, error: 0x14, cr2: BigInt(code + 0x1000), rip: BigInt(code + 0xffe) });
  });

  it('follows the pages of a loop that spans two of them', () => {
    const m = new TestMachine({ tier });
    const frames = [m.frame(), m.frame()];
    m.write(m.page(code) + 0xff0, `83c001 ${'90'.repeat(0xd)}`);
    // In the second page: add eax, n; dec ecx; jnz back.
    frames.forEach((mfn, n) => m.write(m.hostOf(mfn), `83c0${n ? '20' : '10'} ffc9 75e9 ${stop}`));
    const entry = m.map(code + 0x1000, frames[0]!);
    const total = () => {
      m.set(0, 0);
      m.set(Reg.rcx, 100);
      expect(m.run(code + 0xff0, 37)).toBe(Exit.SoftInt);
      return m.cpu.regLo(0);
    };
    expect(total()).toBe(1700);
    for (let i = 0; i < 6; i++) {
      const n = 1 - (i & 1);
      m.mem.u64[entry.host >>> 3] = (BigInt(frames[n]!) << 12n) | 7n;
      if (i < 3) m.cpu.entryChanged(entry.table, entry.index);
      else m.cpu.flushTlb();
      expect(total()).toBe(n ? 3300 : 1700);
    }
  });

  it('runs the same frame at two addresses', () => {
    const m = new TestMachine({ tier });
    const frame = m.frame();
    // lea rax, [rip]; call next; next: pop rdx; stop
    m.write(m.hostOf(frame), `488d0500000000 e800000000 5a ${stop}`);
    m.page(0x10000000);
    for (const at of [code, alias, code, 0x7fff_ffff_0000, alias]) {
      m.map(at, frame);
      m.set(Reg.rsp, 0x10000800);
      expect(m.run(at)).toBe(Exit.SoftInt);
      expect([m.reg(0), m.reg(Reg.rdx)]).toEqual([BigInt(at) + 7n, BigInt(at) + 12n]);
    }
  });
});
