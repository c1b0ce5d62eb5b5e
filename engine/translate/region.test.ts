// SPDX-License-Identifier: MIT
// Tests of region.ts: which code a region takes in, and where it leaves.

import { describe, expect, it } from 'vitest';
import { bytesOf, le } from '../cpu/test-machine.ts';
import { findRegion, type Edge, type Region, type RegionGuide, type RegionLimits } from './region.ts';

const pageBytes = 4096;
/** Regions end here, on both sides. */
const far = 2 ** 31 - pageBytes;
/** Frames of the pages: neither neighbours nor in order. */
const frameOf = (delta: number): number => 0x100000 + (delta * 7 + 16) * 2 * pageBytes;

interface Given {
  readonly entry?: number;
  readonly guide?: Partial<RegionGuide>;
  readonly limits?: Partial<RegionLimits>;
  /** Pages that are not given hold this one's code instead of being unmapped. */
  readonly elsewhere?: number;
}

/** Looks for a region in code given by its address relative to the entry page; unused bytes are INT3, where regions end. */
function find(code: Readonly<Record<number, string>>, { entry = 0, guide, limits, elsewhere }: Given = {}) {
  const u8 = new Uint8Array(0x200000).fill(0xcc);
  const pages = new Set<number>([0]);
  for (const [at, text] of Object.entries(code)) {
    bytesOf(text).forEach((byte, n) => {
      const address = Number(at) + n;
      const delta = Math.floor(address / pageBytes);
      pages.add(delta);
      u8[frameOf(delta) + address - delta * pageBytes] = byte;
    });
  }
  const hostOfPage = (delta: number): number =>
    pages.has(delta) ? frameOf(delta) : elsewhere === undefined ? 0 : frameOf(elsewhere);
  return findRegion(
    u8,
    entry,
    frameOf(0),
    hostOfPage,
    { instructions: 120, pages: 4, ...limits },
    { follows: () => true, usualTarget: () => undefined, learns: true, ...guide },
  );
}

const found = (...args: Parameters<typeof find>): Region => find(...args)!;

/** Where an edge goes: the address in the region, or `leave` with the one outside. */
function ends(region: Region, edge: Edge): string {
  return edge.kind === 'leave' ? `leave ${edge.at}` : `${region.blocks[edge.to]!.at}`;
}

/** The blocks as text: address, number of instructions, how they end; in the order of their addresses, entry or not. */
function shapeOf(region: Region): string[] {
  const blocks = region.blocks.map(({ at, instructions, terminator: t }) => {
    const to = (edge: Edge) => ends(region, edge);
    const end =
      t.kind === 'next'
        ? `next ${to(t.next)}`
        : t.kind === 'branch'
          ? `branch ${to(t.taken)} next ${to(t.next)}`
          : t.kind === 'dynamic'
            ? `dynamic [${t.candidates.map((c) => `${c.at}: ${region.blocks[c.to]!.at}`).join(', ')}]`
            : t.kind === 'syscall'
              ? `syscall next ${t.next}`
              : `${t.kind} ${to(t.target)}`;
    return { at, text: `${at}: ${instructions.length}, ${end}` };
  });
  return blocks.sort((a, b) => a.at - b.at).map((b) => b.text);
}

const addresses = (region: Region): number[] =>
  [...new Set(region.blocks.flatMap((b) => b.instructions.map((i) => i.at)))].sort((a, b) => a - b);

/** JMP rel32 at an address. */
const jump = (from: number, to: number): string => `e9${le(to - from - 5, 4)}`;
/** CALL rel32 at an address. */
const call = (from: number, to: number): string => `e8${le(to - from - 5, 4)}`;
const ret = 'c3';
const nop = '90';
/** JMP RAX. */
const jumpRax = 'ffe0';
/** CALL RAX. */
const callRax = 'ffd0';

describe('a region', () => {
  it('begins at its entry, in the middle of a page too, and splits blocks where others come in', () => {
    // 8: test eax, eax; 10: jz 13; 12: nop; 13: dec ecx; 15: jnz 8; 17: ret
    const region = found({ 8: '85c0 7401 90 ffc9 75f7 c3' }, { entry: 8 });
    expect(region.blocks[0]!.at).toBe(8);
    expect(shapeOf(region)).toEqual([
      '8: 2, branch 13 next 12',
      '12: 1, next 13',
      '13: 2, branch 8 next 17',
      '17: 1, dynamic []',
    ]);
    expect(region.instructions).toBe(6);
    expect(region.pages).toEqual([{ delta: 0, host: frameOf(0) }]);
  });

  it('splits a block where another one runs into it', () => {
    // 0: jz 4; 2: mov eax, 0x90909090; 7: nop; 8: ret. From 4 on, the same bytes are NOPs.
    const region = found({ 0: `7402 b890909090 ${nop} ${ret}` });
    expect(shapeOf(region)).toEqual(['0: 1, branch 4 next 2', '2: 1, next 7', '4: 3, next 7', '7: 2, dynamic []']);
    expect(region.instructions).toBe(7);
  });

  it('does not exist where the first instruction cannot be translated or read', () => {
    expect(find({ 0: '0fae13' })).toBe(undefined); // ldmxcsr
    expect(find({ 0: '0f0b' })).toBe(undefined); // ud2
    expect(find({ 0: 'cc' })).toBe(undefined);
    // Goes on in a page that is not mapped.
    expect(find({ 4094: '81c1' }, { entry: 4094 })).toBe(undefined);
    expect(found({ 4094: '81c1 01000000 c3' }, { entry: 4094 }).instructions).toBe(2);
  });

  it('leaves in front of what cannot be translated', () => {
    const region = found({ 0: `${nop} 0fae13 ${nop}` });
    expect(shapeOf(region)).toEqual(['0: 1, next leave 1']);
  });

  it('ends behind a system call, whatever it returns to', () => {
    const region = found({ 0: `${nop} 0f05 ${nop}` });
    expect(shapeOf(region)).toEqual(['0: 2, syscall next 3']);
    expect(region.computed).toEqual([]);
  });
});

describe('what the guide does not follow', () => {
  // 0: test eax, eax; 2: jz 16; 4: nop; 5: jmp 32
  const code = { 0: `85c0 740c ${nop} ${jump(5, 32)}`, 16: `${nop} ${ret}`, 32: ret };
  const without = (...left: number[]): Partial<RegionGuide> => ({
    follows: (host) => !left.some((at) => host === frameOf(0) + at),
  });

  it('stays outside, whichever way leads there', () => {
    const whole = ['0: 2, branch 16 next 4', '4: 2, jump 32', '16: 2, dynamic []', '32: 1, dynamic []'];
    expect(shapeOf(found(code))).toEqual(whole);
    expect(shapeOf(found(code, { guide: without(16) }))).toEqual([
      '0: 2, branch leave 16 next 4',
      '4: 2, jump 32',
      '32: 1, dynamic []',
    ]);
    expect(shapeOf(found(code, { guide: without(4) }))).toEqual(['0: 2, branch 16 next leave 4', '16: 2, dynamic []']);
    expect(shapeOf(found(code, { guide: without(32) }))).toEqual([
      '0: 2, branch 16 next 4',
      '4: 2, jump leave 32',
      '16: 2, dynamic []',
    ]);
  });

  it('is not what the region was entered at, nor what follows without a jump', () => {
    const region = found(code, { guide: { follows: () => false } });
    expect(shapeOf(region)).toEqual(['0: 2, branch leave 16 next leave 4']);
    expect(shapeOf(found({ 0: `${nop} ${nop} ${ret}` }, { guide: without(1) }))).toEqual(['0: 3, dynamic []']);
  });

  it('may be a function that is called', () => {
    const region = found({ 0: call(0, 64), 5: nop, 64: ret }, { guide: without(64) });
    expect(shapeOf(region)).toEqual(['0: 1, call leave 64']);
  });

  it('may be where a function returns to', () => {
    const region = found({ 0: call(0, 64), 5: nop, 64: ret }, { guide: without(5) });
    expect(shapeOf(region)).toEqual(['0: 1, call 64', '64: 1, dynamic []']);
  });

  it('takes no page into the region, and is asked about by host address, 0 for what is not mapped', () => {
    const asked: number[] = [];
    // jz to the next page; jmp to one that is not mapped.
    const pages = { 0: `0f84${le(pageBytes + 8 - 6, 4)} ${jump(6, 5 * pageBytes)}`, [pageBytes + 8]: ret };
    const region = found(pages, {
      guide: {
        follows(host) {
          asked.push(host);
          return host === frameOf(0) + 6;
        },
      },
    });
    expect(asked).toEqual([frameOf(0) + 6, frameOf(1) + 8, 0]);
    expect(region.pages.map((p) => p.delta)).toEqual([0]);
    expect(shapeOf(region)).toEqual([
      `0: 1, branch leave ${pageBytes + 8} next 6`,
      `6: 1, jump leave ${5 * pageBytes}`,
    ]);
    expect(found(pages).pages).toEqual([
      { delta: 0, host: frameOf(0) },
      { delta: 1, host: frameOf(1) },
    ]);
  });
});

describe('calls', () => {
  // 0: call 64; 5: nop; 6: call 64; 11: nop; 12: int3. 64: inc eax; 66: ret
  const twice = { 0: `${call(0, 64)} ${nop} ${call(6, 64)} ${nop}`, 64: `ffc0 ${ret}` };

  it('take in the function once for each, and its return goes to where that call came from', () => {
    const region = found(twice);
    expect(shapeOf(region)).toEqual([
      '0: 1, call 64',
      '5: 2, call 64',
      '11: 1, next leave 12',
      '64: 2, dynamic [5: 5]',
      '64: 2, dynamic [11: 11]',
    ]);
    expect(region.instructions).toBe(8);
    const [first, second] = [0, 5].map((at) => region.blocks.find((b) => b.at === at)!.terminator);
    const target = (t: typeof first): number => (t?.kind === 'call' && t.target.kind === 'block' ? t.target.to : -1);
    const returnOf = (n: number) => region.blocks[n]!.terminator;
    expect(returnOf(target(first))).toMatchObject({ candidates: [{ at: 5 }] });
    expect(returnOf(target(second))).toMatchObject({ candidates: [{ at: 11 }] });
  });

  it('have branches and loops of their own in each copy', () => {
    // 64: dec ecx; 66: jnz 64; 68: ret
    const region = found({ ...twice, 64: `ffc9 75fc ${ret}` });
    const loops = region.blocks.flatMap((b, n) => (b.terminator.kind === 'branch' ? [{ n, t: b.terminator }] : []));
    expect(loops.length).toBe(2);
    for (const { n, t } of loops) expect(t.taken).toEqual({ kind: 'block', to: n });
    const exits = loops.map(({ t }) => (t.next.kind === 'block' ? region.blocks[t.next.to]!.terminator : undefined));
    expect(exits).toMatchObject([{ candidates: [{ at: 5 }] }, { candidates: [{ at: 11 }] }]);
  });

  it('return to their own callers when they are nested', () => {
    // 64: call 128; 69: ret. 128: ret
    const region = found({ 0: `${call(0, 64)} ${nop}`, 64: `${call(64, 128)} ${ret}`, 128: ret });
    expect(shapeOf(region)).toEqual([
      '0: 1, call 64',
      '5: 1, next leave 6',
      '64: 1, call 128',
      '69: 1, dynamic [5: 5]',
      '128: 1, dynamic [69: 69]',
    ]);
  });

  it('keep the context across direct jumps, so that a tail call returns for the function that made it', () => {
    const region = found({ 0: `${call(0, 64)} ${nop}`, 64: jump(64, 128), 128: ret });
    expect(shapeOf(region)).toEqual([
      '0: 1, call 64',
      '5: 1, next leave 6',
      '64: 1, jump 128',
      '128: 1, dynamic [5: 5]',
    ]);
  });

  it('are followed twelve deep', () => {
    const deepest = 12;
    // A function that calls itself.
    const region = found(
      { 0: `${call(0, 64)} ${nop}`, 64: `${call(64, 64)} ${ret}` },
      { limits: { instructions: 500 } },
    );
    const copies = region.blocks.filter((b) => b.at === 64);
    expect(copies.length).toBe(deepest);
    const calls = copies.map((b) => (b.terminator.kind === 'call' ? ends(region, b.terminator.target) : ''));
    expect(calls.sort()).toEqual([...Array.from({ length: deepest - 1 }, () => '64'), 'leave 64']);
    // A chain of functions as long: the last one's call leaves.
    const chain: Record<number, string> = { 0: call(0, 64) };
    for (let n = 1; n <= deepest + 1; n++) chain[64 * n] = `${call(64 * n, 64 * (n + 1))} ${ret}`;
    const last = found(chain, { limits: { instructions: 500 } });
    expect(Math.max(...addresses(last))).toBe(64 * deepest);
    expect(shapeOf(last).at(-1)).toBe(`${64 * deepest}: 1, call leave ${64 * (deepest + 1)}`);
  });
});

describe('computed jumps', () => {
  const usual = (targets: Readonly<Record<number, number>>): Partial<RegionGuide> => ({
    usualTarget: (host) => targets[host - frameOf(0)],
  });

  it('leave when nothing is known of them', () => {
    expect(shapeOf(found({ 0: `${nop} ${jumpRax}`, 3: nop }))).toEqual(['0: 2, dynamic []']);
    expect(shapeOf(found({ 0: callRax, 2: nop }))).toEqual(['0: 1, dynamic []']);
    expect(shapeOf(found({ 0: ret, 1: nop }))).toEqual(['0: 1, dynamic []']);
  });

  it('go on where they usually go', () => {
    const region = found({ 0: `${nop} ${jumpRax}`, 64: `${nop} ${ret}` }, { guide: usual({ 1: 64 }) });
    expect(shapeOf(region)).toEqual(['0: 2, dynamic [64: 64]', '64: 2, dynamic []']);
  });

  it('go on in another page too, and in front of the region', () => {
    const guide = usual({ 0: pageBytes + 4, [frameOf(1) + 4 - frameOf(0)]: -8 });
    const region = found({ 0: jumpRax, [pageBytes + 4]: jumpRax, [-8]: ret }, { guide });
    expect(shapeOf(region)).toEqual([
      '-8: 1, dynamic []',
      `0: 1, dynamic [${pageBytes + 4}: ${pageBytes + 4}]`,
      `${pageBytes + 4}: 1, dynamic [-8: -8]`,
    ]);
    expect(region.pages.map((p) => p.delta)).toEqual([0, 1, -1]);
  });

  it('that call are followed like calls: with a copy of the function, which returns behind them', () => {
    const region = found({ 0: `${callRax} ${nop} ${callRax} ${nop}`, 64: ret }, { guide: usual({ 0: 64, 3: 64 }) });
    expect(shapeOf(region)).toEqual([
      '0: 1, dynamic [64: 64]',
      '2: 2, dynamic [64: 64]',
      '5: 1, next leave 6',
      '64: 1, dynamic [2: 2]',
      '64: 1, dynamic [5: 5]',
    ]);
  });

  it('return from the code that was entered to where that usually goes', () => {
    const region = found({ 0: ret, 64: nop }, { guide: usual({ 0: 64 }) });
    expect(shapeOf(region)).toEqual(['0: 1, dynamic [64: 64]', '64: 1, next leave 65']);
    // A known call counts for more than what is usual.
    const called = found({ 0: `${call(0, 32)} ${nop}`, 32: ret, 64: nop }, { guide: usual({ 0: 64, 32: 64 }) });
    expect(shapeOf(called)).toEqual(['0: 1, call 32', '5: 1, next leave 6', '32: 1, dynamic [5: 5]']);
  });

  it('leave where the guide does not follow, or there is no code', () => {
    const guide = { ...usual({ 0: 64 }), follows: (host: number) => host !== frameOf(0) + 64 };
    expect(shapeOf(found({ 0: jumpRax, 64: nop }, { guide }))).toEqual(['0: 1, dynamic []']);
    expect(shapeOf(found({ 0: jumpRax }, { guide: usual({ 0: 9 * pageBytes }) }))).toEqual(['0: 1, dynamic []']);
  });

  it('are listed in the order of their blocks, when there is something to be learned', () => {
    // 0: jz 32; 12: jmp rax. 32: nop; 33: call rax. A function with two callers is in there twice.
    const code = { 0: `741e ${call(2, 96)} ${call(7, 96)} ${jumpRax}`, 32: `${nop} ${callRax}`, 96: ret };
    const region = found(code);
    const inBlocks = region.blocks.flatMap((b) => (b.terminator.kind === 'dynamic' ? [b.instructions.at(-1)!.at] : []));
    expect(region.computed).toEqual(inBlocks);
    expect([...region.computed].sort((a, b) => a - b)).toEqual([12, 33, 96, 96]);
    // The order is that in which they are found, not that of their addresses.
    expect(region.computed).not.toEqual([12, 33, 96, 96]);
    const { computed, ...same } = found(code, { guide: { learns: false } });
    expect(computed).toEqual([]);
    expect(same.blocks).toEqual(region.blocks);
  });
});

describe('conditional branches', () => {
  // 0: jz 32; 2: nop; jnz 64. 32: nop. 64: nop
  const code = { 0: `741e ${nop} 753b`, 32: `${nop} ${ret}`, 64: `${nop} ${ret}` };
  const usualAre = (...ways: readonly string[]): Partial<RegionGuide> => ({
    isUsual: (host, taken) => ways.includes(`${host - frameOf(0)} ${taken ? 'taken' : 'next'}`),
  });

  it('are followed only the ways that they usually go', () => {
    expect(shapeOf(found(code, { guide: usualAre('0 taken') }))).toEqual([
      '0: 1, branch 32 next leave 2',
      '32: 2, dynamic []',
    ]);
    expect(shapeOf(found(code, { guide: usualAre('0 next', '3 taken') }))).toEqual([
      '0: 1, branch leave 32 next 2',
      '2: 2, branch 64 next leave 5',
      '64: 2, dynamic []',
    ]);
    expect(shapeOf(found(code, { guide: usualAre() }))).toEqual(['0: 1, branch leave 32 next leave 2']);
  });

  it('lead into the region also where only something else leads there', () => {
    // 0: jz 32; 2: jmp 32
    const twice = { 0: `741e ${jump(2, 32)}`, 32: `${nop} ${ret}` };
    expect(shapeOf(found(twice, { guide: usualAre('0 next') }))).toEqual([
      '0: 1, branch 32 next 2',
      '2: 1, jump 32',
      '32: 2, dynamic []',
    ]);
  });

  it('are listed in the order of their blocks, when there is something to be learned', () => {
    const region = found(code);
    expect(region.branches).toEqual([0, 3]);
    expect(found(code, { guide: { learns: false } }).branches).toEqual([]);
    expect(found(code, { guide: { learnsOfBranches: false } }).branches).toEqual([]);
  });
});

describe('limits', () => {
  it('of instructions end a region in the middle of a block', () => {
    const code = { 0: `${nop.repeat(40)} ${ret}` };
    expect(shapeOf(found(code, { limits: { instructions: 7 } }))).toEqual(['0: 7, next leave 7']);
    expect(shapeOf(found(code, { limits: { instructions: 41 } }))).toEqual(['0: 41, dynamic []']);
  });

  it('of instructions make jumps leave that lead to code without room', () => {
    // 0: jz 16; 2: nop nop nop ret. 16: nop ret
    const code = { 0: `740e ${nop.repeat(3)} ${ret}`, 16: `${nop} ${ret}` };
    expect(shapeOf(found(code, { limits: { instructions: 5 } }))).toEqual([
      '0: 1, branch leave 16 next 2',
      '2: 4, dynamic []',
    ]);
    expect(shapeOf(found(code, { limits: { instructions: 6 } }))).toEqual([
      '0: 1, branch 16 next 2',
      '2: 4, dynamic []',
      '16: 1, next leave 17',
    ]);
  });

  it('of instructions count the copies of a function', () => {
    const calls: Record<number, string> = { 64: `ffc0 ${ret}` };
    for (let n = 0; n < 8; n++) calls[5 * n] = call(5 * n, 64);
    for (const instructions of [1, 2, 7, 12, 23]) {
      const region = found(calls, { limits: { instructions } });
      expect(region.instructions).toBe(instructions);
      expect(region.blocks.reduce((sum, b) => sum + b.instructions.length, 0)).toBe(instructions);
    }
    expect(found(calls).instructions).toBe(24);
  });

  it('of pages leave for the next one', () => {
    const code: Record<number, string> = {};
    for (let p = 0; p < 6; p++) code[p * pageBytes] = jump(0, pageBytes);
    const region = found(code, { limits: { pages: 3 } });
    expect(region.pages.map((p) => p.delta)).toEqual([0, 1, 2]);
    expect(shapeOf(region).at(-1)).toBe(`${2 * pageBytes}: 1, jump leave ${3 * pageBytes}`);
    // Also where an instruction begins on the last one that there is room for.
    const across = found({ 4090: `${nop.repeat(4)} 81c1 01000000 ${ret}` }, { entry: 4090, limits: { pages: 1 } });
    expect(shapeOf(across)).toEqual(['4090: 4, next leave 4094']);
    expect(across.pages.length).toBe(1);
  });
});

describe('code that is far away', () => {
  // Every page that is not given is page 1: NOPs without an end.
  const everywhere = { [pageBytes]: nop.repeat(pageBytes) };
  const limits = { instructions: 40, pages: 9 };
  const all = { limits, elsewhere: 1 };

  it.each([
    ['jump', jump(0, far), `0: 1, jump leave ${far}`],
    ['branch', `0f84${le(far - 6, 4)} cc`, `0: 1, branch leave ${far} next leave 6`],
    ['call', call(0, far), `0: 1, call leave ${far}`],
  ])('is left for: %s', (_, text, shape) => {
    expect(shapeOf(found({ ...everywhere, 0: text }, all))).toEqual([shape]);
  });

  it.each([far, -far, far + 64, 2 ** 40, -(2 ** 52)])('is left for by computed jumps: %d', (at) => {
    const asked: number[] = [];
    const follows = (host: number) => asked.push(host) > 0;
    const region = found({ ...everywhere, 0: jumpRax }, { ...all, guide: { usualTarget: () => at, follows } });
    expect(shapeOf(region)).toEqual(['0: 1, dynamic []']);
    expect(asked).toEqual([]);
  });

  it('begins where a region that runs on would reach it', () => {
    for (const [at, inside] of [
      [far - 3, 3],
      [far - 30, 30],
      [1 - far, 39],
    ] as const) {
      const region = found({ ...everywhere, 0: jumpRax }, { ...all, guide: { usualTarget: () => at } });
      const [entry, behind] = region.blocks;
      expect(entry!.terminator).toEqual({ kind: 'dynamic', candidates: [{ at, to: 1 }] });
      expect(behind!.instructions.length).toBe(inside);
      expect(behind!.terminator).toEqual({ kind: 'next', next: { kind: 'leave', at: at + inside } });
      expect(region.blocks.length).toBe(2);
    }
  });
});

describe('where another region begins', () => {
  const callee = 64;
  // 0: call 64; 5: inc eax; 7: ret
  const shapeWith = (code: string): string[] =>
    shapeOf(
      found(
        { 0: `${call(0, callee)} ffc0 ${ret}`, [callee]: code },
        { guide: { beginsAt: (host) => host === frameOf(0) + callee } },
      ),
    );

  it('a call ends the region', () => {
    expect(shapeWith(`${'ffc1'.repeat(16)} ${ret}`)).toEqual(['0: 1, call leave 64']);
  });

  it('a short function is taken in all the same, with what follows its return', () => {
    const whole = (end: string) => ['0: 1, call 64', '5: 2, dynamic []', end];
    expect(shapeWith(`ffc1 ${ret}`)).toEqual(whole('64: 2, dynamic [5: 5]'));
    expect(shapeWith(`${'ffc1'.repeat(15)} ${ret}`)).toEqual(whole('64: 16, dynamic [5: 5]'));
    // 66: jmp 70, a return: as kernels return.
    const jumping = shapeWith(`ffc1 eb02 cccc ${ret}`);
    expect(jumping).toContain('0: 1, call 64');
    expect(jumping).toContain('70: 1, dynamic [5: 5]');
  });

  it('a return is taken in all the same, by which way ever it is come to', () => {
    const isThere = { guide: { beginsAt: (host: number) => host === frameOf(3) + 16 } };
    const at = 3 * pageBytes + 16;
    // 0: inc eax; 2: jmp to the return
    const jumping = (code: string) => shapeOf(found({ 0: `ffc0 ${jump(2, at)}`, [at]: code }, isThere));
    expect(jumping(ret)).toEqual([`0: 2, jump ${at}`, `${at}: 1, dynamic []`]);
    expect(jumping(`90 ${ret}`)).toEqual([`0: 2, jump leave ${at}`]);
    // 0: je to the return
    const branching = shapeOf(found({ 0: `0f84${le(at - 6, 4)} ffc0 f4`, [at]: 'c20800' }, isThere));
    expect(branching).toContain(`0: 1, branch ${at} next 6`);
  });

  it.each([
    ['calls', `${call(callee, 128)} ${ret}`],
    ['jumps to a computed place', jumpRax],
    ['cannot be translated', `f4 ${ret}`],
  ])('a function that %s is not short', (_, code) => {
    expect(shapeWith(code)).toEqual(['0: 1, call leave 64']);
  });
});
