// SPDX-License-Identifier: MIT
// Tests of kept-sessions.ts.
import { expect, it } from 'vitest';
import { KeptSessions } from './kept-sessions.ts';

it('keeps those used last, and all that are needed', () => {
  const gone: string[] = [];
  const needed = new Set<string>();
  const sessions = new KeptSessions(3, (machine) => ({
    machine,
    get needed() {
      return needed.has(machine);
    },
    dispose: () => gone.push(machine),
  }));
  const [a] = ['a', 'b', 'c'].map((machine) => sessions.of(machine));
  expect(sessions.of('a')).toBe(a);
  expect(gone).toEqual([]);
  sessions.of('d');
  expect(gone).toEqual(['b']);
  // Made anew.
  expect(sessions.of('b').machine).toBe('b');
  expect(gone).toEqual(['b', 'c']);
  needed.add('a').add('d').add('b');
  sessions.of('e');
  expect(gone).toEqual(['b', 'c']);
  needed.clear();
  sessions.of('f');
  expect(gone).toEqual(['b', 'c', 'a', 'd']);
  expect(sessions.of('e').machine).toBe('e');
  expect(gone.length).toBe(4);
});
