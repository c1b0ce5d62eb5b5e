// SPDX-License-Identifier: MIT
// `npm start`: the application in Electron where that is possible; why it is not is said in one line, and the window is then a page.
import { spawn } from 'node:child_process';
import { hasDisplay } from './display.ts';
import { fetchElectron, installedElectron } from './electron-binary.ts';

/** Runs the application until it ends and resolves with its exit code; null when there is to be a page instead. `say` writes one line. */
export async function openDesktop(say: (text: string) => void): Promise<number | null> {
  const obstacle = obstacleToElectron();
  if (obstacle !== null) {
    say(`${obstacle}; the window is a page in your browser.`);
    return null;
  }
  let binary = installedElectron();
  if (binary === null && process.env.ELECTRON_PATH) {
    say(`ELECTRON_PATH names no program (${process.env.ELECTRON_PATH}); the window is a page in your browser.`);
    return null;
  }
  if (binary === null) {
    say('Fetching Electron, once (about 120 MB) ...');
    binary = await fetchElectron();
  }
  if (binary === null) {
    say('Electron could not be fetched; the window is a page in your browser.');
    return null;
  }
  // The compiler is needed in a checkout only, and only here.
  const { APP_DIRECTORY, emitApp, isFresh } = await import('../build/emit.ts');
  if (!isFresh()) await emitApp();
  return run(binary, APP_DIRECTORY);
}

/** Why there is no point in starting Electron here, or null. */
export function obstacleToElectron(
  environment: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  user = process.getuid?.(),
): string | null {
  if (!hasDisplay(environment, platform)) return 'There is no display here';
  // Chromium would run without its sandbox, which is not for pages that show what guests say.
  if (platform === 'linux' && user === 0) return 'Electron does not run as root';
  return null;
}

function run(binary: string, application: string): Promise<number | null> {
  const { ELECTRON_RUN_AS_NODE: _, ...environment } = process.env;
  return new Promise((resolve, reject) => {
    const child = spawn(binary, [application], { stdio: 'inherit', env: environment });
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? (signal === null ? 0 : 1)));
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => child.kill(signal));
  });
}
