// SPDX-License-Identifier: MIT
// Generated changes of L1 page-table entries, checked and counted: the twin of the hot part of ../mmu.ts, ../mmu-update.ts and ../ptwr.ts.

import type { AddressSpaceFunctions } from '../../cpu/address-spaces.ts';
import type { Hooks } from '../../cpu/hooks.ts';
import { ST } from '../../cpu/layout.ts';
import {
  add,
  and,
  eq,
  eqz,
  extendU,
  geU,
  i32,
  i64,
  load,
  ltU,
  ne,
  or,
  shl,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../../wasm/expr.ts';
import type { ModuleBuilder, ModuleFunction } from '../../wasm/module.ts';
import { Pte } from '../mmu.ts';
import { Owner, PageType } from '../page-types.ts';
import { VmAssist } from '../vm-assist.ts';
import { Fields } from './fields.ts';
import { XS } from './layout.ts';

/** Bits refused in L1 entries, those that name the frame, and the software mark of entries that came without USER (mmu.ts). */
const L1_REFUSED = 0x98n;
const FRAME_BITS = 0x000ffffffffff000n;
const KERNEL_MARK = 1n << 52n;

/** The per-frame tables of page-types.ts, for one frame (bound i32, below XS.frames). */
class Frame {
  private readonly fields: Fields;
  private readonly mfn: Expr;

  constructor(fields: Fields, mfn: Expr) {
    this.fields = fields;
    this.mfn = mfn;
  }

  private byte(table: number): Expr {
    return load('i32.load8_u', add(this.fields.get(table), this.mfn));
  }

  private word(table: number): Expr {
    return add(this.fields.get(table), shl(this.mfn, i32(2)));
  }

  get owner(): Expr {
    return this.byte(XS.frameOwner);
  }

  get type(): Expr {
    return this.byte(XS.frameType);
  }

  setType(type: number): void {
    const at = add(this.fields.get(XS.frameType), this.mfn);
    this.fields.f.store('i32.store8', at, i32(type));
  }

  get isRelinquished(): Expr {
    return this.byte(XS.frameRelinquished);
  }

  get typeCount(): Expr {
    return load('i32.load', this.word(XS.frameTypeCount));
  }

  get refs(): Expr {
    return load('i32.load', this.word(XS.frameRefs));
  }

  /** Adds to both counts. */
  addType(by: number): void {
    this.addTo(XS.frameTypeCount, by);
    this.addTo(XS.frameRefs, by);
  }

  addTo(table: number, by: number): void {
    const { f } = this.fields;
    const at = f.let(this.word(table));
    f.store('i32.store', at, add(load('i32.load', at), i32(by)));
  }
}

/** The frame an entry names, as an i64. */
const frameOf = (entry: Expr): Expr => shrU(and(entry, i64(FRAME_BITS)), i64(12));

export interface PageTableFunctions {
  /** (state, MFN i64) -> 1: one more use as L4 is counted; 0: the frame is no L4 in use. */
  readonly takeL4: ModuleFunction;
  /** (state, MFN) -> 1: one use less is counted; 0: it is the last use, nothing changed. */
  readonly dropL4: ModuleFunction;
  /** (state, MFN of an L1 in use, index, entry i64, preserve A and D) -> 1: stored; 0: refused or unusual, nothing changed. */
  readonly updateL1: ModuleFunction;
  /** (state, address i64) -> MFN of the L1 table that maps an address under the kernel root; 0 = none. */
  readonly findL1: ModuleFunction;
}

/** (state, table, index) -> MFN of the table below, 0 = none. */
function buildNextTable(module: ModuleBuilder): ModuleFunction {
  const fn = module.function(['i32', 'i32', 'i32'], ['i32']);
  const f = fn.body;
  const fields = new Fields(f, f.param(0));
  const host = f.let(load('i32.load', add(fields.get(ST.frameTable), shl(f.param(1), i32(2)))));
  fields.unless(eqz(host));
  const entry = f.let(load('i64.load', add(host, shl(f.param(2), i32(3)))));
  fields.unless(eqz(and(wrap(entry), i32(Pte.present))));
  const next = f.let(frameOf(entry));
  fields.unless(geU(next, load('i64.load32_u', fields.s, XS.frames)));
  f.return(wrap(next));
  return fn;
}

function buildFindL1(module: ModuleBuilder): ModuleFunction {
  const nextTable = buildNextTable(module);
  const fn = module.function(['i32', 'i64'], ['i32']);
  const f = fn.body;
  const fields = new Fields(f, f.param(0));
  const table = f.local('i32');
  f.set(table, fields.get(XS.kernelRoot));
  for (const shift of [39, 30, 21]) {
    const index = and(wrap(shrU(f.param(1), i64(shift))), i32(0x1ff));
    f.set(table, f.callExpr(nextTable, fields.s, table, index));
    fields.unless(eqz(table));
  }
  const frame = new Frame(fields, table);
  fields.unless(or(ne(frame.type, i32(PageType.l1)), eqz(frame.typeCount)));
  f.return(table);
  return fn;
}

/** Takes a use of the frame a new entry names, or leaves the function with 0. */
function takeTarget(fields: Fields, entry: Expr): void {
  const { f } = fields;
  fields.unless(ne(and(entry, i64(L1_REFUSED)), i64(0)));
  const wide = f.let(frameOf(entry));
  fields.unless(geU(wide, load('i64.load32_u', fields.s, XS.frames)));
  const target = new Frame(fields, f.let(wrap(wide)));
  fields.unless(ne(target.owner, i32(Owner.guest)));
  f.if(and(wrap(entry), i32(Pte.writable)), () => {
    f.if(
      eqz(target.typeCount),
      () => target.setType(PageType.writable),
      () => fields.unless(ne(target.type, i32(PageType.writable))),
    );
    target.addTo(XS.frameTypeCount, 1);
  });
  target.addTo(XS.frameRefs, 1);
}

function buildUpdateL1(module: ModuleBuilder, spaces: AddressSpaceFunctions): ModuleFunction {
  const fn = module.function(['i32', 'i32', 'i32', 'i64', 'i32'], ['i32']);
  const f = fn.body;
  const [s, table, index, given, preserve] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
  const fields = new Fields(f, s);
  fields.unless(eqz(fields.get(XS.isOnly)));
  const at = f.let(add(load('i32.load', add(fields.get(ST.frameTable), shl(table, i32(2)))), shl(index, i32(3))));
  const old = f.let(load('i64.load', at));
  const isOld = f.let(and(wrap(old), i32(Pte.present)));
  const entry = f.local('i64');
  const dropsOld = f.local('i32');
  f.set(entry, given);
  f.set(dropsOld, isOld);
  const oldFrame = new Frame(fields, f.let(wrap(frameOf(old))));
  f.if(isOld, () => {
    // Losing its last reference would free the frame.
    fields.unless(and(oldFrame.isRelinquished, eq(oldFrame.refs, i32(1))));
    fields.unless(eqz(f.callExpr(spaces.entryChanged, s, table, index)));
  });
  f.if(and(wrap(given), i32(Pte.present)), () => {
    f.if(preserve, () => f.set(entry, or(entry, and(old, i64(Pte.accessed | Pte.dirty)))));
    const kept = i64(FRAME_BITS | BigInt(Pte.present | Pte.writable) | L1_REFUSED);
    f.if(
      and(isOld, eqz(and(xor(old, entry), kept))),
      () => f.set(dropsOld, i32(0)),
      () => takeTarget(fields, entry),
    );
    f.if(eqz(and(wrap(entry), i32(Pte.user))), () => f.set(entry, or(entry, i64(BigInt(Pte.user) | KERNEL_MARK))));
  });
  f.store('i64.store', at, entry);
  f.if(dropsOld, () => {
    f.if(and(wrap(old), i32(Pte.writable)), () => {
      oldFrame.addTo(XS.frameTypeCount, -1);
      f.if(eqz(oldFrame.typeCount), () => oldFrame.setType(PageType.none));
    });
    oldFrame.addTo(XS.frameRefs, -1);
  });
  f.return(i32(1));
  return fn;
}

function buildTakeL4(module: ModuleBuilder): ModuleFunction {
  const fn = module.function(['i32', 'i64'], ['i32']);
  const f = fn.body;
  const fields = new Fields(f, f.param(0));
  fields.unless(geU(f.param(1), load('i64.load32_u', fields.s, XS.frames)));
  const frame = new Frame(fields, f.let(wrap(f.param(1))));
  fields.unless(or(ne(frame.owner, i32(Owner.guest)), or(ne(frame.type, i32(PageType.l4)), eqz(frame.typeCount))));
  frame.addType(1);
  f.return(i32(1));
  return fn;
}

function buildDropL4(module: ModuleBuilder): ModuleFunction {
  const fn = module.function(['i32', 'i32'], ['i32']);
  const f = fn.body;
  const frame = new Frame(new Fields(f, f.param(0)), f.param(1));
  f.if(or(ltU(frame.typeCount, i32(2)), ltU(frame.refs, i32(2))), () => f.return(i32(0)));
  frame.addType(-1);
  f.return(i32(1));
  return fn;
}

export function buildPageTableFunctions(module: ModuleBuilder, spaces: AddressSpaceFunctions): PageTableFunctions {
  return {
    takeL4: buildTakeL4(module),
    dropL4: buildDropL4(module),
    updateL1: buildUpdateL1(module, spaces),
    findL1: buildFindL1(module),
  };
}

/** Index of an address's entry in its L1 table. */
export const l1Index = (address: Expr): Expr => and(wrap(shrU(address, i64(12))), i32(0x1ff));

/** The MFN in an i64 (bound) as i32, if it is an L1 table of the guest in use; else leaves the function with 0. */
export function requireL1(fields: Fields, wide: Expr): Expr {
  const { f } = fields;
  fields.unless(geU(wide, load('i64.load32_u', fields.s, XS.frames)));
  const table = f.let(wrap(wide));
  const frame = new Frame(fields, table);
  fields.unless(or(ne(frame.owner, i32(Owner.guest)), or(ne(frame.type, i32(PageType.l1)), eqz(frame.typeCount))));
  return table;
}

/** (state, address i64) -> MFN of the L1 table of the guest that a read-only page is, for vm_assist writable_pagetables; 0 = none. */
function buildProtectedTable(module: ModuleBuilder, tables: PageTableFunctions): ModuleFunction {
  const fn = module.function(['i32', 'i64'], ['i32']);
  const f = fn.body;
  const fields = new Fields(f, f.param(0));
  const address = f.param(1);
  const isAssisted = and(shrU(fields.get(XS.vmAssists), i32(VmAssist.writablePagetables)), i32(1));
  fields.unless(eqz(and(fields.get(XS.kernelMode), isAssisted)));
  const mappingTable = f.let(f.callExpr(tables.findL1, fields.s, address));
  fields.unless(eqz(mappingTable));
  const mappingHost = load('i32.load', add(fields.get(ST.frameTable), shl(mappingTable, i32(2))));
  const mapping = f.let(load('i64.load', add(mappingHost, shl(l1Index(address), i32(3)))));
  fields.unless(ne(and(wrap(mapping), i32(Pte.present | Pte.writable)), i32(Pte.present)));
  f.return(requireL1(fields, f.let(frameOf(mapping))));
  return fn;
}

/** Fills in the hooks for stores to page tables: vm_assist writable_pagetables carries them out as checked updates. */
export function fillStoreHooks(
  module: ModuleBuilder,
  tables: PageTableFunctions,
  hooks: Pick<Hooks, 'mayStore' | 'protectedStore'>,
): void {
  const protectedTable = buildProtectedTable(module, tables);
  {
    const f = hooks.mayStore.body;
    f.return(ne(f.callExpr(protectedTable, f.param(0), f.param(1)), i32(0)));
  }
  const f = hooks.protectedStore.body;
  const [s, address, bytes, value] = [f.param(0), f.param(1), f.param(2), f.param(3)];
  const fields = new Fields(f, s);
  const table = f.let(f.callExpr(protectedTable, s, address));
  fields.unless(eqz(table));
  const host = load('i32.load', add(fields.get(ST.frameTable), shl(table, i32(2))));
  const old = load('i64.load', add(host, and(wrap(address), i32(0xff8))));
  const shift = f.let(shl(extendU(and(wrap(address), i32(7))), i64(3)));
  // Bits above the store's size: shifting by 64 would shift by 0.
  const mask = f.let(shrU(i64(-1), sub(i64(64), shl(extendU(bytes), i64(3)))));
  const entry = or(and(old, xor(shl(mask, shift), i64(-1))), shl(and(value, mask), shift));
  const index = shrU(and(wrap(address), i32(0xfff)), i32(3));
  fields.unless(eqz(f.callExpr(tables.updateL1, s, table, index, entry, i32(0))));
  fields.count(XS.emulatedStores);
  f.return(i32(1));
}
