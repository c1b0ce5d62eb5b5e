// SPDX-License-Identifier: MIT
// Tests of counting-loops.ts: which loops only count, and what is known of them.

import { describe, expect, it } from 'vitest';
import { bytesOf } from '../cpu/test-machine.ts';
import { countingLoop, type Comparison, type Value } from './counting-loops.ts';
import { blocksBehind, findRegion, type RegionGuide } from './region.ts';
import { structure } from './structure.ts';

const names = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9'];
const signed = (value: bigint): bigint => BigInt.asIntN(64, value);

function valueText(value: Value): string {
  if (value.kind === 'constant') return `${signed(value.value)}`;
  const by = signed(value.by);
  const sum = `${names[value.register]!}${by === 0n ? '' : by > 0n ? `+${by}` : by}`;
  return value.bits === 64 ? sum : `low(${sum})`;
}

const comparisonText = ({ a, relation, b, bits }: Comparison): string =>
  `${valueText(a)} ${relation}${bits} ${valueText(b)}`;

/** What is found of the loop that the code begins with, or of the one at an address. */
function found(hex: string, takenShare?: RegionGuide['takenShare'], at = 0) {
  const frame = 0x10000;
  const u8 = new Uint8Array(0x12000).fill(0xcc);
  u8.set(bytesOf(hex), frame);
  const guide = { follows: () => true, usualTarget: () => undefined, learns: true, ...(takenShare && { takenShare }) };
  const region = findRegion(u8, 0, frame, () => 0, { instructions: 120, pages: 4 }, guide)!;
  const { order, isLoop } = structure({ successors: region.blocks.map(blocksBehind), root: 0 });
  const header = region.blocks.findIndex((b) => b.at === at);
  expect(isLoop[header]).toBe(true);
  const loop = countingLoop(region, header, (from, to) =>
    to === header ? 'round' : order[to]! > order[from]! ? 'on' : undefined,
  );
  return (
    loop && {
      turn: loop.instructions,
      while: loop.limits.map((l) => `${comparisonText(l)} by ${l.step}`),
      if: loop.conditions.map(comparisonText),
      then: loop.changes.map((c) =>
        c.kind === 'counter'
          ? `${names[c.register]!} + ${c.step} in ${c.bits}`
          : `${names[c.register]!} = ${valueText(c.value)}`,
      ),
      path: loop.path.map(
        ({ block, takes }) => `${region.blocks[block]!.at}${takes === undefined ? '' : takes ? 't' : 'n'}`,
      ),
    }
  );
}

describe('a loop that only counts', () => {
  it('may compare, set and branch on its way', () => {
    // 0: cmp rdi, r9; 3: jae 10; 5: mov r8, [rdx]; 8: jmp 15; 10: xor r8d, r8d; 13: jmp 15; 15: cmp esi, r8d; 18: jne 29;
    // 20: inc edx; 22: inc rdi; 25: cmp edx, eax; 27: jne 0
    const code = '4c39cf 7305 4c8b02 eb05 4531c0 eb00 4439c6 7509 ffc2 48ffc7 39c2 75e3 c3';
    expect(found(code)).toEqual({
      turn: 10,
      while: ['rdi geU64 r9 by 1', 'low(rdx+1) ne32 low(rax) by 1'],
      if: ['low(rsi) eq32 0'],
      then: ['rdx + 1 in 32', 'rdi + 1 in 64', 'r8 = 0'],
      path: ['0t', '10', '15n', '20t'],
    });
  });

  it.each([
    ['dec ecx; jnz', 'ffc9 75fc', ['low(rcx) ne32 1 by -1'], ['rcx + -1 in 32']],
    ['dec rcx; jns', '48ffc9 79fb', ['rcx-1 geS64 0 by -1'], ['rcx + -1 in 64']],
    ['dec rcx; jg', '48ffc9 7ffb', ['rcx gtS64 1 by -1'], ['rcx + -1 in 64']],
    ['inc ecx; jnz', 'ffc1 75fc', ['low(rcx) ne32 4294967295 by 1'], ['rcx + 1 in 32']],
    ['inc rcx; jle', '48ffc1 7efb', ['rcx leS64 -1 by 1'], ['rcx + 1 in 64']],
    ['inc rcx; cmp rcx, rdx; jb', '48ffc1 4839d1 72f8', ['rcx+1 ltU64 rdx by 1'], ['rcx + 1 in 64']],
    ['inc ecx; cmp edx, ecx; ja', 'ffc1 39ca 77fa', ['low(rcx+1) ltU32 low(rdx) by 1'], ['rcx + 1 in 32']],
    ['add rcx, 8; cmp rcx, 800; jbe', '4883c108 4881f920030000 76f3', ['rcx+8 leU64 800 by 8'], ['rcx + 8 in 64']],
    ['add rcx, -8; cmp ecx, edx; jge', '4883c1f8 39d1 7df8', ['low(rcx-8) geS32 low(rdx) by -8'], ['rcx + -8 in 64']],
    ['sub rcx, 3; ja', '4883e903 77fa', ['rcx gtU64 3 by -3'], ['rcx + -3 in 64']],
    ['sub rcx, 3; jnz', '4883e903 75fa', ['rcx ne64 3 by -3'], ['rcx + -3 in 64']],
    ['lea ecx, [rcx-1]; test ecx, ecx; jns', '8d49ff 85c9 79f9', ['low(rcx-1) geS32 0 by -1'], ['rcx + -1 in 32']],
    ['pause; nop; dec ecx; jnz', 'f390 90 ffc9 75f9', ['low(rcx) ne32 1 by -1'], ['rcx + -1 in 32']],
  ])('%s', (_, code, limits, changes) => {
    expect(found(code)).toMatchObject({ while: limits, if: [], then: changes });
  });

  it('may keep what others hold, as it is behind the last turn', () => {
    // lea rax, [rdx+5]; mov esi, ecx; mov edi, 7; dec ecx; jnz
    expect(found('488d4205 89ce bf07000000 ffc9 75f1')!.then).toEqual([
      'rcx + -1 in 32',
      'rax = rdx+5',
      'rsi = low(rcx+1)',
      'rdi = 7',
    ]);
  });

  it('turns on the likelier way, or on the one that only counts', () => {
    // 0: cmp rdi, r9; 3: jae 9; 5: add esi, 2; 8: nop; 9: dec ecx; 11: jnz 0
    const code = '4c39cf 7304 83c602 90 ffc9 75f3';
    expect(found(code, () => 0.9)!.path).toEqual(['0t', '9t']);
    expect(found(code, (host) => (host % 16 === 3 ? 0.1 : 0.9))!.path).toEqual(['0n', '5', '9t']);
    // The same with a load on the likelier way.
    expect(found('4c39cf 7304 488b36 90 ffc9 75f3', (host) => (host % 16 === 3 ? 0.1 : 0.9))!.path).toEqual([
      '0t',
      '9t',
    ]);
  });
});

describe('a loop is left alone', () => {
  it.each([
    ['with an access to memory', '488b03 ffc9 75f9'],
    ['with one that writes', '48ff03 ffc9 75f9'],
    ['with a call', 'e805000000 ffc9 75f7 c3 c3'],
    ['with an instruction that reads the clock', '0f31 ffc9 75fa'],
    ['that adds what a register holds', '4801d0 ffc9 75f9'],
    ['that shifts', 'd1e0 ffc9 75fa'],
    ['that counts in 16 bits', '66ffc9 75fb'],
    ['that counts in 8 bits', 'fec9 75fc'],
    ['that sets 8 bits', 'b001 ffc9 75fa'],
    ['with an index in its address', '488d4408ff ffc9 75f7'],
    ['with an address relative to the code', '488d0500000000 ffc9 75f5'],
    ['with LOOP', 'ffc0 e2fc'],
    ['that counts nothing', '39c8 75fc'],
    ['without an end', 'ffc0 ebfc'],
    ['whose branch looks at the carry, which INC does not write', 'ffc1 72fc'],
    ['whose branch looks at the carry of an addition', '83c101 72fb'],
    ['whose branch looks at the parity', 'ffc9 7afc'],
    ['whose branch looks at the overflow', 'ffc9 70fc'],
    ['whose branch looks at flags of the turn before', '7502 ffc9 ebfa'],
    ['that goes on as long as two are equal', 'ffc9 39ca 74fa'],
    ['that compares two counters', 'ffc9 ffc2 39ca 75f8'],
    ['that compares half of a counter in 64 bits', 'ffc9 4839ca 75f9'],
    ['that compares what was there before a register was set', '39c8 7407 b805000000 ffc9 75f3'],
    ['that takes the difference of two registers', 'ffc9 39ca 78fa'],
    ['whose steps are huge', '4881c100000080 4881c100000080 75f0'],
    ['that adds the lowest number, which leaves the order of nothing', '0500000080 7df9'],
    ['that keeps the upper half that a counter has in its first turn', '4889c8 ffc9 75f9'],
    ['that moves a register on from turn to turn', '4889d6 4889ca ffc9 75f6'],
    ['whose first branch comes before it has written the flags that it writes', 'ffc9 7406 ffc2 39c2 75f6 90'],
  ])('%s', (_, code) => {
    expect(found(code)).toBeUndefined();
  });

  it('unless such a thing is on another way', () => {
    // 0: test edx, edx; 2: jz 9; 4: dec ecx; 6: jnz 0; 8: nop; 9: mov rax, [rbx]; 12: jmp 0
    expect(found('85d2 7405 ffc9 75f8 90 488b03 ebf2')).toMatchObject({ if: ['low(rdx) ne32 0'], path: ['0n', '4t'] });
  });
});
