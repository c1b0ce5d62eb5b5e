// SPDX-License-Identifier: MIT
// String instructions with and without repeat prefixes (Intel SDM volume 2: MOVS, STOS, LODS, CMPS, SCAS, REP).

import { Seg, ST } from '../cpu/layout.ts';
import {
  add,
  and,
  eqz,
  extendU,
  i32,
  i64,
  konst,
  ltU,
  mul,
  ne,
  op,
  or,
  select,
  shrU,
  sub,
  wrap,
  type Expr,
} from '../wasm/expr.ts';
import type { Label, Local } from '../wasm/function.ts';
import { setSubFlags } from './flags.ts';
import type { IntSize, Stage } from './stage.ts';
import { insn, type Instruction } from './types.ts';

const rcx = 1;
const rsi = 6;
const rdi = 7;

type Bytes = 1 | 2 | 4 | 8;
const bytesOf = (s: Stage): Bytes => (s.size / 8) as Bytes;

/** Index register as an offset: i64, wrapped to the address size. */
const pointer = (s: Stage, register: number): Expr => s.let(extendU(s.gpr(register, s.addressSize)));

/** Moves an index register by `bytes` (i64). */
function advance(s: Stage, register: number, bytes: Expr): void {
  const old = s.gpr(register, s.addressSize);
  const moved = add(old, old.type === 'i64' ? bytes : wrap(bytes));
  s.setGpr(register, s.addressSize, moved);
}

/** +size or -size by DF. */
const step = (s: Stage): Expr =>
  s.let(select(and(s.get('i32.load', ST.sysFlags), i32(0x400)), i64(-bytesOf(s)), i64(bytesOf(s))));

/** Repeats `body` while the count register is not zero; `body` may leave through the label. */
function repeat(s: Stage, body: (done: Label) => void): void {
  s.f.block((done) =>
    s.f.loop((again) => {
      s.f.brIf(done, eqz(s.gpr(rcx, s.addressSize)));
      body(done);
      s.f.br(again);
    }),
  );
}

function countDown(s: Stage, by: Expr): void {
  const count = s.gpr(rcx, s.addressSize);
  s.setGpr(rcx, s.addressSize, sub(count, count.type === 'i64' ? by : wrap(by)));
}

/** Bytes left in the page of a linear address (i32). */
const roomInPage = (address: Expr): Expr => sub(i32(0x1000), and(wrap(address), i32(0xfff)));

const minimum = (s: Stage, a: Expr, b: Expr): Expr => s.let(select(ltU(a, b), a, b));

/** Elements that the count register still asks for, in bytes, at most 64 KiB (i32). */
function wantedBytes(s: Stage): Expr {
  const count = s.gpr(rcx, s.addressSize);
  const few = s.let(select(ltU(count, konst(count.type, 0x2000)), wrap(count), i32(0x2000)));
  return s.let(mul(few, i32(bytesOf(s))));
}

/** Some usable segment does not reach to 4 GiB (i32). */
function hasLimits(s: Stage): Expr {
  const limited = (segment: number): Expr =>
    and(
      ne(s.get('i32.load', ST.segAttr + 4 * segment), i32(0)),
      ne(s.get('i32.load', ST.segLimit + 4 * segment), i32(-1)),
    );
  return Object.values(Seg).map(limited).reduce(or);
}

/**
 * One chunk of a bulk operation: as many whole elements as lie in the pages of all `addresses`, forwards only, outside wrapping offsets.
 * Zero means "do one element the slow way".
 */
function chunkBytes(s: Stage, addresses: readonly Expr[], offsets: readonly Expr[]): Expr {
  let n = wantedBytes(s);
  for (const a of addresses) n = minimum(s, n, s.let(roomInPage(a)));
  if (s.addressSize !== 64) {
    // Near the end of a narrow offset range elements wrap: leave those to the slow way.
    const limit = s.addressSize === 32 ? 0xffffffff : 0xffff;
    for (const o of offsets) n = s.let(select(ltU(o, i64(limit - 0x10000 < 0 ? 0 : limit - 0x10000)), n, i32(0)));
  }
  // Outside 64-bit mode a segment may end within the chunk: only segments without a limit take the fast way.
  if (s.mode !== 64) n = s.let(select(hasLimits(s), i32(0), n));
  const whole = s.let(and(n, i32(-bytesOf(s))));
  return s.let(select(and(s.get('i32.load', ST.sysFlags), i32(0x400)), i32(0), whole));
}

function finishChunk(s: Stage, registers: readonly number[], chunk: Expr): void {
  for (const r of registers) advance(s, r, extendU(chunk));
  countDown(s, extendU(shrU(chunk, i32(Math.log2(bytesOf(s))))));
}

function moveOne(s: Stage): void {
  const size = s.size;
  const value = s.load(size, s.linear('source', pointer(s, rsi), bytesOf(s), false));
  s.store(size, s.linear(Seg.es, pointer(s, rdi), bytesOf(s), true), value);
  const by = step(s);
  advance(s, rsi, by);
  advance(s, rdi, by);
}

function repeatMove(s: Stage): void {
  const { f } = s;
  repeat(s, () => {
    const from = pointer(s, rsi);
    const to = pointer(s, rdi);
    const source = s.let(s.linear('source', from, bytesOf(s), false));
    // The source is read before the limit of the target's segment is met.
    if (s.mode !== 64) s.probe(source, bytesOf(s), false);
    const target = s.let(s.linear(Seg.es, to, bytesOf(s), true));
    const chunk = chunkBytes(s, [source, target], [from, to]);
    const bulk = f.local('i32');
    f.set(bulk, i32(0));
    f.if(chunk, () => {
      const readAt = s.let(s.direct(source, false));
      const writeAt = s.let(s.direct(target, true));
      // A target just above its source must see its own output again: that is not a block copy.
      const overlaps = ltU(sub(writeAt, readAt), chunk);
      f.if(and(and(ne(readAt, i32(0)), ne(writeAt, i32(0))), or(eqz(overlaps), op('i32.eq', readAt, writeAt))), () => {
        f.memoryCopy(writeAt, readAt, chunk);
        finishChunk(s, [rsi, rdi], chunk);
        f.set(bulk, i32(1));
      });
    });
    f.if(eqz(bulk), () => {
      moveOne(s);
      countDown(s, i64(1));
    });
  });
}

function storeOne(s: Stage): void {
  s.store(s.size, s.linear(Seg.es, pointer(s, rdi), bytesOf(s), true), s.gpr(0, s.size));
  advance(s, rdi, step(s));
}

/** Fills `length` bytes at a host address with the accumulator; lengths are multiples of the element. */
function fill(s: Stage, at: Expr, length: Expr): void {
  const { f } = s;
  if (s.size === 8) {
    f.memoryFill(at, s.gpr(0, 8), length);
    return;
  }
  const value = s.gpr(0, s.size);
  const uniform =
    s.size === 64
      ? op('i64.eq', value, mul(and(value, i64(0xff)), i64(0x0101010101010101n)))
      : op('i32.eq', value, mul(and(value, i32(0xff)), i32(s.size === 32 ? 0x01010101 : 0x0101)));
  f.if(
    uniform,
    () => f.memoryFill(at, and(wrap(value), i32(0xff)), length),
    () => {
      const position = f.local('i32');
      const end = s.let(add(at, length));
      f.set(position, at);
      f.loop((again) => {
        f.store(s.size === 64 ? 'i64.store' : s.size === 32 ? 'i32.store' : 'i32.store16', position, value);
        f.set(position, add(position, i32(bytesOf(s))));
        f.brIf(again, ltU(position, end));
      });
    },
  );
}

function repeatStore(s: Stage): void {
  const { f } = s;
  repeat(s, () => {
    const to = pointer(s, rdi);
    const target = s.let(s.linear(Seg.es, to, bytesOf(s), true));
    const chunk = chunkBytes(s, [target], [to]);
    const bulk = f.local('i32');
    f.set(bulk, i32(0));
    f.if(chunk, () => {
      const writeAt = s.let(s.direct(target, true));
      f.if(writeAt, () => {
        fill(s, writeAt, chunk);
        finishChunk(s, [rdi], chunk);
        f.set(bulk, i32(1));
      });
    });
    f.if(eqz(bulk), () => {
      storeOne(s);
      countDown(s, i64(1));
    });
  });
}

function loadOne(s: Stage): void {
  const value = s.load(s.size, s.linear('source', pointer(s, rsi), bytesOf(s), false));
  advance(s, rsi, step(s));
  s.setGpr(0, s.size, value);
}

interface Compared {
  readonly a: Local;
  readonly b: Local;
}

function comparedLocals(s: Stage): Compared {
  const type = s.size === 64 ? 'i64' : 'i32';
  return { a: s.f.local(type), b: s.f.local(type) };
}

function setCompared(s: Stage, { a, b }: Compared): void {
  setSubFlags(s, s.size, a, b, s.let(sub(a, b)));
}

function readCompared(s: Stage, scan: boolean, { a, b }: Compared): void {
  const { f } = s;
  const size: IntSize = s.size;
  if (scan) f.set(a, s.gpr(0, size));
  else f.set(a, s.load(size, s.linear('source', pointer(s, rsi), bytesOf(s), false)));
  f.set(b, s.load(size, s.linear(Seg.es, pointer(s, rdi), bytesOf(s), false)));
  const by = step(s);
  if (!scan) advance(s, rsi, by);
  advance(s, rdi, by);
}

function compareOnce(scan: boolean): (s: Stage) => void {
  return (s) => {
    const both = comparedLocals(s);
    readCompared(s, scan, both);
    setCompared(s, both);
  };
}

/**
 * Flags are set after every element: a fault in the middle leaves those of the last comparison, as the processor does.
 * `untilEqual`: REPNE, else REPE.
 */
function compareRepeated(scan: boolean, untilEqual: boolean): (s: Stage) => void {
  return (s) => {
    const both = comparedLocals(s);
    repeat(s, (done) => {
      readCompared(s, scan, both);
      countDown(s, i64(1));
      setCompared(s, both);
      const equal = op(`${both.a.type}.eq`, both.a, both.b);
      s.f.brIf(done, untilEqual ? equal : eqz(equal));
    });
  };
}

const source = { perAddress: true, stringSource: true } as const;
const compareOptions = { ...source, writes: 'oszapc' } as const;
const repeatedOptions = { ...source, mayWrite: 'oszapc' } as const;
const both = (prefix: string, opcode: number): string[] => {
  const code = (n: number) => n.toString(16).toUpperCase();
  return [`${prefix}${code(opcode)} #b`, `${prefix}${code(opcode + 1)} #v`];
};

export const stringInstructions: readonly Instruction[] = [
  insn('movs', both('', 0xa4), '', source, moveOne),
  insn('rep-movs', [...both('F3 ', 0xa4), ...both('F2 ', 0xa4)], '', source, repeatMove),
  insn('stos', both('', 0xaa), '', source, storeOne),
  insn('rep-stos', [...both('F3 ', 0xaa), ...both('F2 ', 0xaa)], '', source, repeatStore),
  insn('lods', both('', 0xac), '', source, loadOne),
  insn('rep-lods', [...both('F3 ', 0xac), ...both('F2 ', 0xac)], '', source, (s) =>
    repeat(s, () => {
      loadOne(s);
      countDown(s, i64(1));
    }),
  ),
  insn('cmps', both('', 0xa6), '', compareOptions, compareOnce(false)),
  insn('repe-cmps', both('F3 ', 0xa6), '', repeatedOptions, compareRepeated(false, false)),
  insn('repne-cmps', both('F2 ', 0xa6), '', repeatedOptions, compareRepeated(false, true)),
  insn('scas', both('', 0xae), '', compareOptions, compareOnce(true)),
  insn('repe-scas', both('F3 ', 0xae), '', repeatedOptions, compareRepeated(true, false)),
  insn('repne-scas', both('F2 ', 0xae), '', repeatedOptions, compareRepeated(true, true)),
];
