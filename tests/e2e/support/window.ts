// SPDX-License-Identifier: MIT
// The real window for end-to-end tests: `paravane serve` with a library of its own, looked at by Debian's Chromium.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { WebSocket } from 'ws';
import type { CommandName, Reply, Request } from '../../../main/contract/commands.ts';
import { MessageConnection } from '../../../main/contract/connection.ts';
import { SOCKET_PATH, SUBPROTOCOL, tokenSubprotocol } from '../../../main/contract/wire.ts';
import { CommandLine } from '../../support/paravane.ts';
import type { RunningCommand } from '../../support/paravane.ts';
import { requireProgram } from '../../support/requirements.ts';

const CHROMIUM = '/usr/bin/chromium';

/** Where pictures of pages go, to be looked at. */
export const SCREENSHOTS = fileURLToPath(new URL('../../../build/screenshots', import.meta.url));

/** A guest needs this long to its prompt when everything else runs at the same time. */
export const BOOT_MS = 120_000;

export class TestWindow {
  readonly commandLine: CommandLine;
  readonly browser: Browser;
  url = '';
  /** What pages complained about: errors in scripts and refused resources. */
  readonly complaints: string[] = [];
  #server: RunningCommand | null = null;
  #direct: Promise<MessageConnection> | null = null;

  /** `environment`: added to that of the manager. `user`: whom the manager runs as, when we may choose. */
  static async open(
    machine: 'engine' | 'fake' = 'engine',
    { environment = {}, user }: { environment?: Record<string, string>; user?: number } = {},
  ): Promise<TestWindow> {
    requireProgram(CHROMIUM, 'chromium');
    const root = process.getuid?.() === 0;
    const browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: ['--disable-gpu', ...(root ? ['--no-sandbox'] : [])],
    });
    const window = new TestWindow(new CommandLine(machine, user), browser);
    Object.assign(window.commandLine.environment, environment);
    await window.startManager();
    return window;
  }

  private constructor(commandLine: CommandLine, browser: Browser) {
    this.commandLine = commandLine;
    this.browser = browser;
  }

  async startManager(): Promise<void> {
    const server = this.commandLine.start('serve', ...(this.url === '' ? [] : ['--port', new URL(this.url).port]));
    await server.until(/http:\/\/\S+/);
    this.url = /http:\/\/\S+/.exec(server.stdout)![0];
    this.#server = server;
  }

  /** Ends the manager as a crash would; guests run on. */
  async killManager(): Promise<void> {
    this.#server?.child.kill('SIGKILL');
    await this.#server?.finished;
    this.#server = null;
  }

  async context(options: Parameters<Browser['newContext']>[0] = {}): Promise<BrowserContext> {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    context.setDefaultTimeout(20_000);
    context.on('weberror', (error) => this.complaints.push(String(error.error().stack)));
    context.on('console', (message) => {
      if (message.type() === 'error') this.complaints.push(message.text());
    });
    return context;
  }

  /** Asks the manager directly, to prepare what a page is to show. Rejects with the manager's error. */
  async invoke<Name extends CommandName>(name: Name, request: Request<Name>): Promise<Reply<Name>> {
    this.#direct ??= this.#connect();
    return (await this.#direct).invoke(name, request);
  }

  async #connect(): Promise<MessageConnection> {
    const { origin, host, hash } = new URL(this.url);
    const protocols = [SUBPROTOCOL, tokenSubprotocol(hash.replace('#token=', ''))];
    const socket = new WebSocket(`ws://${host}${SOCKET_PATH}`, protocols, { origin });
    const connection = new MessageConnection((text) => socket.send(text));
    socket.on('message', (data: Buffer) => connection.receive(data.toString()));
    socket.on('close', () => (this.#direct = null));
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    return connection;
  }

  /** A page of the window; `hash` leads to a place in it. */
  async page(options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
    const page = await (await this.context(options)).newPage();
    await page.goto(this.url);
    return page;
  }

  async close(): Promise<void> {
    await this.browser.close();
    this.#server?.child.kill('SIGTERM');
    await this.#server?.finished;
    this.commandLine.dispose();
  }
}

/** What a console shows now. */
export async function consoleText(page: Page): Promise<string> {
  return (await page.locator('.xterm-rows > div').allInnerTexts())
    .map((line) => line.replaceAll('\u00a0', ' ').trimEnd())
    .join('\n');
}

export async function untilConsole(page: Page, pattern: RegExp, timeoutMs = 30_000): Promise<void> {
  const end = Date.now() + timeoutMs;
  let text = '';
  while (Date.now() < end) {
    text = await consoleText(page);
    if (pattern.test(text)) return;
    await page.waitForTimeout(200);
  }
  throw new Error(`no ${pattern} on the console within ${timeoutMs} ms:\n${text}`);
}

/** Types a line into the console and presses Enter. */
export async function typeLine(page: Page, line: string): Promise<void> {
  await page.locator('.xterm-helper-textarea').focus();
  await page.keyboard.type(line);
  await page.keyboard.press('Enter');
}

export async function state(page: Page): Promise<string> {
  return (await page.locator('header .state .state').innerText()).trim();
}

export async function untilState(page: Page, wanted: string, timeoutMs = 20_000): Promise<void> {
  const mark = page.locator('header .state').first();
  await mark.filter({ hasText: wanted }).waitFor({ timeout: timeoutMs });
}

export function screenshotFile(name: string): string {
  fs.mkdirSync(SCREENSHOTS, { recursive: true });
  return path.join(SCREENSHOTS, `${name}.png`);
}
