// SPDX-License-Identifier: MIT
// RDRAND and RDSEED: the host's random words at the operand's size, always there (Intel SDM volume 2).

import { describe, expect, it } from 'vitest';
import { Exit } from './exits.ts';
import { le, Reg, TestMachine } from './test-machine.ts';

const code = 0x40_0000;
const stop = 'cd80';
const allFlags = 0x8d5;

describe.each(['interpret', 'translate'] as const)('random numbers (%s)', (tier) => {
  /** A machine after `text`, with all flags set and RAX, RCX and RDX all ones before it. */
  function after(text: string) {
    const m = new TestMachine({ tier });
    m.write(m.page(code), text + stop);
    for (const register of [Reg.rax, Reg.rcx, Reg.rdx]) m.set(register, -1n);
    m.cpu.setRflags(allFlags | 2);
    expect(m.run(code)).toBe(Exit.SoftInt);
    return m;
  }

  it.each([
    ['rdrand', 'f0', 'f1', 'f2'],
    ['rdseed', 'f8', 'f9', 'fa'],
  ])('%s writes the operand, and says so in CF alone', (_, rax, ecx, dx) => {
    const m = after(`480fc7${rax} 0fc7${ecx} 660fc7${dx}`);
    const [low, high, b, , c] = m.randomWords;
    expect(m.randomWords.length).toBe(6);
    expect(m.reg(Reg.rax)).toBe((BigInt(high!) << 32n) | BigInt(low!));
    expect(m.reg(Reg.rcx)).toBe(BigInt(b!));
    expect(m.reg(Reg.rdx)).toBe(0xffff_ffff_ffff_0000n | BigInt(c! & 0xffff));
    expect(m.cpu.getRflags() & allFlags).toBe(1);
  });

  it('are other ones each time round a loop', () => {
    // loop: rdrand rax; mov [rsi], rax; add rsi, 8; dec ecx; jnz loop
    const m = new TestMachine({ tier });
    m.write(m.page(code), `480fc7f0 488906 4883c608 ffc9 75f1 ${stop}`);
    const host = m.page(0x50_0000);
    m.set(Reg.rsi, 0x50_0000);
    m.set(Reg.rcx, 100);
    expect(m.run(code)).toBe(Exit.SoftInt);
    const numbers = Array.from({ length: 100 }, (_, n) => m.mem.u64[(host + 8 * n) >>> 3]!);
    expect(new Set(numbers).size).toBe(100);
    expect(numbers.map((n) => le(n, 8)).join('')).toBe(m.randomWords.map((w) => le(w, 4)).join(''));
  });

  it('are not written to memory: that would be VMPTRLD', () => {
    const m = new TestMachine({ tier });
    m.write(m.page(code), '480fc730');
    m.page(0x50_0000);
    m.set(Reg.rax, 0x50_0000);
    expect(m.run(code)).toBe(Exit.Exception);
    expect(m.fault.vector).toBe(6);
  });
});
