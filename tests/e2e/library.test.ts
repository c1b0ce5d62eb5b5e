// SPDX-License-Identifier: MIT
// The library and what surrounds it, with the pointer: order by dragging, search, tags, menus, undo, what waits for the next start, the
// report, and a window that comes back as it was left. The machine is the fake one.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestWindow, untilState } from './support/window.ts';

let window: TestWindow;
let page: Page;

beforeAll(async () => {
  window = await TestWindow.open('fake');
  const kernel = path.join(window.commandLine.dataDirectory, 'kernel');
  fs.writeFileSync(kernel, 'no kernel');
  for (const [name, tags, notes] of [
    ['alpha', ['web'], 'The printer in the cellar'],
    ['beta', ['web', 'old'], ''],
    ['gamma', [], 'Nobody knows what this is'],
    ['delta', ['old'], ''],
  ] as const) {
    await window.invoke('machine:create', {
      ...{ name, kernel, notes, tags: [...tags] },
      ...{ commandLine: 'tick', memoryBytes: 2 ** 26 },
    });
  }
  page = await window.page();
  await page.getByRole('option', { name: /alpha/ }).waitFor();
});
afterAll(() => window?.close());

const row = (name: string) => page.getByRole('option', { name: new RegExp(`${name}\\b`) });
const names = (): Promise<string[]> => page.getByRole('option').locator('.name').allInnerTexts();
const copied = (): Promise<string> => page.evaluate(() => navigator.clipboard.readText());
const search = (): ReturnType<Page['getByRole']> => page.getByRole('searchbox', { name: 'Search the library' });

/** Drags a row to the upper or lower edge of another, as a hand does: in several moves. */
async function drag(name: string, to: string, edge: 'upper' | 'lower'): Promise<void> {
  const from = (await row(name).boundingBox())!;
  const target = (await row(to).boundingBox())!;
  await page.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
  await page.mouse.down();
  const y = edge === 'upper' ? target.y + 6 : target.y + target.height - 6;
  await page.mouse.move(target.x + target.width / 2, y + 20, { steps: 4 });
  await page.mouse.move(target.x + target.width / 2, y, { steps: 4 });
  await page.mouse.up();
}

describe('the library', () => {
  it('is put in order by dragging, and back by Undo', async () => {
    await drag('delta', 'beta', 'upper');
    await expect.poll(names).toEqual(['alpha', 'delta', 'beta', 'gamma']);
    await page.getByRole('status').getByRole('button', { name: 'Undo' }).click();
    await expect.poll(names).toEqual(['alpha', 'beta', 'gamma', 'delta']);
    await drag('alpha', 'delta', 'lower');
    await expect.poll(names).toEqual(['beta', 'gamma', 'delta', 'alpha']);
    await page.reload();
    await expect.poll(names).toEqual(['beta', 'gamma', 'delta', 'alpha']);
  });

  it.each([
    ['ALPH', ['alpha']],
    ['printer cellar', ['alpha']],
    ['xen pv', ['beta', 'gamma', 'delta', 'alpha']],
    ['old be', ['beta']],
    ['nothing like that', []],
  ])('finds "%s" in names, notes, tags and kind', async (words, found) => {
    await search().fill(words);
    await expect.poll(names).toEqual(found);
    if (found.length === 0) await page.getByRole('button', { name: 'Show all' }).click();
    else await search().fill('');
    await expect.poll(async () => (await names()).length).toBe(4);
  });

  it('shows one tag, or what is running', async () => {
    await page.getByRole('button', { name: '#old' }).click();
    await expect.poll(names).toEqual(['beta', 'delta']);
    await page.getByRole('button', { name: 'Running', exact: true }).click();
    await expect.poll(names).toEqual([]);
    await page.getByRole('button', { name: 'All', exact: true }).click();
  });

  it('has a menu on each machine, and says why something in it cannot be done', async () => {
    await row('beta').click({ button: 'right' });
    await page.getByRole('menuitem', { name: 'Start' }).click();
    await row('beta').click();
    await untilState(page, 'running');
    await row('beta').click({ button: 'right' });
    const clone = page.getByRole('menuitem', { name: 'Clone…' });
    expect(await clone.getAttribute('aria-disabled')).toBe('true');
    await clone.hover();
    await page.getByRole('tooltip').getByText('The machine is running; shut it down first.').waitFor();
    await page.keyboard.press('Escape');
  });

  it('gives every button the line for a shell', async () => {
    await page.locator('header').getByRole('button', { name: 'Pause' }).click({ button: 'right' });
    await page.getByRole('menuitem', { name: 'Copy as command' }).click();
    await expect.poll(copied).toBe('paravane pause beta');
    await page.locator('header').getByRole('button', { name: 'Shut down' }).click({ button: 'right' });
    await page.getByRole('menuitem', { name: 'Copy as command' }).click();
    await expect.poll(copied).toBe('paravane stop beta');
    await page.getByRole('button', { name: 'New machine' }).click({ button: 'right' });
    await page.getByRole('menuitem', { name: 'Copy as command' }).click();
    await expect.poll(copied).toMatch(/^paravane create /);
    await row('beta').click({ button: 'right' });
    await page.getByRole('menuitem', { name: 'Copy as command…' }).click();
    const lines = page.getByRole('dialog').getByRole('row');
    expect(await lines.count()).toBeGreaterThanOrEqual(15);
    await page.keyboard.press('Escape');
  });
});

describe('settings of a machine', () => {
  it('are live, or say that they wait for the next start', async () => {
    await row('beta').click();
    await page.getByRole('tab', { name: 'Settings' }).click();
    await page.getByLabel('Notes').fill('seen');
    await page.getByLabel('Notes').blur();
    await expect
      .poll(async () => (await window.invoke('machine:list', {})).machines.find(({ name }) => name === 'beta')?.notes)
      .toBe('seen');
    const memory = page.locator('.field', { hasText: 'Memory' });
    await memory.getByText('at next start', { exact: true }).waitFor();
    await memory.getByRole('button', { name: 'Twice as much' }).click();
    await memory.getByText('changed, at next start').waitFor();
    await page.getByText('Some changes wait for the next start of the guest.').waitFor();
    await page.getByRole('status').getByRole('button', { name: 'Undo' }).last().click();
    await memory.getByText('changed, at next start').waitFor({ state: 'detached' });
    const vcpus = page.getByLabel('vCPUs');
    expect(await vcpus.isDisabled()).toBe(true);
    const why = await vcpus.getAttribute('aria-describedby');
    expect(await page.locator(`#${why}`).innerText()).not.toBe('');
  });

  it('offer force to those who wait for a guest that does not listen', async () => {
    const { machines } = await window.invoke('machine:list', {});
    const gamma = machines.find(({ name }) => name === 'gamma')!.id;
    await window.invoke('machine:set', { machine: gamma, changes: { commandLine: 'deaf tick' } });
    await row('gamma').click();
    await window.invoke('machine:start', { machine: gamma });
    await untilState(page, 'running');
    await window.invoke('machine:stop', { machine: gamma, how: 'ask', seconds: 1 });
    const notice = page.getByRole('alert').filter({ hasText: 'was asked to shut down' });
    await notice.getByRole('button', { name: 'Force off' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Force off' }).click();
    await untilState(page, 'off');
  });
});

describe('the window', () => {
  it('opens where it was left, as wide as it was left', async () => {
    await row('delta').click();
    await page.getByRole('tab', { name: 'Log' }).click();
    const splitter = page.getByRole('separator', { name: 'Width of the library' });
    const width = async (): Promise<number> => (await page.locator('nav.library').boundingBox())?.width ?? 0;
    const before = await width();
    await splitter.focus();
    for (let i = 0; i < 3; i++) await page.keyboard.press('ArrowRight');
    const wanted = before + 30;
    await expect.poll(width).toBe(wanted);
    await expect
      .poll(async () => (await window.invoke('settings:get', {})).layout.place, { timeout: 5000 })
      .toMatch(/^#\/machine\/\w+\/log$/);
    await page.close();
    page = await window.page();
    await page.getByRole('heading', { name: 'delta', level: 1 }).waitFor();
    await page.getByRole('tab', { name: 'Log', selected: true }).waitFor();
    expect(await width()).toBe(wanted);
  });

  it('does not move where people want no motion', async () => {
    const still = await window.page({ reducedMotion: 'reduce' });
    await still.locator('html[data-motion=reduced]').waitFor({ state: 'attached' });
    await still.getByRole('button', { name: 'New machine' }).click();
    const times = await still.evaluate(() =>
      [...document.querySelectorAll('dialog, dialog *, .button')].flatMap((element) => {
        const { animationDuration, transitionDuration } = getComputedStyle(element);
        return `${animationDuration}, ${transitionDuration}`.split(', ').map(parseFloat);
      }),
    );
    expect(Math.max(...times)).toBe(0);
    await still.context().close();
  });

  it('saves a report without personal paths', async () => {
    const home = os.homedir();
    await page.goto(`${new URL(page.url()).origin}/#/diagnostics`);
    await page.getByRole('heading', { name: 'Diagnostics' }).waitFor();
    await page.getByText('Refused messages').waitFor();
    const download = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Save a report' }).click();
    const file = await (await download).path();
    const list = execFileSync('python3', ['-m', 'zipfile', '-l', file], { encoding: 'utf8' });
    expect(list).toMatch(/README\.txt[\s\S]*host\.json[\s\S]*diagnostics\.json[\s\S]*machines\.json/);
    const out = path.join(window.commandLine.dataDirectory, 'report');
    execFileSync('python3', ['-m', 'zipfile', '-e', file, out]);
    for (const name of fs.readdirSync(out)) {
      const text = fs.readFileSync(path.join(out, name), 'utf8');
      expect(text, name).not.toContain(`${home}/`);
      expect(text, name).not.toContain(window.commandLine.dataDirectory);
      expect(text, name).not.toMatch(new RegExp(`"${os.hostname()}"`));
    }
    expect(fs.readFileSync(path.join(out, 'machines.json'), 'utf8')).toContain('beta');
  });

  it('never made the page complain', () => {
    expect(window.complaints.filter((text) => !/source: 'ws:/.test(text))).toEqual([]);
  });
});
