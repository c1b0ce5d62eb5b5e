// SPDX-License-Identifier: MIT
// The console's colours: dark in both themes, because guests assume it; contrast of all text colours is at least 4.5 on the background.
import type { ITheme } from '@xterm/xterm';

export const CONSOLE_THEME = {
  background: '#12161b',
  foreground: '#d8dee6',
  cursor: '#6fc6da',
  cursorAccent: '#12161b',
  selectionBackground: '#2f6f8180',
  black: '#12161b',
  red: '#f2777a',
  green: '#8ccf7e',
  yellow: '#e5c76b',
  blue: '#7aa5f0',
  magenta: '#c690e4',
  cyan: '#67cbe7',
  white: '#c6ced8',
  brightBlack: '#8a96a3',
  brightRed: '#ff9a9c',
  brightGreen: '#aee5a1',
  brightYellow: '#f5dd93',
  brightBlue: '#a3c2ff',
  brightMagenta: '#dcb1f5',
  brightCyan: '#93e0f5',
  brightWhite: '#f4f7fa',
} as const satisfies ITheme;

const ANSI: readonly string[] = [
  'black',
  'red',
  'green',
  'yellow',
  'blue',
  'magenta',
  'cyan',
  'white',
  'brightBlack',
  'brightRed',
  'brightGreen',
  'brightYellow',
  'brightBlue',
  'brightMagenta',
  'brightCyan',
  'brightWhite',
].map((name) => CONSOLE_THEME[name as keyof typeof CONSOLE_THEME]);

const CUBE = [0, 95, 135, 175, 215, 255];

/** Colour of an index of the 256-colour palette: 16 named, a 6 x 6 x 6 cube, 24 greys. */
export function paletteColour(index: number): string {
  if (index < 16) return ANSI[index];
  if (index < 232) {
    const n = index - 16;
    return hex(CUBE[Math.floor(n / 36)], CUBE[Math.floor(n / 6) % 6], CUBE[n % 6]);
  }
  const grey = 8 + (index - 232) * 10;
  return hex(grey, grey, grey);
}

export function rgbColour(value: number): string {
  return hex((value >> 16) & 255, (value >> 8) & 255, value & 255);
}

const hex = (...parts: number[]): string => `#${parts.map((part) => part.toString(16).padStart(2, '0')).join('')}`;
