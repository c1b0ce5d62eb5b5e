// SPDX-License-Identifier: MIT
// One window or command line that talks to the manager, whatever carries its messages.
import { randomUUID } from 'node:crypto';
import type { EventName, EventPayload } from '../contract/events.ts';

/** What a transport provides. */
export interface Carrier {
  send(text: string): void;
  /** Bytes given to `send` that have not left yet. */
  backlog(): number;
  /** Ends the connection; `reason` is for its log. */
  close(reason: string): void;
}

/** Undelivered bytes after which the other side counts as gone: a page that is asleep, a program that was stopped. It may connect again. */
const UNREAD_LIMIT = 32 * 1024 * 1024;

export class Session {
  readonly id: string = randomUUID();
  readonly kind: 'page' | 'command' | 'window';
  readonly since: number = Date.now();
  readonly #carrier: Carrier;
  readonly #closers = new Set<() => void>();
  messages = 0;
  /** Machines whose samples and log lines it wants. */
  watched: ReadonlySet<string> = new Set();
  closed = false;

  constructor(kind: Session['kind'], carrier: Carrier) {
    this.kind = kind;
    this.#carrier = carrier;
  }

  send(text: string): void {
    if (this.closed) return;
    if (this.#carrier.backlog() > UNREAD_LIMIT) this.end('too much is unread');
    else this.#carrier.send(text);
  }

  tell<Name extends EventName>(event: Name, payload: EventPayload<Name>): void {
    this.send(JSON.stringify({ event, payload }));
  }

  backlog(): number {
    return this.#carrier.backlog();
  }

  /** Runs `closer` when the session ends; returns a function that forgets it. */
  onClose(closer: () => void): () => void {
    this.#closers.add(closer);
    return () => this.#closers.delete(closer);
  }

  /** Ends the session from this side. */
  end(reason: string): void {
    this.#carrier.close(reason);
    this.gone();
  }

  /** The transport says that the other side is gone. */
  gone(): void {
    if (this.closed) return;
    this.closed = true;
    for (const closer of this.#closers) closer();
    this.#closers.clear();
  }
}
