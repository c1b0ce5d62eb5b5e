// SPDX-License-Identifier: MIT
// Tests of what the translator knows of how the guest runs, by the code that its regions are made from.

import { describe, expect, it, vi } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { le, Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import type { BlockStore } from '../host.ts';
import { unpackModule, type StoredKind } from './stored-regions.ts';
import { Translator } from './translator.ts';

const code = 0x400000;
/** Where the second piece of code lies, from `code`: in a page of its own. */
const other = 0x1000;
/** And a third. */
const third = 0x2000;

/** What the translator has made, in order: kind, entry and the pages whose code is in there, relative to `code`. */
class Made implements BlockStore {
  readonly regions: { readonly kind: StoredKind; readonly at: number; readonly pages: readonly number[] }[] = [];
  readonly values = new Map<string, Uint8Array>();
  private readonly earlier: ReadonlyMap<string, Uint8Array>;
  constructor(earlier: ReadonlyMap<string, Uint8Array> = new Map()) {
    this.earlier = earlier;
  }
  entries() {
    return this.earlier;
  }
  get(key: string) {
    return this.earlier.get(key) ?? null;
  }
  put(key: string, value: Uint8Array) {
    this.values.set(key, value);
    const { kind, regions } = unpackModule(value)!;
    for (const { entries, ranges } of regions) {
      const entry = entries[0]!;
      // Entries have offsets of their own in these tests: the page of each is known by that.
      const page = entry >= 0xc00 ? third : entry >= 0x800 ? other : 0;
      const deltas = new Set(ranges.map((r) => page + Math.floor(r.at / 0x1000) * 0x1000));
      this.regions.push({ kind, at: page + entry, pages: [...deltas].sort((a, b) => a - b) });
    }
  }
  touch() {}
}

function machine(first: string, second: string, earlier?: ReadonlyMap<string, Uint8Array>) {
  let now = 0;
  const blocks = new Made(earlier);
  const m = new TestMachine({ tier: 'auto', nowMs: () => now, blocks });
  m.write(m.page(code), first);
  const host = m.page(code + other) + 0x800;
  m.write(host, second);
  m.set(Reg.rcx, 100_000_000);
  m.setRip(code);
  /** Runs on, without an end of the code, and lets what is queued be translated. */
  const warm = (slices: number): void => {
    for (let n = 0; n < slices; n++) {
      expect(m.cpu.run(200_000)).toBe(Exit.Budget);
      now += 25;
    }
  };
  return { m, made: blocks.regions, kept: blocks.values, host, warm, wait: (ms: number) => (now += ms) };
}

const jump = (from: number, to: number): string => `e9${le(to - from - 5, 4)}`;
const pages = { first: 0, second: other };

describe('code that was never reached', () => {
  // 0: dec ecx; 2: jz to the other page; 8: jmp 0
  const first = `ffc9 0f84${le(other + 0x800 - 8, 4)} ebf6`;

  it('is not translated with what is hot, but is once the guest has come to it', () => {
    const { m, made, warm } = machine(first, `90 ${stop}`);
    warm(4);
    expect(made.length).toBeGreaterThan(0);
    for (const region of made) expect(region.pages).toEqual([pages.first]);
    // mov ecx, 4; jmp 0
    const reached = machine(first, `b904000000 ${jump(other + 0x805, 0)}`);
    reached.m.set(Reg.rcx, 1000);
    reached.warm(4);
    expect(reached.made.length).toBeGreaterThan(0);
    for (const region of reached.made) expect(region.pages).toEqual([pages.first, pages.second]);
    // What was left out still happens.
    m.set(Reg.rcx, 3);
    expect(m.resume()).toBe(Exit.SoftInt);
  });
});

describe('two pieces of code that jump to each other', () => {
  it('become one region', () => {
    // 0: inc eax; jmp to the other page. There: dec ecx; jmp back.
    const { made, warm } = machine(`ffc0 ${jump(2, other + 0x800)}`, `ffc9 ${jump(other + 0x802, 0)}`);
    warm(8);
    expect(made.map((r) => r.kind)).toEqual(['narrow']);
    expect(made[0]!.pages).toEqual([pages.first, pages.second]);
  });

  it('become two at first, the second of which ends where the first begins; and one when they are really hot', () => {
    // 0: inc eax; mov ecx, 20; jmp to the other page. There: dec ecx; jnz to itself; jmp rdx.
    const { made, m, warm } = machine(`ffc0 b914000000 ${jump(7, other + 0x800)}`, 'ffc9 75fc ffe2');
    m.set(Reg.rdx, code);
    warm(6);
    expect(made).toEqual([
      { kind: 'narrow', at: other + 0x800, pages: [pages.second] },
      { kind: 'narrow', at: 0, pages: [pages.first] },
    ]);
    warm(200);
    const wide = made.filter((r) => r.kind === 'wide');
    expect(wide.length).toBeGreaterThan(0);
    for (const region of wide) expect(region.pages).toEqual([pages.first, pages.second]);
  });
});

describe('samples', () => {
  it('are a quarter as many, and count four times, where the guest runs what cannot be made any better', () => {
    // 0: inc eax; jmp to the other page. There: dec ecx; jmp back.
    const { made, warm } = machine(`ffc0 ${jump(2, other + 0x800)}`, `ffc9 ${jump(other + 0x802, 0)}`);
    const sample = vi.spyOn(Translator.prototype, 'sample');
    const samplesOf = (slices: number) => {
      sample.mockClear();
      warm(slices);
      return sample.mock.calls.map(([, , , , weight]) => weight);
    };
    const before = samplesOf(5);
    for (let n = 0; n < 100 && !made.some((r) => r.kind === 'wide'); n++) warm(10);
    warm(1);
    const after = samplesOf(20);
    sample.mockRestore();
    expect(new Set(before)).toEqual(new Set([1]));
    expect(new Set(after)).toEqual(new Set([4]));
    expect(after.length).toBeGreaterThan(0.7 * before.length);
    expect(after.length).toBeLessThan(1.4 * before.length);
  });
});

describe('a computed jump', () => {
  // 0: inc eax; jmp rbx. There: dec ecx; jmp rdx.
  const first = 'ffc0 ffe3';
  const second = 'ffc9 ffe2';
  const target = code + other + 0x800;

  it('ends narrow regions; wide ones go on where the narrow ones saw it go', () => {
    const { m, made, warm } = machine(first, second);
    m.set(Reg.rbx, target);
    m.set(Reg.rdx, code);
    warm(250);
    const narrow = made.filter((r) => r.kind === 'narrow');
    expect(narrow.map((r) => r.at).sort((a, b) => a - b)).toEqual([0, other + 0x800]);
    for (const { at, pages: used } of narrow) expect(used).toEqual([at === 0 ? pages.first : pages.second]);
    const wide = made.filter((r) => r.kind === 'wide');
    expect(wide.length).toBeGreaterThan(0);
    for (const region of wide) expect(region.pages).toEqual([pages.first, pages.second]);
  });

  it('is known to wide regions, too, when the narrow ones come from an earlier run', () => {
    const run = (earlier?: ReadonlyMap<string, Uint8Array>) => {
      const { m, made, kept, warm } = machine(first, second, earlier);
      m.set(Reg.rbx, target);
      m.set(Reg.rdx, code);
      return { m, made, kept, warm };
    };
    const before = run();
    before.warm(12);
    expect(before.made.map((r) => r.kind)).toEqual(['narrow', 'narrow']);
    const { m, made, warm } = run(before.kept);
    warm(250);
    expect(m.cpu.statistics().translator!.storeHits).toBe(2);
    const wide = made.filter((r) => r.kind === 'wide');
    expect(wide.length).toBeGreaterThan(0);
    for (const region of wide) expect(region.pages).toEqual([pages.first, pages.second]);
  });

  it('that goes to several places ends wide regions too', () => {
    // 0: rol rdx, 1; mov rbx, rdx; and ebx, 1; imul ebx, ebx, 0x1400; add rbx, rsi; jmp rbx: to one of two pages, as the bits of RDX say.
    const choose = '48d1c2 4889d3 83e301 69db00140000 4801f3 ffe3';
    const { m, made, warm } = machine(choose, second);
    m.write(m.page(code + other), `${'00'.repeat(0x800)} ffc9 ${jump(other + 0x802, 0)}`);
    m.write(m.page(code + third), `${'00'.repeat(0xc00)} ffc9 ${jump(third + 0xc02, 0)}`);
    m.set(Reg.rsi, target);
    m.set(Reg.rdx, 0x6a09e667f3bcc908n);
    warm(500);
    const wide = made.filter((r) => r.kind === 'wide' && r.at !== 0);
    expect(wide.map((r) => r.at).sort((a, b) => a - b)).toEqual([other + 0x800, third + 0xc00]);
    for (const { at, pages: used } of wide) expect(used).toEqual([pages.first, at & -0x1000]);
  });
});

describe('a branch that hardly ever goes one way', () => {
  // 0: dec ecx; test ecx, edx; jz to the other page; 10: jmp 0
  const first = `ffc9 85d1 0f84${le(other + 0x800 - 10, 4)} ebf4`;
  const second = `90 ${jump(other + 0x801, 0)}`;
  const often = 15;
  const rarely = 0xfffff;
  const pagesOf = (made: Made['regions'], kind: StoredKind) => made.filter((r) => r.kind === kind).map((r) => r.pages);

  /** The other way still exists. */
  function goesThere({ m, host }: ReturnType<typeof machine>): void {
    m.write(host, `ffc0 ${stop}`);
    m.set(Reg.rax, 0);
    m.set(Reg.rdx, rarely);
    m.set(Reg.rcx, 0x500010);
    expect(m.resume()).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(Reg.rax)).toBe(1);
    expect(m.cpu.regLo(Reg.rcx)).toBe(0x500000);
  }

  it('is followed the usual way by narrow regions, as the interpreter saw it go', () => {
    const guest = machine(first, second);
    // The other page is reached at once.
    guest.m.set(Reg.rcx, 0x5f00001);
    guest.m.set(Reg.rdx, rarely);
    guest.warm(4);
    expect(pagesOf(guest.made, 'narrow')).toEqual([[pages.first]]);
    goesThere(guest);
  });

  it('is followed the usual way by wide ones, as narrow ones saw it go', () => {
    const guest = machine(first, second);
    guest.m.set(Reg.rcx, 0x5f00001);
    guest.m.set(Reg.rdx, often);
    // Found by the end of the first slice, but not in use before the second.
    guest.warm(1);
    expect(guest.made).toEqual([]);
    guest.m.set(Reg.rdx, rarely);
    guest.warm(120);
    expect(pagesOf(guest.made, 'narrow')).toEqual([[pages.first, pages.second]]);
    expect(pagesOf(guest.made, 'wide')).toEqual([[pages.first]]);
    goesThere(guest);
  });
});
