// SPDX-License-Identifier: MIT
// The desktop application under test: the emitted files in real Electron, driven by Playwright, or in the stand-in, driven the same way.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { _electron, chromium } from 'playwright-core';
import type { Browser, ElectronApplication, Page } from 'playwright-core';
import { APP_DIRECTORY } from '../../main/build/emit.ts';
import { installedElectron } from '../../main/desktop/electron-binary.ts';
import { CommandLine } from '../support/paravane.ts';

export const MAIN = path.join(APP_DIRECTORY, 'main/electron/main.js');
const REGISTER = fileURLToPath(new URL('./stand-in/register.ts', import.meta.url));
const START_MS = 60_000;
const PAGE = /\/index\.html(#.*)?$/;

export type Runtime = 'electron' | 'stand-in';

/** Electron's binary, or null: then only the stand-in is tested. */
export const electronBinary = installedElectron();

/** What a test may reach of the application's own process. Loosely typed: it is Electron there or the stand-in. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- functions are sent as text and run elsewhere
type Inside = any;

/** One start of the application. */
export interface RunningDesktop {
  evaluate<Result>(
    inside: (electron: Inside, argument: Inside) => Result | Promise<Result>,
    argument?: unknown,
  ): Promise<Result>;
  pages(): Page[];
  /** Exit code, once it has ended. */
  readonly ended: Promise<number | null>;
  kill(): void;
}

export class DesktopApp {
  readonly commandLine: CommandLine;
  readonly runtime: Runtime;
  readonly #running: RunningDesktop[] = [];

  /** Directories of its own; several starts share them. */
  constructor(runtime: Runtime, machine: 'fake' | 'engine') {
    this.runtime = runtime;
    this.commandLine = new CommandLine(machine);
  }

  async start(...files: string[]): Promise<RunningDesktop> {
    const started = this.runtime === 'electron' ? await this.#startElectron(files) : await this.#startStandIn(files);
    this.#running.push(started);
    return started;
  }

  async #startElectron(files: string[]): Promise<RunningDesktop> {
    const app: ElectronApplication = await _electron.launch({
      executablePath: electronBinary!,
      args: [APP_DIRECTORY, ...files],
      env: this.commandLine.environment as Record<string, string>,
      timeout: START_MS,
    });
    const child = app.process();
    return {
      evaluate: (inside, argument) => app.evaluate(inside, argument),
      pages: () => app.windows(),
      ended: endOf(child),
      kill: () => child.kill('SIGKILL'),
    };
  }

  async #startStandIn(files: string[]): Promise<RunningDesktop> {
    const child = spawn(process.execPath, ['--import', REGISTER, MAIN, ...files], {
      env: this.commandLine.environment,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    let output = '';
    for (const stream of [child.stdout!, child.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => (output += text));
    const ended = endOf(child);
    const waiting = new Map<number, { resolve(value: never): void; reject(error: Error): void }>();
    let browser: Browser | null = null;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the application did not start:\n${output}`)), START_MS);
      // A second instance ends at once, and that is what it should do.
      void ended.then((code) => (code === 0 ? resolve() : reject(new Error(`it ended with ${code}:\n${output}`))));
      child.on('message', (message: { type: string; endpoint: string; id: number; value: never; error?: string }) => {
        if (message.type === 'ready') {
          chromium.connectOverCDP(message.endpoint).then((connected) => {
            browser = connected;
            resolve();
          }, reject);
          return;
        }
        const entry = waiting.get(message.id);
        waiting.delete(message.id);
        if (message.error !== undefined) entry?.reject(new Error(`${message.error}\n${output}`));
        else entry?.resolve(message.value);
      });
      void ended.finally(() => clearTimeout(timer));
    });
    let lastId = 0;
    return {
      evaluate: (inside, argument) =>
        new Promise((resolve, reject) => {
          const id = ++lastId;
          waiting.set(id, { resolve, reject });
          child.send({ type: 'evaluate', id, body: String(inside), argument });
        }),
      pages: () =>
        browser
          ?.contexts()[0]
          .pages()
          .filter((page) => PAGE.test(page.url())) ?? [],
      ended,
      kill: () => child.kill('SIGKILL'),
    };
  }

  /** Ends what runs and removes the directories. */
  async dispose(): Promise<void> {
    for (const running of this.#running) {
      running.kill();
      await running.ended;
    }
    this.commandLine.dispose();
  }
}

function endOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)));
}

/** The page whose address ends like this. */
export async function pageAt(running: RunningDesktop, pattern: RegExp, timeoutMs = 30_000): Promise<Page> {
  for (const end = Date.now() + timeoutMs; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const found = running.pages().find((page) => pattern.test(page.url()));
    if (found !== undefined) return found;
    if (Date.now() > end)
      throw new Error(`no page ${pattern} among ${running.pages().map((page) => page.url()).join(', ') || 'none'}`); // prettier-ignore
  }
}

/** The emitted application must be there and as new as its sources. */
export async function requireApp(): Promise<void> {
  const { emitApp, isFresh } = await import('../../main/build/emit.ts');
  if (!isFresh()) await emitApp();
  if (!fs.existsSync(MAIN)) throw new Error('Run "npm run build" first.');
}
