// SPDX-License-Identifier: MIT
// The window knows the contract and nothing else of the manager, runs in any browser, and puts no markup of others on the page.
import { describe, expect, it } from 'vitest';
import { importsOf, resolveImport, sourceFiles } from './source-files.ts';

const MAX_LINES = 500;
const PACKAGES = /^(svelte|chart\.js|@xterm\/[\w-]+)(\/|$)/;
const MAY_KNOW = /^(renderer|main\/contract)\//;

const files = sourceFiles('.ts', '.svelte', '.css', '.html').filter((file) => file.path.startsWith('renderer/'));
const code = files.filter(
  (file) => /\.(ts|svelte)$/.test(file.path) && !/\.test\.ts$|vite\.config\.ts$/.test(file.path),
);

describe('renderer/', () => {
  it('imports only itself, the contract and the packages of the window', () => {
    expect(code.length).toBeGreaterThan(50);
    const offences = code.flatMap((file) =>
      importsOf(file)
        .filter((specifier) =>
          specifier.startsWith('.') ? !MAY_KNOW.test(resolveImport(file.path, specifier)) : !PACKAGES.test(specifier),
        )
        .map((specifier) => `${file.path} imports ${specifier}`),
    );
    expect(offences).toEqual([]);
  });

  it('does not ship what only tests need', () => {
    const offences = code
      .filter((file) => !file.path.startsWith('renderer/testing/'))
      .filter((file) => importsOf(file).some((specifier) => specifier.includes('/testing/')));
    expect(offences.map((file) => file.path)).toEqual([]);
  });

  it('never sets markup from text', () => {
    const offences = code.filter(({ text }) =>
      /\{@html|innerHTML|outerHTML|insertAdjacentHTML|document\.write/.test(text),
    );
    expect(offences.map((file) => file.path)).toEqual([]);
  });

  it('has no styles or scripts in markup, which the content policy would refuse', () => {
    const offences = files.filter(
      ({ path, text }) =>
        /\.(svelte|html)$/.test(path) &&
        /\sstyle="[^"{]|\son\w+="/.test(text.replace(/<script[\s\S]*?<\/script>/g, '')),
    );
    expect(offences.map((file) => file.path)).toEqual([]);
  });

  it('has files that begin with licence and purpose and stay short', () => {
    const offences = files.filter(({ path, text }) => {
      const lines = text.split('\n').slice(path.endsWith('.html') ? 1 : 0);
      const begins = /SPDX-License-Identifier: MIT/.test(lines[0]) && /\S.{10}/.test(lines[1] ?? '');
      return !begins || lines.length > MAX_LINES;
    });
    expect(offences.map((file) => file.path)).toEqual([]);
  });
});
