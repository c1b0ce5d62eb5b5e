// SPDX-License-Identifier: MIT
// `npm run test:e2e [FILE...]`: the window, in a page and in the desktop shell, in Debian's Chromium against the real manager and real guests; needs Chromium and several minutes.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const vitest = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url));
const chosen = process.argv.slice(2);
const { status } = spawnSync(
  process.execPath,
  [vitest, 'run', ...(chosen.length > 0 ? chosen : ['tests/e2e', 'tests/electron'])],
  {
    stdio: 'inherit',
    env: { ...process.env, PARAVANE_E2E: '1' },
  },
);
process.exitCode = status ?? 1;
