// SPDX-License-Identifier: MIT
// The asking side of the contract over anything that carries text messages: a WebSocket in the window, a local socket in the command line.
import type { CommandName, Reply, Request } from './commands.ts';
import type { ErrorReport } from './errors.ts';
import type { EventName, EventPayload } from './events.ts';
import { CommandError } from './wire.ts';
import type { Connection } from './wire.ts';

interface Waiting {
  resolve(reply: unknown): void;
  reject(error: CommandError): void;
}

type Listener = (payload: unknown) => void;

/** Matches answers with commands and hands out events. The owner feeds it what arrives and says when the carrier is gone. */
export class MessageConnection implements Connection {
  readonly #send: (message: string) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Map<EventName, Set<Listener>>();
  #nextId = 1;
  #closed: ErrorReport | null = null;

  /** `send` passes one message on, in order. */
  constructor(send: (message: string) => void) {
    this.#send = send;
  }

  invoke<Name extends CommandName>(name: Name, request: Request<Name>): Promise<Reply<Name>> {
    if (this.#closed !== null) return Promise.reject(new CommandError(this.#closed));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (reply: unknown) => void, reject });
      this.#send(JSON.stringify({ id, command: name, request }));
    });
  }

  on<Name extends EventName>(name: Name, listener: (payload: EventPayload<Name>) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set<Listener>();
    this.#listeners.set(name, listeners);
    // A wrapper of its own, so that the same function may be registered twice.
    const entry: Listener = (payload) => listener(payload as EventPayload<Name>);
    listeners.add(entry);
    return () => listeners.delete(entry);
  }

  /** Takes one message of the manager, whose word is trusted; anything that is no message is ignored. */
  receive(text: string): void {
    let message: Record<string, unknown>;
    try {
      message = JSON.parse(text) as Record<string, unknown>;
    } catch {
      return;
    }
    if (typeof message.event === 'string') {
      for (const listener of [...(this.#listeners.get(message.event as EventName) ?? [])]) listener(message.payload);
      return;
    }
    const waiting = this.#waiting.get(message.id as number);
    if (waiting === undefined) return;
    this.#waiting.delete(message.id as number);
    if ('error' in message) waiting.reject(new CommandError(message.error as ErrorReport));
    else waiting.resolve(message.reply);
  }

  /** The carrier is gone: whatever waits fails with `error`, and so does everything asked later. */
  close(error: ErrorReport): void {
    this.#closed = error;
    for (const { reject } of this.#waiting.values()) reject(new CommandError(error));
    this.#waiting.clear();
  }
}
