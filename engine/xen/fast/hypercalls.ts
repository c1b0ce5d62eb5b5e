// SPDX-License-Identifier: MIT
// Generated hypercalls that guests make at every context switch, fault and fork, and multicalls of them. All succeed or are not done here.

import type { AddressSpaceFunctions } from '../../cpu/address-spaces.ts';
import { ST, Seg } from '../../cpu/layout.ts';
import { Access, type MemoryFunctions } from '../../cpu/memory-functions.ts';
import {
  add,
  and,
  eq,
  eqz,
  extendU,
  gtU,
  i32,
  i64,
  load,
  ltU,
  mul,
  ne,
  or,
  shl,
  shrS,
  shrU,
  wrap,
  type Expr,
} from '../../wasm/expr.ts';
import type { Local } from '../../wasm/function.ts';
import type { ModuleBuilder, ModuleFunction } from '../../wasm/module.ts';
import { DOMID_SELF } from '../context.ts';
import { Gpr } from '../guest-cpu.ts';
import { syscallRegisters } from './entry.ts';
import { Fields } from './fields.ts';
import { XS } from './layout.ts';
import { l1Index, requireL1, type PageTableFunctions } from './page-tables.ts';
import type { SegmentFunctions } from './segments.ts';

/** Hypercall numbers (public/xen.h). */
export const Call = {
  mmuUpdate: 1,
  stackSwitch: 3,
  multicall: 13,
  updateVaMapping: 14,
  iret: 23,
  setSegmentBase: 25,
  mmuextOp: 26,
} as const;

const PAGE_BYTES = 4096;
const MMU_REQUEST_BYTES = 16;
const MMU_PRESERVE_AD = 2;
const MMU_MACHPHYS = 1;
const MMUEXT_OP_BYTES = 24;
const Ext = {
  newBaseptr: 5,
  tlbFlushLocal: 6,
  invlpgLocal: 7,
  tlbFlushAll: 10,
  invlpgAll: 11,
  newUserBaseptr: 15,
} as const;
const MULTICALL_ENTRY_BYTES = 64;
/** Longer lists go the other way. */
const MAX_ITEMS = 64;

/** Parameters of a hypercall's function: state, then the first four arguments. */
const callParams = ['i32', 'i64', 'i64', 'i64', 'i64'] as const;

/**
 * Every one is (state, arguments) -> 1: done, the result is 0; 0: to be done by the other path from the start. Lists may be
 * done in part by then: doing their beginning again changes nothing, because each of these operations sets something to a
 * given value.
 */
type CallFunction = ModuleFunction;

export interface CallFunctions {
  /** (state) -> 1: the hypercall that the registers describe was made and has its result; 0: it was not. Not for iret. */
  readonly call: ModuleFunction;
}

function define(module: ModuleBuilder, body: (fields: Fields, args: readonly Local[]) => void): CallFunction {
  const fn = module.function(callParams, ['i32']);
  body(
    new Fields(fn.body, fn.body.param(0)),
    [1, 2, 3, 4].map((n) => fn.body.param(n)),
  );
  fn.body.return(i32(1));
  return fn;
}

/** Host address of `bytes` at a guest address (bound), read where they are; leaves with 0 when they cross a page, are misaligned or fault. */
function readable(fields: Fields, memory: MemoryFunctions, address: Expr, bytes: Expr): Expr {
  const { f } = fields;
  const low = f.let(and(wrap(address), i32(PAGE_BYTES - 1)));
  fields.unless(or(and(low, i32(3)), gtU(add(low, bytes), i32(PAGE_BYTES))));
  const page = f.let(f.callExpr(memory.hostPage, fields.s, address, i32(Access.read)));
  fields.unless(eqz(page));
  return f.let(add(page, low));
}

/** The arguments that mmu_update and mmuext_op share: list, count, no counter of what is done, the caller's own domain. */
function listOf(
  fields: Fields,
  memory: MemoryFunctions,
  args: readonly Local[],
  bytes: number,
): { at: Local; end: Expr } {
  const { f } = fields;
  const [list, count, done, domain] = args as [Local, Local, Local, Local];
  const items = f.let(wrap(count));
  fields.unless(or(gtU(items, i32(MAX_ITEMS)), or(ne(done, i64(0)), ne(wrap(domain), i32(DOMID_SELF)))));
  const total = f.let(mul(items, i32(bytes)));
  const host = readable(fields, memory, list, total);
  const at = f.local('i32');
  f.set(at, host);
  return { at, end: f.let(add(host, total)) };
}

function buildMmuUpdate(module: ModuleBuilder, memory: MemoryFunctions, tables: PageTableFunctions): CallFunction {
  return define(module, (fields, args) => {
    const { f } = fields;
    const { at, end } = listOf(fields, memory, args, MMU_REQUEST_BYTES);
    f.loop((next) => {
      f.if(ltU(at, end), () => {
        const pointer = f.let(load('i64.load', at));
        const command = f.let(and(wrap(pointer), i32(7)));
        // Normal, preserving A and D, or without translation; bit 2 makes the entry misaligned.
        fields.unless(or(gtU(command, i32(3)), eq(command, i32(MMU_MACHPHYS))));
        const table = requireL1(fields, f.let(shrU(pointer, i64(12))));
        const index = shrU(and(wrap(pointer), i32(0xfff)), i32(3));
        const preserve = eq(command, i32(MMU_PRESERVE_AD));
        fields.unless(eqz(f.callExpr(tables.updateL1, fields.s, table, index, load('i64.load', at, 8), preserve)));
        f.set(at, add(at, i32(MMU_REQUEST_BYTES)));
        f.br(next);
      });
    });
  });
}

function buildUpdateVaMapping(module: ModuleBuilder, tables: PageTableFunctions): CallFunction {
  return define(module, (fields, args) => {
    const { f } = fields;
    const [address, entry] = args as [Local, Local];
    const table = f.let(f.callExpr(tables.findL1, fields.s, address));
    fields.unless(eqz(table));
    fields.unless(eqz(f.callExpr(tables.updateL1, fields.s, table, l1Index(address), entry, i32(0))));
  });
}

function buildMmuextOp(
  module: ModuleBuilder,
  memory: MemoryFunctions,
  spaces: AddressSpaceFunctions,
  tables: PageTableFunctions,
): CallFunction {
  return define(module, (fields, args) => {
    const { f, s } = fields;
    const { at, end } = listOf(fields, memory, args, MMUEXT_OP_BYTES);
    const command = f.local('i32');
    f.loop((next) => {
      f.if(ltU(at, end), () => {
        f.set(command, load('i32.load', at));
        f.block((done) => {
          const argument = f.let(load('i64.load', at, 8));
          const mfn = wrap(argument);
          for (const flush of [Ext.tlbFlushLocal, Ext.invlpgLocal, Ext.tlbFlushAll, Ext.invlpgAll]) {
            // The TLB follows every change of the tables (mmu-ext.ts).
            f.brIf(done, eq(command, i32(flush)));
          }
          const old = f.local('i32');
          const change = (field: number, alsoSwitch: boolean): void => {
            f.set(old, fields.get(field));
            f.brIf(done, eq(extendU(old), argument));
            // There need not be a root for user mode: kernel threads have none.
            const ifAny = (then: () => void): void => (alsoSwitch ? then() : f.if(ne(argument, i64(0)), then));
            ifAny(() => fields.unless(eqz(f.callExpr(tables.takeL4, s, argument))));
            const undo = (): void => {
              ifAny(() => f.call(tables.dropL4, s, mfn));
              f.return(i32(0));
            };
            if (alsoSwitch) f.if(eqz(f.callExpr(spaces.switchRoot, s, mfn)), undo);
            f.if(old, () =>
              f.if(eqz(f.callExpr(tables.dropL4, s, old)), () => {
                if (alsoSwitch) f.call(spaces.switchRoot, s, old);
                undo();
              }),
            );
            fields.set(field, mfn);
          };
          f.if(eq(command, i32(Ext.newBaseptr)), () => {
            // LDT pages belong to the old tables.
            fields.unless(ne(fields.get(XS.ldtEntries), i32(0)));
            change(XS.kernelRoot, true);
            f.br(done);
          });
          fields.unless(ne(command, i32(Ext.newUserBaseptr)));
          change(XS.userRoot, false);
        });
        f.set(at, add(at, i32(MMUEXT_OP_BYTES)));
        f.br(next);
      });
    });
  });
}

function buildStackSwitch(module: ModuleBuilder): CallFunction {
  return define(module, (fields, args) => {
    const [ss, sp] = args as [Local, Local];
    fields.set(XS.kernelSs, or(and(wrap(ss), i32(0xffff)), i32(3)));
    fields.set64(XS.kernelSp, sp);
  });
}

function buildSetSegmentBase(module: ModuleBuilder): CallFunction {
  return define(module, (fields, args) => {
    const { f } = fields;
    const [which, base] = args as [Local, Local];
    fields.unless(gtU(wrap(which), i32(2)));
    fields.unless(gtU(add(shrS(base, i64(47)), i64(1)), i64(1)));
    const targets = [ST.segBase + 8 * Seg.fs, XS.gsInactive, ST.segBase + 8 * Seg.gs];
    targets.forEach((offset, n) => f.if(eq(wrap(which), i32(n)), () => fields.set64(offset, base)));
  });
}

/** (state, number i64, four arguments) -> 1 or 0, by number; nothing is counted. */
function buildDispatch(module: ModuleBuilder, calls: ReadonlyMap<number, CallFunction>): ModuleFunction {
  const fn = module.function(['i32', 'i64', 'i64', 'i64', 'i64', 'i64'], ['i32']);
  const f = fn.body;
  for (const [number, call] of calls) {
    f.if(eq(f.param(1), i64(number)), () =>
      f.return(f.callExpr(call, f.param(0), f.param(2), f.param(3), f.param(4), f.param(5))),
    );
  }
  f.return(i32(0));
  return fn;
}

/** multicall(list, count): entries {op, result, args[6]}, done when all of them are. */
function buildMulticall(module: ModuleBuilder, memory: MemoryFunctions, dispatch: ModuleFunction): CallFunction {
  return define(module, (fields, args) => {
    const { f, s } = fields;
    const [list, count] = args as [Local, Local];
    const items = f.let(wrap(count));
    fields.unless(gtU(items, i32(MAX_ITEMS)));
    const total = f.let(shl(items, i32(6)));
    fields.unless(and(wrap(list), i32(7)));
    const host = readable(fields, memory, list, total);
    // Results are written: not through a read-only mapping, nor into code.
    const writable = f.let(f.callExpr(memory.hostPage, s, list, i32(Access.write)));
    fields.unless(eqz(writable));
    fields.unless(load('i32.load', add(fields.get(ST.codeMap), shl(shrU(writable, i32(12)), i32(2)))));
    const end = f.let(add(host, total));
    const at = f.local('i32');
    const argument = (n: number): Expr => load('i64.load', at, 16 + 8 * n);
    f.set(at, host);
    f.loop((next) => {
      f.if(ltU(at, end), () => {
        const made = f.callExpr(dispatch, s, load('i64.load', at), argument(0), argument(1), argument(2), argument(3));
        fields.unless(eqz(made));
        f.store('i64.store', at, i64(0), 8);
        f.set(at, add(at, i32(MULTICALL_ENTRY_BYTES)));
        f.br(next);
      });
    });
    // Only now: the other path counts what it does again.
    f.set(at, host);
    f.loop((next) => {
      f.if(ltU(at, end), () => {
        fields.count(XS.hypercallCounts, load('i32.load', at));
        f.set(at, add(at, i32(MULTICALL_ENTRY_BYTES)));
        f.br(next);
      });
    });
  });
}

export function buildCallFunctions(
  module: ModuleBuilder,
  memory: MemoryFunctions,
  spaces: AddressSpaceFunctions,
  segments: SegmentFunctions,
  tables: PageTableFunctions,
): CallFunctions {
  const single = new Map<number, CallFunction>([
    [Call.stackSwitch, buildStackSwitch(module)],
    [Call.setSegmentBase, buildSetSegmentBase(module)],
    [Call.mmuextOp, buildMmuextOp(module, memory, spaces, tables)],
    [Call.mmuUpdate, buildMmuUpdate(module, memory, tables)],
    [Call.updateVaMapping, buildUpdateVaMapping(module, tables)],
  ]);
  const multicall = buildMulticall(module, memory, buildDispatch(module, single));
  const dispatch = buildDispatch(module, new Map([...single, [Call.multicall, multicall]]));

  const call = module.function(['i32'], ['i32']);
  const f = call.body;
  const fields = new Fields(f, f.param(0));
  const info = f.let(fields.get(XS.info));
  fields.unless(eqz(info));
  // An event that waits is delivered on the way back.
  fields.unless(and(ne(load('i32.load8_u', info), i32(0)), eqz(load('i32.load8_u', info, 1))));
  const number = f.let(fields.gpr(Gpr.rax));
  const made = f.callExpr(
    dispatch,
    fields.s,
    number,
    ...[Gpr.rdi, Gpr.rsi, Gpr.rdx, Gpr.r10].map((register) => fields.gpr(register)),
  );
  fields.unless(eqz(made));
  fields.count(XS.hypercallCounts, wrap(number));
  syscallRegisters(fields, segments);
  fields.setGpr(Gpr.rax, i64(0));
  f.return(i32(1));
  return { call };
}
