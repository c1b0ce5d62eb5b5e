// SPDX-License-Identifier: MIT
// Tests of later-runs.ts, by way of machines that share a store.
import { describe, expect, it } from 'vitest';
import { Exit } from '../cpu/exits.ts';
import { le, Reg, stop, TestMachine } from '../cpu/test-machine.ts';
import type { BlockStore, ModuleCompiler } from '../host.ts';

const code = 0x400000;
const data = 0x10000000;
/** Enough for ten looks, a quarter of what makes code hot. */
const turns = 10_000;
const sum = (turns * (turns + 1)) / 2;
// so often eax += ecx, by way of a call into the next page
const main = `b9${le(turns, 4)} e8${le(0x1000 - 10, 4)} ffc9 75f7 ${stop}`;
const callee = `01c8 83c200 c3`;

/** A store, and machine code for what is in it: `makes` it or does not. */
class Library implements BlockStore {
  readonly values = new Map<string, Uint8Array>();
  readonly withCode = new Map<string, Uint8Array>();
  readonly compiled: string[] = [];
  makes = true;
  readonly compiler: ModuleCompiler = {
    isReady: (key) => this.withCode.has(key),
    compile: (key, wasm) => {
      this.compiled.push(key);
      return new WebAssembly.Module(wasm as Uint8Array<ArrayBuffer>);
    },
    compileForLater: (key, wasm) => {
      if (this.makes) this.withCode.set(key, wasm);
      return this.makes;
    },
  };
  entries() {
    return this.values.entries();
  }
  get(key: string) {
    return this.values.get(key) ?? null;
  }
  put(key: string, value: Uint8Array) {
    this.values.set(key, value);
  }
  touch() {}
}

function machine(library: Library, compiler: ModuleCompiler = library.compiler) {
  const m = new TestMachine({ tier: 'auto', blocks: library, compiler });
  const pages = [m.page(code), m.page(code + 0x1000)] as const;
  m.write(pages[0], main);
  m.write(pages[1], callee);
  m.page(data);
  const run = () => {
    m.set(Reg.rsp, data + 0x800);
    m.set(Reg.rax, 0);
    expect(m.run(code)).toBe(Exit.SoftInt);
    expect(m.cpu.regLo(0)).toBe(sum);
    return m.cpu.statistics();
  };
  return { m, pages, run, made: () => m.cpu.statistics().translator!.laterRegions };
}

const never = (): boolean => false;

describe('what was busy but never hot', () => {
  it('is translated at the end, and the next run has it from its start', () => {
    const library = new Library();
    const first = machine(library);
    expect(first.run().translator!.regions).toBe(0);
    expect(library.values.size).toBe(0);
    first.m.cpu.prepareLaterRuns(never);
    expect(first.made()).toBeGreaterThan(0);
    expect([...library.values.keys()]).toEqual([...library.withCode.keys()]);
    // This run has no use for it.
    expect(library.compiled).toEqual([]);
    const { translator, regionInstructions } = machine(library).run();
    expect(translator!.storeHits).toBeGreaterThan(0);
    expect(regionInstructions).toBeGreaterThan(6 * (turns - 50));
  });

  it('is left alone where it has a region', () => {
    const library = new Library();
    const first = machine(library);
    first.run();
    first.m.cpu.prepareLaterRuns(never);
    const second = machine(library);
    second.run();
    second.m.cpu.prepareLaterRuns(never);
    expect(second.made()).toBe(0);
  });

  it('is left alone where nobody makes machine code, and when time is over', () => {
    const library = new Library();
    const { m, run, made } = machine(library);
    run();
    m.cpu.prepareLaterRuns(() => true);
    library.makes = false;
    m.cpu.prepareLaterRuns(never);
    const { isReady, compile } = library.compiler;
    const without = machine(library, { isReady, compile });
    without.run();
    without.m.cpu.prepareLaterRuns(never);
    expect([made(), without.made(), library.values.size]).toEqual([0, 0, 0]);
  });

  it('is left alone when its code has changed since', () => {
    const library = new Library();
    const { m, pages, run, made } = machine(library);
    run();
    for (const page of pages) m.write(page, 'f4');
    m.cpu.prepareLaterRuns(never);
    expect(made()).toBe(0);
  });

  it('is translated no further than its page when its address space is gone', () => {
    const library = new Library();
    const { m, run, made } = machine(library);
    run();
    m.cpu.setRoot(m.newRoot());
    m.cpu.prepareLaterRuns(never);
    expect(made()).toBe(2);
    // The loop by itself and what it calls.
    const { translator, regionInstructions } = machine(library).run();
    expect([translator!.storeHits, translator!.storeMismatches]).toEqual([2, 0]);
    expect(regionInstructions).toBeGreaterThan(6 * (turns - 50));
  });
});
