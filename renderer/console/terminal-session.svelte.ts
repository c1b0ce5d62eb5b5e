// SPDX-License-Identifier: MIT
// One machine's console in this window: the terminal, its feed, and its recording.
import { saveFile } from '../commands/clipboard.ts';
import { invoke } from '../state/manager.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';
import { stamp } from '../text/times.ts';
import { AsciicastRecorder, type Size } from './asciicast.ts';
import { ConsoleFeed } from './console-feed.ts';
import { TerminalScreen } from './terminal-screen.svelte.ts';

/** Consoles that are kept when they are not shown; the manager has the scrollback of all. */
const KEPT = 6;

export class TerminalSession extends TerminalScreen {
  readonly machine: string;
  recorder = $state.raw<AsciicastRecorder | null>(null);
  /** Bytes that came since the page was opened: shows that something is happening. */
  received = $state(0);
  error = $state.raw<unknown>(null);
  readonly #feed: ConsoleFeed;

  constructor(machine: string) {
    super({
      input: (bytes, answer) => invoke('console:input', { machine, bytes, answer }),
      resize: (size) => invoke('console:resize', { machine, size }),
    });
    this.machine = machine;
    this.#feed = new ConsoleFeed(machine, {
      output: (bytes, fresh, past) => {
        this.received += bytes.length;
        this.#record(bytes, fresh);
        this.write(bytes, { past, fresh });
      },
      resized: (size) => this.resized(size),
      // The past stays to be read, but not the modes and colours it left behind, and the new run begins on a line of its own.
      restarted: () => this.write(this.terminal.buffer.active.cursorX > 0 ? '\x1b[!p\r\n' : '\x1b[!p'),
      live: (live) => this.becomeLive(live),
      failed: (error) => (this.error = error),
    });
  }

  startRecording(title: string): void {
    const recorder = new AsciicastRecorder(title, this.size);
    // The cast begins with what is on the screen now.
    recorder.output(new TextEncoder().encode(this.screenSequence()));
    this.recorder = recorder;
    addEventListener('beforeunload', keepPage);
  }

  #record(bytes: Uint8Array<ArrayBuffer>, fresh: boolean): void {
    const { recorder } = this;
    if (recorder === null) return;
    if (fresh) recorder.output(RESET);
    recorder.output(bytes);
    if (recorder.length < RECORDING_LIMIT) return;
    this.saveRecording();
    toasts.say(`The recording of ${recorder.title} has become too large for a page: it was ended and saved.`);
  }

  /** Ends the recording and hands it over as a file. */
  saveRecording(): void {
    const { recorder } = this;
    if (recorder === null) return;
    this.recorder = null;
    removeEventListener('beforeunload', keepPage);
    const name = `${recorder.title}-${stamp(Date.now())}.cast`;
    saveFile(name, new Blob([recorder.finish()], { type: 'application/x-asciicast' }));
  }

  override resized(size: Size): void {
    if (size.columns !== this.size.columns || size.rows !== this.size.rows) this.recorder?.resized(size);
    super.resized(size);
  }

  override dispose(): void {
    this.#feed.dispose();
    super.dispose();
  }
}

/** Characters of a recording: it is kept in the page's memory. */
const RECORDING_LIMIT = 64 * 1024 * 1024;

/** RIS, as the terminal itself is reset. */
const RESET = new TextEncoder().encode('\x1bc');

/** A recording lives in this page: leaving it asks first. */
const keepPage = (event: BeforeUnloadEvent): void => event.preventDefault();

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
