// SPDX-License-Identifier: MIT
// Rules that hold for every file: licence line, purpose, size; and for the project: each dependency is accounted for.
import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { absolute, sourceFiles } from './source-files.ts';

const MAX_LINES = 500;

/** Files that may be longer, with the reason. Each entry must be needed: one that is not fails the check too. */
const LONG_FILES: Readonly<Record<string, string>> = {};

const files = sourceFiles('.ts', '.js', '.mjs', '.cjs', '.sh', '.c', '.h', '.S');

describe('source files', () => {
  it('start with the SPDX licence line, then say what they are for', () => {
    const offences = files.filter(({ text }) => {
      const lines = text.split('\n');
      if (lines[0].startsWith('#!')) lines.shift();
      return (
        !/^(\/\/|#|\/\*) SPDX-License-Identifier: MIT( \*\/)?$/.test(lines[0]) ||
        !/^(\/\/|#|\/\*) ?\S.{10}/.test(lines[1] ?? '')
      );
    });
    expect(offences.map((file) => file.path)).toEqual([]);
  });

  it(`have at most ${MAX_LINES} lines, with few exceptions`, () => {
    const long = files.filter(({ text }) => text.split('\n').length - 1 > MAX_LINES).map((file) => file.path);
    expect(long).toEqual(Object.keys(LONG_FILES).sort());
  });

  it('contain no tests that run alone', () => {
    const offences = files.filter(
      (file) => file.path.endsWith('.test.ts') && /\b(?:it|describe|test)\.only\s*\(/.test(file.text),
    );
    expect(offences.map((file) => file.path)).toEqual([]);
  });
});

describe('dependencies', () => {
  const manifest = JSON.parse(fs.readFileSync(absolute('package.json'), 'utf8')) as Record<
    string,
    Record<string, string> | undefined
  >;
  const declared = { ...manifest.dependencies, ...manifest.devDependencies, ...manifest.optionalDependencies };
  const documented = [...fs.readFileSync(absolute('docs/dependencies.md'), 'utf8').matchAll(/^\| `([^`]+)` +\|/gm)].map(
    (match) => match[1],
  );

  it('each have a line in docs/dependencies.md, and each line is of one', () => {
    expect(documented.sort()).toEqual(Object.keys(declared).sort());
  });

  it('are pinned to exact versions', () => {
    expect(Object.entries(declared).filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });

  it('that run scripts at install time are listed', () => {
    const lock = JSON.parse(fs.readFileSync(absolute('package-lock.json'), 'utf8')) as {
      packages: Record<string, { hasInstallScript?: boolean; optional?: boolean }>;
    };
    const withScripts = Object.entries(lock.packages)
      .map(([location, entry]) => ({ name: location.replace(/^.*node_modules\//, ''), ...entry }))
      // What others bring along for other systems is not ours to allow; what we ask for ourselves is.
      .filter(({ name, optional }) => !optional || name in (manifest.optionalDependencies ?? {}))
      .filter(({ name, hasInstallScript }) => hasInstallScript && name !== '')
      .map(({ name }) => name);
    expect(withScripts.sort()).toEqual(Object.keys(manifest.allowScripts ?? {}).sort());
  });
});
