// SPDX-License-Identifier: MIT
// The differential tests: the engine against the real CPU. ORACLE_SEED and ORACLE_CASES change the default run.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCampaign, testedKey } from './campaign.ts';
import type { CampaignResult } from './campaign.ts';
import { DEFAULT_CASES, DEFAULT_SEED } from './defaults.ts';
import { formSizes, isDescribed, undescribedEntries } from './described.ts';
import { createEngine } from './engine.ts';
import { FORMS } from './forms/index.ts';
import { NativeCpu } from './native.ts';

const seed = process.env['ORACLE_SEED'] === undefined ? DEFAULT_SEED : Number(process.env['ORACLE_SEED']);
const cases = process.env['ORACLE_CASES'] === undefined ? DEFAULT_CASES : Number(process.env['ORACLE_CASES']);

describe(`the engine does what the CPU does (seed ${seed}, ${cases} cases)`, () => {
  let native: NativeCpu;
  let result: CampaignResult;

  beforeAll(async () => {
    native = new NativeCpu();
    const engine = await createEngine();
    result = await runCampaign({ seed, cases, maxFailures: 8, accept: isDescribed }, native, engine);
  }, 180_000);
  afterAll(() => {
    native.close();
  });

  it('in every case', () => {
    const again = `repeat with: npm run fuzz:cpu -- --cases ${cases} --seed ${seed}`;
    expect(result.failing, `${result.failures.join('\n\n')}\n\n${result.failing} cases fail; ${again}\n`).toBe(0);
    expect(result.compared + result.skipped).toBe(cases);
    expect(result.skipped).toBeLessThan(cases / 200);
  });

  it('for every described form, size and mode', () => {
    const missing: string[] = [];
    for (const form of FORMS) {
      for (const mode of form.modes) {
        if (!isDescribed(form, mode)) continue;
        for (const size of formSizes(form, mode)) {
          const key = testedKey(form.key, size, mode);
          if (!result.tested.has(key)) missing.push(key);
        }
      }
    }
    expect(missing).toEqual([]);
  });

  it('and every description is reached by a form, or excused', () => {
    expect(undescribedEntries().map((e) => `${e.insn.name} ${e.text}`)).toEqual([]);
  });
});
