// SPDX-License-Identifier: MIT
// Generates the WebAssembly functions that change address spaces: switching roots whose TLB tag is known, dropping entries of one page.

import { add, and, eq, eqz, extendU, i32, i64, load, mul, or, shl, shrS } from '../wasm/expr.ts';
import type { ModuleBuilder, ModuleFunction } from '../wasm/module.ts';
import { RootTags, ST, Tlb } from './layout.ts';
import { beginEpoch, tlbEntry } from './memory-functions.ts';

export interface AddressSpaceFunctions {
  /** (state, MFN) -> 1: that frame is the page-table root, at CPL 3; 0: its tag is not at hand, nothing changed. */
  readonly switchRoot: ModuleFunction;
  /** (state, MFN of an L1 table, index) -> 1: TLB entries made from that entry are gone; 0: only a flush would do, nothing changed. */
  readonly entryChanged: ModuleFunction;
}

/** Bit of an ST.l1Tags word: the table was seen at several places. */
const severalPlaces = 0x40000000;

function buildSwitchRoot(module: ModuleBuilder): ModuleFunction {
  const fn = module.function(['i32', 'i32'], ['i32']);
  const f = fn.body;
  const [s, mfn] = [f.param(0), f.param(1)];
  const setBytes = RootTags.ways * RootTags.entryBytes;
  const set = f.let(add(s, shl(and(mfn, i32(RootTags.sets - 1)), i32(Math.log2(setBytes)))));
  for (let way = 0; way < RootTags.ways; way++) {
    const at = ST.rootTags + way * RootTags.entryBytes;
    f.if(eq(load('i32.load', set, at), mfn), () => {
      const frame = add(load('i32.load', s, ST.frameTable), shl(mfn, i32(2)));
      f.store('i32.store', s, load('i32.load', frame), ST.root);
      f.store('i32.store', s, mfn, ST.rootMfn);
      const space = f.let(load('i32.load', set, at + 4));
      f.store('i64.store', s, extendU(space), ST.asid);
      const bank = mul(and(space, i32(Tlb.banks - 1)), i32(Tlb.bankBytes));
      f.store('i32.store', s, add(add(s, i32(Tlb.offset)), bank), ST.tlb);
      f.return(i32(1));
    });
  }
  f.return(i32(0));
  return fn;
}

function buildEntryChanged(module: ModuleBuilder): ModuleFunction {
  const fn = module.function(['i32', 'i32', 'i32'], ['i32']);
  const f = fn.body;
  const [s, table, index] = [f.param(0), f.param(1), f.param(2)];
  const tag = f.let(load('i32.load', add(load('i32.load', s, ST.l1Tags), shl(table, i32(2)))));
  f.if(eqz(tag), () => f.return(i32(1)));
  f.if(and(tag, i32(severalPlaces)), () => f.return(i32(0)));
  // 48-bit address: 27 bits of table number, 9 of index, sign-extended from bit 47.
  const low = or(shl(extendU(and(tag, i32(0x07ffffff))), i64(21)), extendU(shl(index, i32(12))));
  const page = f.let(shrS(shl(low, i64(16)), i64(16)));
  const entry = f.let(tlbEntry(s, page));
  for (let bank = 0; bank < Tlb.banks; bank++) {
    for (const tlb of [Tlb.read, Tlb.write, Tlb.exec]) {
      const at = Tlb.offset + bank * Tlb.bankBytes + tlb;
      f.if(eq(and(load('i64.load', entry, at), i64(-4096)), page), () => {
        f.store('i64.store', entry, i64(-1), at);
        if (tlb === Tlb.exec) beginEpoch(f, s);
      });
    }
  }
  f.return(i32(1));
  return fn;
}

export function buildAddressSpaceFunctions(module: ModuleBuilder): AddressSpaceFunctions {
  return { switchRoot: buildSwitchRoot(module), entryChanged: buildEntryChanged(module) };
}
