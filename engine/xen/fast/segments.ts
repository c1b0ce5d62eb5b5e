// SPDX-License-Identifier: MIT
// Generated loading of code and stack segments: Xen's flat ones, and ordinary descriptors of the guest's GDT (Intel SDM volume 3, section 3.4).

import { ST, Seg } from '../../cpu/layout.ts';
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
  ne,
  or,
  select,
  shl,
  shrU,
  type Expr,
} from '../../wasm/expr.ts';
import type { FunctionBuilder } from '../../wasm/function.ts';
import type { ModuleBuilder, ModuleFunction } from '../../wasm/module.ts';
import { GUEST_GDT_PAGES, Selector } from '../vcpu-state.ts';
import { Fields } from './fields.ts';
import { XS } from './layout.ts';

export interface SegmentFunctions {
  /** (state): makes CS and SS Xen's flat 64-bit segments. */
  readonly flat: ModuleFunction;
  /**
   * (state, CS selector, SS selector) -> 1: both loaded; 0: one of them is unusual or faults, nothing changed.
   * As in a return, a selector that is loaded already is not looked up again.
   */
  readonly load: ModuleFunction;
}

/** Attributes and limits of the flat segments, as loading their descriptors gives them (descriptors.ts). */
const FLAT_LIMIT = -1;
const FLAT_CODE_ATTRIBUTES = 0xafb;
const FLAT_DATA_ATTRIBUTES = 0xcf3;

/** High word of a descriptor: present, DPL 3, code or data, and its kind. */
const CODE64 = { mask: 0x60fc00, value: 0x20f800 } as const;
const WRITABLE_DATA = { mask: 0xfa00, value: 0xf200 } as const;

const selectorOf = (s: Expr, segment: number): Expr => load('i32.load16_u', s, ST.selector + 2 * segment);

function setFlat(f: FunctionBuilder, s: Expr, segment: number, selector: number, attributes: number): void {
  f.if(ne(selectorOf(s, segment), i32(selector)), () => {
    f.store('i32.store16', s, i32(selector), ST.selector + 2 * segment);
    f.store('i32.store', s, i32(attributes), ST.segAttr + 4 * segment);
    f.store('i32.store', s, i32(FLAT_LIMIT), ST.segLimit + 4 * segment);
    f.store('i64.store', s, i64(0), ST.segBase + 8 * segment);
  });
}

/** (state, selector) -> host address of its descriptor, 0 when the selector is in the LDT or outside the GDT. */
function buildDescriptorOf(module: ModuleBuilder): ModuleFunction {
  const fn = module.function(['i32', 'i32'], ['i32']);
  const f = fn.body;
  const fields = new Fields(f, f.param(0));
  const selector = f.param(1);
  const page = f.let(shrU(selector, i32(12)));
  const offset = f.let(and(selector, i32(0xff8)));
  fields.unless(or(and(selector, i32(4)), gtU(page, i32(GUEST_GDT_PAGES))));
  f.if(eq(page, i32(GUEST_GDT_PAGES)), () => f.return(add(fields.get(XS.reservedGdt), offset)));
  const mfn = f.let(load('i32.load', add(fields.s, shl(page, i32(2))), XS.gdtFrames));
  fields.unless(eqz(mfn));
  f.return(add(load('i32.load', add(fields.get(ST.frameTable), shl(mfn, i32(2)))), offset));
  return fn;
}

/** Fills a segment register from the descriptor at a host address. */
function install(f: FunctionBuilder, s: Expr, segment: number, selector: Expr, descriptor: Expr): void {
  const lo = f.let(load('i32.load', descriptor));
  const hi = f.let(load('i32.load', descriptor, 4));
  const attributes = f.let(or(and(shrU(hi, i32(8)), i32(0xff)), and(shrU(hi, i32(12)), i32(0xf00))));
  const limit = f.let(or(and(lo, i32(0xffff)), and(hi, i32(0xf0000))));
  const inPages = or(shl(limit, i32(12)), i32(0xfff));
  const base = or(or(shrU(lo, i32(16)), shl(and(hi, i32(0xff)), i32(16))), and(hi, i32(0xff000000 | 0)));
  f.store('i32.store16', s, selector, ST.selector + 2 * segment);
  f.store('i32.store', s, attributes, ST.segAttr + 4 * segment);
  f.store('i32.store', s, select(and(attributes, i32(0x800)), inPages, limit), ST.segLimit + 4 * segment);
  f.store('i64.store', s, extendU(base), ST.segBase + 8 * segment);
}

export function buildSegmentFunctions(module: ModuleBuilder): SegmentFunctions {
  const descriptorOf = buildDescriptorOf(module);

  const flat = module.function(['i32'], []);
  setFlat(flat.body, flat.body.param(0), Seg.cs, Selector.flatCode64, FLAT_CODE_ATTRIBUTES);
  setFlat(flat.body, flat.body.param(0), Seg.ss, Selector.flatData, FLAT_DATA_ATTRIBUTES);

  const loadBoth = module.function(['i32', 'i32', 'i32'], ['i32']);
  {
    const f = loadBoth.body;
    const [s, cs, ss] = [f.param(0), f.param(1), f.param(2)];
    const fields = new Fields(f, s);
    const code = f.local('i32');
    const stack = f.local('i32');
    const find = (
      target: typeof code,
      segment: number,
      selector: Expr,
      wanted: typeof CODE64 | typeof WRITABLE_DATA,
    ) => {
      f.set(target, i32(0));
      f.if(ne(selectorOf(s, segment), selector), () => {
        f.set(target, f.callExpr(descriptorOf, s, selector));
        fields.unless(eqz(target));
        fields.unless(ne(and(load('i32.load', target, 4), i32(wanted.mask)), i32(wanted.value)));
      });
    };
    find(code, Seg.cs, cs, CODE64);
    find(stack, Seg.ss, ss, WRITABLE_DATA);
    f.if(code, () => install(f, s, Seg.cs, cs, code));
    f.if(stack, () => install(f, s, Seg.ss, ss, stack));
    f.return(i32(1));
  }
  return { flat, load: loadBoth };
}
