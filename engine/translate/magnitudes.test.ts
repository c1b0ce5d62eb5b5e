// SPDX-License-Identifier: MIT
// Tests of SSE arithmetic on numbers whose sizes a region knows: chains that leave the ordinary at a certain instruction, and knowledge that must not outlive its number.

import { describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { ST } from '../cpu/layout.ts';
import { Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import type { Tier } from '../cpu/vcpu.ts';

const code = 0x400000;
const flag = { invalid: 1, denormal: 2, zeroDivide: 4, overflow: 8, underflow: 16 } as const;
/** All exceptions masked, precision noted: what programs compute with after a moment. */
const usual = 0x1fa0;

/** XMM registers as low and high halves. */
type Registers = readonly (readonly [bigint, bigint])[];

function run(tier: Tier, text: string, registers: Registers, rax = 0) {
  const m = new TestMachine({ tier });
  m.write(m.page(code), `${text} ${stop}`);
  const lanes = (m.cpu.base + ST.xmm) >>> 3;
  registers.forEach((halves, n) => halves.forEach((half, k) => (m.mem.u64[lanes + 2 * n + k] = half)));
  m.cpu.set(ST.mxcsr, usual);
  m.set(Reg.rax, rax);
  m.setRip(code);
  expect(m.cpu.run(1000)).toBe(Exit.SoftInt);
  return { xmm: [...m.mem.u64.subarray(lanes, lanes + 32)], mxcsr: m.cpu.get(ST.mxcsr) };
}

const double = (value: number): bigint => new BigUint64Array(new Float64Array([value]).buffer)[0]!;
const single = (value: number): bigint => BigInt(new Uint32Array(new Float32Array([value]).buffer)[0]!);
const low = (value: number): [bigint, bigint] => [double(value), 0n];
const twice = (bits: bigint): [bigint, bigint] => [bits, bits];
const fourTimes = (value: number): [bigint, bigint] => twice(single(value) * 0x1_0000_0001n);

describe.each([
  ['mulsd three times', 'f20f59c0'.repeat(3), [low((1 + 2 ** -52) * 2 ** -128)], flag.underflow],
  ['mulsd three times', 'f20f59c0'.repeat(3), [low(-(2 ** 127) * 1.9)], 0],
  ['mulsd four times', 'f20f59c0'.repeat(4), [low(2 ** 127)], flag.overflow],
  ['mulpd three times', '660f59c0'.repeat(3), [[double(1), double((1 + 2 ** -52) * 2 ** -128)]], flag.underflow],
  ['mulss twice', 'f30f59c0'.repeat(2), [[single((1 + 2 ** -23) * 2 ** -32), 0n]], flag.underflow],
  ['mulps twice', '0f59c0'.repeat(2), [fourTimes((1 + 2 ** -23) * 2 ** -32)], flag.underflow],
  // movapd xmm2, xmm0; mulsd xmm0, xmm3; mulsd xmm2, xmm4; subsd xmm0, xmm2: 2^-180 of what it was
  [
    'differences of neighbours',
    '660f28d0f20f59c3f20f59d4f20f5cc2'.repeat(6),
    [low(1), low(0), low(0), low((1 + 2 ** -52) * 2 ** -128), low(2 ** -128)],
    flag.underflow | flag.denormal,
  ],
  // mulsd xmm1, xmm0; mulsd xmm1, xmm0; movapd xmm2, xmm1; subsd xmm2, xmm1; divsd xmm0, xmm2
  ['divsd by a difference', 'f20f59c8f20f59c8 660f28d1 f20f5cd1 f20f5ec2', [low(3), low(5)], flag.zeroDivide],
  // divsd xmm1, xmm0; movapd xmm2, xmm0; subsd xmm2, xmm0; divsd xmm1, xmm2
  ['the same by what was a divisor', 'f20f5ec8 660f28d0 f20f5cd0 f20f5eca', [low(3), low(5)], flag.zeroDivide],
  // divpd xmm1, xmm0
  ['divpd by one zero', '660f5ec8', [[double(2), 0n], twice(double(3))], flag.zeroDivide],
  // addsd xmm1, xmm0; sqrtsd xmm2, xmm0
  ['sqrtsd of a known number', 'f20f58c8f20f51d0', [low(-4)], flag.invalid],
  ['sqrtpd', '660f51d0', [[double(4), double(-4)]], flag.invalid],
  // addsd xmm2, xmm0; movss xmm0, xmm1; addsd xmm3, xmm0
  ['half of a zero replaced', 'f20f58d0 f30f10c1 f20f58d8', [low(0), [1n, 0n]], flag.denormal],
  // addps xmm1, xmm0; mulsd xmm0, xmm0 four times
  ['singles taken for a double', `0f58c8 ${'f20f59c0'.repeat(4)}`, [fourTimes(2 ** 30)], flag.overflow],
  // addpd xmm2, xmm0; addpd xmm2, xmm1; shufps xmm0, xmm1, 0x50; shufps xmm0, xmm0, 0x88; addpd xmm3, xmm0
  [
    'halves of two doubles put together',
    '660f58d0 660f58d1 0fc6c150 0fc6c088 660f58d8',
    [twice(double(1 + 2 ** -52)), [0n, 0n]],
    flag.denormal,
  ],
  // addsd xmm2, xmm0; unpcklps xmm0, xmm1; addsd xmm3, xmm0
  ['the upper half replaced', 'f20f58d0 0f14c1 f20f58d8', [low(1), [1n, 0n]], flag.denormal],
  // addsd xmm2, xmm0; pshuflw xmm0, xmm0, 0x24; addsd xmm3, xmm0
  ['words moved', 'f20f58d0 f20f70c024 f20f58d8', [low(1 + 2 ** -52)], flag.denormal],
  // addpd xmm2, xmm0; psrldq xmm0, 3; addpd xmm3, xmm0
  ['bytes moved', '660f58d0 660f73d803 660f58d8', [[double(1), 0n]], flag.denormal],
  // addsd xmm1, xmm0; movhlps xmm0, xmm2; addsd xmm3, xmm0
  ['another half moved in', 'f20f58c8 0f12c2 f20f58d8', [low(1), low(1), [0n, 1n]], flag.denormal],
] as [string, string, Registers, number][])('%s (%s)', (_, text, registers, raised) => {
  it('gives the same value and flags as interpreted', () => {
    const expected = run('interpret', text, registers);
    expect(expected.mxcsr).toBe(usual | raised);
    expect(run('translate', text, registers)).toEqual(expected);
  });
});

describe('what one way of a branch knows', () => {
  it.each([
    // addsd xmm2, xmm0; test eax, eax; jne past: movapd xmm0, xmm1; past: addsd xmm3, xmm0
    ['is forgotten where another joins', 'f20f58d0 85c0 7504 660f28c1 f20f58d8', 0],
    // ...; jne past: addsd xmm2, xmm1; past: addsd xmm3, xmm1
    ['is not known on the other', 'f20f58d0 85c0 7504 f20f58d1 f20f58d9', 1],
  ])('%s', (_, text, rax) => {
    const registers: Registers = [low(1), [1n, 0n], low(1), low(1)];
    const expected = run('interpret', text, registers, rax);
    expect(expected.mxcsr).toBe(usual | flag.denormal);
    expect(run('translate', text, registers, rax)).toEqual(expected);
  });
});

it('ordinary numbers, and zeros, stay in translated code', () => {
  // mulsd xmm0, xmm0; addsd xmm0, xmm1; divsd xmm1, xmm2; sqrtsd xmm3, xmm0; mulpd xmm4, xmm4
  const text = 'f20f59c0 f20f58c1 f20f5eca f20f51d8 660f59e4';
  const m = new TestMachine({ tier: 'translate' });
  m.write(m.page(code), `${text} ${stop}`);
  const lanes = (m.cpu.base + ST.xmm) >>> 3;
  m.mem.u64[lanes + 4] = double(3);
  m.mem.u64[lanes + 8] = double(7);
  m.cpu.set(ST.mxcsr, usual);
  m.setRip(code);
  m.cpu.run(1000);
  const { regionInstructions } = m.cpu.statistics();
  expect(regionInstructions).toBe(5);
});
