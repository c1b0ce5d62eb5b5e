// SPDX-License-Identifier: MIT
// The manager for browsers on this computer: the renderer's files over HTTP and the contract over a WebSocket, on loopback only.
// A page elsewhere can make a browser send anything here, so each request is held to our host names (DNS rebinding), to our own origin,
// and, for the WebSocket, to the token. The token travels in the address's fragment and in a subprotocol: no other server ever sees it.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import * as path from 'node:path';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';
import type { WebSocket } from 'ws';
import { pvError } from '../../engine/errors.ts';
import { MESSAGE_BYTES_LIMIT } from '../contract/values.ts';
import { SOCKET_PATH, SUBPROTOCOL, tokenSubprotocol } from '../contract/wire.ts';
import type { Gate } from '../manager/gate.ts';
import type { Manager } from '../manager/manager.ts';
import { Session } from '../manager/session.ts';
import { runtimeDirectory } from '../vm/runtime-directory.ts';
import { sameToken } from './local-socket.ts';
import { findFile, NOT_BUILT_PAGE, securityHeaders } from './static-files.ts';

/** Where the search for a free port begins, and how many are tried. */
const FIRST_PORT = 7380;
const PORTS_TRIED = 20;

/** Windows open at a time; more come from something that does not close them. */
const MAX_SESSIONS = 32;
const MAX_CONNECTIONS = 256;
/** Browsers answer pings; one that does not within this time is gone. */
const PING_MS = 15_000;

export interface WebServerOptions {
  /** This port and no other; absent: the first free one. */
  port?: number | undefined;
  /** Directory of the built renderer; default: the checkout's. */
  rendererDirectory?: string;
  token: string;
}

const RENDERER_DIRECTORY = fileURLToPath(new URL('../../build/renderer', import.meta.url));

/** The token of a user's web managers: kept with the running machines so that open pages outlive a restart, gone with the login. */
export function webToken(renew = false): string {
  const file = path.join(runtimeDirectory(), 'web.token');
  if (!renew) {
    try {
      const kept = fs.readFileSync(file, 'utf8');
      if (/^[0-9a-f]{48}$/.test(kept)) return kept;
    } catch {
      // There is none yet.
    }
  }
  const token = randomBytes(24).toString('hex');
  fs.writeFileSync(`${file}.tmp`, token, { mode: 0o600 });
  fs.renameSync(`${file}.tmp`, file);
  return token;
}

type Refusal =
  | 'host-wrong'
  | 'origin-wrong'
  | 'site-wrong'
  | 'token-missing'
  | 'token-wrong'
  | 'method-wrong'
  | 'path-unknown'
  | 'sessions-too-many';

export class WebServer {
  readonly #manager: Manager;
  readonly #gate: Gate;
  readonly #token: string;
  readonly #directory: string;
  readonly #server: http.Server;
  readonly #sockets: WebSocketServer;
  readonly #pings: NodeJS.Timeout;
  #port = 0;

  /** Listens on loopback. Rejects with `port-taken` or `port-unusable`. */
  static async open(manager: Manager, gate: Gate, options: WebServerOptions): Promise<WebServer> {
    const server = new WebServer(manager, gate, options);
    server.#port = await listen(server.#server, options.port);
    return server;
  }

  private constructor(manager: Manager, gate: Gate, { token, rendererDirectory }: WebServerOptions) {
    this.#manager = manager;
    this.#gate = gate;
    this.#token = token;
    this.#directory = rendererDirectory ?? RENDERER_DIRECTORY;
    this.#sockets = new WebSocketServer({
      noServer: true,
      // A little above the gate's limit, so that the gate can say what is wrong; far above, the connection is cut.
      maxPayload: 2 * MESSAGE_BYTES_LIMIT,
      perMessageDeflate: false,
      handleProtocols: () => SUBPROTOCOL,
    });
    this.#server = http.createServer({ maxHeaderSize: 16 * 1024 }, (request, response) =>
      this.#serve(request, response),
    );
    // Far above what windows need; a page elsewhere can open connections, but not exhaust the process.
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('clientError', (_error, socket) => {
      this.#manager.counters.refuse('http-malformed');
      if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
      else socket.destroy();
    });
    this.#server.on('drop', () => this.#manager.counters.refuse('connections-too-many'));
    this.#server.on('upgrade', (request: http.IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#upgrade(request, socket, head);
    });
    this.#pings = setInterval(() => this.#pingAll(), PING_MS);
    this.#pings.unref();
  }

  get port(): number {
    return this.#port;
  }

  /** Address to open; the token is in its fragment, which browsers keep to themselves. */
  get url(): string {
    return `http://127.0.0.1:${this.#port}/#token=${this.#token}`;
  }

  #hosts(): string[] {
    return ['127.0.0.1', 'localhost', '[::1]'].map((name) => `${name}:${this.#port}`);
  }

  /** Why a request is none of ours, as far as its headers tell. */
  #refusalOf({ headers }: http.IncomingMessage, originNeeded: boolean): Refusal | null {
    const hosts = this.#hosts();
    if (headers.host === undefined || !hosts.includes(headers.host.toLowerCase())) return 'host-wrong';
    const { origin } = headers;
    if (origin === undefined && originNeeded) return 'origin-wrong';
    if (origin !== undefined && origin !== `http://${headers.host.toLowerCase()}`) return 'origin-wrong';
    return isFromAnotherSite(headers) ? 'site-wrong' : null;
  }

  #serve(request: http.IncomingMessage, response: http.ServerResponse): void {
    const headers = securityHeaders(this.#hosts().map((host) => `ws://${host}`));
    const refuse = (status: number, reason: Refusal): void => {
      this.#manager.counters.refuse(reason);
      response.writeHead(status, { ...headers, 'Content-Type': 'text/plain; charset=utf-8', Connection: 'close' });
      response.end(`${reason}\n`);
    };
    const refusal = this.#refusalOf(request, false);
    if (refusal !== null) return refuse(403, refusal);
    if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(405, 'method-wrong');
    const urlPath = pathOf(request.url);
    let file = urlPath === null ? null : findFile(this.#directory, urlPath);
    if (file === null && urlPath === '/')
      file = { type: 'text/html; charset=utf-8', content: Buffer.from(NOT_BUILT_PAGE), immutable: false };
    if (file === null) return refuse(404, 'path-unknown');
    const caching = file.immutable ? 'public, max-age=31536000, immutable' : 'no-cache';
    response.writeHead(200, {
      ...headers,
      'Content-Type': file.type,
      'Content-Length': file.content.length,
      'Cache-Control': caching,
    });
    response.end(request.method === 'HEAD' ? undefined : file.content);
  }

  #upgrade(request: http.IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined);
    const refusal = this.#refusalOfSocket(request);
    if (refusal !== null) {
      this.#manager.counters.refuse(refusal);
      socket.end(`HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n${refusal}\n`);
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) => this.#accept(webSocket));
  }

  #refusalOfSocket(request: http.IncomingMessage): Refusal | null {
    const refusal = this.#refusalOf(request, true);
    if (refusal !== null) return refusal;
    if (request.url !== SOCKET_PATH) return 'path-unknown';
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
    const given = offered.find((name) => name.startsWith(tokenSubprotocol('')));
    if (given === undefined || !offered.includes(SUBPROTOCOL)) return 'token-missing';
    if (!sameToken(given, tokenSubprotocol(this.#token))) return 'token-wrong';
    return this.#sockets.clients.size >= MAX_SESSIONS ? 'sessions-too-many' : null;
  }

  #accept(webSocket: WebSocket): void {
    const session: Session = new Session('page', {
      send: (text) => webSocket.send(text, () => this.#manager.drained(session)),
      backlog: () => webSocket.bufferedAmount,
      close: (reason) => webSocket.close(1008, reason.slice(0, 120)),
    });
    this.#manager.addSession(session);
    alive.add(webSocket);
    webSocket.on('pong', () => alive.add(webSocket));
    webSocket.on('close', () => session.gone());
    webSocket.on('error', (error) => {
      const { code } = error as NodeJS.ErrnoException;
      const tooLarge = code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';
      this.#manager.counters.refuse(tooLarge ? 'message-too-large' : 'message-malformed');
    });
    webSocket.on('message', (bytes: Buffer, isBinary: boolean) => {
      if (isBinary) {
        this.#manager.counters.refuse('message-malformed');
        session.end('binary message');
        return;
      }
      void this.#gate.receive(session, bytes.toString('utf8'));
    });
  }

  #pingAll(): void {
    for (const client of this.#sockets.clients) {
      if (alive.delete(client)) client.ping();
      else client.terminate();
    }
  }

  /** Ends all connections and stops listening. */
  async close(): Promise<void> {
    clearInterval(this.#pings);
    for (const client of this.#sockets.clients) client.terminate();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

/** The path of a request target in origin form (RFC 9112, section 3.2.1) without its query; null for any other form. */
function pathOf(target: string | undefined): string | null {
  return target === undefined || !/^\/(?!\/)/.test(target) ? null : target.replace(/[?#].*$/s, '');
}

/**
 * Browsers say where a request comes from (Fetch Metadata). A link elsewhere may lead here; images, scripts and requests of pages elsewhere
 * may not even find out that somebody is here. `same-site` is another port of this computer.
 */
function isFromAnotherSite(headers: http.IncomingHttpHeaders): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== 'cross-site' && site !== 'same-site') return false;
  return headers['sec-fetch-mode'] !== 'navigate' || headers['sec-fetch-dest'] !== 'document';
}

/** Sockets that have answered since the last ping. */
const alive = new WeakSet<WebSocket>();

async function listen(server: http.Server, wanted: number | undefined): Promise<number> {
  const candidates =
    wanted === undefined ? [...Array.from({ length: PORTS_TRIED }, (_, i) => FIRST_PORT + i), 0] : [wanted];
  for (const port of candidates) {
    try {
      return await listenOn(server, port);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EADDRINUSE' && wanted === undefined) continue;
      if (code === 'EADDRINUSE') throw pvError('port-taken', { port }, error);
      throw pvError('port-unusable', { port, detail: message }, error);
    }
  }
  throw pvError('port-taken', { port: FIRST_PORT });
}

function listenOn(server: http.Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}
