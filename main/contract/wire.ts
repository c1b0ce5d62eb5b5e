// SPDX-License-Identifier: MIT
// The JSON messages that carry commands and events over a WebSocket or a local socket.
// To the manager: {id, command, request}. Back: {id, reply} or {id, error} for each, and {event, payload} at any time.
import * as v from 'valibot';
import type { Reply, Request, CommandName } from './commands.ts';
import type { ErrorReport } from './errors.ts';
import type { EventName, EventPayload } from './events.ts';

/** WebSocket subprotocols: the page offers both, the manager picks the first. The second carries the token. */
export const SUBPROTOCOL = 'paravane.1';
export const tokenSubprotocol = (token: string): string => `paravane.token.${token}`;

/** Path of the WebSocket on the server. */
export const SOCKET_PATH = '/socket';

/** What every message to the manager must look like before its command is even looked up. */
export const envelope = v.strictObject({
  /** Chosen by the sender, returned in the answer. */
  id: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER)),
  command: v.pipe(v.string(), v.maxLength(64)),
  request: v.custom<Record<string, unknown>>(
    (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
    'is no object',
  ),
});
export type Envelope = v.InferOutput<typeof envelope>;

export type Answer = { id: number; reply: unknown } | { id: number; error: ErrorReport };
export type EventMessage = { event: EventName; payload: unknown };

/** What renderer and command line work with, whatever carries the messages: Electron's preload offers exactly this too. */
export interface Connection {
  /** Rejects with `CommandError`. */
  invoke<Name extends CommandName>(name: Name, request: Request<Name>): Promise<Reply<Name>>;
  /** Returns a function that ends the subscription. */
  on<Name extends EventName>(name: Name, listener: (payload: EventPayload<Name>) => void): () => void;
}

/** A refusal or failure on the manager's side, as thrown by `Connection.invoke`. */
export class CommandError extends Error {
  readonly report: ErrorReport;

  constructor(report: ErrorReport) {
    super(report.message);
    this.name = 'CommandError';
    this.report = report;
  }
}
