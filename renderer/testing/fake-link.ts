// SPDX-License-Identifier: MIT
// A manager for component tests: answers commands with functions and sends events on demand.
import type { CommandName, Reply, Request } from '../../main/contract/commands.ts';
import type { EventName, EventPayload } from '../../main/contract/events.ts';
import { CommandError } from '../../main/contract/wire.ts';
import type { Link, LinkStatus } from '../transport/link.ts';

type Handlers = { [Name in CommandName]?: (request: Request<Name>) => Reply<Name> | Promise<Reply<Name>> };

export class FakeLink implements Link {
  status: LinkStatus = 'open';
  readonly asked: { [Name in CommandName]: { name: Name; request: Request<Name> } }[CommandName][] = [];
  readonly #handlers: Handlers;
  readonly #listeners = new Map<EventName, Set<(payload: never) => void>>();
  readonly #statusListeners = new Set<(status: LinkStatus) => void>();

  constructor(handlers: Handlers = {}) {
    this.#handlers = handlers;
  }

  async invoke<Name extends CommandName>(name: Name, request: Request<Name>): Promise<Reply<Name>> {
    this.asked.push({ name, request } as never);
    const handler = this.#handlers[name] as ((request: Request<Name>) => Reply<Name>) | undefined;
    if (handler === undefined) {
      throw new CommandError({
        code: 'command-unknown',
        message: `No answer to ${name}.`,
        action: 'Give the test one.',
      });
    }
    return handler(request);
  }

  on<Name extends EventName>(name: Name, listener: (payload: EventPayload<Name>) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  emit<Name extends EventName>(name: Name, payload: EventPayload<Name>): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) listener(payload as never);
  }

  become(status: LinkStatus): void {
    this.status = status;
    for (const listener of this.#statusListeners) listener(status);
  }

  onStatus(listener: (status: LinkStatus) => void): () => void {
    this.#statusListeners.add(listener);
    return () => this.#statusListeners.delete(listener);
  }

  retry(): void {
    this.become('open');
  }
}
