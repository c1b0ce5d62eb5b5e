// SPDX-License-Identifier: MIT
// Which machine code is kept, found and refused, with a stand-in for V8 that says how often it was asked.
import { describe, expect, it } from 'vitest';
import { KeptCode, packCode, unpackCode } from './kept-code.ts';
import type { CodeBlocks } from './kept-code.ts';
import type { V8Code } from './v8-code.ts';

/** The smallest module there is, with a custom section that holds a number. */
const wasmOf = (n: number): Uint8Array => Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 0, 3, 1, 0x6e, n);

class Blocks implements CodeBlocks {
  readonly values = new Map<string, Uint8Array>();
  has(key: string): boolean {
    return this.values.has(key);
  }
  get(key: string): Uint8Array | null {
    return this.values.get(key) ?? null;
  }
  put(key: string, value: Uint8Array): void {
    this.values.set(key, value);
  }
}

/** V8 as far as it matters here: machine code is the module's bytes, for each function that has been optimised once more. */
class FakeV8 implements V8Code {
  readonly made = new Map<WebAssembly.Module, { wasm: Uint8Array; optimised: number }>();
  readonly refused: Uint8Array[] = [];
  refuses = false;

  note(module: WebAssembly.Module, wasm: Uint8Array, optimised: number): WebAssembly.Module {
    this.made.set(module, { wasm, optimised });
    return module;
  }
  wireBytes(module: WebAssembly.Module): ArrayBuffer {
    return new Uint8Array(this.made.get(module)!.wasm).buffer;
  }
  serialize(module: WebAssembly.Module): ArrayBuffer {
    const { wasm, optimised } = this.made.get(module)!;
    return new Uint8Array(Array.from({ length: optimised }, () => [...wasm]).flat()).buffer;
  }
  deserialize(wasm: Uint8Array, code: Uint8Array): WebAssembly.Module | undefined {
    if (this.refuses) {
      this.refused.push(code);
      return undefined;
    }
    return this.note(new WebAssembly.Module(new Uint8Array(wasm)), wasm, code.length / wasm.length);
  }
  optimise = (wasm: ArrayBuffer): WebAssembly.Module =>
    this.note(new WebAssembly.Module(wasm), new Uint8Array(wasm), 4);
}

const never = (): boolean => false;

/** A run that compiles modules, of whose functions V8 optimises some by itself. */
function run(blocks: Blocks, numbers: readonly number[], optimised: number, refuses = false) {
  const v8 = new FakeV8();
  v8.refuses = refuses;
  const kept = new KeptCode(v8, blocks, (wasm) => v8.optimise(wasm));
  const modules = numbers.map((n) => {
    const module = kept.compile(`a${n}`, wasmOf(n));
    if (!v8.made.has(module)) v8.note(module, wasmOf(n), optimised);
    return module;
  });
  return { v8, kept, modules };
}

describe('machine code as it is kept', () => {
  const digest = new Uint8Array(32).fill(7);
  const code = Uint8Array.from({ length: 40 }, (_, n) => n);

  it('comes back as it was, complete or not', () => {
    for (const isComplete of [true, false]) {
      const back = unpackCode(digest, packCode(digest, { isComplete, code }))!;
      expect([back.isComplete, [...back.code]]).toEqual([isComplete, [...code]]);
    }
  });

  it('is refused with any bit changed, any byte missing, more behind it, or for another module', () => {
    const value = packCode(digest, { isComplete: true, code });
    for (let at = 0; at < value.length; at++) {
      for (let bit = 0; bit < 8; bit++)
        expect(unpackCode(digest, value.map((byte, n) => (n === at ? byte ^ (1 << bit) : byte)))).toBe(undefined); // prettier-ignore
      expect(unpackCode(digest, value.subarray(0, at))).toBe(undefined);
    }
    expect(unpackCode(digest, Buffer.concat([value, Uint8Array.of(0)]))).toBe(undefined);
    expect(unpackCode(new Uint8Array(32), value)).toBe(undefined);
  });
});

describe('what compiles modules with kept machine code', () => {
  it('has none at first, keeps all of it at the end, and has it in the next run', () => {
    const blocks = new Blocks();
    const first = run(blocks, [1, 2], 0);
    expect(first.kept.statistics).toMatchObject({ hits: 0, misses: 2 });
    expect(first.kept.isReady('a1')).toBe(false);
    first.kept.keep(never);
    expect(first.kept.statistics.puts).toBe(2);
    const second = run(blocks, [1, 2, 3], 0);
    expect(second.kept.statistics).toMatchObject({ hits: 2, bytes: 2 * 4 * wasmOf(1).length, misses: 1 });
    expect(['a1', 'a2', 'a3'].map((key) => second.kept.isReady(key))).toEqual([true, true, false]);
    // Only what was new is left to be done.
    second.kept.keep(never);
    expect(second.kept.statistics.puts).toBe(1);
  });

  it('compiles anew what is kept for other bytes under the same name, or damaged, and never shows it to V8', () => {
    const blocks = new Blocks();
    const first = run(blocks, [1], 0);
    first.kept.keep(never);
    const value = blocks.values.get('a1')!;
    for (const wrong of [value.map((byte, at) => (at === value.length - 1 ? byte ^ 1 : byte)), value.subarray(0, 5)]) {
      blocks.values.set('a1', wrong);
      const { v8, kept, modules } = run(blocks, [1], 0, true);
      expect([modules.length, v8.refused.length, kept.statistics.misses]).toEqual([1, 0, 1]);
    }
    blocks.values.set('a2', value);
    const other = run(blocks, [2], 0, true);
    expect([other.v8.refused.length, other.kept.statistics.misses]).toEqual([0, 1]);
  });

  it('asks V8 no more once it has refused some, and keeps what this V8 makes instead', () => {
    const blocks = new Blocks();
    const first = run(blocks, [1, 2, 3], 0);
    first.kept.keep(never);
    const before = blocks.values.get('a2');
    const { v8, kept } = run(blocks, [1, 2, 3], 0, true);
    expect([v8.refused.length, kept.statistics.misses, kept.isReady('a3')]).toEqual([1, 3, false]);
    kept.keep(never);
    expect(kept.statistics.puts).toBe(3);
    expect(blocks.values.get('a2')).not.toBe(before);
  });

  it('leaves out what V8 cannot optimise', () => {
    const blocks = new Blocks();
    const { v8, kept } = run(blocks, [1, 2], 1);
    let asked = 0;
    v8.optimise = (wasm) => {
      if (asked++ === 0) throw new RangeError('out of memory');
      return v8.note(new WebAssembly.Module(wasm), new Uint8Array(wasm), 4);
    };
    kept.keep(never);
    expect([...blocks.values.keys()]).toEqual(['a2']);
  });

  it('keeps what V8 has optimised by itself where there is no time for more, once it has grown', () => {
    const blocks = new Blocks();
    // All time is over when the first is done.
    const late = (numbers: readonly number[], optimised: number) => {
      const { kept } = run(blocks, numbers, optimised);
      let asked = 0;
      kept.keep(() => asked++ > 0);
      return { puts: kept.statistics.puts };
    };
    // The first is optimised, of the second what there is, of which there is none of the third.
    expect(late([1, 2], 2).puts).toBe(2);
    expect(late([4, 3], 0).puts).toBe(1);
    const sizeOf = (key: string): number | undefined => blocks.values.get(key)?.length;
    const bytes = wasmOf(0).length;
    expect(['a1', 'a2', 'a3'].map(sizeOf)).toEqual([33 + 4 * bytes, 33 + 2 * bytes, undefined]);
    // Nothing new: the second has grown no further.
    expect(late([5, 2], 2).puts).toBe(1);
  });

  it('makes it for later runs alone, or says that V8 cannot', () => {
    const blocks = new Blocks();
    const { v8, kept } = run(blocks, [], 0);
    const { optimise } = v8;
    v8.optimise = () => {
      throw new RangeError('out of memory');
    };
    expect([kept.compileForLater('a1', wasmOf(1)), blocks.values.size]).toEqual([false, 0]);
    v8.optimise = optimise;
    expect([kept.compileForLater('a1', wasmOf(1)), kept.statistics.puts]).toEqual([true, 1]);
    const later = run(blocks, [1], 0);
    expect(later.kept.statistics).toMatchObject({ hits: 1, bytes: 4 * wasmOf(1).length, misses: 0 });
    later.kept.keep(never);
    expect(later.kept.statistics.puts).toBe(0);
  });
});
