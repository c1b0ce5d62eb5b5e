// SPDX-License-Identifier: MIT
// Makes a failing case small: fewer instructions, simpler registers, flags and vectors, as long as it still fails.

import type { Batch, Case } from './case.ts';
import { differences, incomparable } from './compare.ts';
import type { Difference } from './compare.ts';
import type { EngineRunner } from './engine.ts';
import type { NativeCpu } from './native.ts';

/** A case and what differs in it. */
export interface Failure {
  case: Case;
  differences: Difference[];
}

/** Runs single variants of a case on both sides. */
class Judge {
  private readonly base: Uint8Array;
  private readonly native: NativeCpu;
  private readonly engine: EngineRunner;

  constructor(base: Uint8Array, native: NativeCpu, engine: EngineRunner) {
    this.base = base;
    this.native = native;
    this.engine = engine;
  }

  /** For each variant what differs; empty when it passes. */
  async judge(cases: Case[]): Promise<Difference[][]> {
    const batch: Batch = { base: this.base, cases };
    const native = await this.native.run(batch);
    const engine = await this.engine.run(batch);
    return cases.map((c, i) => (incomparable(c, native[i]) ? [] : differences(c, this.base, native[i], engine[i])));
  }
}

/**
 * Returns the smallest failing variant found. A variant counts only when the same aspects differ as in the original
 * (or fewer of them), so that one bug is not traded for another.
 */
export async function minimise(
  base: Uint8Array,
  failing: Case,
  native: NativeCpu,
  engine: EngineRunner,
): Promise<Failure> {
  const judge = new Judge(base, native, engine);
  const [first] = await judge.judge([failing]);
  let best: Failure = { case: failing, differences: first };
  const aspects = new Set(first.map((d) => kind(d.what)));
  const alike = (found: Difference[]): boolean => found.length > 0 && found.every((d) => aspects.has(kind(d.what)));
  for (const variants of [withoutSteps, simplerState]) {
    for (let round = 0; round < 120; round++) {
      const candidates = variants(best.case);
      if (candidates.length === 0) break;
      const verdicts = await judge.judge(candidates);
      const at = verdicts.findIndex(alike);
      if (at < 0) break;
      best = { case: candidates[at], differences: verdicts[at] };
    }
  }
  return best;
}

function kind(what: string): string {
  return what.startsWith('[') ? 'memory' : what.replace(/\d+/g, '');
}

/** The case without the steps that have become NOPs. Branch distances may break: the judge decides. */
function withoutNops(c: Case): Case | undefined {
  const code: number[] = [];
  const steps: Case['steps'] = [];
  c.steps.forEach((s, i) => {
    const bytes = c.code.subarray(s.offset, c.steps[i + 1]?.offset ?? c.code.length);
    if (bytes.length === 0 || bytes.every((b) => b === 0x90)) return;
    steps.push({ ...s, offset: code.length });
    code.push(...bytes);
  });
  // Moving code moves what rip-relative operands name, and the ranges to be ignored are fixed.
  if (code.length === c.code.length || code.length === 0 || c.ignoredMemory.length > 0) return undefined;
  return { ...c, code: Uint8Array.from(code), steps };
}

/** Each variant lacks one instruction. Its bytes become NOPs, so that branches keep their targets; then, if that works, all NOPs go. */
function withoutSteps(c: Case): Case[] {
  const variants: Case[] = [];
  for (let i = c.steps.length - 1; i >= 0; i--) {
    const from = c.steps[i].offset;
    const to = i + 1 < c.steps.length ? c.steps[i + 1].offset : c.code.length;
    if (c.code.subarray(from, to).every((b) => b === 0x90)) continue;
    const code = c.code.slice();
    code.fill(0x90, from, to);
    variants.push({ ...c, code });
  }
  const compact = withoutNops(c);
  // Also with the code moved up, so that what lies across a page boundary stays there.
  if (compact)
    variants.unshift(compact, { ...compact, codeOffset: c.codeOffset + c.code.length - compact.code.length });
  return variants;
}

/** Variants with a register, flag, patch or part of the x87/SSE image set to its plainest value. */
function simplerState(c: Case): Case[] {
  const variants: Case[] = [];
  for (let n = 0; n < 16; n++) {
    for (const value of [0n, 1n]) {
      if (c.gpr[n] === value || c.gpr[n] < value) continue;
      const gpr = c.gpr.slice();
      gpr[n] = value;
      variants.push({ ...c, gpr });
      if (value === 0n) break;
    }
  }
  if (c.rflags !== 0x202) {
    variants.push({ ...c, rflags: 0x202 });
    for (let bit = 0; bit < 12; bit++)
      if (c.rflags & (1 << bit) & 0xcd5) variants.push({ ...c, rflags: c.rflags & ~(1 << bit) });
  }
  for (let i = 0; i < c.patches.length; i++) variants.push({ ...c, patches: c.patches.filter((_, k) => k !== i) });
  const put = (at: number, bytes: readonly number[]): void => {
    if (bytes.every((b, i) => c.fx[at + i] === b)) return;
    const fx = c.fx.slice();
    fx.set(bytes, at);
    variants.push({ ...c, fx });
  };
  put(0, [0x7f, 0x03]);
  put(2, [0, 0]);
  put(4, [0]);
  put(24, [0x80, 0x1f, 0, 0]);
  for (let n = 0; n < 24; n++) put(32 + 16 * n, new Array<number>(16).fill(0));
  return variants;
}
