// SPDX-License-Identifier: MIT
// Finds the region of guest code around a hot address: instructions reachable by direct jumps and calls within a few pages, as basic blocks.

import { decode, decoded, type Decoded, type Operand } from '../x86/decode.ts';
import { systemInstructions } from '../x86/system.ts';
import { legacyInstructions } from '../x86/legacy.ts';
import type { Instruction } from '../x86/types.ts';

const pageBytes = 4096;
const maxInstructionBytes = 15;

/** One decoded instruction; `at` is its address relative to the page that the region was entered in. */
export interface RegionInstruction extends Omit<Decoded, 'operands'> {
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
  | { readonly kind: 'branch'; readonly taken: Edge; readonly next: Edge }
  | { readonly kind: 'call'; readonly target: Edge }
  /** The description computes where to go; return addresses among `candidates` stay inside. */
  | { readonly kind: 'dynamic'; readonly candidates: readonly { readonly at: number; readonly to: number }[] };

export interface RegionBlock {
  readonly at: number;
  readonly instructions: readonly RegionInstruction[];
  readonly terminator: Terminator;
}

export interface RegionPage {
  /** Pages from the entry page (0 first). */
  readonly delta: number;
  /** Host address of the frame. */
  readonly host: number;
}

export interface Region {
  /** Block 0 is the entry. */
  readonly blocks: readonly RegionBlock[];
  readonly pages: readonly RegionPage[];
  readonly instructions: number;
}

export interface RegionLimits {
  readonly instructions: number;
  readonly pages: number;
}

/** Instructions that need the state block whole (host operations, privileged and mode-changing ones): regions end in front of them. */
const untranslatable = new Set<Instruction>([
  ...systemInstructions.filter((i) => !['nop', 'pause', 'cld', 'std'].includes(i.name)),
  ...legacyInstructions,
]);
const untranslatableNames = /^(fxsave|fxrstor|ldmxcsr|syscall|sysenter|int|int1|int3|into|ud2|rdtsc|cpuid)/;

export function isTranslatable(insn: Instruction): boolean {
  return !untranslatable.has(insn) && !untranslatableNames.test(insn.name);
}

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

  pages(): RegionPage[] {
    return [...this.hosts].map(([delta, host]) => ({ delta, host }));
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
  const { operands, operandCount } = decoded;
  return { ...decoded, at, operands: operands.slice(0, operandCount).map((o) => ({ ...o })) };
}

const branchTarget = (i: RegionInstruction): number | undefined => {
  const [first] = i.operands;
  return first?.category === 'j' ? i.at + i.length + first.value : undefined;
};

const isConditional = (i: RegionInstruction): boolean => i.entry.insn.name !== 'jmp' && i.entry.insn.name !== 'call';

/**
 * Collects a region. `entry`: offset in the entry page, `entryHost`: host address of that page's frame, `hostOfPage`: host address of the page
 * `delta` pages further on (0 = not executable). Undefined when the first instruction cannot be translated.
 */
export function findRegion(
  u8: Uint8Array,
  entry: number,
  entryHost: number,
  hostOfPage: (delta: number) => number,
  limits: RegionLimits,
): Region | undefined {
  const reader = new CodeReader(u8, entryHost, limits.pages, hostOfPage);
  const found = new Map<number, RegionInstruction>();
  const leaders = new Set<number>([entry]);
  const returnSites = new Set<number>();
  const queue = [entry];
  let count = 0;
  while (queue.length > 0 && count < limits.instructions) {
    let at = queue.shift()!;
    for (;;) {
      if (found.has(at)) {
        leaders.add(at);
        break;
      }
      if (count >= limits.instructions || !reader.decode(at) || !isTranslatable(decoded.entry.insn)) break;
      const i = copyDecoded(at);
      found.set(at, i);
      count++;
      const next = at + i.length;
      if (!i.entry.insn.ends) {
        at = next;
        continue;
      }
      const target = branchTarget(i);
      if (target !== undefined) {
        const isCall = i.entry.insn.name === 'call';
        if (isConditional(i) || isCall) {
          leaders.add(next);
          queue.push(next);
        }
        if (isCall) returnSites.add(next);
        leaders.add(target);
        queue.push(target);
      } else if (i.entry.insn.name === 'call-indirect') {
        leaders.add(next);
        returnSites.add(next);
        queue.push(next);
      }
      break;
    }
  }
  if (!found.has(entry)) return undefined;
  return buildBlocks(entry, found, leaders, returnSites, reader);
}

function buildBlocks(
  entry: number,
  found: ReadonlyMap<number, RegionInstruction>,
  leaders: ReadonlySet<number>,
  returnSites: ReadonlySet<number>,
  reader: CodeReader,
): Region {
  const starts = [entry, ...[...leaders].filter((at) => at !== entry && found.has(at))];
  const numbers = new Map(starts.map((at, n) => [at, n]));
  const edge = (at: number): Edge => {
    const to = numbers.get(at);
    return to === undefined ? { kind: 'leave', at } : { kind: 'block', to };
  };
  const candidates = [...returnSites].filter((at) => numbers.has(at)).map((at) => ({ at, to: numbers.get(at)! }));
  let instructions = 0;
  const blocks = starts.map((start): RegionBlock => {
    const list: RegionInstruction[] = [];
    let at = start;
    for (;;) {
      const i = found.get(at);
      if (!i || (at !== start && leaders.has(at)))
        return { at: start, instructions: list, terminator: { kind: 'next', next: edge(at) } };
      list.push(i);
      instructions++;
      const next = at + i.length;
      if (i.entry.insn.ends)
        return { at: start, instructions: list, terminator: terminatorOf(i, next, edge, candidates) };
      at = next;
    }
  });
  return { blocks, pages: reader.pages(), instructions };
}

function terminatorOf(
  i: RegionInstruction,
  next: number,
  edge: (at: number) => Edge,
  candidates: readonly { readonly at: number; readonly to: number }[],
): Terminator {
  const target = branchTarget(i);
  if (target === undefined)
    return { kind: 'dynamic', candidates: i.entry.insn.name.startsWith('ret') ? candidates : [] };
  if (i.entry.insn.name === 'call') return { kind: 'call', target: edge(target) };
  if (isConditional(i)) return { kind: 'branch', taken: edge(target), next: edge(next) };
  return { kind: 'jump', target: edge(target) };
}
