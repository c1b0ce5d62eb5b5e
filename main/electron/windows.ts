// SPDX-License-Identifier: MIT
// The application's windows: the main one, and one for each console, terminal or chart that was detached.
import { BrowserWindow, screen } from 'electron';
import { fileURLToPath } from 'node:url';
import type { DetachedWindow } from '../contract/shell.ts';
import { webPreferences } from './lock-down.ts';
import { PAGE_URL } from './page-scheme.ts';
import type { WindowStates } from './window-state.ts';

const PRELOAD = fileURLToPath(new URL('./preload.cjs', import.meta.url));
const ICON = fileURLToPath(new URL('../../assets/icon.png', import.meta.url));

const MAIN = 'main';
const SIZES = { main: { width: 1280, height: 800 }, detached: { width: 960, height: 640 } };
const LEAST = { minWidth: 480, minHeight: 320 };
/** A window that is being dragged changes its place often. */
const KEEP_MS = 500;

export interface WindowEvents {
  /** Before the page is loaded. */
  opened(window: BrowserWindow): void;
  focused(window: BrowserWindow): void;
  /** The main window is asked to close; false keeps it. */
  mayClose(window: BrowserWindow): boolean;
}

export class Windows {
  readonly #states: WindowStates;
  readonly #events: WindowEvents;
  readonly #open = new Map<string, BrowserWindow>();

  constructor(states: WindowStates, events: WindowEvents) {
    this.#states = states;
    this.#events = events;
  }

  /** Opens the main window or brings it to the front. */
  showMain(): BrowserWindow {
    return this.#show(MAIN, '', SIZES.main);
  }

  get main(): BrowserWindow | null {
    return this.#open.get(MAIN) ?? null;
  }

  showDetached({ machine, tab }: DetachedWindow): void {
    this.#show(`${tab}-${machine}`, `#/detached/${machine}/${tab}`, SIZES.detached);
  }

  #show(name: string, place: string, size: { width: number; height: number }): BrowserWindow {
    const there = this.#open.get(name);
    if (there !== undefined) {
      if (there.isMinimized()) there.restore();
      there.show();
      there.focus();
      return there;
    }
    const displays = screen.getAllDisplays().map(({ workArea }) => workArea);
    const state = this.#states.get(name, displays);
    const window = new BrowserWindow({
      ...size,
      ...state?.bounds,
      ...LEAST,
      title: 'Paravane',
      show: false,
      icon: ICON,
      webPreferences: webPreferences(PRELOAD),
    });
    this.#open.set(name, window);
    if (state?.maximized) window.maximize();
    this.#follow(name, window);
    this.#events.opened(window);
    // Shown when there is something to see.
    window.once('ready-to-show', () => window.show());
    window.loadURL(PAGE_URL + place).catch(() => window.show());
    return window;
  }

  #follow(name: string, window: BrowserWindow): void {
    let timer: NodeJS.Timeout | null = null;
    const keep = (): void => {
      if (timer !== null) clearTimeout(timer);
      timer = null;
      this.#states.keep(name, { bounds: window.getNormalBounds(), maximized: window.isMaximized() });
    };
    const later = (): void => {
      timer ??= setTimeout(keep, KEEP_MS);
    };
    window.on('resize', later);
    window.on('move', later);
    window.on('maximize', later);
    window.on('unmaximize', later);
    window.on('focus', () => this.#events.focused(window));
    window.on('close', (event) => {
      keep();
      if (name === MAIN && !this.#events.mayClose(window)) event.preventDefault();
    });
    window.once('closed', () => {
      if (timer !== null) clearTimeout(timer);
      this.#open.delete(name);
    });
  }
}
