// SPDX-License-Identifier: MIT
// The stand-in for the part of Electron that the shell uses, in Node with Debian's Chromium. What it has not is not used by the shell, or the
// shell's tests fail on it. Tests reach into it as Playwright reaches into Electron: by functions evaluated in this process.
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import * as fs from 'node:fs';
import * as os from 'node:os';
import { app } from './application.ts';
import { BrowserWindow, environment } from './browser-window.ts';
// What tests reach into is what the shell imports: the module itself.
import * as electron from './electron.ts';
import { Menu, Tray } from './menus.ts';
import type { WebContents } from './web-contents.ts';

export { app, BrowserWindow, Menu, Tray };

const { handlers } = environment;

const privileged = new Set<string>();
export const protocol = {
  registerSchemesAsPrivileged(schemes: { scheme: string }[]) {
    if (environment.chromium !== null)
      throw new Error('protocol.registerSchemesAsPrivileged: the app is ready already');
    for (const { scheme } of schemes) privileged.add(scheme);
  },
};

export const session = {
  defaultSession: {
    protocol: {
      handle(scheme: string, handler: (request: Request) => Response | Promise<Response>) {
        if (!privileged.has(scheme)) throw new Error(`the scheme ${scheme} is not registered as privileged`);
        handlers.schemes.set(scheme, handler);
      },
    },
    /** Asked by pages in Electron; here the check below decides alone, because Chromium asks nobody. */
    setPermissionRequestHandler: () => undefined,
    setPermissionCheckHandler(check: (contents: WebContents, permission: string) => boolean) {
      environment.permissions = check;
    },
    setDevicePermissionHandler: () => undefined,
  },
};

export const ipcMain = {
  on: (channel: string, listener: (...values: unknown[]) => void) => handlers.ipc.on(channel, listener),
};

/** Nobody is at the screen: a question that no test answers waits for ever. */
const unanswered = (): Promise<never> => new Promise(() => undefined);
export const dialog: Record<string, (...values: unknown[]) => Promise<unknown>> = {
  showMessageBox: unanswered,
  showOpenDialog: unanswered,
};

export const screen = { getAllDisplays: () => [{ workArea: { x: 0, y: 0, width: 1920, height: 1080 } }] };

export const nativeImage = {
  createFromPath(file: string) {
    const image = { isEmpty: () => !fs.existsSync(file), resize: () => image };
    return image;
  },
};

export const shell = {
  opened: [] as string[],
  openExternal: (url: string) => Promise.resolve(void shell.opened.push(url)),
};

class UtilityProcess extends EventEmitter {
  readonly #child: ChildProcess;
  readonly stdout;
  readonly stderr;

  constructor(module: string, args: string[], options: { env: NodeJS.ProcessEnv; serviceName: string }) {
    super();
    this.#child = fork(module, args, {
      env: options.env,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      execArgv: ['--import', new URL('./parent-port.ts', import.meta.url).href],
    });
    this.stdout = this.#child.stdout;
    this.stderr = this.#child.stderr;
    this.#child.once('spawn', () => this.emit('spawn'));
    this.#child.on('message', (message) => this.emit('message', message));
    // As `waitpid` has it: the number of the signal, or the code.
    this.#child.once('exit', (code, signal) =>
      this.emit('exit', signal === null ? code : os.constants.signals[signal]),
    );
  }

  get pid(): number | undefined {
    return this.#child.exitCode === null ? this.#child.pid : undefined;
  }

  postMessage(message: unknown): void {
    this.#child.send(message as object);
  }

  kill(): boolean {
    return this.#child.kill('SIGTERM');
  }
}

export const utilityProcess = {
  fork: (module: string, args: string[], options: { env: NodeJS.ProcessEnv; serviceName: string }) =>
    new UtilityProcess(module, args, options),
};

/** A function sent by a test, as text, with its argument. */
interface Evaluation {
  type: 'evaluate';
  id: number;
  body: string;
  argument: unknown;
}

process.on('message', (message: Evaluation) => {
  const run = async (): Promise<unknown> => {
    const evaluated = new Function(`return (${message.body})`)() as (from: object, argument: unknown) => unknown;
    return evaluated(electron, message.argument);
  };
  run().then(
    (value) => process.send?.({ type: 'evaluated', id: message.id, value }),
    (error: unknown) => process.send?.({ type: 'evaluated', id: message.id, error: String(error) }),
  );
});
// Whoever ran the test is gone.
process.on('disconnect', () => app.exit(1));
