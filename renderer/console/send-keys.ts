// SPDX-License-Identifier: MIT
// What the send-keys menu offers: keys that browsers and window managers keep for themselves, Linux's magic SysRq, and the user's own.
import type { Settings } from '../../main/contract/host.ts';

export interface KeyCombination {
  label: string;
  bytes: Uint8Array;
}

const escape = (text: string): Uint8Array => new TextEncoder().encode(text);

/** xterm's sequences for function keys. */
const FUNCTION_KEYS = [
  '\x1bOP',
  '\x1bOQ',
  '\x1bOR',
  '\x1bOS',
  '\x1b[15~',
  '\x1b[17~',
  '\x1b[18~',
  '\x1b[19~',
  '\x1b[20~',
  '\x1b[21~',
  '\x1b[23~',
  '\x1b[24~',
];

export const COMBINATIONS: readonly KeyCombination[] = [
  { label: 'Ctrl+C', bytes: escape('\x03') },
  { label: 'Ctrl+D', bytes: escape('\x04') },
  { label: 'Ctrl+Z', bytes: escape('\x1a') },
  { label: 'Ctrl+\\', bytes: escape('\x1c') },
  { label: 'Ctrl+W', bytes: escape('\x17') },
  { label: 'Ctrl+K', bytes: escape('\x0b') },
  { label: 'Esc', bytes: escape('\x1b') },
  { label: 'Tab', bytes: escape('\t') },
  ...FUNCTION_KEYS.map((sequence, i) => ({ label: `F${i + 1}`, bytes: escape(sequence) })),
];

/** Keys of Linux's magic SysRq (kernel documentation, admin-guide/sysrq) that mean something to a PV guest. */
export const SYSRQ_KEYS: readonly { key: string; label: string; harmful?: boolean }[] = [
  { key: 'h', label: 'Help: list what the guest knows' },
  { key: 't', label: 'Show all tasks' },
  { key: 'w', label: 'Show blocked tasks' },
  { key: 'l', label: 'Show what CPUs are doing' },
  { key: 'm', label: 'Show memory' },
  { key: 'q', label: 'Show timers' },
  { key: 's', label: 'Sync: write everything to disk' },
  { key: 'u', label: 'Remount file systems read-only', harmful: true },
  { key: 'e', label: 'Terminate all processes', harmful: true },
  { key: 'i', label: 'Kill all processes', harmful: true },
  { key: 'f', label: 'Kill the process that uses most memory', harmful: true },
  { key: 'o', label: 'Power off at once', harmful: true },
  { key: 'b', label: 'Reboot at once', harmful: true },
  { key: 'c', label: 'Crash the kernel', harmful: true },
];

/**
 * Bytes of a combination as people write it: "^X" is a control character, \e \r \n \t \\ and \xNN are escapes, the rest is itself.
 * null when an escape is not one of these.
 */
export function parseKeys(text: string): Uint8Array | null {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    const next = text[i + 1];
    if (character === '^' && next !== undefined && /[@-_a-z]/.test(next)) {
      out += String.fromCharCode(next.toUpperCase().charCodeAt(0) & 0x1f);
      i++;
    } else if (character === '\\') {
      const simple = { e: '\x1b', r: '\r', n: '\n', t: '\t', '\\': '\\', '^': '^' }[next ?? ''];
      const code = /^\\x([0-9a-f]{2})/i.exec(text.slice(i));
      if (simple !== undefined) i++;
      else if (code !== null) i += 3;
      else return null;
      out += simple ?? String.fromCharCode(parseInt(code![1], 16));
    } else out += character;
  }
  return out === '' ? null : escape(out);
}

/** The reverse of `parseKeys`, for showing. */
export function keysText(bytes: Uint8Array): string {
  return [...new TextDecoder().decode(bytes)]
    .map((character) => {
      if (character === '\x1b') return '\\e';
      if (character === '\\' || character === '^') return `\\${character}`;
      const code = character.charCodeAt(0);
      return code < 32 ? `^${String.fromCharCode(code + 64)}` : character;
    })
    .join('');
}

/** Own combinations first, then the latest used, then the rest. */
export function ordered(own: readonly KeyCombination[], lastUsed: string): KeyCombination[] {
  const all = [...own, ...COMBINATIONS];
  const latest = lastUsed.split('\n');
  const rank = (item: KeyCombination): number => {
    const at = latest.indexOf(item.label);
    return at < 0 ? latest.length : at;
  };
  return all
    .map((item, i) => ({ item, i }))
    .sort((a, b) => rank(a.item) - rank(b.item) || a.i - b.i)
    .map(({ item }) => item);
}

/** `lastUsed` with `label` in front; three are remembered. */
export function used(lastUsed: string, label: string): string {
  return [label, ...lastUsed.split('\n').filter((other) => other !== '' && other !== label)].slice(0, 3).join('\n');
}

export type StoredCombination = Settings['keyCombinations'][number];
