// SPDX-License-Identifier: MIT
// Functions beside the interpreter's main one: segment checks, addresses of 16 and 32 bits, the search for decoded code, the way from block to block.

import {
  add,
  and,
  eq,
  eqz,
  extendU,
  gtU,
  i32,
  i64,
  leU,
  load,
  ltS,
  ltU,
  ne,
  or,
  select,
  shl,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../wasm/expr.ts';
import type { FunctionBuilder, Local } from '../wasm/function.ts';
import type { ModuleBuilder, ModuleFunction } from '../wasm/module.ts';
import { Exit } from './exits.ts';
import { BlockHeader, JumpTable, Link, Seg, SegmentFault, ST, Uop } from './layout.ts';
import { special } from './catalog.ts';
import type { Main } from './interpreter.ts';
import type { Helpers } from './stage-base.ts';

const generalProtection = 13;

/** Value of a link whose target lies in another page: the mapping may change, so it is looked up every time. */
export const crossPage = 1;

/** (state, segment, offset, bytes, write) -> linear address or -1: limit and type checks outside 64-bit mode (Intel SDM volume 3, section 5.3). */
export function buildSegment(module: ModuleBuilder): ModuleFunction {
  const fn = module.function(['i32', 'i32', 'i32', 'i32', 'i32'], ['i64']);
  const f = fn.body;
  const [s, segment, offset, bytes, write] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
  const attributes = f.let(load('i32.load', add(s, shl(segment, i32(2))), ST.segAttr));
  const limit = f.let(load('i32.load', add(s, shl(segment, i32(2))), ST.segLimit));
  const last = f.let(sub(add(offset, bytes), i32(1)));
  const bad = f.local('i32');
  const code = and(shrU(attributes, i32(3)), i32(1));
  const typeBit = (n: number) => and(shrU(attributes, i32(n)), i32(1));
  f.set(bad, eqz(and(attributes, i32(0x80))));
  // Bit 1: writable data or readable code; code is never written.
  f.if(
    write,
    () => f.set(bad, or(bad, or(code, eqz(typeBit(1))))),
    () => f.set(bad, or(bad, and(code, eqz(typeBit(1))))),
  );
  f.if(
    and(eqz(code), typeBit(2)),
    () => {
      // Expand-down: valid above the limit, up to 64 KiB or 4 GiB.
      const top = f.let(or(sub(i32(0), typeBit(10)), i32(0xffff)));
      f.set(bad, or(bad, or(or(leU(offset, limit), gtU(last, top)), ltU(last, offset))));
    },
    () => f.set(bad, or(bad, or(gtU(last, limit), ltU(last, offset)))),
  );
  f.if(bad, () => {
    f.store('i32.store', s, add(i32(generalProtection), sub(i32(0), eq(segment, i32(Seg.ss)))), ST.vector);
    f.store('i32.store', s, i32(0), ST.errorCode);
    f.store('i32.store', s, i32(SegmentFault.checked), ST.segmentFault);
    f.store('i32.store', s, i32(Exit.Exception), ST.exitCode);
    f.return(i64(-1));
  });
  const base = load('i64.load', add(s, shl(segment, i32(3))), ST.segBase);
  f.return(and(add(base, extendU(offset)), i64(0xffffffffn)));
  return fn;
}

/** Sets `entry` to the jump-table entry for code at a host address; `unknown` leaves where there is none. */
export function findJump(f: FunctionBuilder, entry: Local, state: Expr, host: Expr, unknown: () => void): void {
  const place = f.let(shrU(host, i32(JumpTable.lowBits)));
  const set = and(xor(place, shrU(place, i32(JumpTable.hashShift))), i32(JumpTable.sets - 1));
  f.set(entry, add(load('i32.load', state, ST.jumpTable), shl(set, i32(4))));
  // Differences, not comparisons: V8 would fold the load into one, and do it all the same.
  f.ifUnlikely(sub(load('i32.load', entry), host), () => {
    f.set(entry, add(entry, i32(8)));
    f.ifUnlikely(sub(load('i32.load', entry), host), unknown);
  });
}

/** The step in front of a record whose address has 16 or 32 bits: fills ST.ea, and checks the segment where the step says how many bytes are meant. */
export function narrowAddress(main: Main, helpers: Helpers, mask: bigint): void {
  const { f, state, pc } = main;
  const slot = (field: number) => load('i64.load', add(state, load('i32.load8_u', pc, field)));
  const sum = add(
    add(slot(Uop.base), shl(slot(Uop.index), extendU(load('i32.load8_u', pc, Uop.scale)))),
    load('i64.load32_s', pc, Uop.disp),
  );
  const offset = f.let(wrap(and(sum, i64(mask))));
  const bytes = f.let(load('i32.load16_u', pc, Uop.r0));
  f.if(
    eqz(bytes),
    () => f.store('i64.store', state, extendU(offset), ST.ea),
    () => {
      const segment = shrU(sub(load('i32.load8_u', pc, Uop.seg), i32(ST.segBase)), i32(3));
      const linear = f.let(
        f.callExpr(helpers.segment, state, segment, offset, bytes, load('i32.load16_u', pc, Uop.r1)),
      );
      f.brIf(main.leaveAtStart, eq(linear, i64(-1)));
      f.store('i64.store', state, linear, ST.ea);
    },
  );
  f.set(pc, add(pc, i32(16)));
  f.br(main.next);
}

/** So many instructions have retired. Returns what is left of the budget. */
export function spend({ f, state }: Main, count: Expr): Expr {
  const left = f.let(sub(load('i32.load', state, ST.budget), count));
  f.store('i32.store', state, left, ST.budget);
  return left;
}

/** At the beginning of a block, does what the header of most does: that spares a dispatch. */
export function passHeader({ f, pc, next }: Main): void {
  f.brIfUnlikely(next, ne(load('i32.load16_u', pc), i32(special.entry)));
  const left = f.let(sub(load('i32.load', pc, BlockHeader.entriesLeft), i32(1)));
  f.brIfUnlikely(next, ltS(left, i32(0)));
  f.store('i32.store', pc, left, BlockHeader.entriesLeft);
  f.set(pc, add(pc, i32(BlockHeader.bytes)));
}

/** Goes on along a link of the record at `pc`. `taken`: always, never, or when this is true (i32). */
export function followLink(main: Main, linkAt: number, taken: boolean | Expr): void {
  const { f, pc, link, follow } = main;
  const go = (isTaken: boolean): void => {
    f.set(link, add(pc, i32(linkAt + (isTaken ? 0 : Link.notTaken - Link.taken))));
    f.br(follow);
  };
  if (typeof taken === 'boolean') go(taken);
  else {
    // A branch here, too: the processor predicts what follows by it.
    f.if(taken, () => go(true));
    go(false);
  }
}

/**
 * What `followLink` leads to, once for all handlers, whose code is the shorter for it: counts which way it goes, checks the budget, and goes on at the
 * linked record or leaves to be linked. `link`: address of the record's link part, 4 more when the branch is not taken.
 */
export function buildFollow(main: Main): void {
  const { f, pc, state, code, link } = main;
  const part = f.let(and(link, i32(-8)));
  const to = f.let(load('i32.load', link, Link.taken));
  f.store('i32.store', link, add(load('i32.load', link, Link.timesTaken), i32(1)), Link.timesTaken);
  const left = spend(main, load('i32.load16_u', part, Link.count));
  f.block((slow) => {
    f.brIfUnlikely(slow, leU(to, i32(crossPage)));
    f.brIfUnlikely(slow, ltS(left, i32(0)));
    f.set(pc, to);
    passHeader(main);
    f.br(main.next);
  });
  const isTaken = f.let(eq(link, part));
  const next = f.let(add(load('i64.load', state, ST.ripPage), extendU(load('i32.load16_u', part, Link.next))));
  const distance = select(isTaken, load('i64.load32_s', part, Link.rel), i64(0));
  f.store('i64.store', state, add(next, distance), ST.rip);
  f.if(eq(to, i32(crossPage)), () => {
    f.set(main.count, i32(0));
    f.br(main.dispatchRip);
  });
  f.set(code, select(isTaken, i32(Exit.LinkTaken), i32(Exit.LinkNotTaken)));
  f.br(main.leave);
}
