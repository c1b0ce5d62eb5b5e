// SPDX-License-Identifier: MIT
// Ways from region to region that need no look-up: each way out of a region remembers which one was behind it the last time.

import { followLink, regionTable } from '../cpu/chain.ts';
import { ChainPlace, ReturnLinks, Site } from '../cpu/layout.ts';
import { add, and, i32, i64, load, ne, shl, shrU, sub, wrap, type Expr } from '../wasm/expr.ts';
import type { FunctionBuilder } from '../wasm/function.ts';
import type { RegionState } from './region-state.ts';

/** Numbers of the types of regions and of what they end with (`ChainPlace`), in their module. */
export interface FunctionTypes {
  readonly region: number;
  readonly chain: number;
}

/** The links of one region (see `RegionLink`), in the order in which they are asked for. */
export class Links {
  private readonly types: FunctionTypes;
  private readonly most: number;
  private readonly addressOf: (n: number) => Expr;
  private readonly numbers = new Map<string, number>();

  /** `most`: links that there is room for; `addressOf`: host address (i32) of the n-th. */
  constructor(types: FunctionTypes, most: number, addressOf: (n: number) => Expr) {
    this.types = types;
    this.most = most;
    this.addressOf = addressOf;
  }

  get total(): number {
    return this.numbers.size;
  }

  /** The link to code at an address relative to the entry page. */
  to(at: number): Expr {
    return this.link(`to ${at}`);
  }

  /** The link of the computed jump or call at a relative address. */
  from(at: number): Expr {
    return this.link(`from ${at}`);
  }

  /** Ways out for which there is no room left have none (0). */
  private link(key: string): Expr {
    let n = this.numbers.get(key);
    if (n === undefined) {
      if (this.numbers.size >= this.most) return i32(0);
      this.numbers.set(key, (n = this.numbers.size));
    }
    return this.addressOf(n);
  }

  /** Behind a call that leaves the region: what it has pushed at `stack` (i64) leads to relative address `at`. */
  expectReturn({ f, base }: RegionState, stack: Expr, at: number): void {
    f.store('i32.store', placeOf(base, stack), this.to(at), ReturnLinks.offset);
  }

  /** The link of the way that a return probably goes; `stack`: where it found its address. */
  usualReturn({ base }: RegionState, stack: Expr): Expr {
    return load('i32.load', placeOf(base, stack), ReturnLinks.offset);
  }

  /**
   * Goes on at `rip`, and never returns. The look at the link is worth its code in a region that has learned what it can (`isSettled`); of those that still learn there are
   * many, and they leave it to `chain`.
   */
  goOn(state: RegionState, rip: Expr, budget: Expr, link: Expr, isSettled: boolean): void {
    const { f, base, tlb } = state;
    if (isSettled) followLink(f, this.types.region, { state: base, tlb, rip, budget, link });
    f.returnCallIndirect(regionTable, this.types.chain, i32(ChainPlace.goOn), base, budget, link);
  }

  /** Ends with a SYSCALL, and never returns. */
  goOnBySyscall({ f, base }: RegionState, budget: Expr, link: Expr): void {
    f.returnCallIndirect(regionTable, this.types.chain, i32(ChainPlace.syscall), base, budget, link);
  }
}

/** Counts where a computed jump goes, at its `Site`. */
export function countTarget(f: FunctionBuilder, site: Expr, rip: Expr): void {
  const isOther = ne(load('i64.load', site, Site.target), rip);
  const counter = f.let(add(site, shl(isOther, i32(2))));
  f.store('i64.store', site, rip, Site.target);
  f.store('i32.store', counter, add(load('i32.load', counter, Site.same), i32(1)), Site.same);
}

/** Offset of what is remembered for a return address at `stack`, in the state block, less that of the table. */
function placeOf(base: Expr, stack: Expr): Expr {
  return add(base, and(shrU(wrap(stack), i32(1)), i32(ReturnLinks.bytes - 4)));
}

/** Where a return found its address, when that was all that it popped. */
export const poppedFrom = (stackPointer: Expr): Expr => sub(stackPointer, i64(8));
