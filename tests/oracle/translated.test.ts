// SPDX-License-Identifier: MIT
// The differential tests with everything translated at first sight: generated regions against the real CPU.

import { expect, it } from 'vitest';
import { runCampaign } from './campaign.ts';
import { DEFAULT_SEED } from './defaults.ts';
import { isDescribed } from './described.ts';
import { createEngine } from './engine.ts';
import { NativeCpu } from './native.ts';

const seed = Number(process.env['ORACLE_SEED'] ?? DEFAULT_SEED + 1);
const cases = 24_000;

it(`translated code does what the CPU does (seed ${seed}, ${cases} cases)`, { timeout: 180_000 }, async () => {
  const native = new NativeCpu();
  try {
    const engine = await createEngine('translate');
    const result = await runCampaign({ seed, cases, maxFailures: 4, accept: isDescribed }, native, engine);
    const again = `repeat with: npm run fuzz:cpu -- --tier translate --cases ${cases} --seed ${seed}`;
    expect(result.failing, `${result.failures.join('\n\n')}\n\n${again}\n`).toBe(0);
    expect(result.compared).toBeGreaterThan(cases * 0.99);
  } finally {
    native.close();
  }
});
