// SPDX-License-Identifier: MIT
// Generates the WebAssembly functions behind every memory access: page walk, TLB fill, accesses that cross a page (Intel SDM volume 3, chapter 4).

import {
  add,
  and,
  eq,
  eqz,
  extendU,
  gtU,
  i32,
  i64,
  leU,
  load,
  ltU,
  mul,
  ne,
  op,
  or,
  select,
  shl,
  shrS,
  shrU,
  sub,
  wrap,
  xor,
  type Expr,
} from '../wasm/expr.ts';
import type { Callee, FunctionBuilder, Local } from '../wasm/function.ts';
import type { ModuleBuilder, ModuleFunction } from '../wasm/module.ts';
import { hostOpNumber } from './host-op-names.ts';
import { Exit } from './exits.ts';
import { Hold, type Hooks } from './hooks.ts';
import {
  codeChunkShift,
  emptyTag,
  FillLog,
  inAnyBank,
  SegmentFault,
  severalEntries,
  ST,
  Tlb,
  writeMapOffset,
} from './layout.ts';

/** Bits of page-table entries. */
export const PTE = { present: 1, writable: 2, user: 4, accessed: 0x20, dirty: 0x40, large: 0x80 } as const;
const pageFault = 14;
const generalProtection = 13;
const firstNonCanonical = 0x800000000000n;

/** Access kinds; the numbers are also the order of the TLBs. */
export const Access = { read: 0, write: 1, execute: 2 } as const;

export interface MemoryFunctions {
  /** (state, address i64, access) -> host address of the page, 0 = fault recorded. */
  readonly hostPage: ModuleFunction;
  /** (state, address, bytes) -> host address to read from (perhaps a bounce copy), 0 = fault. */
  readonly fillRead: ModuleFunction;
  /** (state, address, bytes) -> host address to write to, 0 = fault, 1 = must go through store. */
  readonly fillWrite: ModuleFunction;
  /** (state, address, bytes, value i64) -> 1, or 0 = leave with state.exitCode. */
  readonly store: ModuleFunction;
  /** (state, address) -> 1 or 0; the value is at state.work + 16. */
  readonly store128: ModuleFunction;
}

/** Entry of an address in a bank of TLBs (of the read TLB: others lie behind at their offsets). */
export const tlbEntry = (bank: Expr, address: Expr): Expr => add(bank, and(shrU(wrap(address), i32(8)), i32(0xfff0)));
const tlbIndex = (s: Expr, address: Expr): Expr => tlbEntry(load('i32.load', s, ST.tlb), address);
/** Whether an entry with this tag knows, or does not, an access whose last byte is at `last`: see `Tlb`. (V8 would fold a load on the right, and do it all the same.) */
export const isHit = (tag: Expr, last: Expr): Expr => leU(sub(tag, last), i64(4095));
export const isMiss = (tag: Expr, last: Expr): Expr => gtU(sub(tag, last), i64(4095));
/** The tag (i64) of an empty entry for an address. */
export const emptyTagOf = (address: Expr): Expr => xor(and(address, i64(0xfff000)), i64(emptyTag(0)));
const pageOf = (address: Expr): Expr => and(address, i64(-4096));

/** Where the log of a bank's fills lies, from `FillLog.offset` on. */
export const fillLogOf = (s: Expr, bank: Expr): Expr => add(s, mul(bank, i32(FillLog.bankBytes)));

/** An entry of a bank has been filled. `log`: a bound `fillLogOf`, `offset`: of the entry in the bank, in bytes. */
export function noteFill(f: FunctionBuilder, log: Expr, offset: Expr): void {
  const count = f.let(load('i32.load16_u', log, FillLog.offset));
  f.if(ltU(count, i32(FillLog.most)), () => {
    const place = shrU(offset, i32(4));
    f.store('i32.store16', add(log, shl(count, i32(1))), place, FillLog.offset + FillLog.filled);
    f.store('i32.store16', log, add(count, i32(1)), FillLog.offset);
  });
}

/** Where the code map has the page at a host address, and `writeMapOffset` behind the write map. */
const mapsOf = (s: Expr, host: Expr): Expr => add(load('i32.load', s, ST.codeMap), shl(shrU(host, i32(12)), i32(2)));

/** The entry (both bound) allows writes to the page at a host address from now on. */
export function noteWriter(f: FunctionBuilder, s: Expr, host: Expr, entry: Expr): void {
  const maps = f.let(mapsOf(s, host));
  const known = f.let(load('i32.load', maps, writeMapOffset));
  f.if(ne(known, entry), () => {
    // Places are told by their low bits: all banks lie alike.
    const isSamePlace = and(gtU(known, i32(severalEntries)), eqz(and(xor(known, entry), i32(Tlb.bytes - 16))));
    const another = select(known, i32(severalEntries), entry);
    f.store('i32.store', maps, select(isSamePlace, or(entry, i32(inAnyBank)), another), writeMapOffset);
  });
}
const offsetOf = (address: Expr): Expr => and(wrap(address), i32(0xfff));

/** A TLB entry for execution is lost: see ST.execEpoch. */
export function beginEpoch(f: FunctionBuilder, s: Expr): void {
  f.store('i64.store', s, add(load('i64.load', s, ST.execEpoch), i64(1)), ST.execEpoch);
}

/** Records a fault for the instruction and returns 0. */
function recordFault(f: FunctionBuilder, s: Expr, vector: number, error: Expr, address?: Expr): void {
  f.store('i32.store', s, i32(vector), ST.vector);
  f.store('i32.store', s, error, ST.errorCode);
  f.store('i32.store', s, i32(Exit.Exception), ST.exitCode);
  if (address) f.store('i64.store', s, address, ST.cr2);
  f.store('i32.store', s, i32(address ? SegmentFault.none : SegmentFault.nonCanonical), ST.segmentFault);
  if (!address) f.store('i64.store', s, f.param(1), ST.segmentAddress);
  f.return(i32(0));
}

/** (state, address, access) -> host page address or 0. Walks the guest's tables, checks rights, sets accessed and dirty bits. */
function buildWalk(module: ModuleBuilder): ModuleFunction {
  const fn = module.function(['i32', 'i64', 'i32'], ['i32']);
  const f = fn.body;
  const s = f.param(0);
  const va = f.param(1);
  const access = f.param(2);
  const isWrite = eq(access, i32(Access.write));
  const frame = f.local('i32');
  const frameTable = f.let(load('i32.load', s, ST.frameTable));
  const maxMfn = f.let(load('i32.load', s, ST.maxMfn));
  const mode = f.let(load('i32.load', s, ST.pagingMode));
  const user = f.let(eq(load('i32.load', s, ST.cpl), i32(3)));
  f.store('i32.store', s, add(load('i32.load', s, ST.pageWalks), i32(1)), ST.pageWalks);
  const errorBits = (present: Expr): Expr =>
    or(
      or(present, select(isWrite, i32(2), i32(0))),
      or(
        shl(user, i32(2)),
        select(and(eq(access, i32(Access.execute)), load('i32.load', s, ST.nxEnabled)), i32(16), i32(0)),
      ),
    );
  const hostOfFrame = (mfn: Expr): Expr => load('i32.load', add(frameTable, shl(mfn, i32(2))));
  // Without paging the frame is the address; beyond RAM there is nothing.
  f.if(eqz(mode), () => {
    f.set(frame, wrap(shrU(and(va, i64(0xffffffffn)), i64(12))));
    f.if(gtU(frame, maxMfn), () => recordFault(f, s, generalProtection, i32(0)));
    f.set(frame, hostOfFrame(frame));
    f.if(eqz(frame), () => recordFault(f, s, generalProtection, i32(0)));
    f.return(frame);
  });
  const level = f.local('i32');
  const shift = f.local('i64');
  const table = f.local('i32');
  const entryAt = f.local('i32');
  const entry = f.local('i64');
  const rights = f.local('i64');
  const noExecute = f.local('i64');
  const tableMfn = f.local('i32');
  const above = [f.local('i32'), f.local('i32'), f.local('i32')];
  f.set(table, load('i32.load', s, ST.root));
  f.if(
    eq(mode, i32(2)),
    () => {
      f.if(gtU(add(shrS(va, i64(47)), i64(1)), i64(1)), () => recordFault(f, s, generalProtection, i32(0)));
      f.set(level, i32(4));
      f.set(shift, i64(39));
    },
    () => {
      f.set(level, i32(3));
      f.set(shift, i64(30));
    },
  );
  f.set(rights, i64(PTE.writable | PTE.user));
  f.set(noExecute, i64(0));
  f.set(tableMfn, i32(0));
  for (const a of above) f.set(a, i32(0));
  f.block((found) =>
    f.loop((descend) => {
      f.if(eqz(table), () => recordFault(f, s, pageFault, errorBits(i32(0)), va));
      f.set(entryAt, add(table, shl(and(wrap(shrU(va, shift)), i32(0x1ff)), i32(3))));
      f.set(entry, load('i64.load', entryAt));
      f.if(eqz(wrap(and(entry, i64(PTE.present)))), () => recordFault(f, s, pageFault, errorBits(i32(0)), va));
      // The four PAE top entries carry no rights.
      f.if(or(eq(mode, i32(2)), ne(level, i32(3))), () => {
        f.set(rights, and(rights, entry));
        f.set(noExecute, or(noExecute, entry));
      });
      f.brIf(found, eq(level, i32(1)));
      f.brIf(found, and(wrap(shrU(entry, i64(7))), and(i32(1), ltU(level, i32(4)))));
      f.set(above[0]!, above[1]!);
      f.set(above[1]!, above[2]!);
      f.set(above[2]!, entryAt);
      f.set(tableMfn, wrap(shrU(and(entry, i64(0x000ffffffffff000n)), i64(12))));
      f.if(gtU(tableMfn, maxMfn), () => recordFault(f, s, pageFault, errorBits(i32(0)), va));
      f.set(table, hostOfFrame(tableMfn));
      f.set(level, sub(level, i32(1)));
      f.set(shift, sub(shift, i64(9)));
      f.br(descend);
    }),
  );
  const denied = or(
    or(
      and(and(isWrite, eqz(wrap(and(rights, i64(PTE.writable))))), or(user, load('i32.load', s, ST.writeProtect))),
      and(user, eqz(wrap(and(rights, i64(PTE.user))))),
    ),
    and(eq(access, i32(Access.execute)), and(load('i32.load', s, ST.nxEnabled), wrap(shrU(noExecute, i64(63))))),
  );
  f.if(denied, () => recordFault(f, s, pageFault, errorBits(i32(1)), va));
  // Frame of the page: large pages keep the address bits below their size.
  const low = f.let(sub(shl(i64(1), sub(shift, i64(12))), i64(1)));
  f.set(
    frame,
    wrap(
      or(
        and(shrU(and(entry, i64(0x000ffffffffff000n)), i64(12)), op('i64.xor', low, i64(-1))),
        and(shrU(va, i64(12)), low),
      ),
    ),
  );
  f.if(gtU(frame, maxMfn), () => recordFault(f, s, pageFault, errorBits(i32(0)), va));
  f.set(frame, hostOfFrame(frame));
  f.if(eqz(frame), () => recordFault(f, s, pageFault, errorBits(i32(0)), va));
  for (const a of above) {
    f.if(a, () =>
      f.if(eqz(and(load('i32.load', a), i32(PTE.accessed))), () =>
        f.store('i32.store', a, or(load('i32.load', a), i32(PTE.accessed))),
      ),
    );
  }
  const wanted = f.let(select(isWrite, i32(PTE.accessed | PTE.dirty), i32(PTE.accessed)));
  f.if(ne(and(load('i32.load', entryAt), wanted), wanted), () =>
    f.store('i32.store', entryAt, or(load('i32.load', entryAt), wanted)),
  );
  // Remember which addresses this L1 table maps, so that changing an entry drops the right TLB entry: va >> 21, bit 31 valid, bit 30 several.
  f.if(and(eq(level, i32(1)), ne(tableMfn, i32(0))), () => {
    const slot = f.let(add(load('i32.load', s, ST.l1Tags), shl(tableMfn, i32(2))));
    const tag = f.let(or(and(wrap(shrU(va, i64(21))), i32(0x07ffffff)), i32(0x80000000 | 0)));
    const known = f.let(load('i32.load', slot));
    f.if(ne(known, tag), () => f.store('i32.store', slot, select(known, i32(0xc0000000 | 0), tag)));
  });
  f.return(frame);
  return fn;
}

/** `host`: (operation, state), as in `Helpers`. With hooks, stores that a read-only mapping refuses are offered to them, see hooks.ts. */
export function buildMemoryFunctions(
  module: ModuleBuilder,
  host: Callee,
  hooks?: Pick<Hooks, 'mayStore' | 'protectedStore'>,
): MemoryFunctions {
  const walk = buildWalk(module);
  /** Tells the host about a data access while data breakpoints are armed. */
  const report = (f: FunctionBuilder, s: Expr, va: Expr, bytes: Expr, access: number) =>
    f.if(load('i32.load', s, ST.watching), () => {
      f.store('i64.store', s, va, ST.watchAddress);
      f.store('i32.store', s, bytes, ST.watchBytes);
      f.store('i32.store', s, i32(access), ST.watchWrite);
      f.call(host, i32(hostOpNumber('watch')), s);
    });

  const hostPage = module.function(['i32', 'i64', 'i32'], ['i32'], 'hostPage');
  {
    const f = hostPage.body;
    const [s, va, access] = [f.param(0), f.param(1), f.param(2)];
    const entry = f.let(add(tlbIndex(s, va), shl(access, i32(16))));
    f.if(isHit(load('i64.load', entry, Tlb.read), va), () =>
      f.return(add(wrap(pageOf(va)), load('i32.load', entry, Tlb.read + 8))),
    );
    f.store('i32.store', s, add(load('i32.load', s, ST.tlbMisses), i32(1)), ST.tlbMisses);
    const host = f.let(f.callExpr(walk, s, va, access));
    f.if(eqz(host), () => f.return(i32(0)));
    f.if(and(load('i32.load', s, ST.watching), ne(access, i32(Access.execute))), () => f.return(host));
    // Pages that hold decoded code get no write entry: each write is looked at.
    f.if(eq(access, i32(Access.write)), () => {
      f.if(load('i32.load', mapsOf(s, host)), () => f.return(host));
      noteWriter(f, s, host, entry);
    });
    const isTaken = ne(load('i64.load', entry, Tlb.read), emptyTagOf(va));
    f.if(and(eq(access, i32(Access.execute)), isTaken), () => beginEpoch(f, s));
    f.store('i64.store', entry, or(va, i64(0xfff)), Tlb.read);
    f.store('i32.store', entry, sub(host, wrap(pageOf(va))), Tlb.read + 8);
    noteFill(f, f.let(fillLogOf(s, load('i32.load', s, ST.asid))), sub(entry, load('i32.load', s, ST.tlb)));
    f.return(host);
  }
  const pageOr = (f: FunctionBuilder, target: Local, s: Expr, va: Expr, access: number) => {
    f.set(target, f.callExpr(hostPage, s, va, i32(access)));
    f.if(eqz(target), () => f.return(i32(0)));
  };
  /** The fault just recorded is that of a write to a page mapped read-only, and hooks may be called. */
  const isRefusedWrite = (s: Expr): Expr =>
    and(
      and(
        eq(load('i32.load', s, ST.exitCode), i32(Exit.Exception)),
        eq(load('i32.load', s, ST.vector), i32(pageFault)),
      ),
      and(
        eq(and(load('i32.load', s, ST.errorCode), i32(3)), i32(3)),
        eqz(and(load('i32.load', s, ST.holdHooks), i32(Hold.platform))),
      ),
    );
  const crosses = (va: Expr, bytes: Expr) => gtU(add(offsetOf(va), bytes), i32(0x1000));
  const secondPage = (va: Expr) => add(pageOf(va), i64(0x1000));
  const firstPart = (va: Expr) => sub(i32(0x1000), offsetOf(va));

  /** An access that reaches from the last canonical page of the lower half into the hole is refused before that page is looked at. */
  const checkEnd = (f: FunctionBuilder, s: Expr, va: Expr, bytes: Expr) =>
    f.if(and(crosses(va, bytes), eq(secondPage(va), i64(firstNonCanonical))), () =>
      recordFault(f, s, generalProtection, i32(0)),
    );

  const fillRead = module.function(['i32', 'i64', 'i32'], ['i32'], 'fillRead');
  {
    const f = fillRead.body;
    const [s, va, bytes] = [f.param(0), f.param(1), f.param(2)];
    const page = f.local('i32');
    report(f, s, va, bytes, Access.read);
    checkEnd(f, s, va, bytes);
    pageOr(f, page, s, va, Access.read);
    f.if(crosses(va, bytes), () => {
      const second = f.local('i32');
      pageOr(f, second, s, secondPage(va), Access.read);
      const n = f.let(firstPart(va));
      f.memoryCopy(add(s, i32(ST.bounce)), add(page, offsetOf(va)), n);
      f.memoryCopy(add(add(s, i32(ST.bounce)), n), second, sub(bytes, n));
      f.return(add(s, i32(ST.bounce)));
    });
    f.return(add(page, offsetOf(va)));
  }

  const fillWrite = module.function(['i32', 'i64', 'i32'], ['i32'], 'fillWrite');
  {
    const f = fillWrite.body;
    const [s, va, bytes] = [f.param(0), f.param(1), f.param(2)];
    const page = f.local('i32');
    checkEnd(f, s, va, bytes);
    f.set(page, f.callExpr(hostPage, s, va, i32(Access.write)));
    f.if(eqz(page), () => {
      if (hooks) f.if(isRefusedWrite(s), () => f.return(f.callExpr(hooks.mayStore, s, va)));
      f.return(i32(0));
    });
    f.if(crosses(va, bytes), () => {
      pageOr(f, page, s, secondPage(va), Access.write);
      f.return(i32(1));
    });
    f.if(or(load('i32.load', mapsOf(s, page)), load('i32.load', s, ST.watching)), () => f.return(i32(1)));
    f.return(add(page, offsetOf(va)));
  }

  // (state, host page, first offset, bytes) -> 1 when decoded code lies there: leaves with CodeWrite. One bit per 128 bytes.
  const touchesCode = module.function(['i32', 'i32', 'i32', 'i32'], ['i32']);
  {
    const f = touchesCode.body;
    const [s, page, offset, bytes] = [f.param(0), f.param(1), f.param(2), f.param(3)];
    const map = f.let(load('i32.load', mapsOf(s, page)));
    const bit = (at: Expr) => shl(i32(1), shrU(at, i32(codeChunkShift)));
    const bits = f.let(or(bit(offset), bit(sub(add(offset, bytes), i32(1)))));
    f.if(and(map, bits), () => {
      f.store('i32.store', s, bits, ST.codeBits);
      f.store('i32.store', s, i32(Exit.CodeWrite), ST.exitCode);
      f.store('i32.store', s, page, ST.exitArg);
      f.return(i32(1));
    });
    f.return(i32(0));
  }

  // Shared by both stores: (state, address, bytes, host address of the value) -> 1 or 0.
  const storeBytes = module.function(['i32', 'i64', 'i32', 'i32'], ['i32']);
  {
    const f = storeBytes.body;
    const [s, va, bytes, value] = [f.param(0), f.param(1), f.param(2), f.param(3)];
    const page = f.local('i32');
    const second = f.local('i32');
    const n = f.local('i32');
    report(f, s, va, bytes, Access.write);
    checkEnd(f, s, va, bytes);
    pageOr(f, page, s, va, Access.write);
    f.set(n, bytes);
    f.if(crosses(va, bytes), () => {
      f.set(n, firstPart(va));
      pageOr(f, second, s, secondPage(va), Access.write);
      f.if(f.callExpr(touchesCode, s, second, i32(0), sub(bytes, n)), () => f.return(i32(0)));
    });
    f.if(f.callExpr(touchesCode, s, page, offsetOf(va), n), () => f.return(i32(0)));
    f.memoryCopy(add(page, offsetOf(va)), value, n);
    f.if(ltU(n, bytes), () => f.memoryCopy(second, add(value, n), sub(bytes, n)));
    f.return(i32(1));
  }

  const store = module.function(['i32', 'i64', 'i32', 'i64'], ['i32'], 'store');
  {
    const f = store.body;
    const s = f.param(0);
    f.store('i64.store', s, f.param(3), ST.bounce);
    const stored = f.callExpr(storeBytes, s, f.param(1), f.param(2), add(s, i32(ST.bounce)));
    if (hooks) {
      f.if(stored, () => f.return(i32(1)));
      const isInside = leU(add(and(wrap(f.param(1)), i32(7)), f.param(2)), i32(8));
      f.if(and(isInside, isRefusedWrite(s)), () =>
        f.return(f.callExpr(hooks.protectedStore, s, f.param(1), f.param(2), f.param(3))),
      );
      f.return(i32(0));
    } else f.return(stored);
  }

  const store128 = module.function(['i32', 'i64'], ['i32'], 'store128');
  {
    const f = store128.body;
    const s = f.param(0);
    f.return(f.callExpr(storeBytes, s, f.param(1), i32(16), add(s, i32(ST.work + 16))));
  }

  const translate = module.function(['i32', 'i32', 'i32', 'i32'], ['i32'], 'translate');
  {
    const f = translate.body;
    const va = f.let(or(extendU(f.param(1)), shl(extendU(f.param(2)), i64(32))));
    const page = f.let(f.callExpr(hostPage, f.param(0), va, f.param(3)));
    f.if(eqz(page), () => f.return(i32(0)));
    f.return(add(page, offsetOf(va)));
  }
  return { hostPage, fillRead, fillWrite, store, store128 };
}
