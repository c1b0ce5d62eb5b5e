// SPDX-License-Identifier: MIT
// Where Electron's binary is: what ELECTRON_PATH names, or what the electron package has fetched. Installing Paravane does not fetch it.
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE = fileURLToPath(new URL('../../node_modules/electron', import.meta.url));

/** Path of an Electron that can be started, or null. */
export function installedElectron(): string | null {
  const named = process.env.ELECTRON_PATH;
  if (named !== undefined && named !== '') return isProgram(named) ? path.resolve(named) : null;
  try {
    // Written by the package when it has unpacked its download.
    const program = fs.readFileSync(path.join(PACKAGE, 'path.txt'), 'utf8').trim();
    const binary = path.join(process.env.ELECTRON_OVERRIDE_DIST_PATH ?? path.join(PACKAGE, 'dist'), program);
    return isProgram(binary) ? binary : null;
  } catch {
    return null;
  }
}

function isProgram(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

/** Longest time a download may stand in the way of a window in the browser. */
const FETCH_MS = 180_000;

/** Lets the electron package fetch its binary; null when it cannot, for whatever reason. What it says goes nowhere: the caller says it better. */
export async function fetchElectron(): Promise<string | null> {
  const script = path.join(PACKAGE, 'install.js');
  if (!fs.existsSync(script)) return null;
  await new Promise<void>((resolve) => {
    const child = spawn(process.execPath, [script], { stdio: 'ignore', timeout: FETCH_MS });
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
  return installedElectron();
}
