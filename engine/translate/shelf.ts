// SPDX-License-Identifier: MIT
// Modules of regions that earlier runs left in the store: which regions begin as some code does, and their WebAssembly when it is wanted.

import type { BlockStore, ModuleCompiler } from '../host.ts';
import { entryKey, rankOf, unpackModule, type StoredModule } from './stored-regions.ts';

const pageBytes = 4096;

/** The store is read up to here at the start, what was used last first: a tenth of a second. */
const maxReadBytes = 64 << 20;

/** A module from the store: its WebAssembly is fetched and compiled when the first of its regions is wanted. */
export interface Shelved {
  readonly key: string;
  readonly module: StoredModule;
  readonly header: Uint8Array;
  /** Compiling it takes next to nothing. */
  readonly isReady: boolean;
  loaded: Loaded | undefined;
}

export interface Loaded {
  readonly exports: Record<string, unknown>;
  /** Host address of the slots of the module's regions. */
  readonly guards: number;
  /** Regions in use: their guards hold one place each, so a second copy of the code elsewhere gets a translation of its own. */
  readonly used: Set<number>;
}

/** Region `n` of a module. */
interface Candidate {
  readonly shelved: Shelved;
  readonly n: number;
}

export class Shelf {
  private readonly store: BlockStore | undefined;
  private readonly compiler: ModuleCompiler;
  /** By how the region's entry begins. */
  private readonly candidates = new Map<number, Candidate[]>();

  constructor(compiler: ModuleCompiler, store?: BlockStore) {
    this.compiler = compiler;
    this.store = store;
    let read = 0;
    for (const [key, value] of store?.entries() ?? []) {
      this.shelve(key, value);
      read += value.length;
      if (read >= maxReadBytes) break;
    }
    for (const list of this.candidates.values())
      list.sort((a, b) => rankOf(b.shelved.module.kind) - rankOf(a.shelved.module.kind));
  }

  private shelve(key: string, value: Uint8Array): void {
    const wasmAt = unpackModule(value)?.wasmAt;
    if (wasmAt === undefined) return;
    // Only the header stays in memory.
    const header = value.slice(0, wasmAt);
    const isReady = this.compiler.isReady(key);
    const shelved: Shelved = { key, module: unpackModule(header)!, header, isReady, loaded: undefined };
    shelved.module.regions.forEach((region, n) => {
      for (const entry of region.entries) {
        const range = region.ranges.find((r) => r.at <= entry && entry < r.at + r.bytes.length);
        const begins = range && entryKey(entry, range.bytes, entry - range.at);
        if (begins === undefined) continue;
        const list = this.candidates.get(begins);
        if (list) list.push({ shelved, n });
        else this.candidates.set(begins, [{ shelved, n }]);
      }
    });
  }

  /** Regions that may have been made from the code at host address `code`, the best first. */
  beginningAt(u8: Uint8Array, code: number): readonly Candidate[] | undefined {
    if (this.candidates.size === 0) return undefined;
    const begins = entryKey(code % pageBytes, u8, code);
    return begins === undefined ? undefined : this.candidates.get(begins);
  }

  /** The WebAssembly of a stored module; throws when the store has it no more. */
  fetch({ key, header }: Shelved): Uint8Array {
    const value = this.store?.get(key);
    if (!value || !header.every((byte, at) => value[at] === byte)) throw new Error('gone');
    return value.subarray(header.length);
  }

  /** The module is of no use: none of its regions is offered again. */
  discard(shelved: Shelved): void {
    for (const [begins, list] of this.candidates)
      this.candidates.set(
        begins,
        list.filter((c) => c.shelved !== shelved),
      );
  }

  /** Compiled modules go, and are compiled again when they are wanted: what is kept loaded here would be in nobody's count. */
  unload(): void {
    for (const list of this.candidates.values()) for (const { shelved } of list) shelved.loaded = undefined;
  }
}
