// SPDX-License-Identifier: MIT
// Files named on the command line of the application, as file managers do: absolute paths of those that are there.
import * as fs from 'node:fs';
import * as path from 'node:path';

/** Most files that one start opens; a file manager may hand over a whole directory. */
const MOST = 8;

/** Switches are Electron's, and anything that is no file is ignored. */
export function openedFiles(args: readonly string[], directory: string): string[] {
  return args
    .filter((argument) => argument !== '' && !argument.startsWith('-'))
    .map((argument) => path.resolve(directory, argument))
    .filter((file) => fs.statSync(file, { throwIfNoEntry: false })?.isFile())
    .slice(0, MOST);
}
