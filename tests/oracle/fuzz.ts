// SPDX-License-Identifier: MIT
// `npm run fuzz:cpu -- --cases N [--seed S] [--only family|name|"form"] [--mode 64|32] [--tier interpret|translate|auto] [--failures N]`: the differential tests without an end in sight.

import { parseArgs } from 'node:util';
import { runCampaign } from './campaign.ts';
import type { Mode } from './case.ts';
import { isDescribed } from './described.ts';
import type { Tier } from '../../engine/cpu/vcpu.ts';
import { createEngine } from './engine.ts';
import { selectsForms } from './generator.ts';
import { nativeObstacle, NativeCpu } from './native.ts';

const out = (text: string): void => void process.stdout.write(`${text}\n`);

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '1000000' },
    seed: { type: 'string' },
    only: { type: 'string' },
    mode: { type: 'string' },
    tier: { type: 'string' },
    failures: { type: 'string', default: '20' },
    instructions: { type: 'string' },
  },
});
const cases = Number(values.cases);
const seed = values.seed === undefined ? Date.now() >>> 0 : Number(values.seed);
const tiers: readonly string[] = ['interpret', 'translate', 'auto'] satisfies Tier[];
if (
  !(cases > 0) ||
  Number.isNaN(seed) ||
  (values.mode !== undefined && values.mode !== '64' && values.mode !== '32') ||
  (values.tier !== undefined && !tiers.includes(values.tier))
) {
  process.stderr.write(
    'usage: npm run fuzz:cpu -- --cases N [--seed S] [--only family|name] [--mode 64|32] [--tier interpret|translate|auto] [--failures N] [--instructions N]\n',
  );
  process.exit(2);
}
const obstacle = nativeObstacle();
if (obstacle !== undefined) {
  process.stderr.write(`${obstacle}\n`);
  process.exit(2);
}

out(`seed ${seed}`);
const options = {
  seed,
  cases,
  accept: isDescribed,
  maxFailures: Number(values.failures),
  ...(values.only === undefined ? {} : { only: values.only }),
  ...(values.mode === undefined ? {} : { mode: Number(values.mode) as Mode }),
  ...(values.instructions === undefined ? {} : { maxInstructions: Number(values.instructions) }),
};
if (!selectsForms(options)) {
  process.stderr.write(
    `no described instruction form matches --only ${values.only ?? ''}: give a family (integer string branch stack x87 mmx sse privileged), a mnemonic, or a form such as "add 01 /r"\n`,
  );
  process.exit(2);
}
const native = new NativeCpu();
const engine = await createEngine(values.tier as Tier | undefined);
const start = performance.now();
let told = start;
const result = await runCampaign(
  {
    ...options,
    onProgress: (done) => {
      if (performance.now() - told < 10_000) return;
      told = performance.now();
      out(`${done} cases, ${Math.round(done / ((told - start) / 1000))} per second`);
    },
  },
  native,
  engine,
);
native.close();
for (const failure of result.failures) out(`\n${failure}`);
out(
  `\n${result.compared} cases compared, ${result.skipped} skipped, ${result.failing} failing in ${result.failures.length} kinds; seed ${seed}; ${Math.round((performance.now() - start) / 1000)} s`,
);
process.exitCode = result.failing > 0 ? 1 : 0;
