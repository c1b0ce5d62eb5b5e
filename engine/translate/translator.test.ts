// SPDX-License-Identifier: MIT
// Tests of translator.ts.
import { describe, expect, it, vi } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { le, Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import { Profile } from './profile.ts';

const code = 0x400000;
const data = 0x10000000;

describe('hot code', () => {
  /**
   * loop: dec ecx; jnz loop; jmp to the next page, where eax is set: part of the region, because it has been reached, but not executed while
   * the loop is hot.
   */
  function machine() {
    let now = 0;
    const m = new TestMachine({ tier: 'auto', nowMs: () => now });
    const host = m.page(code);
    m.write(host, `ffc9 75fc e9${le(0x1000 - 9, 4)}`);
    const cold = m.page(code + 0x1000);
    m.write(cold, `b801000000 ${stop}`);
    m.set(Reg.rcx, 1);
    expect(m.run(code)).toBe(Exit.SoftInt);
    m.set(Reg.rcx, 100_000_000);
    m.setRip(code);
    return { m, host, cold, pass: (ms: number) => (now += ms) };
  }

  it('is translated after a while, with what it leads to', () => {
    const { m, pass } = machine();
    expect(m.cpu.run(100_000)).toBe(Exit.Budget);
    expect(m.cpu.statistics().translator!.regions).toBe(0);
    for (let i = 0; i < 20; i++) {
      expect(m.cpu.run(200_000)).toBe(Exit.Budget);
      pass(5);
    }
    const { translator, regionInstructions } = m.cpu.statistics();
    expect(translator!.regions).toBeGreaterThan(0);
    expect(regionInstructions).toBeGreaterThan(100_000);
    m.set(Reg.rcx, 3);
    expect(m.resume()).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(0)).toBe(1);
  });

  it.each([
    { what: 'sooner when it is busy for a while', everyMs: 12, hasNew: false, isTranslated: true },
    { what: 'later when it is done soon', everyMs: 1, hasNew: false, isTranslated: false },
    { what: 'later when it takes its time', everyMs: 40, hasNew: false, isTranslated: false },
    { what: 'later when the guest comes to much that is new', everyMs: 12, hasNew: true, isTranslated: false },
  ])('is translated $what', ({ everyMs, hasNew, isTranslated }) => {
    const { m, pass } = machine();
    // jmp to the next one, 200 times
    m.write(m.page(0x600000), `${'eb00'.repeat(200)} ${stop}`);
    // Half as many looks as would do in any case.
    for (let i = 0; i < 15; i++) {
      expect(m.cpu.run(2_000)).toBe(Exit.Budget);
      pass(everyMs);
      if (i !== 3 || !hasNew) continue;
      const { rip } = m;
      expect(m.run(0x600000)).toBe(Exit.SoftInt);
      m.setRip(rip);
    }
    expect(m.cpu.statistics().translator!.regions > 0).toBe(isTranslated);
  });

  it.each([
    ['a program', 0x400000n, [2]],
    ['a kernel', 0xffffffff_81000000n, []],
  ])('of %s counts its branches or does not', (_, at, branches) => {
    const add = vi.spyOn(Profile.prototype, 'add');
    let now = 0;
    const m = new TestMachine({ tier: 'auto', nowMs: () => now });
    // loop: dec ecx; jnz loop
    m.write(m.page(at), `ffc9 75fc ${stop}`);
    m.set(Reg.rcx, 100_000_000);
    m.setRip(at);
    for (let i = 0; i < 20; i++, now += 5) expect(m.cpu.run(200_000)).toBe(Exit.Budget);
    expect(add.mock.calls.map(([region]) => region.branches)[0]).toEqual(branches);
    add.mockRestore();
  });

  it('is found however soon the machine asks `run` to return', () => {
    const { m, pass } = machine();
    for (let i = 0; i < 200; i++) {
      expect(m.cpu.run(5_000)).toBe(Exit.Budget);
      pass(1);
    }
    expect(m.cpu.statistics().translator!.regions).toBeGreaterThan(0);
  });

  it.each([
    { functions: 1, expected: 2 },
    { functions: 5, expected: 6 },
    { functions: 40, expected: 33 },
  ])('takes along what it calls, up to a limit: $functions functions', ({ functions, expected }) => {
    let now = 0;
    const m = new TestMachine({ tier: 'auto', nowMs: () => now });
    // loop: dec ecx; test ecx, 1; jnz past the call; call the first function; test ecx, ecx; jnz loop
    const host = m.page(code);
    m.write(host, `ffc9 f7c101000000 7505 e8${le(0x100 - 15, 4)} 85c9 75ed ${stop}`);
    // Each too long to be followed into: inc edx, 20 times; call the one behind it, if there is one; ret
    const bytes = 46;
    for (let n = 0; n < functions; n++) {
      const call = n === functions - 1 ? '' : `e8${le(1, 4)}`;
      m.write(host + 0x100 + n * bytes, `${'ffc2'.repeat(20)} ${call} c3`);
    }
    m.page(data);
    m.set(Reg.rsp, data + 0x800);
    m.set(Reg.rcx, 100_000_000);
    m.setRip(code);
    const looks = 40;
    const instructions = 5.5 + functions * 11;
    // Half of the looks that make the functions hot by themselves, and too fast for anything to be hot for being steady.
    expect(m.cpu.run(Math.ceil(looks * 1002 * instructions))).toBe(Exit.Budget);
    // What is queued is compiled soon.
    now += 10;
    expect(m.cpu.run(40_000)).toBe(Exit.Budget);
    expect(m.cpu.statistics().translator!.regions).toBe(expected);
  });

  it('is watched while it waits to be translated', () => {
    for (const write of ['device', 'copy', 'guest'] as const) {
      const { m, cold, pass } = machine();
      // Queued, not translated yet: no time passes. (Nor is it so hot that it would be translated a second time, from what the code is then.)
      expect(m.cpu.run(300_000)).toBe(Exit.Budget);
      expect(m.cpu.statistics().translator!.regions).toBe(0);
      if (write === 'device') m.write(cold + 1, '02');
      else if (write === 'copy') {
        m.mem.u8[m.cpu.scratch] = 2;
        expect(m.cpu.copyOut(code + 0x1001, 0, m.cpu.scratch, 1)).toBe(true);
      } else {
        const rip = m.rip;
        m.write(m.page(0x500000), `c60302 ${stop}`);
        m.set(Reg.rbx, code + 0x1001);
        expect(m.run(0x500000)).toBe(Exit.SoftInt);
        m.setRip(rip);
      }
      // The changed code is queued anew.
      for (let i = 0; i < 2; i++) {
        pass(1000);
        expect(m.cpu.run(300_000)).toBe(Exit.Budget);
      }
      expect(m.cpu.statistics().translator!.regions).toBeGreaterThan(0);
      m.set(Reg.rcx, 3);
      expect(m.resume()).toBe(Exit.SoftInt);
      expect(m.cpu.regLo(0), write).toBe(2);
    }
  });

  it('comes back after it was changed', () => {
    const { m, host, pass } = machine();
    const warm = () => {
      for (let i = 0; i < 20; i++) {
        expect(m.cpu.run(200_000)).toBe(Exit.Budget);
        pass(25);
      }
      return m.cpu.statistics().translator!;
    };
    const first = warm();
    m.write(host, 'ffc9');
    expect(m.cpu.statistics().translator!.invalidations).toBeGreaterThan(first.invalidations);
    expect(warm().regions).toBeGreaterThan(first.regions);
  });

  it('is left to the interpreter while its page keeps changing, and no longer', () => {
    const { m, host, pass } = machine();
    const run = () => {
      for (let i = 0; i < 20; i++) expect(m.cpu.run(200_000)).toBe(Exit.Budget);
      return m.cpu.statistics();
    };
    const change = () => {
      m.write(host, 'ffc9');
      // Batches wait for their time; the page's pause does not end with it.
      pass(25);
      run();
      pass(25);
      return run().translator!;
    };
    const seen = Array.from({ length: 8 }, change);
    expect(seen[1]!.regions).toBeGreaterThan(0);
    expect(seen[1]!.postponed).toBe(0);
    expect(seen[7]!.regions).toBe(seen[6]!.regions);
    expect(seen[7]!.postponed).toBeGreaterThan(0);
    const before = m.cpu.statistics().regionInstructions;
    pass(10_000);
    run();
    pass(25);
    const { translator, regionInstructions } = run();
    expect(translator!.regions).toBeGreaterThan(seen[7]!.regions);
    expect(regionInstructions - before).toBeGreaterThan(1_000_000);
    // Its patience comes back, too.
    pass(20_000);
    expect(change().regions).toBeGreaterThan(translator!.regions);
  });
});

describe('regions', () => {
  it('stay small where branches lead to the next instruction', () => {
    // Forty of them: emitted on both sides of each, they would be 2^40 instructions.
    for (const text of ['7400', '0f8400000000', '7b00', 'e300', 'eb00']) {
      const m = new TestMachine({ tier: 'translate' });
      m.write(m.page(code), `${text.repeat(40)} ffc0 ${stop}`);
      expect(m.run(code)).toBe(Exit.SoftInt);
      expect(m.cpu.regLo(0)).toBe(1);
      expect(m.cpu.statistics().translator!.bytes).toBeLessThan(200_000);
    }
  });

  it.each([
    ['add', '4801c8'],
    ['adc', '4811c8'],
    ['sbb', '4819c8'],
    ['cmc', 'f5'],
    ['rcl', '48d1d0'],
    ['setc and adc', '0f92c2 4811d0'],
    ['inc', '48ffc0'],
    ['neg', '48f7d8'],
    ['lahf, sahf', '9f9e'],
    ['cmov', '480f42c1'],
    ['shl cl', '48d3e0'],
    ['shl', '48c1e003'],
    ['rol', '48c1c003'],
    ['shld', '480fa4c803'],
    ['imul', '480fafc1'],
    ['mul', '48f7e1'],
    ['bts', '480fbae805'],
    ['bsf', '480fbcc1'],
    ['popcnt', 'f3480fb8c1'],
    ['xadd', '480fc1c8'],
  ])('grow with their code, not faster: %s', (_, text) => {
    const size = (n: number) => {
      const m = new TestMachine({ tier: 'translate' });
      m.write(m.page(code), text.repeat(n) + stop);
      m.page(data);
      m.set(Reg.rsp, data + 0x800);
      expect(m.run(code)).toBe(Exit.SoftInt);
      return m.cpu.statistics().translator!.bytes;
    };
    expect(size(50)).toBeLessThan(6 * size(10));
  });

  it('report the flags of the last time round when the instruction that sets them faults', () => {
    const results = (['interpret', 'translate'] as const).map((tier) => {
      const m = new TestMachine({ tier });
      // loop: add rax, [rsi]; lea rsi, [rsi + 8]; jmp loop
      m.write(m.page(code), '480306 488d7608 ebf7');
      const host = m.page(data);
      m.mem.u64[(host + 0xff0) >>> 3] = 5n;
      m.mem.u64[(host + 0xff8) >>> 3] = 0x7fffffffffffffffn;
      m.set(Reg.rsi, data + 0xff0);
      m.set(Reg.rax, 0xffff);
      expect(m.run(code)).toBe(Exit.Exception);
      return { fault: m.fault, flags: m.cpu.getRflags(), rax: m.reg(0) };
    });
    expect(results[1]).toEqual(results[0]);
    expect(results[0]!.flags).toBe(0x896);
  });

  it('compute flags that waited as those that did not', () => {
    // Each after add rax, rcx, which leaves all flags; then each flag in a register of its own.
    const flags = '0f90c2 0f92c6 0f94c7 410f98c0 410f9ac1 410f9cc2';
    for (const text of [
      'f3480fb8d9', // popcnt rbx, rcx: no sign, whatever was counted
      '48c1e300', // shl rbx, 0: nothing
      '48c1e340', // shl rbx, 64: nothing
      '48d1e3',
      '48c1f83f', // sar rax, 63
      '66c1e311', // shl bx, 17
      'c0c309', // rol bl, 9: the carry alone
      '48c1cb04',
      '480fa4cb05',
      '480facc300', // shrd rbx, rax, 0: nothing
      '48f7e1',
      '48f7e9',
      '480fafd9',
      '480fba e33f', // bt rbx, 63: the carry alone
      '480fbcd9',
      '480fc1cb',
    ]) {
      const [plain, translated] = (['interpret', 'translate'] as const).map((tier) => {
        const m = new TestMachine({ tier });
        m.write(m.page(code), `4801c8 ${text} ${flags} ${stop}`);
        m.set(Reg.rax, 0x8000000000000001n);
        m.set(Reg.rcx, 0x8765432187654321n);
        m.set(Reg.rbx, 0xf0f0f0f0f0f0f0f0n);
        m.set(Reg.rdx, 0);
        expect(m.run(code)).toBe(Exit.SoftInt);
        return [...Array.from({ length: 12 }, (_, n) => m.reg(n)), m.cpu.getRflags()].join(' ');
      });
      expect(translated, text).toBe(plain);
    }
  });

  it('count an instruction once, also when it is finished by the interpreter', () => {
    const counts = (['interpret', 'translate'] as const).map((tier) => {
      const m = new TestMachine({ tier });
      // inc ecx; add [rbx], rax across a page; inc ecx; inc ecx
      m.write(m.page(code), `ffc1 480103 ffc1 ffc1 ${stop}`);
      m.page(data);
      m.page(data + 0x1000);
      m.set(Reg.rbx, data + 0xffc);
      expect(m.run(code)).toBe(Exit.SoftInt);
      expect(m.cpu.regLo(Reg.rcx)).toBe(3);
      return m.cpu.instructions;
    });
    expect(counts[1]).toBe(counts[0]);
  });

  it('are all dropped when they become too many, and made again', () => {
    const m = new TestMachine({ tier: 'translate', frames: 128 });
    // One-instruction regions everywhere: ret. 0x2000 is the most there can be.
    const pages = 3;
    for (let p = 0; p < pages; p++) m.write(m.page(code + p * 0x1000), 'c3'.repeat(0x1000));
    const host = m.page(data);
    m.write(m.page(0x500000), stop);
    m.mem.u64[(host + 0x800) >>> 3] = 0x500000n;
    for (let i = 0; i < pages * 0x1000; i++) {
      m.set(Reg.rsp, data + 0x800);
      if (m.run(code + i) !== Exit.SoftInt) throw new Error(`wrong end at ${i}`);
    }
    expect(m.cpu.statistics().translator!.evictions).toBeGreaterThan(0x1000);
    m.set(Reg.rsp, data + 0x800);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.reg(Reg.rsp)).toBe(BigInt(data + 0x808));
  });
});
