// SPDX-License-Identifier: MIT
// What a region checks when it is entered: that its further pages are where they were, and that SSE can be used.

import { add, and, i32, i64, load, ne, or, sub, wrap, xor, type Expr } from '../wasm/expr.ts';
import type { Local } from '../wasm/function.ts';
import { RegionEnd } from '../cpu/exits.ts';
import { ST, Tlb } from '../cpu/layout.ts';
import { Access, isMiss, tlbEntry } from '../cpu/memory-functions.ts';
import type { Helpers } from '../cpu/stage-base.ts';
import { Stamp } from './guards.ts';
import type { RegionState } from './region-state.ts';

/** Where a region finds what guards.ts says, as host addresses (i32 expressions): a run-time table, so that the code does not depend on where memory lies. */
export interface RegionGuards {
  /** Where they all begin: the region's code finds it first, and the others are relative to it. */
  readonly slots: Local;
  readonly stamp: Expr;
  /** The slots of further pages. */
  readonly pages: readonly { readonly delta: number; readonly slot: Expr }[];
}

/** Further pages must be mapped where the code was read; else nothing happens and the interpreter goes on. */
export function checkPages(state: RegionState, helpers: Helpers, { stamp, pages }: RegionGuards): void {
  const { f } = state;
  const at = f.let(stamp);
  const tag = f.let(or(state.page, load('i64.load', state.base, ST.asid)));
  // Looking for a page may lose another.
  const before = f.let(load('i64.load', state.base, ST.execEpoch));
  const differs = or(sub(load('i64.load', at, Stamp.tag), tag), sub(load('i64.load', at, Stamp.epoch), before));
  f.ifUnlikely(ne(differs, i64(0)), () => {
    for (const { delta, slot } of pages) checkPage(state, helpers, delta, slot);
    f.store('i64.store', at, tag, Stamp.tag);
    f.store('i64.store', at, before, Stamp.epoch);
  });
}

function checkPage(state: RegionState, helpers: Helpers, delta: number, slot: Expr): void {
  const { f } = state;
  f.scope(() => {
    const va = f.let(add(state.page, i64(delta * 4096)));
    const entry = f.let(tlbEntry(state.tlb, va));
    const isUnknown = isMiss(load('i64.load', entry, Tlb.exec), va);
    const host = f.local('i32');
    f.set(host, add(wrap(va), load('i32.load', entry, Tlb.exec + 8)));
    f.ifUnlikely(isUnknown, () => f.set(host, f.callExpr(helpers.hostPage, state.base, va, i32(Access.execute))));
    f.ifUnlikely(ne(host, load('i32.load', slot)), () => fallBack(state));
  });
}

/** SSE must be usable (CR0.EM and TS clear, CR4.OSFXSR set): the instructions do not check it again. */
export function checkSimd(state: RegionState): void {
  const { f, base } = state;
  const off = or(
    and(load('i32.load', base, ST.cr0), i32(0xc)),
    xor(and(load('i32.load', base, ST.cr4), i32(0x200)), i32(0x200)),
  );
  f.ifUnlikely(off, () => fallBack(state));
}

function fallBack({ f, base, budget }: RegionState): void {
  f.store('i32.store', base, add(load('i32.load', base, ST.regionMisfits), i32(1)), ST.regionMisfits);
  f.store('i32.store', base, i32(RegionEnd.Fallback), ST.regionEnd);
  f.return(budget);
}
