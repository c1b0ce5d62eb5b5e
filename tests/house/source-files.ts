// SPDX-License-Identifier: MIT
// The project's own files and what they import, for the checks of the house rules.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const NOT_OURS = new Set(['node_modules', '.git', 'build', '.cache']);

export interface SourceFile {
  /** Path from the top of the checkout, with forward slashes. */
  path: string;
  text: string;
}

export const absolute = (file: string): string => path.join(root, file);

/** All files of the checkout with one of these endings. */
export function sourceFiles(...endings: string[]): SourceFile[] {
  return fs
    .readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)).replaceAll(path.sep, '/'))
    .filter((file) => !file.split('/').some((part) => NOT_OURS.has(part)))
    .sort()
    .map((file) => ({ path: file, text: fs.readFileSync(path.join(root, file), 'utf8') }));
}

/** What a module imports: static and dynamic imports, re-exports, `new URL(..., import.meta.url)` excluded. */
export function importsOf(file: SourceFile): string[] {
  const patterns = [
    /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm,
    /^\s*import\s*['"]([^'"]+)['"]/gm,
    /\b(?:import|require)\s*\(\s*['"`]([^'"`]+)['"`]/g,
  ];
  return patterns.flatMap((pattern) => [...file.text.matchAll(pattern)].map((match) => match[1]));
}

/** The file of the checkout that a relative import means. */
export function resolveImport(from: string, specifier: string): string {
  return path.posix.normalize(path.posix.join(path.posix.dirname(from), specifier));
}
