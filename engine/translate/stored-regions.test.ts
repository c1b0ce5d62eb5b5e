// SPDX-License-Identifier: MIT
// Tests of stored-regions.ts.
import { describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { bytesOf, le, Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import type { BlockStore, ModuleCompiler } from '../host.ts';
import { compileRegions } from './compile.ts';
import { findRegion, type Region } from './region.ts';
import { codeRanges, entryKey, packModule, storeKey, unpackModule } from './stored-regions.ts';

const frame = 0x10000;
const limits = { instructions: 120, pages: 4 };

/** A region of the code at offset `entry` of a page; the next page lies elsewhere. */
function region(code: string, entry = 0): { u8: Uint8Array; region: Region } {
  const u8 = new Uint8Array(0x40000);
  const bytes = bytesOf(code);
  const first = Math.min(bytes.length, 0x1000 - entry);
  u8.set(bytes.subarray(0, first), frame + entry);
  u8.set(bytes.subarray(first), 0x30000);
  const found = findRegion(u8, entry, frame, (delta) => (delta === 1 ? 0x30000 : 0), limits);
  return { u8, region: found! };
}

const withCode = (r: Region, u8: Uint8Array) => ({ region: r, ranges: codeRanges(r, u8) });

// A loop across a page: add rax, rcx; nops; dec ecx; jnz; ret
const crossing = `4801c8 ${'90'.repeat(20)} ffc9 75e5 c3`;

class MapStore implements BlockStore {
  readonly values = new Map<string, Uint8Array>();
  readonly touched: string[] = [];
  entries() {
    return this.values.entries();
  }
  get(key: string) {
    this.touched.push(key);
    return this.values.get(key) ?? null;
  }
  put(key: string, value: Uint8Array) {
    this.values.set(key, value);
  }
  touch(key: string) {
    this.touched.push(key);
  }
}

describe('the stored form', () => {
  it('comes back as it was', () => {
    const { u8, region: r } = region(crossing, 0xff8);
    const compiled = compileRegions([r, r]);
    const value = packModule(compiled, [withCode(r, u8), withCode(r, u8)], 'narrow');
    const back = unpackModule(value)!;
    expect(value.subarray(back.wasmAt)).toEqual(compiled.bytes);
    expect(back.kind).toBe('narrow');
    expect(unpackModule(packModule(compiled, [withCode(r, u8), withCode(r, u8)], 'ahead'))!.kind).toBe('ahead');
    expect(back.guards).toBe(compiled.guards);
    expect(back.regions.length).toBe(2);
    const [one, two] = back.regions;
    expect(one).toMatchObject({ entries: [0xff8], pages: [1], guardStart: 0 });
    expect(two!.guardStart).toBe(compiled.guardStart[1]);
    expect(one!.ranges).toEqual(codeRanges(r, u8));
    const joined = one!.ranges.flatMap((range) => [...range.bytes]);
    expect(joined).toEqual([...bytesOf(crossing)]);
    expect(one!.ranges.every((range) => (range.at & 0xfff) + range.bytes.length <= 0x1000)).toBe(true);
    // At an odd place in a larger buffer, too.
    const shifted = new Uint8Array(value.length + 3);
    shifted.set(value, 3);
    expect(unpackModule(shifted.subarray(3))).toEqual(back);
  });

  it('is refused or still well-formed, never an exception, with any byte flipped or cut off', () => {
    const { u8, region: r } = region(crossing, 0xff8);
    const value = packModule(compileRegions([r]), [withCode(r, u8)], 'wide');
    const headerEnd = unpackModule(value)!.wasmAt;
    for (let length = 0; length < value.length; length += length < headerEnd + 2 ? 1 : 37) {
      const cut = unpackModule(value.slice(0, length));
      if (length < headerEnd) expect(cut).toBe(undefined);
    }
    for (let at = 0; at < headerEnd; at++) {
      for (const bit of [1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80]) {
        const bad = value.slice();
        bad[at]! ^= bit;
        const back = unpackModule(bad);
        if (!back) continue;
        for (const s of back.regions) {
          expect(s.entries.length).toBeGreaterThan(0);
          for (const entry of s.entries) expect(entry).toBeLessThan(4096);
          expect(s.guardStart + s.pages.length).toBeLessThanOrEqual(back.guards);
          for (const at of [...s.computed, ...s.branches]) expect([0, ...s.pages]).toContain(Math.floor(at / 4096));
          for (const range of s.ranges) {
            const delta = Math.floor(range.at / 4096);
            expect(delta === 0 || s.pages.includes(delta)).toBe(true);
            expect(range.at - delta * 4096 + range.bytes.length).toBeLessThanOrEqual(4096);
          }
        }
      }
    }
  });

  it('is refused with any other header', () => {
    const good = {
      ...{ magic: 0x39525650, flags: 1, guards: 5, regions: 1, zero: 0, longer: 0 },
      ...{ entries: [0], guardStart: 0, pages: [1], ranges: [[0, '90c3']] as [number, string][] },
      ...{ computed: [] as number[], branches: [] as number[] },
    };
    const pack = (
      patch: Partial<typeof good & { entryCount: number; rangeCount: number; branchCount: number; wasmAt: number }>,
    ): Uint8Array => {
      const h = { ...good, ...patch };
      const ranges = h.ranges.map(([at, code]) => le(at, 4) + le(code.length / 2, 2) + code).join('');
      const counted = le(h.computed.length, 2) + le(h.branchCount ?? h.branches.length, 2);
      const counts = le(h.pages.length, 2) + le(h.rangeCount ?? h.ranges.length, 2) + counted;
      const words = [...h.pages, ...h.computed, ...h.branches];
      const lists = h.entries.map((e) => le(e, 2)).join('') + words.map((w) => le(w, 4)).join('');
      const region = le(h.entryCount ?? h.entries.length, 2) + le(h.guardStart, 2) + counts + lists + ranges;
      const body = region.repeat(Math.min(h.regions, 300)) + '00'.repeat(h.longer);
      const wasmAt = h.wasmAt ?? 16 + body.length / 2;
      const fixed =
        le(h.magic, 4) + le(wasmAt, 4) + le(h.flags, 2) + le(h.guards, 2) + le(h.regions, 2) + le(h.zero, 2);
      return bytesOf(fixed + body + '0061736d');
    };
    expect(unpackModule(pack({}))).toMatchObject({
      kind: 'narrow',
      guards: 5,
      regions: [{ entries: [0], pages: [1], computed: [], branches: [] }],
    });
    // Two slots for the branch, four for the jump, one for the entries.
    expect(unpackModule(pack({ branches: [1], computed: [0], guards: 12 }))).toMatchObject({
      regions: [{ computed: [0], branches: [1] }],
    });
    const bad: Parameters<typeof pack>[0][] = [
      { magic: 0x36525650 },
      { flags: 5 },
      { guards: 0 },
      { guards: 4 },
      { guards: 4097 },
      { regions: 0 },
      { regions: 2, wasmAt: 40 },
      { regions: 257 },
      { regions: 65535 },
      { zero: 1 },
      { longer: 1 },
      { wasmAt: 15 },
      { wasmAt: 16 },
      { wasmAt: 0xffffffff },
      { entries: [4096] },
      { entries: [2] },
      { entries: [0, 2] },
      { entries: [] },
      { entries: new Array<number>(256).fill(0) },
      { entryCount: 2 },
      { pages: [0] },
      { pages: [1 << 21] },
      { pages: new Array<number>(17).fill(1), guards: 21 },
      { pages: [1, 2] },
      { guardStart: 1 },
      { guardStart: 65535 },
      { ranges: [] },
      { ranges: [[0, '']] },
      { rangeCount: 2 },
      { rangeCount: 65535 },
      { branches: [1], guards: 7 },
      { computed: [0], guards: 8 },
      { branches: [2], guards: 20 },
      { branches: [-1], guards: 20 },
      { computed: [4096], guards: 20 },
      { branchCount: 1, guards: 20 },
      { branchCount: 513, guards: 4096 },
      { branchCount: 65535, guards: 4096 },
      { ranges: [[4095, '9090']] },
      { ranges: [[0, '90'], [8192, '90']] }, // prettier-ignore
      { ranges: [[0, '90'], [0x7fffffff, '90']] }, // prettier-ignore
    ];
    for (const patch of bad) expect(unpackModule(pack(patch)), JSON.stringify(patch).slice(0, 80)).toBe(undefined);
    expect(unpackModule(new Uint8Array(0))).toBe(undefined);
  });

  it('has a name that any other bytes do not have, wherever they lie in memory', () => {
    const value = Uint8Array.from({ length: 67 }, (_, n) => n * 37);
    const others = [value.subarray(0, 66), value.subarray(1), Uint8Array.of(...value, 0), new Uint8Array(0)];
    for (let n = 0; n < value.length; n++)
      for (let bit = 0; bit < 8; bit++) others.push(value.map((byte, at) => (at === n ? byte ^ (1 << bit) : byte)));
    for (const at of [4, 8, 32]) others.push(Uint8Array.of(...value.subarray(at), ...value.subarray(0, at)));
    const names = [value, ...others].map(storeKey);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[0-9a-f]{16}$/);
    const shifted = new Uint8Array(value.length + 1);
    shifted.set(value, 1);
    expect(storeKey(shifted.subarray(1))).toBe(names[0]);
  });

  it('is found by offset and first bytes', () => {
    const code = bytesOf('ffffffff 01');
    expect(entryKey(4095, code, 0)).toBe(4095 * 2 ** 32 + 0xffffffff);
    expect(entryKey(0, code, 2)).toBe(undefined);
    expect(entryKey(1, code, 1)).not.toBe(entryKey(2, code, 1));
  });
});

describe('a store between two machines', () => {
  const code = 0x400000;
  const data = 0x10000000;
  /** So many that the loop is met often enough for what is stored to be used. */
  const turns = 60_000;
  const sum = (turns * (turns + 1)) / 2;
  // f: so often eax += ecx, by way of a call into the next page.
  const main = `b9${le(turns, 4)} e8${le(0x1000 - 10, 4)} ffc9 75f7 ${stop}`;
  const callee = `01c8 83c200 c3`;

  function machine(
    tier: 'translate' | 'auto',
    store: BlockStore,
    change?: (m: TestMachine, first: number, second: number) => void,
    compiler?: ModuleCompiler,
  ) {
    const m = new TestMachine({ tier, blocks: store, ...(compiler && { compiler }) });
    const host = m.page(code);
    m.write(host, main);
    const second = m.page(code + 0x1000);
    m.write(second, callee);
    m.page(data);
    m.set(Reg.rsp, data + 0x800);
    change?.(m, host, second);
    expect(m.run(code)).toBe(Exit.SoftInt);
    return { eax: m.cpu.regLo(0), edx: m.cpu.regLo(2), statistics: m.cpu.statistics() };
  }

  function filled(): MapStore {
    const store = new MapStore();
    expect(machine('translate', store).eax).toBe(sum);
    expect(store.values.size).toBeGreaterThan(0);
    return store;
  }

  it('is used as soon as its code is busy, long before it would be translated', () => {
    const store = filled();
    const { eax, statistics } = machine('auto', store);
    expect(eax).toBe(sum);
    const { storeMismatches, regions, storeHits } = statistics.translator!;
    expect([storeMismatches, regions]).toEqual([0, storeHits]);
    expect(statistics.translator!.storeHits).toBeGreaterThan(0);
    expect(statistics.regionInstructions).toBeGreaterThan(100);
    expect(store.touched.length).toBeGreaterThan(0);
  });

  it('is used after a few entries of it that has its machine code, and compiled by whoever has that', () => {
    const store = filled();
    const compiled: string[] = [];
    const compiler = (isReady: boolean): ModuleCompiler => ({
      isReady: (key) => isReady && store.values.has(key),
      compile: (key, wasm) => {
        compiled.push(key);
        return new WebAssembly.Module(wasm as Uint8Array<ArrayBuffer>);
      },
    });
    const interpreted = (isReady: boolean): number => {
      const { eax, statistics } = machine('auto', store, undefined, compiler(isReady));
      expect(eax).toBe(sum);
      expect(statistics.translator!.storeHits).toBeGreaterThan(0);
      // Six instructions a turn.
      return turns - statistics.regionInstructions / 6;
    };
    expect(interpreted(true)).toBeLessThan(50);
    expect(compiled.length).toBeGreaterThan(0);
    for (const key of compiled) expect(store.values.has(key)).toBe(true);
    expect(interpreted(false)).toBeGreaterThan(3000);
  });

  it('is used for what a region that is made anew takes along', () => {
    const store = new MapStore();
    /** Calls f, which is too long to be followed into, where ecx & mask is 0. */
    const run = (tier: 'translate' | 'auto', mask: number, runs: number) => {
      let now = 0;
      const m = new TestMachine({ tier, blocks: store, nowMs: () => now });
      const host = m.page(code);
      m.write(host, `ffc9 f7c1${le(mask, 4)} 7505 e8${le(0x100 - 15, 4)} 85c9 75ed ${stop}`);
      m.write(host + 0x100, `${'ffc2'.repeat(20)} c3`);
      m.page(data);
      m.set(Reg.rsp, data + 0x800);
      m.set(Reg.rcx, 100_000_000);
      m.setRip(code);
      // At this pace a block is hot for being steady after eight looks, before f has had the six that it takes for what is stored.
      for (let i = 0; i < runs; i++, now += 4) expect(m.cpu.run(4000)).toBe(Exit.Budget);
      return m.cpu.statistics().translator!;
    };
    run('translate', 1, 1);
    const { regions, storeHits } = run('auto', 3, 30);
    expect([regions, storeHits]).toEqual([2, 1]);
  });

  it('is not used for other code', () => {
    const store = filled();
    const { eax, edx, statistics } = machine('auto', store, (m, _, second) => m.write(second, '01c8 83c203 c3'));
    expect([eax, edx]).toEqual([sum, 3 * turns]);
    expect(statistics.translator!.storeMismatches).toBeGreaterThan(0);
  });

  it('is not used when the code that it was made from is damaged in it', () => {
    const store = filled();
    for (const [key, value] of store.values) {
      // The ranges of the header are parts of the value: change the last byte of each.
      const bad = value.slice();
      for (const { ranges } of unpackModule(bad)!.regions)
        for (const { bytes } of ranges) bytes[bytes.length - 1]! ^= 1;
      store.values.set(key, bad);
    }
    const { eax, statistics } = machine('auto', store);
    expect(eax).toBe(sum);
    expect(statistics.translator!.storeHits).toBe(0);
    expect(statistics.translator!.storeMismatches).toBeGreaterThan(0);
  });

  it('is ignored when its WebAssembly is cut off, empty or another module', () => {
    const empty = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);
    for (const damage of [
      (wasm: Uint8Array) => wasm.slice(0, wasm.length - 1),
      (wasm: Uint8Array) => wasm.slice(0, wasm.length >> 1),
      () => new Uint8Array(0),
      () => empty,
    ]) {
      const store = filled();
      for (const [key, value] of store.values) {
        const end = unpackModule(value)!.wasmAt;
        const wasm = damage(value.subarray(end));
        const bad = new Uint8Array(end + wasm.length);
        bad.set(value.subarray(0, end));
        bad.set(wasm, end);
        store.values.set(key, bad);
      }
      const { eax, statistics } = machine('auto', store);
      expect(eax).toBe(sum);
      expect(statistics.translator!.storeHits).toBe(0);
    }
  });

  it('is used where the same code lies elsewhere, but not at another place in its page, nor in another mode', () => {
    const at = (options: { mode?: 32 }, page: number, offset: number) => {
      const m = new TestMachine({ tier: 'auto', blocks: filled(), ...options });
      m.write(m.page(page) + offset, main);
      m.write(m.page(page + 0x1000) + offset, callee);
      m.page(data);
      m.set(Reg.rsp, data + 0x800);
      expect(m.run(page + offset)).toBe(Exit.SoftInt);
      return [m.cpu.regLo(0), m.cpu.statistics().translator!.storeHits > 0];
    };
    expect(at({}, code, 0)).toEqual([sum, true]);
    expect(at({}, 0x700000, 0)).toEqual([sum, true]);
    expect(at({}, code, 0x10)).toEqual([sum, false]);
    expect(at({ mode: 32 }, code, 0)).toEqual([sum, false]);
  });

  it('is read within bounds, however large it is', () => {
    const store = new MapStore();
    let read = 0;
    store.entries = function* () {
      for (; ; read++) yield [`${read}`, new Uint8Array(8 << 20)] as const;
    } as typeof store.entries;
    expect(machine('auto', store).eax).toBe(sum);
    expect(read).toBeLessThan(10);
  });

  it('is given up when the store has forgotten it, or has another value by its name', () => {
    for (const change of [() => null, (value: Uint8Array) => value.map((byte) => byte ^ 1)]) {
      const store = filled();
      const { get } = store;
      store.get = (key) => change(get.call(store, key)!);
      const { eax, statistics } = machine('auto', store);
      expect(eax).toBe(sum);
      expect(statistics.translator!.storeHits).toBe(0);
    }
  });

  it('is not used as soon when only the file of a kernel says that it may be worth having', () => {
    const hits = (store: BlockStore) =>
      machine('auto', store, (m, first) => m.write(first + 1, le(8_000, 4))).statistics.translator!.storeHits;
    const store = filled();
    expect(hits(store)).toBeGreaterThan(0);
    for (const value of store.values.values()) value[8] = 0;
    expect(hits(store)).toBe(0);
  });

  it('has such a region sooner than the code would be translated', () => {
    const u8 = new Uint8Array(0x40000);
    u8.set(bytesOf(main), frame);
    u8.set(bytesOf(callee), 0x30000);
    const loop = findRegion(u8, 5, frame, (delta) => (delta === 1 ? 0x30000 : 0), limits)!;
    const store = new MapStore();
    store.put('aa', packModule(compileRegions([loop]), [withCode(loop, u8)], 'ahead'));
    const m = new TestMachine({ tier: 'auto', blocks: store });
    const host = m.page(code);
    m.write(host, main);
    m.write(m.page(code + 0x1000), callee);
    m.page(data);
    // Enough turns for it, too few for a translation.
    m.write(host + 1, le(12_000, 4));
    m.set(Reg.rsp, data + 0x800);
    let reason = m.run(code);
    while (reason === Exit.Budget) reason = m.run(m.cpu.ripLo);
    expect(reason).toBe(Exit.SoftInt);
    const { storeHits, precompiledHits, modules } = m.cpu.statistics().translator!;
    expect([storeHits, precompiledHits, modules]).toEqual([1, 1, 1]);
  });

  it('leaves modified code alone also after it was used', () => {
    const store = filled();
    const m = new TestMachine({ tier: 'auto', blocks: store });
    m.write(m.page(code), main);
    const second = m.page(code + 0x1000);
    m.write(second, callee);
    m.page(data);
    const total = () => {
      m.set(Reg.rsp, data + 0x800);
      m.set(0, 0);
      m.set(2, 0);
      expect(m.run(code)).toBe(Exit.SoftInt);
      return [m.cpu.regLo(0), m.cpu.regLo(2)];
    };
    expect(total()).toEqual([sum, 0]);
    expect(m.cpu.statistics().translator!.storeHits).toBeGreaterThan(0);
    m.write(second + 4, '05');
    expect(total()).toEqual([sum, 5 * turns]);
    m.write(second + 4, '00');
    expect(total()).toEqual([sum, 0]);
  });
});
