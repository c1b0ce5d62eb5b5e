// SPDX-License-Identifier: MIT
// Key chords: what a key event means, on a PC and on a Mac.
import { describe, expect, it } from 'vitest';
import { chordOf, chordText, matches, parseChord } from './keys.ts';

const press = (
  key: string,
  modifiers: Partial<Record<'ctrlKey' | 'metaKey' | 'altKey' | 'shiftKey', boolean>> = {},
) => ({
  key,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  shiftKey: false,
  ...modifiers,
});

describe('chords', () => {
  it('are refused when malformed', () => {
    expect(['', 'Ctrl+K', 'Mod+Mod+K', 'Mod+'].map(parseChord)).toEqual([null, null, null, null]);
  });

  it('match with exactly their modifiers', () => {
    const chord = parseChord('Mod+K')!;
    expect(matches(chord, press('k', { ctrlKey: true }), false)).toBe(true);
    expect(matches(chord, press('k', { metaKey: true }), true)).toBe(true);
    expect(matches(chord, press('k', { ctrlKey: true, shiftKey: true }), false)).toBe(false);
    expect(matches(chord, press('k', { ctrlKey: true, altKey: true }), false)).toBe(false);
    expect(matches(chord, press('k'), false)).toBe(false);
  });

  it('take a character as typed, whatever Shift it needed', () => {
    expect(matches(parseChord('?')!, press('?', { shiftKey: true }), false)).toBe(true);
    expect(matches(parseChord('?')!, press('?'), false)).toBe(true);
  });

  it('are read from events and written for people', () => {
    expect(chordOf(press('p', { ctrlKey: true, shiftKey: true }), false)).toBe('Mod+Shift+P');
    expect(chordOf(press('Shift', { shiftKey: true }), false)).toBeNull();
    expect(chordText('Mod+Shift+P', false)).toBe('Ctrl+Shift+P');
    expect(chordText('Mod+Shift+P', true)).toBe('⇧⌘P');
    expect(chordText('Alt+Shift+ArrowUp', false)).toBe('Alt+Shift+↑');
  });
});
