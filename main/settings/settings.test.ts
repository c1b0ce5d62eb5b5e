// SPDX-License-Identifier: MIT
// Settings: defaults, changes that last, and files that cannot be used.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import fc from 'fast-check';
import * as v from 'valibot';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { settings as settingsSchema } from '../contract/host.ts';
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

it('of every version can be read', () => {
  const fixtures = fs.readdirSync(path.join(import.meta.dirname, 'testing'));
  expect(fixtures).toEqual(['settings-v1.json']);
  for (const fixture of fixtures) {
    fs.copyFileSync(path.join(import.meta.dirname, 'testing', fixture), file());
    const settings = new SettingsFile(directory);
    expect(settings.problem).toBeNull();
    expect(settings.get()).toMatchObject({ theme: 'dark', zoom: 125, layout: { libraryWidth: 300 } });
  }
});

it('anything else in the file is reported or read, never thrown', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), nearly), (text) => {
      fs.writeFileSync(file(), text);
      const settings = new SettingsFile(directory);
      expect(v.is(settingsSchema, settings.get())).toBe(true);
      expect(settings.problem?.code ?? 'settings-invalid').toBe('settings-invalid');
    }),
  );
});

/** A settings file in which any value may be anything. */
const nearly = fc
  .dictionary(fc.constantFrom('version', ...Object.keys(DEFAULT_SETTINGS)), fc.jsonValue())
  .map((fields) => JSON.stringify({ version: 1, ...fields }));
