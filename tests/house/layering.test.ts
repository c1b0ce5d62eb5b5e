// SPDX-License-Identifier: MIT
// The path of a file says where it may run: these checks make it true.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { absolute, importsOf, resolveImport, sourceFiles } from './source-files.ts';

const isTest = (file: string): boolean => file.endsWith('.test.ts');

/** Runs under Node when the project is built, and only then; it drives the generator inside the engine. */
const BUILD_TIME = new Set<string>();

const files = sourceFiles('.ts', '.js', '.mjs', '.cjs');

describe('layers', () => {
  it('engine/ imports nothing outside itself', () => {
    const engine = files.filter(
      (file) => file.path.startsWith('engine/') && !isTest(file.path) && !BUILD_TIME.has(file.path),
    );
    expect(engine.length).toBeGreaterThan(0);
    const offences = engine.flatMap((file) =>
      importsOf(file)
        .filter((specifier) => !specifier.startsWith('.') || !resolveImport(file.path, specifier).startsWith('engine/'))
        .map((specifier) => `${file.path} imports ${specifier}`),
    );
    expect(offences).toEqual([]);
  });

  it('engine/ does not compile with anything of Node or the DOM', () => {
    const config = JSON.parse(
      execFileSync(process.execPath, [
        absolute('node_modules/typescript/bin/tsc'),
        '-p',
        absolute('engine'),
        '--showConfig',
      ]).toString(),
    );
    expect(config.compilerOptions).toMatchObject({ lib: ['es2023'], types: [], strict: true });
    // The check itself is checked: a file that uses Node must not pass.
    const globals = "setTimeout(() => undefined, 1); document.title = 'x'; process.exit(); import 'node:fs';";
    fs.mkdirSync(absolute('build'), { recursive: true });
    const directory = fs.mkdtempSync(absolute('build/layering-'));
    try {
      fs.writeFileSync(path.join(directory, 'probe.ts'), globals);
      const options = {
        extends: '../../engine/tsconfig.json',
        compilerOptions: { incremental: false, tsBuildInfoFile: null },
        include: ['probe.ts'],
        exclude: [],
      };
      fs.writeFileSync(path.join(directory, 'tsconfig.json'), JSON.stringify(options));
      const errors = compileErrors(directory);
      for (const name of ['setTimeout', 'document', 'process', 'node:fs'])
        expect(errors).toMatch(new RegExp(`'${name}'`));
    } finally {
      fs.rmSync(directory, { recursive: true, force: true });
    }
  });

  it('only main/electron/ imports electron', () => {
    const offences = files
      .filter((file) => !file.path.startsWith('main/electron/'))
      .filter((file) =>
        importsOf(file).some((specifier) => specifier === 'electron' || specifier.startsWith('electron/')),
      );
    expect(offences.map((file) => file.path)).toEqual([]);
  });

  it('code that ships imports no tests', () => {
    const offences = files
      .filter((file) => /^(engine|main|renderer)\//.test(file.path) && !isTest(file.path))
      .filter((file) =>
        importsOf(file).some(
          (specifier) => specifier.startsWith('.') && /^tests\/|\.test\.ts$/.test(resolveImport(file.path, specifier)),
        ),
      );
    expect(offences.map((file) => file.path)).toEqual([]);
  });
});

function compileErrors(project: string): string {
  try {
    execFileSync(process.execPath, [absolute('node_modules/typescript/bin/tsc'), '-p', project], { stdio: 'pipe' });
    return '';
  } catch (error) {
    return (error as { stdout: Buffer }).stdout.toString();
  }
}
