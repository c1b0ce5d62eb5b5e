// SPDX-License-Identifier: MIT
// The web server against hostile pages, and the local socket: who gets in, what is refused and counted.
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { ManagerFixture } from '../../tests/support/manager.ts';
import { eventually } from '../../tests/support/paravane.ts';
import { MessageConnection } from '../contract/connection.ts';
import { MESSAGE_BYTES_LIMIT } from '../contract/values.ts';
import { SOCKET_PATH, SUBPROTOCOL, tokenSubprotocol } from '../contract/wire.ts';
import type { Gate } from '../manager/gate.ts';
import type { Manager } from '../manager/manager.ts';
import { LocalServer, readManagerEntry } from './local-socket.ts';
import { serve } from './serve.ts';
import { WebServer, webToken } from './web-server.ts';

let fixture: ManagerFixture;
let manager: Manager;
let gate: Gate;
let server: WebServer;
const token = 'a'.repeat(48);

beforeEach(async () => {
  fixture = new ManagerFixture();
  ({ manager, gate } = await fixture.open());
  const rendererDirectory = path.join(fixture.directory, 'renderer');
  fs.mkdirSync(path.join(rendererDirectory, 'assets'), { recursive: true });
  fs.writeFileSync(path.join(rendererDirectory, 'index.html'), '<!doctype html>');
  fs.writeFileSync(path.join(rendererDirectory, 'assets', 'index-a1b2c3d4e5.js'), 'export {};');
  fs.writeFileSync(path.join(fixture.directory, 'secret.json'), '{}');
  fs.symlinkSync(path.join(fixture.directory, 'secret.json'), path.join(rendererDirectory, 'link.json'));
  server = await WebServer.open(manager, gate, { port: 0, token, rendererDirectory });
});
afterEach(async () => {
  await server.close();
  fixture.dispose();
});

const refusals = (reason: string): number => manager.counters.refusals()[reason] ?? 0;

/** A request with exactly these headers; the path is sent as it is. */
function request(urlPath: string, headers: Record<string, string> = {}, method = 'GET') {
  return new Promise<{ status: number; headers: http.IncomingHttpHeaders; body: string }>((resolve, reject) => {
    const host = `127.0.0.1:${server.port}`;
    const sent = http.request(
      { port: server.port, path: urlPath, method, headers: { host, ...headers } },
      (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }));
      },
    );
    sent.on('error', reject);
    sent.end();
  });
}

interface SocketOptions {
  protocols?: string[];
  origin?: string | undefined;
  host?: string;
  path?: string;
}

function open({ protocols, origin, host, path: urlPath = SOCKET_PATH }: SocketOptions = {}): Promise<WebSocket> {
  const own = `127.0.0.1:${server.port}`;
  const webSocket = new WebSocket(`ws://${own}${urlPath}`, protocols ?? [SUBPROTOCOL, tokenSubprotocol(token)], {
    headers: { host: host ?? own, ...(origin !== '' && { origin: origin ?? `http://${own}` }) },
  });
  return new Promise((resolve, reject) => {
    webSocket.on('open', () => resolve(webSocket));
    webSocket.on('error', reject);
  });
}

describe('files', () => {
  it('come with headers that let nothing else in', async () => {
    const page = await request('/');
    expect(page.status).toBe(200);
    expect(page.headers['content-security-policy']).toMatch(
      /default-src 'none'; script-src 'self' 'wasm-unsafe-eval';/,
    );
    expect(page.headers).toMatchObject({
      'content-type': 'text/html; charset=utf-8',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-cache',
    });
    expect((await request('/assets/index-a1b2c3d4e5.js')).headers['cache-control']).toContain('immutable');
    expect((await request('/', {}, 'HEAD')).body).toBe('');
  });

  it.each([
    '/../secret.json',
    '/%2e%2e/secret.json',
    '/..%2fsecret.json',
    '/link.json',
    '/%00',
    '/%',
    '/nothing.js',
    '/assets',
  ])('nothing is found at %s', async (urlPath) => {
    expect((await request(urlPath)).status).toBe(404);
  });

  it('refuses foreign host names, foreign origins and other methods', async () => {
    expect((await request('/', { host: `evil.example:${server.port}` })).status).toBe(403);
    expect((await request('/', { host: '127.0.0.1' })).status).toBe(403);
    expect((await request('/', { origin: 'http://evil.example' })).status).toBe(403);
    expect((await request('/', {}, 'POST')).status).toBe(405);
    expect([refusals('host-wrong'), refusals('origin-wrong'), refusals('method-wrong')]).toEqual([2, 1, 1]);
  });

  it('says so when there is no renderer', async () => {
    const bare = await WebServer.open(manager, gate, { port: 0, token, rendererDirectory: '/nonexistent' });
    const body = await fetch(`http://127.0.0.1:${bare.port}/`).then((response) => response.text());
    expect(body).toContain('npm run build');
    await bare.close();
  });
});

describe('the socket', () => {
  it('carries commands and events', async () => {
    const webSocket = await open();
    expect(webSocket.protocol).toBe(SUBPROTOCOL);
    const connection = new MessageConnection((text) => webSocket.send(text));
    webSocket.on('message', (data: Buffer) => connection.receive(data.toString()));
    const changed = new Promise((resolve) => connection.on('settings:changed', resolve));
    const settings = await connection.invoke('settings:set', { changes: { theme: 'dark' } });
    expect(settings.theme).toBe('dark');
    expect(await changed).toMatchObject({ settings: { theme: 'dark' } });
    webSocket.close();
    await eventually(() => manager.sessions.size === 1, 'session forgotten');
  });

  it.each<[string, SocketOptions, string]>([
    ['another origin', { origin: 'http://evil.example' }, 'origin-wrong'],
    ['a null origin', { origin: 'null' }, 'origin-wrong'],
    ['our origin on another port', { origin: 'http://127.0.0.1:1' }, 'origin-wrong'],
    ['no origin', { origin: '' }, 'origin-wrong'],
    ['another host name', { host: 'rebound.example' }, 'host-wrong'],
    ['no token', { protocols: [SUBPROTOCOL] }, 'token-missing'],
    ['a stale token', { protocols: [SUBPROTOCOL, tokenSubprotocol('b'.repeat(48))] }, 'token-wrong'],
    ['an empty token', { protocols: [SUBPROTOCOL, 'paravane.token.'] }, 'token-wrong'],
    ['the token alone', { protocols: [tokenSubprotocol(token)] }, 'token-missing'],
    ['another path', { path: '/other' }, 'path-unknown'],
  ])('refuses %s', async (_what, options, reason) => {
    await expect(open(options)).rejects.toThrow(/403/);
    expect(refusals(reason)).toBe(1);
    expect(manager.sessions.size).toBe(1);
  });

  it('answers what is malformed or too large, and cuts off what is far too large or binary', async () => {
    const webSocket = await open();
    const answers: { error?: { code: string } }[] = [];
    webSocket.on('message', (data: Buffer) => answers.push(JSON.parse(data.toString())));
    webSocket.send('rubbish');
    webSocket.send(JSON.stringify({ id: 1, command: 'x', request: 'y'.repeat(MESSAGE_BYTES_LIMIT) }));
    await eventually(() => answers.length === 2, 'both answered');
    expect(answers.map(({ error }) => error?.code)).toEqual(['message-malformed', 'message-too-large']);
    const closed = new Promise((resolve) => webSocket.on('close', resolve));
    webSocket.send('y'.repeat(3 * MESSAGE_BYTES_LIMIT));
    expect(await closed).toBe(1009);
    expect(refusals('message-too-large')).toBe(2);
    const binary = await open();
    const ended = new Promise((resolve) => binary.on('close', resolve));
    binary.send(Buffer.from([1, 2, 3]));
    expect(await ended).toBe(1008);
  });

  it('allows a bounded number of windows', async () => {
    const all = await Promise.all(Array.from({ length: 32 }, () => open()));
    await expect(open()).rejects.toThrow(/403/);
    expect(refusals('sessions-too-many')).toBe(1);
    for (const webSocket of all) webSocket.terminate();
  });
});

it('a taken port is a clear error, or another one is found', async () => {
  await expect(WebServer.open(manager, gate, { port: server.port, token })).rejects.toMatchObject({
    code: 'port-taken',
  });
  const first = await WebServer.open(manager, gate, { token });
  const second = await WebServer.open(manager, gate, { token });
  expect(second.port).not.toBe(first.port);
  await first.close();
  await second.close();
});

it('the token outlives a restart until it is renewed', () => {
  const kept = webToken();
  expect(webToken()).toBe(kept);
  const renewed = webToken(true);
  expect(renewed).not.toBe(kept);
  expect(webToken()).toBe(renewed);
  expect(fs.statSync(path.join(fixture.runtimeDirectory, 'web.token')).mode & 0o077).toBe(0);
});

describe('the local socket', () => {
  it('wants the token first, and lines of bounded length', async () => {
    const local = await LocalServer.open(manager, gate, null);
    const entry = readManagerEntry(fixture.dataDirectory)!;
    const closedAfter = (text: string): Promise<string> =>
      new Promise((resolve) => {
        const socket = net.connect(entry.socket);
        let received = '';
        socket.on('error', () => undefined);
        socket.on('data', (chunk) => (received += chunk.toString()));
        socket.on('close', () => resolve(received));
        socket.write(text);
      });
    expect(await closedAfter('{"id":1,"command":"machine:list","request":{}}\n')).toBe('');
    expect(await closedAfter('wrong\n')).toBe('');
    expect(refusals('token-wrong')).toBe(2);
    await closedAfter(`${entry.token}\n${'x'.repeat(3 * MESSAGE_BYTES_LIMIT)}`);
    expect(refusals('message-too-large')).toBe(1);
    local.close();
    expect(readManagerEntry(fixture.dataDirectory)).toBeNull();
  });
});

it('a second server of one library is told where the first is', async () => {
  manager.close();
  const first = await serve({ port: 0 });
  await expect(serve({ port: 0 })).rejects.toMatchObject({
    code: 'manager-running',
    message: expect.stringContaining(first.url),
  });
  await first.close();
  const second = await serve({ port: 0 });
  await second.close();
});
