// SPDX-License-Identifier: MIT
// Terminals on the manager's own computer, one for each machine: the user's shell in the machine's folder, in step in all windows that show it.
// A shell is more than anything else a window can ask for, so it must have been allowed first, and not by a page in a browser
// (see `settings:set`): a page that got hold of the token must not be able to allow it to itself.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import type { HostShell } from '../contract/terminal.ts';
import { ConsoleFeed } from '../manager/console-feed.ts';
import type { Session } from '../manager/session.ts';
import type { ConsoleSize } from '../vm/protocol.ts';
import { loadPtyLibrary } from './pty-library.ts';
import type { PtyLibrary, PtyProcess } from './pty-library.ts';

/** A shell that does not end when its terminal goes away is killed after this time. */
const HANG_UP_MS = 2000;
const USUAL_SIZE: ConsoleSize = { columns: 80, rows: 24 };

export interface HostTerminalEvents {
  started(machine: string, shell: HostShell): void;
  ended(machine: string, end: { exitCode: number; signal: number | null }): void;
  resized(machine: string, size: ConsoleSize, readers: Iterable<Session>): void;
}

export interface HostTerminalOptions extends HostTerminalEvents {
  /** May there be terminals at all? Asked at every use. */
  allowed(): boolean;
  load?: () => Promise<PtyLibrary>;
}

/** Where a shell starts and what it belongs to. */
export interface TerminalPlace {
  id: string;
  name: string;
  folder: string;
}

interface Terminal {
  readonly feed: ConsoleFeed;
  process: PtyProcess | null;
  shell: HostShell | null;
  size: ConsoleSize;
}

/** Program and arguments of the user's shell; `environment` is where the user's choice is looked for. */
export function userShell(environment: NodeJS.ProcessEnv = process.env): { program: string; args: string[] } {
  if (process.platform === 'win32') return { program: environment.ComSpec ?? 'cmd.exe', args: [] };
  const candidates = [environment.SHELL, os.userInfo().shell, '/bin/bash', '/bin/sh'];
  const program = candidates.find((file) => file !== undefined && file !== null && isProgram(file)) ?? '/bin/sh';
  // Terminal programs of macOS start login shells, those of other systems do not.
  return { program, args: process.platform === 'darwin' ? ['-l'] : [] };
}

function isProgram(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return path.isAbsolute(file);
  } catch {
    return false;
  }
}

/** What the shell inherits: the manager's environment without what concerns the manager's own process only. */
function environmentFor({ id, name }: TerminalPlace): Record<string, string> {
  const own = /^(NODE_CHANNEL_.*|NODE_OPTIONS|NODE_COMPILE_CACHE|ELECTRON_RUN_AS_NODE|npm_.*|INIT_CWD)$/;
  const inherited = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && !own.test(entry[0]),
  );
  return {
    ...Object.fromEntries(inherited),
    TERM: 'xterm-256color',
    COLORTERM: 'truecolor',
    PARAVANE_MACHINE: id,
    PARAVANE_MACHINE_NAME: name,
  };
}

export class HostTerminals {
  readonly #options: HostTerminalOptions;
  readonly #terminals = new Map<string, Terminal>();

  constructor(options: HostTerminalOptions) {
    this.#options = options;
  }

  /** Rejects with `terminal-off` or `pty-missing` where a shell cannot be had. */
  async #library(): Promise<PtyLibrary> {
    if (!this.#options.allowed()) throw pvError('terminal-off', {});
    return (this.#options.load ?? loadPtyLibrary)();
  }

  #of(id: string): Terminal {
    const known = this.#terminals.get(id);
    if (known !== undefined) return known;
    const terminal: Terminal = {
      feed: new ConsoleFeed(
        id,
        (hold) => (hold ? terminal.process?.pause() : terminal.process?.resume()),
        'terminal:output',
      ),
      process: null,
      shell: null,
      size: USUAL_SIZE,
    };
    this.#terminals.set(id, terminal);
    return terminal;
  }

  /** From now on the session hears of this terminal; what is kept of its past comes back. Starts nothing. */
  async attach({ id }: TerminalPlace, session: Session) {
    await this.#library();
    const terminal = this.#of(id);
    const { offset, bytes } = terminal.feed.attach(session);
    return { offset, bytes, size: terminal.size, shell: terminal.shell };
  }

  detach(id: string, session: Session): void {
    this.#terminals.get(id)?.feed.detach(session);
  }

  /** Starts the shell unless it runs. Rejects with `terminal-off`, `pty-missing`, `terminal-failed`. */
  async start(place: TerminalPlace, size: ConsoleSize): Promise<HostShell> {
    const library = await this.#library();
    const terminal = this.#of(place.id);
    if (terminal.shell !== null) return terminal.shell;
    const { program, args } = userShell();
    // A machine that is lost has no folder; one may want to look for it.
    const directory = fs.existsSync(place.folder) ? place.folder : os.homedir();
    let started: PtyProcess;
    try {
      started = library.spawn(program, args, {
        name: 'xterm-256color',
        cols: size.columns,
        rows: size.rows,
        cwd: directory,
        env: environmentFor(place),
        encoding: null,
      });
    } catch (error) {
      throw pvError('terminal-failed', { program, detail: (error as Error).message }, error);
    }
    const shell: HostShell = { program, pid: started.pid, directory, startedAt: Date.now() };
    terminal.process = started;
    terminal.shell = shell;
    terminal.size = size;
    started.onData((bytes) => terminal.feed.append(bytes));
    started.onExit(({ exitCode, signal }) => {
      terminal.process = null;
      terminal.shell = null;
      this.#options.ended(place.id, { exitCode, signal: signal || null });
    });
    this.#options.started(place.id, shell);
    return shell;
  }

  /** Throws `terminal-off`, `terminal-not-running`. */
  input(id: string, bytes: Uint8Array, session: Session, answer: boolean): void {
    const { process, feed } = this.#running(id);
    if (feed.mayWrite(session, answer)) process.write(Buffer.from(bytes));
  }

  resize(id: string, size: ConsoleSize, session: Session): void {
    const terminal = this.#running(id);
    terminal.feed.lead(session);
    terminal.size = size;
    terminal.process.resize(size.columns, size.rows);
    this.#options.resized(id, size, terminal.feed.readers());
  }

  /** Ends the shell as closing a terminal window does; one that stays is killed. */
  stop(id: string): void {
    const running = this.#terminals.get(id)?.process ?? null;
    if (running === null) return;
    if (process.platform === 'win32') {
      running.kill();
      return;
    }
    running.kill('SIGHUP');
    setTimeout(() => {
      if (this.#terminals.get(id)?.process === running) running.kill('SIGKILL');
    }, HANG_UP_MS).unref();
  }

  #running(id: string): Terminal & { process: PtyProcess } {
    if (!this.#options.allowed()) throw pvError('terminal-off', {});
    const terminal = this.#terminals.get(id);
    if (terminal === undefined || terminal.process === null) throw pvError('terminal-not-running', {});
    return terminal as Terminal & { process: PtyProcess };
  }

  /** A session has room again. */
  drained(session: Session): void {
    for (const { feed } of this.#terminals.values()) feed.drained(session);
  }

  /** Ends all shells: the manager ends, or terminals are not allowed any more. */
  stopAll(): void {
    for (const id of this.#terminals.keys()) this.stop(id);
  }
}
