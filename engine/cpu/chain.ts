// SPDX-License-Identifier: MIT
// The way from region to region of translated code, without going through the interpreter: by links, and by a table of where regions begin.

import {
  add,
  and,
  eqz,
  extendU,
  i32,
  i64,
  load,
  ltS,
  mul,
  ne,
  or,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../wasm/expr.ts';
import type { FunctionBuilder } from '../wasm/function.ts';
import type { ModuleBuilder, ModuleFunction } from '../wasm/module.ts';
import { Exit, RegionEnd } from './exits.ts';
import type { Hooks } from './hooks.ts';
import { RegionLink, RegionTable, ST, Tlb } from './layout.ts';
import { isMiss, tlbEntry } from './memory-functions.ts';

/** Parameters (state, budget) and result (remaining budget) of a region's function. */
export const regionParams = ['i32', 'i32'] as const;
export const regionResults = ['i32'] as const;

/** Parameters (state, budget, link) and result (remaining budget) of what regions end with, at `ChainPlace`. */
export const chainParams = ['i32', 'i32', 'i32'] as const;
export const chainResults = ['i32'] as const;

/** Number of the table of regions in modules that enter them. */
export const regionTable = 0;

/** Names under which the functions for `ChainPlace` are exported. */
export const chainExports = { goOn: 'chain', syscall: 'chainSyscall' } as const;

/** Bound expressions; `tlb` is what ST.tlb holds. */
export interface Way {
  readonly state: Expr;
  readonly tlb: Expr;
  readonly rip: Expr;
  readonly budget: Expr;
  /** Host address of a `RegionLink`, 0 = none. */
  readonly link: Expr;
}

/** The first two fields of a link to code at a host address. */
const codeNow = (state: Expr, host: Expr): Expr => or(extendU(host), load('i64.load', state, ST.linkEpoch));

/** Goes on at `rip` by a link, as a tail call, if the code there is still where it was and its region in use. `type`: of a region's function. */
export function followLink(f: FunctionBuilder, type: number, { state, tlb, rip, budget, link }: Way): void {
  f.block((slow) => {
    f.brIf(slow, or(eqz(link), ltS(budget, i32(0))));
    const entry = f.let(tlbEntry(tlb, rip));
    const page = f.let(and(rip, i64(-4096)));
    const host = add(wrap(rip), load('i32.load', entry, Tlb.exec + 8));
    // Differences of loads: V8 would fold them into XORs, and do them all the same.
    const isMoved = sub(load('i64.load', entry, Tlb.exec), or(rip, i64(0xfff)));
    const isOther = sub(load('i64.load', link, RegionLink.code), codeNow(state, host));
    f.brIf(slow, ne(or(isMoved, isOther), i64(0)));
    const number = f.let(load('i32.load', link, RegionLink.region));
    f.store('i64.store', state, page, ST.ripPage);
    f.store('i32.store', state, number, ST.region);
    f.returnCallIndirect(regionTable, type, number, state, budget);
  });
}

/** Makes the functions that translated code ends with: `chain` and `chainSyscall`. */
export function buildChain(module: ModuleBuilder, hooks: Hooks | undefined): void {
  const type = module.typeOf(regionParams, regionResults);
  const chain = buildLookUp(module, type);
  buildSyscall(module, chain, hooks);
}

/**
 * chain(state, budget, link) -> remaining budget: goes on at state.rip when that is a translated block, and notes it in the link (host address, 0 =
 * none); else returns as the region that called it.
 */
function buildLookUp(module: ModuleBuilder, type: number): ModuleFunction {
  const chain = module.function(chainParams, chainResults, chainExports.goOn);
  const f = chain.body;
  const [state, budget, link] = [f.param(0), f.param(1), f.param(2)];
  const target = f.let(load('i64.load', state, ST.rip));
  const tlb = f.let(load('i32.load', state, ST.tlb));
  followLink(f, type, { state, tlb, rip: target, budget, link });
  const entry = f.local('i32');
  const host = f.local('i32');
  const found = f.local('i64');
  f.block((stop) => {
    f.brIf(stop, ltS(budget, i32(0)));
    f.set(entry, tlbEntry(tlb, target));
    f.brIf(stop, isMiss(load('i64.load', entry, Tlb.exec), target));
    f.set(host, add(wrap(target), load('i32.load', entry, Tlb.exec + 8)));
    const place = f.let(shrU(host, i32(RegionTable.lowBits)));
    const set = and(xor(place, shrU(place, i32(RegionTable.hashShift))), i32(RegionTable.sets - 1));
    f.set(entry, add(state, mul(set, i32(RegionTable.ways * RegionTable.entryBytes))));
    const look = (way: number): void => {
      f.set(found, load('i64.load', entry, RegionTable.offset + way * RegionTable.entryBytes));
      if (way === RegionTable.ways - 1) f.brIf(stop, ne(wrap(found), host));
      else f.if(ne(wrap(found), host), () => look(way + 1));
    };
    look(0);
    f.store('i64.store', state, and(target, i64(-4096)), ST.ripPage);
    f.set(entry, wrap(shrU(found, i64(32))));
    f.store('i32.store', state, entry, ST.region);
    f.if(link, () => {
      f.store('i64.store', link, codeNow(state, host), RegionLink.code);
      f.store('i32.store', link, entry, RegionLink.region);
    });
    f.returnCallIndirect(regionTable, type, entry, state, budget);
  });
  f.store('i32.store', state, i32(RegionEnd.Jump), ST.regionEnd);
  f.return(budget);
  return chain;
}

/** chainSyscall(state, budget, link) -> remaining budget: the same behind SYSCALL, which goes to where the platform says or leaves `run`. */
function buildSyscall(module: ModuleBuilder, chain: ModuleFunction, hooks: Hooks | undefined): void {
  const { body: f } = module.function(chainParams, chainResults, chainExports.syscall);
  const [state, budget, link] = [f.param(0), f.param(1), f.param(2)];
  if (hooks) {
    f.block((leave) => {
      f.brIf(leave, load('i32.load', state, ST.holdHooks));
      f.brIf(leave, eqz(f.callExpr(hooks.enter, state, i32(Exit.Syscall))));
      f.returnCall(chain, state, budget, link);
    });
  }
  f.store('i32.store', state, i32(Exit.Syscall), ST.exitCode);
  f.store('i32.store', state, i32(RegionEnd.Leave), ST.regionEnd);
  f.return(budget);
}
