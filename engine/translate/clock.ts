// SPDX-License-Identifier: MIT
// The time-stamp counter in translated code: the host's clock, asked at most about every two microseconds (Intel SDM volume 2, RDTSC).

import { add, and, bound, extendU, eqz, i32, load, ltU, shrU, sub, type Expr } from '../wasm/expr.ts';
import { ST } from '../cpu/layout.ts';
import type { RegionState } from './region-state.ts';

/** Instructions for which the host's clock need not be read again: about two microseconds. */
const freshFor = 4096;
/** CR4.TSD. */
const timeStampDisable = 4;

/**
 * The counter as a bound i64. The host's clock lies behind JavaScript (`ask` brings it to the state block, or faults): guests that ask again
 * within a few instructions are told what it said plus the time that these take at the least.
 */
export function readClock({ f, base, budget }: RegionState, ask: () => void): Expr {
  const value = f.local('i64');
  f.scope(() => {
    const passed = f.let(sub(load('i32.load', base, ST.timeBudget), budget));
    const isAllowed = eqz(and(load('i32.load', base, ST.cr4), i32(timeStampDisable)));
    f.if(
      and(ltU(passed, i32(freshFor)), isAllowed),
      () => {
        f.set(value, add(load('i64.load', base, ST.timeStamp), extendU(shrU(passed, i32(2)))));
        f.store('i64.store', base, value, ST.timeGiven);
      },
      () => {
        ask();
        f.set(value, load('i64.load', base, ST.timeStamp));
        f.store('i32.store', base, budget, ST.timeBudget);
      },
    );
  });
  return bound(value);
}
