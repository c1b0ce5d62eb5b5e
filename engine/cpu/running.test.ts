// SPDX-License-Identifier: MIT
// Running code: budgets, steps, block cache, bulk string operations.
import { describe, expect, it, vi } from 'vitest';
import { CodeCache } from './code-cache.ts';
import { Exit } from './exits.ts';
import { Seg, ST } from './layout.ts';
import { le, Reg, stop, TestMachine } from './test-machine.ts';

const code = 0x400000;
const data = 0x10000000;
const trapFlag = 0x100;

/** Uses up most of the arena at once, to get to its end sooner. */
function takeRoom(m: TestMachine, bytes: number): void {
  expect((m.cpu as unknown as { allocate(bytes: number): number }).allocate(bytes)).not.toBe(0);
}

describe.each(['interpret', 'translate'] as const)('a vCPU that runs (%s)', (tier) => {
  it('counts every instruction, whatever the budget slices are', () => {
    // loop: add rax,rcx; nop; dec ecx; jnz loop - and a call in it.
    const text = `4801c8 e807000000 ffc9 75f4 ${stop} 9090 83c201 c3`;
    for (const budget of [0, 1, 2, 3, 5, 7, 64, 100_000]) {
      const m = new TestMachine({ tier });
      m.write(m.page(code), text);
      m.page(data);
      m.set(Reg.rsp, data + 0x800);
      m.set(Reg.rcx, 50);
      expect(m.run(code, budget)).toBe(Exit.SoftInt);
      expect([m.reg(0), m.reg(Reg.rdx)]).toEqual([1275n, 50n]);
      expect(m.cpu.instructions).toBe(50 * 6 + 1);
      expect(m.reg(Reg.rsp)).toBe(BigInt(data + 0x800));
    }
  });

  it('finds short blocks that follow each other without asking', () => {
    const m = new TestMachine({ tier });
    // jmp rbx; jmp rcx; jmp rdx: round and round.
    m.write(m.page(code), 'ffe3 ffe1 ffe2');
    m.set(Reg.rbx, code + 2);
    m.set(Reg.rcx, code + 4);
    m.set(Reg.rdx, code);
    const lookup = vi.spyOn(CodeCache.prototype as unknown as { lookup(): number }, 'lookup');
    m.setRip(code);
    expect(m.cpu.run(3000)).toBe(Exit.Budget);
    expect(lookup.mock.calls.length).toBeLessThan(10);
    lookup.mockRestore();
  });

  it('counts NOPs, wherever they are', () => {
    // cmp ecx, ecx; nop; jz over; over: nop; nop; one that crosses the page; nop
    for (const budget of [0, 1, 100_000]) {
      const m = new TestMachine({ tier });
      m.write(m.page(code) + 0xff6, `39c9 90 7402 ${stop} ${stop} 90 90 0f`);
      m.write(m.page(code + 0x1000), `1f00 90 ${stop}`);
      expect(m.run(code + 0xff6, budget)).toBe(Exit.SoftInt);
      expect(m.rip).toBe(BigInt(code + 0x1004));
      expect(m.cpu.instructions).toBe(8);
    }
  });

  it.each([
    ['488b03', 0x10],
    ['488b04cb', 0x30],
    ['65488b03', 0x110],
    ['65488b04cb', 0x130],
    ['64488b4308', 0x218],
    ['6548890b', 0x110],
  ])('adds what an address consists of: %s', (text, offset) => {
    const m = new TestMachine({ tier });
    m.write(m.page(code), `${text} ${stop}`);
    const host = m.page(data);
    m.mem.u32[(m.cpu.base + ST.segBase + 8 * Seg.gs) >>> 2] = 0x100;
    m.mem.u32[(m.cpu.base + ST.segBase + 8 * Seg.fs) >>> 2] = 0x200;
    m.set(Reg.rbx, data + 0x10);
    m.set(Reg.rcx, 4);
    m.mem.u64[(host + offset) >>> 3] = 0x1122334455667788n;
    expect(m.run(code)).toBe(Exit.SoftInt);
    if (text.endsWith('890b')) expect(m.mem.u64[(host + offset) >>> 3]).toBe(4n);
    else expect(m.reg(0)).toBe(0x1122334455667788n);
  });

  it('stops soon after its budget', () => {
    const m = new TestMachine({ tier });
    m.write(m.page(code), 'ffc0 ffc0 ffc0 ebf8');
    m.setRip(code);
    for (const budget of [0, 1, 10, 1000, 65_000]) {
      const before = m.cpu.instructions;
      expect(m.cpu.run(budget)).toBe(Exit.Budget);
      const ran = m.cpu.instructions - before;
      expect(ran).toBeGreaterThan(budget);
      // A block beyond each slice.
      expect(ran).toBeLessThanOrEqual(budget + 4 * (1 + Math.floor(budget / 20_000)));
    }
    expect(m.reg(0)).toBe(BigInt((m.cpu.instructions / 4) * 3));
  });

  it('steps: #DB behind every instruction with TF set, and none behind one that faults', () => {
    const m = new TestMachine({ tier });
    m.write(m.page(code), `ffc0 90 8b03 ${stop}`);
    m.set(Reg.rbx, data);
    m.cpu.setRflags(trapFlag | 2);
    m.setRip(code);
    for (const next of [2, 3]) {
      expect(m.cpu.run(1000)).toBe(Exit.Exception);
      expect(m.fault).toMatchObject({ vector: 1, rip: BigInt(code + next) });
      expect(m.cpu.get(ST.debugStatus)).toBe(0x4000);
    }
    expect(m.cpu.run(1000)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, rip: BigInt(code + 3) });
    m.page(data);
    expect(m.cpu.run(1000)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 1, rip: BigInt(code + 5) });
    m.cpu.setRflags(2);
    expect(m.cpu.run(1000)).toBe(Exit.SoftInt);
  });

  it('steps over an instruction that crosses a page and over one that changes code', () => {
    const m = new TestMachine({ tier });
    const first = m.page(code);
    m.frame();
    const second = m.page(code + 0x1000);
    // mov eax, 0x11223344 across the pages; mov byte [rbx], 0x90; nop
    m.write(first + 0xffe, 'b844');
    m.write(second, `332211 c60390 cc ${stop}`);
    m.set(Reg.rbx, code + 0x1006);
    m.cpu.setRflags(trapFlag | 2);
    m.setRip(code + 0xffe);
    for (const next of [0x1003, 0x1006, 0x1007]) {
      expect(m.cpu.run(1000)).toBe(Exit.Exception);
      expect(m.fault).toMatchObject({ vector: 1, rip: BigInt(code + next) });
    }
    expect(m.cpu.regLo(0)).toBe(0x11223344);
    expect(m.cpu.run(1000)).toBe(Exit.SoftInt);
  });

  it('sets TF from POPF with effect behind the next instruction', () => {
    const m = new TestMachine({ tier });
    m.write(m.page(code), `9d 90 90 ${stop}`);
    const host = m.page(data);
    m.mem.u64[host >>> 3] = BigInt(trapFlag | 2);
    m.set(Reg.rsp, data);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 1, rip: BigInt(code + 2) });
  });

  it('steps one instruction with a right that the tables do not give', () => {
    const m = new TestMachine({ tier });
    const table = m.page(data, 0);
    m.write(m.page(code), `48891b ${stop}`);
    m.set(Reg.rbx, data + 0x10);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, error: 7, cr2: BigInt(data + 0x10) });
    expect(m.cpu.stepWithWritable(table)).toBe(Exit.Budget);
    expect(m.mem.u64[(table + 0x10) >>> 3]).toBe(BigInt(data + 0x10));
    expect(m.rip).toBe(BigInt(code + 3));
    // The right is gone.
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, error: 7 });
  });

  it('starts its block cache over when it is full, in the middle of linking', () => {
    const m = new TestMachine({ tier });
    const host = m.page(code);
    const far = m.page(code + 0x1000);
    m.page(data);
    // 63 slow instructions (adc dword [rax+rcx*8+disp], imm with a 32-bit address), then a jump back to a counter.
    const body = `67819 4c800020000 01000000`.replace(/\s/g, '').repeat(60);
    m.write(host, `${body} ffca 0f85 ${le(-(body.length / 2 + 8), 4)} e9 ${le(0x1000 - (body.length / 2 + 13), 4)}`);
    m.write(far, `ffc6 ${stop}`);
    m.set(Reg.rax, data);
    m.set(Reg.rcx, 8);
    let expected = 0;
    takeRoom(m, 23 << 20);
    while (m.cpu.arenaResets === 0 && expected < 30_000) {
      m.set(Reg.rdx, 2);
      expect(m.run(code)).toBe(Exit.SoftInt);
      expected++;
      // The page changed: everything in it is decoded again, into further room.
      m.cpu.frameWritten(host);
    }
    for (let i = 0; i < 3; i++, expected++) {
      m.set(Reg.rdx, 2);
      expect(m.run(code)).toBe(Exit.SoftInt);
    }
    expect(m.cpu.arenaResets).toBe(1);
    expect(m.cpu.regLo(Reg.rsi)).toBe(expected);
    expect(m.mem.u32[m.cpu.translate(data + 0x240, 0, 0) >>> 2]).toBe(expected * 120);
  });

  it('counts and reports what it did', () => {
    const m = new TestMachine({ tier });
    m.write(m.page(code), `ffc9 75fc ${stop}`);
    m.set(Reg.rcx, 1000);
    m.run(code);
    const s = m.cpu.statistics();
    expect(m.cpu.instructions).toBe(2001);
    expect(s.decodedBlocks).toBeGreaterThan(0);
    if (tier === 'interpret') expect([s.regionInstructions, s.translator]).toEqual([0, undefined]);
    else {
      expect(s.regionInstructions).toBe(2000);
      expect(s.translator!.regions).toBeGreaterThan(0);
    }
  });
});

it('never writes a link into a block cache that has been started over', () => {
  const filler = 0x500000;
  const machine = () => {
    const m = new TestMachine();
    // The very first block of the arena, waiting to be linked to a page that is not there yet.
    m.write(m.page(code), `e9 ${le(0x1000 - 5, 4)}`);
    const host = m.page(filler);
    m.write(host, `${'67c784c80002000001000000'.repeat(60)} ${stop}`);
    m.page(data);
    m.set(Reg.rax, data);
    expect(m.run(code)).toBe(Exit.Exception);
    takeRoom(m, 23 << 20);
    const fill = () => {
      expect(m.run(filler)).toBe(Exit.SoftInt);
      m.cpu.frameWritten(host);
    };
    return { m, fill };
  };
  const first = machine();
  let rounds = 0;
  for (; first.m.cpu.arenaResets === 0; rounds++) first.fill();
  // So many that one more block does not fit: it is the target of the waiting jump, and takes the place of the jump.
  const { m, fill } = machine();
  for (let i = 0; i < rounds - 1; i++) fill();
  expect(m.cpu.arenaResets).toBe(0);
  m.write(m.page(code + 0x1000), `${'ffc2'.repeat(40)} ${stop}`);
  expect(m.run(code)).toBe(Exit.SoftInt);
  expect(m.cpu.arenaResets).toBe(1);
  expect(m.reg(Reg.rdx)).toBe(40n);
  m.set(Reg.rdx, 0);
  expect(m.run(code + 0x1000)).toBe(Exit.SoftInt);
  expect(m.reg(Reg.rdx)).toBe(40n);
});

it.each(['interpret', 'translate', 'auto'] as const)(
  'comes back from code that changes itself for ever (%s)',
  (tier) => {
    const m = new TestMachine({ tier });
    const alias = 0x20000000;
    const frame = m.frame();
    m.map(code, frame);
    m.map(alias, frame);
    // mov rsp, (behind the call); call back: the call writes its own return address over the code behind it, in the same 128 bytes as itself.
    m.write(m.hostOf(frame), `48bc${le(alias + 0x40, 8)} e8${le(-15, 4)}`);
    m.setRip(code);
    for (const budget of [0, 1, 50, 2000]) {
      const before = m.cpu.instructions;
      expect(m.cpu.run(budget)).toBe(Exit.Budget);
      expect(m.cpu.instructions - before).toBeGreaterThan(budget);
      expect(m.cpu.instructions - before).toBeLessThanOrEqual(budget + 3);
    }
  },
);
