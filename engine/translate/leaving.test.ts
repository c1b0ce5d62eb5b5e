// SPDX-License-Identifier: MIT
// Tests of regions that leave for the interpreter because the TLB does not know an address, and of code that changes beside them.

import { describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { RegionTable, ST } from '../cpu/layout.ts';
import { Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import type { BlockStore } from '../host.ts';
import { RegionEntries } from './region-entries.ts';
import { unpackModule, type StoredKind } from './stored-regions.ts';

const code = 0x400000;
const data = 0x10000000;

/** A loop of `body`, RCX times, with time for what is queued to be translated. */
function machine(body: string) {
  let now = 0;
  const kinds: StoredKind[] = [];
  const blocks: BlockStore = {
    entries: () => [],
    get: () => null,
    put: (_key, value) => void kinds.push(unpackModule(value)!.kind),
    touch: () => undefined,
  };
  const m = new TestMachine({ tier: 'auto', nowMs: () => now, blocks });
  const host = m.page(code);
  // dec ecx; jnz back
  const back = 0x100 - (body.replaceAll(' ', '').length / 2 + 4);
  m.write(host, `${body} ffc9 75${back.toString(16)} ${stop}`);
  m.page(data);
  m.page(data + 0x1000);
  m.set(Reg.rcx, 2_000_000);
  m.setRip(code);
  const run = (slices: number) => {
    for (let n = 0; n < slices; n++) {
      expect(m.cpu.run(200_000)).toBe(Exit.Budget);
      now += 25;
    }
  };
  const staysTranslated = () => {
    const before = m.cpu.statistics().regionInstructions;
    run(5);
    expect(m.cpu.statistics().regionInstructions - before).toBeGreaterThan(0.99 * 1_000_000);
  };
  return { m, host, kinds, run, staysTranslated };
}

describe('a region', () => {
  // add rax, [rbx]; add rax, [rbx+8]
  const body = '480303 48034308';

  it('whose window crosses a page is made again, without one, and goes on', () => {
    const { m, kinds, run, staysTranslated } = machine(body);
    m.set(Reg.rbx, data + 0xff8);
    m.mem.u8[m.cpu.translate(data + 0xff8, 0, 0)] = 1;
    m.mem.u8[m.cpu.translate(data + 0x1000, 0, 0)] = 2;
    run(30);
    expect(kinds).toContain('narrow');
    expect(kinds).toContain('patient');
    staysTranslated();
    expect(m.cpu.run(100_000_000)).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(Reg.rax)).toBe(3 * 2_000_000);
  });

  it('that finds its addresses in the TLB is not', () => {
    const { m, kinds, run } = machine(body);
    m.set(Reg.rbx, data);
    run(30);
    expect(kinds).toContain('narrow');
    expect(kinds).not.toContain('patient');
  });
});

describe('an instruction of several accesses', () => {
  it.each(['interpret', 'translate'] as const)('is not left half done: frstor across a page (%s)', (tier) => {
    const m = new TestMachine({ tier });
    m.write(m.page(code), `dd23 ${stop}`);
    m.page(data);
    m.page(data + 0x1000);
    const area = data + 0x1000 - 50;
    m.set(Reg.rbx, area);
    // An unmasked exception that is pending in what is loaded: it must not be met before the instruction is over.
    for (const [at, byte] of [
      [0, 0x40],
      [1, 0x03],
      [4, 0x81],
      [5, 0x80],
    ] as const)
      m.mem.u8[m.cpu.translate(area + at, 0, 0)] = byte;
    expect(m.run(code)).toBe(Exit.SoftInt);
  });
});

describe('an instruction that stores before it loads', () => {
  it('is not left in between: enter over its own frame pointers, across a page', () => {
    const [plain, translated] = (['interpret', 'translate'] as const).map((tier) => {
      const m = new TestMachine({ tier });
      m.write(m.page(code), `66c80f0002 ${stop}`);
      const hosts = [m.page(data), m.page(data + 0x1000)];
      hosts.forEach((host, n) =>
        m.mem.u8.set(
          Uint8Array.from({ length: 0x1000 }, (_, k) => k * 7 + n),
          host,
        ),
      );
      m.set(Reg.rsp, data + 0x1005);
      m.set(Reg.rbp, data + 0x1004);
      expect(m.run(code)).toBe(Exit.SoftInt);
      const bytes = hosts.flatMap((host, n) => [
        ...m.mem.u8.subarray(host + (n ? 0 : 0xfe0), host + (n ? 16 : 0x1000)),
      ]);
      return [m.reg(Reg.rsp), m.reg(Reg.rbp), ...bytes].join(' ');
    });
    expect(translated).toBe(plain);
  });
});

describe('a change of code', () => {
  it('drops the regions that lie in its 128 bytes, not others of the page', () => {
    const { m, host, run } = machine('90');
    // Code elsewhere in the page, which makes writes to it noticed there.
    m.write(host + 0x800, `ffc0 ${stop}`);
    expect(m.run(code + 0x800)).toBe(Exit.SoftInt);
    m.setRip(code);
    run(20);
    const { rip } = m;
    const { regions, invalidations } = m.cpu.statistics().translator!;
    expect(regions).toBeGreaterThan(0);
    const write = (at: number) => {
      m.set(Reg.rdi, at);
      m.write(m.page(0x500000), `c60790 ${stop}`);
      expect(m.run(0x500000)).toBe(Exit.SoftInt);
    };
    write(code + 0x87f);
    expect(m.cpu.statistics().translator!.invalidations).toBe(invalidations);
    write(code);
    expect(m.cpu.statistics().translator!.invalidations).toBeGreaterThan(invalidations);
    m.setRip(rip);
    run(1);
  });
});

describe('the table of entries', () => {
  it('finds regions by the address of their code, a full set losing the oldest', () => {
    const { ways } = RegionTable;
    const u32 = new Uint32Array((RegionTable.offset + RegionTable.bytes) / 4);
    const entries = new RegionEntries(u32, 0);
    const used = () => [...u32.subarray(RegionTable.offset / 4)].filter((n) => n !== 0);
    // Addresses whose bits above and below the hash shift cancel out: one set for all.
    const at = (n: number) => (((n << RegionTable.hashShift) | n) << RegionTable.lowBits) >>> 0;
    const all = (...numbers: number[]) => numbers.flatMap((n) => [at(n), n]);
    for (let n = 1; n <= ways; n++) entries.add(at(n), n);
    expect(used()).toEqual(all(8, 7, 6, 5, 4, 3, 2, 1));
    entries.add(at(9), 9);
    expect(used()).toEqual(all(9, 8, 7, 6, 5, 4, 3, 2));
    for (const gone of [1, 5, 8]) entries.remove(at(gone));
    // The newest is looked at first; a place that is free is taken before anything is lost.
    for (const added of [10, 11]) entries.add(at(added), added);
    expect(used()).toEqual(all(11, 10, 9, 7, 6, 4, 3, 2));
  });
});

it('a region that ends with SYSCALL leaves `run` behind it, everything in its place', () => {
  // cmp eax, ecx; inc rdx; syscall
  const m = new TestMachine({ tier: 'translate' });
  m.write(m.page(code), '39c8 48ffc2 0f05');
  m.set(Reg.rax, 1);
  m.set(Reg.rcx, 2);
  for (let n = 1; n <= 3; n++) {
    expect(m.run(code)).toBe(Exit.Syscall);
    expect(m.rip).toBe(BigInt(code + 7));
    expect([Reg.rax, Reg.rcx, Reg.rdx].map((r) => m.reg(r))).toEqual([1n, 2n, BigInt(n)]);
    // The carry of the comparison.
    expect(m.cpu.getRflags() & 1).toBe(1);
    expect(m.cpu.instructions).toBe(3 * n);
    expect(m.cpu.statistics().regionInstructions).toBe(3 * n);
  }
});

describe('a region of arithmetic', () => {
  // addsd xmm1, xmm0; mulsd xmm2, xmm0
  const body = 'f20f58c8 f20f59d0';
  const start = (number: number) => {
    const made = machine(body);
    const { cpu, mem } = made.m;
    mem.u64[(cpu.base + ST.xmm) >>> 3] = new BigUint64Array(new Float64Array([number]).buffer)[0]!;
    cpu.set(ST.mxcsr, 0x1fa0);
    return made;
  };

  it('whose numbers are out of the ordinary is made again, and goes on', () => {
    const { kinds, run, staysTranslated } = start(2 ** 300);
    run(30);
    expect(kinds).toContain('patient');
    expect(kinds).toContain('exact');
    staysTranslated();
  });

  it('whose numbers are zeros, and such as most are, is not', () => {
    for (const number of [0, 1.5]) {
      const { kinds, run } = start(number);
      run(30);
      expect(kinds).toContain('narrow');
      expect(kinds).not.toContain('patient');
    }
  });
});

describe('a region that is patient with addresses', () => {
  // movsd xmm1, [rbx]; add rax, [rbx+8]; addsd xmm0, xmm1
  it('still leaves for numbers only', () => {
    const { m, kinds, run } = machine('f20f100b 48034308 f20f58c1');
    m.set(Reg.rbx, data + 0xff8);
    m.cpu.set(ST.mxcsr, 0x1fa0);
    run(35);
    expect(kinds).toContain('patient');
    expect(kinds).not.toContain('exact');
  });
});
