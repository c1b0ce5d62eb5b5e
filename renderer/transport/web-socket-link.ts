// SPDX-License-Identifier: MIT
// The contract over a WebSocket to `paravane serve`, connected again and again when it is lost.
import { MessageConnection } from '../../main/contract/connection.ts';
import type { CommandName, Reply, Request } from '../../main/contract/commands.ts';
import type { ErrorReport } from '../../main/contract/errors.ts';
import { eventNames } from '../../main/contract/events.ts';
import type { EventName, EventPayload } from '../../main/contract/events.ts';
import { CommandError, SOCKET_PATH, SUBPROTOCOL, tokenSubprotocol } from '../../main/contract/wire.ts';
import type { Link, LinkStatus } from './link.ts';

/** Pauses between attempts: quick at first, because a manager that is restarted is back within a second. */
const RETRY_MS = [200, 400, 800, 1500, 3000];

const LOST: ErrorReport = {
  code: 'manager-lost',
  message: 'The manager is not answering.',
  action: 'It is tried again by itself; if this lasts, start Paravane again.',
};

type Listener = (payload: never) => void;

export class WebSocketLink implements Link {
  status: LinkStatus = 'connecting';
  readonly #token: string;
  readonly #statusListeners = new Set<(status: LinkStatus) => void>();
  /** Listeners outlive sockets: each new connection is subscribed to all events once and hands them on. */
  readonly #listeners = new Map<EventName, Set<Listener>>();
  #connection: MessageConnection | null = null;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(token: string) {
    this.#token = token;
    this.#connect();
  }

  invoke<Name extends CommandName>(name: Name, request: Request<Name>): Promise<Reply<Name>> {
    if (this.#connection === null) return Promise.reject(new CommandError(LOST));
    return this.#connection.invoke(name, request);
  }

  on<Name extends EventName>(name: Name, listener: (payload: EventPayload<Name>) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set<Listener>();
    this.#listeners.set(name, listeners);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  onStatus(listener: (status: LinkStatus) => void): () => void {
    this.#statusListeners.add(listener);
    return () => this.#statusListeners.delete(listener);
  }

  retry(): void {
    if (this.status === 'open' || this.status === 'connecting') return;
    clearTimeout(this.#timer);
    this.#attempt = 0;
    this.#connect();
  }

  #connect(): void {
    const address = new URL(SOCKET_PATH, location.href);
    address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(address, [SUBPROTOCOL, tokenSubprotocol(this.#token)]);
    const connection = new MessageConnection((message) => socket.send(message));
    for (const name of eventNames) connection.on(name, (payload) => this.#dispatch(name, payload));
    socket.onmessage = (message: MessageEvent<string>) => connection.receive(message.data);
    socket.onopen = () => {
      this.#attempt = 0;
      this.#connection = connection;
      this.#become('open');
    };
    socket.onclose = () => {
      const wasOpen = this.#connection === connection;
      if (wasOpen) this.#connection = null;
      connection.close(LOST);
      void this.#afterClose(wasOpen);
    };
  }

  /** A browser does not tell why a WebSocket was refused; a server that serves the page but not the socket dislikes the key. */
  async #afterClose(wasOpen: boolean): Promise<void> {
    const serverIsThere = !wasOpen && (await answers());
    this.#become(serverIsThere ? 'refused' : 'lost');
    const pause = RETRY_MS[Math.min(this.#attempt++, RETRY_MS.length - 1)];
    this.#timer = setTimeout(() => this.#connect(), pause);
  }

  #dispatch(name: EventName, payload: unknown): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) listener(payload as never);
  }

  #become(status: LinkStatus): void {
    if (this.status === status) return;
    this.status = status;
    for (const listener of [...this.#statusListeners]) listener(status);
  }
}

async function answers(): Promise<boolean> {
  try {
    return (await fetch(location.pathname, { method: 'HEAD', cache: 'no-store' })).ok;
  } catch {
    return false;
  }
}
