// SPDX-License-Identifier: MIT
// Page walks: rights, accessed and dirty bits, accesses that cross pages.
import { describe, expect, it } from 'vitest';
import { Exit } from './exits.ts';
import { ST } from './layout.ts';
import { noExecute, Pte, Reg, stop, TestMachine } from './test-machine.ts';
import type { Tier } from './vcpu.ts';

const code = 0x400000;
const data = 0x10000000;
const both = Pte.accessed | Pte.dirty;

function machine(tier: Tier, text: string) {
  const m = new TestMachine({ tier });
  const host = m.page(code);
  m.write(host, `${text} ${stop}`);
  return m;
}

describe.each(['interpret', 'translate'] as const)('paging (%s)', (tier) => {
  it('sets accessed bits on the way, and the dirty bit for writes only', () => {
    const m = machine(tier, '8b03 8906 010f');
    const frames = [m.frame(), m.frame(), m.frame()];
    const entries = frames.map((mfn, n) => m.map(data + 0x1000 * n, mfn));
    m.set(Reg.rbx, data);
    m.set(Reg.rsi, data + 0x1000);
    m.set(Reg.rdi, data + 0x2000);
    const bits = () => entries.map((e) => Number(m.mem.u64[e.host >>> 3]! & BigInt(both)));
    expect(bits()).toEqual([0, 0, 0]);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(bits()).toEqual([Pte.accessed, both, both]);
    let table = m.root;
    for (const shift of [39n, 30n, 21n]) {
      const at = m.mem.u64[(m.hostOf(table) >>> 3) + Number((BigInt(data) >> shift) & 511n)]!;
      expect(Number(at & BigInt(both))).toBe(Pte.accessed);
      table = Number((at >> 12n) & 0xffffffn);
    }
    // A read first, a write later: the dirty bit must still come.
    m.set(Reg.rsi, data);
    m.run(code);
    expect(bits()[0]).toBe(both);
  });

  it.each([
    ['load', '8b03', 4],
    ['store', '8903', 6],
    ['read-modify-write', '0103', 6],
    ['push', '50', 6],
    ['vector load', '0f1003', 4],
    ['vector store', '0f1103', 6],
  ])('%s: missing page, no rights, supervisor page', (_, text, error) => {
    const m = machine(tier, `90 ${text}`);
    const write = (error & 2) !== 0;
    const at = data + 0x800;
    const start = () => {
      m.set(Reg.rbx, at);
      m.set(Reg.rsp, at + 8);
      return m.run(code);
    };
    expect(start()).toBe(Exit.Exception);
    expect(m.fault).toEqual({ vector: 14, error, cr2: BigInt(at), rip: BigInt(code + 1) });
    expect(m.reg(Reg.rsp)).toBe(BigInt(at + 8));
    const frame = m.frame();
    const entry = m.map(data, frame, 0);
    expect(start()).toBe(write ? Exit.Exception : Exit.SoftInt);
    if (write) {
      expect(m.fault).toMatchObject({ vector: 14, error: 7, cr2: BigInt(at) });
      expect(Number(m.mem.u64[entry.host >>> 3]! & BigInt(Pte.dirty))).toBe(0);
    }
    m.mem.u64[entry.host >>> 3] = (BigInt(frame) << 12n) | 3n;
    m.cpu.flushTlb();
    expect(start()).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, error: error | 1, cr2: BigInt(at) });
    m.cpu.setCpl(0);
    expect(start()).toBe(Exit.SoftInt);
  });

  it('protects supervisor writes while CR0.WP is set', () => {
    const m = machine(tier, '8903');
    m.page(data, 0);
    m.set(Reg.rbx, data);
    m.cpu.setCpl(0);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, error: 3 });
    m.cpu.set(ST.writeProtect, 0);
    expect(m.run(code)).toBe(Exit.SoftInt);
  });

  it('takes rights from every level', () => {
    const m = machine(tier, '8903');
    const entry = m.map(data, m.frame());
    const root = m.hostOf(m.root) >>> 3;
    const top = root + Number((BigInt(data) >> 39n) & 511n);
    m.set(Reg.rbx, data);
    m.mem.u64[top]! &= ~BigInt(Pte.writable);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault.error).toBe(7);
    m.mem.u64[top]! |= BigInt(Pte.writable);
    m.mem.u64[entry.host >>> 3]! |= noExecute;
    m.cpu.flushTlb();
    expect(m.run(code)).toBe(Exit.SoftInt);
  });

  it('refuses to execute: not present, no-execute at any level', () => {
    const m = machine(tier, '90');
    expect(m.run(data)).toBe(Exit.Exception);
    expect(m.fault).toEqual({ vector: 14, error: 0x14, cr2: BigInt(data), rip: BigInt(data) });
    m.write(m.page(data, noExecute), stop);
    expect(m.run(data)).toBe(Exit.Exception);
    expect(m.fault.error).toBe(0x15);
    const other = data + 0x40000000;
    m.write(m.page(other), stop);
    expect(m.run(other)).toBe(Exit.SoftInt);
    // Level 3 of that address.
    const level4 = m.mem.u64[(m.hostOf(m.root) >>> 3) + Number((BigInt(other) >> 39n) & 511n)]!;
    const level3 = m.hostOf(Number((level4 >> 12n) & 0xffffffn)) >>> 3;
    m.mem.u64[level3 + ((other >>> 30) & 511)]! |= noExecute;
    m.cpu.flushTlb();
    expect(m.run(other)).toBe(Exit.Exception);
    expect(m.fault.error).toBe(0x15);
  });

  it('knows 2 MiB pages', () => {
    const m = machine(tier, '8b03 8903');
    // A large page begins at a multiple of 512 frames.
    const frame = m.frame();
    const base = frame & ~511;
    const entry = m.setEntry(data, (BigInt(base) << 12n) | BigInt(Pte.large | 7), 2);
    m.mem.u32[m.hostOf(frame) >>> 2] = 4711;
    m.set(Reg.rbx, data + (frame - base) * 0x1000);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(0)).toBe(4711);
    expect(Number(m.mem.u64[entry.host >>> 3]!) & both).toBe(both);
  });

  it('refuses frames that do not exist, at every level', () => {
    const m = machine(tier, '8b03');
    m.set(Reg.rbx, data);
    for (const level of [1, 2, 3, 4]) {
      m.setEntry(data, (0xfffffn << 12n) | 7n, level);
      m.cpu.flushTlb();
      expect(m.run(level < 4 ? code : code)).toBe(Exit.Exception);
      expect(m.fault.vector).toBe(14);
      if (level === 4) break;
      m.setEntry(data, 0n, level);
    }
  });

  it('refuses addresses that are not canonical', () => {
    const m = machine(tier, '8b03');
    for (const at of [0x8000_0000_0000n, 0xffff_7fff_ffff_ffffn, 0x1234_5678_0000_0000n]) {
      m.set(Reg.rbx, at);
      expect(m.run(code)).toBe(Exit.Exception);
      expect(m.fault).toMatchObject({ vector: 13, error: 0, rip: BigInt(code) });
    }
    m.write(m.cpu.translate(code, 0, 2), `ff e3`);
    m.set(Reg.rbx, 0x8000_0000_0000n);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 13, error: 0, rip: BigInt(code) });
  });
});

describe.each(['interpret', 'translate'] as const)('accesses across a page (%s)', (tier) => {
  const forms = [
    ['mov rax,[rbx]', '488b03', 8],
    ['mov [rbx],rax', '488903', 8],
    ['mov [rbx],cx', '66890b', 2],
    ['add [rbx],rax', '480103', 8],
    ['lock xadd [rbx],eax', 'f00fc103', 4],
    ['xchg [rbx],rax', '488703', 8],
    ['shl word [rbx],1', '66d123', 2],
    ['movups xmm0,[rbx]', '0f1003', 16],
    ['movups [rbx],xmm0', '0f1103', 16],
    ['cmpxchg16b-free: bts [rbx],ecx', '0fab0b', 4],
  ] as const;

  it.each(forms)('%s does the same as on one page', (_, text, bytes) => {
    const results = [0, 1].map((cross) => {
      const m = machine(tier, text);
      const first = m.page(data);
      m.frame();
      const second = m.page(data + 0x1000);
      const start = cross ? 0x1000 - (bytes >> 1) : 0x800;
      const host = (i: number) => (start + i < 0x1000 ? first + start + i : second + start + i - 0x1000);
      for (let i = -4; i < bytes + 4; i++) m.mem.u8[host(i)] = 0x35 + 23 * i;
      m.set(Reg.rbx, data + start);
      m.set(Reg.rax, 0x1122334455667788n);
      m.set(Reg.rcx, 0x7);
      m.mem.u64.fill(0x0123456789abcdefn, (m.cpu.base + ST.xmm) >>> 3, (m.cpu.base + ST.xmm + 16) >>> 3);
      expect(m.run(code)).toBe(Exit.SoftInt);
      const memory = Array.from({ length: bytes + 8 }, (_, i) => m.mem.u8[host(i - 4)]);
      const xmm = [...m.mem.u64.slice((m.cpu.base + ST.xmm) >>> 3, (m.cpu.base + ST.xmm + 16) >>> 3)];
      return { memory, xmm, rax: m.reg(0), flags: m.cpu.getRflags() };
    });
    expect(results[1]).toEqual(results[0]);
  });

  it.each(forms)('%s writes nothing when the second page faults', (_, text, bytes) => {
    for (const second of ['missing', 'read-only'] as const) {
      const m = machine(tier, text);
      const first = m.page(data);
      m.mem.u8.fill(0x5a, first, first + 0x1000);
      if (second === 'read-only') m.page(data + 0x1000, 0);
      const at = data + 0x1000 - (bytes >> 1);
      m.set(Reg.rbx, at);
      m.set(Reg.rax, 0x1122334455667788n);
      m.set(Reg.rcx, 7);
      m.cpu.setRflags(0x8d7);
      const reads = /mov(ups)? (rax|xmm0),/.test(_);
      if (reads && second === 'read-only') continue;
      expect(m.run(code)).toBe(Exit.Exception);
      expect(m.fault).toMatchObject({ vector: 14, cr2: BigInt(data + 0x1000), rip: BigInt(code) });
      expect(m.fault.error).toBe((second === 'read-only' ? 5 : 4) | (reads ? 0 : 2));
      expect(m.mem.u8.subarray(first, first + 0x1000).every((b) => b === 0x5a)).toBe(true);
      expect([m.reg(0), m.cpu.getRflags()]).toEqual([0x1122334455667788n, 0x8d7]);
    }
  });
});
