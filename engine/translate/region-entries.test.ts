// SPDX-License-Identifier: MIT
// Regions that are entered where functions return to: which places those are, and that the guest does the same as interpreted.

import { describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { bytesOf, le, Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import { findRegion } from './region.ts';

const code = 0x400000;
const data = 0x10000000;
const call = (from: number, to: number): string => `e8${le(to - from - 5, 4)}`;
/** A function that is not short. */
const long = `${'4883c001'.repeat(20)} c3`;
const short = '4883c001 c3';

describe('the entries of a region', () => {
  const frame = 0x10000;

  function entriesOf(parts: Readonly<Record<number, string>>, entersAtReturns: boolean, entry = 0): number[] {
    const u8 = new Uint8Array(0x40000).fill(0xcc);
    for (const [at, text] of Object.entries(parts)) u8.set(bytesOf(text), frame + Number(at));
    const region = findRegion(
      u8,
      entry,
      frame,
      (delta) => (delta === 1 ? frame + 0x1000 : 0),
      { instructions: 120, pages: 4 },
      { follows: () => true, usualTarget: () => undefined, learns: true, entersAtReturns },
    )!;
    return region.entries.map((n) => region.blocks[n]!.at);
  }

  it('are its begin, and where functions that are not short return to', () => {
    const parts = { 0: `${call(0, 0x800)} 90 ${call(6, 0x900)} 90 ffd0 90 0f05 90 c3`, 0x800: long, 0x900: short };
    expect(entriesOf(parts, true)).toEqual([0, 5, 14, 17]);
    expect(entriesOf(parts, false)).toEqual([0]);
  });

  it('are none in another page than the first', () => {
    const parts = {
      0x0ff0: `${call(0xff0, 0x800)} ${call(0xff5, 0x800)} 90 eb06`,
      0x1003: `${call(0x1003, 0x800)} c3`,
      0x800: long,
    };
    expect(entriesOf(parts, true, 0xff0)).toEqual([0xff0, 0xff5, 0xffa]);
  });

  it('may lie in loops within loops', () => {
    // 0: call; 5: call; 10: dec ecx; 12: jnz 5; 14: dec edx; 16: jnz 0; 18: ret
    const parts = { 0: `${call(0, 0x800)} ${call(5, 0x800)} ffc9 75f7 ffca 75ee c3`, 0x800: long };
    expect(entriesOf(parts, true)).toEqual([0, 5, 10]);
  });
});

/** Where code begins says how the tier for tests translates it: at odd addresses, with such entries. */
describe.each([0, 1])('a guest whose functions call each other, at an offset of %i', (offset) => {
  // outer: mov edi, 7; inner: mov ecx, 3; loop: call f; add rbx, rax; call g; xor rbx, rax; dec ecx; jnz loop; dec edi; jnz inner; int
  const outer = 'bf07000000';
  const inner = 'b903000000';
  const loop = offset + 10;
  const body = `${call(loop, offset + 0x800)} 4801c3 ${call(loop + 8, offset + 0x900)} 4831c3 ffc9 75ec ffcf 75e3`;

  function run(tier: 'interpret' | 'translate' | 'auto', change?: (m: TestMachine, host: number) => void) {
    const m = new TestMachine({ tier });
    const host = m.page(code);
    m.write(host + offset, `${outer}${inner}${body}${stop}`);
    m.write(host + offset + 0x800, long);
    m.write(host + offset + 0x900, `4883e803 ${long}`);
    m.page(data);
    const once = (): number[] => {
      m.set(Reg.rsp, data + 0x800);
      m.set(Reg.rax, 5);
      m.set(Reg.rbx, 1);
      expect(m.run(code + offset)).toBe(Exit.SoftInt);
      return [m.cpu.regLo(0), m.cpu.regLo(3)];
    };
    const results = [once(), once()];
    change?.(m, host);
    return { m, results: [...results, once()] };
  }

  it('does the same in every tier', () => {
    const expected = run('interpret').results;
    const { m, results } = run('translate');
    expect(results).toEqual(expected);
    expect(m.cpu.statistics().regionInstructions).toBeGreaterThan(1000);
    expect(run('auto').results).toEqual(expected);
  });

  it('does the same when a function changes', () => {
    const change = (m: TestMachine, host: number) => m.write(host + offset + 0x900, '4883e804');
    const expected = run('interpret', change).results;
    expect(expected[2]).not.toEqual(expected[1]);
    expect(run('translate', change).results).toEqual(expected);
  });
});

describe('a function that is busy', () => {
  it('is one region, which is entered again behind each of its calls', () => {
    let now = 0;
    const m = new TestMachine({ tier: 'auto', nowMs: () => now });
    const host = m.page(code);
    // loop: call f; call f; call f; dec ecx; jnz loop
    m.write(host, `${call(0, 0x800)} ${call(5, 0x800)} ${call(10, 0x800)} ffc9 75ed ${stop}`);
    m.write(host + 0x800, long);
    m.page(data);
    m.set(Reg.rsp, data + 0x800);
    m.set(Reg.rcx, 100_000_000);
    m.setRip(code);
    const go = (slices: number) => {
      for (let n = 0; n < slices; n++) {
        expect(m.cpu.run(200_000)).toBe(Exit.Budget);
        now += 25;
      }
      return m.cpu.statistics();
    };
    const before = go(10);
    expect(before.translator!.regions).toBe(2);
    const after = go(5);
    // Nothing is left to the interpreter.
    expect(after.regionInstructions - before.regionInstructions).toBeGreaterThan(0.99 * 5 * 200_000);
    expect(after.translator!.regions).toBe(2);
  });
});

describe('blocks that branches lead on to', () => {
  // loop: dec ecx; jmp to another stretch of the page: inc eax; test ecx, ecx; jnz loop
  const loop = `ffc9 e9${le(0x200 - 7, 4)}`;
  const further = `ffc0 85c9 0f85${le(-0x20a, 4)} ${stop}`;

  it.each(['interpret', 'translate', 'auto'] as const)('are not run as they were before they changed (%s)', (tier) => {
    const m = new TestMachine({ tier });
    const host = m.page(code);
    m.write(host, loop);
    m.write(host + 0x200, further);
    const count = (): number => {
      m.set(Reg.rcx, 100);
      m.set(Reg.rax, 0);
      expect(m.run(code)).toBe(Exit.SoftInt);
      return m.cpu.regLo(0) | 0;
    };
    expect(count()).toBe(100);
    // The guest makes inc eax a dec eax, and leaves the first stretch alone: mov byte [rbx], 0xc8
    m.write(m.page(data), `c603c8 ${stop}`);
    m.set(Reg.rbx, code + 0x201);
    expect(m.run(data)).toBe(Exit.SoftInt);
    expect(count()).toBe(-100);
  });
});
