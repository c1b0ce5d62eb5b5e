// SPDX-License-Identifier: MIT
// Finds loops that only count (scalar evolution: Bachmann, Wang, Zima, "Chains of recurrences"): what their turns leave, and how many surely follow.

import { keepSpecimen } from '../specimens.ts';
import { ST } from '../cpu/layout.ts';
import type { Operand } from '../x86/decode.ts';
import { flagEffect } from './flag-effects.ts';
import { shareOf, type Edge, type Region, type RegionBlock, type RegionInstruction } from './region.ts';

/** Operations of other widths keep a part of what the register held, and are not looked at. */
export type Width = 32 | 64;

/** What a register holds somewhere in a turn, by what registers hold when the turn begins. A sum has its upper bits cleared beyond `bits`. */
export type Value =
  | { readonly kind: 'constant'; readonly value: bigint }
  | { readonly kind: 'sum'; readonly register: number; readonly by: bigint; readonly bits: Width };

export type Relation = 'eq' | 'ne' | 'ltU' | 'leU' | 'gtU' | 'geU' | 'ltS' | 'leS' | 'gtS' | 'geS';

/** What must be true of a turn's values for it to stay on the path. */
export interface Comparison {
  readonly relation: Relation;
  readonly bits: Width;
  readonly a: Value;
  readonly b: Value;
}

/** A comparison whose `a` is `step` more with each turn, while `b` stays. */
export interface Limit extends Comparison {
  readonly step: bigint;
}

/** What some turns, one at the least, leave in a register. */
export type Change =
  /** This was added in each turn. */
  | { readonly kind: 'counter'; readonly register: number; readonly step: bigint; readonly bits: Width }
  /** The same in each turn, or a sum with what another register holds when these turns are over. */
  | { readonly kind: 'value'; readonly register: number; readonly value: Value };

export interface CountingLoop {
  /** The blocks of a turn from the header on, and which way their branches go. */
  readonly path: readonly { readonly block: number; readonly takes: boolean | undefined }[];
  /** Instructions of a turn. */
  readonly instructions: number;
  /** What every turn finds the same: true for one, true for all. */
  readonly conditions: readonly Comparison[];
  readonly limits: readonly Limit[];
  /** Counters first. */
  readonly changes: readonly Change[];
}

/** Where an edge between two blocks of a loop leads: on within the turn, or round to the header; undefined = elsewhere. */
export type Follow = (from: number, to: number) => 'on' | 'round' | undefined;

const generalRegisters = 16;
const conditionNames = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const conditionCodes = new Map(conditionNames.map((name, cc) => [`j${name}`, cc]));

/** Turns of more blocks are not looked at, nor is more of a loop than so many blocks, each as often as ways lead there. */
const mostBlocks = 12;
const mostSteps = 64;

/** Counters with larger steps are not looked at: no loop turns often with one, and sums of a few steps fit into 64 bits. */
const largestStep = 2n ** 31n;

const constant = (value: bigint): Value => ({ kind: 'constant', value });

/** `value + by` as an operation of this width leaves it in a register; undefined where that is no such sum. */
function plus(value: Value, by: bigint, bits: Width): Value | undefined {
  if (value.kind === 'constant') return constant(BigInt.asUintN(bits, value.value + by));
  if (value.bits < bits) return by === 0n ? value : undefined;
  return { ...value, by: BigInt.asUintN(64, value.by + by), bits };
}

/** What the flags were set from: the difference of `a` and `b`. */
interface Flags {
  readonly bits: Width;
  readonly a: Value;
  readonly b: Value;
  /** The difference, where it is such a value. */
  readonly result: Value | undefined;
  /** The carry flag is the borrow of it. */
  readonly hasBorrow: boolean;
  /** Overflow, too, is that of the difference. */
  readonly isSigned: boolean;
}

/** The state of one turn while it is followed instruction by instruction. */
class Turn {
  readonly values: Value[];
  /** Undefined when nobody here knows what they say. */
  flags: Flags | undefined;

  constructor() {
    this.values = Array.from({ length: generalRegisters }, (_, register) => ({
      kind: 'sum',
      register,
      by: 0n,
      bits: 64,
    }));
  }

  /** Follows an instruction; false when it does something else than to count. */
  step(i: RegionInstruction): boolean {
    const { name } = i.entry.insn;
    if (name === 'nop' || name === 'pause' || name === 'jmp' || conditionCodes.has(name)) return true;
    const { size } = i;
    if (size !== 32 && size !== 64) return false;
    if (name === 'lea') return this.set(i, this.address(i, size));
    const values = i.operands.map((o) => (o.bits === size ? this.read(o, size) : undefined));
    const [a, b] = values;
    if (!a || values.includes(undefined)) return false;
    const isItself = i.operands[1]?.category === 'r' && i.operands[0]!.value === i.operands[1].value;
    switch (name) {
      case 'mov':
        return this.set(i, b);
      case 'xor':
        this.flags = undefined;
        return isItself && this.set(i, constant(0n));
      case 'inc':
        return this.sum(i, size, a, -1n, false);
      case 'dec':
        return this.sum(i, size, a, 1n, false);
      case 'add':
        return b?.kind === 'constant' && this.sum(i, size, a, -b.value, false);
      case 'sub':
        return b?.kind === 'constant' && this.sum(i, size, a, b.value, true);
      case 'test':
        this.flags = { bits: size, a, b: constant(0n), result: a, hasBorrow: true, isSigned: true };
        return isItself;
      case 'cmp': {
        const result = b!.kind === 'constant' ? plus(a, -b!.value, size) : undefined;
        this.flags = { bits: size, a, b: b!, result, hasBorrow: true, isSigned: true };
        return true;
      }
      default:
        return false;
    }
  }

  private read(o: Operand, bits: Width): Value | undefined {
    if (o.category === 'r') return plus(this.values[o.value >> 3]!, 0n, bits);
    if (o.category !== 'i') return undefined;
    return constant(BigInt.asUintN(bits, (BigInt(o.high) << 32n) | BigInt(o.value >>> 0)));
  }

  /** A register and a displacement; undefined for other addresses. */
  private address(i: RegionInstruction, bits: Width): Value | undefined {
    if (i.addressSize !== 64 || i.ripRelative || i.base === ST.zero || i.index !== ST.zero) return undefined;
    return plus(this.values[i.base >> 3]!, BigInt(i.dispLow), bits);
  }

  private set(i: RegionInstruction, value: Value | undefined): boolean {
    const [target] = i.operands;
    if (!value || target?.category !== 'r') return false;
    this.values[target.value >> 3] = value;
    return true;
  }

  /** The instruction leaves `a - less`: an addition that of the negative number, which differs in its carry, and in its order where there is none. */
  private sum(i: RegionInstruction, bits: Width, a: Value, less: bigint, hasBorrow: boolean): boolean {
    const result = plus(a, -less, bits);
    const isLowest = BigInt.asUintN(bits, less) === 1n << BigInt(bits - 1);
    const b = constant(BigInt.asUintN(bits, less));
    this.flags = { bits, a, b, result, hasBorrow, isSigned: hasBorrow || !isLowest };
    return this.set(i, result);
  }
}

const negations: Readonly<Record<Relation, Relation>> = {
  eq: 'ne',
  ne: 'eq',
  ltU: 'geU',
  geU: 'ltU',
  leU: 'gtU',
  gtU: 'leU',
  ltS: 'geS',
  geS: 'ltS',
  leS: 'gtS',
  gtS: 'leS',
};

const mirrored: Readonly<Record<Relation, Relation>> = {
  eq: 'eq',
  ne: 'ne',
  ltU: 'gtU',
  gtU: 'ltU',
  leU: 'geU',
  geU: 'leU',
  ltS: 'gtS',
  gtS: 'ltS',
  leS: 'geS',
  geS: 'leS',
};

/** What is true where a branch with this condition code goes the way `takes`; undefined when that cannot be told. */
function heldBy(cc: number, takes: boolean, flags: Flags | undefined): Comparison | undefined {
  if (!flags) return undefined;
  const { bits, a, b, result, hasBorrow, isSigned } = flags;
  const isNegated = (cc & 1) !== (takes ? 0 : 1);
  const compare = (relation: Relation, isKnown: boolean): Comparison | undefined =>
    isKnown ? { relation: isNegated ? negations[relation] : relation, bits, a, b } : undefined;
  switch (conditionNames[cc & ~1]) {
    case 'b':
      return compare('ltU', hasBorrow);
    case 'e':
      return compare('eq', true);
    case 'be':
      return compare('leU', hasBorrow);
    case 's':
      return result && { relation: isNegated ? 'geS' : 'ltS', bits, a: result, b: constant(0n) };
    case 'l':
      return compare('ltS', isSigned);
    case 'le':
      return compare('leS', isSigned);
    default:
      return undefined;
  }
}

/** By register, how much it is more with each turn, and in how many bits; undefined where that is not what turns do with it. */
function steps(values: readonly Value[]): readonly ({ readonly step: bigint; readonly bits: Width } | undefined)[] {
  return values.map((v, n) =>
    v.kind === 'sum' && v.register === n ? { step: BigInt.asIntN(v.bits, v.by), bits: v.bits } : undefined,
  );
}

const isKept = (register: number, counters: ReturnType<typeof steps>): boolean => {
  const counter = counters[register];
  return counter?.bits === 64 && counter.step === 0n;
};

/** How much more a value of a turn is in the next turn, in so many bits; undefined when that cannot be told. */
function stepOf(value: Value, bits: Width, counters: ReturnType<typeof steps>): bigint | undefined {
  if (value.kind === 'constant') return 0n;
  const counter = counters[value.register];
  if (!counter) return undefined;
  // In the first turn there may be something above the lower half, in later ones not any more.
  const isCut = counter.bits === 32 || value.bits === 32;
  if (bits === 64 && isCut && !isKept(value.register, counters)) return undefined;
  return BigInt.asIntN(bits, counter.step);
}

/** The comparison as what its turns do with it; undefined when it cannot be told for how many of them it holds. */
function limitOf(c: Comparison, counters: ReturnType<typeof steps>): Limit | undefined {
  const [ofA, ofB] = [stepOf(c.a, c.bits, counters), stepOf(c.b, c.bits, counters)];
  if (ofA === undefined || ofB === undefined || (ofA !== 0n && ofB !== 0n)) return undefined;
  const limit = ofB === 0n ? { ...c, step: ofA } : { ...c, relation: mirrored[c.relation], a: c.b, b: c.a, step: ofB };
  if (limit.step !== 0n && c.relation === 'eq') return undefined;
  return limit.step > largestStep || -limit.step > largestStep ? undefined : limit;
}

/** What turns that leave these values do to a register; undefined when that cannot be told of so many of them. */
function changeOf(register: number, value: Value, counters: ReturnType<typeof steps>): Change | undefined {
  if (value.kind === 'constant') return { kind: 'value', register, value };
  const counter = counters[value.register];
  if (!counter) return undefined;
  if (value.register === register) return { kind: 'counter', register, ...counter };
  // It was taken from the other register when the last turn began; that may still have had an upper half then.
  if (counter.bits < value.bits) return undefined;
  return { kind: 'value', register, value: { ...value, by: BigInt.asUintN(64, value.by - counter.step) } };
}

const leadsTo = (edge: Edge, to: number): boolean => edge.kind === 'block' && edge.to === to;

/** Which way the branch at the end of a block goes to another one; undefined when that is no branch, 'either' when both ways lead there. */
function wayTo({ terminator: t }: RegionBlock, to: number): boolean | undefined | 'either' {
  if (t.kind !== 'branch') return undefined;
  const takes = leadsTo(t.taken, to);
  return takes && leadsTo(t.next, to) ? 'either' : takes;
}

/** The loop that turns by way of these blocks, if it only counts. */
function countsBy(region: Region, blocks: readonly number[]): CountingLoop | undefined {
  const turn = keepSpecimen(new Turn());
  const path: { block: number; takes: boolean | undefined }[] = [];
  const comparisons: Comparison[] = [];
  let instructions = 0;
  let written = 0;
  let writtenAtBranch: number | undefined;
  for (const [n, block] of blocks.entries()) {
    const list = region.blocks[block]!;
    for (const i of list.instructions) {
      if (!turn.step(i)) return undefined;
      written |= flagEffect(i).writes;
    }
    instructions += list.instructions.length;
    const takes = wayTo(list, blocks[n + 1] ?? blocks[0]!);
    if (takes === 'either') return undefined;
    path.push({ block, takes });
    if (takes === undefined) continue;
    writtenAtBranch ??= written;
    const last = list.instructions[list.instructions.length - 1]!;
    const cc = conditionCodes.get(last.entry.insn.name);
    const held = cc === undefined ? undefined : heldBy(cc, takes, turn.flags);
    if (!held) return undefined;
    comparisons.push(held);
  }
  // A turn may be left at its first branch: flags of the turn before must not be seen there.
  if (written !== writtenAtBranch) return undefined;
  const counters = steps(turn.values);
  const limits = comparisons.map((c) => limitOf(c, counters));
  const changed = turn.values.flatMap((value, register) =>
    isKept(register, counters) ? [] : [changeOf(register, value, counters)],
  );
  const known = <T>(list: readonly (T | undefined)[]): readonly T[] | undefined =>
    list.includes(undefined) ? undefined : (list as T[]);
  const [allLimits, changes] = [known(limits), known(changed)];
  if (!allLimits || !changes || allLimits.every(({ step }) => step === 0n)) return undefined;
  return {
    path,
    instructions,
    conditions: allLimits.filter(({ step }) => step === 0n),
    limits: allLimits.filter(({ step }) => step !== 0n),
    changes: [...changes.filter((c) => c.kind === 'counter'), ...changes.filter((c) => c.kind === 'value')],
  };
}

/** The blocks behind a block, those that control goes to more often first. */
function likelyFirst(block: RegionBlock): number[] {
  const { terminator: t } = block;
  if (t.kind !== 'next' && t.kind !== 'jump' && t.kind !== 'branch') return [];
  const edges = t.kind === 'next' ? [t.next] : t.kind === 'jump' ? [t.target] : [t.taken, t.next];
  const blocks = [...new Set(edges.flatMap((e) => (e.kind === 'block' ? [e.to] : [])))];
  return blocks.sort((a, b) => (shareOf(block, b) ?? 0) - (shareOf(block, a) ?? 0));
}

/** What the loop with this header does if it only counts on one of its ways round: on the likeliest such. */
export function countingLoop(region: Region, header: number, follow: Follow): CountingLoop | undefined {
  let left = mostSteps;
  const search = (path: readonly number[]): CountingLoop | undefined => {
    const from = path[path.length - 1]!;
    const block = region.blocks[from]!;
    if (--left < 0 || path.length > mostBlocks || !onlyCounts(block)) return undefined;
    for (const to of likelyFirst(block)) {
      const way = follow(from, to);
      const found = way === 'round' ? countsBy(region, path) : way === 'on' ? search([...path, to]) : undefined;
      if (found) return found;
    }
    return undefined;
  };
  return search([header]);
}

/** Whether a path may go through the block at all: most loops are done with at the first access to memory. */
function onlyCounts({ instructions }: RegionBlock): boolean {
  const turn = keepSpecimen(new Turn());
  return instructions.every((i) => turn.step(i));
}
