// SPDX-License-Identifier: MIT
// Key chords: written "Mod+Shift+P" (Mod is Command on a Mac and Control elsewhere), compared with key events, shown to people.

const isMac = typeof navigator !== 'undefined' && /mac/i.test(navigator.platform);

export interface Chord {
  mod: boolean;
  shift: boolean;
  alt: boolean;
  /** As KeyboardEvent.key, letters in upper case. */
  key: string;
}

const NAMES: Readonly<Record<string, string>> = {
  ArrowUp: '↑',
  ArrowDown: '↓',
  ArrowLeft: '←',
  ArrowRight: '→',
  Delete: 'Del',
  Escape: 'Esc',
  ' ': 'Space',
};

/** null when the text is no chord. A chord is at most one of each modifier and one key. */
export function parseChord(text: string): Chord | null {
  const parts = text.split('+');
  const key = parts.pop();
  if (key === undefined || key === '' || new Set(parts).size !== parts.length) return null;
  if (parts.some((part) => part !== 'Mod' && part !== 'Shift' && part !== 'Alt')) return null;
  const has = (name: string): boolean => parts.includes(name);
  return { mod: has('Mod'), shift: has('Shift'), alt: has('Alt'), key: key.length === 1 ? key.toUpperCase() : key };
}

type KeyEvent = Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey' | 'shiftKey'>;

export function matches(chord: Chord, event: KeyEvent, mac = isMac): boolean {
  const mod = mac ? event.metaKey : event.ctrlKey;
  const other = mac ? event.ctrlKey : event.metaKey;
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  // The shift that makes "?" out of "/" on some keyboards is part of the character, not of the chord.
  const shiftCounts = key.length > 1 || /[A-Z0-9]/.test(key) || chord.mod || chord.alt;
  return (
    chord.key === key &&
    chord.mod === mod &&
    !other &&
    chord.alt === event.altKey &&
    (!shiftCounts || chord.shift === event.shiftKey)
  );
}

/** The chord of a key event, to record a shortcut of the user's own; null for a modifier alone. */
export function chordOf(event: KeyEvent, mac = isMac): string | null {
  if (['Control', 'Shift', 'Alt', 'Meta', 'Dead', 'Process', 'Unidentified'].includes(event.key)) return null;
  const parts: string[] = [];
  if (mac ? event.metaKey : event.ctrlKey) parts.push('Mod');
  if (event.altKey) parts.push('Alt');
  if (event.shiftKey) parts.push('Shift');
  parts.push(event.key.length === 1 ? event.key.toUpperCase() : event.key);
  return parts.join('+');
}

/** "Ctrl+Shift+P", or "⇧⌘P" on a Mac. */
export function chordText(text: string, mac = isMac): string {
  const chord = parseChord(text);
  if (chord === null) return text;
  const key = NAMES[chord.key] ?? chord.key;
  if (mac) return `${chord.alt ? '⌥' : ''}${chord.shift ? '⇧' : ''}${chord.mod ? '⌘' : ''}${key}`;
  return [...(chord.mod ? ['Ctrl'] : []), ...(chord.alt ? ['Alt'] : []), ...(chord.shift ? ['Shift'] : []), key].join(
    '+',
  );
}

/** For `aria-keyshortcuts`. */
export function chordForAria(text: string, mac = isMac): string {
  return text.replace('Mod', mac ? 'Meta' : 'Control').replace(/\+ $/, '+Space');
}
