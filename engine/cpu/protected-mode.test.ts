// SPDX-License-Identifier: MIT
// 32-bit protected mode: segments with limits, PAE, 16-bit addresses.
import { describe, expect, it } from 'vitest';
import { Exit } from './exits.ts';
import { Seg, ST } from './layout.ts';
import { noExecute, Pte, Reg, stop, TestMachine } from './test-machine.ts';

const code = 0x400000;
const data = 0x10000000;

function machine(text: string) {
  // 32-bit code is interpreted in every tier.
  const m = new TestMachine({ tier: 'translate', mode: 32 });
  m.write(m.page(code), `${text} ${stop}`);
  return m;
}

function segment(m: TestMachine, n: number, o: { base?: number; limit?: number; attributes?: number }): void {
  m.cpu.set(ST.segBase + 8 * n, o.base ?? 0);
  m.cpu.set(ST.segLimit + 4 * n, o.limit ?? 0xffffffff);
  m.cpu.set(ST.segAttr + 4 * n, o.attributes ?? 0xcf3);
}

describe('PAE paging', () => {
  it('walks three levels, sets accessed and dirty bits, knows NX', () => {
    const m = machine('8b03 8906');
    const entries = [data, 0xc0001000].map((va) => m.map(va, m.frame()));
    m.set(Reg.rbx, data);
    m.set(Reg.rsi, 0xc0001000);
    m.mem.u32[m.cpu.translate(data, 0, 0) >>> 2] = 99;
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.mem.u32[m.cpu.translate(0xc0001000, 0, 0) >>> 2]).toBe(99);
    expect(entries.map((e) => Number(m.mem.u64[e.host >>> 3]! & 0x60n))).toEqual([
      Pte.accessed,
      Pte.accessed | Pte.dirty,
    ]);
    m.page(0x20000000, noExecute);
    expect(m.run(0x20000000)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, error: 0x15, cr2: 0x20000000n });
  });

  it('takes frames beyond 4 GiB for what they are: absent here', () => {
    const m = machine('8b03');
    m.setEntry(data, (0x12345678n << 12n) | 7n);
    m.set(Reg.rbx, data);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, cr2: BigInt(data) });
  });

  it('knows 2 MiB pages', () => {
    const m = machine('8b03');
    const frame = m.frame();
    const base = frame & ~511;
    m.setEntry(data, (BigInt(base) << 12n) | BigInt(Pte.large | 7), 2);
    m.mem.u32[m.hostOf(frame) >>> 2] = 4711;
    m.set(Reg.rbx, data + (frame - base) * 0x1000);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(0)).toBe(4711);
  });

  it('keeps roots apart and follows changed entries', () => {
    const m = machine('8b03');
    const frames = [m.frame(), m.frame()];
    frames.forEach((mfn, n) => (m.mem.u32[m.hostOf(mfn) >>> 2] = n + 1));
    const entry = m.map(data, frames[0]!);
    m.set(Reg.rbx, data);
    const see = () => (expect(m.run(code)).toBe(Exit.SoftInt), m.cpu.regLo(0));
    expect(see()).toBe(1);
    m.mem.u64[entry.host >>> 3] = (BigInt(frames[1]!) << 12n) | 7n;
    m.cpu.entryChanged(entry.table, entry.index);
    expect(see()).toBe(2);
    m.mem.u64[entry.host >>> 3] = 0n;
    m.cpu.invalidatePage(data, 0);
    expect(m.run(code)).toBe(Exit.Exception);
  });
});

describe('segments', () => {
  it.each([
    ['mov eax,[ebx]', '8b03', 4, false],
    ['mov [ebx],eax', '8903', 4, true],
    ['add [ebx],al', '0003', 1, true],
    ['mov ax,[ebx]', '668b03', 2, false],
    ['movups xmm0,[ebx]', '0f1003', 16, false],
    ['fld tbyte [ebx]', 'db2b', 10, false],
  ] as const)('%s stays within the limit of its segment', (_, text, bytes, write) => {
    const m = machine(text);
    m.page(data);
    const attempt = (offset: number) => {
      m.set(Reg.rbx, offset);
      m.cpu.set(ST.ftag, 0xff);
      return m.run(code);
    };
    segment(m, Seg.ds, { base: data, limit: 0x7ff });
    expect(attempt(0x800 - bytes)).toBe(Exit.SoftInt);
    expect(attempt(0x800 - bytes + 1)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 13, error: 0, rip: BigInt(code) });
    if (bytes > 1) {
      expect(attempt(0xffffffff)).toBe(Exit.Exception);
      expect(m.fault.vector).toBe(13);
    }
    // Expand-down: valid above the limit.
    segment(m, Seg.ds, { base: data - 0x1000, limit: 0x11ff, attributes: 0xcf7 });
    expect(attempt(0x1200)).toBe(Exit.SoftInt);
    expect(attempt(0x11ff)).toBe(Exit.Exception);
    expect(m.fault.vector).toBe(13);
    // Read-only data, and code that cannot be read.
    segment(m, Seg.ds, { base: data, attributes: 0xcf1 });
    expect(attempt(0)).toBe(write ? Exit.Exception : Exit.SoftInt);
    segment(m, Seg.ds, { base: data, attributes: 0xcf9 });
    expect(attempt(0)).toBe(Exit.Exception);
    segment(m, Seg.ds, { base: data, attributes: 0xcfb });
    expect(attempt(0)).toBe(write ? Exit.Exception : Exit.SoftInt);
    // Not usable.
    segment(m, Seg.ds, { attributes: 0 });
    expect(attempt(0)).toBe(Exit.Exception);
    expect(m.fault.vector).toBe(13);
  });

  it('raise #SS for the stack segment, also named by ebp', () => {
    for (const text of ['50', '58', '8b4500', '36 8b03']) {
      const m = machine(text);
      m.page(data);
      segment(m, Seg.ss, { base: data, limit: 0x7ff });
      for (const register of [Reg.rsp, Reg.rbp, Reg.rbx]) m.set(register, 0x900);
      expect(m.run(code)).toBe(Exit.Exception);
      expect(m.fault).toMatchObject({ vector: 12, error: 0, rip: BigInt(code) });
      expect(m.reg(Reg.rsp)).toBe(0x900n);
    }
  });

  it('add their base and wrap at 4 GiB', () => {
    const m = machine('8b03 64 8b0b');
    const host = m.page(data);
    m.mem.u32[host >>> 2] = 1;
    m.mem.u32[(host + 0x10) >>> 2] = 2;
    segment(m, Seg.ds, { base: data - 0x2000 });
    segment(m, Seg.fs, { base: data + 0x10 - 0x2000 });
    m.set(Reg.rbx, 0x2000);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect([m.cpu.regLo(0), m.cpu.regLo(1)]).toEqual([1, 2]);
    segment(m, Seg.ds, { base: 0xfffff000 });
    segment(m, Seg.fs, { base: data });
    m.set(Reg.rbx, (data + 0x1000) >>> 0);
    segment(m, Seg.fs, { base: 0xfffff000 + 0x10 });
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect([m.cpu.regLo(0), m.cpu.regLo(1)]).toEqual([1, 2]);
  });

  // Bulk operations look at the limit for their first element only.
  it('bound string instructions where the element lies that is too much', () => {
    const m = machine('f3ab');
    m.page(data);
    segment(m, Seg.es, { base: data, limit: 0x7ff });
    m.set(Reg.rdi, 0x7f0);
    m.set(Reg.rcx, 10);
    m.set(Reg.rax, 0x01020304);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 13, error: 0, rip: BigInt(code) });
    expect([m.reg(Reg.rcx), m.reg(Reg.rdi)]).toEqual([6n, 0x800n]);
  });

  it('limit each of the two that BOUND compares with by itself', () => {
    // bound si, [eax]
    const m = machine('66 6230');
    const host = m.page(data);
    m.mem.u16[(host + 0x7fe) >>> 1] = 5;
    segment(m, Seg.ds, { base: data, limit: 0x7ff });
    const attempt = (offset: number, index: number) => {
      m.set(Reg.rax, offset);
      m.set(Reg.rsi, index);
      return m.run(code) === Exit.Exception ? m.fault.vector : undefined;
    };
    expect(attempt(0x7fe, 7)).toBe(13);
    segment(m, Seg.ds, { base: data, limit: 0x801 });
    expect(attempt(0x7fe, 7)).toBe(5);
    m.mem.u16[(host + 0x800) >>> 1] = 7;
    expect(attempt(0x7fe, 7)).toBe(undefined);
    expect(attempt(0x7fe, 4)).toBe(5);
    // The first is not there, the second not within the segment.
    segment(m, Seg.ds, { base: data + 0x1000, limit: 0x7ff });
    expect(attempt(0x7fe, 7)).toBe(14);
  });

  it('work with 16-bit addresses', () => {
    const m = machine('67 8b00');
    const host = m.page(data);
    m.mem.u32[(host + 0x20) >>> 2] = 77;
    segment(m, Seg.ds, { base: data });
    m.set(Reg.rbx, 0xabcdfff0);
    m.set(Reg.rsi, 0x12340030);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(0)).toBe(77);
  });
});
