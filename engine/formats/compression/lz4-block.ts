// SPDX-License-Identifier: MIT
// LZ4 blocks, decoded by a small generated WebAssembly function (lz4_Block_format.md of the LZ4 project, "Compressed block format").
import { pvError } from '../../errors.ts';
import { add, and, eq, geU, gtU, i32, load, ltU, op, select, shl, shrU, sub, type Expr } from '../../wasm/expr.ts';
import type { FunctionBuilder, Local } from '../../wasm/function.ts';
import { ModuleBuilder } from '../../wasm/module.ts';
import type { OutputBuffer } from './output-buffer.ts';

export const LZ4_FORMAT = 'LZ4';
/** A legacy block unpacks to at most 8 MiB; stored incompressible data grows by 1/255 and some bytes. */
const MAX_BLOCK_SIZE = 8 * 1024 * 1024;
export const MAX_PACKED_BLOCK_SIZE = MAX_BLOCK_SIZE + Math.floor(MAX_BLOCK_SIZE / 255) + 16;

const MIN_MATCH = 4;
const MAX_DISTANCE = 0xffff;
const PAGE = 0x10000;

/** Copies go by vectors: they may touch this much behind the last byte that counts, in the source and in the destination. */
const SLACK = 32;

// The memory of the function: its state, two tables, a window on the unpacked block, the packed block.
/** Words at the start: where it goes on when it is called again, and how much of a sequence is not copied yet; the others are its own. */
const State = { from: 0, to: 1, literals: 2, match: 3 } as const;
const STATE_WORDS = 6;
/** By distances below 16: how many bytes to go on by so that the pattern of the matched bytes repeats, in steps of up to 16. */
const STEPS = 0x40;
/** By distances below 16: the 16 indices that make the pattern from its first bytes. */
const PATTERNS = 0x100;
/** What matches may reach back to, then room for the next piece. A block begins at the start of both. */
const WINDOW = 0x200;
const HISTORY = MAX_DISTANCE + 1;
const PIECE = 128 * 1024;
const WINDOW_END = WINDOW + HISTORY + PIECE;
const PACKED = WINDOW_END + SLACK;
const MAX_PAGES = Math.ceil((PACKED + MAX_PACKED_BLOCK_SIZE + SLACK) / PAGE);

/** How a call ended. */
const Status = { complete: 0, full: 1, badLength: 2, badLiterals: 3, badMatch: 4, badDistance: 5 } as const;

const details: Readonly<Record<number, string>> = {
  [Status.badLength]: 'a block ends within a length',
  [Status.badLiterals]: 'a block ends within literals',
  [Status.badMatch]: 'a block ends within a match',
  [Status.badDistance]: 'a match reaches before the start of its block',
};

export function lz4Corrupt(detail: string): Error {
  return pvError('compressed-corrupt', { format: LZ4_FORMAT, detail });
}

/** Copies `count` bytes, or up to SLACK more, to `to` from `from`, which lie 16 bytes apart at least. `first`: vectors to copy without asking. */
function copyVectors(f: FunctionBuilder, to: Expr, from: Expr, count: Expr, first: number): void {
  for (let at = 0; at < first * 16; at += 16) f.store('v128.store', to, load('v128.load', from, at), at);
  f.ifUnlikely(gtU(count, i32(first * 16)), () => {
    const stop = f.let(add(to, count));
    const target = f.local('i32');
    const source = f.local('i32');
    f.set(target, add(to, i32(first * 16)));
    f.set(source, add(from, i32(first * 16)));
    f.loop((again) => {
      f.store('v128.store', target, load('v128.load', source));
      f.increment(source, i32(16));
      f.increment(target, i32(16));
      f.brIf(again, ltU(target, stop));
    });
  });
}

/** The same for a match whose bytes overlap with their copy within a vector: those before `to` repeat. */
function repeatPattern(f: FunctionBuilder, to: Expr, distance: Expr, count: Expr): void {
  const indices = load('v128.load', shl(distance, i32(4)), PATTERNS);
  const pattern = f.let(op('i8x16.swizzle', load('v128.load', sub(to, distance)), indices));
  const step = f.let(load('i32.load8_u', distance, STEPS));
  const stop = f.let(add(to, count));
  const target = f.local('i32');
  f.set(target, to);
  f.loop((again) => {
    f.store('v128.store', target, pattern);
    f.increment(target, step);
    f.brIf(again, ltU(target, stop));
  });
}

/**
 * (end of the packed block, end of the room for output) -> Status. Goes on as the state says until a byte finds no room, then it
 * can be called again; a call is short because code that is running is not replaced by optimised code.
 */
function buildDecoder(): WebAssembly.Module {
  const module = new ModuleBuilder();
  module.importMemory({ module: 'env', name: 'memory', initialPages: 0, maximumPages: MAX_PAGES, shared: false });
  const f = module.function(['i32', 'i32'], ['i32'], 'decode').body;
  const end = f.param(0);
  const limit = f.param(1);
  const from = f.local('i32');
  const to = f.local('i32');
  const token = f.local('i32');
  const literals = f.local('i32');
  const match = f.local('i32');
  const distance = f.local('i32');
  // The order is that of the words in memory.
  const state = [from, to, literals, match, token, distance];
  state.forEach((local, word) => f.set(local, load('i32.load', i32(0), 4 * word)));
  const count = f.local('i32');
  const packedLeft = (): Expr => sub(end, from);
  const leave = (status: number): void => f.return(i32(status));
  const complete = (): void => {
    f.store('i32.store', i32(0), to, 4 * State.to);
    leave(Status.complete);
  };
  /** Adds the further bytes of a length to `length`. No block has enough of them to reach 2^32. */
  const readLength = (length: Local): void => {
    const byte = f.local('i32');
    f.loop((again) => {
      f.ifUnlikely(geU(from, end), () => leave(Status.badLength));
      f.set(byte, load('i32.load8_u', from));
      f.increment(from, i32(1));
      f.increment(length, byte);
      f.brIf(again, eq(byte, i32(255)));
    });
  };
  /** Sets `count` to how much of `wanted` there is room for. */
  const takeRoom = (wanted: Local): void => {
    const room = f.let(sub(limit, to));
    f.set(count, select(ltU(wanted, room), wanted, room));
  };
  const leaveWhenFull = (left: Local): void =>
    f.ifUnlikely(left, () => {
      state.forEach((local, word) => f.store('i32.store', i32(0), local, 4 * word));
      leave(Status.full);
    });

  f.loop((next) => {
    f.block((inMatch) => {
      f.block((inLiterals) => {
        f.brIfUnlikely(inLiterals, literals);
        f.brIfUnlikely(inMatch, match);
        f.ifUnlikely(geU(from, end), complete);
        f.set(token, load('i32.load8_u', from));
        f.increment(from, i32(1));
        f.set(literals, shrU(token, i32(4)));
        f.ifUnlikely(eq(literals, i32(15)), () => readLength(literals));
        f.ifUnlikely(gtU(literals, packedLeft()), () => leave(Status.badLiterals));
      });
      takeRoom(literals);
      copyVectors(f, to, from, count, 1);
      f.increment(from, count);
      f.increment(to, count);
      f.set(literals, sub(literals, count));
      leaveWhenFull(literals);
      // The last sequence has no match.
      f.ifUnlikely(eq(from, end), complete);

      f.ifUnlikely(ltU(packedLeft(), i32(2)), () => leave(Status.badMatch));
      f.set(distance, load('i32.load16_u', from));
      f.increment(from, i32(2));
      // 0 becomes a very large distance. Once the window has moved on, every other one is within reach.
      f.ifUnlikely(geU(sub(distance, i32(1)), sub(to, i32(WINDOW))), () => leave(Status.badDistance));
      f.set(match, and(token, i32(15)));
      f.ifUnlikely(eq(match, i32(15)), () => readLength(match));
      f.increment(match, i32(MIN_MATCH));
    });
    takeRoom(match);
    f.ifUnlikely(
      ltU(distance, i32(16)),
      () => repeatPattern(f, to, distance, count),
      () => copyVectors(f, to, f.let(sub(to, distance)), count, 2),
    );
    f.increment(to, count);
    f.set(match, sub(match, count));
    leaveWhenFull(match);
    f.br(next);
  });
  f.unreachable();
  return new WebAssembly.Module(module.encode());
}

type Decode = (packedEnd: number, roomEnd: number) => number;

let decoder: WebAssembly.Module | undefined;

/** Decodes blocks, one after the other, each on its own. */
export class Lz4BlockDecoder {
  private readonly output: OutputBuffer;
  private readonly memory = new WebAssembly.Memory({ initial: Math.ceil(PACKED / PAGE), maximum: MAX_PAGES });
  private bytes = new Uint8Array(this.memory.buffer);
  private readonly decode: Decode;

  constructor(output: OutputBuffer) {
    this.output = output;
    decoder ??= buildDecoder();
    this.decode = new WebAssembly.Instance(decoder, { env: { memory: this.memory } }).exports['decode'] as Decode;
    for (let distance = 1; distance < 16; distance++) {
      this.bytes[STEPS + distance] = 16 - (16 % distance);
      for (let i = 0; i < 16; i++) this.bytes[PATTERNS + 16 * distance + i] = i % distance;
    }
  }

  /** Appends what a block unpacks to. Throws `compressed-corrupt` or `compressed-too-large`. */
  append(block: Uint8Array): void {
    const { output } = this;
    const packedEnd = PACKED + block.length;
    const missing = packedEnd + SLACK - this.bytes.length;
    if (missing > 0) {
      this.memory.grow(Math.ceil(missing / PAGE));
      this.bytes = new Uint8Array(this.memory.buffer);
    }
    const { bytes } = this;
    bytes.set(block, PACKED);
    const state = new Uint32Array(bytes.buffer, 0, STATE_WORDS);
    state.fill(0);
    state[State.from] = PACKED;
    const blockStart = output.length;
    for (let start = WINDOW; ; start = WINDOW + HISTORY) {
      state[State.to] = start;
      const status = this.decode(packedEnd, Math.min(WINDOW_END, start + output.room));
      const detail = details[status];
      if (detail !== undefined) throw lz4Corrupt(detail);
      output.append(bytes.subarray(start, state[State.to]));
      if (status === Status.complete) break;
      // What finds no room in the limit is refused before any of it is copied.
      output.grow(state[State.literals]! + state[State.match]!);
      bytes.copyWithin(WINDOW, WINDOW_END - HISTORY, WINDOW_END);
    }
    if (output.length - blockStart > MAX_BLOCK_SIZE) throw lz4Corrupt('a block unpacks to more than 8 MiB');
  }
}
