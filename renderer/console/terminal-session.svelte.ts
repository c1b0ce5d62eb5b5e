// SPDX-License-Identifier: MIT
// One machine's console in this window: the terminal, its feed, and what can be done with both.
// The terminal outlives the tabs that show it, so that scrollback, selection and recording stay when one looks elsewhere.
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { SerializeAddon } from '@xterm/addon-serialize';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { CONSOLE_INPUT_BYTES } from '../../main/contract/values.ts';
import { copyText } from '../commands/clipboard.ts';
import { invoke } from '../state/manager.svelte.ts';
import { settings } from '../state/settings.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';
import { toBase64 } from '../text/base64.ts';
import { AsciicastRecorder, type Size } from './asciicast.ts';
import { CONSOLE_THEME } from './colours.ts';
import { ConsoleFeed } from './console-feed.ts';

/** Consoles that are kept when they are not shown; the manager has the scrollback of all. */
const KEPT = 6;
const RESIZE_PAUSE_MS = 120;
const LINE_HEIGHT = 1.15;
/** Characters are this wide in parts of the font size, near enough to choose a size for previews. */
const CHARACTER_WIDTH = 0.61;

type Mode = 'work' | 'preview';

export class TerminalSession {
  readonly machine: string;
  readonly terminal: Terminal;
  readonly search = new SearchAddon();
  live = $state(false);
  size = $state<Size>({ columns: 80, rows: 24 });
  recorder = $state.raw<AsciicastRecorder | null>(null);
  /** Bytes that came since the page was opened: shows that something is happening. */
  received = $state(0);
  error = $state.raw<unknown>(null);

  readonly #fit = new FitAddon();
  readonly #serialize = new SerializeAddon();
  readonly #host = document.createElement('div');
  readonly #feed: ConsoleFeed;
  readonly #observer: ResizeObserver;
  readonly #endEffects: () => void;
  #mode: Mode = 'work';
  #container: HTMLElement | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(machine: string) {
    this.machine = machine;
    this.#host.className = 'terminal-host';
    this.terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: false,
      // At 1.0 the underscores of many fonts are cut off.
      lineHeight: LINE_HEIGHT,
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue('--font-mono'),
      scrollback: settings.values.console.scrollbackLines,
      theme: CONSOLE_THEME,
    });
    for (const addon of [this.#fit, this.search, this.#serialize]) this.terminal.loadAddon(addon);
    this.terminal.onData((text) => this.send(new TextEncoder().encode(text)));
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
    this.#feed = new ConsoleFeed(machine, {
      output: (bytes, fresh) => {
        if (fresh) this.terminal.reset();
        this.received += bytes.length;
        this.recorder?.output(bytes);
        this.terminal.write(bytes);
      },
      resized: (size) => this.#resized(size),
      // The past stays to be read, but not the modes and colours it left behind, and the new run begins on a line of its own.
      restarted: () => this.terminal.write(this.terminal.buffer.active.cursorX > 0 ? '\x1b[!p\r\n' : '\x1b[!p'),
      live: (live) => {
        this.live = live;
        this.terminal.options.disableStdin = !live || this.#mode === 'preview';
        // The size may have been chosen while the guest was off.
        if (live && this.#mode === 'work') this.#arrangeSoon();
      },
      failed: (error) => (this.error = error),
    });
  }

  /** Puts the terminal into a container; it is in one place at a time. */
  show(container: HTMLElement, mode: Mode): void {
    this.#mode = mode;
    this.#container = container;
    container.append(this.#host);
    this.terminal.options.disableStdin = !this.live || mode === 'preview';
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

  /** Sends bytes to the guest, as if they were typed. */
  send(bytes: Uint8Array): void {
    if (!this.live) return;
    for (let i = 0; i < bytes.length; i += CONSOLE_INPUT_BYTES) {
      const piece = toBase64(bytes.subarray(i, i + CONSOLE_INPUT_BYTES));
      invoke('console:input', { machine: this.machine, bytes: piece }).catch((error: unknown) => toasts.failed(error));
    }
  }

  /** The selection, or everything there is. */
  copy(): void {
    if (this.terminal.hasSelection()) void copyText(this.terminal.getSelection(), 'the selection');
    else void copyText(this.text(), 'the whole console');
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

  startRecording(title: string): void {
    const recorder = new AsciicastRecorder(title, this.size);
    // The cast begins with what is on the screen now.
    recorder.output(new TextEncoder().encode(this.#serialize.serialize({ scrollback: 0 })));
    this.recorder = recorder;
  }

  /** The cast, in the words of the file format. */
  stopRecording(): string {
    const text = this.recorder?.finish() ?? '';
    this.recorder = null;
    return text;
  }

  /** Makes the guest's terminal as large as the room here; called when this console gets the focus. */
  claimSize(): void {
    this.#arrangeSoon();
  }

  dispose(): void {
    clearTimeout(this.#timer);
    this.#observer.disconnect();
    this.#endEffects();
    this.#feed.dispose();
    this.terminal.dispose();
    this.#host.remove();
  }

  #resized(size: Size): void {
    if (size.columns === this.size.columns && size.rows === this.size.rows) return;
    this.size = size;
    this.recorder?.resized(size);
    this.terminal.resize(size.columns, size.rows);
    if (this.#mode === 'preview') this.#arrange();
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
    this.#resized(size);
    this.terminal.resize(size.columns, size.rows);
    if (this.live && (changed || !this.#sizeSent)) {
      this.#sizeSent = true;
      invoke('console:resize', { machine: this.machine, size }).catch(() => undefined);
    }
  }
  #sizeSent = false;

  /** Copy and paste have the keys that terminals give them; all else is the guest's or the window's. */
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

const sessions = new Map<string, TerminalSession>();

/** The machine's terminal in this window, made when it is first wanted. */
export function terminalOf(machine: string): TerminalSession {
  const known = sessions.get(machine);
  if (known !== undefined) {
    // Latest last, so that the first is the one longest unused.
    sessions.delete(machine);
    sessions.set(machine, known);
    return known;
  }
  for (const [id, session] of sessions) {
    if (sessions.size < KEPT) break;
    if (session.shown || session.recorder !== null) continue;
    session.dispose();
    sessions.delete(id);
  }
  const session = new TerminalSession(machine);
  sessions.set(machine, session);
  return session;
}

/** For machines that left the library. */
export function forgetTerminal(machine: string): void {
  sessions.get(machine)?.dispose();
  sessions.delete(machine);
}
