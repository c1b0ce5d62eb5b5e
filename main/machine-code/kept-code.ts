// SPDX-License-Identifier: MIT
// Compiles modules with the machine code that earlier runs have left in a store, and leaves there what this run's modules come to.
import { createHash } from 'node:crypto';
import type { ModuleCompiler } from '../../engine/host.ts';
import { compileOptimised, type V8Code } from './v8-code.ts';

const digestBytes = 32;
/** Code of which V8 has optimised some functions only is kept again when it has grown by more than one part in so many. */
const growth = 8;

/** Machine code as it is kept. */
export interface Kept {
  /** All functions have been optimised. */
  readonly isComplete: boolean;
  readonly code: Uint8Array;
}

/** SHA-256 of parts one behind the other. */
export function digestOf(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** The form in the store: a digest of the rest and of the digest of the module's bytes; whether it is complete (1 byte); the code. */
export function packCode(wasmDigest: Uint8Array, { isComplete, code }: Kept): Uint8Array {
  const rest = Buffer.concat([Uint8Array.of(isComplete ? 1 : 0), code]);
  return Buffer.concat([digestOf(wasmDigest, rest), rest]);
}

/** The machine code of a module; undefined unless the value is just what `packCode` made for it. */
export function unpackCode(wasmDigest: Uint8Array, value: Uint8Array): Kept | undefined {
  const rest = value.subarray(digestBytes);
  if (rest.length < 1 || !digestOf(wasmDigest, rest).equals(value.subarray(0, digestBytes))) return undefined;
  return { isComplete: rest[0] === 1, code: rest.subarray(1) };
}

/** What is needed of a store of blocks. */
export interface CodeBlocks {
  has(key: string): boolean;
  get(key: string): Uint8Array | null;
  put(key: string, value: Uint8Array): void;
}

interface Live {
  readonly wasmDigest: Uint8Array;
  readonly module: WeakRef<WebAssembly.Module>;
  readonly kept: { readonly isComplete: boolean; readonly bytes: number };
}

export interface KeptCodeStatistics {
  /** Modules that came with machine code, bytes of it, and the time that V8 took to make it usable. */
  hits: number;
  bytes: number;
  loadMs: number;
  /** Modules that V8 had to compile. */
  misses: number;
  /** Modules whose machine code was put into the store. */
  puts: number;
}

export class KeptCode implements ModuleCompiler {
  readonly statistics: KeptCodeStatistics = { hits: 0, bytes: 0, loadMs: 0, misses: 0, puts: 0 };
  readonly #v8: V8Code;
  readonly #store: CodeBlocks;
  readonly #optimise: (wasm: ArrayBuffer) => WebAssembly.Module;
  readonly #live = new Map<string, Live>();
  /** V8 has refused some: it would refuse all. */
  #isRefused = false;

  /** `optimise`: as `compileOptimised`. */
  constructor(v8: V8Code, store: CodeBlocks, optimise = compileOptimised) {
    this.#v8 = v8;
    this.#store = store;
    this.#optimise = optimise;
  }

  compile(key: string, wasm: Uint8Array): WebAssembly.Module {
    const wasmDigest = digestOf(wasm);
    const kept = this.#find(key, wasmDigest);
    const start = performance.now();
    const ready = kept && this.#v8.deserialize(wasm, kept.code);
    const { statistics } = this;
    if (kept && ready) {
      statistics.hits++;
      statistics.bytes += kept.code.length;
      statistics.loadMs += performance.now() - start;
      this.#note(key, wasmDigest, ready, { isComplete: kept.isComplete, bytes: kept.code.length });
      return ready;
    }
    statistics.misses++;
    this.#isRefused ||= kept !== undefined;
    const module = new WebAssembly.Module(wasm as Uint8Array<ArrayBuffer>);
    this.#note(key, wasmDigest, module, { isComplete: false, bytes: 0 });
    return module;
  }

  /** Modules that nobody uses any more shall go, and their code with them. */
  #note(key: string, wasmDigest: Uint8Array, module: WebAssembly.Module, kept: Live['kept']): void {
    this.#live.set(key, { wasmDigest, module: new WeakRef(module), kept });
  }

  isReady(key: string): boolean {
    return !this.#isRefused && this.#store.has(key);
  }

  #find(key: string, wasmDigest: Uint8Array): Kept | undefined {
    const value = this.isReady(key) ? this.#store.get(key) : null;
    return value === null ? undefined : unpackCode(wasmDigest, value);
  }

  /** Puts the machine code of the modules in use into the store, until `isOver` what V8's optimising compiler makes of all their functions. */
  keep(isOver: () => boolean): void {
    for (const [key, { wasmDigest, module, kept }] of this.#live) {
      const alive = module.deref();
      if (!alive || kept.isComplete) continue;
      const isComplete = !isOver();
      const best = isComplete ? this.#optimised(this.#v8.wireBytes(alive)) : alive;
      const code = new Uint8Array(best ? this.#v8.serialize(best) : new ArrayBuffer(0));
      if (code.length === 0 || (!isComplete && code.length <= kept.bytes + kept.bytes / growth)) continue;
      this.#store.put(key, packCode(wasmDigest, { isComplete, code }));
      this.statistics.puts++;
    }
    this.#live.clear();
  }

  compileForLater(key: string, wasm: Uint8Array): boolean {
    const best = this.#optimised(new Uint8Array(wasm).buffer);
    const code = new Uint8Array(best ? this.#v8.serialize(best) : new ArrayBuffer(0));
    if (code.length === 0) return false;
    this.#store.put(key, packCode(digestOf(wasm), { isComplete: true, code }));
    this.statistics.puts++;
    return true;
  }

  /** Undefined when V8 cannot, for want of memory: another run may. */
  #optimised(wasm: ArrayBuffer): WebAssembly.Module | undefined {
    try {
      return this.#optimise(wasm);
    } catch {
      return undefined;
    }
  }
}
