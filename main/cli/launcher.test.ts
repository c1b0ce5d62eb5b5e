// SPDX-License-Identifier: MIT
// Tests of the launcher: compiled sources are kept where the rest of the program keeps what can be made again.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';

const launcher = fileURLToPath(new URL('./paravane.js', import.meta.url));
const directoryModule = new URL('../debian/cache-directory.ts', import.meta.url).href;
const home = fs.mkdtempSync(path.join(os.tmpdir(), 'paravane-launcher-'));
afterEach(() => fs.rmSync(home, { recursive: true, force: true }));

const places = [
  ['its own variable', { PARAVANE_CACHE: path.join(home, 'chosen') }],
  ['XDG', { XDG_CACHE_HOME: path.join(home, 'xdg') }],
  ['the home directory', { HOME: home }],
] as const;

test.skipIf(process.platform === 'win32').each(places)('keeps compiled sources in the cache: %s', (_, chosen) => {
  const environment = { PATH: process.env.PATH, HOME: home, ...chosen };
  expect(spawnSync(process.execPath, [launcher, 'version'], { env: environment }).status).toBe(0);
  const question = `console.log((await import(${JSON.stringify(directoryModule)})).cacheDirectory())`;
  const answer = spawnSync(process.execPath, ['--input-type=module', '-e', question], { env: environment });
  const kept = path.join(answer.stdout.toString().trim(), 'node');
  expect(kept.startsWith(home)).toBe(true);
  expect(fs.readdirSync(kept)).not.toEqual([]);
});
