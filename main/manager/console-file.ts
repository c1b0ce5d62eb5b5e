// SPDX-License-Identifier: MIT
// The scrollback of a run that is over, kept in the machine's folder until the next one ends.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { writeFileAtomically } from '../vm/atomic-file.ts';
import type { ConsoleFeed } from './console-feed.ts';

export const consoleFilePath = (folder: string): string => path.join(folder, 'logs', 'console.last');

/** Never throws: a scrollback that cannot be kept is a loss, but no reason to fail. */
export function saveConsole(file: string, console: ConsoleFeed): void {
  try {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    writeFileAtomically(file, console.kept().bytes, { durable: false });
  } catch {
    // The folder is gone or full.
  }
}

export function restoreConsole(file: string, console: ConsoleFeed): void {
  console.restart(0);
  try {
    console.append(fs.readFileSync(file));
  } catch {
    // None was kept.
  }
}
