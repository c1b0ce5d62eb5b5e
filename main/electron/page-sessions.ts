// SPDX-License-Identifier: MIT
// Carries the contract between pages and the gate: one session per document, and messages from nobody else.
import { ipcMain } from 'electron';
import type { IpcMainEvent, WebContents } from 'electron';
import { MESSAGE_CHANNEL, TAKEN_CHANNEL } from '../contract/bridge.ts';
import type { Gate } from '../manager/gate.ts';
import type { Manager } from '../manager/manager.ts';
import { Session } from '../manager/session.ts';
import { isPage } from './page-scheme.ts';

interface Page {
  session: Session;
  /** Characters sent to this document, and how many of them it has taken. */
  sent: number;
  taken: number;
}

export class PageSessions {
  readonly #manager: Manager;
  readonly #gate: Gate;
  /** Windows of ours; a page is only there once it has spoken. */
  readonly #windows = new Map<WebContents, Page | null>();

  constructor(manager: Manager, gate: Gate) {
    this.#manager = manager;
    this.#gate = gate;
    ipcMain.on(MESSAGE_CHANNEL, (event, text: unknown) => this.#message(event, text));
    ipcMain.on(TAKEN_CHANNEL, (event, characters: unknown) => this.#taken(event, characters));
  }

  /** From now on the page in this window may speak. */
  admit(contents: WebContents): void {
    this.#windows.set(contents, null);
    // Another document, or none: what the former one waited for is of no use to anybody.
    contents.on('did-navigate', () => this.#drop(contents));
    contents.on('render-process-gone', () => this.#drop(contents));
    contents.once('destroyed', () => {
      this.#drop(contents);
      this.#windows.delete(contents);
    });
  }

  /** The session of the page in a window; null before it has spoken. */
  sessionOf(contents: WebContents): Session | null {
    return this.#windows.get(contents)?.session ?? null;
  }

  windowOf(session: Session): WebContents | null {
    for (const [contents, page] of this.#windows) if (page?.session === session) return contents;
    return null;
  }

  /** Null, counted, for anything but the top frame of our own page in a window of ours. */
  #sender({ sender, senderFrame }: IpcMainEvent): WebContents | null {
    const known = this.#windows.has(sender) && senderFrame !== null && senderFrame === sender.mainFrame;
    if (known && isPage(senderFrame.url)) return sender;
    this.#manager.counters.refuse('sender-unknown');
    return null;
  }

  #message(event: IpcMainEvent, text: unknown): void {
    const contents = this.#sender(event);
    if (contents === null) return;
    const { session } = this.#windows.get(contents) ?? this.#open(contents);
    if (typeof text === 'string') {
      void this.#gate.receive(session, text);
      return;
    }
    this.#manager.counters.refuse('message-malformed');
    session.end('no text');
  }

  #taken(event: IpcMainEvent, characters: unknown): void {
    const contents = this.#sender(event);
    const page = contents === null ? null : this.#windows.get(contents);
    if (!page) return;
    if (typeof characters !== 'number' || !(characters >= page.taken && characters <= page.sent)) {
      this.#manager.counters.refuse('message-malformed');
      return;
    }
    page.taken = characters;
    this.#manager.drained(page.session);
  }

  #open(contents: WebContents): Page {
    const page: Page = {
      sent: 0,
      taken: 0,
      session: new Session('window', {
        send: (text) => {
          if (contents.isDestroyed()) return;
          page.sent += text.length;
          contents.send(MESSAGE_CHANNEL, text);
        },
        backlog: () => page.sent - page.taken,
        // A document that misbehaved or slept too long starts over.
        close: () => setImmediate(() => !contents.isDestroyed() && contents.reload()),
      }),
    };
    this.#windows.set(contents, page);
    this.#manager.addSession(page.session);
    return page;
  }

  #drop(contents: WebContents): void {
    this.#windows.get(contents)?.session.gone();
    if (this.#windows.has(contents)) this.#windows.set(contents, null);
  }
}
