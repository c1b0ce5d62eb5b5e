// SPDX-License-Identifier: MIT
// One page of the stand-in: a page of Chromium whose requests go to the application's scheme handler and whose messages go to `ipcMain`.
import { EventEmitter } from 'node:events';
import * as fs from 'node:fs';
import type { Page, Route } from 'playwright-core';
import { fromChromium, PAGE_ORIGIN, toChromium } from './chromium.ts';
import { preparePage } from './page-side.ts';

export interface Frame {
  readonly url: string;
}

type Opener = (details: { url: string }) => { action: 'allow' | 'deny' };

/** What the application has given the stand-in to answer with. */
export interface Handlers {
  schemes: Map<string, (request: Request) => Response | Promise<Response>>;
  ipc: EventEmitter;
}

/** An event that can be prevented. */
export function preventable<Extra extends object>(
  extra: Extra,
): Extra & { prevented: boolean; preventDefault(): void } {
  const event = {
    ...extra,
    prevented: false,
    preventDefault() {
      event.prevented = true;
    },
  };
  return event;
}

let lastId = 0;

export class WebContents extends EventEmitter {
  readonly id = ++lastId;
  readonly mainFrame: Frame;
  page: Page | null = null;
  readonly #handlers: Handlers;
  readonly #preload: string;
  #opener: Opener = () => ({ action: 'deny' });
  #destroyed = false;
  /** Messages to the page leave one after the other. */
  #sending: Promise<unknown> = Promise.resolve();
  /** A navigation of the application's own, which nobody is asked about. */
  #ownNavigation = false;

  constructor(handlers: Handlers, preload: string) {
    super();
    this.#handlers = handlers;
    this.#preload = fs.readFileSync(preload, 'utf8');
    const url = (): string => this.getURL();
    this.mainFrame = Object.defineProperty({}, 'url', { get: url }) as Frame;
  }

  /** Takes a page of Chromium for its own. */
  async adopt(page: Page): Promise<void> {
    this.page = page;
    await page.exposeBinding('standInSend', (source, channel: string, text: string) => {
      const senderFrame =
        source.frame === page.mainFrame() ? this.mainFrame : { url: fromChromium(source.frame.url()) };
      this.#handlers.ipc.emit(channel, { sender: this, senderFrame }, ...(JSON.parse(text) as unknown[]));
    });
    await page.exposeBinding('standInDocument', () => this.emit('did-navigate', {}, this.getURL()));
    await page.exposeBinding('standInOpen', (_source, url: string) => {
      const { action } = this.#opener({ url: fromChromium(url) });
      if (action === 'allow') throw new Error('the stand-in opens no windows for pages');
    });
    await page.addInitScript(preparePage, this.#preload);
    await page.route('**/*', (route) => this.#answer(route));
    page.on('crash', () => this.emit('render-process-gone', {}, { reason: 'crashed', exitCode: 1 }));
  }

  async #answer(route: Route): Promise<void> {
    const request = route.request();
    const url = fromChromium(request.url());
    if (request.isNavigationRequest() && !this.#ownNavigation) {
      const isMainFrame = request.frame() === this.page?.mainFrame();
      const event = preventable({ url, isMainFrame });
      this.emit('will-frame-navigate', event);
      if (event.prevented) return route.abort('aborted');
    }
    const handler = this.#handlers.schemes.get(new URL(url).protocol.replace(':', ''));
    // Tests have no network, and pages have no business there.
    if (handler === undefined) return route.abort('blockedbyclient');
    const answer = await handler(new Request(url, { method: request.method() }));
    await route.fulfill({
      status: answer.status,
      headers: Object.fromEntries(answer.headers),
      body: Buffer.from(await answer.arrayBuffer()),
    });
  }

  async load(url: string): Promise<void> {
    await this.#navigate(async (page) => void (await page.goto(toChromium(url), { waitUntil: 'load' })));
  }

  reload(): void {
    void this.#navigate(async (page) => void (await page.reload())).catch(() => undefined);
  }

  async #navigate(go: (page: Page) => Promise<void>): Promise<void> {
    this.#ownNavigation = true;
    try {
      await go(this.page!);
    } finally {
      this.#ownNavigation = false;
    }
  }

  send(channel: string, ...values: unknown[]): void {
    const text = JSON.stringify(values);
    this.#sending = this.#sending.then(() =>
      this.page
        ?.evaluate(
          ([to, what]) =>
            (window as unknown as { standInDeliver?: (a: string, b: string) => void }).standInDeliver?.(to, what),
          [channel, text] as const,
        )
        // A page that is being replaced or closed hears nothing more.
        .catch(() => undefined),
    );
  }

  getURL(): string {
    return fromChromium(this.page?.url() ?? '');
  }

  setWindowOpenHandler(opener: Opener): void {
    this.#opener = opener;
  }

  isDestroyed(): boolean {
    return this.#destroyed;
  }

  /** The page is closed. */
  gone(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.emit('destroyed');
  }

  /** Lets Chromium grant what the application's handler grants. */
  async grant(check: (contents: WebContents, permission: string) => boolean): Promise<void> {
    const names = { 'clipboard-read': 'clipboard-read', 'clipboard-sanitized-write': 'clipboard-write' };
    const others = ['geolocation', 'notifications', 'camera', 'microphone', 'midi'];
    const asked = [...Object.entries(names), ...others.map((name) => [name, name])];
    const granted = asked.filter(([permission]) => check(this, permission)).map(([, name]) => name);
    await this.page?.context().grantPermissions(granted, { origin: PAGE_ORIGIN });
  }
}
