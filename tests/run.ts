// SPDX-License-Identifier: MIT
// `npm test`: runs the sections one after the other, all of them even when one fails, and closes with the totals.
// `npm test -- NAME...` runs only the sections named.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { fileURLToPath } from 'node:url';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

interface Section {
  name: string;
  /** Arguments for Node: a program of a package (path below node_modules) or of our own, and what it is given. */
  command: string[];
  /** Counts after the run; without it a section is one test that passes or fails. */
  counts?: () => Counts;
}

const root = fileURLToPath(new URL('..', import.meta.url));
const RESULTS = 'build/test-results.json';

const sections: Section[] = [
  { name: 'build', command: ['main/build/build.ts'] },
  {
    name: 'build-renderer',
    command: ['node_modules/vite/bin/vite.js', 'build', '--config', 'renderer/vite.config.ts', '--logLevel', 'warn'],
  },
  {
    name: 'format',
    command: [
      'node_modules/prettier/bin/prettier.cjs',
      '--check',
      '--cache',
      '--cache-location',
      'build/cache/prettier',
      '--log-level',
      'warn',
      '.',
    ],
  },
  {
    name: 'lint',
    command: ['node_modules/eslint/bin/eslint.js', '.', '--cache', '--cache-location', 'build/cache/eslint'],
  },
  { name: 'types-engine', command: ['node_modules/typescript/bin/tsc', '-p', 'engine'] },
  { name: 'types-main', command: ['node_modules/typescript/bin/tsc', '-p', 'main'] },
  {
    name: 'types-renderer',
    command: [
      'node_modules/svelte-check/bin/svelte-check',
      '--workspace',
      'renderer',
      '--tsconfig',
      './tsconfig.json',
      '--fail-on-warnings',
    ],
  },
  { name: 'types-tests', command: ['node_modules/typescript/bin/tsc', '-p', 'tests'] },
  { name: 'types-e2e', command: ['node_modules/typescript/bin/tsc', '-p', 'tests/e2e'] },
  { name: 'types-desktop', command: ['node_modules/typescript/bin/tsc', '-p', 'main/electron'] },
  { name: 'types-desktop-tests', command: ['node_modules/typescript/bin/tsc', '-p', 'tests/electron'] },
  {
    name: 'vitest',
    command: [
      'node_modules/vitest/vitest.mjs',
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${RESULTS}`,
    ],
    counts: vitestCounts,
  },
];

/** Totals of vitest's report. A file that could not even be loaded has no tests in it and counts as one failure. */
function vitestCounts(): Counts {
  const report = JSON.parse(fs.readFileSync(`${root}/${RESULTS}`, 'utf8')) as {
    numPassedTests: number;
    numFailedTests: number;
    numPendingTests: number;
    numTodoTests: number;
    testResults: { status: string; assertionResults: unknown[] }[];
  };
  const unloadable = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + unloadable.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

function runSection(section: Section): Counts {
  process.stdout.write(`\n=== ${section.name} ===\n`);
  fs.rmSync(`${root}/${RESULTS}`, { force: true });
  const start = Date.now();
  const { status } = spawnSync(process.execPath, section.command, { cwd: root, stdio: 'inherit' });
  const succeeded = status === 0;
  let counts: Counts = { passed: Number(succeeded), failed: Number(!succeeded), skipped: 0 };
  // A runner that died has no report and stays one failure.
  if (section.counts !== undefined && fs.existsSync(`${root}/${RESULTS}`)) {
    counts = section.counts();
    if (!succeeded) counts.failed = Math.max(1, counts.failed);
  }
  const seconds = ((Date.now() - start) / 1000).toFixed(1);
  process.stdout.write(`--- ${section.name}: ${succeeded ? 'ok' : 'FAILED'} (${seconds} s)\n`);
  return counts;
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !sections.some((section) => section.name === name));
if (unknown.length > 0) {
  process.stderr.write(
    `No section "${unknown[0]}"; there are: ${sections.map((section) => section.name).join(', ')}.\n`,
  );
  process.exit(2);
}
const chosen = sections.filter((section) => wanted.length === 0 || wanted.includes(section.name));

fs.mkdirSync(`${root}/build/cache`, { recursive: true });
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const failedSections: string[] = [];
for (const section of chosen) {
  const counts = runSection(section);
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
  if (counts.failed > 0) failedSections.push(section.name);
}
process.stdout.write('\n');
if (failedSections.length > 0) process.stdout.write(`Failed sections: ${failedSections.join(', ')}\n`);
if (total.skipped > 0) process.stdout.write(`${total.skipped} skipped\n`);
process.stdout.write(`${total.passed} passed, ${total.failed} failed\n`);
process.exitCode = total.failed > 0 ? 1 : 0;
