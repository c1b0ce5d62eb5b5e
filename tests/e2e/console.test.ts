// SPDX-License-Identifier: MIT
// The console and the host terminal in a real browser with a real guest: size, scrollback, typing, recording, devices, a shell of this computer.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BOOT_MS, consoleText, screenshotFile, TestWindow, typeLine, untilConsole } from './support/window.ts';

const PROMPT = /welcome:\S*#/;

let window: TestWindow;
let page: Page;
let machine: string;

beforeAll(async () => {
  window = await TestWindow.open();
  const made = await window.invoke('welcome:create', { task: 'make', variant: 'debian', name: 'Welcome', start: true });
  machine = made.machine.id;
  page = await window.page();
  await page.goto(`${window.url.split('#')[0]}#/machine/${machine}/console`);
  await untilConsole(page, PROMPT, BOOT_MS);
}, 180_000 + BOOT_MS);
afterAll(() => window?.close());

/** Everything that the console has, scrollback included. */
async function everything(of: Page): Promise<string> {
  await of.getByRole('button', { name: 'Copy selection or everything' }).click();
  return of.evaluate(() => navigator.clipboard.readText());
}

const sizeShown = async (of: Page): Promise<{ columns: number; rows: number }> => {
  const label = await of.getByRole('button', { name: /^Fit guest to window/ }).getAttribute('aria-label');
  const [columns, rows] = /(\d+) × (\d+)/.exec(label!)!.slice(1).map(Number);
  return { columns, rows };
};

async function popup(name: string): Promise<Page> {
  const opened = page.waitForEvent('popup');
  await page.getByRole('button', { name }).click();
  const found = await opened;
  found.setDefaultTimeout(20_000);
  return found;
}

describe('the size', () => {
  it('of the window reaches a guest that watches for it', async () => {
    const before = await sizeShown(page);
    await page.setViewportSize({ width: 1000, height: 600 });
    await expect.poll(() => sizeShown(page)).not.toEqual(before);
    const { columns, rows } = await sizeShown(page);
    await expect
      .poll(async () => (await typeLine(page, 'clear; stty size'), consoleText(page)), {
        timeout: 15_000,
        interval: 1000,
      })
      .toMatch(new RegExp(`(^|\\n)${rows} ${columns}\\n`));
    await page.setViewportSize({ width: 1280, height: 800 });
    await expect.poll(() => sizeShown(page)).toEqual(before);
  }, 60_000);

  it('is typed for one that does not, when that is asked for', async () => {
    await typeLine(page, 'killall follow-size dd; stty columns 70 rows 20; clear; stty size');
    await untilConsole(page, /20 70\n/);
    await page.getByRole('button', { name: /^Fit guest to window/ }).click();
    await typeLine(page, 'clear; stty size');
    const { columns, rows } = await sizeShown(page);
    await untilConsole(page, new RegExp(`(^|\\n)${rows} ${columns}\\n`));
  }, 60_000);
});

describe('questions of the guest', () => {
  // Raw, waiting at most half a second for more: what comes back is counted.
  const ask = (name: string): string =>
    `clear; stty -icanon -echo min 0 time 5; printf '\\033[6n'; sleep 1; dd bs=100 count=1 2>/dev/null | tr -cd R | wc -c | sed s/^/${name}:/; stty sane`;

  it('are answered once, however many windows look on', async () => {
    const second = await popup('Console in its own window');
    await untilConsole(second, PROMPT);
    await typeLine(page, ask('one'));
    await untilConsole(page, /one:1\n/);
    await typeLine(second, ask('two'));
    await untilConsole(second, /two:1\n/);
    await untilConsole(page, /two:1\n/);
    await second.close();
  }, 60_000);

  it('of the past are not answered when the page is loaded again', async () => {
    await typeLine(page, 'clear; stty -icanon -echo min 0 time 5; printf "\\033[6n\\033[c\\033[6n"; sleep 1; dd bs=100 count=1 of=/dev/null 2>/dev/null; echo as""ked; sleep 3; dd bs=100 count=1 2>/dev/null | wc -c | sed s/^/more:/; stty sane'); // prettier-ignore
    await untilConsole(page, /asked\n/);
    await page.reload();
    await untilConsole(page, /more:0\n/);
  }, 60_000);
});

describe('the scrollback', () => {
  it('is whole in a new window and after a reload', async () => {
    await typeLine(page, 'clear; seq 1000 1800');
    await untilConsole(page, /\n1800\n/);
    const numbers = Array.from({ length: 801 }, (_, i) => 1000 + i).join('\n');
    expect(await everything(page)).toContain(numbers);
    const second = await popup('Console in its own window');
    await untilConsole(second, /\n1800\n/);
    expect(await everything(second)).toContain(numbers);
    await second.close();
    await page.reload();
    await untilConsole(page, /\n1800\n/);
    expect(await everything(page)).toContain(numbers);
    await page.getByRole('button', { name: 'Search the console' }).click();
    await page.getByRole('searchbox', { name: 'Search the console' }).fill('1234');
    await expect.poll(() => page.locator('.count').innerText()).toBe('1 of 1');
    await page.keyboard.press('Escape');
  }, 60_000);
});

describe('typed text', () => {
  it('arrives whole while the guest is busy, at the highest speed', async () => {
    const text = Array.from(
      { length: 60 },
      (_, i) => `${i}: some words, "quotes", $dollars and \\backslashes ~ äöü`,
    ).join('\n');
    const settings = await window.invoke('settings:get', {});
    await window.invoke('settings:set', { changes: { console: { ...settings.console, typingSpeed: 10_000 } } });
    await typeLine(
      page,
      'clear; yes > /dev/null & stty -echo; cat > /tmp/typed; stty echo; kill %1; md5sum /tmp/typed',
    );
    await page.getByRole('button', { name: 'Type text…' }).click();
    await page.getByLabel('Text to type').fill(text);
    await page.getByLabel('Press Enter at the end').check();
    await page.getByRole('button', { name: 'Type it' }).click();
    await page.getByRole('dialog').waitFor({ state: 'detached', timeout: 60_000 });
    await page.locator('.xterm-helper-textarea').focus();
    await page.keyboard.press('Control+d');
    await untilConsole(page, new RegExp(createHash('md5').update(`${text}\n`).digest('hex')), 20_000);
  }, 120_000);

  it('warns of lines that no guest takes', async () => {
    await page.getByRole('button', { name: 'Type text…' }).click();
    await page.getByLabel('Text to type').fill(`short\n${'x'.repeat(4095)}`);
    await page.getByText('Line 2 is longer than the 4095 bytes').waitFor();
    await page.keyboard.press('Escape');
  });
});

it('own key combinations are in the menu', async () => {
  await window.invoke('settings:set', {
    changes: { keyCombinations: [{ label: 'Greet', bytes: Buffer.from('echo gre""eted\r').toString('base64') }] },
  });
  await page.getByRole('button', { name: 'Send keys' }).click();
  await page.getByRole('menuitem', { name: 'Greet' }).click();
  await untilConsole(page, /\ngreeted/);
}, 30_000);

it('a recording plays back what was seen', async () => {
  await typeLine(page, 'clear');
  await page.getByRole('button', { name: 'Record as asciicast' }).click();
  for (const word of ['first', 'second']) await typeLine(page, `echo ${word}-take; sleep 0.3`);
  await untilConsole(page, /\nsecond-take/);
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Stop recording and save' }).click();
  const [head, ...lines] = fs
    .readFileSync(await (await download).path(), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  const { columns, rows } = await sizeShown(page);
  expect(head).toMatchObject({ version: 2, width: columns, height: rows, title: 'Welcome' });
  const cast = lines as [number, string, string][];
  expect(cast.every(([at, code], i) => (code === 'o' || code === 'r') && at >= (cast[i - 1]?.[0] ?? 0))).toBe(true);
  // A word may be split between two pieces of output.
  const when = (words: string): number => cast.find((_, i) => cast.slice(0, i + 1).map(([, , text]) => text).join('').includes(words))![0]; // prettier-ignore
  expect(when('\nsecond-take') - when('\nfirst-take')).toBeGreaterThan(0.2);
}, 60_000);

describe('the console as a device', () => {
  it('is switched on in the menu, and other programs are in step', async () => {
    await page.getByRole('button', { name: 'Console options' }).click();
    await page.getByRole('menuitemcheckbox', { name: 'Offer to other programs' }).click();
    await page.getByRole('button', { name: /^Copy \/dev\/pts\// }).click();
    const device = await page.evaluate(() => navigator.clipboard.readText());
    expect((await window.commandLine.run('console', 'Welcome', '--pty')).stdout).toBe(`${device}\n`);
    const reader = spawn('cat', [device], { stdio: ['ignore', 'pipe', 'ignore'] });
    let seen = '';
    reader.stdout.on('data', (bytes: Buffer) => (seen += bytes.toString()));
    fs.writeFileSync(device, 'echo by-device-$((6 * 7))\r');
    await untilConsole(page, /\nby-device-42/);
    await expect.poll(() => seen).toMatch(/\nby-device-42/);
    // A program that has it open and does not read holds up nobody.
    reader.kill('SIGSTOP');
    await typeLine(page, 'seq 100000; echo all-""of-it');
    await untilConsole(page, /all-of-it/, 60_000);
    reader.kill('SIGKILL');
    await page.screenshot({ path: screenshotFile('console-device') });
  }, 120_000);
});

describe('the host terminal', () => {
  const tab = () => page.getByRole('tab', { name: 'Host terminal' }).click();

  it('is off, says how to change that, and notices when it is done', async () => {
    await tab();
    await page.getByRole('heading', { name: 'Terminals of this computer are off' }).waitFor();
    await page.screenshot({ path: screenshotFile('terminal-off') });
    await page.getByRole('button', { name: 'Copy', exact: true }).click();
    const line = await page.evaluate(() => navigator.clipboard.readText());
    expect(line).toBe('paravane settings hostTerminal on');
    expect((await window.commandLine.run(...line.split(' ').slice(1))).code).toBe(0);
    await page.getByRole('button', { name: 'Open a shell' }).click();
    await page.getByText('This computer, not the guest').waitFor();
  }, 30_000);

  it('is a shell of this computer in the machine’s folder that outlives the page', async () => {
    const { folder } = (await window.invoke('machine:get', { machine })).summary;
    await typeLine(page, 'PS1="host> "; clear; pwd; stty size; echo $((40 + 2))');
    const text = /^(\S+)\n(\d+) (\d+)\n42\n/m;
    await untilConsole(page, text);
    const [, where, rows, columns] = text.exec(await consoleText(page))!;
    expect(where).toBe(fs.realpathSync(folder));
    await page.getByText(`${columns} × ${rows}`).waitFor();
    await page.screenshot({ path: screenshotFile('terminal') });
    await page.reload();
    await untilConsole(page, text);
    const second = await popup('Terminal in its own window');
    await untilConsole(second, text);
    await typeLine(second, 'echo from-the-""popup');
    await untilConsole(page, /\nfrom-the-popup/);
    await second.close();
    await typeLine(page, 'exit 3');
    await page.getByText('The shell has ended with code 3.').waitFor();
    await page.getByRole('button', { name: 'Open a new shell' }).click();
    await typeLine(page, 'echo an""other');
    await untilConsole(page, /\nanother/);
  }, 60_000);

  it('notices that it is switched off and on while another page is shown', async () => {
    const other = () => page.getByRole('tab', { name: 'Overview' }).click();
    const off = page.getByRole('heading', { name: 'Terminals of this computer are off' });
    const open = page.getByRole('button', { name: /^Open a (new )?shell/ });
    for (let n = 0; n < 2; n++) {
      await other();
      await window.commandLine.run('settings', 'hostTerminal', 'off');
      await tab();
      await off.waitFor();
      await other();
      await window.commandLine.run('settings', 'hostTerminal', 'on');
      await tab();
      await open.waitFor();
    }
    await open.click();
    await page.locator('.host .where').waitFor();
  }, 60_000);

  it('goes when it is switched off, and a page cannot switch it on', async () => {
    await page.goto(`${window.url.split('#')[0]}#/settings`);
    await page.getByRole('button', { name: 'Switch off' }).click();
    await page.getByText('That is more than a page in a browser may switch on for itself').waitFor();
    await page
      .locator('section', { hasText: 'Host terminal' })
      .first()
      .screenshot({ path: screenshotFile('terminal-settings') });
    await expect(window.invoke('settings:set', { changes: { hostTerminal: true } })).rejects.toMatchObject({
      report: { code: 'terminal-not-from-page' },
    });
    await expect(window.invoke('terminal:start', { machine, size: { columns: 80, rows: 25 } })).rejects.toMatchObject({
      report: { code: 'terminal-off' },
    });
  }, 30_000);
});

it('never made the page complain', () => {
  // Chromium does not know IPv6 addresses in policies.
  expect(window.complaints.filter((text) => !/source: 'ws:/.test(text))).toEqual([]);
});
