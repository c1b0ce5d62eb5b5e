// SPDX-License-Identifier: MIT
// Strips: turns of a loop whose accesses stay in their pages, so that one TLB look-up for each serves all of these turns.

import { add, and, i32, i64, ltS, ltU, mul, op, shl, sub, wrap, type Expr } from '../wasm/expr.ts';
import type { Label, Local } from '../wasm/function.ts';
import { keepSpecimen } from '../specimens.ts';
import { ST } from '../cpu/layout.ts';
import { blocksBehind, shareOf, type Region, type RegionBlock, type RegionInstruction } from './region.ts';
import type { Place } from './places.ts';
import type { RegionState } from './region-state.ts';
import { lookUp } from './stage-memory.ts';
import type { Structure } from './structure.ts';
import { accessOf, Anchor, registersWritten, stepOf } from './windows.ts';

const pageBytes = 4096;
const registers = 16;
/** Bytes of SSE operands, which most instructions want to be aligned. */
const vectorBytes = 16;
/** Faster ones leave their page too soon. */
const fastest = 512;
/** Wider ones cross pages too often, unless they are as fast. */
const widest = 64;
/** More would need more of the host's registers than there are. */
const most = 6;
/** Loops that go round less often than so are not worth it. */
const leastShare = 0.75;

/** A loop with no other inside. */
interface InnerLoop {
  readonly blocks: readonly RegionBlock[];
  /** Bits of the general registers that they may write. */
  readonly written: number;
  /** The header, and the blocks that control comes to straight from there. */
  readonly straight: readonly RegionBlock[];
}

/** What is added to a value in a turn: so much at most, and so much is taken away; all of it multiples of the lowest bit of `bits`. */
interface Change {
  readonly up: number;
  readonly down: number;
  readonly bits: number;
}

const none: Change = { up: 0, down: 0, bits: 0 };

/** Accesses around one sum of registers. */
interface Stream {
  /** Numbers of registers, -1 = none. */
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly change: Change;
  /** Bytes that a turn accesses, relative to the sum when it begins. */
  low: number;
  high: number;
  isWritten: boolean;
  /** Where in them an operand lies that must be aligned. */
  aligned: number | undefined;
  readonly users: StreamUser[];
}

interface StreamUser {
  readonly i: RegionInstruction;
  readonly bytes: number;
  /** The operand is aligned if the one at `Stream.aligned` is. */
  readonly isAligned: boolean;
}

/** What a turn does to each register; undefined = something else. */
function changesIn(blocks: readonly RegionBlock[]): (Change | undefined)[] {
  const changes = new Array<Change | undefined>(registers).fill(none);
  for (const { instructions } of blocks) {
    for (const i of instructions) {
      const step = stepOf(i);
      for (let written = registersWritten(i); written !== 0; written &= written - 1) {
        const n = 31 - Math.clz32(written & -written);
        const change = changes[n];
        if (!change || step?.register !== n) changes[n] = undefined;
        else {
          const { by } = step;
          const [up, down] = [change.up + Math.max(by, 0), change.down + Math.max(-by, 0)];
          changes[n] = { up, down, bits: change.bits | by };
        }
      }
    }
  }
  return changes;
}

/** Instructions that take 128 bits from anywhere. */
const takesAnyAddress = /^(movu|lddqu|pcmp[ei]str)/;

const needsAlignment = (i: RegionInstruction, bytes: number): boolean =>
  bytes === vectorBytes && i.operands.some((o) => o.category === 'x') && !takesAnyAddress.test(i.entry.insn.name);

/** What a loop accesses in each of its turns at addresses that go on by the same amount. */
function streamsOf({ blocks, straight }: InnerLoop): readonly Stream[] {
  const changes = changesIn(blocks);
  const found = new Map<number, Stream>();
  const moved = new Int32Array(registers);
  for (const i of straight.flatMap((b) => b.instructions)) {
    const access = accessOf(i);
    if (access) {
      const stream = streamAt(found, i, changes);
      const at = i.dispLow + (stream ? movedBy(stream, moved) : 0);
      if (stream) join(stream, i, at, access);
    }
    const step = stepOf(i);
    if (step) moved[step.register]! += step.by;
  }
  return [...found.values()].filter((s) => s.users.length > 0).slice(0, most);
}

const movedBy = ({ base, index, scale }: Stream, moved: Int32Array): number =>
  (base < 0 ? 0 : moved[base]!) + (index < 0 ? 0 : moved[index]! * (1 << scale));

/** The stream that an instruction's address belongs to. */
function streamAt(
  found: Map<number, Stream>,
  { base: baseSlot, index: indexSlot, scale }: RegionInstruction,
  changes: readonly (Change | undefined)[],
): Stream | undefined {
  const [base, index] = [baseSlot, indexSlot].map((slot) => (slot === ST.zero ? -1 : slot >> 3)) as [number, number];
  const ofBase = base < 0 ? none : changes[base];
  const ofIndex = index < 0 ? none : changes[index];
  if (!ofBase || !ofIndex) return undefined;
  const up = ofBase.up + ofIndex.up * (1 << scale);
  const down = ofBase.down + ofIndex.down * (1 << scale);
  // Around a register that stays there is a window already.
  if ((up > 0 && down > 0) || up + down > fastest || (up + down === 0 && index < 0)) return undefined;
  const key = ((base + 1) << 8) | ((index + 1) << 2) | scale;
  const change = { up, down, bits: ofBase.bits | (ofIndex.bits << scale) };
  const stream: Stream = found.get(key) ?? {
    ...{ base, index, scale, change },
    ...{ low: 0, high: 0, isWritten: false, aligned: undefined, users: [] },
  };
  found.set(key, stream);
  return stream;
}

function join(
  stream: Stream,
  i: RegionInstruction,
  at: number,
  { bytes, isWrite }: { bytes: number; isWrite: boolean },
): void {
  const isFirst = stream.users.length === 0;
  const low = isFirst ? at : Math.min(stream.low, at);
  const high = isFirst ? at + bytes : Math.max(stream.high, at + bytes);
  const { up, down, bits } = stream.change;
  if (high - low > Math.max(widest, up + down)) return;
  stream.low = low;
  stream.high = high;
  stream.isWritten ||= isWrite;
  if (needsAlignment(i, bytes) && bits % vectorBytes === 0) stream.aligned ??= at;
  const { aligned } = stream;
  stream.users.push({ i, bytes, isAligned: aligned !== undefined && (at - aligned) % vectorBytes === 0 });
}

/** A stream of the loop that is being emitted. */
interface OpenStream {
  readonly stream: Stream;
  /** The smallest displacement of those that use it. */
  readonly least: number;
  /** Host address behind that, less the registers that the loop changes. */
  readonly host: Local;
}

/** The strips of a loop that is being emitted. */
export class Strips {
  private readonly state: RegionState;
  private readonly streams: readonly OpenStream[];
  private readonly written: number;
  /** Instructions of a turn, at the least. */
  private readonly instructions: number;
  /** The strip is over when the budget is less than this. */
  readonly limit: Local;
  private again: Label = { depth: 0 };

  constructor(state: RegionState, { straight, written }: InnerLoop, streams: readonly Stream[]) {
    const newLocal = () => state.f.permanentLocal('i32');
    this.state = state;
    this.written = written;
    this.instructions = straight.reduce((sum, b) => sum + b.instructions.length, 0);
    this.streams = streams.map((stream) => {
      const least = Math.min(...stream.users.map(({ i }) => i.dispLow));
      return { stream, least, host: newLocal() };
    });
    this.limit = newLocal();
  }

  /** Emits strips of a loop that `loop` emits. `leave` emits a way out, to where a turn begins, because the TLB does not know an address. */
  emit(leave: () => void, loop: () => void): void {
    const { state, limit } = this;
    const { f, budget } = state;
    f.loop((label) => {
      this.again = label;
      f.scope(() => {
        const turns = f.local('i32');
        // Steps are a byte at least.
        f.set(turns, i32(pageBytes));
        for (const open of this.streams) this.find(open, turns, leave);
        // Longer turns end it sooner.
        f.set(limit, add(sub(budget, mul(turns, i32(this.instructions))), i32(1)));
        f.if(ltS(limit, i32(0)), () => f.set(limit, i32(0)));
      });
      for (const open of this.streams)
        for (const user of open.stream.users) state.streams.set(user.i, () => this.placeOf(open, user));
      loop();
      state.streams.clear();
    });
  }

  /** At the end of a strip, and of a turn. `leave` emits the way out where the budget is used up. */
  next(leave: () => void): void {
    const { f, budget } = this.state;
    f.if(ltS(budget, i32(0)), leave);
    f.br(this.again);
  }

  /** Looks up where a stream is now; `turns` becomes the number of those that stay in that page, if it is less. */
  private find({ stream, least, host }: OpenStream, turns: Local, leave: () => void): void {
    const { f } = this.state;
    const { low, high, aligned } = stream;
    const { up, down } = stream.change;
    f.scope(() => {
      const start = f.let(add(this.sum(stream, -1), i64(low)));
      const found = lookUp(this.state, start, high - low, stream.isWritten);
      f.ifUnlikely(found.isUnknown, leave);
      const first = wrap(start);
      if (aligned !== undefined) f.ifUnlikely(and(add(first, i32(aligned - low)), i32(vectorBytes - 1)), leave);
      const changing = this.sum(stream, this.written);
      f.set(host, add(sub(found.host, wrap(changing)), i32(least - low)));
      if (up + down === 0) return;
      const offset = f.let(and(first, i32(pageBytes - 1)));
      const room = up > 0 ? sub(i32(pageBytes - (high - low)), offset) : offset;
      const more = f.let(add(op('i32.div_u', room, i32(up + down)), i32(1)));
      f.if(ltU(more, turns), () => f.set(turns, more));
    });
  }

  /** The sum of those registers of a stream that are among `wanted` (bits). */
  private sum({ base, index, scale }: Stream, wanted: number): Expr {
    const { state } = this;
    const isWanted = (register: number) => register >= 0 && (wanted & (1 << register)) !== 0;
    const ofBase = isWanted(base) ? state.gpr(base) : i64(0);
    return isWanted(index) ? add(shl(state.gpr(index), i64(scale)), ofBase) : ofBase;
  }

  private placeOf({ stream, least, host }: OpenStream, { i, bytes, isAligned }: StreamUser): Place {
    const { f } = this.state;
    const changing = this.sum(stream, this.written);
    const anchor = new Anchor();
    anchor.isAligned = isAligned;
    const at = f.local('i32');
    f.set(at, add(wrap(changing), host));
    anchor.read = { low: least - i.dispLow, high: bytes, host: at };
    if (stream.isWritten) anchor.write = anchor.read;
    return { anchor, offset: 0 };
  }
}

/** Before the loop with this header: strips, if there is no other loop inside, and it goes round often as far as is known. `blocks`, `written`: of it. */
export function openStrips(
  state: RegionState,
  region: Region,
  { loops }: Structure,
  header: number,
  blocks: readonly RegionBlock[],
  written: number,
): Strips | undefined {
  const isIn = (n: number) => loops[n]!.includes(header);
  if (loops.some((of) => of.includes(header) && of[of.length - 1] !== header)) return undefined;
  const straight: RegionBlock[] = [];
  for (let n = header; ;) {
    const block = region.blocks[n]!;
    straight.push(block);
    const behind = blocksBehind(block);
    const stays = behind.filter(isIn).map((to) => shareOf(block, to));
    if (!stays.includes(undefined) && stays.reduce((sum: number, share) => sum + share!, 0) < leastShare)
      return undefined;
    const [next] = behind;
    if (block.terminator.kind !== 'next' && block.terminator.kind !== 'jump') break;
    if (next === undefined || next === header || !isIn(next)) break;
    n = next;
  }
  const loop = { blocks, written, straight };
  const streams = streamsOf(loop);
  return streams.length > 0 ? keepSpecimen(new Strips(state, loop, streams)) : undefined;
}
