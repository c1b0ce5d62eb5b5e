// SPDX-License-Identifier: MIT
// The interpreter's handlers: one per instruction, operation size, operand form and mode, with the layout of its micro-op record.

import { categories, operationSizes, sizeBits, type Category, type Entry } from '../x86/encoding.ts';
import { entries } from '../x86/instructions.ts';
import type { IntSize, Mode } from '../x86/stage.ts';
import type { Instruction } from '../x86/types.ts';
import { hotPairs } from './hot-pairs.ts';
import { FillLog, JumpTable, Link, RegionLink, RegionTable, ST, Stale, Tlb, Uop } from './layout.ts';

export interface HandlerOperand {
  readonly category: Category;
  readonly bits: number;
  /** Byte offset in the record: of the register field, or of the immediate. */
  readonly field: number;
}

export interface Handler {
  readonly key: string;
  readonly insn: Instruction;
  readonly size: IntSize;
  readonly mode: Mode;
  readonly addressSize: Mode;
  readonly operands: readonly HandlerOperand[];
  /** Offsets of the optional record parts, 0 when absent. */
  readonly memoryAt: number;
  readonly immediateAt: number;
  readonly linkAt: number;
  /** Record bytes (without the outer header of outlined handlers). */
  readonly length: number;
  /** In the interpreter's main function; else a function of its own. */
  readonly inline: boolean;
  readonly flagsDead: boolean;
  /** Its memory operand is at a register's value and a displacement: no index, no segment's base. */
  readonly plainAddress: boolean;
  /** Condition code (as in Jcc) of the branch fused behind a comparison, or -1. */
  readonly fusedCondition: number;
  /** It goes one of two ways, and counts which. */
  readonly isConditional: boolean;
  /** Number in its own space: `br_table` index or function-table index. */
  readonly id: number;
}

/** Handlers of the main function that belong to no instruction. */
export const special = {
  /** Calls an outlined function. */
  outlined: 0,
  /** Continues at another block: fall-through at a page's end or a full block. */
  jump: 1,
  /** First record of a block whose only instruction crosses a page: checks that the second page is still the same. */
  crossing: 2,
  /** Effective addresses that need their own step; they fill ST.ea. */
  ea16: 3,
  ea32: 4,
  ea67: 5,
  eaImmediate: 6,
  /** Leaves with an exception decided at decode time (invalid opcode, fetch fault). */
  raise: 7,
  /** A block whose code was overwritten, and what leads past its header: goes on at the block that is there now, see lower.ts. */
  stale: 8,
  /** Header of a block that has been translated: runs its region. */
  enterRegion: 9,
  /** Header of a block that may be translated: counts how often it is entered. */
  entry: 10,
  count: 11,
} as const;

const inlineSizes = new Set([8, 32, 64]);
/** Hot instructions whose memory forms are inline too. */
const inlineMemory =
  /^(mov|movzx8|movzx16|movsx8|movsx16|movsxd|add|sub|and|or|xor|cmp|test|inc|dec|lea|push|call-indirect|jmp-indirect|imul|cmove|cmovne)$/;

function isInline(insn: Instruction, size: number, forms: readonly Category[], mode: Mode): boolean {
  if (!insn.hot) return false;
  if (mode === 16) return false;
  if (insn.perMode && size !== mode) return false;
  if (!inlineSizes.has(size) && !/^(mov|movzx8|movsx8|cmp|test|add|and|or|sub|xor)$/.test(insn.name)) return false;
  if (forms.includes('m') && !inlineMemory.test(insn.name)) return false;
  if (size === 16 && forms.includes('m') && !/^(mov|cmp|test)$/.test(insn.name)) return false;
  return true;
}

/** Of these, the ones that have a handler of their own for memory operands without an index and a segment's base, as most are. */
const oftenPlain = /^(mov|movzx8|movzx16|movsxd|add|sub|and|or|cmp|test|inc|dec|lea|call-indirect)$/;

/** Comparisons that take a fused branch: register forms at the sizes that compilers use. */
function fusable(insn: Instruction, size: number, forms: readonly Category[]): boolean {
  return (insn.name === 'cmp' || insn.name === 'test') && size !== 16 && !forms.includes('m');
}

const fusedConditions: Record<string, readonly number[]> = {
  cmp: [2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15],
  test: [4, 5, 8, 9, 12, 13, 14, 15],
};

const readsModifiesMemory = (insn: Instruction, forms: readonly Category[]): boolean =>
  forms.some((c, i) => c === 'm' && insn.access[i] === 'x' && !insn.ownMemory);

const modePairs: readonly (readonly [Mode, Mode])[] = [
  [64, 64],
  [64, 32],
  [32, 32],
  [32, 16],
  [16, 16],
  [16, 32],
];

/** Modes for which a description has to be built: a wildcard is [64, 64] for all. */
function modesOf(e: Entry): readonly (readonly [Mode, Mode])[] {
  const allowed = modePairs.filter(([mode]) => !(mode === 64 ? e.only === 'i64' : e.only === 'o64'));
  if (e.insn.perAddress) return allowed;
  if (e.insn.perMode) return allowed.filter(([mode, address]) => mode === address);
  return [allowed[0]!];
}

/** The key of a handler; the decoder builds the same one from a decoded instruction. */
export function handlerKey(
  insn: Instruction,
  size: number,
  forms: readonly Category[],
  bits: readonly number[],
  mode: Mode,
  addressSize: Mode,
): string {
  let key = `${insn.name}.${size}`;
  for (let i = 0; i < forms.length; i++) key += `.${forms[i]}${bits[i]}`;
  if (insn.perAddress) key += `@${mode}/${addressSize}`;
  else if (insn.perMode) key += `@${mode}`;
  return key;
}

interface Variant {
  readonly insn: Instruction;
  readonly size: IntSize;
  readonly mode: Mode;
  readonly addressSize: Mode;
  readonly forms: readonly Category[];
  readonly bits: readonly number[];
}

const isConditionalBranch = ({ insn, forms }: Variant): boolean =>
  forms[0] === 'j' && insn.name !== 'jmp' && insn.name !== 'call';

function layOut(
  v: Variant,
  key: string,
  id: number,
  inline: boolean,
  flagsDead: boolean,
  plainAddress: boolean,
  fusedCondition: number,
): Handler {
  const registers: readonly number[] = [Uop.r0, Uop.r1];
  let nextRegister = 0;
  let length = 8;
  const hasMemory = v.forms.includes('m') || v.insn.stringSource === true;
  const memoryAt = hasMemory ? length : 0;
  if (hasMemory) length += 8;
  const immediates = v.forms.filter((c) => c === 'i').length;
  const immediateAt = immediates ? length : 0;
  if (immediates) length += 8;
  const hasLink = v.insn.ends === true || fusedCondition >= 0;
  const linkAt = hasLink ? length : 0;
  if (hasLink) length += Link.bytes;
  let seenImmediates = 0;
  const operands = v.forms.map((category, i): HandlerOperand => {
    const bits = v.bits[i]!;
    if (category === 'i') return { category, bits, field: immediateAt + 4 * seenImmediates++ };
    if (category === 'm') return { category, bits, field: memoryAt };
    if (category === 'j' || category === 'l') return { category, bits, field: 0 };
    const field = registers[nextRegister++];
    if (field === undefined) throw new Error(`${key}: more than two register operands`);
    return { category, bits, field };
  });
  return {
    key,
    insn: v.insn,
    size: v.size,
    mode: v.mode,
    addressSize: v.addressSize,
    operands,
    memoryAt,
    immediateAt,
    linkAt,
    length,
    inline,
    flagsDead,
    plainAddress,
    fusedCondition,
    isConditional: inline && (fusedCondition >= 0 || isConditionalBranch(v)),
    id,
  };
}

function product<T>(lists: readonly (readonly T[])[]): T[][] {
  return lists.reduce<T[][]>((all, list) => all.flatMap((head) => list.map((item) => [...head, item])), [[]]);
}

function variantsOf(e: Entry): Variant[] {
  const result: Variant[] = [];
  const forms = product(e.operands.map((o) => categories(o, e.rm)));
  for (const [mode, addressSize] of modesOf(e)) {
    for (const size of operationSizes(e)) {
      if (size === 64 && mode !== 64 && 'vyz'.includes(e.sizeLetter)) continue;
      // Without a mode of its own a handler serves all modes, hence all sizes.
      const ownMode = e.insn.perMode || e.insn.perAddress;
      if (ownMode && size === 32 && mode === 64 && e.stack64 && 'vz'.includes(e.sizeLetter)) continue;
      if (ownMode && size === 16 && mode === 64 && e.stack64 === 'f64') continue;
      for (const form of forms) {
        const bits = e.operands.map((o) => sizeBits(o.size, size));
        result.push({ insn: e.insn, size, mode, addressSize, forms: form, bits });
      }
    }
  }
  return result;
}

/** Two inline handlers one behind the other. */
export interface Pair {
  readonly first: Handler;
  readonly second: Handler;
}

export interface Catalog {
  /** By `br_table` index (the first `special.count` are undefined). */
  readonly inline: readonly (Handler | undefined)[];
  /** By function-table index. */
  readonly outlined: readonly Handler[];
  /** Best handler per key: inline where there is one. */
  readonly byKey: ReadonlyMap<string, Handler>;
  /** Variant of an inline handler for plain addresses. */
  readonly plain: ReadonlyMap<Handler, Handler>;
  /** Variant of an inline handler whose flags are dead. */
  readonly dead: ReadonlyMap<Handler, Handler>;
  /** Outlined twin of an inline read-modify-write handler: takes over when the access crosses a page or touches code. */
  readonly careful: ReadonlyMap<Handler, Handler>;
  /** Fused compare-and-branch by handler of the comparison and condition code. */
  readonly fused: ReadonlyMap<Handler, ReadonlyMap<number, Handler>>;
  /** Pairs that have a handler of their own, in the order of their `br_table` indices, which follow those of `inline`. */
  readonly pairs: readonly Pair[];
}

function build(): Catalog {
  const inline: (Handler | undefined)[] = Array.from({ length: special.count }, () => undefined);
  const outlined: Handler[] = [];
  const byKey = new Map<string, Handler>();
  const plain = new Map<Handler, Handler>();
  const dead = new Map<Handler, Handler>();
  const careful = new Map<Handler, Handler>();
  const fused = new Map<Handler, Map<number, Handler>>();
  const addInline = (v: Variant, key: string, flagsDead: boolean, plainAddress = false, condition = -1): Handler => {
    const h = layOut(v, key, inline.length, true, flagsDead, plainAddress, condition);
    inline.push(h);
    return h;
  };
  const addOutlined = (v: Variant, key: string): Handler => {
    const h = layOut(v, key, outlined.length, false, false, false, -1);
    outlined.push(h);
    return h;
  };
  for (const e of entries) {
    for (const v of variantsOf(e)) {
      const key = handlerKey(v.insn, v.size, v.forms, v.bits, v.mode, v.addressSize);
      if (byKey.has(key)) continue;
      if (!isInline(v.insn, v.size, v.forms, v.mode)) {
        byKey.set(key, addOutlined(v, key));
        continue;
      }
      const twin = readsModifiesMemory(v.insn, v.forms) ? addOutlined(v, `${key}~`) : undefined;
      const writesFlags =
        (v.insn.writes ?? v.insn.mayWrite) !== undefined && v.insn.name !== 'cmp' && v.insn.name !== 'test';
      /** The handler, and the variant whose flags are dead. */
      const addBoth = (name: string, plainAddress: boolean): Handler => {
        const both = [addInline(v, name, false, plainAddress)];
        if (writesFlags) both.push(addInline(v, `${name}!`, true, plainAddress));
        if (both[1]) dead.set(both[0]!, both[1]);
        if (twin) for (const handler of both) careful.set(handler, twin);
        return both[0]!;
      };
      const h = addBoth(key, false);
      byKey.set(key, h);
      if (v.forms.includes('m') && oftenPlain.test(v.insn.name)) plain.set(h, addBoth(`${key}'`, true));
      if (fusable(v.insn, v.size, v.forms)) {
        fused.set(
          h,
          new Map(fusedConditions[v.insn.name]!.map((cc) => [cc, addInline(v, `${key}+j${cc}`, false, false, cc)])),
        );
      }
    }
  }
  const byName = new Map(inline.map((h) => [h?.key, h]));
  const pairs = hotPairs.map((names): Pair => {
    const [first, second] = names.split(' ').map((name) => byName.get(name));
    if (!first || !second || first.linkAt > 0) throw new Error(`${names}: no such pair`);
    return { first, second };
  });
  return { inline, outlined, byKey, plain, dead, careful, fused, pairs };
}

export const catalog: Catalog = build();

/** By the number of the first: `br_table` indices by the number of the second, 0 = no such pair. */
const pairIndices: (Uint16Array | undefined)[] = catalog.inline.map(() => undefined);
catalog.pairs.forEach(({ first, second }, n) => {
  const row = (pairIndices[first.id] ??= new Uint16Array(catalog.inline.length));
  row[second.id] = catalog.inline.length + n;
});

/** `br_table` index of the handler that does both of two inline handlers' work; 0 when there is none. */
export const pairIndex = (first: Handler, second: Handler): number => pairIndices[first.id]?.[second.id] ?? 0;

/** Everything on which decoder and built interpreter must agree, as text: when it differs, the interpreter has to be built again. */
export function interfaceText(): string {
  const handlers = [...catalog.inline, ...catalog.outlined].map((h) => h && `${h.key}:${h.length}`);
  return JSON.stringify([
    ST,
    Tlb,
    FillLog,
    JumpTable,
    RegionTable,
    RegionLink,
    Link,
    Stale,
    Uop,
    special,
    handlers,
    hotPairs,
  ]);
}
