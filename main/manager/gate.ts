// SPDX-License-Identifier: MIT
// The one way from a message to a handler: sender, size, form, rate, name and schema are checked here and nowhere else; refusals are counted.
// Who may become a sender is the transport's to check (token, origin, window): it registers a session with the manager, or does not.
import * as v from 'valibot';
import { PvError, pvError } from '../../engine/errors.ts';
import { commands, isCommandName } from '../contract/commands.ts';
import type { CheckedRequest, CommandName } from '../contract/commands.ts';
import { describeIssues } from '../contract/issues.ts';
import { MESSAGE_BYTES_LIMIT } from '../contract/values.ts';
import { envelope } from '../contract/wire.ts';
import type { Answer, Envelope } from '../contract/wire.ts';
import { handlersOf } from './commands.ts';
import type { Handlers } from './commands.ts';
import { reportOf } from './endings.ts';
import type { Manager } from './manager.ts';
import type { Session } from './session.ts';

/** Messages a session may send in a burst, and per second in the long run: far above what fingers and uploads need. */
const BURST = 1000;
const PER_SECOND = 500;
/** Commands of one session that may be under way at a time. */
const CONCURRENT = 256;
/** A session that sends this many messages that are none, or goes on like this after it was told to wait, is not one of ours. */
const MALFORMED_LIMIT = 10;
const OVER_RATE_LIMIT = 2000;

/** For answers to messages whose identifier could not be read. */
const NO_ID = -1;

interface Account {
  tokens: number;
  at: number;
  underWay: number;
  malformed: number;
  overRate: number;
}

export class Gate {
  readonly #manager: Manager;
  readonly #handlers: Handlers;
  readonly #accounts = new WeakMap<Session, Account>();
  readonly #checkReplies: boolean;

  /** `checkReplies`: hold the manager's own answers to the contract too; for tests. */
  constructor(manager: Manager, { checkReplies = false } = {}) {
    this.#manager = manager;
    this.#handlers = handlersOf(manager);
    this.#checkReplies = checkReplies;
  }

  /** Takes one message of a session and answers it. Never rejects. */
  async receive(session: Session, text: string): Promise<void> {
    if (session.closed) return;
    session.messages++;
    const account = this.#accountOf(session);
    let id = hintedId(text);
    try {
      if (!this.#manager.sessions.has(session)) throw pvError('sender-unknown', {});
      this.#checkRate(account);
      const size = Buffer.byteLength(text);
      if (size > MESSAGE_BYTES_LIMIT) throw pvError('message-too-large', { size, limit: MESSAGE_BYTES_LIMIT });
      const message = parseEnvelope(text);
      id = message.id;
      const { name, request } = check(message);
      account.underWay++;
      try {
        this.#manager.counters.count(`command ${name}`);
        this.#answer(session, { id, reply: await this.#carryOut(name, request, session) });
      } finally {
        account.underWay--;
      }
    } catch (error) {
      this.#fail(session, account, id, error);
    }
  }

  async #carryOut(name: CommandName, request: unknown, session: Session): Promise<unknown> {
    const handler = this.#handlers[name] as (request: unknown, session: Session) => unknown;
    let reply: unknown;
    try {
      reply = await handler(request, session);
    } catch (error) {
      if (error instanceof PvError) throw error;
      this.#manager.counters.log('error', error instanceof Error ? (error.stack ?? error.message) : String(error));
      throw pvError(
        'manager-failed',
        { command: name, detail: error instanceof Error ? error.message : String(error) },
        error,
      );
    }
    if (!this.#checkReplies) return reply;
    const result = v.safeParse(commands[name].reply, reply);
    if (!result.success)
      throw pvError('manager-failed', { command: name, detail: `its reply: ${describeIssues(result.issues)}` });
    return reply;
  }

  #fail(session: Session, account: Account, id: number, error: unknown): void {
    if (error instanceof PvError && REFUSALS.has(error.code)) this.#manager.counters.refuse(error.code);
    else this.#manager.counters.count('command failed');
    this.#answer(session, { id, error: reportOf(error) });
    if (!(error instanceof PvError)) return;
    if (error.code === 'sender-unknown') session.end('not a session of this manager');
    if (error.code === 'message-malformed' && ++account.malformed >= MALFORMED_LIMIT)
      session.end('too many malformed messages');
    if (error.code === 'message-rate' && ++account.overRate >= OVER_RATE_LIMIT) session.end('too many messages');
  }

  #answer(session: Session, answer: Answer): void {
    session.send(JSON.stringify(answer));
  }

  #accountOf(session: Session): Account {
    const account = this.#accounts.get(session) ?? {
      tokens: BURST,
      at: Date.now(),
      underWay: 0,
      malformed: 0,
      overRate: 0,
    };
    this.#accounts.set(session, account);
    return account;
  }

  #checkRate(account: Account): void {
    const now = Date.now();
    account.tokens = Math.min(BURST, account.tokens + ((now - account.at) / 1000) * PER_SECOND);
    account.at = now;
    if (account.tokens < 1 || account.underWay >= CONCURRENT) throw pvError('message-rate', {});
    account.tokens--;
  }
}

/** The identifier of a message that is refused before it is parsed, where our own senders put it: their promise must not wait for ever. */
function hintedId(text: string): number {
  const hint = /^\{"id":(\d{1,15}),/.exec(text);
  return hint === null ? NO_ID : Number(hint[1]);
}

/** Errors that mean "not accepted" as against "did not work". */
const REFUSALS: ReadonlySet<string> = new Set([
  'sender-unknown',
  'message-malformed',
  'message-too-large',
  'message-rate',
  'command-unknown',
  'request-invalid',
]);

function parseEnvelope(text: string): Envelope {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw pvError('message-malformed', { detail: 'it is not JSON' });
  }
  const result = v.safeParse(envelope, json);
  if (!result.success) throw pvError('message-malformed', { detail: describeIssues(result.issues) });
  return result.output;
}

function check({ command, request }: Envelope): { name: CommandName; request: CheckedRequest<CommandName> } {
  if (!isCommandName(command)) throw pvError('command-unknown', { command });
  const result = v.safeParse(commands[command].request, request);
  if (!result.success) throw pvError('request-invalid', { command, detail: describeIssues(result.issues) });
  return { name: command, request: result.output };
}
