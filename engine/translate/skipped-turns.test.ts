// SPDX-License-Identifier: MIT
// Loops that only count, translated and interpreted: wherever they are stopped, they have done the same in as many instructions.

import { describe, expect, it, vi } from 'vitest';
import { counting } from '../../tests/regions/counting.ts';
import { Writer } from '../../tests/regions/program.ts';
import { integer, Random } from '../../tests/oracle/random.ts';
import { Exit } from '../cpu/exits.ts';
import { bytesOf, Reg, TestMachine } from '../cpu/test-machine.ts';
import type { Tier } from '../cpu/vcpu.ts';
import { Profile } from './profile.ts';

const code = 0x400000;
const data = 0x10000000;

/** Registers, by number, when a piece of code begins. */
type Given = Readonly<Record<number, bigint>>;

class Runner {
  readonly m: TestMachine;
  private readonly host: number;
  private at = 0;

  constructor(tier: Tier) {
    this.m = new TestMachine({ tier });
    this.host = this.m.page(code);
    this.m.page(data);
  }

  /** Puts code where regions can be entered at loops, or at an address where they cannot. */
  write(bytes: Uint8Array, isOdd: boolean): void {
    this.at = isOdd ? 1 : 0;
    this.m.mem.u8.fill(0xcc, this.host, this.host + 4096);
    this.m.write(this.host + this.at, bytes);
  }

  begin(given: Given, flags: number): void {
    for (let n = 0; n < 16; n++) this.m.set(n, given[n] ?? 0n);
    this.m.cpu.setRflags(flags);
    this.m.setRip(code + this.at);
  }

  /** Runs for so many instructions, or to the next end of a block; returns true when the code is over. */
  run(budget: number): boolean {
    const reason = this.m.cpu.run(budget);
    expect([Exit.Budget, Exit.SoftInt]).toContain(reason);
    return reason === Exit.SoftInt;
  }

  state(): string {
    const { m } = this;
    const registers = Array.from({ length: 16 }, (_, n) => m.reg(n).toString(16));
    return `${m.rip.toString(16)} ${m.cpu.getRflags().toString(16)} ${registers.join(' ')}`;
  }
}

const plain = new Runner('interpret');
const translated = new Runner('translate');

interface Case {
  readonly bytes: Uint8Array;
  readonly given: Given;
  readonly flags: number;
}

/** What the interpreter has done behind each instruction: up to the end, or to the first `most`. */
function trace({ given, flags }: Case, most: number): { readonly states: readonly string[]; readonly end: number } {
  plain.begin(given, flags);
  const states = [plain.state()];
  while (states.length <= most) {
    const reason = plain.m.cpu.stepOne();
    states.push(plain.state());
    if (reason === Exit.SoftInt) return { states, end: states.length - 1 };
  }
  return { states, end: Infinity };
}

/** Compares a case under these budgets, each for all slices; returns the instructions that it took, Infinity for more than are looked at. */
function compare(c: Case, isOdd: boolean, budgets: readonly number[], most = 400): number {
  for (const runner of [plain, translated]) runner.write(c.bytes, isOdd);
  const { states, end } = trace(c, most + 100);
  const { cpu } = translated.m;
  for (const budget of budgets) {
    translated.begin(c.given, c.flags);
    const start = cpu.instructions;
    for (let done = 0, isOver = false; !isOver && done < most;) {
      isOver = translated.run(Math.min(budget, most - done));
      done = cpu.instructions - start;
      expect(translated.state(), `budget ${budget}, after ${done} instructions`).toBe(states[done]);
      if (isOver) expect(done).toBe(end);
    }
  }
  return end;
}

const everywhere = Array.from({ length: 130 }, (_, n) => n);
const low = (value: bigint | number): bigint => BigInt.asUintN(64, BigInt(value));

describe.each([
  { name: 'at even addresses', isOdd: false },
  { name: 'where regions are entered at loops, too', isOdd: true },
])('turns of a loop, $name', ({ isOdd }) => {
  const run = (hex: string, given: Given, flags = 0x2d7, budgets = everywhere) =>
    compare({ bytes: bytesOf(hex), given, flags }, isOdd, budgets);

  const turns = [0, 1, 2, 3, 4, 5, 6, 7, 20, 50];
  it.each([
    ['dec ecx; jnz', 'ffc9 75fc', 2],
    ['dec rcx; jnz', '48ffc9 75fb', 2],
    ['sub rcx, 1; ja', '4883e901 77fa', 2],
    ['dec ecx; jg', 'ffc9 7ffc', 2],
    ['lea rcx, [rcx-1]; test rcx, rcx; jnz', '488d49ff 4885c9 75f7', 3],
    ['inc eax; mov edx, eax; dec ecx; jnz', 'ffc0 89c2 ffc9 75f8', 4],
    ['inc rax; cmp rax, rcx; jb', '48ffc0 4839c8 72f8', 3],
    ['inc rax; cmp rcx, rax; ja', '48ffc0 4839c1 77f8', 3],
    ['add eax, 3; add edx, 3; dec rcx; jnz', '83c003 83c203 48ffc9 75f5', 4],
  ])('are as many as they would be: %s', (_, hex, perTurn) => {
    for (const n of turns) {
      const end = run(hex, { [Reg.rcx]: BigInt(n) });
      // From 0, the first step of some leads round.
      if (n > 0) expect(end).toBe(n * perTurn + 1);
    }
  });

  it('are no more than the budget is for', () => {
    // Not one that ran before: the translator's looks at a block now and then take an instruction or two more.
    const fresh = new Runner('translate');
    fresh.write(bytesOf('ffc9 75fc'), isOdd);
    for (const budget of everywhere) {
      fresh.begin({ [Reg.rcx]: 1000n }, 0x202);
      const start = fresh.m.cpu.instructions;
      fresh.run(budget);
      expect(fresh.m.cpu.instructions - start).toBe(budget - (budget % 2) + 2);
    }
  });

  it('end where another branch leaves', () => {
    // 0: cmp rdi, r9; 3: jae 14; 5: inc edx; 7: inc rdi; 10: cmp edx, eax; 12: jne 0; 14: setc bl
    const hex = '4c39cf 7309 ffc2 48ffc7 39c2 75f2 0f92c3';
    for (const n of [0n, 1n, 2n, 5n, 17n, 30n, 31n])
      expect(run(hex, { [Reg.rdi]: 100n, 9: 100n + n, [Reg.rdx]: 5n, [Reg.rax]: 35n })).toBeLessThan(300);
  });

  it('are not those of a way that is not taken', () => {
    // 0: cmp esi, r8d; 3: je 8; 5: inc rax; 8: xor r8d, r8d; 11: dec ecx; 13: jnz 0
    const hex = '4439c6 7403 48ffc0 4531c0 ffc9 75f1';
    for (const rsi of [0n, 1n]) for (const r8 of [0n, 1n]) run(hex, { [Reg.rcx]: 30n, [Reg.rsi]: rsi, 8: r8 });
    // The same, but for what changes: 5: inc rax; 8: dec ecx; 10: jnz 0
    for (const rsi of [0n, 1n]) run('4439c6 7403 48ffc0 ffc9 75f4', { [Reg.rcx]: 30n, [Reg.rsi]: rsi });
  });

  it('clear upper halves, and only where the code does', () => {
    const dirty = 0xdead_beef_0000_0000n;
    for (const n of [1n, 6n, 40n]) {
      run('ffc9 75fc', { [Reg.rcx]: dirty + n });
      run('ffc0 ffc2 39c8 75f8', { [Reg.rcx]: dirty + n, [Reg.rax]: dirty, [Reg.rdx]: ~0n });
      // inc rax; cmp eax, ecx; jne
      run('48ffc0 39c8 75f9', { [Reg.rcx]: dirty + n, [Reg.rax]: dirty });
      // mov eax, eax; dec ecx; jnz
      run('89c0 ffc9 75fa', { [Reg.rcx]: n, [Reg.rax]: ~0n });
    }
  });

  it.each([
    ['inc eax; cmp eax, ecx; jne', 'ffc0 39c8 75fa', 0xffff_ffffn],
    ['inc eax; cmp eax, ecx; jb', 'ffc0 39c8 72fa', 0xffff_ffffn],
    ['inc eax; cmp eax, ecx; ja', 'ffc0 39c8 77fa', 0xffff_ffffn],
    ['inc eax; cmp eax, ecx; jl', 'ffc0 39c8 7cfa', 0x7fff_ffffn],
    ['inc eax; cmp eax, ecx; jg', 'ffc0 39c8 7ffa', 0x7fff_ffffn],
    ['dec rax; cmp rax, rcx; jne', '48ffc8 4839c8 75f8', 0n],
    ['dec rax; cmp rax, rcx; jae', '48ffc8 4839c8 73f8', 0n],
    ['dec rax; cmp rax, rcx; jbe', '48ffc8 4839c8 76f8', 0n],
    ['dec rax; cmp rax, rcx; jge', '48ffc8 4839c8 7df8', 1n << 63n],
    ['dec rax; cmp rax, rcx; jle', '48ffc8 4839c8 7ef8', 1n << 63n],
    ['add rax, 13; cmp rax, rcx; jb', '4883c00d 4839c8 72f7', ~0n],
    ['add eax, 64; cmp eax, ecx; jne', '83c040 39c8 75f9', 0xffff_ffffn],
    ['inc rax; js', '48ffc0 78fb', 0n],
    ['dec eax; jns', 'ffc8 79fc', 0n],
    ['inc eax; jle', 'ffc0 7efc', 0x7fff_ffffn],
    ['add eax, -128 (no carry); jl', '83c080 7cfb', 0x8000_0000n],
  ])('may wrap: %s', (_, hex, edge) => {
    for (const from of [-70, -9, -6, -1, 0, 1, 6, 9, 70])
      for (const to of [-20, -1, 0, 1, 2, 20])
        run(
          hex,
          { [Reg.rax]: low(edge + BigInt(from)), [Reg.rcx]: low(edge + BigInt(to)) },
          0x202,
          [0, 7, 33, 200, 399],
        );
  });

  it('do not change flags that the loop leaves alone', () => {
    // (cmp eax, edx, for the carry;) dec ecx; jnz; setc bl; setz bh
    for (const flags of [0x202, 0xad7]) run('ffc9 75fc 0f92c3 0f94c7', { [Reg.rcx]: 30n }, flags);
    run('39d0 ffc9 75fc 0f92c3 0f90c7', { [Reg.rcx]: 30n, [Reg.rdx]: 1n });
  });

  it('of an inner loop are counted each time that control comes to it', () => {
    // 0: mov ecx, 9; 5: inc rax; 8: dec ecx; 10: jnz 5; 12: add rbx, rax; 15: dec edx; 17: jnz 0
    const hex = 'b909000000 48ffc0 ffc9 75f9 4801c3 ffca 75ed';
    expect(run(hex, { [Reg.rdx]: 9n })).toBe(9 * (1 + 27 + 3) + 1);
    // The two share their header: 0: inc rax; 3: dec ecx; 5: jnz 0; 7: mov ecx, 9; 12: dec edx; 14: jnz 0
    expect(run('48ffc0 ffc9 75f9 b909000000 ffca 75f0', { [Reg.rcx]: 9n, [Reg.rdx]: 9n })).toBe(9 * (27 + 3) + 1);
  });

  it('are not done where control is to go on inside the loop', () => {
    // Behind its call: 0: mov eax, ecx; 2: cmp edx, esi; 4: je 11; 6: call 20; 11: dec ecx; 13: jnz 0; 15: int3;
    // 20: mov edx, esi; so many NOPs that it is no short function; ret
    const hex = `89c8 39f2 7405 e809000000 ffc9 75f1 cccccccccc 89f2 ${'90'.repeat(20)} c3`;
    const given = { [Reg.rcx]: 30n, [Reg.rsi]: 1n, [Reg.rsp]: BigInt(data + 0x800) };
    expect(run(hex, given)).toBe(4 + 22 + 2 + 29 * 5 + 1);
  });

  it('of random loops do what they would', { timeout: 120_000 }, () => {
    const r = new Random(isOdd ? 4100 : 4200);
    let over = 0;
    const loops = 300;
    for (let n = 0; n < loops; n++) {
      const w = new Writer();
      counting(w, r, r.chance(0.5));
      const bytes = w.bytes.slice(0, w.at);
      for (let k = 0; k < 3; k++) {
        const registers = Array.from({ length: 16 }, () => integer(r));
        const c = { bytes, given: { ...registers, [Reg.rbx]: BigInt(data) }, flags: (r.u32() & 0x8d5) | 2 };
        if (compare(c, isOdd, [r.below(30), 30 + r.below(100), 399]) < Infinity) over++;
      }
    }
    expect(over).toBeGreaterThan(loops);
    expect(translated.m.cpu.statistics().regionInstructions).toBeGreaterThan(loops * 300);
  });
});

describe('so many turns that only skipping them ends in time', () => {
  it.each([
    ['dec rcx; jnz', '48ffc9 75fb', 2],
    ['inc rax; cmp rax, rcx; jb', '48ffc0 4839c8 72f8', 3],
    // 0: cmp rdi, r9; 3: jae 6; 5: nop; 6: xor r8d, r8d; 9: cmp esi, r8d; 12: jne 19; 14: dec rcx; 17: jnz 0
    ['with branches', '4c39cf 7301 90 4531c0 4439c6 7505 48ffc9 75ed', 7],
  ])('%s', { timeout: 6000 }, (_, hex, perTurn) => {
    const count = 1n << 34n;
    translated.write(bytesOf(hex), false);
    translated.begin({ [Reg.rcx]: count, [Reg.rdi]: 1n }, 0x202);
    const { cpu } = translated.m;
    const start = cpu.instructions;
    while (!translated.run(2 ** 31 - 1));
    expect(cpu.instructions - start).toBe(Number(count) * perTurn + 1);
  });
});

it('branches are counted as often as they would be', () => {
  const noted = vi.spyOn(Profile.prototype, 'add');
  // 0: cmp rdi, r9; 3: jae 6; 5: nop; 6: dec ecx; 8: jnz 0
  translated.write(bytesOf('4c39cf 7301 90 ffc9 75f6'), false);
  translated.begin({ [Reg.rcx]: 1000n, [Reg.rdi]: 1n }, 0x202);
  expect(translated.run(10_000)).toBe(true);
  const profile = noted.mock.contexts[0] as Profile;
  const host = translated.m.cpu.translate(code, 0, 0);
  expect([3, 8].map((at) => profile.takenShare(host + at))).toEqual([1, 0.999]);
  noted.mockRestore();
});
