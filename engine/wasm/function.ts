// SPDX-License-Identifier: MIT
// Builder of one WebAssembly function body: locals, structured control flow, stores and calls (core specification 2.0, section 5.4).

import { ByteSink } from './bytes.ts';
import { add, isBound, LocalValue, type Expr } from './expr.ts';
import { stores, valTypeCode, type ValType } from './opcodes.ts';

/** A local variable; reading it is an expression. */
export type Local = LocalValue;

/** A branch target opened by `block` or `loop`. */
export interface Label {
  readonly depth: number;
}

/** What can be called: an import or a function of the same module. */
export interface Callee {
  readonly index: number;
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

export class FunctionBuilder {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
  private readonly locals: ValType[] = [];
  private readonly free = new Map<ValType, Local[]>();
  private scopes: Local[][] = [[]];
  private depth = 0;
  private prologueStart = 0;
  private codeStart = 0;
  private prologueCode: ByteSink | undefined;
  /** Offsets in `code` of branches that are rarely taken, and the same in the prologue. */
  private unlikely: number[] = [];
  private prologueUnlikely: readonly number[] = [];
  private code = new ByteSink();

  constructor(params: readonly ValType[], results: readonly ValType[]) {
    this.params = params;
    this.results = results;
  }

  param(index: number): Local {
    const type = this.params[index];
    if (!type) throw new Error(`no parameter ${index}`);
    return new LocalValue(index, type);
  }

  /** A fresh local that lives to the end of the enclosing `scope` (whole function at top level); zero only if never used before. */
  local(type: ValType): Local {
    const reused = this.free.get(type)?.pop();
    const result = reused ?? new LocalValue(this.params.length + this.locals.push(type) - 1, type);
    this.scopes[this.scopes.length - 1]!.push(result);
    return result;
  }

  /** A fresh local that no scope takes back. */
  permanentLocal(type: ValType): Local {
    return new LocalValue(this.params.length + this.locals.push(type) - 1, type);
  }

  /** Locals made inside `body` may be reused after it. */
  scope(body: () => void): void {
    this.openScope();
    body();
    this.closeScope();
  }

  /** Opens what `closeScope` closes: for scopes that are not nested in the program's own structure. */
  openScope(): void {
    this.scopes.push([]);
  }

  /** Ends the scope opened last. Locals that `keep` names are returned instead of being reused: `release` them one day. */
  closeScope(keep?: (local: Local) => boolean): Local[] {
    const kept: Local[] = [];
    for (const l of this.scopes.pop()!) {
      if (keep?.(l)) kept.push(l);
      else this.release(l);
    }
    return kept;
  }

  /** The local may be used for something else. */
  release(local: Local): void {
    const list = this.free.get(local.type);
    if (list) list.push(local);
    else this.free.set(local.type, [local]);
  }

  set(local: Local, value: Expr): void {
    if (local.type !== value.type) throw new Error(`local.set: ${local.type} local, ${value.type} value`);
    value.emit(this.code);
    this.code.byte(0x21);
    this.code.u32(local.index);
  }

  /** Computes `value` once into a fresh local. What cannot change is returned as it is: constants, and values bound before. */
  let(value: Expr): Expr {
    if (isBound(value)) return value;
    const l = this.local(value.type);
    this.set(l, value);
    return new LocalValue(l.index, l.type, true, undefined, value.from);
  }

  store(name: string, address: Expr, value: Expr, offset = 0): void {
    const info = stores[name];
    if (!info) throw new Error(`unknown store ${name}`);
    const [prefix, code, type] = info;
    if (address.type !== 'i32' || value.type !== type)
      throw new Error(`${name}: address ${address.type}, value ${value.type}`);
    address.emit(this.code);
    value.emit(this.code);
    this.code.opcode(prefix, code);
    this.code.u32(0);
    this.code.u32(offset);
  }

  /** Blocks that are open. */
  get nesting(): number {
    return this.depth;
  }

  private nest(opcode: number, body: (label: Label) => void): void {
    this.code.byte(opcode);
    this.code.byte(0x40);
    this.depth++;
    body({ depth: this.depth });
    this.depth--;
    this.code.byte(0x0b);
  }

  /** `br` to the label leaves the block. */
  block(body: (label: Label) => void): void {
    this.nest(0x02, body);
  }

  /** `br` to the label starts over. */
  loop(body: (label: Label) => void): void {
    this.nest(0x03, body);
  }

  /** Opens a block whose end is given by `endBlock`: for nests whose depth is only known at run time. */
  openBlock(): Label {
    this.code.byte(0x02);
    this.code.byte(0x40);
    this.depth++;
    return { depth: this.depth };
  }

  /** The same for a loop: `br` to the label starts over. */
  openLoop(): Label {
    this.code.byte(0x03);
    this.code.byte(0x40);
    this.depth++;
    return { depth: this.depth };
  }

  /** Ends what `openBlock` or `openLoop` opened last. */
  endBlock(): void {
    this.depth--;
    this.code.byte(0x0b);
  }

  if(condition: Expr, then: () => void, otherwise?: () => void): void {
    if (condition.type !== 'i32') throw new Error('if: condition must be i32');
    condition.emit(this.code);
    this.code.byte(0x04);
    this.code.byte(0x40);
    this.depth++;
    then();
    if (otherwise) {
      this.code.byte(0x05);
      otherwise();
    }
    this.depth--;
    this.code.byte(0x0b);
  }

  /** `if` whose condition is rarely true: the engine is told to keep it off the straight path. */
  ifUnlikely(condition: Expr, then: () => void, otherwise?: () => void): void {
    if (condition.type !== 'i32') throw new Error('if: condition must be i32');
    condition.emit(this.code);
    this.unlikely.push(this.code.length);
    this.code.byte(0x04);
    this.code.byte(0x40);
    this.depth++;
    then();
    if (otherwise) {
      this.code.byte(0x05);
      otherwise();
    }
    this.depth--;
    this.code.byte(0x0b);
  }

  /** Writes code that runs before everything else, although it is known only now. Once per function. */
  prologue(write: () => void): void {
    const { code, unlikely } = this;
    this.code = new ByteSink();
    this.unlikely = [];
    write();
    this.prologueCode = this.code;
    this.prologueUnlikely = this.unlikely;
    this.code = code;
    this.unlikely = unlikely;
  }

  br(label: Label): void {
    this.code.byte(0x0c);
    this.code.u32(this.depth - label.depth);
  }

  brIf(label: Label, condition: Expr): void {
    if (condition.type !== 'i32') throw new Error('br_if: condition must be i32');
    condition.emit(this.code);
    this.code.byte(0x0d);
    this.code.u32(this.depth - label.depth);
  }

  /** `brIf` that is rarely taken. */
  brIfUnlikely(label: Label, condition: Expr): void {
    if (condition.type !== 'i32') throw new Error('br_if: condition must be i32');
    condition.emit(this.code);
    this.unlikely.push(this.code.length);
    this.code.byte(0x0d);
    this.code.u32(this.depth - label.depth);
  }

  brTable(index: Expr, labels: readonly Label[], otherwise: Label): void {
    index.emit(this.code);
    this.code.byte(0x0e);
    this.code.u32(labels.length);
    for (const l of labels) this.code.u32(this.depth - l.depth);
    this.code.u32(this.depth - otherwise.depth);
  }

  return(...values: Expr[]): void {
    for (const v of values) v.emit(this.code);
    this.code.byte(0x0f);
  }

  unreachable(): void {
    this.code.byte(0x00);
  }

  /** A call for its value (exactly one result), as an expression. */
  callExpr(callee: Callee, ...args: Expr[]): Expr {
    const [type] = callee.results;
    if (callee.results.length !== 1 || !type) throw new Error('callExpr: callee must have one result');
    this.checkArgs(callee, args);
    return {
      type,
      emit: (out) => {
        for (const a of args) a.emit(out);
        out.byte(0x10);
        out.u32(callee.index);
      },
    };
  }

  /** A call as a statement: results are dropped. */
  call(callee: Callee, ...args: Expr[]): void {
    this.checkArgs(callee, args);
    for (const a of args) a.emit(this.code);
    this.code.byte(0x10);
    this.code.u32(callee.index);
    for (let i = 0; i < callee.results.length; i++) this.code.byte(0x1a);
  }

  /** A call through a table; `type` from `ModuleBuilder.typeOf`. The function must have one i32 result. */
  callIndirect(table: number, type: number, index: Expr, ...args: Expr[]): Expr {
    return {
      type: 'i32',
      emit: (out) => {
        for (const a of args) a.emit(out);
        index.emit(out);
        out.byte(0x11);
        out.u32(type);
        out.u32(table);
      },
    };
  }

  private checkArgs(callee: Callee, args: readonly Expr[]): void {
    if (args.length !== callee.params.length)
      throw new Error(`call: ${args.length} arguments, needs ${callee.params.length}`);
    callee.params.forEach((type, i) => {
      if (args[i]!.type !== type) throw new Error(`call: argument ${i} is ${args[i]!.type}, needs ${type}`);
    });
  }

  /** Tail call: this function's frame is gone, its results are the callee's. */
  returnCall(callee: Callee, ...args: Expr[]): void {
    this.checkArgs(callee, args);
    for (const a of args) a.emit(this.code);
    this.code.byte(0x12);
    this.code.u32(callee.index);
  }

  /** Tail call through a table. */
  returnCallIndirect(table: number, type: number, index: Expr, ...args: Expr[]): void {
    for (const a of args) a.emit(this.code);
    index.emit(this.code);
    this.code.byte(0x13);
    this.code.u32(type);
    this.code.u32(table);
  }

  memoryCopy(to: Expr, from: Expr, length: Expr): void {
    for (const e of [to, from, length]) e.emit(this.code);
    this.code.raw([0xfc, 10, 0, 0]);
  }

  memoryFill(to: Expr, value: Expr, length: Expr): void {
    for (const e of [to, value, length]) e.emit(this.code);
    this.code.raw([0xfc, 11, 0]);
  }

  /** `i32 += n` on a local. */
  increment(local: Local, by: Expr): void {
    this.set(local, add(local, by));
  }

  /** The encoded body: locals, code, end. */
  encode(): ByteSink {
    const out = new ByteSink();
    const runs: [number, ValType][] = [];
    for (const type of this.locals) {
      const last = runs[runs.length - 1];
      if (last && last[1] === type) last[0]++;
      else runs.push([1, type]);
    }
    out.u32(runs.length);
    for (const [count, type] of runs) {
      out.u32(count);
      out.byte(valTypeCode[type]);
    }
    this.prologueStart = out.length;
    if (this.prologueCode) out.append(this.prologueCode);
    this.codeStart = out.length;
    out.append(this.code);
    out.byte(0x0b);
    return out;
  }

  /** After `encode`: offsets of unlikely branches from the start of the body (its locals), for the branch-hint section. */
  unlikelyOffsets(): number[] {
    return [
      ...this.prologueUnlikely.map((at) => at + this.prologueStart),
      ...this.unlikely.map((at) => at + this.codeStart),
    ];
  }
}
