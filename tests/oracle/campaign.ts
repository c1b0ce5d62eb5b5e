// SPDX-License-Identifier: MIT
// Runs a number of generated cases on both sides, counts what was tested, and minimises what fails.

import type { Case } from './case.ts';
import { differences, incomparable } from './compare.ts';
import { describe } from './disassemble.ts';
import type { EngineRunner } from './engine.ts';
import { Generator } from './generator.ts';
import type { GeneratorOptions } from './generator.ts';
import { minimise } from './minimise.ts';
import type { NativeCpu } from './native.ts';

export interface CampaignOptions extends GeneratorOptions {
  cases: number;
  /** Different failures after which the campaign stops. */
  maxFailures: number;
  onProgress?: (done: number) => void;
}

export interface CampaignResult {
  /** Cases compared. */
  compared: number;
  /** Cases that say nothing (see compare.ts). */
  skipped: number;
  /** Cases that failed, alike ones included. */
  failing: number;
  /** One text per kind of failure: minimised, disassembled. */
  failures: string[];
  /** `form/size/mode` -> number of cases that contain it. */
  tested: Map<string, number>;
}

const BATCH = 2000;

/** Key of the coverage table. */
export function testedKey(form: string, size: string, mode: number): string {
  return `${form}/${size}/${mode}`;
}

export async function runCampaign(
  options: CampaignOptions,
  native: NativeCpu,
  engine: EngineRunner,
): Promise<CampaignResult> {
  const generator = new Generator(options);
  const result: CampaignResult = { compared: 0, skipped: 0, failing: 0, failures: [], tested: new Map() };
  const seen = new Set<string>();
  /** Forms that fail by themselves: longer cases with one of them are put down to it. */
  const culprits = new Set<string>();
  for (let done = 0; done < options.cases && result.failures.length < options.maxFailures; done += BATCH) {
    const batch = generator.batch(Math.min(BATCH, options.cases - done));
    const expected = await native.run(batch);
    const got = await engine.run(batch);
    for (let i = 0; i < batch.cases.length; i++) {
      const c = batch.cases[i];
      if (incomparable(c, expected[i])) {
        result.skipped++;
        continue;
      }
      result.compared++;
      for (const s of c.steps) {
        const key = testedKey(s.form, s.size, c.mode);
        result.tested.set(key, (result.tested.get(key) ?? 0) + 1);
      }
      const found = differences(c, batch.base, expected[i], got[i]);
      if (found.length === 0) continue;
      result.failing++;
      const signature = sign(
        c,
        found.map((d) => d.what),
      );
      if (seen.has(signature) || result.failures.length >= options.maxFailures) continue;
      if (c.steps.length > 1 && c.steps.some((s) => culprits.has(`${c.mode} ${s.form}`))) continue;
      seen.add(signature);
      const small = await minimise(batch.base, c, native, engine);
      const smallSignature = sign(
        small.case,
        small.differences.map((d) => d.what),
      );
      if (small.case.steps.length === 1) culprits.add(`${c.mode} ${small.case.steps[0].form}`);
      // A long case may come down to a failure that is already known.
      if (smallSignature !== signature && seen.has(smallSignature)) continue;
      seen.add(smallSignature);
      result.failures.push(describe(small.case, batch.base, small.differences.length > 0 ? small.differences : found));
    }
    options.onProgress?.(Math.min(done + BATCH, options.cases));
  }
  return result;
}

/** Failures with the same instructions (whatever their size) and the same kinds of difference count as one. */
function sign(c: Case, aspects: string[]): string {
  const kinds = new Set(
    aspects.map((a) =>
      a.startsWith('[')
        ? 'memory'
        : /^(r\d+|[re][a-z]{2})$/.test(a) && a !== 'rip'
          ? 'register'
          : a.replace(/\d+/g, ''),
    ),
  );
  const live = c.steps.filter(
    (s, i) => !c.code.subarray(s.offset, c.steps[i + 1]?.offset ?? c.code.length).every((b) => b === 0x90),
  );
  return `${c.mode} ${live.map((s) => s.form).join(';')} ${[...kinds].sort().join(',')}`;
}
