// SPDX-License-Identifier: MIT
// Code in front of a loop that only counts: does as many turns in one go as surely follow and the budget has left; the loop does the others.

import {
  add,
  eq,
  eqz,
  extendU,
  geU,
  gtU,
  i32,
  i64,
  leU,
  ltS,
  ltU,
  mul,
  ne,
  op,
  select,
  sub,
  wrap,
  xor,
  type Expr,
} from '../wasm/expr.ts';
import type { Local } from '../wasm/function.ts';
import type { Change, Comparison, CountingLoop, Limit, Relation, Value, Width } from './counting-loops.ts';
import type { RegionState } from './region-state.ts';

/** Fewer turns are sooner done than skipped. */
const fewTurns = 4n;

const compare = { eq, ne, ltU, leU, gtU, geU } as const;
type UnsignedRelation = keyof typeof compare;

const isSigned = (relation: Relation): boolean => relation.endsWith('S');
const unsigned = (relation: Relation): UnsignedRelation => relation.replace('S', 'U') as UnsignedRelation;

/** The lower bits of an i64. */
const cut = (value: Expr, bits: Width): Expr => (bits === 64 ? value : extendU(wrap(value)));

/** The lower `bits` of a value now. */
function valueOf(state: RegionState, value: Value, bits: Width): Expr {
  if (value.kind === 'constant') return i64(value.value);
  return cut(add(state.gpr(value.register), i64(value.by)), value.bits < bits ? value.bits : bits);
}

/** Both sides as unsigned numbers of that order: signed ones with their sign bits turned over. */
function sides(state: RegionState, { relation, bits, a, b }: Comparison): { readonly a: Expr; readonly b: Expr } {
  const side = (value: Value): Expr => {
    const number = valueOf(state, value, bits);
    return state.f.let(isSigned(relation) ? xor(number, i64(1n << BigInt(bits - 1))) : number);
  };
  return { a: side(a), b: side(b) };
}

/**
 * How far the counter may go with the comparison still true, if it is now, and without leaving its range: to the bound, or where it goes away from
 * that, to the end of the range.
 */
function room({ relation, bits, step }: Limit, a: Expr, b: Expr): Expr {
  if (relation === 'ne') return cut(step > 0n ? sub(b, a) : sub(a, b), bits);
  const goesUp = step > 0n;
  const isBelow = relation.startsWith('l');
  if (isBelow) return goesUp ? sub(b, a) : a;
  return goesUp ? sub(i64((1n << BigInt(bits)) - 1n), a) : sub(a, b);
}

function change(state: RegionState, turns: Expr, c: Change): void {
  const { f } = state;
  state.gprWritten[c.register] = 1;
  const target = state.gpr(c.register);
  if (c.kind === 'value') f.set(target, valueOf(state, c.value, 64));
  else f.set(target, cut(add(target, mul(turns, i64(c.step))), c.bits));
}

/**
 * Emits it: registers, budget. `isOnItsWay`: control is not to begin at the header, if that must be asked. `count`: code for each branch of the
 * turns, at the end of block `n`, which went one way so many times (i64).
 */
export function skipTurns(
  state: RegionState,
  loop: CountingLoop,
  isOnItsWay: Expr | undefined,
  count: (n: number, takes: boolean, turns: Expr) => void,
): void {
  const { f, budget } = state;
  const { conditions, limits, instructions, changes, path } = loop;
  f.scope(() =>
    f.block((done) => {
      const unless = (condition: Expr): void => f.brIf(done, eqz(condition));
      if (isOnItsWay) f.brIf(done, isOnItsWay);
      let turns: Local | undefined;
      const atMost = (most: Expr): void => {
        if (!turns) f.set((turns = f.local('i64')), most);
        else {
          const other = f.let(most);
          f.set(turns, select(ltU(turns, other), turns, other));
        }
      };
      // Behind its last branch a loop usually ends.
      for (const limit of [...limits].reverse()) {
        const { a, b } = sides(state, limit);
        if (limit.relation !== 'ne') unless(compare[unsigned(limit.relation)](a, b));
        const size = limit.step < 0n ? -limit.step : limit.step;
        const distance = f.let(room(limit, a, b));
        f.brIf(done, ltU(distance, i64(fewTurns * size)));
        atMost(size === 1n ? distance : op('i64.div_u', distance, i64(size)));
      }
      for (const condition of conditions) {
        const { a, b } = sides(state, condition);
        unless(compare[unsigned(condition.relation)](a, b));
      }
      f.brIf(done, ltS(budget, i32(instructions)));
      atMost(extendU(op('i32.div_u', budget, i32(instructions))));
      f.set(budget, sub(budget, mul(wrap(turns!), i32(instructions))));
      for (const c of changes) change(state, turns!, c);
      for (const { block, takes } of path) if (takes !== undefined) count(block, takes, turns!);
    }),
  );
}
