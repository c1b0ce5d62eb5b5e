// SPDX-License-Identifier: MIT
// Emits one region as a WebAssembly function (state, budget) -> remaining budget.

import { add, and, eq, extendU, i32, i64, load, ltS, ne, or, shl, shrU, sub, type Expr } from '../wasm/expr.ts';
import type { FunctionBuilder, Label, Local } from '../wasm/function.ts';
import { keepSpecimen } from '../specimens.ts';
import { RegionEnd } from '../cpu/exits.ts';
import type { FlagSet } from '../cpu/flag-sets.ts';
import { BranchSite, regionEntryOffset, regionSlotsOffset, ST } from '../cpu/layout.ts';
import type { Helpers, WasmStage } from '../cpu/stage-base.ts';
import { countingLoop } from './counting-loops.ts';
import { routes, type Routes, type Step } from './entries.ts';
import { checkPages, checkSimd, type RegionGuards } from './entry-checks.ts';
import { flagEffect, liveBehind, liveFlags } from './flag-effects.ts';
import { countTarget, poppedFrom, type Links } from './links.ts';
import { openAhead, writtenIn } from './loop-windows.ts';
import { nest, type Nesting } from './nesting.ts';
import type { OpenPlace } from './places.ts';
import {
  blocksBehind,
  shareOf,
  type Edge,
  type Region,
  type RegionBlock,
  type RegionInstruction,
  type Terminator,
} from './region.ts';
import { inLocals, RegionState, type OnMiss } from './region-state.ts';
import { skipTurns } from './skipped-turns.ts';
import { openStrips, type Strips } from './strips.ts';
import type { RegionExit } from './stage-memory.ts';
import { RegionStage } from './stage-region.ts';
import { structure, type Structure } from './structure.ts';
import { Forecast, rsp } from './windows.ts';

/** Host addresses (i32 expressions) of a region's counters: see profile.ts. */
export interface Counters {
  readonly computed: readonly Expr[];
  readonly branches: readonly Expr[];
  readonly entries: Expr | undefined;
}

const endBy: Readonly<Record<RegionExit, number>> = {
  recorded: RegionEnd.Leave,
  careful: RegionEnd.Careful,
  missed: RegionEnd.Missed,
};

/** Bits of a RegionEnd while it is on its way out. */
const endBits = 3;

const sameEdge = (a: Edge, b: Edge): boolean => a.kind === 'block' && b.kind === 'block' && a.to === b.to;

const usesSimd = (region: Region): boolean =>
  region.blocks.some((b) => b.instructions.some((i) => i.operands.some((o) => o.category === 'x')));

class Emitter {
  private readonly f: FunctionBuilder;
  private readonly region: Region;
  private readonly helpers: Helpers;
  private readonly state: RegionState;
  private readonly shape: Structure;
  /** Nodes that control may come to by several forward ways. */
  private readonly isMerge: boolean[];
  private readonly nesting: Nesting | undefined;
  private readonly routes: Routes;
  /** The number of the entry that control came in by and is on its way to, plus one; 0 = it got there. */
  private readonly entry: Local | undefined;
  /** The blocks behind each, and the flags that each needs in locals. */
  private readonly successors: readonly (readonly number[])[];
  private readonly live: readonly FlagSet[];
  private readonly budget: Local;
  private readonly exitRip: Local;
  private readonly exitEnd: Local;
  private readonly condition: Local;
  private readonly forecast: Forecast;
  /** Where the computed jump that control leaves by keeps count of its targets; 0 = another way out. */
  private readonly site: Local;
  private readonly links: Links;
  /** The link of the way that control leaves by, 0 = none. */
  private readonly link: Local;
  /** Counters by block, and that of entries. */
  private readonly sites: ReadonlyMap<number, Expr>;
  private readonly branchSites: ReadonlyMap<number, Expr>;
  private readonly entries: Expr | undefined;
  private exit: Label = { depth: 0 };
  private readonly blockLabels = new Map<number, Label>();
  private readonly loops = new Map<number, { readonly label: Label; readonly strips: Strips | undefined }>();
  /** By node that forward branches lead to: what each has open. */
  private readonly ways = new Map<number, OpenPlace[][]>();
  /** By node that one branch leads to: goes back to what is known there. */
  private readonly resume = new Map<number, () => void>();

  constructor(f: FunctionBuilder, region: Region, counters: Counters, links: Links, helpers: Helpers, onMiss: OnMiss) {
    this.f = f;
    this.region = region;
    this.links = links;
    this.helpers = helpers;
    this.budget = f.param(1);
    this.exitRip = f.permanentLocal('i64');
    this.exitEnd = f.permanentLocal('i32');
    this.condition = f.permanentLocal('i32');
    this.site = f.permanentLocal('i32');
    this.link = f.permanentLocal('i32');
    const byBlock = (kind: Terminator['kind'], slots: readonly Expr[]) => {
      const blocks = region.blocks.flatMap((b, n) => (b.terminator.kind === kind ? [n] : []));
      return new Map(slots.map((slot, k) => [blocks[k]!, slot]));
    };
    this.sites = byBlock('dynamic', counters.computed);
    this.branchSites = byBlock('branch', counters.branches);
    this.entries = counters.entries;
    this.state = new RegionState(f, onMiss, (type) => f.permanentLocal(type));
    const successors = region.blocks.map(blocksBehind);
    this.successors = successors;
    this.live = liveFlags(region, successors);
    this.routes = routes(successors, region.entries);
    this.shape = structure(this.routes.graph);
    this.nesting = nest(successors, this.routes.graph, this.shape, (from, to) => shareOf(region.blocks[from]!, to));
    if (this.nesting) {
      this.routes = routes(this.nesting.successors, region.entries, (from, to) => this.leadsTo(from, to));
      this.shape = structure(this.routes.graph);
    }
    this.entry = region.entries.length === 1 ? undefined : f.permanentLocal('i32');
    this.isMerge = [...this.shape.isMerge];
    // A step beside an edge of the code: one edge of the graph, but two ways.
    for (const [from, steps] of this.routes.steps)
      for (const { to } of steps)
        if ((this.nesting?.successors ?? successors)[from]?.includes(to)) this.isMerge[to] = true;
    this.forecast = new Forecast(
      region,
      (n) => this.isStart(n),
      (n) => successors[n]!.filter((to) => !this.isStart(to) && !this.isBroken(n, this.leadsTo(n, to))),
    );
  }

  /** Control may come to the block from several places. */
  private isStart(n: number): boolean {
    return this.region.entries.includes(n) || this.isMerge[n]! || this.shape.isLoop[n]!;
  }

  /** Where an edge of the code leads to in the graph. */
  private leadsTo(from: number, to: number): number {
    return this.nesting?.leadsTo(from, to) ?? to;
  }

  /** The block that a node of the graph is, or leads to. */
  private blockOf(node: number): number {
    return this.nesting?.blockOf(node) ?? node;
  }

  private isBroken(from: number, to: number): boolean {
    return this.shape.broken.has(`${from}>${to}`);
  }

  emit(guards: RegionGuards): void {
    const { f, state } = this;
    f.block((exit) => {
      this.exit = exit;
      this.tree(this.routes.graph.root);
    });
    // Instructions of the last block that did not happen are in the upper bits: see `leave`.
    f.set(this.budget, add(this.budget, shrU(this.exitEnd, i32(endBits))));
    f.set(this.exitEnd, and(this.exitEnd, i32((1 << endBits) - 1)));
    state.storeAll();
    f.store('i64.store', state.base, this.exitRip, ST.rip);
    f.if(this.exitEnd, () => {
      if (this.region.blocks.some((b) => b.terminator.kind === 'syscall')) {
        f.if(eq(this.exitEnd, i32(RegionEnd.Syscall)), () => this.links.goOnBySyscall(state, this.budget, this.link));
      }
      f.store('i32.store', state.base, this.exitEnd, ST.regionEnd);
      f.return(this.budget);
    });
    if (this.sites.size > 0) f.if(this.site, () => f.scope(() => countTarget(f, this.site, this.exitRip)));
    f.scope(() => this.links.goOn(state, this.exitRip, this.budget, this.link, this.region.isSettled));
    f.prologue(() => {
      const number = load('i32.load', state.base, ST.region);
      f.set(guards.slots, load('i32.load', add(state.base, shl(number, i32(2))), regionSlotsOffset));
      f.set(state.page, load('i64.load', state.base, ST.ripPage));
      f.set(state.tlb, load('i32.load', state.base, ST.tlb));
      if (guards.pages.length > 0) f.scope(() => checkPages(state, this.helpers, guards));
      if (usesSimd(this.region)) checkSimd(state);
      const { entries, entry } = this;
      if (entries) f.scope(() => this.countIn(entries));
      if (entry) {
        f.set(entry, add(load('i32.load8_u', add(state.base, number), regionEntryOffset), i32(1)));
      }
      state.loadAll(this.region.entries.some((n) => this.live[n] !== 0));
    });
  }

  private countIn(slot: Expr): void {
    const at = this.f.let(slot);
    this.f.store('i32.store', at, add(load('i32.load', at), i32(1)));
  }

  /** Notes where the branch that ends a block goes: one addition to both fields of its `BranchSite`. `taken` of these `times` it is taken. */
  private countBranch(n: number, taken: Expr, times: Expr): void {
    const { f } = this;
    const slot = this.branchSites.get(n);
    if (!slot) return;
    f.scope(() => {
      const at = f.let(slot);
      const step = add(shl(taken, i64(8 * BranchSite.taken)), times);
      f.store('i64.store', at, add(load('i64.load', at), step));
    });
  }

  /**
   * A node and what it dominates (Ramsey, "Beyond Relooper"): loops around headers, a block per merge node. What a loop leads on to lies behind it,
   * because V8 keeps a value in a loop for each local that is written between its begin and end, and moves it along.
   */
  private tree(node: number): void {
    const { isMerge } = this;
    const { children, isLoop, behind } = this.shape;
    const within = () =>
      this.before(
        children[node]!.filter((c) => isMerge[c]),
        () => this.node(node),
      );
    if (!isLoop[node]) {
      within();
      return;
    }
    this.before(behind[node]!, () => {
      const { strips, end } = this.beginLoop(node);
      const loop = () =>
        this.f.loop((label) => {
          this.loops.set(node, { label, strips });
          within();
          this.loops.delete(node);
        });
      if (strips) strips.emit(() => this.leave(this.region.blocks[node]!.at, endBy.missed), loop);
      else loop();
      end();
    });
  }

  /** Code of a node begins: known is what the one way there knows, or what all ways have open. `block`: the one that it is, or leads to. */
  private begin(n: number, block: RegionBlock): void {
    const { state } = this;
    this.resume.get(n)?.();
    if (!this.isStart(n)) return;
    const ways = this.isMerge[n] ? (this.ways.get(n) ?? []) : [state.places.open()];
    state.begin(ways, (register) => this.forecast.atStart(block, register));
  }

  /** Before a loop: what is known then, and what can be found out, as far as it holds in each of its turns. */
  private beginLoop(header: number): { readonly strips?: Strips | undefined; readonly end: () => void } {
    const { state, region, shape } = this;
    const { places } = state;
    const block = region.blocks[this.blockOf(header)]!;
    this.begin(header, block);
    const blocks = region.blocks.filter((_, n) => shape.loops[n]!.includes(header));
    const written = writtenIn(blocks);
    places.forget(written);
    this.skipTurns(header);
    // Where control may be on its way to an entry inside, the header's accesses are not certain.
    const isCertain = header < region.blocks.length && !this.routes.steps.has(header);
    if (!isCertain || state.onMiss !== 'leave') return { end: places.pin() };
    openAhead(state, block, written, () => this.leave(block.at, endBy.missed));
    return { strips: openStrips(state, region, shape, header, blocks, written), end: places.pin() };
  }

  /** Before a loop that only counts: does most of its turns. */
  private skipTurns(header: number): void {
    const { region, shape, entry } = this;
    if (header >= region.blocks.length) return;
    const loop = countingLoop(region, header, (from, to) => {
      const node = this.leadsTo(from, to);
      if (this.isBroken(from, node) || !shape.loops[node]!.includes(header)) return undefined;
      if (node === header) return 'round';
      return node === to && shape.order[node]! > shape.order[from]! ? 'on' : undefined;
    });
    if (!loop) return;
    const own = region.entries.indexOf(header);
    const isOnItsWay =
      entry && this.routes.steps.has(header) ? and(ne(entry, i32(0)), ne(entry, i32(own + 1))) : undefined;
    skipTurns(this.state, loop, isOnItsWay, (n, takes, turns) => this.countBranch(n, takes ? turns : i64(0), turns));
  }

  /** Emits `body`, which may branch to `nodes` (last in reverse postorder first), and these. */
  private before([last, ...rest]: readonly number[], body: () => void): void {
    if (last === undefined) {
      body();
      return;
    }
    this.f.block((label) => {
      this.blockLabels.set(last, label);
      this.before(rest, body);
      this.blockLabels.delete(last);
    });
    this.tree(last);
  }

  /** Goes on towards the entry that control came in by. */
  private enter(entry: Local, from: number, steps: readonly Step[]): void {
    const [first, ...others] = steps;
    const isFor = ({ entries }: Step) => entries.map((n) => eq(entry, i32(n + 1))).reduce((a, b) => or(a, b));
    for (const step of others) this.f.if(isFor(step), () => this.state.branching(() => this.take(entry, from, step)));
    this.take(entry, from, first!);
  }

  /** The last step tells that control has arrived, unless that is still asked there. */
  private take(entry: Local, from: number, { entries, to }: Step): void {
    if (this.region.entries[entries[0]!] === to && !this.routes.steps.has(to)) this.f.set(entry, i32(0));
    this.goTo(from, to);
  }

  /** Control has come to a header, which may be where it was to enter, or on the way there. In a loop that is asked each time: once, for both. */
  private arrive(entry: Local, n: number, steps: readonly Step[]): void {
    const { f } = this;
    const own = this.region.entries.indexOf(n);
    const goOn = () => this.state.branching(() => this.enter(entry, n, steps));
    f.ifUnlikely(entry, () => (own < 0 ? goOn() : f.if(eq(entry, i32(own + 1)), () => f.set(entry, i32(0)), goOn)));
  }

  private node(n: number): void {
    const { f, state, entry } = this;
    const steps = this.routes.steps.get(n);
    if (entry && n === this.routes.graph.root) {
      this.enter(entry, n, steps!);
      return;
    }
    if (entry && steps) this.arrive(entry, n, steps);
    if (n >= this.region.blocks.length) {
      this.goTo(n, this.blockOf(n));
      return;
    }
    const block = this.region.blocks[n]!;
    const { terminator } = block;
    const last = block.instructions[block.instructions.length - 1]!;
    // Of a loop's header that was done before the loop.
    if (!this.shape.isLoop[n]) this.begin(n, block);
    let target: Local | undefined;
    state.forgetPending();
    f.set(this.budget, sub(this.budget, i32(block.instructions.length)));
    let comparison: WasmStage['comparison'];
    let wroteLazily = false;
    for (const [position, i] of block.instructions.entries()) {
      const { insn } = i.entry;
      const effect = flagEffect(i);
      const { isLazy: lazy } = effect;
      const eager = !lazy && effect.isWriter;
      if (eager) state.settle();
      // May have written flags when it faults; they were needed here, so they are in their locals whatever happens.
      if (effect.mayWrite !== 0) f.set(state.recipe, i32(inLocals));
      f.openScope();
      const stage = new RegionStage(state, i, this.helpers, lazy, comparison, (at, exit) =>
        this.leave(at, endBy[exit], block.instructions.length - position),
      );
      insn.run(keepSpecimen(stage));
      if (eager) f.set(state.recipe, i32(inLocals));
      wroteLazily = eager ? false : wroteLazily || effect.isWriter;
      comparison = stage.lastComparison;
      if (stage.transfer.condition) f.set(this.condition, stage.transfer.condition);
      if (stage.transfer.target) {
        target = f.permanentLocal('i64');
        f.set(target, stage.transfer.target);
      }
      for (const { register, position: to } of this.forecast.behind(i)) state.places.expect(register, to.reach);
      state.closeInstruction(
        !comparison ? [] : 'result' in comparison ? [comparison.result] : [comparison.a, comparison.b],
      );
    }
    if (wroteLazily) state.keepRecipe(liveBehind(this.successors[n]!, this.live));
    state.forgetPending();
    state.releaseHeld();
    state.vectors.settle();
    switch (terminator.kind) {
      case 'next':
        this.go(n, terminator.next);
        return;
      case 'jump':
        this.go(n, terminator.target);
        return;
      case 'call':
        if (terminator.target.kind === 'leave') this.expectReturn(last);
        this.go(n, terminator.target);
        return;
      case 'branch':
        this.countBranch(n, extendU(ne(this.condition, i32(0))), i64(1));
        // A branch to the next instruction: what follows must not be emitted on both sides, or a row of them doubles at each.
        if (sameEdge(terminator.taken, terminator.next)) {
          this.go(n, terminator.next);
          return;
        }
        f.if(
          this.condition,
          () => state.branching(() => this.go(n, terminator.taken)),
          () => this.go(n, terminator.next),
        );
        return;
      case 'syscall':
        f.set(this.link, this.links.from(last.at));
        this.leave(terminator.next, RegionEnd.Syscall);
        return;
      case 'dynamic':
        for (const c of terminator.candidates) {
          f.if(eq(target!, add(state.page, i64(c.at))), () =>
            state.branching(() => this.go(n, { kind: 'block', to: c.to })),
          );
        }
        if (this.sites.has(n)) f.set(this.site, this.sites.get(n)!);
        this.linkComputed(last);
        f.set(this.exitRip, target!);
        f.set(this.exitEnd, i32(RegionEnd.Jump));
        f.br(this.exit);
    }
  }

  /** The region is left by a call, and may be entered again where that returns to. */
  private expectReturn(i: RegionInstruction): void {
    this.links.expectReturn(this.state, this.state.gpr(rsp), i.at + i.length);
  }

  /** Which way the computed jump, call or return is likely to go. */
  private linkComputed(i: RegionInstruction): void {
    const { name } = i.entry.insn;
    if (name === 'call-indirect') this.expectReturn(i);
    const link =
      name === 'ret' ? this.links.usualReturn(this.state, poppedFrom(this.state.gpr(rsp))) : this.links.from(i.at);
    this.f.set(this.link, link);
  }

  /** Follows an edge out of block `from`. */
  private go(from: number, edge: Edge): void {
    if (edge.kind === 'leave') this.leaveTo(edge.at);
    else this.goTo(from, this.leadsTo(from, edge.to));
  }

  /** Follows an edge of the graph. */
  private goTo(from: number, to: number): void {
    const { at } = this.region.blocks[this.blockOf(to)]!;
    if (this.isBroken(from, to)) {
      this.leaveTo(at);
      return;
    }
    const { order } = this.shape;
    if (order[to]! <= order[from]!) {
      const { label, strips } = this.loops.get(to)!;
      this.f.ifUnlikely(ltS(this.budget, strips?.limit ?? i32(0)), () => {
        if (strips) strips.next(() => this.leave(at, RegionEnd.Jump));
        else this.leave(at, RegionEnd.Jump);
      });
      this.f.br(label);
      return;
    }
    const label = this.blockLabels.get(to);
    if (!label) {
      this.tree(to);
      return;
    }
    const ways = this.ways.get(to);
    if (!this.isMerge[to]) this.resume.set(to, this.state.mark());
    else if (ways) ways.push(this.state.places.open());
    else this.ways.set(to, [this.state.places.open()]);
    this.f.br(label);
  }

  /** Goes on outside of the region. */
  private leaveTo(at: number): void {
    this.f.set(this.link, this.links.to(at));
    this.leave(at, RegionEnd.Jump);
  }

  /** Leaves the region; the block's last `undone` instructions, which were counted already, have not happened. */
  private leave(at: number, end: number, undone = 0): void {
    this.state.vectors.merge();
    this.f.set(this.exitRip, add(this.state.page, i64(at)));
    this.f.set(this.exitEnd, i32(end | (undone << endBits)));
    this.f.br(this.exit);
  }
}

/**
 * Fills `f` (a function of type `regionParams`) with the region's code. `counters`: none for a region that nothing more is to be learned from.
 */
export function emitRegion(
  f: FunctionBuilder,
  region: Region,
  guards: RegionGuards,
  counters: Counters,
  links: Links,
  helpers: Helpers,
  onMiss: OnMiss,
): void {
  new Emitter(f, region, counters, links, helpers, onMiss).emit(guards);
}
