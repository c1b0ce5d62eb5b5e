// SPDX-License-Identifier: MIT
// Which status flags the instructions of a region read and write, and where they must be in their locals.

import { allFlags, flagSet, type FlagSet } from '../cpu/flag-sets.ts';
import { countMask } from '../x86/integer-shift.ts';
import type { Instruction } from '../x86/types.ts';
import type { Region, RegionBlock, RegionInstruction } from './region.ts';

/** What an instruction does to the flags, its constant operands known. */
export interface FlagEffect {
  readonly reads: FlagSet;
  /** Always written. */
  readonly writes: FlagSet;
  /** Perhaps written. */
  readonly mayWrite: FlagSet;
  readonly isWriter: boolean;
  /** They are plain expressions over its operands, so that they can wait until someone asks. */
  readonly isLazy: boolean;
}

/** Of an instruction whatever its operands; and when its count is a constant, by whether that is 0. */
interface Effects {
  readonly general: FlagEffect;
  readonly counted: FlagEffect;
  readonly countIsZero: FlagEffect;
}

const known = new Map<Instruction, Effects>();

function effectsOf(insn: Instruction): Effects {
  const isPlain = insn.hot === true || insn.plainFlags === true;
  const effect = (writes: FlagSet, mayWrite: FlagSet): FlagEffect => ({
    reads: flagSet(insn.reads),
    writes,
    mayWrite,
    isWriter: (writes | mayWrite) !== 0,
    isLazy: isPlain && writes !== 0 && mayWrite === 0,
  });
  const [writes, mayWrite] = [flagSet(insn.writes), flagSet(insn.mayWrite)];
  return { general: effect(writes, mayWrite), counted: effect(mayWrite, 0), countIsZero: effect(writes, 0) };
}

export function flagEffect({ entry: { insn }, operands, size }: RegionInstruction): FlagEffect {
  let effects = known.get(insn);
  if (!effects) known.set(insn, (effects = effectsOf(insn)));
  const count = insn.count === undefined ? undefined : operands[insn.count];
  if (count?.category !== 'i') return effects.general;
  return (count.value & countMask(size)) === 0 ? effects.countIsZero : effects.counted;
}

/**
 * Flags that must be in their locals when a block starts: those read before they are overwritten, and those that an instruction leaves
 * alone while it writes others. (Faults and exits need no flags in locals: they settle them on their own way out.)
 */
function flagsNeeded(block: RegionBlock): { readonly needed: FlagSet; readonly killed: FlagSet } {
  let needed = 0;
  let killed = 0;
  for (const i of block.instructions) {
    const { reads, writes, mayWrite, isWriter } = flagEffect(i);
    const kept = !isWriter ? 0 : mayWrite !== 0 ? allFlags : allFlags & ~writes;
    needed |= (kept | reads) & ~killed;
    killed |= writes;
  }
  return { needed, killed };
}

/** Flags needed in locals at the start of each block, over the whole region. `successors`: the blocks behind each. */
export function liveFlags({ blocks }: Region, successors: readonly (readonly number[])[]): readonly FlagSet[] {
  const facts = blocks.map(flagsNeeded);
  const live = facts.map((fact) => fact.needed);
  for (let changed = true; changed;) {
    changed = false;
    for (let n = blocks.length - 1; n >= 0; n--) {
      const needed = live[n]! | (liveBehind(successors[n]!, live) & ~facts[n]!.killed);
      if (needed === live[n]) continue;
      live[n] = needed;
      changed = true;
    }
  }
  return live;
}

/** Flags needed in locals where control goes on at one of the blocks. */
export function liveBehind(successors: readonly number[], live: readonly FlagSet[]): FlagSet {
  let out = 0;
  for (let k = 0; k < successors.length; k++) out |= live[successors[k]!]!;
  return out;
}
