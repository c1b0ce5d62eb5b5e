// SPDX-License-Identifier: MIT
// The bridge between a page and the desktop shell: what the preload script offers the page, and the names of the channels below it.
import type { CommandName, Reply, Request } from './commands.ts';
import type { ErrorReport } from './errors.ts';
import type { EventName, EventPayload } from './events.ts';

/** Contract messages as JSON text, in both directions. */
export const MESSAGE_CHANNEL = 'paravane:message';
/** From the page: how many characters of messages it has taken so far, so that the manager knows who is slow. */
export const TAKEN_CHANNEL = 'paravane:taken';

/** An answer as data: an exception would lose everything but its text on the way from the preload script to the page. */
export type BridgeAnswer<Name extends CommandName> = { reply: Reply<Name> } | { error: ErrorReport };

/** `window.paravane`. */
export interface Bridge {
  invoke<Name extends CommandName>(name: Name, request: Request<Name>): Promise<BridgeAnswer<Name>>;
  /** Returns a function that ends the subscription. */
  on<Name extends EventName>(name: Name, listener: (payload: EventPayload<Name>) => void): () => void;
}
