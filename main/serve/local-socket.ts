// SPDX-License-Identifier: MIT
// The manager's door for command lines of the same user: a unix socket (a named pipe on Windows) that carries the contract's messages, one
// per line. The first line is the token, because pipes are not protected by a directory.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import { MESSAGE_BYTES_LIMIT } from '../contract/values.ts';
import type { Gate } from '../manager/gate.ts';
import type { Manager } from '../manager/manager.ts';
import { Session } from '../manager/session.ts';
import { runtimeDirectory, socketPath } from '../vm/runtime-directory.ts';

/** Until the token has come, a connection may send this much and take this long; there may be so many connections in all. */
const TOKEN_LINE_BYTES = 256;
const TOKEN_MS = 5000;
const MAX_CONNECTIONS = 128;

/** How a running manager is found. */
export interface ManagerEntry {
  socket: string;
  token: string;
  pid: number;
  /** Address for browsers; null when it serves none. */
  url: string | null;
  startedAt: number;
}

/** Libraries have a manager each. */
function libraryTag(dataDirectory: string): string {
  return createHash('sha256').update(path.resolve(dataDirectory)).digest('hex').slice(0, 12);
}

const entryFile = (dataDirectory: string): string =>
  path.join(runtimeDirectory(), `manager-${libraryTag(dataDirectory)}.entry`);

/** The entry of the manager of a library, which may have died since; null when there is none. */
export function readManagerEntry(dataDirectory: string): ManagerEntry | null {
  try {
    return JSON.parse(fs.readFileSync(entryFile(dataDirectory), 'utf8')) as ManagerEntry;
  } catch {
    return null;
  }
}

/** Cuts a stream into lines; `limit` bounds what may wait for its end. */
export class LineReader {
  readonly #limit: number;
  #pending = Buffer.alloc(0);

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The lines that `chunk` completes. A line that grows too long throws RangeError. */
  *push(chunk: Uint8Array): Generator<string> {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    for (let end = this.#pending.indexOf(10); end >= 0; end = this.#pending.indexOf(10)) {
      const line = this.#pending.toString('utf8', 0, end);
      this.#pending = this.#pending.subarray(end + 1);
      yield line;
    }
    if (this.#pending.length > this.#limit) throw new RangeError('line too long');
  }
}

export class LocalServer {
  readonly #manager: Manager;
  readonly #server: net.Server;
  readonly #entry: ManagerEntry;

  /** Listens and announces the manager; rejects with the system's error. */
  static async open(manager: Manager, gate: Gate, url: string | null): Promise<LocalServer> {
    const server = new LocalServer(manager, gate, url);
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', reject);
      server.#server.listen(server.#entry.socket, resolve);
    });
    const file = entryFile(manager.dataDirectory);
    fs.writeFileSync(`${file}.tmp`, JSON.stringify(server.#entry), { mode: 0o600 });
    fs.renameSync(`${file}.tmp`, file);
    return server;
  }

  private constructor(manager: Manager, gate: Gate, url: string | null) {
    this.#manager = manager;
    const token = randomBytes(24).toString('hex');
    const socket = socketPath(`manager-${randomBytes(4).toString('hex')}`);
    this.#entry = { socket, token, pid: process.pid, url, startedAt: Date.now() };
    this.#server = net.createServer((connection) => accept(connection, token, manager, gate));
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('drop', () => manager.counters.refuse('connections-too-many'));
  }

  close(): void {
    this.#server.close();
    const announced = readManagerEntry(this.#manager.dataDirectory);
    if (announced?.socket === this.#entry.socket) fs.rmSync(entryFile(this.#manager.dataDirectory), { force: true });
  }
}

function accept(connection: net.Socket, token: string, manager: Manager, gate: Gate): void {
  // Twice the limit of a message, so that the gate can say what is wrong with one that is too large.
  const lines = new LineReader(2 * MESSAGE_BYTES_LIMIT);
  let session: Session | null = null;
  let early = 0;
  const refuse = (reason: string): void => {
    manager.counters.refuse(reason);
    connection.destroy();
  };
  const impatience = setTimeout(() => refuse('token-missing'), TOKEN_MS);
  connection.on('error', () => undefined);
  connection.on('close', () => {
    clearTimeout(impatience);
    session?.gone();
  });
  connection.on('drain', () => session !== null && manager.drained(session));
  connection.on('data', (chunk: Buffer) => {
    try {
      for (const line of lines.push(chunk)) {
        if (session !== null) void gate.receive(session, line);
        else if (sameToken(line, token)) {
          clearTimeout(impatience);
          session = new Session('command', {
            send: (text) => connection.write(`${text}\n`),
            backlog: () => connection.writableLength,
            close: () => connection.destroy(),
          });
          manager.addSession(session);
        } else return refuse('token-wrong');
      }
      // Commands may follow the token at once; without a token nothing may.
      early += chunk.length;
      if (session === null && early > TOKEN_LINE_BYTES) refuse('token-missing');
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refuse('message-too-large');
    }
  });
}

export function sameToken(given: string, expected: string): boolean {
  const a = Buffer.from(given);
  const b = Buffer.from(expected);
  return a.length === b.length && timingSafeEqual(a, b);
}
