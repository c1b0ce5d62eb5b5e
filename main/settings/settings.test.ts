// SPDX-License-Identifier: MIT
// Settings: defaults, changes that last, and files that cannot be used.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DEFAULT_SETTINGS, SettingsFile } from './settings.ts';

let directory: string;
const file = (): string => path.join(directory, 'settings.json');
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-settings-'));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

it('has defaults, keeps changes, and fills in what an older file lacks', () => {
  expect(new SettingsFile(directory).get()).toEqual(DEFAULT_SETTINGS);
  new SettingsFile(directory).set({ theme: 'dark', layout: { library: 280 } });
  expect(new SettingsFile(directory).get()).toEqual({ ...DEFAULT_SETTINGS, theme: 'dark', layout: { library: 280 } });
  fs.writeFileSync(file(), '{"version":1,"zoom":150}');
  expect(new SettingsFile(directory).get()).toEqual({ ...DEFAULT_SETTINGS, zoom: 150 });
});

it.each(['{', '[]', '{"version":2}', '{"version":1,"colour":"red"}', '{"version":1,"zoom":1}'])(
  'a file that says %s is reported, and the defaults serve',
  (text) => {
    fs.writeFileSync(file(), text);
    const settings = new SettingsFile(directory);
    expect(settings.problem?.code).toBe('settings-invalid');
    expect(settings.get()).toEqual(DEFAULT_SETTINGS);
    settings.set({ theme: 'light' });
    expect(fs.readFileSync(`${file()}.bak`, 'utf8')).toBe(text);
  },
);

it('bounds the memory of the window', () => {
  const layout = Object.fromEntries(Array.from({ length: 201 }, (_, i) => [`k${i}`, i]));
  expect(() => new SettingsFile(directory).set({ layout })).toThrow(/layout has 201 entries/);
});
