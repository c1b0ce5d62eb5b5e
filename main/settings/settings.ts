// SPDX-License-Identifier: MIT
// settings.json in the data directory: what is set once for the whole program, every field with a default.
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as v from 'valibot';
import { PvError, pvError } from '../../engine/errors.ts';
import { settings as settingsSchema } from '../contract/host.ts';
import type { Settings, SettingsChanges } from '../contract/host.ts';
import { describeIssues } from '../contract/issues.ts';
import { writeFileAtomically } from '../vm/atomic-file.ts';

export const DEFAULT_SETTINGS: Settings = {
  theme: 'system',
  reducedMotion: 'system',
  zoom: 100,
  machinesDirectory: null,
  console: { fontSize: 13, scrollbackLines: 5000, copyOnSelect: false, typingSpeed: 200 },
  keyCombinations: [],
  shortcuts: {},
  confirmForceStop: true,
  hostTerminal: false,
  layout: {},
};

/** Newer fields are simply absent from older files, so that one version serves until a field changes its meaning. */
const fileSchema = v.strictObject({ version: v.literal(1), ...v.partial(settingsSchema).entries });

/** The settings of one data directory. */
export class SettingsFile {
  readonly #file: string;
  #settings: Settings;
  /** Why the file could not be used; the defaults serve until it is corrected. A change keeps it as settings.json.bak. */
  readonly problem: PvError | null;

  constructor(dataDirectory: string) {
    this.#file = path.join(dataDirectory, 'settings.json');
    try {
      this.#settings = readSettings(this.#file);
      this.problem = null;
    } catch (error) {
      if (!(error instanceof PvError)) throw error;
      this.#settings = DEFAULT_SETTINGS;
      this.problem = error;
    }
  }

  get(): Settings {
    return this.#settings;
  }

  /** Changes the named fields and keeps them. Throws `disk-full`, `file-write-failed`. */
  set(changes: SettingsChanges): Settings {
    const next = { ...this.#settings, ...changes };
    fs.mkdirSync(path.dirname(this.#file), { recursive: true, mode: 0o700 });
    writeFileAtomically(this.#file, `${JSON.stringify({ version: 1, ...next }, null, 2)}\n`, { backup: true });
    this.#settings = next;
    return next;
  }
}

function readSettings(file: string): Settings {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return DEFAULT_SETTINGS;
    throw pvError('settings-invalid', { path: file, detail: (error as Error).message }, error);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw pvError('settings-invalid', { path: file, detail: (error as Error).message }, error);
  }
  const result = v.safeParse(fileSchema, json);
  if (!result.success) throw pvError('settings-invalid', { path: file, detail: describeIssues(result.issues) });
  const { version: _, ...stored } = result.output;
  return { ...DEFAULT_SETTINGS, ...stored };
}
