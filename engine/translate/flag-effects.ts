// SPDX-License-Identifier: MIT
// Which status flags the instructions of a region read and write, and where they must be in their locals.

import { flagNames, type FlagName } from '../cpu/stage-base.ts';
import { countMask } from '../x86/integer-shift.ts';
import type { FlagLetters } from '../x86/types.ts';
import { successorsOf, type Region, type RegionBlock, type RegionInstruction } from './region.ts';

const statusLetters: Record<FlagName, string> = { fz: 'z', fs: 's', fp: 'p', fc: 'c', fo: 'o', fa: 'a' };

/** What an instruction does to the flags, its constant operands known. */
export interface FlagEffect {
  readonly reads: FlagLetters | undefined;
  /** Always written. */
  readonly writes: FlagLetters | undefined;
  /** Perhaps written. */
  readonly mayWrite: FlagLetters | undefined;
  readonly isWriter: boolean;
  /** They are plain expressions over its operands, so that they can wait until someone asks. */
  readonly isLazy: boolean;
}

export function flagEffect({ entry: { insn }, operands, size }: RegionInstruction): FlagEffect {
  let { writes, mayWrite } = insn;
  const count = insn.count === undefined ? undefined : operands[insn.count];
  if (count?.category === 'i') {
    if ((count.value & countMask(size)) !== 0) writes = mayWrite;
    mayWrite = undefined;
  }
  const isPlain = insn.hot === true || insn.plainFlags === true;
  return {
    reads: insn.reads,
    writes,
    mayWrite,
    isWriter: (writes ?? mayWrite) !== undefined,
    isLazy: isPlain && writes !== undefined && mayWrite === undefined,
  };
}

/**
 * Flags that must be in their locals when a block starts: those read before they are overwritten, and those that an instruction leaves
 * alone while it writes others. (Faults and exits need no flags in locals: they settle them on their own way out.)
 */
function flagsNeeded(block: RegionBlock): { needed: Set<FlagName>; killed: Set<FlagName> } {
  const needed = new Set<FlagName>();
  const killed = new Set<FlagName>();
  for (const i of block.instructions) {
    const { reads, writes, mayWrite, isWriter } = flagEffect(i);
    for (const name of flagNames) {
      const letter = statusLetters[name];
      const kept = isWriter && (mayWrite !== undefined || !writes?.includes(letter));
      if (!killed.has(name) && (kept || reads?.includes(letter))) needed.add(name);
    }
    for (const name of flagNames) if (writes?.includes(statusLetters[name])) killed.add(name);
  }
  return { needed, killed };
}

/** Flags needed in locals at the start of each block, over the whole region. */
export function liveFlags(region: Region): Set<FlagName>[] {
  const facts = region.blocks.map(flagsNeeded);
  const live = facts.map((fact) => new Set(fact.needed));
  for (let changed = true; changed;) {
    changed = false;
    for (let n = region.blocks.length - 1; n >= 0; n--) {
      for (const name of liveOut(region.blocks[n]!, live)) {
        if (!facts[n]!.killed.has(name) && !live[n]!.has(name)) {
          live[n]!.add(name);
          changed = true;
        }
      }
    }
  }
  return live;
}

export function liveOut(block: RegionBlock, live: readonly ReadonlySet<FlagName>[]): ReadonlySet<FlagName> {
  const out = new Set<FlagName>();
  for (const e of successorsOf(block)) if (e.kind === 'block') for (const name of live[e.to]!) out.add(name);
  return out;
}
