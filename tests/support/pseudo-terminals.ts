// SPDX-License-Identifier: MIT
// Tests that need node-pty, which is compiled when the packages are installed and absent where that was not possible: they are skipped then, and say why.
import { pathToFileURL } from 'node:url';
import * as path from 'node:path';
import { loadPtyLibrary } from '../../main/terminal/pty-library.ts';

/** Why there are no pseudo-terminals here; null where there are. */
export const noPty: string | null = await loadPtyLibrary().then(
  () => null,
  (error: unknown) => (error as Error).message,
);

// A file of nothing but such tests is one line in the report, without their names.
if (noPty !== null) process.stderr.write(`Tests that need pseudo-terminals are skipped: ${noPty}\n`);

/** The name of a test that needs them: with the reason, where it is skipped. For `it.skipIf(noPty)(ptyTest(name), ...)`. */
export const ptyTest = (name: string): string => (noPty === null ? name : `${name} (skipped: ${noPty})`);

/** For NODE_OPTIONS: programs started with it find no node-pty, whether it is installed or not. */
export const hidePty = `--import=${pathToFileURL(path.join(import.meta.dirname, 'hide-node-pty.ts')).href}`;
