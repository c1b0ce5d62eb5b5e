#!/usr/bin/env node
// SPDX-License-Identifier: MIT
// Entry of the command line. Plain JavaScript that any Node understands: it makes sure that the pinned Node runs the rest.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as module from 'node:module';
import { constants, homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const NEEDED_MAJOR = 26;

if (Number(process.versions.node.split('.')[0]) >= NEEDED_MAJOR) {
  // Without it every command strips the types of its sources anew: 0.1 s of CPU and 30 MiB. Failing costs nothing but that.
  if (process.env.NODE_COMPILE_CACHE === undefined) module.enableCompileCache(compileCache());
  const { main } = await import('./main.ts');
  process.exitCode = await main(process.argv.slice(2));
} else {
  const name = process.platform === 'win32' ? 'node.exe' : 'node';
  const pinned = fileURLToPath(new URL(`../../node_modules/node/bin/${name}`, import.meta.url));
  if (existsSync(pinned)) runWith(pinned);
  else {
    const problem = `Node ${NEEDED_MAJOR} is needed; this is ${process.version}, and the pinned one is missing.`;
    const action = 'Run "npm ci" (with install scripts allowed) in the checkout, or use a newer Node.';
    process.stderr.write(`paravane: ${problem}\n${action}\n`);
    process.exitCode = 1;
  }
}

/** `node` in the cache directory: as `cacheDirectory` has it, which is TypeScript and would have to be compiled first. */
function compileCache() {
  const { PARAVANE_CACHE, XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (PARAVANE_CACHE) return resolve(PARAVANE_CACHE, 'node');
  if (process.platform === 'win32') return join(LOCALAPPDATA ?? tmpdir(), 'Paravane', 'cache', 'node');
  return join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'paravane', 'node');
}

/** Runs the same command under `node` and ends as it ends. */
function runWith(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  // Ctrl-C reaches both processes from the terminal; passing it on would make it count twice.
  process.on('SIGINT', () => undefined);
  child.on('exit', (code, signal) => {
    process.exitCode = signal === null ? (code ?? 1) : 128 + (constants.signals[signal] ?? 0);
  });
}
