// SPDX-License-Identifier: MIT
// XMM registers of a region under construction: a vector each, and the low lane beside it while scalar instructions work on that.

import { extractLane, i64, load, add, op, replaceLane, type Expr } from '../wasm/expr.ts';
import type { FunctionBuilder, Local } from '../wasm/function.ts';
import type { ValType } from '../wasm/opcodes.ts';
import { ST } from '../cpu/layout.ts';

type Scalar = 'f32' | 'f64';

/** The low lane as a float. */
interface Low {
  readonly type: Scalar;
  readonly local: Local;
  /** It has been written since; the vector still has what was there before. */
  isAhead: boolean;
}

const shapes = { f32: 'f32x4', f64: 'f64x2' } as const;

/** A vector's lowest lane. */
const lowest = (type: Scalar, vector: Expr): Expr => extractLane(`${shapes[type]}.extract_lane`, vector, 0);

export class Vectors {
  private readonly f: FunctionBuilder;
  private readonly base: Local;
  private readonly newLocal: (type: ValType) => Local;
  private readonly locals: (Local | undefined)[] = new Array<Local | undefined>(16).fill(undefined);
  private readonly written = new Uint8Array(16);
  private readonly lowLocals = new Map<string, Local>();
  private readonly lows: (Low | undefined)[] = new Array<Low | undefined>(16).fill(undefined);
  private readonly constants = new Map<bigint, Local>();

  constructor(f: FunctionBuilder, base: Local, newLocal: (type: ValType) => Local) {
    this.f = f;
    this.base = base;
    this.newLocal = newLocal;
  }

  private local(n: number): Local {
    return (this.locals[n] ??= this.newLocal('v128'));
  }

  private merged(n: number, low: Low): Expr {
    return replaceLane(`${shapes[low.type]}.replace_lane`, this.local(n), 0, low.local);
  }

  /** Register `n`. `isCertain`: the code that asks runs whenever the instruction does. */
  read(n: number, isCertain: boolean): Expr {
    const low = this.lows[n];
    if (!low?.isAhead) return this.local(n);
    if (!isCertain) return this.merged(n, low);
    this.f.set(this.local(n), this.merged(n, low));
    low.isAhead = false;
    return this.local(n);
  }

  /** The low lane of register `n`. */
  readLow(n: number, type: Scalar, isCertain: boolean): Expr {
    const low = this.lows[n];
    return low?.type === type ? low.local : lowest(type, this.read(n, isCertain));
  }

  write(n: number, value: Expr, isCertain: boolean): void {
    this.written[n] = 1;
    this.f.set(this.local(n), value);
    const low = this.lows[n];
    if (isCertain) this.lows[n] = undefined;
    else if (low) this.f.set(low.local, lowest(low.type, this.local(n)));
  }

  writeLow(n: number, value: Expr, isCertain: boolean): void {
    const type = value.type as Scalar;
    const before = this.lows[n];
    // Half of a double is replaced: the other half is in that only.
    if (!isCertain || (before?.isAhead && before.type === 'f64' && type === 'f32')) {
      this.write(n, replaceLane(`${shapes[type]}.replace_lane`, this.read(n, isCertain), 0, value), isCertain);
      return;
    }
    this.written[n] = 1;
    this.local(n);
    const key = `${type}${n}`;
    const local = this.lowLocals.get(key) ?? this.newLocal(type);
    this.lowLocals.set(key, local);
    this.f.set(local, value);
    this.lows[n] = { type, local, isAhead: true };
  }

  /** Puts the low lanes back, on a way out of the region. */
  merge(): void {
    this.lows.forEach((low, n) => low?.isAhead && this.f.set(this.local(n), this.merged(n, low)));
  }

  /** At the end of a block: what comes next looks at the vectors. */
  settle(): void {
    this.merge();
    this.lows.fill(undefined);
  }

  /** The same 64 bits in both halves of a local. V8 makes constants anew wherever they are used, with three instructions. */
  constant(value: bigint): Local {
    const local = this.constants.get(value) ?? this.newLocal('v128');
    this.constants.set(value, local);
    return local;
  }

  /** For the function's prologue. */
  loadAll(): void {
    const { f, base } = this;
    this.locals.forEach((l, n) => l && f.set(l, load('v128.load', base, ST.xmm + 16 * n)));
    for (const [value, local] of this.constants)
      f.set(local, op('i64x2.splat', add(load('i64.load', base, ST.zero), i64(value))));
  }

  /** Writes back what the region may have changed. */
  storeAll(): void {
    const { f, base } = this;
    this.locals.forEach((l, n) => l && this.written[n] && f.store('v128.store', base, l, ST.xmm + 16 * n));
  }
}
