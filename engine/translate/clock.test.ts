// SPDX-License-Identifier: MIT
// Tests of clock.ts: the time-stamp counter in translated code, and on the way between it and the interpreter (Intel SDM volume 2, RDTSC).

import { describe, expect, it, vi } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { ST } from '../cpu/layout.ts';
import { pageBytes, le, Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import type { Tier } from '../cpu/vcpu.ts';

const code = 0x400000;
const data = 0x10000000;
const start = 0x5_8000_0000;
const timeStampDisable = 4;

/** A machine whose clock is in the test's hand. */
function machine(tier: Tier = 'translate') {
  const m = new TestMachine({ tier });
  const clock = { now: start, asked: 0, onAsk: () => {} };
  vi.spyOn(m.cpu.hostOps['host'], 'tsc').mockImplementation(() => {
    clock.asked++;
    clock.onAsk();
    return clock.now;
  });
  return { m, clock };
}

/** RDTSC; SHL RDX, 32; OR RAX, RDX: the counter in RAX. */
const readClock = '0f31 48c1e220 4809d0';
/** MOV RSI, RAX and MOV RDI, RAX. */
const toRsi = '4889c6';
const toRdi = '4889c7';
/** STOSQ. */
const append = '48ab';

/** Instructions from the first reading to the second in `twice`: those of the loop, and of the block that reads again. */
const passedAfter = (rounds: number): number => 2 * rounds + 4;
const twice = (rounds: number): string =>
  `b9${le(rounds, 4)} ${readClock} ${toRsi} ffc9 75fc ${readClock} ${toRdi} ${stop}`;

describe('RDTSC in translated code', () => {
  it.each([1, 7, 500, 2045])(
    'says what the clock said, and a little more, for about two microseconds: %d rounds',
    (rounds) => {
      const { m, clock } = machine();
      m.write(m.page(code), twice(rounds));
      clock.onAsk = () => (clock.now += 5000);
      expect(m.run(code)).toBe(Exit.SoftInt);
      expect(m.cpu.statistics().regionInstructions).toBeGreaterThan(2 * rounds);
      expect(clock.asked).toBe(1);
      expect(m.reg(Reg.rsi)).toBe(BigInt(start + 5000));
      // A quarter of a nanosecond for each instruction: less than they take.
      expect(m.reg(Reg.rdi)).toBe(BigInt(start + 5000 + (passedAfter(rounds) >> 2)));
    },
  );

  it.each([2046, 5000, 40_000])('asks the clock again after that: %d rounds', (rounds) => {
    const { m, clock } = machine();
    m.write(m.page(code), twice(rounds));
    clock.onAsk = () => (clock.now += 5000);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(clock.asked).toBe(2);
    expect(m.reg(Reg.rdi)).toBe(BigInt(start + 10_000));
  });

  it('asks the clock in every slice, however little ran in it', () => {
    const { m, clock } = machine();
    m.write(m.page(code), `${readClock} ${stop}`);
    for (let n = 1; n < 5; n++) {
      clock.now += 1_000_000;
      expect(m.run(code)).toBe(Exit.SoftInt);
      expect(m.reg(Reg.rax)).toBe(BigInt(clock.now));
    }
  });

  it('is RDTSCP too, with TSC_AUX in RCX', () => {
    const { m, clock } = machine();
    m.cpu.set(ST.tscAux, 0x1234);
    m.write(m.page(code), `0f01f9 48c1e220 4809d0 ${stop}`);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.cpu.statistics().regionEntries).toBeGreaterThan(0);
    expect([m.reg(Reg.rax), m.reg(Reg.rcx)]).toEqual([BigInt(clock.now), 0x1234n]);
  });
});

describe('the clock never goes back', () => {
  it('for the interpreter, behind what translated code made up', () => {
    const { m, clock } = machine();
    m.write(m.page(code), twice(900));
    m.write(m.page(code + 0x1000), `0f31 ${stop}`);
    const interpreted = (): number => {
      m.setRip(code + 0x1000);
      expect(m.cpu.stepOne()).toBe(Exit.Budget);
      return m.cpu.regLo(Reg.rdx) * 2 ** 32 + (m.cpu.regLo(Reg.rax) >>> 0);
    };
    expect(m.run(code)).toBe(Exit.SoftInt);
    const madeUp = Number(m.reg(Reg.rdi));
    expect(madeUp).toBeGreaterThan(clock.now);
    expect(interpreted()).toBe(madeUp);
    // And from there back to translated code, by a clock that still has not come so far.
    clock.now++;
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(Number(m.reg(Reg.rsi))).toBe(madeUp);
    expect(Number(m.reg(Reg.rdi))).toBe(madeUp + (passedAfter(900) >> 2));
    clock.now += 1_000_000;
    expect(interpreted()).toBe(clock.now);
  });

  it.each([
    ['stands still', () => 0],
    ['creeps', () => 1],
    ['goes on in steps', (n: number) => (n % 5 === 0 ? 400 : 0)],
    ['runs', () => 3000],
  ])('where both take turns within a slice, and the clock %s', (_, step) => {
    const { m, clock } = machine();
    clock.onAsk = () => (clock.now += step(clock.asked));
    const turns = 40;
    // So many times: translated readings around a loop of 60 rounds; then PUSHF, which is not translated, and a reading in its block.
    const body = [
      readClock,
      append,
      'b93c000000 ffc9 75fc',
      `${readClock} ${append}`,
      `9c 58 ${readClock} ${append}`,
      '41ffc8',
    ].join(' ');
    const length = body.replaceAll(' ', '').length / 2;
    m.write(m.page(code), `${body} 0f85${le(-length - 6, 4)} ${stop}`);
    const host = m.page(data);
    m.set(8, turns);
    m.set(Reg.rdi, data);
    m.set(Reg.rsp, data + pageBytes);
    expect(m.run(code)).toBe(Exit.SoftInt);
    const values = [...m.mem.u64.slice(host >>> 3, (host >>> 3) + 3 * turns)].map(Number);
    expect(m.reg(Reg.rdi)).toBe(BigInt(data + 8 * values.length));
    for (let n = 1; n < values.length; n++) expect(values[n], `reading ${n}`).toBeGreaterThanOrEqual(values[n - 1]!);
    // Some were made up, some were asked for by either.
    expect(clock.asked).toBeGreaterThanOrEqual(turns);
    expect(clock.asked).toBeLessThan(values.length);
    expect(m.cpu.statistics().regionEntries).toBeGreaterThan(turns);
  });
});

describe('with CR4.TSD', () => {
  const forbid = (m: TestMachine) => m.cpu.set(ST.cr4, m.cpu.get(ST.cr4) | timeStampDisable);
  const tiers = ['interpret', 'translate'] as const;

  it.each(['0f31', '0f01f9'])(
    'the instruction raises #GP(0) at CPL 3 and changes nothing, in both tiers: %s',
    (text) => {
      const ends = tiers.map((tier) => {
        const { m, clock } = machine(tier);
        // add eax, ecx; inc ebx; then the instruction.
        m.write(m.page(code), `01c8 ffc3 ${text} ${stop}`);
        m.set(Reg.rax, 0xffffffff);
        m.set(Reg.rcx, 1);
        m.set(Reg.rdx, 77);
        forbid(m);
        expect(m.run(code)).toBe(Exit.Exception);
        expect(m.fault).toMatchObject({ vector: 13, error: 0, rip: BigInt(code + 4) });
        expect(clock.asked).toBe(0);
        if (tier === 'translate') expect(m.cpu.statistics().regionEntries).toBeGreaterThan(0);
        return { registers: [0, 1, 2, 3].map((n) => m.reg(n)), flags: m.cpu.getRflags() };
      });
      expect(ends[1]).toEqual(ends[0]);
      expect(ends[0]!.registers).toEqual([0n, 1n, 77n, 1n]);
    },
  );

  it('code that was translated while it was allowed raises it too, and may go on afterwards', () => {
    const { m, clock } = machine();
    m.write(m.page(code), `${readClock} ${stop}`);
    expect(m.run(code)).toBe(Exit.SoftInt);
    const cr4 = m.cpu.get(ST.cr4);
    forbid(m);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 13, error: 0, rip: BigInt(code) });
    m.cpu.set(ST.cr4, cr4);
    clock.now += 10;
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.reg(Reg.rax)).toBe(BigInt(clock.now));
  });

  it('holds at once, not only when the clock would be asked again', () => {
    const { m, clock } = machine();
    m.write(m.page(code), twice(10));
    clock.onAsk = () => forbid(m);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault.vector).toBe(13);
    expect(clock.asked).toBe(1);
    expect(m.reg(Reg.rsi)).toBe(BigInt(start));
    expect(m.rip).toBe(BigInt(code + 5 + 9 + 3 + 4));
  });

  it('the kernel at CPL 0 may read the clock', () => {
    for (const tier of tiers) {
      const { m, clock } = machine(tier);
      m.write(m.page(code), twice(10));
      forbid(m);
      m.cpu.setCpl(0);
      expect(m.run(code)).toBe(Exit.SoftInt);
      expect(m.reg(Reg.rsi)).toBe(BigInt(clock.now));
    }
  });
});
