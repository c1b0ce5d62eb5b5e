// SPDX-License-Identifier: MIT
// One attached console: this command's terminal (or pipes) becomes the console of a VM until one of the two ends.
import type * as net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { pvError } from '../../engine/errors.ts';
import { describeOutcome, exitCodeOf } from '../vm/outcome.ts';
import type { VmOutcome, VmStats } from '../vm/outcome.ts';
import { encodeClientMessage, VmMessageReader } from '../vm/protocol.ts';
import type { ClientMessage, ConsoleSize, VmMessage } from '../vm/protocol.ts';
import { connect, listRunning } from '../vm/runtime-directory.ts';
import type { VmEntry } from '../vm/runtime-directory.ts';
import { processDied } from '../vm/start.ts';
import type { VmChild } from '../vm/vm-child.ts';
import { ESCAPE_KEYS_HELP, EscapeKeys } from './escape-keys.ts';
import { formatStats } from './stats-report.ts';

export interface ConsoleSessionOptions {
  /** Print figures at the end. */
  stats: boolean;
  /** The VM process, when this command started it. */
  child?: VmChild;
}

/** A reader that went away ends this command as it would end any other: 128 + SIGPIPE. */
export const EXIT_BROKEN_PIPE = 141;

/** How long the end of a lost VM process may take to be reported, in milliseconds. */
const EXIT_REPORT_MS = 1000;

/** Attaches to a VM and resolves with the exit code when the guest has ended or the user has detached. Throws PvError. */
export async function attachConsole(entry: Omit<VmEntry, 'pid'>, options: ConsoleSessionOptions): Promise<number> {
  let socket: net.Socket;
  try {
    socket = await connect(entry as VmEntry);
  } catch (error) {
    const pid = options.child?.pid ?? (entry as Partial<VmEntry>).pid ?? 'unknown';
    throw pvError('vm-not-answering', { name: entry.name, detail: (error as Error).message, pid }, error);
  }
  return new ConsoleSession(entry, socket, options).run();
}

function say(text: string): void {
  process.stderr.write(`paravane: ${text}\n`);
}

function terminalSize(): ConsoleSize | null {
  const { columns, rows } = process.stdout;
  return process.stdout.isTTY && columns > 0 && rows > 0 ? { columns, rows } : null;
}

class ConsoleSession {
  readonly #entry: Omit<VmEntry, 'pid'>;
  readonly #socket: net.Socket;
  readonly #options: ConsoleSessionOptions;
  readonly #interactive = process.stdin.isTTY;
  readonly #keys = new EscapeKeys();
  /** Undo steps for everything this session installed on the process. */
  readonly #cleanups: (() => void)[] = [];
  #ended: { outcome: VmOutcome; stats: VmStats | null } | null = null;
  /** Exit code of a session that this side ends. */
  #leaving: number | null = null;
  #powerOffAsked = false;
  #lineOpen = false;

  constructor(entry: Omit<VmEntry, 'pid'>, socket: net.Socket, options: ConsoleSessionOptions) {
    this.#entry = entry;
    this.#socket = socket;
    this.#options = options;
  }

  async run(): Promise<number> {
    const reader = new VmMessageReader();
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    this.#socket.on('error', () => undefined);
    this.#socket.on('data', (chunk: Buffer) => {
      for (const message of reader.push(chunk)) this.#vmSays(message);
    });
    this.#takeOverProcess();
    this.#tell({ type: 'hello', token: this.#entry.token, size: terminalSize() });
    await closed;
    for (const cleanup of this.#cleanups) cleanup();
    return this.#conclude();
  }

  #tell(message: ClientMessage): void {
    this.#socket.write(encodeClientMessage(message));
  }

  #vmSays(message: VmMessage): void {
    switch (message.type) {
      case 'welcome':
        this.#attached();
        break;
      case 'output':
        this.#show(message.bytes);
        break;
      case 'notice':
        this.#sayBetweenLines(message.text);
        break;
      case 'ended':
        this.#ended = message;
        break;
      case 'state':
      case 'resized':
      case 'sample':
      case 'log':
      case 'ptyOffered':
      case 'inputTaken':
        // Of interest to the manager only.
        break;
    }
  }

  #attached(): void {
    // From here on the socket is the only tie: the VM process must be able to outlive this command.
    if (this.#options.child?.connected) this.#options.child.disconnect();
    this.#options.child?.unref();
    if (this.#interactive) say(`machine ${this.#entry.name} (${this.#entry.id}). ${ESCAPE_KEYS_HELP}.`);
  }

  #show(bytes: Uint8Array): void {
    this.#lineOpen = bytes[bytes.length - 1] !== 0x0a;
    if (!process.stdout.write(bytes)) {
      this.#socket.pause();
      process.stdout.once('drain', () => this.#socket.resume());
    }
  }

  #sayBetweenLines(text: string): void {
    if (this.#lineOpen && process.stdout.isTTY) process.stderr.write('\r\n');
    this.#lineOpen = false;
    say(text);
  }

  #takeOverProcess(): void {
    const { stdin, stdout } = process;
    if (this.#interactive) stdin.setRawMode(true);
    const onInput = (bytes: Buffer): void => this.#typed(bytes);
    stdin.on('data', onInput);
    const onResize = (): void => {
      const size = terminalSize();
      if (size !== null) this.#tell({ type: 'resize', size });
    };
    stdout.on('resize', onResize);
    const onStdoutError = (): void => this.#leave(EXIT_BROKEN_PIPE);
    stdout.on('error', onStdoutError);
    const onInterrupt = (signal: NodeJS.Signals): void => this.#interrupted(signal);
    const onHangUp = (): void => this.#leave(129);
    process.on('SIGINT', onInterrupt).on('SIGTERM', onInterrupt).on('SIGHUP', onHangUp);
    this.#cleanups.push(() => {
      if (this.#interactive) stdin.setRawMode(false);
      stdin.off('data', onInput);
      // A pipe that stays open would keep this command alive.
      stdin.destroy();
      stdout.off('resize', onResize);
      process.off('SIGINT', onInterrupt).off('SIGTERM', onInterrupt).off('SIGHUP', onHangUp);
    });
  }

  #typed(bytes: Buffer): void {
    if (!this.#interactive) {
      this.#send(bytes);
      return;
    }
    for (const action of this.#keys.feed(bytes)) {
      switch (action.type) {
        case 'input':
          this.#send(action.bytes);
          break;
        case 'detach':
          this.#tell({ type: 'detach' });
          this.#leaving = 0;
          break;
        case 'powerOff':
          this.#sayBetweenLines('asking the guest to power off');
          this.#tell({ type: 'powerOff' });
          break;
        case 'force':
          this.#tell({ type: 'force' });
          break;
        case 'help':
          this.#sayBetweenLines(`${ESCAPE_KEYS_HELP}; Ctrl-] Ctrl-] sends Ctrl-]`);
          break;
      }
    }
  }

  #send(bytes: Uint8Array): void {
    if (this.#socket.write(encodeClientMessage({ type: 'input', bytes })) || this.#socket.destroyed) return;
    process.stdin.pause();
    this.#socket.once('drain', () => process.stdin.resume());
  }

  /** Ctrl-C where the terminal is not raw, or `kill`: first a request to the guest, then the axe. A machine of the library is only looked at. */
  #interrupted(signal: NodeJS.Signals): void {
    if (this.#entry.folder !== null) {
      this.#leave(signal === 'SIGINT' ? 130 : 143);
      return;
    }
    if (this.#powerOffAsked) {
      this.#tell({ type: 'force' });
      return;
    }
    this.#powerOffAsked = true;
    this.#sayBetweenLines('asking the guest to power off; interrupt once more to end it at once');
    this.#tell({ type: 'powerOff' });
  }

  /** Ends the session without a word to the VM, which then powers off unless it runs detached. */
  #leave(exitCode: number): void {
    this.#leaving ??= exitCode;
    this.#socket.destroy();
  }

  /** The VM's entry; null when nobody listens any more. A process that was killed closes this connection a moment before its door. */
  async #stillThere(): Promise<VmEntry | null> {
    for (const end = Date.now() + EXIT_REPORT_MS; ; await sleep(50)) {
      // Removes entries of those that are gone.
      const entry = (await listRunning()).find(({ id }) => id === this.#entry.id) ?? null;
      if (entry === null || Date.now() > end) return entry;
    }
  }

  async #conclude(): Promise<number> {
    if (this.#ended !== null) {
      const { outcome, stats } = this.#ended;
      if (this.#lineOpen && process.stdout.isTTY) process.stderr.write('\r\n');
      const text = describeOutcome(outcome);
      if (text !== '') say(text);
      if (outcome.kind === 'refused' || outcome.kind === 'failed') process.stderr.write(`${outcome.error.action}\n`);
      if (this.#options.stats)
        process.stderr.write(stats === null ? 'No figures: the guest never ran.\n' : formatStats(stats));
      return exitCodeOf(outcome);
    }
    if (this.#leaving !== null) {
      if (this.#leaving === 0) {
        this.#sayBetweenLines(
          `detached; the machine runs on. Back to it: paravane ${this.#entry.folder === null ? 'attach' : 'console'} ${this.#entry.id}. ` +
            'All machines: paravane list',
        );
      }
      return this.#leaving;
    }
    const { code, signal } = await exitOf(this.#options.child);
    const stillThere = await this.#stillThere();
    if (stillThere === null) throw processDied(this.#entry, code, signal);
    throw pvError('vm-not-answering', {
      name: this.#entry.name,
      detail: 'it closed the connection',
      pid: stillThere.pid,
    });
  }
}

/** How a child process ended; nulls when it is unknown or does not end soon. */
function exitOf(child?: VmChild): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  const known = () => ({ code: child?.exitCode ?? null, signal: child?.signalCode ?? null });
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return Promise.resolve(known());
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(known()), EXIT_REPORT_MS);
    child.ref();
    child.once('exit', () => {
      clearTimeout(timer);
      resolve(known());
    });
  });
}
