// SPDX-License-Identifier: MIT
// What a hostile page or program on this computer can throw at the manager's doors, over real sockets: everything is refused, counted and
// shown by the diagnostics, and the manager goes on serving.
import * as net from 'node:net';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import type { TestSession } from '../../tests/support/manager.ts';
import { ManagerFixture } from '../../tests/support/manager.ts';
import { eventually } from '../../tests/support/paravane.ts';
import { SOCKET_PATH, SUBPROTOCOL, tokenSubprotocol } from '../contract/wire.ts';
import type { Gate } from '../manager/gate.ts';
import type { Manager } from '../manager/manager.ts';
import { LocalServer, readManagerEntry } from './local-socket.ts';
import { WebServer } from './web-server.ts';

let fixture: ManagerFixture;
let manager: Manager;
let gate: Gate;
let page: TestSession;
let server: WebServer;
const token = 'a'.repeat(48);

beforeEach(async () => {
  fixture = new ManagerFixture();
  ({ manager, gate, page } = await fixture.open());
  server = await WebServer.open(manager, gate, { port: 0, token, rendererDirectory: fixture.directory });
});
afterEach(async () => {
  await server.close();
  fixture.dispose();
});

const own = (): string => `127.0.0.1:${server.port}`;
const refusals = async (): Promise<Record<string, number>> => (await page.invoke('diagnostics:get', {})).refusals;

/** Sends bytes as they are; resolves with everything that came back until the server closed the connection. */
function rawly(bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect(server.port, '127.0.0.1');
    let received = '';
    socket.on('data', (chunk) => (received += chunk.toString('latin1')));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(received));
    socket.setTimeout(2000, () => socket.destroy());
    socket.write(bytes);
  });
}

const request = (target: string, headers: string[] = [], method = 'GET'): Promise<string> =>
  rawly(`${method} ${target} HTTP/1.1\r\nHost: ${own()}\r\n${headers.map((h) => `${h}\r\n`).join('')}Connection: close\r\n\r\n`); // prettier-ignore

const statusOf = (response: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(response)?.[1] ?? 0);

async function expectAlive(): Promise<void> {
  expect(statusOf(await request('/'))).toBe(200);
}

describe('requests', () => {
  it.each([
    '//',
    '///etc/passwd',
    '//evil.example/',
    '/\\evil',
    '*',
    'http://evil.example/',
    'http://[',
    '/%c0%ae%c0%ae/x.json',
    '/..%5c..%5cx.json',
    `/${'a'.repeat(8000)}.js`,
  ])('for %s find nothing', async (target) => {
    expect([404, 400]).toContain(statusOf(await request(target)));
    await expectAlive();
  });

  it('of any form get an answer or are cut off, and nothing else happens', async () => {
    const target = fc.string({ unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)) });
    await fc.assert(
      fc.asyncProperty(target, fc.constantFrom('GET', 'HEAD', 'POST', 'OPTIONS', 'TRACE'), async (text, method) => {
        expect([0, 200, 400, 403, 404, 405]).toContain(statusOf(await request(`/${text}`, [], method)));
      }),
      { numRuns: 150 },
    );
    await expectAlive();
  });

  it('that are no HTTP are refused and counted', async () => {
    const large = `GET / HTTP/1.1\r\nHost: ${own()}\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`;
    const smuggled = `GET / HTTP/1.1\r\nHost: ${own()}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nx`;
    for (const bytes of ['\0\x01\x02 rubbish\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', large, smuggled])
      expect(statusOf(await rawly(bytes))).toBe(400);
    expect((await refusals())['http-malformed']).toBe(4);
    await expectAlive();
  });

  it('by images, scripts and frames of pages elsewhere do not even learn that somebody is here', async () => {
    for (const site of ['cross-site', 'same-site']) {
      for (const [mode, dest] of [['no-cors', 'image'], ['no-cors', 'script'], ['cors', 'empty'], ['navigate', 'iframe']]) // prettier-ignore
        expect(statusOf(await request('/', [`Sec-Fetch-Site: ${site}`, `Sec-Fetch-Mode: ${mode}`, `Sec-Fetch-Dest: ${dest}`]))).toBe(403); // prettier-ignore
    }
    expect((await refusals())['site-wrong']).toBe(8);
    // A link may lead here, and our own page may load its files.
    for (const [site, mode, dest] of [
      ['cross-site', 'navigate', 'document'],
      ['none', 'navigate', 'document'],
      ['same-origin', 'cors', 'script'],
    ])
      expect(
        statusOf(await request('/', [`Sec-Fetch-Site: ${site}`, `Sec-Fetch-Mode: ${mode}`, `Sec-Fetch-Dest: ${dest}`])),
      ).toBe(200);
  });

  it('with a host name that was bound to this address are refused', async () => {
    for (const host of ['evil.example', `evil.example:${server.port}`, '127.0.0.1:1', '', `${own()}.evil.example`])
      expect(statusOf(await rawly(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`))).toBe(403);
    expect((await refusals())['host-wrong']).toBe(5);
  });
});

function open(): Promise<WebSocket> {
  const webSocket = new WebSocket(`ws://${own()}${SOCKET_PATH}`, [SUBPROTOCOL, tokenSubprotocol(token)], {
    origin: `http://${own()}`,
  });
  return new Promise((resolve, reject) => {
    webSocket.on('open', () => resolve(webSocket));
    webSocket.on('error', reject);
  });
}

interface Listened {
  webSocket: WebSocket;
  codes: string[];
  closed: Promise<{ code: number; reason: string }>;
}

async function listened(): Promise<Listened> {
  const webSocket = await open();
  const codes: string[] = [];
  webSocket.on('message', (data: Buffer) => {
    const answer = JSON.parse(data.toString()) as { error?: { code: string } };
    codes.push(answer.error?.code ?? 'ok');
  });
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    webSocket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
  });
  return { webSocket, codes, closed };
}

describe('a page with the token', () => {
  it('that sends too many messages is told so, and cut off when it goes on', async () => {
    const { webSocket, codes, closed } = await listened();
    for (let id = 0; id < 4000; id++) webSocket.send(JSON.stringify({ id, command: 'settings:get', request: {} }));
    expect(await closed).toEqual({ code: 1008, reason: 'too many messages' });
    expect(codes.filter((code) => code === 'ok').length).toBeGreaterThan(100);
    expect(codes.filter((code) => code === 'message-rate').length).toBeGreaterThan(500);
    expect((await refusals())['message-rate']).toBeGreaterThanOrEqual(2000);
    expect(manager.sessions.size).toBe(1);
    const other = await listened();
    other.webSocket.send(JSON.stringify({ id: 1, command: 'trash:list', request: {} }));
    await eventually(() => other.codes.length === 1, 'another page is served');
    expect(other.codes).toEqual(['ok']);
  });

  it('that sends rubbish is cut off', async () => {
    const { webSocket, codes, closed } = await listened();
    for (let n = 0; n < 20; n++) webSocket.send('{"id":1');
    expect(await closed).toEqual({ code: 1008, reason: 'too many malformed messages' });
    expect(codes.every((code) => code === 'message-malformed')).toBe(true);
    expect((await refusals())['message-malformed']).toBe(10);
  });

  it('that breaks the WebSocket protocol is cut off', async () => {
    const { webSocket, closed } = await listened();
    const raw = (webSocket as unknown as { _socket: net.Socket })._socket;
    // A text frame that is not masked (RFC 6455, section 5.1).
    raw.write(Buffer.from([0x81, 0x02, 0x7b, 0x7d]));
    expect((await closed).code).toBe(1002);
    expect((await refusals())['message-malformed']).toBe(1);
    await expectAlive();
  });

  it('that asks and does not read is cut off before it fills the memory', async () => {
    const { webSocket } = await listened();
    (webSocket as unknown as { _socket: net.Socket })._socket.pause();
    await eventually(() => manager.sessions.size === 2, 'connected');
    const session = [...manager.sessions].find((candidate) => candidate !== page.session)!;
    const text = 'x'.repeat(1_000_000);
    let sent = 0;
    while (!session.closed && sent < 100) {
      session.send(text);
      sent++;
    }
    expect(session.closed).toBe(true);
    expect(sent).toBeLessThan(50);
    webSocket.terminate();
  });
});

describe('the local socket', () => {
  it('waits neither long nor for much before the token', async () => {
    const local = await LocalServer.open(manager, gate, null);
    const { socket: address } = readManagerEntry(fixture.dataDirectory)!;
    const closedAfter = (bytes: string): Promise<number> =>
      new Promise((resolve) => {
        const start = Date.now();
        const socket = net.connect(address);
        socket.on('error', () => undefined);
        socket.on('close', () => resolve(Date.now() - start));
        socket.write(bytes);
      });
    expect(await closedAfter('y'.repeat(1000))).toBeLessThan(2000);
    expect(await closedAfter('slow')).toBeGreaterThan(4000);
    expect((await refusals())['token-missing']).toBe(2);
    local.close();
  }, 20_000);
});
