// SPDX-License-Identifier: MIT
// A terminal of this window, whatever it shows: its size, its place on the page, selection and search, and the difference between what is typed
// into it and what it says by itself. It outlives the tabs that show it, so that scrollback and selection stay when one looks elsewhere.
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { SerializeAddon } from '@xterm/addon-serialize';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { CONSOLE_INPUT_BYTES } from '../../main/contract/values.ts';
import { copyText } from '../commands/clipboard.ts';
import { settings } from '../state/settings.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';
import { toBase64 } from '../text/base64.ts';
import type { Size } from './asciicast.ts';
import { CONSOLE_THEME } from './colours.ts';
import { Questions } from './questions.ts';

const RESIZE_PAUSE_MS = 120;
const LINE_HEIGHT = 1.15;
/** Characters are this wide in parts of the font size, near enough to choose a size for previews. */
const CHARACTER_WIDTH = 0.61;

export type ScreenMode = 'work' | 'preview';

/** Where a screen's input and size go. */
export interface ScreenOwner {
  /** Bytes in base64, for the program behind the terminal. `answer`: the terminal says this by itself. */
  input(bytes: string, answer: boolean): Promise<unknown>;
  /** The program's terminal is to have this size. */
  resize(size: Size): Promise<unknown>;
}

export class TerminalScreen {
  readonly terminal: Terminal;
  readonly search = new SearchAddon();
  /** Is there somebody who reads what is typed? */
  live = $state(false);
  size = $state<Size>({ columns: 80, rows: 24 });
  readonly #owner: ScreenOwner;
  readonly #questions: Questions;
  readonly #fit = new FitAddon();
  readonly #serialize = new SerializeAddon();
  readonly #host = document.createElement('div');
  readonly #observer: ResizeObserver;
  readonly #endEffects: () => void;
  #mode: ScreenMode = 'work';
  #container: HTMLElement | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sizeSent = false;
  /** What was typed for somebody who is about to come; null when nobody is. */
  #typedAhead: Uint8Array[] | null = null;

  constructor(owner: ScreenOwner) {
    this.#owner = owner;
    this.#host.className = 'terminal-host';
    this.terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: false,
      // At 1.0 the underscores of many fonts are cut off.
      lineHeight: LINE_HEIGHT,
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue('--font-mono'),
      scrollback: settings.values.console.scrollbackLines,
      theme: CONSOLE_THEME,
      disableStdin: true,
    });
    for (const addon of [this.#fit, this.search, this.#serialize]) this.terminal.loadAddon(addon);
    this.#questions = new Questions(this.terminal.parser);
    this.terminal.onData((text) => this.#send(new TextEncoder().encode(text), this.#questions.answering));
    this.terminal.onBinary((text) => this.send(Uint8Array.from(text, (character) => character.charCodeAt(0))));
    this.terminal.onSelectionChange(() => {
      if (settings.values.console.copyOnSelect && this.terminal.hasSelection()) {
        void navigator.clipboard.writeText(this.terminal.getSelection()).catch(() => undefined);
      }
    });
    this.terminal.attachCustomKeyEventHandler((event) => this.#key(event));
    this.#observer = new ResizeObserver(() => this.#arrangeSoon());
    this.#endEffects = $effect.root(() => {
      $effect(() => {
        const { fontSize, scrollbackLines } = settings.values.console;
        const zoom = settings.values.zoom / 100;
        this.terminal.options.scrollback = scrollbackLines;
        this.terminal.options.screenReaderMode = settings.layout('consoleReadOut', false);
        if (this.#mode === 'work') this.terminal.options.fontSize = Math.round(fontSize * zoom);
        this.#arrangeSoon();
      });
    });
  }

  /** Puts the terminal into a container; it is in one place at a time. */
  show(container: HTMLElement, mode: ScreenMode): void {
    this.#mode = mode;
    this.#container = container;
    container.append(this.#host);
    this.#allowTyping();
    if (this.terminal.element === undefined) this.terminal.open(this.#host);
    if (mode === 'work')
      this.terminal.options.fontSize = Math.round(settings.values.console.fontSize * (settings.values.zoom / 100));
    this.#observer.observe(container);
    this.#arrange();
  }

  hide(container: HTMLElement): void {
    this.#observer.unobserve(container);
    if (this.#container !== container) return;
    this.#container = null;
    this.#host.remove();
  }

  get shown(): boolean {
    return this.#container !== null;
  }

  /** Somebody will read what is typed in a moment: until `becomeLive` it is kept. */
  expectLive(): void {
    if (!this.live) this.#typedAhead ??= [];
    this.#allowTyping();
  }

  #allowTyping(): void {
    const isHeard = this.live || this.#typedAhead !== null;
    this.terminal.options.disableStdin = !isHeard || this.#mode === 'preview';
  }

  /** Somebody reads what is typed, or does not any more. */
  becomeLive(live: boolean): void {
    const ahead = this.#typedAhead ?? [];
    this.#typedAhead = null;
    this.live = live;
    this.#allowTyping();
    if (live) for (const bytes of ahead) this.send(bytes);
    // The size may have been chosen while nobody was there to hear of it.
    this.#sizeSent = false;
    if (live && this.#mode === 'work') this.#arrangeSoon();
  }

  /** Shows output. Questions in what is `past` have been answered long ago. `fresh`: what was shown before is of no use any more. */
  write(bytes: Uint8Array | string, { past = false, fresh = false } = {}): void {
    if (fresh) this.terminal.reset();
    if (!past) {
      this.terminal.write(bytes);
      return;
    }
    // Output is taken in order but later, so the questions are silenced in that order too.
    this.terminal.write('', () => (this.#questions.silent = true));
    this.terminal.write(bytes, () => (this.#questions.silent = false));
  }

  /** Sends bytes as if they were typed. */
  send(bytes: Uint8Array): void {
    this.#send(bytes, false);
  }

  #send(bytes: Uint8Array, answer: boolean): void {
    if (!this.live) {
      if (!answer) this.#typedAhead?.push(bytes);
      return;
    }
    for (let i = 0; i < bytes.length; i += CONSOLE_INPUT_BYTES) {
      const piece = toBase64(bytes.subarray(i, i + CONSOLE_INPUT_BYTES));
      this.#owner.input(piece, answer).catch((error: unknown) => toasts.failed(error));
    }
  }

  /** The selection, or everything there is. */
  copy(): void {
    if (this.terminal.hasSelection()) void copyText(this.terminal.getSelection(), 'the selection');
    else void copyText(this.text(), 'everything');
  }

  async paste(): Promise<void> {
    try {
      this.terminal.paste(await navigator.clipboard.readText());
    } catch (error) {
      toasts.failed(error);
    }
    this.terminal.focus();
  }

  /** Scrollback and screen as text without trailing blanks. */
  text(): string {
    const buffer = this.terminal.buffer.active;
    const lines: string[] = [];
    for (let i = 0; i < buffer.length; i++) {
      const line = buffer.getLine(i);
      if (line === undefined) continue;
      const text = line.translateToString(true);
      if (line.isWrapped && lines.length > 0) lines[lines.length - 1] += text;
      else lines.push(text);
    }
    return `${lines.join('\n').trimEnd()}\n`;
  }

  /** The screen as a terminal would have to be told to show it. */
  screenSequence(): string {
    return this.#serialize.serialize({ scrollback: 0 });
  }

  /** Makes the program's terminal as large as the room here; called when this terminal gets the focus. */
  claimSize(): void {
    this.#arrangeSoon();
  }

  /** The size was changed, here or elsewhere. */
  resized(size: Size): void {
    if (size.columns === this.size.columns && size.rows === this.size.rows) return;
    this.size = size;
    this.terminal.resize(size.columns, size.rows);
    if (this.#mode === 'preview') this.#arrange();
  }

  dispose(): void {
    clearTimeout(this.#timer);
    this.#observer.disconnect();
    this.#endEffects();
    this.terminal.dispose();
    this.#host.remove();
  }

  #arrangeSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#arrange(), RESIZE_PAUSE_MS);
  }

  /** Work: as many characters as fit. Preview: as large as the characters can be. */
  #arrange(): void {
    const container = this.#container;
    if (container === null || container.clientWidth === 0) return;
    if (this.#mode === 'preview') {
      const room = container.clientWidth - 24;
      const size = room / (this.terminal.cols * CHARACTER_WIDTH);
      this.terminal.options.fontSize = Math.max(
        5,
        Math.min(14 * (settings.values.zoom / 100), Math.floor(size * 2) / 2),
      );
      return;
    }
    const fit = this.#fit.proposeDimensions();
    if (fit === undefined || Number.isNaN(fit.cols) || Number.isNaN(fit.rows)) return;
    const size = { columns: Math.max(20, Math.min(1000, fit.cols)), rows: Math.max(5, Math.min(1000, fit.rows)) };
    const changed = size.columns !== this.size.columns || size.rows !== this.size.rows;
    this.resized(size);
    this.terminal.resize(size.columns, size.rows);
    if (this.live && (changed || !this.#sizeSent)) {
      this.#sizeSent = true;
      this.#owner.resize(size).catch(() => undefined);
    }
  }

  /** Copy and paste have the keys that terminals give them; all else is the program's or the window's. */
  #key(event: KeyboardEvent): boolean {
    if (event.type !== 'keydown' || !event.ctrlKey || !event.shiftKey || event.altKey) return true;
    const key = event.key.toLowerCase();
    if (key === 'c') this.copy();
    else if (key === 'v') void this.paste();
    else return true;
    event.preventDefault();
    return false;
  }
}
