// SPDX-License-Identifier: MIT
// `npm run test:e2e [FILE...]`: the window, in a page and in the desktop shell, in Debian's Chromium against the real manager and real guests; needs Chromium and several minutes.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const at = (file: string): string => fileURLToPath(new URL(`../../${file}`, import.meta.url));

function run(file: string, ...rest: readonly string[]): number {
  const env = { ...process.env, PARAVANE_E2E: '1' };
  return spawnSync(process.execPath, [at(file), ...rest], { stdio: 'inherit', env }).status ?? 1;
}

const chosen = process.argv.slice(2);
// The window is tested as its sources are now.
process.exitCode =
  run('tests/run.ts', 'build', 'build-renderer') ||
  run('node_modules/vitest/vitest.mjs', 'run', ...(chosen.length > 0 ? chosen : ['tests/e2e', 'tests/electron']));
