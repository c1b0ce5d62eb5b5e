// SPDX-License-Identifier: MIT
// `paravane settings`: shows settings and changes them, by the names they have in settings.json; parts of a group as "console.fontSize".
import { pvError } from '../../engine/errors.ts';
import type { Settings, SettingsChanges } from '../contract/host.ts';
import { DEFAULT_SETTINGS } from '../settings/settings.ts';
import type { Verb } from './verb.ts';

const GROUP = 'console';

/** Every name that can be given: whole fields, and those of the group. */
export const settingNames: readonly string[] = [
  ...Object.keys(DEFAULT_SETTINGS),
  ...Object.keys(DEFAULT_SETTINGS[GROUP]).map((name) => `${GROUP}.${name}`),
];

export const settingsVerb: Verb = {
  usage: '[NAME [VALUE] ...]',
  help: 'all settings, one of them, or change some; --reset sets those named to their defaults',
  options: { reset: { type: 'boolean' } },
  words: [0, 1000],
  async run({ connection, positionals, values, answer }) {
    const current = await connection.invoke('settings:get', {});
    if (values.reset) {
      const wanted = positionals.length === 0 ? Object.keys(DEFAULT_SETTINGS) : positionals;
      const changes = changesOf(current, wanted.map((name) => [name, valueOf(DEFAULT_SETTINGS, name)])); // prettier-ignore
      const settings = await connection.invoke('settings:set', { changes });
      return answer(settings, describe(settings));
    }
    if (positionals.length === 0) return answer(current, describe(current));
    if (positionals.length === 1) {
      const value = valueOf(current, positionals[0]);
      return answer(value, `${shown(value)}\n`);
    }
    if (positionals.length % 2 !== 0)
      throw pvError('usage', { detail: `"${positionals.at(-1)}" has no value; names and values take turns` });
    const pairs = Array.from({ length: positionals.length / 2 }, (_, i): [string, unknown] => {
      const [name, text] = positionals.slice(2 * i, 2 * i + 2);
      return [name, parsed(text, valueOf(DEFAULT_SETTINGS, name))];
    });
    const settings = await connection.invoke('settings:set', { changes: changesOf(current, pairs) });
    answer(settings, pairs.map(([name]) => line(name, valueOf(settings, name))).join(''));
  },
};

/** Throws `usage` for a name that is none. */
function valueOf(settings: Settings, name: string): unknown {
  if (!settingNames.includes(name)) throw pvError('usage', { detail: `there is no setting "${name}"` });
  const [field, part] = name.split('.') as [keyof Settings, string | undefined];
  return part === undefined ? settings[field] : (settings[field] as Record<string, unknown>)[part];
}

/** A group changes as a whole, so its other parts stay as they are. */
function changesOf(current: Settings, pairs: readonly (readonly [string, unknown])[]): SettingsChanges {
  const changes: Record<string, unknown> = {};
  for (const [name, value] of pairs) {
    const [field, part] = name.split('.');
    if (part === undefined) changes[field] = value;
    else changes[field] = { ...current[GROUP], ...(changes[field] as object | undefined), [part]: value };
  }
  return changes as SettingsChanges;
}

/** A value as it is typed: words for what is text by default, "on" and "off" for what is either, else JSON. The contract checks the rest. */
function parsed(text: string, example: unknown): unknown {
  if (typeof example === 'boolean' && (text === 'on' || text === 'off')) return text === 'on';
  if (typeof example === 'string') return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

const shown = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));
const line = (name: string, value: unknown): string => `${name.padEnd(24)}${shown(value)}\n`;

function describe(settings: Settings): string {
  return settingNames
    .filter((name) => name !== GROUP)
    .map((name) => line(name, valueOf(settings, name)))
    .join('');
}
