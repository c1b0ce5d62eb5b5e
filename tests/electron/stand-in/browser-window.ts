// SPDX-License-Identifier: MIT
// A window of the stand-in: a page of Chromium with the state a real window has (place, visibility, menu), but no frame on any screen.
import { EventEmitter } from 'node:events';
import type { Menu } from './menus.ts';
import { preventable, WebContents } from './web-contents.ts';
import type { Handlers } from './web-contents.ts';
import type { RunningChromium } from './chromium.ts';

interface Bounds {
  x: number;
  y: number;
  width: number;
  height: number;
}

interface Options extends Partial<Bounds> {
  show?: boolean;
  webPreferences: { preload: string } & Record<string, unknown>;
}

/** Set by the stand-in before the first window. */
export const environment: {
  handlers: Handlers;
  chromium: RunningChromium | null;
  permissions: ((contents: WebContents, permission: string) => boolean) | null;
  created(contents: WebContents): void;
  allClosed(): void;
} = {
  handlers: { schemes: new Map(), ipc: new EventEmitter() },
  chromium: null,
  permissions: null,
  created: () => undefined,
  allClosed: () => undefined,
};

export class BrowserWindow extends EventEmitter {
  static readonly #all = new Set<BrowserWindow>();
  static #focused: BrowserWindow | null = null;
  readonly webContents: WebContents;
  /** As given, for tests to look at. */
  readonly options: Options;
  menu: Menu | null = null;
  readonly #page: Promise<void>;
  #bounds: Bounds;
  #visible: boolean;
  #maximized = false;
  #minimized = false;
  #closed = false;

  static getAllWindows(): BrowserWindow[] {
    return [...BrowserWindow.#all];
  }

  static fromWebContents(contents: WebContents): BrowserWindow | null {
    return BrowserWindow.getAllWindows().find((window) => window.webContents === contents) ?? null;
  }

  static getFocusedWindow(): BrowserWindow | null {
    return BrowserWindow.#focused;
  }

  constructor(options: Options) {
    super();
    this.options = options;
    const { x = 100, y = 100, width = 800, height = 600 } = options;
    this.#bounds = { x, y, width, height };
    this.#visible = options.show ?? true;
    this.webContents = new WebContents(environment.handlers, options.webPreferences.preload);
    BrowserWindow.#all.add(this);
    environment.created(this.webContents);
    this.#page = this.#open();
  }

  async #open(): Promise<void> {
    const page = await environment.chromium!.context.newPage();
    await this.webContents.adopt(page);
    await page.setViewportSize({ width: this.#bounds.width, height: this.#bounds.height });
    page.on('close', () => this.#gone());
  }

  async loadURL(url: string): Promise<void> {
    await this.#page;
    await this.webContents.load(url);
    if (environment.permissions !== null) await this.webContents.grant(environment.permissions);
    this.emit('ready-to-show');
  }

  show(): void {
    this.#visible = true;
    this.focus();
  }

  hide(): void {
    this.#visible = false;
  }

  isVisible(): boolean {
    return this.#visible;
  }

  focus(): void {
    BrowserWindow.#focused = this;
    this.emit('focus');
  }

  isFocused(): boolean {
    return BrowserWindow.#focused === this;
  }

  isMinimized(): boolean {
    return this.#minimized;
  }

  minimize(): void {
    this.#minimized = true;
  }

  restore(): void {
    this.#minimized = false;
  }

  maximize(): void {
    this.#maximized = true;
    this.emit('maximize');
  }

  isMaximized(): boolean {
    return this.#maximized;
  }

  getNormalBounds(): Bounds {
    return { ...this.#bounds };
  }

  setBounds(bounds: Bounds): void {
    this.#bounds = { ...bounds };
    this.emit('resize');
  }

  setMenu(menu: Menu | null): void {
    this.menu = menu;
  }

  isDestroyed(): boolean {
    return this.#closed;
  }

  /** Closes it unless a listener prevents that; true when it closes. */
  close(): boolean {
    const event = preventable({});
    this.emit('close', event);
    if (!event.prevented) void this.webContents.page?.close();
    return !event.prevented;
  }

  #gone(): void {
    if (this.#closed) return;
    this.#closed = true;
    BrowserWindow.#all.delete(this);
    if (BrowserWindow.#focused === this) BrowserWindow.#focused = null;
    this.webContents.gone();
    this.emit('closed');
    if (BrowserWindow.#all.size === 0) environment.allClosed();
  }
}
