// SPDX-License-Identifier: MIT
// Reads and writes of a vCPU's state block in generated functions: fields, general registers, the RFLAGS image.

import { Exit } from '../../cpu/exits.ts';
import { ST } from '../../cpu/layout.ts';
import {
  add,
  and,
  extendU,
  f64,
  i32,
  i64,
  load,
  ltS,
  op,
  or,
  select,
  shl,
  shrU,
  sub,
  xor,
  type Expr,
} from '../../wasm/expr.ts';
import type { FunctionBuilder, Local } from '../../wasm/function.ts';
import { Flag } from '../guest-cpu.ts';

/** The status flags, which are kept in pieces (cpu/layout.ts); the other flags are in ST.sysFlags. */
const STATUS_FLAGS = 0x8d5;

export class Fields {
  readonly f: FunctionBuilder;
  /** Host address of the state block. */
  readonly s: Local;

  constructor(f: FunctionBuilder, s: Local) {
    this.f = f;
    this.s = s;
  }

  get(offset: number): Expr {
    return load('i32.load', this.s, offset);
  }

  get64(offset: number): Expr {
    return load('i64.load', this.s, offset);
  }

  set(offset: number, value: Expr): void {
    this.f.store('i32.store', this.s, value, offset);
  }

  set64(offset: number, value: Expr): void {
    this.f.store('i64.store', this.s, value, offset);
  }

  gpr(register: number): Expr {
    return this.get64(ST.gpr + register * 8);
  }

  setGpr(register: number, value: Expr): void {
    this.set64(ST.gpr + register * 8, value);
  }

  /** Adds 1 to a counter, an f64 at `offset` plus 8 times `index`. */
  count(offset: number, index: Expr = i32(0)): void {
    const at = this.f.let(add(this.s, shl(index, i32(3))));
    this.f.store('f64.store', at, op('f64.add', load('f64.load', at, offset), f64(1)), offset);
  }

  /** Leaves the function with 0 if `condition`: the fast path does not apply. */
  unless(condition: Expr): void {
    this.f.if(condition, () => this.f.return(i32(0)));
  }

  /** Remembers the current page-table root and its bank of TLBs; the result puts them back. */
  saveRoot(): () => void {
    const words = [ST.root, ST.rootMfn, ST.asid, ST.tlb] as const;
    const saved = words.map((offset) => this.f.let(this.get(offset)));
    return () => words.forEach((offset, i) => this.set(offset, saved[i]!));
  }

  /** Remembers the exception that the state block holds; the result puts it back and leaves the function with 0, for the other path to see to it. */
  keepException(): () => void {
    const words = [ST.vector, ST.errorCode] as const;
    const kept = words.map((offset) => this.f.let(this.get(offset)));
    const cr2 = this.f.let(this.get64(ST.cr2));
    return () => {
      words.forEach((offset, i) => this.set(offset, kept[i]!));
      this.set64(ST.cr2, cr2);
      this.set(ST.exitCode, i32(Exit.Exception));
      this.set(ST.segmentFault, i32(0));
      this.f.return(i32(0));
    };
  }

  /** The architectural RFLAGS image (i32, not bound). */
  flags(): Expr {
    const bit = (condition: Expr, flag: number): Expr => select(condition, i32(flag), i32(0));
    const parity = and(op('i32.popcnt', and(this.get(ST.fp), i32(0xff))), i32(1));
    const status = or(
      or(bit(this.get(ST.fc), 1), bit(op('i32.eqz', parity), 4)),
      or(and(this.get(ST.fa), i32(0x10)), bit(op('i64.eqz', this.get64(ST.fz)), 0x40)),
    );
    const signs = or(bit(ltS(this.get64(ST.fs), i64(0)), 0x80), bit(ltS(this.get(ST.fo), i32(0)), 0x800));
    return or(or(status, signs), or(this.get(ST.sysFlags), i32(Flag.fixed)));
  }

  /** Sets all flags from an image (bound i32). */
  setFlags(image: Expr): void {
    const bit = (shift: number): Expr => and(shrU(image, i32(shift)), i32(1));
    this.set(ST.sysFlags, or(and(image, i32(~STATUS_FLAGS)), i32(Flag.fixed)));
    this.set(ST.fc, and(image, i32(1)));
    this.set(ST.fp, xor(bit(2), i32(1)));
    this.set(ST.fa, and(image, i32(0x10)));
    this.set64(ST.fz, extendU(xor(bit(6), i32(1))));
    this.set64(ST.fs, sub(i64(0), extendU(bit(7))));
    this.set(ST.fo, shl(bit(11), i32(31)));
  }
}
