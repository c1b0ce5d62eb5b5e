// SPDX-License-Identifier: MIT
// Pairs of instructions with a handler of their own: they do what the two do one by one, and stop between them.
import { describe, expect, it } from 'vitest';
import { catalog } from './catalog.ts';
import { Exit } from './exits.ts';
import { hotPairs } from './hot-pairs.ts';
import { Reg, stop, TestMachine } from './test-machine.ts';

const code = 0x400000;
const data = 0x10000000;
const stack = 0x20000000;
const trapFlag = 0x100;
const statusFlags = 0x8d5;

/** Leave RSI, RDI and RSP (nearly) as they are; jumps pass over an INC of four bytes. */
const instructions = [
  ...['50', '53', '51', '59', '5a', '58', '4889d8', '4889c2', '89d1', '89c3', '488b4708', '488b0cf7', '48894710', '48895f08'],
  ...['8b4718', '8b0cb7', '0fb64703', '0fb6c8', '4883c005', '31c0', '31c9', '4831d8', '480fafc3', 'ffc1', '48ffc2'],
  ...['f6470104', '488d4311', '48c7472044332211', '81e1ff000000', '4883e0f8', 'b844332211', 'e800000000', '39d1'],
  ...['4885c07404 ff470890', '39d17504 ff470890', 'f64701047504 ff470890', '85c97504 ff470890', 'a8047404 ff470890'],
  ...['4839d87404 ff470890', '3b47107304 ff470890', '83f9077704 ff470890', 'eb04 ff470890'],
]; // prettier-ignore

/** The machine and where its code and data are, with values that tell instructions apart. */
function machineWith(text: string): { m: TestMachine; codeAt: number; host: number } {
  const m = new TestMachine();
  const codeAt = m.page(code);
  m.write(codeAt, text);
  const host = m.page(data);
  for (let n = 0; n < 64; n++) m.mem.u32[(host >>> 2) + n] = Math.imul(n + 1, 0x9e3779b1);
  m.page(stack);
  [0x1234567890n, 7n, 0xffff0000n, 5n].forEach((value, n) => m.set(n, value));
  m.set(Reg.rsp, stack + 0x800);
  m.set(Reg.rsi, 3);
  m.set(Reg.rdi, data);
  m.setRip(code);
  return { m, codeAt, host };
}

const stateOf = (m: TestMachine, host: number) => ({
  registers: Array.from({ length: 8 }, (_, n) => m.reg(n)),
  flags: m.cpu.getRflags() & statusFlags,
  data: [...m.mem.u8.subarray(host, host + 256)],
  rip: m.rip,
});

describe('hot pairs', () => {
  it('name handlers that there are, once each', () => {
    expect(new Set(hotPairs).size).toBe(hotPairs.length);
    expect(catalog.pairs.map(({ first, second }) => `${first.key} ${second.key}`)).toEqual(hotPairs);
  });

  it('are what a block is decoded to', () => {
    // push rax; push rbx; mov rcx, rax; mov rdx, rbx: two pairs.
    const { m, codeAt } = machineWith(`50 53 4889c1 4889da ${stop}`);
    expect(m.resume()).toBe(Exit.SoftInt);
    const record = (m.cpu as unknown as { recordAt(host: number): number }).recordAt(codeAt);
    expect(record).toBeGreaterThan(0);
    const handlers = [0, 8, 16, 24].map((at) => m.mem.u16[(record + at) >>> 1]! >= catalog.inline.length);
    expect(handlers).toEqual([true, false, true, false]);
  });

  it('do what the instructions do one by one', () => {
    let seed = 12345;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    for (let n = 0; n < 300; n++) {
      const text = Array.from({ length: 14 }, () => instructions[random(instructions.length)]).join(' ') + stop;
      const together = machineWith(text);
      expect(together.m.resume()).toBe(Exit.SoftInt);
      const alone = machineWith(text);
      alone.m.cpu.setRflags(trapFlag | 2);
      for (let steps = 0; alone.m.cpu.run(1000) === Exit.Exception; steps++) {
        expect(alone.m.fault.vector).toBe(1);
        if (steps > 100) throw new Error(`${text} does not end`);
      }
      expect(stateOf(together.m, together.host), text).toEqual(stateOf(alone.m, alone.host));
    }
  });

  it.each([0, 1])('stop at the one that faults: %i', (which) => {
    const { m } = machineWith(`50 53 ${stop}`);
    m.set(Reg.rsp, stack + 8 * which);
    expect(m.resume()).toBe(Exit.Exception);
    expect(m.fault).toMatchObject({ vector: 14, cr2: BigInt(stack - 8), rip: BigInt(code + which) });
    expect(m.reg(Reg.rsp)).toBe(BigInt(stack));
    m.page(stack - 0x1000);
    expect(m.resume()).toBe(Exit.SoftInt);
    expect(m.reg(Reg.rsp)).toBe(BigInt(stack + 8 * which - 16));
  });
});
