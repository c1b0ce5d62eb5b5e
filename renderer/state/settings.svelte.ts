// SPDX-License-Identifier: MIT
// The program's settings, kept by the manager and applied to this page: theme, motion, zoom.
import type { Settings, SettingsChanges } from '../../main/contract/host.ts';
import { invoke, on, whenConnected } from './manager.svelte.ts';

/** What holds until the manager has answered; the manager's own defaults are the same. */
const INITIAL: Settings = {
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

class AppSettings {
  values = $state<Settings>(INITIAL);
  /** False until the manager's word has come: what is set before would overwrite what it keeps. */
  loaded = $state(false);
  #systemDark = $state(matchMedia('(prefers-color-scheme: dark)').matches);
  #systemReduced = $state(matchMedia('(prefers-reduced-motion: reduce)').matches);

  /** Requests without an answer. */
  #asked = 0;

  readonly theme = $derived<'light' | 'dark'>(
    this.values.theme === 'system' ? (this.#systemDark ? 'dark' : 'light') : this.values.theme,
  );
  readonly reducedMotion = $derived(
    this.values.reducedMotion === 'system' ? this.#systemReduced : this.values.reducedMotion === 'on',
  );

  follow(): void {
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', (e) => (this.#systemDark = e.matches));
    matchMedia('(prefers-reduced-motion: reduce)').addEventListener('change', (e) => (this.#systemReduced = e.matches));
    whenConnected(() => {
      void invoke('settings:get', {}).then((values) => {
        this.values = values;
        this.loaded = true;
      });
    });
    on('settings:changed', ({ settings }) => {
      // What this page has asked for meanwhile is newer; the last answer has it all.
      if (this.#asked === 0) this.values = settings;
    });
    $effect.root(() => {
      $effect(() => {
        const root = document.documentElement;
        root.dataset.theme = this.theme;
        root.dataset.motion = this.reducedMotion ? 'reduced' : 'full';
        root.style.setProperty('--zoom', String(this.values.zoom / 100));
      });
    });
  }

  /** Shown at once; the manager's word comes back as an event. Rejects with `CommandError`, and then shows what holds. */
  async set(changes: SettingsChanges): Promise<void> {
    const before = this.values;
    this.values = { ...before, ...changes };
    this.#asked++;
    try {
      const kept = await invoke('settings:set', { changes });
      if (this.#asked === 1) this.values = kept;
    } catch (error) {
      this.values = before;
      throw error;
    } finally {
      this.#asked--;
    }
  }

  /** A size or choice of the window that is kept between sessions. */
  layout<T extends number | boolean | string>(name: string, otherwise: T): T {
    const value = this.values.layout[name];
    return typeof value === typeof otherwise ? (value as T) : otherwise;
  }

  /** Losing a pane width is no reason to disturb anybody: failures are ignored. */
  keepLayout(name: string, value: number | boolean | string): void {
    if (!this.loaded || this.values.layout[name] === value) return;
    this.set({ layout: { ...this.values.layout, [name]: value } }).catch(() => undefined);
  }
}

export const settings = new AppSettings();
