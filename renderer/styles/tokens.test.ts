// SPDX-License-Identifier: MIT
// Both themes from one set of tokens, readable: text at 4.5, marks of state and edges of fields at 3 (WCAG 2.2 AA).
import { describe, expect, it } from 'vitest';
import { contrast } from '../testing/contrast.ts';
import css from './tokens.css?raw';

function tokensOf(theme: string): Record<string, string> {
  const block = css.slice(css.indexOf(`:root[data-theme='${theme}']`));
  return Object.fromEntries(
    [...block.slice(0, block.indexOf('}')).matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((match) => [
      match[1],
      match[2],
    ]),
  );
}

const light = tokensOf('light');
const dark = tokensOf('dark');
const SURFACES = ['bg-window', 'bg-pane', 'bg-page', 'bg-raised', 'bg-sunken', 'bg-selected'];

describe.each([
  ['light', light],
  ['dark', dark],
])('the %s theme', (_name, tokens) => {
  it('has text that can be read on every surface', () => {
    for (const surface of SURFACES) {
      for (const text of ['text', 'text-2', 'accent-text']) {
        expect(contrast(tokens[text], tokens[surface]), `${text} on ${surface}`).toBeGreaterThanOrEqual(4.5);
      }
    }
    for (const [text, surface] of [
      ['on-accent', 'accent'],
      ['on-accent', 'accent-hover'],
      ['good', 'good-soft'],
      ['warn', 'warn-soft'],
      ['bad', 'bad-soft'],
      ['text', 'bad-soft'],
      ['text-2', 'bad-soft'],
      ['bg-page', 'bad'],
      ['text-3', 'bg-page'],
      ['text-3', 'bg-raised'],
    ]) {
      const needed = surface === 'accent-hover' ? 3 : 4.5;
      expect(contrast(tokens[text], tokens[surface]), `${text} on ${surface}`).toBeGreaterThanOrEqual(needed);
    }
  });

  it('has marks and edges that can be seen', () => {
    for (const surface of ['bg-page', 'bg-raised']) {
      for (const mark of [
        'focus',
        'line-strong',
        'good',
        'warn',
        'bad',
        ...[1, 2, 3, 4, 5, 6].map((n) => `series-${n}`),
      ]) {
        expect(contrast(tokens[mark], tokens[surface]), `${mark} on ${surface}`).toBeGreaterThanOrEqual(3);
      }
    }
  });
});

it('defines the same colours in both themes, but for what only one needs', () => {
  const only = new Set(['console-bg', 'console-fg']);
  expect(
    Object.keys(dark)
      .filter((name) => !only.has(name))
      .sort(),
  ).toEqual(Object.keys(light).sort());
});
