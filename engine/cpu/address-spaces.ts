// SPDX-License-Identifier: MIT
// Generates the WebAssembly functions that change address spaces: switching roots that have a bank of TLBs, emptying banks or filling them from others, dropping entries of one page.

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
  ltS,
  ltU,
  mul,
  op,
  or,
  shl,
  shrS,
  v128,
  wrap,
  type Expr,
} from '../wasm/expr.ts';
import type { FunctionBuilder } from '../wasm/function.ts';
import type { ModuleBuilder, ModuleFunction } from '../wasm/module.ts';
import { emptyTag, FillLog, RootBanks, ST, Tlb } from './layout.ts';
import { beginEpoch, emptyTagOf, fillLogOf, noteFill, noteWriter, PTE, tlbEntry } from './memory-functions.ts';

const pageBytes = 4096;
const entryBytes = 16;
const entriesPerHalf = Tlb.bytes / entryBytes / 2;

export interface AddressSpaceFunctions {
  /** (state, MFN) -> 1: that frame is the page-table root, at CPL 3; 0: it has no bank at hand, nothing changed. */
  readonly switchRoot: ModuleFunction;
  /** (state, MFN of an L1 table, index) -> 1: TLB entries made from that entry are gone; 0: only a flush would do, nothing changed. */
  readonly entryChanged: ModuleFunction;
}

/** Host address of a bank. */
const bankAddress = (s: Expr, bank: Expr): Expr => add(add(s, i32(Tlb.offset)), mul(bank, i32(Tlb.bankBytes)));

/** An entry of a TLB with this tag and nothing else. */
const entryWith = (tag: number): Expr =>
  v128(Array.from({ length: 16 }, (_, n) => (n < 4 ? (tag >>> (8 * n)) & 0xff : 0)));

/** clearBank(state, bank): empties it, for another address space. What was found out about pages that it led to holds no longer. */
export function buildClearBank(module: ModuleBuilder): void {
  const { body: f } = module.function(['i32', 'i32'], [], 'clearBank');
  const s = f.param(0);
  const bank = f.let(bankAddress(s, f.param(1)));
  const log = f.let(fillLogOf(s, f.param(1)));
  const filled = f.let(load('i32.load16_u', log, FillLog.offset));
  f.store('i32.store16', log, i32(0), FillLog.offset);
  beginEpoch(f, s);
  f.if(ltU(filled, i32(FillLog.most)), () => {
    clearFilled(f, bank, log, filled);
    f.return();
  });
  const at = f.local('i32');
  f.set(at, bank);
  const end = f.let(add(at, i32(Tlb.bytes / 2)));
  // Both halves of the tables at a time: what is empty in one half has tags of the other.
  const lower = f.local('v128');
  const upper = f.local('v128');
  f.set(lower, entryWith(emptyTag(0)));
  f.set(upper, entryWith(emptyTag(pageBytes * entriesPerHalf)));
  const step = entryWith(pageBytes);
  f.loop((next) => {
    for (const tlb of [Tlb.read, Tlb.write, Tlb.exec]) {
      f.store('v128.store', at, lower, tlb);
      f.store('v128.store', at, upper, tlb + Tlb.bytes / 2);
    }
    f.set(lower, op('i64x2.add', lower, step));
    f.set(upper, op('i64x2.add', upper, step));
    f.set(at, add(at, i32(entryBytes)));
    f.brIf(next, ltU(at, end));
  });
}

/** Empties the entries of a bank that its log names. */
function clearFilled(f: FunctionBuilder, bank: Expr, log: Expr, filled: Expr): void {
  const at = f.local('i32');
  f.set(at, log);
  const end = f.let(add(log, shl(filled, i32(1))));
  f.block((done) => {
    f.loop((next) => {
      f.brIf(done, geU(at, end));
      const place = f.let(load('i32.load16_u', at, FillLog.offset + FillLog.filled));
      const entry = f.let(add(bank, shl(place, i32(4))));
      f.store('i64.store', entry, emptyTagOf(extendU(shl(place, i32(12)))));
      f.store('i64.store', entry, i64(0), 8);
      f.set(at, add(at, i32(2)));
      f.br(next);
    });
  });
}

/**
 * inheritBank(state, from, to, root of the one, root of the other): fills an empty bank with what another one holds of the upper half, if both root
 * tables (host addresses) map that alike, accessed or not. As with global pages, those of a kernel need not be found anew for each program that starts.
 */
export function buildInheritBank(module: ModuleBuilder): void {
  const { body: f } = module.function(['i32', 'i32', 'i32', 'i32', 'i32'], [], 'inheritBank');
  const s = f.param(0);
  const from = f.let(bankAddress(s, f.param(1)));
  const to = f.let(bankAddress(s, f.param(2)));
  f.if(differ(f, f.param(3), f.param(4)), () => f.return());
  const log = f.let(fillLogOf(s, f.param(2)));
  const at = f.local('i32');
  f.set(at, i32(0));
  for (const tlb of [Tlb.read, Tlb.write, Tlb.exec]) {
    f.loop((next) => {
      const source = f.let(add(from, at));
      const tag = f.let(load('i64.load', source));
      // The upper half: what is empty looks like the lower one.
      f.if(ltS(tag, i64(0)), () => {
        const target = f.let(add(to, at));
        f.store('v128.store', target, load('v128.load', source));
        noteFill(f, log, at);
        if (tlb === Tlb.write) noteWriter(f, s, add(wrap(tag), load('i32.load', source, 8)), target);
      });
      f.set(at, add(at, i32(entryBytes)));
      f.brIf(next, ltU(at, i32(tlb + Tlb.bytes)));
    });
  }
}

/** Two root tables do not map the upper half alike. */
function differ(f: FunctionBuilder, one: Expr, other: Expr): Expr {
  const at = f.local('i32');
  const difference = f.local('v128');
  f.set(at, i32(pageBytes / 2));
  f.set(difference, v128(new Array<number>(16).fill(0)));
  f.loop((next) => {
    const pair = op('v128.xor', load('v128.load', add(one, at)), load('v128.load', add(other, at)));
    f.set(difference, op('v128.or', difference, pair));
    f.set(at, add(at, i32(16)));
    f.brIf(next, ltU(at, i32(pageBytes)));
  });
  const accessed = v128(Array.from({ length: 16 }, (_, n) => (n % 8 === 0 ? PTE.accessed : 0)));
  return op('v128.any_true', op('v128.andnot', difference, accessed));
}

/** Bit of an ST.l1Tags word: the table was seen at several places. */
const severalPlaces = 0x40000000;

function buildSwitchRoot(module: ModuleBuilder): ModuleFunction {
  const fn = module.function(['i32', 'i32'], ['i32']);
  const f = fn.body;
  const [s, mfn] = [f.param(0), f.param(1)];
  const setBytes = RootBanks.ways * RootBanks.entryBytes;
  const set = f.let(add(s, shl(and(mfn, i32(RootBanks.sets - 1)), i32(Math.log2(setBytes)))));
  for (let way = 0; way < RootBanks.ways; way++) {
    const at = ST.rootBanks + way * RootBanks.entryBytes;
    f.if(eq(load('i32.load', set, at), mfn), () => {
      const frame = add(load('i32.load', s, ST.frameTable), shl(mfn, i32(2)));
      f.store('i32.store', s, load('i32.load', frame), ST.root);
      f.store('i32.store', s, mfn, ST.rootMfn);
      const bank = f.let(load('i32.load', set, at + 4));
      f.store('i64.store', s, extendU(bank), ST.asid);
      f.store('i32.store', s, bankAddress(s, bank), ST.tlb);
      const now = f.let(add(load('i32.load', s, ST.switches), i32(1)));
      f.store('i32.store', s, now, ST.switches);
      f.store('i32.store', add(s, shl(bank, i32(2))), now, ST.bankUse);
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
  const last = f.let(or(page, i64(0xfff)));
  for (let bank = 0; bank < Tlb.banks; bank++) {
    for (const tlb of [Tlb.read, Tlb.write, Tlb.exec]) {
      const at = Tlb.offset + bank * Tlb.bankBytes + tlb;
      f.if(eq(load('i64.load', entry, at), last), () => {
        f.store('i64.store', entry, emptyTagOf(page), at);
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
