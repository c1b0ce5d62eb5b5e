// SPDX-License-Identifier: MIT
// `app` of the stand-in: ready when Chromium is, quits as Electron does, and is there once for each `userData`.
import { EventEmitter } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { BrowserWindow, environment } from './browser-window.ts';
import { startChromium } from './chromium.ts';
import { preventable } from './web-contents.ts';

const POLL_MS = 100;

class Application extends EventEmitter {
  readonly isPackaged = false;
  readonly #paths = new Map<string, string>();
  readonly #ready: Promise<void>;
  #quitting = false;
  #lock: string | null = null;

  constructor() {
    super();
    this.#ready = this.#start();
    environment.created = (contents) => this.emit('web-contents-created', {}, contents);
    environment.allClosed = () => {
      if (this.#quitting) this.#end();
      else if (!this.emit('window-all-closed')) this.quit();
    };
  }

  async #start(): Promise<void> {
    // What is to be done before the application is ready is done while its modules are evaluated.
    await new Promise((resolve) => setImmediate(resolve));
    environment.chromium = await startChromium();
    process.send?.({ type: 'ready', endpoint: environment.chromium.endpoint });
  }

  whenReady(): Promise<void> {
    return this.#ready;
  }

  setPath(name: string, directory: string): void {
    this.#paths.set(name, directory);
  }

  getPath(name: string): string {
    return this.#paths.get(name) ?? '';
  }

  setAppUserModelId(): void {
    // Means something to Windows only.
  }

  /** False when another one has this `userData`; that one is told what it was started with. */
  requestSingleInstanceLock(data: unknown): boolean {
    const directory = this.getPath('userData');
    const lock = path.join(directory, 'stand-in.lock');
    if (holderOf(lock) !== null) {
      fs.writeFileSync(path.join(directory, `second-${process.pid}.tmp`), JSON.stringify(data));
      fs.renameSync(path.join(directory, `second-${process.pid}.tmp`), path.join(directory, `second-${process.pid}`));
      return false;
    }
    fs.writeFileSync(lock, String(process.pid));
    this.#lock = lock;
    setInterval(() => this.#secondInstances(directory), POLL_MS).unref();
    return true;
  }

  #secondInstances(directory: string): void {
    for (const name of fs.readdirSync(directory).filter((file) => /^second-\d+$/.test(file))) {
      const file = path.join(directory, name);
      const data = JSON.parse(fs.readFileSync(file, 'utf8')) as unknown;
      fs.rmSync(file);
      this.emit('second-instance', {}, [], directory, data);
    }
  }

  quit(): void {
    const event = preventable({});
    this.emit('before-quit', event);
    if (event.prevented) return;
    this.#quitting = true;
    const windows = BrowserWindow.getAllWindows();
    if (windows.length === 0) this.#end();
    // A window that stays keeps the application.
    else if (!windows.map((window) => window.close()).every(Boolean)) this.#quitting = false;
  }

  #end(): void {
    this.emit('will-quit', preventable({}));
    this.exit(0);
  }

  exit(code = 0): void {
    if (this.#lock !== null) fs.rmSync(this.#lock, { force: true });
    environment.chromium?.kill();
    process.exit(code);
  }
}

function holderOf(lock: string): number | null {
  try {
    const pid = Number(fs.readFileSync(lock, 'utf8'));
    process.kill(pid, 0);
    return pid;
  } catch {
    return null;
  }
}

export const app = new Application();
