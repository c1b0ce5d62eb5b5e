// SPDX-License-Identifier: MIT
// Guest state of a region under construction: which registers live in locals, what they are relative to, and what the flags are.

import { ByteSink } from '../wasm/bytes.ts';
import { and, eq, extendU, i32, i64, load, LocalValue, sub, type Expr } from '../wasm/expr.ts';
import type { FunctionBuilder, Label, Local } from '../wasm/function.ts';
import type { ValType } from '../wasm/opcodes.ts';
import { ST } from '../cpu/layout.ts';
import { flagBit, type FlagSet } from '../cpu/flag-sets.ts';
import { flagNames, flagSlots, type FlagName } from '../cpu/stage-base.ts';
import { Control } from '../x86/simd-float.ts';
import { Magnitudes } from './magnitudes.ts';
import { Vectors } from './vectors.ts';
import { Places, type OpenPlace, type Place } from './places.ts';
import type { RegionInstruction } from './region.ts';
import type { Reach } from './windows.ts';

type LocalName = { readonly index: number; readonly type: ValType };

/** Notes the locals that an expression reads. */
class ReadLocals extends ByteSink {
  /** Few, as a rule: sooner searched than put into a set. */
  private readonly indices: number[] = [];

  constructor(values: Iterable<Expr>) {
    super();
    for (const value of values) value.emit(this);
  }

  has(local: LocalName): boolean {
    return this.indices.includes(local.index);
  }

  override byte(): void {}
  override raw(): void {}
  override opcode(): void {}
  override u32(): void {}
  override s32(): void {}
  override s64(): void {}
  override localGet(local: LocalName): void {
    if (!this.indices.includes(local.index)) this.indices.push(local.index);
  }
}

/** Writes an expression with other locals in place of its own. */
class Substitution extends ByteSink {
  replace: (local: LocalName) => LocalName = (local) => local;
  override localGet(local: LocalName): void {
    super.localGet(this.replace(local));
  }
}

/** Values of `RegionState.recipe`. */
export const inMemory = 0;
export const inLocals = 1;
export const firstRecipe = 2;

/** How to compute flags from operands that were put aside: code over the operand locals. */
export interface Recipe {
  readonly flags: readonly { readonly name: FlagName; readonly value: Expr }[];
}

/** Pieces of the flags as expressions over bound values. */
export type Pieces = ReadonlyMap<FlagName, Expr>;
const noPieces: Pieces = new Map();

interface Move {
  readonly from: Local;
  readonly to: Local;
}

/** What a description's control transfer became; the region emitter turns it into branches. */
export interface Transfer {
  /** Condition of a conditional branch (bound). */
  condition?: Expr;
  /** Computed target (bound, i64). */
  target?: Expr;
}

/**
 * What code does where the TLB does not know an address, or a number is out of the ordinary (see magnitudes.ts). `leave`: the interpreter goes on;
 * without calls on the way the code is half as large, and V8 compiles it in half the time. `call`: for code that often misses addresses; it leaves
 * for numbers only. `stay`: for code that still leaves often; it does everything itself.
 */
export type OnMiss = 'leave' | 'call' | 'stay';

export class RegionState {
  readonly f: FunctionBuilder;
  readonly onMiss: OnMiss;
  readonly base: Local;
  readonly budget: Local;
  readonly gprs: (Local | undefined)[] = new Array<Local | undefined>(16).fill(undefined);
  readonly gprWritten = new Uint8Array(16);
  readonly vectors: Vectors;
  private flagLocals: Record<FlagName, Local> | undefined;
  flagsWritten = false;
  /** Pieces of the flags that are not in their locals yet. */
  private pieces = new Map<FlagName, Expr>();
  /** Somebody may keep the map: it does not change any more. */
  private isGiven = false;
  /** The locals that they read. */
  private readByPieces = new ReadLocals([]);
  private readOf: Pieces = noPieces;
  /** What was put aside last. */
  private aside: { readonly pieces: Pieces; readonly moves: readonly Move[]; readonly number: number } | undefined;
  /** Linear address of the entry page. */
  readonly page: Local;
  /** Bank of TLBs of the current address space. */
  readonly tlb: Local;
  /** Where the flags are: `inMemory` as on entry, `inLocals`, or which recipe they are in, counted from `firstRecipe`. */
  readonly recipe: Local;
  /** Recipes in use, as many as there are different ones. */
  readonly recipes: Recipe[] = [];
  private readonly recipeNumbers = new Map<string, number>();
  private readonly substitution = new Substitution();
  private readonly operands = new Map<ValType, Local[]>();
  private readonly newLocal: (type: ValType) => Local;
  private held: Local[] = [];
  /** Where registers point. */
  readonly places: Places;
  /** By instruction of the loop being emitted, where its operand in memory is found: see strips.ts. To be asked right before the access. */
  readonly streams = new Map<RegionInstruction, () => Place>();

  constructor(f: FunctionBuilder, onMiss: OnMiss, newLocal: (type: ValType) => Local) {
    this.f = f;
    this.onMiss = onMiss;
    this.base = f.param(0);
    this.budget = f.param(1);
    this.newLocal = newLocal;
    this.vectors = new Vectors(f, this.base, newLocal);
    this.places = new Places(() => newLocal('i32'));
    this.page = newLocal('i64');
    this.tlb = newLocal('i32');
    this.recipe = newLocal('i32');
  }

  gpr(n: number): Local {
    return (this.gprs[n] ??= this.newLocal('i64'));
  }

  /** MXCSR as it was on entry or after the last host operation. */
  get mxcsr(): Local {
    return (this.mxcsrLocal ??= this.newLocal('i32'));
  }
  private mxcsrLocal: Local | undefined;

  /** All ones (i64) when MXCSR asks for nothing that WebAssembly's arithmetic does not give. */
  get fastSse(): Local {
    return (this.fastSseLocal ??= this.newLocal('i64'));
  }
  private fastSseLocal: Local | undefined;

  /** After MXCSR may have changed. (The locals may come into being later in the code that is emitted, but earlier in time.) */
  loadMxcsr(): void {
    const { f } = this;
    f.set(this.mxcsr, load('i32.load', this.base, ST.mxcsr));
    const isFast = eq(and(this.mxcsr, i32(Control.select)), i32(Control.fast));
    f.set(this.fastSse, sub(i64(0), extendU(isFast)));
  }

  /** Sizes of floating-point numbers; undefined where code does not leave for those that are out of the ordinary. */
  get magnitudes(): Magnitudes | undefined {
    if (this.onMiss === 'stay') return undefined;
    return (this.knownMagnitudes ??= new Magnitudes());
  }
  private knownMagnitudes: Magnitudes | undefined;

  get flags(): Record<FlagName, Local> {
    return (this.flagLocals ??= Object.fromEntries(
      flagNames.map((name) => [name, this.newLocal(flagSlots[name][0])]),
    ) as Record<FlagName, Local>);
  }

  /** Code begins to which these ways lead; `reach`: what each register will be used to reach there. */
  begin(ways: readonly (readonly OpenPlace[])[], reach: (register: number) => Reach | undefined): void {
    this.places.begin(ways, reach);
    this.knownMagnitudes?.forget();
  }

  /** Notes what is known of the registers now; calling the result goes back to it. */
  mark(): () => void {
    const restorePlaces = this.places.mark();
    const { knownMagnitudes } = this;
    const restoreMagnitudes = knownMagnitudes?.mark();
    return () => {
      restorePlaces();
      this.knownMagnitudes = knownMagnitudes;
      restoreMagnitudes?.();
    };
  }

  /** Does `body` and goes back to what is known of the registers now: for one of several ways on. */
  branching(body: () => void): void {
    const restore = this.mark();
    body();
    restore();
  }

  // Locals of flags and comparisons that outlive the instruction which made them.

  /** Ends the scope of an instruction: what pending flags and `others` read stays. */
  closeInstruction(others: readonly Expr[]): void {
    const { pending } = this;
    if (this.readOf !== pending) {
      this.readOf = pending;
      this.readByPieces = new ReadLocals(pending.values());
    }
    const readByOthers = others.length > 0 ? new ReadLocals(others) : undefined;
    const stays = (l: Local) => this.readByPieces.has(l) || readByOthers?.has(l) === true;
    const kept = this.f.closeScope(stays);
    for (const l of this.held) {
      if (stays(l)) kept.push(l);
      else this.f.release(l);
    }
    this.held = kept;
  }

  /** At the end of a block: nothing outlives it. */
  releaseHeld(): void {
    for (const l of this.held) this.f.release(l);
    this.held = [];
  }

  // Flags.

  /** The pieces of the flags that are not in their locals yet: the same map until they change. */
  get pending(): Pieces {
    this.isGiven = true;
    return this.pieces;
  }

  pendingFlag(name: FlagName): Expr | undefined {
    return this.pieces.get(name);
  }

  setPending(name: FlagName, value: Expr): void {
    if (this.isGiven) this.pieces = new Map(this.pieces);
    this.isGiven = false;
    this.pieces.set(name, value);
  }

  forgetPending(): void {
    if (this.pieces.size === 0) return;
    this.pieces = new Map();
    this.isGiven = false;
  }

  /** Moves pending pieces into their locals, where all flags are then: whatever was not pending had been needed there. */
  settle(): void {
    if (this.pieces.size === 0) return;
    for (const [name, value] of this.pieces) this.f.set(this.flags[name], value);
    this.f.set(this.recipe, i32(inLocals));
    this.forgetPending();
  }

  /** At the end of a block: pieces that the next blocks need go into their locals, the rest becomes a recipe. */
  keepRecipe(needed: FlagSet): void {
    const rest = new Map<FlagName, Expr>();
    for (const [name, value] of this.pieces) {
      if (needed & flagBit[name]) this.f.set(this.flags[name], value);
      else rest.set(name, value);
    }
    this.putAside(rest);
  }

  /** On a way out of the region: `pieces` are what `pending` was when the instruction began. */
  leaveRecipe(pieces: Pieces): void {
    if (pieces.size > 0) this.putAside(pieces);
  }

  /** Keeps the operands of flags, and how to compute them; equal recipes share their number and their operands' places. */
  private putAside(pieces: Pieces): void {
    if (pieces.size === 0) {
      this.f.set(this.recipe, i32(inLocals));
      return;
    }
    // Several accesses behind one comparison: each may leave the region with the same pieces.
    this.aside = this.aside?.pieces === pieces ? this.aside : { pieces, ...this.recipeOf(pieces) };
    for (const { from, to } of this.aside.moves) this.f.set(to, from);
    this.f.set(this.recipe, i32(this.aside.number));
  }

  private recipeOf(pieces: Pieces): { readonly moves: readonly Move[]; readonly number: number } {
    const used = new Map<ValType, number>();
    const replaced = new Map<number, Move>();
    const replace = (from: LocalName): LocalName => {
      const known = replaced.get(from.index);
      if (known) return known.to;
      const n = used.get(from.type) ?? 0;
      used.set(from.type, n + 1);
      const to = this.operand(from.type, n);
      replaced.set(from.index, { from: new LocalValue(from.index, from.type), to });
      return to;
    };
    const { substitution } = this;
    substitution.replace = replace;
    substitution.clear();
    const ends = [...pieces.values()].map((value) => {
      value.emit(substitution);
      return substitution.length;
    });
    const key = `${[...pieces.keys()].join()}:${ends.join()}:${substitution.text()}`;
    let number = this.recipeNumbers.get(key);
    if (number === undefined) {
      const code = substitution.bytes();
      const flags = [...pieces].map(([name, { type }], k) => {
        const own = code.subarray(ends[k - 1] ?? 0, ends[k]);
        return { name, value: { type, emit: (out: ByteSink) => out.raw(own) } };
      });
      number = firstRecipe - 1 + this.recipes.push({ flags });
      this.recipeNumbers.set(key, number);
    }
    return { moves: [...replaced.values()], number };
  }

  private operand(type: ValType, n: number): Local {
    const list = this.operands.get(type) ?? [];
    this.operands.set(type, list);
    return (list[n] ??= this.newLocal(type));
  }

  // Entry and exit.

  /** Loads what the region uses: for the function's prologue. `withFlags`: some are looked at before they are written. */
  loadAll(withFlags: boolean): void {
    const { f, base } = this;
    this.gprs.forEach((l, n) => l && f.set(l, load('i64.load', base, ST.gpr + 8 * n)));
    this.vectors.loadAll();
    if (this.mxcsrLocal || this.fastSseLocal) this.loadMxcsr();
    const flags = this.flagLocals;
    if (flags && withFlags)
      for (const name of flagNames) f.set(flags[name], load(`${flagSlots[name][0]}.load`, base, flagSlots[name][1]));
  }

  /** Writes back what the region may have changed. */
  storeAll(): void {
    const { f, base } = this;
    this.gprs.forEach((l, n) => l && this.gprWritten[n] && f.store('i64.store', base, l, ST.gpr + 8 * n));
    this.vectors.storeAll();
    this.storeFlags();
  }

  /** Puts the flags where the interpreter looks for them; nothing happens where none was written. */
  private storeFlags(): void {
    const { f, base, recipes } = this;
    const flags = this.flagLocals;
    if (!flags || !this.flagsWritten) return;
    f.block((done) => {
      f.block((settled) => {
        const labels: Label[] = [];
        for (let n = 0; n < recipes.length; n++) labels.unshift(f.openBlock());
        f.brTable(this.recipe, [done, settled, ...labels], done);
        for (const recipe of recipes) {
          f.endBlock();
          for (const { name, value } of recipe.flags) f.set(flags[name], value);
          f.br(settled);
        }
      });
      for (const name of flagNames) f.store(`${flagSlots[name][0]}.store`, base, flags[name], flagSlots[name][1]);
    });
  }
}
