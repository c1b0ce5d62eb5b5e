// SPDX-License-Identifier: MIT
// What is known of the sizes of floating-point numbers in XMM registers, so that the same number is not looked at by each instruction that uses it.

import { eqz, type Expr } from '../wasm/expr.ts';
import type { FunctionBuilder } from '../wasm/function.ts';
import type { Bound, Bounds } from '../x86/simd-bounds.ts';
import type { Shape } from '../x86/simd-float.ts';

/** Double words of an XMM register. Each value that such a part may have has a number: copies have the same. */
const slots = 4;
const registers = 16;

/** A number by its parts: sign and exponent are in the first; a single has but one. */
interface Lane {
  readonly upper: number;
  readonly lower: number;
}

export class Magnitudes {
  private values = new Array<number>(registers * slots).fill(0);
  private newest = 0;
  /** By the upper part of the number. */
  private bounds = new Map<number, { readonly lower: number; readonly bound: Bound }>();
  /** MXCSR has been found to ask for nothing that WebAssembly's arithmetic does not give. */
  isFast = false;

  constructor() {
    this.forget();
  }

  /** A value of which nothing is known. */
  fresh(): number {
    return ++this.newest;
  }

  /** Nothing is known any more: control may come from several places. */
  forget(): void {
    for (let n = 0; n < this.values.length; n++) this.values[n] = this.fresh();
    this.bounds.clear();
    this.isFast = false;
  }

  /** Numbers of the values in the low `bits` of a register, by double words. */
  read(register: number, bits: number): readonly number[] {
    const from = register * slots;
    return this.values.slice(from, from + bits / 32);
  }

  /** The low `bits` of a register change: to `values` by double words, or to something unknown. */
  write(register: number, bits: number, values: readonly (number | undefined)[] | undefined): void {
    for (let n = 0; n < bits / 32; n++) this.values[register * slots + n] = values?.[n] ?? this.fresh();
  }

  boundOf({ upper, lower }: Lane): Bound | undefined {
    const known = this.bounds.get(upper);
    return known?.lower === lower ? known.bound : undefined;
  }

  setBound({ upper, lower }: Lane, bound: Bound): void {
    this.bounds.set(upper, { lower, bound });
  }

  /** Notes what is known now; calling the result goes back to it. */
  mark(): () => void {
    const { isFast } = this;
    const values = this.values.slice();
    const bounds = new Map(this.bounds);
    return () => {
      this.values = values;
      this.bounds = bounds;
      this.isFast = isFast;
    };
  }
}

/** What the state of a region offers besides: MXCSR and constants. */
export interface BoundsOwner {
  readonly f: FunctionBuilder;
  /** i64, 0 when MXCSR asks for more than WebAssembly's arithmetic gives. */
  readonly fastSse: Expr;
  readonly vectors: { constant(value: bigint): Expr };
}

/** The knowledge as one instruction sees it: of the operands that it reads, and of what it makes of them. */
export class InstructionBounds implements Bounds {
  private readonly magnitudes: Magnitudes;
  private readonly state: BoundsOwner;
  /** What is found out now holds behind the instruction; in code that may be passed by it does not. */
  private readonly isCertain: () => boolean;
  readonly leave: () => void;
  private readonly values = new Map<Expr, readonly number[]>();

  constructor(magnitudes: Magnitudes, state: BoundsOwner, isCertain: () => boolean, leave: () => void) {
    this.magnitudes = magnitudes;
    this.state = state;
    this.isCertain = isCertain;
    this.leave = leave;
  }

  constant(value: bigint): Expr {
    return this.state.vectors.constant(value);
  }

  /** `value` has been read from the low `bits` of a register. */
  hasRead(value: Expr, register: number, bits: number): void {
    this.values.set(value, this.magnitudes.read(register, bits));
  }

  /** `value` is written to them. */
  writes(value: Expr, register: number, bits: number): void {
    this.magnitudes.write(register, bits, this.isCertain() ? this.valuesOf(value) : undefined);
  }

  private valuesOf(value: Expr): readonly (number | undefined)[] | undefined {
    const { shuffled } = value;
    if (!shuffled) return this.values.get(value);
    const [a, b] = [this.values.get(shuffled.a), this.values.get(shuffled.b)];
    return Array.from({ length: slots }, (_, n) => {
      const from = shuffled.indices[4 * n]!;
      const isWhole = from % 4 === 0 && [1, 2, 3].every((k) => shuffled.indices[4 * n + k] === from + k);
      return isWhole ? (from < 16 ? a : b)?.[(from % 16) / 4] : undefined;
    });
  }

  private lanes(shape: Shape, value: Expr): Lane[] {
    const step = shape.double ? 2 : 1;
    let known = this.values.get(value);
    if (!known || known.length < shape.lanes * step) {
      known = Array.from({ length: shape.lanes * step }, () => this.magnitudes.fresh());
      this.values.set(value, known);
    }
    return Array.from({ length: shape.lanes }, (_, n) => ({
      upper: known[n * step + step - 1]!,
      lower: known[n * step]!,
    }));
  }

  of(shape: Shape, value: Expr): Bound | undefined {
    const bounds = this.lanes(shape, value).map((lane) => this.magnitudes.boundOf(lane));
    return bounds.reduce((all, one) => {
      if (!all || !one) return undefined;
      const exponent = Math.max(all.exponent, one.exponent);
      return { exponent, isNonZero: all.isNonZero && one.isNonZero };
    }, bounds[0]);
  }

  set(shape: Shape, value: Expr, bound: Bound): void {
    if (this.isCertain()) for (const lane of this.lanes(shape, value)) this.magnitudes.setBound(lane, bound);
  }

  needFastControl(): void {
    if (this.magnitudes.isFast) return;
    this.state.f.ifUnlikely(eqz(this.state.fastSse), () => this.leave());
    if (this.isCertain()) this.magnitudes.isFast = true;
  }
}
