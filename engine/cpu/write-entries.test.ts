// SPDX-License-Identifier: MIT
// Pages that become code: whatever the TLBs allowed to write there goes, by however many addresses.

import { describe, expect, it } from 'vitest';
import { Exit } from './exits.ts';
import { le, Reg, stop, TestMachine } from './test-machine.ts';

const code = 0x400000;
const writer = 0x500000;
/** In different sets of a TLB, and the last in the same as the first. */
const aliases = [0x20000000, 0x20003000, 0x21000000];

describe.each(['interpret', 'translate', 'auto'] as const)('a page that becomes code (%s)', (tier) => {
  it.each([[[0]], [[0, 1]], [[0, 0, 1]], [[0, 2]], [[2, 1, 0]]])('was written by way of aliases %j', (order) => {
    const m = new TestMachine({ tier });
    const frame = m.frame();
    m.map(code, frame);
    for (const alias of aliases) m.map(alias, frame);
    // mov [rbx], edx
    m.write(m.page(writer), `8913 ${stop}`);
    const write = (alias: number, value: number) => {
      m.set(Reg.rbx, alias + 1);
      m.set(Reg.rdx, value);
      expect(m.run(writer)).toBe(Exit.SoftInt);
    };
    const result = () => {
      expect(m.run(code)).toBe(Exit.SoftInt);
      return m.cpu.regLo(Reg.rax);
    };
    // mov eax, imm32
    m.write(m.hostOf(frame), `b8${le(0, 4)} ${stop}`);
    for (let round = 1; round < 4; round++) {
      // Written while it is no code, executed, and written again: each write is seen.
      order.forEach((n, k) => write(aliases[n]!, 10 * round + k));
      expect(result()).toBe(10 * round + order.length - 1);
      order.forEach((n, k) => {
        write(aliases[n]!, 100 * round + k);
        expect(result()).toBe(100 * round + k);
      });
    }
  });

  it.each([
    ['at one address in two address spaces', [0], [0]],
    ['at two addresses in two address spaces', [0], [1]],
    ['at one address here and two there, which share their place', [0], [0, 2]],
    ['at three addresses', [0, 1], [0, 2]],
  ])('was written %s', (_, here, there) => {
    const m = new TestMachine({ tier });
    const frame = m.frame();
    m.map(code, frame);
    for (const alias of aliases) m.map(alias, frame);
    m.write(m.page(writer), `8913 ${stop}`);
    const [first, second] = [m.root, m.newRoot()];
    m.mem.u8.copyWithin(m.hostOf(second), m.hostOf(first), m.hostOf(first) + 4096);
    const write = (root: number, alias: number, value: number) => {
      m.cpu.setRoot(root);
      m.set(Reg.rbx, alias + 1);
      m.set(Reg.rdx, value);
      expect(m.run(writer)).toBe(Exit.SoftInt);
    };
    const all = [...here.map((n) => [first, n] as const), ...there.map((n) => [second, n] as const)];
    m.write(m.hostOf(frame), `b8${le(0, 4)} ${stop}`);
    let value = 0;
    for (let round = 0; round < 3; round++) {
      // Entries of all, and then each write is seen.
      for (const [root, n] of all) write(root, aliases[n]!, ++value);
      for (const [root, n] of all) {
        expect(m.run(code)).toBe(Exit.SoftInt);
        expect(m.cpu.regLo(Reg.rax)).toBe(value);
        write(root, aliases[n]!, ++value);
      }
    }
  });
});
