// SPDX-License-Identifier: MIT
// Debian's Chromium as the browser part of the stand-in: one process, which tests can look into as well, by its debugging address.
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { chromium } from 'playwright-core';
import type { BrowserContext } from 'playwright-core';

const CHROMIUM = '/usr/bin/chromium';
const START_MS = 30_000;

/** Chromium knows no scheme of ours: pages are at this origin, which nothing but the stand-in answers. */
const ORIGIN = 'https://app.paravane.test';
const PRIVATE = 'paravane://app';

export const toChromium = (url: string): string => (url.startsWith(PRIVATE) ? ORIGIN + url.slice(PRIVATE.length) : url);
export const fromChromium = (url: string): string =>
  url.startsWith(ORIGIN) ? PRIVATE + url.slice(ORIGIN.length) : url;
export const PAGE_ORIGIN = ORIGIN;

export interface RunningChromium {
  endpoint: string;
  context: BrowserContext;
  kill(): void;
}

export async function startChromium(): Promise<RunningChromium> {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-chromium-'));
  const root = process.getuid?.() === 0;
  const child = spawn(
    CHROMIUM,
    [
      '--headless=new',
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
      '--disable-gpu',
      '--no-first-run',
      '--window-size=1280,800',
      ...(root ? ['--no-sandbox'] : []),
      'about:blank',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const endpoint = await new Promise<string>((resolve, reject) => {
    let text = '';
    const timer = setTimeout(() => reject(new Error(`Chromium did not start:\n${text}`)), START_MS);
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const match = /DevTools listening on (ws:\S+)/.exec(text);
      if (match === null) return;
      clearTimeout(timer);
      resolve(match[1]);
    });
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`Chromium ended:\n${text}`)));
  });
  const browser = await chromium.connectOverCDP(endpoint);
  return {
    endpoint,
    context: browser.contexts()[0],
    kill() {
      child.kill('SIGKILL');
      try {
        fs.rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
      } catch {
        // Its helpers write a little longer; the directory is a temporary one.
      }
    },
  };
}
