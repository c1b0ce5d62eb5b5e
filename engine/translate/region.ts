// SPDX-License-Identifier: MIT
// Finds the region of guest code around a hot address: instructions reachable by direct jumps and calls within a few pages, as basic blocks.

import { keepSpecimen } from '../specimens.ts';
import { decode, decoded, type Decoded, type Operand } from '../x86/decode.ts';
import { systemInstructions } from '../x86/system.ts';
import { legacyInstructions } from '../x86/legacy.ts';
import type { Instruction } from '../x86/types.ts';
import { possibleEntries } from './entries.ts';
import { structure } from './structure.ts';

const pageBytes = 4096;
const maxInstructionBytes = 15;

/** One decoded instruction; `at` is its address relative to the page that the region was entered in. */
export interface RegionInstruction extends Omit<Decoded, 'operands' | 'operandCount'> {
  readonly at: number;
  readonly operands: readonly Operand[];
}

/** Where control goes behind a block. */
export type Edge =
  | { readonly kind: 'block'; readonly to: number }
  /** Leaves to an address relative to the entry page. */
  | { readonly kind: 'leave'; readonly at: number };

export type Terminator =
  | { readonly kind: 'next'; readonly next: Edge }
  | { readonly kind: 'jump'; readonly target: Edge }
  /** `takenShare`: of the times that control came to it, those that it went that way; undefined = not known. */
  | { readonly kind: 'branch'; readonly taken: Edge; readonly next: Edge; readonly takenShare: number | undefined }
  | { readonly kind: 'call'; readonly target: Edge }
  /** Goes to the kernel, which returns to `next` or somewhere else. */
  | { readonly kind: 'syscall'; readonly next: number }
  /** The description computes where to go; addresses among `candidates` stay inside. */
  | { readonly kind: 'dynamic'; readonly candidates: readonly { readonly at: number; readonly to: number }[] };

export interface RegionBlock {
  readonly at: number;
  readonly instructions: readonly RegionInstruction[];
  readonly terminator: Terminator;
}

/** The edges out of a block. */
export const successorsOf = (block: RegionBlock): Edge[] => {
  const t = block.terminator;
  switch (t.kind) {
    case 'next':
      return [t.next];
    case 'jump':
    case 'call':
      return [t.target];
    case 'branch':
      return [t.taken, t.next];
    case 'syscall':
      return [];
    case 'dynamic':
      return t.candidates.map((c): Edge => ({ kind: 'block', to: c.to }));
  }
};

/** How often control goes from the end of a block to another one: 0 = never to 1 = always, undefined = not known. */
export function shareOf({ terminator: t }: RegionBlock, to: number): number | undefined {
  if (t.kind !== 'branch') return 1;
  if (t.takenShare === undefined) return undefined;
  const leads = (edge: Edge) => edge.kind === 'block' && edge.to === to;
  return (leads(t.taken) ? t.takenShare : 0) + (leads(t.next) ? 1 - t.takenShare : 0);
}

/** The blocks that control may go to behind a block, each once. */
export const blocksBehind = (block: RegionBlock): number[] => [
  ...new Set(successorsOf(block).flatMap((e) => (e.kind === 'block' ? [e.to] : []))),
];

export interface RegionPage {
  /** Pages from the entry page (0 first). */
  readonly delta: number;
  /** Host address of the frame. */
  readonly host: number;
}

export interface Region {
  readonly blocks: readonly RegionBlock[];
  /** Blocks that the region can be entered at, all in one page: 0, and as the guide says behind calls that it leaves by and at heads of loops. */
  readonly entries: readonly number[];
  readonly pages: readonly RegionPage[];
  readonly instructions: number;
  /** Relative addresses of the instructions that compute where to go, in the order of their blocks; none when nothing is to be learned from them. */
  readonly computed: readonly number[];
  /** The same of the conditional branches. */
  readonly branches: readonly number[];
  /** There is nothing left to learn: it is not made again for that. */
  readonly isSettled: boolean;
}

/** What is known of how the guest runs through its code. */
export interface RegionGuide {
  /** The code at a host address (0 = not mapped) belongs into the region, if a direct jump, a call or a branch leads there. */
  follows(host: number): boolean;
  /**
   * Another region begins at a host address, and this one is to end there: unless it is a short function, which costs less than the way there and back,
   * or a return, which costs less than the way there.
   */
  beginsAt?(host: number): boolean;
  /** Where the computed jump, call or return at a host address nearly always goes, relative to the entry page. */
  usualTarget(host: number): number | undefined;
  /** Whether the conditional branch at a host address goes this way often enough for the region to go on there. */
  isUsual?(host: number, taken: boolean): boolean;
  /** How often the conditional branch at a host address is taken: 0 = never to 1 = always, undefined = not known. */
  takenShare?(host: number): number | undefined;
  /** Functions that are not short have regions of their own, and this one is entered again where they return to. */
  readonly entersAtReturns?: boolean;
  /** It can be entered at the heads of its loops, too, where it is left when the budget runs out. */
  readonly entersAtLoops?: boolean;
  /** The region's own jumps and branches are worth counting. */
  readonly learns: boolean;
  /** The branches are, too, unless this says otherwise. */
  readonly learnsOfBranches?: boolean;
}

/** Nothing is known. */
const everywhere: RegionGuide = { follows: () => true, usualTarget: () => undefined, learns: true };

export interface RegionLimits {
  readonly instructions: number;
  readonly pages: number;
}

/** Of the system instructions those that neither end a block nor are for kernels at CPL 0 alone; what their host operations look at, translated code leaves in the state block. */
const translatableSystem = new Set(
  ['nop', 'pause', 'cld', 'std', 'rdtsc', 'rdtscp', 'rdrand', 'rdseed', 'cpuid']
    .concat(['mov-from-segment', 'mov-to-segment', 'push-fs', 'push-gs'])
    .concat(['sldt', 'str', 'smsw', 'verr', 'verw', 'lar', 'lsl']),
);

/** Instructions that need the state block whole (host operations, privileged and mode-changing ones): regions end in front of them. */
const untranslatable = new Set<Instruction>([
  ...systemInstructions.filter((i) => !translatableSystem.has(i.name)),
  ...legacyInstructions,
]);
const untranslatableNames = /^(ldmxcsr|sysenter|int|int1|int3|into|ud2)/;

export function isTranslatable(insn: Instruction): boolean {
  return !untranslatable.has(insn) && !untranslatableNames.test(insn.name);
}

/** They find the XMM registers in the state block. */
const movesVectorState = (insn: Instruction): boolean => /^fx(save|rstor)/.test(insn.name);

/** Reads guest code around the entry page. */
class CodeReader {
  private readonly u8: Uint8Array;
  private readonly hostOfPage: (delta: number) => number;
  private readonly hosts = new Map<number, number>();
  private readonly joined = new Uint8Array(2 * maxInstructionBytes);
  readonly limit: number;

  constructor(u8: Uint8Array, entryHost: number, limit: number, hostOfPage: (delta: number) => number) {
    this.u8 = u8;
    this.limit = limit;
    this.hostOfPage = hostOfPage;
    this.hosts.set(0, entryHost);
  }

  /** Host address of a page of the region, 0 when it is not mapped or too many pages are in use already. */
  page(delta: number): number {
    let host = this.hosts.get(delta);
    if (host === undefined) {
      if (this.hosts.size >= this.limit) return 0;
      host = this.hostOfPage(delta);
      if (host) this.hosts.set(delta, host);
    }
    return host;
  }

  /** Host address of the byte at a relative address, 0 when its page is not mapped; takes no page into the region. */
  hostOf(at: number): number {
    const delta = Math.floor(at / pageBytes);
    const host = this.hosts.get(delta) ?? this.hostOfPage(delta);
    return host && host + at - delta * pageBytes;
  }

  pages(): RegionPage[] {
    return [...this.hosts].map(([delta, host]) => ({ delta, host }));
  }

  /** Decodes the 64-bit instruction at a relative address into `decoded`, without taking its page into the region; not one that crosses a page. */
  peek(at: number): boolean {
    const host = this.hostOf(at);
    return host !== 0 && decode(this.u8, host, (host & -pageBytes) + pageBytes, 64) === 'ok';
  }

  /** Decodes the 64-bit instruction at a relative address into `decoded`. */
  decode(at: number): boolean {
    const delta = Math.floor(at / pageBytes);
    const offset = at - delta * pageBytes;
    const host = this.page(delta);
    if (host === 0) return false;
    const result = decode(this.u8, host + offset, host + pageBytes, 64);
    if (result !== 'short') return result === 'ok';
    const second = this.page(delta + 1);
    if (second === 0) return false;
    const first = pageBytes - offset;
    this.joined.set(this.u8.subarray(host + offset, host + pageBytes), 0);
    this.joined.set(this.u8.subarray(second, second + maxInstructionBytes), first);
    return decode(this.joined, 0, Math.min(first + maxInstructionBytes, this.joined.length), 64) === 'ok';
  }
}

function copyDecoded(at: number): RegionInstruction {
  const d = decoded;
  const operands = d.operands.slice(0, d.operandCount);
  // Field by field: a copy made in one would share its shape with `decoded`, whose code V8 would drop for what happens to the copy.
  return {
    at,
    operands: operands.map(({ category, bits, value, high }) => ({ category, bits, value, high })),
    entry: d.entry,
    length: d.length,
    size: d.size,
    addressSize: d.addressSize,
    lock: d.lock,
    base: d.base,
    index: d.index,
    scale: d.scale,
    dispLow: d.dispLow,
    dispHigh: d.dispHigh,
    ripRelative: d.ripRelative,
    segment: d.segment,
    segmentPrefix: d.segmentPrefix,
  };
}

const branchTarget = (i: RegionInstruction): number | undefined => {
  const [first] = i.operands;
  return first?.category === 'j' ? i.at + i.length + first.value : undefined;
};

const isConditional = (i: RegionInstruction): boolean => i.entry.insn.name !== 'jmp' && i.entry.insn.name !== 'call';

/** How the region came to a function that it follows a call into: the code of one is there once for each way. */
interface Context {
  readonly id: number;
  readonly depth: number;
  /** Where the function returns to; undefined for the code that the region was entered in. */
  readonly returnsTo: Place | undefined;
  /** It is a short one: see `isShort`. */
  readonly isShort: boolean;
}

interface Place {
  readonly at: number;
  readonly context: Context;
}

/** Control can come here from elsewhere: into the page that the region is known to begin in, and not into a copy of some function. */
const canEnter = ({ at, context }: Place): boolean => context.depth === 0 && Math.floor(at / pageBytes) === 0;

/** A function of at most so many instructions is short. */
const shortInstructions = 16;

/** Calls are followed into each other so far. */
const deepest = 12;

/** Of a place, -1 for one that is too far away to belong to a region. */
const keyOf = ({ at, context }: Place): number =>
  Math.abs(at) < farthest ? context.id * 4 * farthest + at + farthest : -1;

/** Instructions of a region begin no further than this from their entry page, in bytes: where they end still fits into 32 bits. */
const farthest = 2 ** 31 - pageBytes;

/**
 * Collects a region. `entry`: offset in the entry page, `entryHost`: host address of that page's frame, `hostOfPage`: host address of the page
 * `delta` pages further on (0 = not executable), `guide`: where to go on. Undefined when the first instruction cannot be translated.
 */
export function findRegion(
  u8: Uint8Array,
  entry: number,
  entryHost: number,
  hostOfPage: (delta: number) => number,
  limits: RegionLimits,
  guide: RegionGuide = everywhere,
): Region | undefined {
  const finder = keepSpecimen(new RegionFinder(new CodeReader(u8, entryHost, limits.pages, hostOfPage), limits, guide));
  return finder.find(entry);
}

class RegionFinder {
  private readonly reader: CodeReader;
  private readonly limits: RegionLimits;
  private readonly guide: RegionGuide;
  private readonly found = new Map<number, RegionInstruction>();
  private readonly leaders = new Map<number, Place>();
  /** Where computed jumps are thought to go, and direct calls, by the key of the instruction. */
  private readonly targets = new Map<number, Place>();
  private readonly queue: Place[] = [];
  /** Where the region may be entered besides its begin. */
  private readonly returns: Place[] = [];
  private contexts = 0;
  private count = 0;
  private vectors: 'state' | 'locals' | undefined;

  constructor(reader: CodeReader, limits: RegionLimits, guide: RegionGuide) {
    this.reader = reader;
    this.limits = limits;
    this.guide = guide;
  }

  find(entry: number): Region | undefined {
    const start: Place = {
      at: entry,
      context: { id: this.contexts++, depth: 0, returnsTo: undefined, isShort: false },
    };
    this.leaders.set(keyOf(start), start);
    this.queue.push(start);
    while (this.queue.length > 0 && this.count < this.limits.instructions) this.collect(this.queue.shift()!);
    return this.found.has(keyOf(start)) ? this.build() : undefined;
  }

  /** `anyway`: even where another region begins. */
  private follow(place: Place, anyway = false): void {
    const key = keyOf(place);
    if (key < 0) return;
    const host = this.reader.hostOf(place.at);
    if (!this.guide.follows(host)) return;
    if (!anyway && this.guide.beginsAt?.(host) && !this.isReturn(place.at)) return;
    this.leaders.set(key, place);
    this.queue.push(place);
  }

  private enter(place: Place): void {
    if (!canEnter(place)) return;
    this.returns.push(place);
    this.follow(place);
  }

  /** Takes in instructions up to the next jump, and notes where that leads. */
  private collect({ at: from, context }: Place): void {
    const { found, reader } = this;
    for (let at = from; ;) {
      const key = keyOf({ at, context });
      if (key < 0) return;
      if (found.has(key)) {
        this.leaders.set(key, { at, context });
        return;
      }
      if (this.count >= this.limits.instructions || !reader.decode(at) || !isTranslatable(decoded.entry.insn)) return;
      if (!this.goesWithOthers()) return;
      const i = copyDecoded(at);
      found.set(key, i);
      this.count++;
      const next = at + i.length;
      if (i.entry.insn.ends) {
        this.followEnd(i, key, next, context);
        return;
      }
      at = next;
    }
  }

  /** The instruction in `decoded` finds XMM registers where those of the region have them: in locals, or in the state block. */
  private goesWithOthers(): boolean {
    const { entry, operands, operandCount } = decoded;
    let where: 'state' | 'locals' | undefined;
    if (movesVectorState(entry.insn)) where = 'state';
    else for (let n = 0; n < operandCount; n++) if (operands[n]!.category === 'x') where = 'locals';
    if (where === undefined) return true;
    this.vectors ??= where;
    return this.vectors === where;
  }

  private followEnd(i: RegionInstruction, key: number, next: number, context: Context): void {
    const { name } = i.entry.insn;
    const isCall = name === 'call' || name === 'call-indirect';
    const direct = branchTarget(i);
    if (direct !== undefined && !isCall) {
      const goes = (taken: boolean) =>
        this.guide.isUsual === undefined || this.guide.isUsual(this.reader.hostOf(i.at), taken);
      const isBranch = isConditional(i);
      if (isBranch && goes(false)) this.follow({ at: next, context });
      if (!isBranch || goes(true)) this.follow({ at: direct, context });
      return;
    }
    const target = this.computedTarget(i, name, context);
    const isShort = isCall && target !== undefined && this.isShort(target.at);
    if (this.guide.entersAtReturns && ((isCall && !isShort) || name === 'syscall')) {
      this.enter({ at: next, context });
      return;
    }
    if (target === undefined || (isCall && context.depth >= deepest)) return;
    const depth = context.depth + 1;
    const place = isCall
      ? { at: target.at, context: { id: this.contexts++, depth, returnsTo: { at: next, context }, isShort } }
      : target;
    this.targets.set(key, place);
    this.follow(place, isShort || (target === context.returnsTo && context.isShort));
  }

  /** Kernels that must not return by themselves have one return for all functions, and each region would end in front of it. */
  private isReturn(at: number): boolean {
    return this.reader.peek(at) && decoded.entry.insn.name.startsWith('ret');
  }

  /** Whether the function at a relative address does something small: few instructions, straight on to its return. */
  private isShort(from: number): boolean {
    let at = from;
    for (let n = 0; n < shortInstructions; n++) {
      if (!this.reader.peek(at) || !isTranslatable(decoded.entry.insn)) return false;
      const { insn } = decoded.entry;
      if (insn.name.startsWith('ret')) return true;
      at += decoded.length;
      if (!insn.ends) continue;
      const [first] = decoded.operands;
      if (insn.name === 'call' || first?.category !== 'j') return false;
      // The way that most branches go: on. Kernels return by a jump to the return.
      if (insn.name === 'jmp') at += first.value;
    }
    return false;
  }

  /** Where a call or a computed jump goes, as far as that is known. */
  private computedTarget(i: RegionInstruction, name: string, context: Context): Place | undefined {
    if (name.startsWith('ret') && context.returnsTo) return context.returnsTo;
    const at = branchTarget(i) ?? this.guide.usualTarget(this.reader.hostOf(i.at));
    return at === undefined ? undefined : { at, context };
  }

  private build(): Region {
    const { found, leaders } = this;
    const starts = [...leaders].filter(([key]) => found.has(key));
    const numbers = new Map(starts.map(([key], n) => [key, n]));
    const edge = (place: Place): Edge => {
      const to = numbers.get(keyOf(place));
      return to === undefined ? { kind: 'leave', at: place.at } : { kind: 'block', to };
    };
    let instructions = 0;
    const blocks = starts.map(([, { at: start, context }]): RegionBlock => {
      const list: RegionInstruction[] = [];
      let at = start;
      for (;;) {
        const key = keyOf({ at, context });
        const i = found.get(key);
        if (!i || (at !== start && leaders.has(key)))
          return { at: start, instructions: list, terminator: { kind: 'next', next: edge({ at, context }) } };
        list.push(i);
        instructions++;
        at += i.length;
        if (i.entry.insn.ends)
          return { at: start, instructions: list, terminator: this.terminatorOf(i, key, { at, context }, edge) };
      }
    });
    const { learns, learnsOfBranches = true } = this.guide;
    const lastOf = (kind: Terminator['kind'], isCounted: boolean) =>
      isCounted
        ? blocks.flatMap((b) => (b.terminator.kind === kind ? [b.instructions[b.instructions.length - 1]!.at] : []))
        : [];
    const [computed, branches] = [lastOf('dynamic', learns), lastOf('branch', learns && learnsOfBranches)];
    const inside = this.returns.flatMap((place) => numbers.get(keyOf(place)) ?? []);
    const successors = blocks.map(blocksBehind);
    if (this.guide.entersAtLoops) {
      const { isLoop } = structure({ successors, root: 0 });
      starts.forEach(([, place], n) => {
        if (isLoop[n] && canEnter(place)) inside.push(n);
      });
    }
    const entries = possibleEntries(
      successors,
      [...new Set(inside)].filter((n) => n > 0),
    );
    return { blocks, entries, pages: this.reader.pages(), instructions, computed, branches, isSettled: !learns };
  }

  private terminatorOf(i: RegionInstruction, key: number, next: Place, edge: (place: Place) => Edge): Terminator {
    if (i.entry.insn.name === 'syscall') return { kind: 'syscall', next: next.at };
    const direct = branchTarget(i);
    const target = this.targets.get(key);
    if (direct === undefined) {
      const usual = target && edge(target);
      return { kind: 'dynamic', candidates: usual?.kind === 'block' ? [{ at: target!.at, to: usual.to }] : [] };
    }
    const { context } = next;
    if (i.entry.insn.name === 'call')
      return { kind: 'call', target: target ? edge(target) : { kind: 'leave', at: direct } };
    if (isConditional(i)) {
      const takenShare = this.guide.takenShare?.(this.reader.hostOf(i.at));
      return { kind: 'branch', taken: edge({ at: direct, context }), next: edge(next), takenShare };
    }
    return { kind: 'jump', target: edge({ at: direct, context }) };
  }
}
