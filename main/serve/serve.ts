// SPDX-License-Identifier: MIT
// `paravane serve`: a manager that stays, its window in a browser, and its door for the command line.
import { spawn } from 'node:child_process';
import { PvError, pvError } from '../../engine/errors.ts';
import { dataDirectory } from '../library/directories.ts';
import { Gate } from '../manager/gate.ts';
import { Manager } from '../manager/manager.ts';
import { LocalServer, readManagerEntry } from './local-socket.ts';
import { WebServer, webToken } from './web-server.ts';

export interface ServeOptions {
  port?: number | undefined;
  machineModule?: string | undefined;
  /** Make old addresses invalid. */
  newToken?: boolean;
}

export interface Served {
  url: string;
  manager: Manager;
  close(): Promise<void>;
}

/** Starts everything. Rejects with `manager-running` (and its address), `port-taken`, `port-unusable`. */
export async function serve(options: ServeOptions = {}): Promise<Served> {
  let manager: Manager;
  try {
    const { machineModule } = options;
    manager = await Manager.open({ resident: true, ...(machineModule !== undefined && { machineModule }) });
  } catch (error) {
    if (!(error instanceof PvError) || error.code !== 'manager-running') throw error;
    const entry = readManagerEntry(dataDirectory());
    throw pvError('manager-running', { where: entry?.url ?? `process ${entry?.pid ?? 'unknown'}` }, error);
  }
  const gate = new Gate(manager);
  let web: WebServer | null = null;
  try {
    web = await WebServer.open(manager, gate, { port: options.port, token: webToken(options.newToken) });
    const local = await LocalServer.open(manager, gate, web.url);
    const opened = web;
    return {
      url: web.url,
      manager,
      async close() {
        local.close();
        manager.close();
        await opened.close();
      },
    };
  } catch (error) {
    manager.close();
    await web?.close();
    throw error;
  }
}

/** Where the window is when that is why `serve` failed: somebody else serves this library already. Null for any other error. */
export function urlOfOther(error: unknown): string | null {
  if (!(error instanceof PvError) || error.code !== 'manager-running') return null;
  return readManagerEntry(dataDirectory())?.url ?? null;
}

/** Opens an address in the user's browser; false when there is no program for that. */
export function openInBrowser(url: string): Promise<boolean> {
  const [program, ...args] =
    process.platform === 'darwin'
      ? ['open', url]
      : process.platform === 'win32'
        ? ['cmd', '/c', 'start', '""', url.replaceAll('&', '^&')]
        : ['xdg-open', url];
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: 'ignore', detached: true });
    // Some openers stay as long as the browser does.
    const timer = setTimeout(() => done(true), 2000);
    const done = (opened: boolean): void => {
      clearTimeout(timer);
      child.unref();
      resolve(opened);
    };
    child.once('error', () => done(false));
    child.once('exit', (code) => done(code === 0));
  });
}
