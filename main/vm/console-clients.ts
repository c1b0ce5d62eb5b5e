// SPDX-License-Identifier: MIT
// The consoles attached to a VM: who may attach, what they see, how fast the guest may write, and what it means when they leave.
import { timingSafeEqual } from 'node:crypto';
import type * as net from 'node:net';
import { PvError, pvError } from '../../engine/errors.ts';
import { ConsolePty } from './console-pty.ts';
import type { VmOutcome, VmStats } from './outcome.ts';
import { ClientMessageReader, encodeVmMessage, ProtocolError } from './protocol.ts';
import type { ClientMessage, ConsoleSize, GuestState, VmMessage } from './protocol.ts';
import type { VmEntry } from './runtime-directory.ts';

/** What a newly attached console is shown of the past. */
const SCROLLBACK_BYTES = 256 * 1024;

/** Bytes that may wait for one console before the guest has to wait for it. */
const CLIENT_BACKLOG_BYTES = 256 * 1024;

/** Consoles of a machine of the library may hold it up for this long without reading; then they lose output instead. */
const PATIENCE_MS = 2000;

/** How often it is looked whether the guest has taken its input, while somebody wants to know. */
const MARK_POLL_MS = 10;

/** What the consoles ask of their VM. */
export interface ConsoleEvents {
  firstAttached(): void;
  /** Console input; returns how many bytes were taken. */
  input(bytes: Uint8Array): number;
  /** Bytes taken that the guest has not been given yet. */
  inputWaiting(): number;
  resize(size: ConsoleSize): void;
  powerOff(): void;
  force(): void;
  pause(): void;
  resume(): void;
  reset(): void;
  sysrq(key: string): void;
  /** What a new console is told of the guest: its state, and how many there were before it. */
  guest(): { state: GuestState; guest: number };
  /** The last console vanished and none ever detached. */
  abandoned(): void;
  /** That many bytes given to `output` have gone where they had to go. */
  outputDelivered(count: number): void;
}

/** All attached consoles of one VM. */
export class ConsoleClients {
  readonly #entry: VmEntry;
  readonly #events: ConsoleEvents;
  readonly #clients = new Set<net.Socket>();
  /** Those of the clients that get samples and log lines. */
  readonly #watchers = new Set<net.Socket>();
  readonly #scrollback = new Scrollback();
  #everAttached = false;
  /** Set by the first detach: from then on the VM runs whether it is watched or not. */
  #background: boolean;
  #size: ConsoleSize | null = null;
  /** Output not yet reported as delivered because a console lags behind. */
  #undelivered = 0;
  /** Input the VM had no room for yet. */
  #inputQueue: Uint8Array[] = [];
  #inputTimer: NodeJS.Timeout | null = null;
  /** Who wants to know when the guest has taken its input. */
  #marks: { socket: net.Socket; id: number }[] = [];
  #markTimer: NodeJS.Timeout | null = null;
  /** Consoles that have not read for too long, and how much each has missed. */
  readonly #deaf = new Map<net.Socket, number>();
  #patience: NodeJS.Timeout | null = null;
  readonly #patient: boolean;
  #pty: ConsolePty | null = null;
  /** Requests for and against the pseudo-terminal, one after the other. */
  #ptyWork: Promise<void> = Promise.resolve();

  /** `background`: the VM never depends on somebody watching, and is never held up for long by one who does not read. */
  constructor(entry: VmEntry, background: boolean, events: ConsoleEvents) {
    this.#entry = entry;
    this.#background = background;
    this.#patient = !background;
    this.#events = events;
  }

  /** Does anybody want samples? */
  watched(): boolean {
    return this.#watchers.size > 0;
  }

  consoleSize(): ConsoleSize | null {
    return this.#size;
  }

  /** Takes a new connection; it counts as attached once it has presented the token. */
  accept(socket: net.Socket): void {
    const reader = new ClientMessageReader();
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const message of reader.push(chunk)) this.#clientSays(socket, message);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        socket.destroy();
      }
    });
    // Errors of a connection mean that the console is gone; `close` follows.
    socket.on('error', () => undefined);
    socket.on('drain', () => this.#drained(socket));
    socket.on('close', () => this.#left(socket));
  }

  #clientSays(socket: net.Socket, message: ClientMessage): void {
    if (message.type === 'hello') {
      if (!sameToken(message.token, this.#entry.token)) throw new ProtocolError('wrong token');
      this.#attach(socket, message.size);
      return;
    }
    if (!this.#clients.has(socket)) throw new ProtocolError('no hello');
    switch (message.type) {
      case 'input':
        this.#inputQueue.push(message.bytes);
        this.#passInput();
        break;
      case 'resize':
        this.#resize(message.size);
        break;
      case 'detach':
        this.#background = true;
        socket.end();
        break;
      case 'powerOff':
        this.#events.powerOff();
        break;
      case 'force':
        this.#events.force();
        break;
      case 'pause':
        this.#events.pause();
        break;
      case 'resume':
        this.#events.resume();
        break;
      case 'reset':
        this.#events.reset();
        break;
      case 'sysrq':
        this.#events.sysrq(message.key);
        break;
      case 'watch':
        this.#watchers.add(socket);
        break;
      case 'pty':
        this.#ptyWork = this.#ptyWork.then(() => this.#offerPty(message.on));
        break;
      case 'inputMark':
        this.#marks.push({ socket, id: message.id });
        this.#answerMarks();
        break;
    }
  }

  /** Makes the console a pseudo-terminal of this computer too, or ends that; tells everyone. */
  async #offerPty(on: boolean): Promise<void> {
    let problem: PvError | null = null;
    if (!on) {
      this.#pty?.close();
      this.#pty = null;
    } else if (this.#pty === null) {
      try {
        this.#pty = await ConsolePty.open((bytes) => {
          this.#inputQueue.push(bytes);
          this.#passInput();
        });
      } catch (error) {
        problem = error instanceof PvError ? error : pvError('pty-failed', { detail: String(error) }, error);
      }
    }
    this.tell({
      type: 'ptyOffered',
      path: this.#pty?.path ?? null,
      problem: problem && { code: problem.code, message: problem.message, action: problem.action },
    });
  }

  #answerMarks(): void {
    if (this.#marks.length === 0 || this.#markTimer !== null) return;
    if (this.#inputQueue.length === 0 && this.#events.inputWaiting() === 0) {
      for (const { socket, id } of this.#marks.splice(0)) this.#send(socket, { type: 'inputTaken', id });
      return;
    }
    this.#markTimer = setTimeout(() => {
      this.#markTimer = null;
      this.#answerMarks();
    }, MARK_POLL_MS);
  }

  #attach(socket: net.Socket, size: ConsoleSize | null): void {
    this.#clients.add(socket);
    const past = this.#scrollback.bytes();
    const { id, name } = this.#entry;
    const offset = this.#scrollback.total - past.length;
    this.#send(socket, {
      type: 'welcome',
      id,
      name,
      ...this.#events.guest(),
      offset,
      past: past.length,
      size: this.#size,
    });
    if (past.length > 0) this.#send(socket, { type: 'output', bytes: past });
    if (size !== null) this.#resize(size);
    if (!this.#everAttached) {
      this.#everAttached = true;
      this.#events.firstAttached();
    }
  }

  #resize(size: ConsoleSize): void {
    this.#size = size;
    this.#events.resize(size);
    this.tell({ type: 'resized', size });
  }

  #left(socket: net.Socket): void {
    if (!this.#clients.delete(socket)) return;
    this.#watchers.delete(socket);
    this.#deaf.delete(socket);
    this.#marks = this.#marks.filter((mark) => mark.socket !== socket);
    this.#reportDelivery();
    if (this.#clients.size === 0 && !this.#background) this.#events.abandoned();
  }

  /** Passes queued input on in order; what does not fit is tried again, while the consoles are not read any further. */
  #passInput(): void {
    while (this.#inputQueue.length > 0) {
      const bytes = this.#inputQueue[0];
      const taken = this.#events.input(bytes);
      if (taken < bytes.length) {
        this.#inputQueue[0] = bytes.subarray(taken);
        break;
      }
      this.#inputQueue.shift();
    }
    const waiting = this.#inputQueue.length > 0;
    for (const client of this.#clients) {
      if (waiting) client.pause();
      else client.resume();
    }
    this.#pty?.setReading(!waiting);
    if (waiting && this.#inputTimer === null) {
      this.#inputTimer = setTimeout(() => {
        this.#inputTimer = null;
        this.#passInput();
      }, 20);
    }
  }

  /** Shows guest output to everyone attached and keeps it for those who come later. */
  output(bytes: Uint8Array): void {
    this.#scrollback.append(bytes);
    const frame = encodeVmMessage({ type: 'output', bytes });
    for (const client of this.#clients) {
      const missed = this.#deaf.get(client);
      if (missed === undefined) client.write(frame);
      else this.#deaf.set(client, missed + bytes.length);
    }
    this.#pty?.output(bytes);
    this.#undelivered += bytes.length;
    this.#reportDelivery();
  }

  #drained(socket: net.Socket): void {
    const missed = this.#deaf.get(socket);
    if (missed !== undefined) {
      this.#deaf.delete(socket);
      this.#send(socket, { type: 'notice', text: `${missed} bytes of output are missing here: nobody read them.` });
    }
    this.#reportDelivery();
  }

  #lagging(): net.Socket[] {
    return [...this.#clients].filter(
      (client) => client.writableLength > CLIENT_BACKLOG_BYTES && !this.#deaf.has(client),
    );
  }

  /** Those who have not read for too long lose output from now on; the manager is cut off, because it asks for what it missed when it comes back. */
  #giveUp(lagging: readonly net.Socket[]): void {
    for (const client of lagging) {
      if (!this.#clients.has(client) || client.writableLength <= CLIENT_BACKLOG_BYTES) continue;
      if (this.#watchers.has(client)) client.destroy();
      else this.#deaf.set(client, 0);
    }
    this.#reportDelivery();
  }

  /** Tells everyone attached. */
  tell(message: VmMessage): void {
    for (const client of this.#clients) this.#send(client, message);
  }

  /** Tells those who watch. */
  report(message: VmMessage): void {
    for (const client of this.#watchers) this.#send(client, message);
  }

  #reportDelivery(): void {
    const lagging = this.#lagging();
    if (lagging.length > 0) {
      if (this.#patient || this.#patience !== null) return;
      this.#patience = setTimeout(() => {
        this.#patience = null;
        this.#giveUp(lagging);
      }, PATIENCE_MS);
      return;
    }
    if (this.#undelivered === 0) return;
    this.#events.outputDelivered(this.#undelivered);
    this.#undelivered = 0;
  }

  /** Tells everyone how it ended; resolves when all have been told and are gone. */
  async farewell(outcome: VmOutcome, stats: VmStats | null): Promise<void> {
    for (const timer of [this.#inputTimer, this.#markTimer, this.#patience]) if (timer !== null) clearTimeout(timer);
    this.#background = true;
    this.#pty?.close();
    const gone = [...this.#clients].map(
      (client) =>
        new Promise<void>((resolve) => {
          client.once('close', () => resolve());
          client.resume();
          client.end(encodeVmMessage({ type: 'ended', outcome, stats }));
        }),
    );
    await Promise.all(gone);
  }

  #send(socket: net.Socket, message: VmMessage): void {
    socket.write(encodeVmMessage(message));
  }
}

function sameToken(given: string, expected: string): boolean {
  const a = Buffer.from(given);
  const b = Buffer.from(expected);
  return a.length === b.length && timingSafeEqual(a, b);
}

/** The last output of a guest, whole chunks dropped from the front. */
class Scrollback {
  #chunks: Uint8Array[] = [];
  #length = 0;
  /** Bytes ever written. */
  total = 0;

  append(bytes: Uint8Array): void {
    this.total += bytes.length;
    const kept = bytes.length > SCROLLBACK_BYTES ? bytes.subarray(bytes.length - SCROLLBACK_BYTES) : bytes;
    this.#chunks.push(kept);
    this.#length += kept.length;
    while (this.#length - this.#chunks[0].length >= SCROLLBACK_BYTES) {
      this.#length -= this.#chunks[0].length;
      this.#chunks.shift();
    }
  }

  bytes(): Uint8Array {
    const all = Buffer.concat(this.#chunks);
    return all.subarray(Math.max(0, all.length - SCROLLBACK_BYTES));
  }
}
