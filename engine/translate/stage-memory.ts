// SPDX-License-Identifier: MIT
// Memory as regions see it: accesses through the TLB and through windows, and the ways out where these do not say.

import { add, bitsOf, bound, eq, eqz, extendU, i32, i64, load, sub, wrap, type Expr } from '../wasm/expr.ts';
import type { Local } from '../wasm/function.ts';
import { ST, Tlb } from '../cpu/layout.ts';
import { Access, isMiss, tlbEntry } from '../cpu/memory-functions.ts';
import { loadName, storeName, wasmType, WasmStage, type Helpers } from '../cpu/stage-base.ts';
import type { RegionInstruction } from './region.ts';
import type { Place } from './places.ts';
import type { Pieces, RegionState } from './region-state.ts';
import type { Anchor, Reach, Window } from './windows.ts';

/**
 * How an instruction leaves its region before it has done anything: with a fault or an exit `recorded` in the state block, because only the
 * interpreter is `careful` enough for it (code or a page table may be written to), or because it `missed` the TLB or the numbers that it is made for.
 */
export type RegionExit = 'recorded' | 'careful' | 'missed';

/** One look-up serves both kinds of access. Stacks are writable as a rule. */
const willWrite = ({ isStack, isWritten, isSurelyWritten }: Reach): boolean => (isStack ? isWritten : isSurelyWritten);

/** What the TLB says of `length` bytes at `start` (bound): whether that is something else, and if not, their host address. */
export function lookUp(
  { f, tlb }: RegionState,
  start: Expr,
  length: number,
  isWrite: boolean,
): { readonly isUnknown: Expr; readonly host: Expr } {
  const kind = Tlb.read + (isWrite ? Access.write : Access.read) * Tlb.bytes;
  const entry = f.let(tlbEntry(tlb, start));
  const last = length === 1 ? start : add(start, i64(length - 1));
  const isUnknown = isMiss(load('i64.load', entry, kind), last);
  return { isUnknown, host: add(wrap(start), load('i32.load', entry, kind + 8)) };
}

export abstract class RegionMemory extends WasmStage {
  protected readonly i: RegionInstruction;
  protected readonly state: RegionState;
  private readonly leaveRegion: (at: number, exit: RegionExit) => void;
  /** Flags that wait to be computed, as the instruction before left them. */
  private readonly flagsBefore: Pieces;
  /** Blocks open around the instruction: code in further ones may not run. */
  private readonly nesting: number;

  /** The description has made sure that all of its accesses will work, and may do things between them; or has stored something. */
  private isBegun = false;

  /** `leaveRegion` emits an exit with rip at a relative address; pending flags have been put into their locals before. */
  constructor(
    state: RegionState,
    i: RegionInstruction,
    helpers: Helpers,
    leaveRegion: (at: number, exit: RegionExit) => void,
  ) {
    super(state.f, state.base, helpers);
    this.state = state;
    this.i = i;
    this.leaveRegion = leaveRegion;
    this.flagsBefore = state.pending;
    this.nesting = state.f.nesting;
  }

  /** The code that is being emitted runs once whenever the instruction does. */
  protected get isCertain(): boolean {
    return this.f.nesting === this.nesting;
  }

  override probe(address: Expr, bytes: number, write: boolean): void {
    super.probe(address, bytes, write);
    this.isBegun = true;
  }

  /** What has been probed may cross a page, or be written to code: still not in the TLB. Leaving then would do half of an instruction twice. */
  private get staysOnMiss(): boolean {
    return this.state.onMiss !== 'leave' || this.isBegun;
  }

  override load(size: 8 | 16 | 32 | 64 | 128, address: Expr): Expr {
    const { f } = this;
    // Scalar SSE operands as floats: what wants their bits can move them, but a load that nobody uses is done all the same.
    const isScalar = (size === 64 || size === 32) && this.i.operands.some((o) => o.category === 'x');
    const value = f.local(isScalar ? (size === 64 ? 'f64' : 'f32') : wasmType(size));
    const name = isScalar ? `${value.type}.load` : loadName[size]!;
    const read = (host: Expr, offset: number) => f.set(value, load(name, host, offset));
    f.scope(() => {
      const a = this.let(address);
      const host = f.local('i32');
      const slow = () => {
        f.set(host, f.callExpr(this.helpers.fillRead, this.base, a, i32(size / 8)));
        f.if(eqz(host), () => this.leaveAtStart());
        read(host, 0);
      };
      this.reach(a, size / 8, 'read', slow, read);
    });
    return isScalar ? bitsOf(bound(value)) : bound(value);
  }

  override store(size: 8 | 16 | 32 | 64 | 128, address: Expr, value: Expr): void {
    const { f } = this;
    f.scope(() => {
      const a = this.let(address);
      const { float } = value;
      const v = float ?? this.let(value);
      const slow = () => {
        const done =
          size === 128
            ? (this.put('v128.store', ST.work + 16, v), f.callExpr(this.helpers.store128, this.base, a))
            : f.callExpr(this.helpers.store, this.base, a, i32(size / 8), extendU(float ? value : v));
        f.if(eqz(done), () => this.leaveAtStart());
      };
      const name = float ? `${float.type}.store` : storeName[size]!;
      this.reach(a, size / 8, 'write', slow, (host, offset) => f.store(name, host, v, offset));
    });
    this.isBegun = true;
  }

  /**
   * Emits an access: `fast` with the host address (and an offset to it); where the TLB does not say, `slow` or a way out. The first access near
   * an anchor opens a window, which later ones look through without a check.
   */
  private reach(
    address: Expr,
    bytes: number,
    kind: 'read' | 'write',
    slow: () => void,
    fast: (host: Expr, offset: number) => void,
  ): void {
    const { f } = this;
    const place = address.from as Place | undefined;
    const open = place?.anchor.windowFor(place.offset, bytes, kind);
    if (place && open) {
      fast(open.host, place.offset - open.low);
      return;
    }
    const window = place && this.newWindow(place.anchor, place.offset, bytes);
    const ahead = window ? place.offset - window.low : 0;
    const start = ahead === 0 ? address : this.let(sub(address, i64(ahead)));
    const length = window ? window.high - window.low : bytes;
    const isWrite = kind === 'write' || (window !== undefined && willWrite(place!.anchor.reach!));
    const { isUnknown, host } = lookUp(this.state, start, length, isWrite);
    if (this.staysOnMiss) {
      f.ifUnlikely(isUnknown, slow, () => fast(host, 0));
      return;
    }
    f.ifUnlikely(isUnknown, () => this.leaveMissed());
    if (!window) {
      fast(host, 0);
      return;
    }
    place.anchor.read = window;
    if (isWrite) place.anchor.write = window;
    f.set(window.host, host);
    fast(window.host, ahead);
  }

  /** A call's result in a form that V8 knows to be zero-extended: else each use where it meets the result of an addition costs a move. */
  private zeroExtended(result: Expr): Expr {
    return add(result, this.get('i32.load', ST.zero));
  }

  /** A window that this access opens, where the forecast says that more will follow. */
  private newWindow(anchor: Anchor, offset: number, bytes: number): Window | undefined {
    const { reach } = anchor;
    // Where calls are made, a window would not help: perhaps it is what crosses a page.
    if (this.staysOnMiss || !reach || reach.accesses < 2 || !this.isCertain) return undefined;
    if (offset < reach.low || offset + bytes > reach.high) return undefined;
    return { low: reach.low, high: reach.high, host: this.state.places.windowLocal() };
  }

  /** Sets `host` to the host address of `bytes` bytes that can be read and written. */
  protected reachForUpdate(address: Expr, bytes: number, host: Local): void {
    this.reach(
      address,
      bytes,
      'write',
      () => {
        const place = this.f.callExpr(this.helpers.fillWrite, this.base, address, i32(bytes));
        this.f.set(host, this.zeroExtended(place));
        this.f.if(eqz(host), () => this.leaveAtStart());
        // Crosses a page, or touches code or a page table: the interpreter does this one.
        this.f.if(eq(host, i32(1)), () => this.leaveForCare());
      },
      (at, offset) => this.f.set(host, add(at, i32(offset))),
    );
  }

  protected leaveAtStart(): void {
    this.state.leaveRecipe(this.flagsBefore);
    this.leaveRegion(this.i.at, 'recorded');
  }

  protected leaveMissed(): void {
    this.state.leaveRecipe(this.flagsBefore);
    this.leaveRegion(this.i.at, 'missed');
  }

  private leaveForCare(): void {
    this.state.leaveRecipe(this.flagsBefore);
    this.leaveRegion(this.i.at, 'careful');
  }

  protected tlbBank(): Expr {
    return this.state.tlb;
  }
}
