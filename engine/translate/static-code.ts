// SPDX-License-Identifier: MIT
// What a kernel image says about its own code before it runs: functions, loops and calls, found by following direct control flow.

import { decode, decoded } from '../x86/decode.ts';

/** A kernel image as it lies in guest memory after loading; offsets count from its first page. */
export interface CodeImage {
  readonly u8: Uint8Array;
  /** True for offsets of bytes that can be executed. */
  isCode(offset: number): boolean;
}

/** A place that a guest may often come to. */
export interface CodeEntry {
  readonly offset: number;
  readonly kind: 'function' | 'loop' | 'return';
  /** How often it is executed for each time that the roots are, by a guess: see `estimate`. */
  readonly frequency: number;
}

interface Call {
  readonly at: number;
  readonly target: number;
}

interface Function {
  readonly start: number;
  readonly calls: Call[];
  readonly returns: number[];
  loops: readonly { readonly head: number; readonly end: number }[];
  frequency: number;
}

/** A loop is guessed to turn so often, and a call to be reached with this chance. Tuned with a boot of Debian's cloud kernel. */
const turnsPerLoop = 8;
const callChance = 0.9;
/** Of a function that only a symbol names: something may call it through a pointer. */
const unreachedFrequency = 1e-3;

/** Behind these nothing follows; behind everything else that ends a block, something does. */
const leaves = /^(jmp|ret|iret|sysret|sysexit|ud|hlt)/;

/** Bounds of one function: what is larger is a table that was taken for code. */
const maxFunctionInstructions = 20_000;
/** Of all functions together; the largest kernels have five million. */
const maxInstructions = 20_000_000;

/** Follows the code from `roots` and from `functions` (which the roots may not reach), all offsets. `progress` hears how many of them are done. */
export function exploreCode(
  image: CodeImage,
  roots: readonly number[],
  functions: readonly number[],
  progress: (done: number, total: number) => void = () => undefined,
): CodeEntry[] {
  const known = new Map<number, Function>();
  const bounds = [...new Set([...functions, ...roots])].sort((a, b) => a - b);
  const endOf = (start: number): number => {
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (bounds[middle]! <= start) low = middle + 1;
      else high = middle;
    }
    return bounds[low] ?? image.u8.length;
  };
  let decodedInstructions = 0;
  const visit = (start: number): boolean => {
    if (known.has(start) || !image.isCode(start) || decodedInstructions > maxInstructions) return false;
    const found: Function = { start, calls: [], loops: [], returns: [], frequency: 0 };
    known.set(start, found);
    decodedInstructions += scan(image, found, endOf(start));
    return true;
  };
  const queue = [...roots, ...functions];
  for (let n = 0; n < queue.length; n++) {
    if (n % 1024 === 0) progress(Math.min(n, bounds.length), bounds.length);
    if (visit(queue[n]!)) queue.push(...known.get(queue[n]!)!.calls.map((c) => c.target));
  }
  progress(bounds.length, bounds.length);
  estimate(known, roots);
  return [...known.values()].flatMap((f): CodeEntry[] => {
    const at = (offset: number, kind: CodeEntry['kind']): CodeEntry => {
      return { offset, kind, frequency: f.frequency * turns(f, offset) };
    };
    const heads = f.loops.map(({ head }) => at(head, 'loop'));
    return [at(f.start, 'function'), ...heads, ...f.returns.map((offset) => at(offset, 'return'))];
  });
}

/** How often code of a function is guessed to run for each time that the function does. */
function turns(f: Function, offset: number): number {
  const depth = f.loops.filter(({ head, end }) => head <= offset && offset < end).length;
  return turnsPerLoop ** Math.min(depth, 4);
}

/**
 * Static profile estimation: the roots run once, and a function as often as its most frequent call, more when it is called from many places.
 * (Sums over all callers grow beyond any meaning in a call graph as dense as a kernel's.)
 */
function estimate(known: ReadonlyMap<number, Function>, roots: readonly number[]): void {
  const order = roots.flatMap((start) => known.get(start) ?? []);
  const reached = new Set(order);
  const callers = new Map<Function, number>();
  for (const f of order) f.frequency = 1;
  for (const from of order) {
    for (const { at, target } of from.calls) {
      const to = known.get(target);
      if (!to || to === from) continue;
      callers.set(to, (callers.get(to) ?? 0) + 1);
      to.frequency = Math.max(to.frequency, callChance * from.frequency * Math.min(turnsPerLoop, turns(from, at)));
      if (reached.has(to)) continue;
      reached.add(to);
      order.push(to);
    }
  }
  for (const f of known.values())
    f.frequency = reached.has(f) ? f.frequency * (callers.get(f) ?? 1) : unreachedFrequency;
}

/** Decodes one function, up to `end`; returns how many instructions it has. */
function scan(image: CodeImage, f: Function, end: number): number {
  const { u8 } = image;
  const done = new Set<number>();
  const pending = [f.start];
  const heads = new Map<number, number>();
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    while (!done.has(at) && at >= f.start && at < end && image.isCode(at) && done.size < maxFunctionInstructions) {
      if (decode(u8, at, u8.length, 64) !== 'ok') break;
      done.add(at);
      const { length, entry, operands, operandCount } = decoded;
      const next: number = at + length;
      if (!entry.insn.ends) {
        at = next;
        continue;
      }
      const name = entry.insn.name;
      const first = operandCount > 0 ? operands[0] : undefined;
      const target = first?.category === 'j' ? next + first.value : undefined;
      const isCall = name === 'call' || name === 'call-indirect';
      if (isCall) f.returns.push(next);
      if (target !== undefined) {
        if (name === 'call' || target < f.start || target >= end) f.calls.push({ at, target });
        else {
          if (target <= at) heads.set(target, Math.max(heads.get(target) ?? 0, next));
          pending.push(target);
        }
      }
      if (leaves.test(name)) break;
      at = next;
    }
  }
  f.loops = [...heads].map(([head, loopEnd]) => ({ head, end: loopEnd }));
  return done.size;
}
