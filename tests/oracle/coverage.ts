// SPDX-License-Identifier: MIT
// Writes docs/instructions.md: every instruction form, whether the engine describes it, how often the default test run executed it
// on both sides, and whether a boot executed it. `node tests/oracle/coverage.ts [--cases N] [--profile boot-profile.json]`.
//
// A boot profile is a JSON object: `name|encoding|size in bits|mode` of the engine's decoder (described.ts `profileKey`) -> executions.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runCampaign, testedKey } from './campaign.ts';
import type { Mode } from './case.ts';
import { describedBy, formSizes, isDescribed, NOT_NATIVE, profileKey } from './described.ts';
import { createEngine } from './engine.ts';
import { DEFAULT_CASES, DEFAULT_SEED } from './defaults.ts';
import { FORMS } from './forms/index.ts';
import type { Form } from './forms/form.ts';
import { NativeCpu } from './native.ts';

const PAGE = join(import.meta.dirname, '..', '..', 'docs', 'instructions.md');
const PROFILE = join(import.meta.dirname, 'boot-profile.json');
const BITS: Readonly<Record<string, (mode: Mode) => number>> = {
  b: () => 8,
  w: () => 16,
  d: () => 32,
  q: () => 64,
  n: (mode) => mode,
};

type Counts = ReadonlyMap<string, number>;

/** One table cell: per operand size the number of cases; what the engine does not describe says so. */
function cell(form: Form, mode: Mode, tested: Counts): string {
  if (!form.modes.includes(mode)) return '';
  return formSizes(form, mode)
    .map((size) => {
      const label = size === '' ? '' : `${BITS[size](mode)}: `;
      if (form.family !== 'privileged' && describedBy(form, size, mode).length === 0) return `${label}not described`;
      return `${label}${tested.get(testedKey(form.key, size, mode)) ?? 0}`;
    })
    .join(', ');
}

/** The sizes a boot executed, or nothing. */
function bootCell(form: Form, profile: Counts): string {
  const seen = new Set<string>();
  for (const mode of form.modes) {
    for (const size of formSizes(form, mode)) {
      for (const entry of describedBy(form, size, mode)) {
        const bits = size === '' ? [8, 16, 32, 64] : [BITS[size](mode)];
        if (bits.some((b) => profile.has(profileKey(entry, b, mode)))) seen.add(size === '' ? 'yes' : `${bits[0]}`);
      }
    }
  }
  return [...seen].join(', ');
}

/** The page as Markdown. */
export function coveragePage(tested: Counts, profile: Counts, cases: number, seed: number): string {
  const lines = [
    '# Instructions',
    '',
    'Every instruction form of the differential tests, in the notation of the Intel manual. The columns for the two modes give, per operand size in bits,',
    `how many of the ${cases} cases of the default run (seed ${seed}) contain it; each case runs on the real CPU and in the engine and must end alike.`,
    '"Boot" gives the operand sizes that Debian\'s kernel and shell executed between power-on and power-off.',
    '',
    'Written by `node tests/oracle/coverage.ts`.',
    '',
  ];
  for (const family of [...new Set(FORMS.map((f) => f.family))]) {
    lines.push(`## ${family[0].toUpperCase()}${family.slice(1)}`, '');
    lines.push('| Instruction | Encoding | 64-bit mode | 32-bit mode | Boot |', '| --- | --- | --- | --- | --- |');
    for (const form of FORMS.filter((f) => f.family === family)) {
      lines.push(
        `| ${form.name} | \`${form.encoding}\` | ${cell(form, 64, tested)} | ${cell(form, 32, tested)} | ${bootCell(form, profile)} |`,
      );
    }
    lines.push('');
  }
  lines.push('## Described, not compared with the CPU', '', '| Instruction | Why |', '| --- | --- |');
  for (const [name, why] of Object.entries(NOT_NATIVE)) lines.push(`| ${name} | ${why} |`);
  lines.push('');
  return lines.join('\n');
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      cases: { type: 'string', default: String(DEFAULT_CASES) },
      profile: { type: 'string', default: PROFILE },
    },
  });
  const native = new NativeCpu();
  const cases = Number(values.cases);
  const result = await runCampaign(
    { seed: DEFAULT_SEED, cases, maxFailures: 1, accept: isDescribed },
    native,
    await createEngine(),
  );
  native.close();
  if (result.failing > 0) {
    process.stderr.write(
      `the differential tests fail, so there is nothing to document yet: npx vitest run tests/oracle\n${result.failures[0] ?? ''}\n`,
    );
    process.exit(1);
  }
  const profile = new Map<string, number>(
    existsSync(values.profile)
      ? Object.entries(JSON.parse(readFileSync(values.profile, 'utf8')) as Record<string, number>)
      : [],
  );
  writeFileSync(PAGE, coveragePage(result.tested, profile, cases, DEFAULT_SEED));
  process.stdout.write(`${PAGE}\n`);
}
