// SPDX-License-Identifier: MIT
// Every verb by keyboard alone, with focus that can always be seen. The machine is the fake one: here only the window counts.
import * as fs from 'node:fs';
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
  for (const name of ['alpha', 'beta', 'gamma']) {
    expect(
      await window.commandLine.run('create', `--kernel=${kernel}`, '--append=tick', '--tag=test', name),
    ).toMatchObject({ code: 0 });
  }
  page = await window.page();
  await page.getByRole('option', { name: /alpha/ }).waitFor();
});
afterAll(() => window?.close());

const press = (...keys: string[]) =>
  keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
const names = (): Promise<string[]> => page.getByRole('option').locator('.name').allInnerTexts();
const dialog = () => page.getByRole('dialog');

describe('by keyboard alone', () => {
  it('focus can be seen wherever Tab leads, and Tab leads everywhere', async () => {
    const seen = new Set<string>();
    for (let i = 0; i < 30; i++) {
      await press('Tab');
      const focus = await page.evaluate(() => {
        const element = document.activeElement as HTMLElement;
        const style = getComputedStyle(element);
        const visible = style.outlineStyle !== 'none' || element.getAttribute('role') === 'separator';
        return {
          name: `${element.tagName} ${element.getAttribute('aria-label') ?? element.innerText?.slice(0, 40) ?? ''}`,
          visible,
        };
      });
      if (focus.name.startsWith('BODY')) continue;
      expect(focus.visible, focus.name).toBe(true);
      seen.add(focus.name);
    }
    expect([...seen].join('\n')).toMatch(
      /Search or type a command[\s\S]*Search the library[\s\S]*alpha[\s\S]*New machine/,
    );
  }, 40_000);

  it('finds and chooses a machine', async () => {
    await press('Control+f');
    await page.keyboard.type('bet');
    await expect.poll(names).toEqual(['beta']);
    await press('ArrowDown');
    await page.getByRole('heading', { name: 'beta', level: 1 }).waitFor();
    await press('Control+f', 'Escape');
    await expect.poll(names).toEqual(['alpha', 'beta', 'gamma']);
  });

  it('starts, pauses, resumes, shuts down', async () => {
    await press('Alt+6', 'Control+Shift+L', 'Control+Enter');
    await untilState(page, 'running');
    // The log follows while it is shown.
    await page
      .getByRole('log')
      .getByText(/started as process/)
      .waitFor();
    await press('Control+k');
    await page.keyboard.type('pause');
    await press('Enter');
    await untilState(page, 'paused');
    await press('Control+Enter');
    await untilState(page, 'running');
    await press('Alt+2');
    await page.getByRole('tab', { name: 'Console', selected: true }).waitFor();
    await press('Control+Shift+L');
    expect(await page.evaluate(() => document.activeElement?.getAttribute('role'))).toBe('option');
    await press('Control+Shift+d');
    await untilState(page, 'off');
  }, 40_000);

  it('says why a key does nothing', async () => {
    await press('Control+Shift+z');
    await page.getByText('Only a running machine can be paused').waitFor();
  });

  it('renames, reorders, clones', async () => {
    await press('F2');
    await page.keyboard.type('better');
    await press('Enter');
    await expect.poll(names).toEqual(['alpha', 'better', 'gamma']);
    await press('Alt+Shift+ArrowDown');
    await expect.poll(names).toEqual(['alpha', 'gamma', 'better']);
    await press('Control+Shift+L', 'Control+z');
    await expect.poll(names).toEqual(['alpha', 'better', 'gamma']);
    await press('Control+Shift+k');
    await page.getByRole('heading', { name: 'Clone “better”' }).waitFor();
    await press('Enter');
    await expect.poll(names).toContain('better copy');
  }, 40_000);

  it('opens the menu of a machine, walks it, and gives the focus back', async () => {
    await press('Control+Shift+L', 'Shift+F10');
    await page.getByRole('menu').waitFor();
    await press('End');
    expect(await page.evaluate(() => (document.activeElement as HTMLElement).innerText)).toContain('Move to trash');
    await press('Home', 'Control+c');
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toBe("paravane start 'better copy'");
    await press('Shift+F10', 'Escape');
    await page.getByRole('menu').waitFor({ state: 'detached' });
    expect(await page.evaluate(() => document.activeElement?.getAttribute('role'))).toBe('option');
  });

  it('moves to the trash and undoes it', async () => {
    await press('Delete');
    await expect.poll(names).not.toContain('better copy');
    await press('Control+z');
    await expect.poll(names).toContain('better copy');
  });

  it('learns of every key from one sheet', async () => {
    await press('?');
    await dialog().getByText('Search or run a command', { exact: true }).waitFor();
    await press('Escape');
    await dialog().waitFor({ state: 'detached' });
  });

  it('changes settings and keys', async () => {
    await press('Control+,');
    await page.getByRole('heading', { name: 'Settings', level: 1 }).waitFor();
    await page.getByRole('button', { name: /^Key for Trash/ }).focus();
    await press('Enter', 'Alt+Shift+T');
    await page.getByRole('button', { name: 'Key for Trash: Alt+Shift+T. Press to change.' }).waitFor();
    await press('Alt+Shift+T');
    await page.getByRole('heading', { name: 'Trash' }).waitFor();
    await press('Alt+t');
    await expect.poll(() => page.evaluate(() => document.documentElement.dataset.theme)).toBe('dark');
  });

  it('learns in the wizard what a file is not', async () => {
    await press('Alt+n');
    await page.keyboard.type(path.join(window.commandLine.dataDirectory, 'kernel'));
    await press('Enter');
    await dialog().locator('.refused').waitFor();
    await page.getByLabel('Path of a file').fill('/nowhere/vmlinuz');
    await press('Enter');
    await dialog().getByText('file-missing').waitFor();
    await press('Escape');
    await dialog().waitFor({ state: 'detached' });
  });

  it('stays smooth with 200 machines', async () => {
    const folder = path.join(window.commandLine.dataDirectory, 'kernel');
    await page.evaluate(() => (location.hash = '#/'));
    for (let i = 0; i < 4; i++) {
      await Promise.all(
        [...Array(50).keys()].map((n) =>
          window.invoke('machine:create', { name: `machine ${i * 50 + n}`, kernel: folder, memoryBytes: 2 ** 26 }),
        ),
      );
    }
    await page.reload();
    await expect.poll(async () => (await names()).length, { timeout: 20_000 }).toBe(204);
    const took = await page.evaluate(async () => {
      const field = document.querySelector<HTMLInputElement>('input[aria-label="Search the library"]')!;
      const start = performance.now();
      field.value = '199';
      field.dispatchEvent(new Event('input', { bubbles: true }));
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
      return performance.now() - start;
    });
    await expect.poll(names).toEqual(['machine 199']);
    expect(took).toBeLessThan(100);
    await page.getByRole('searchbox', { name: 'Search the library' }).fill('');
    await expect.poll(async () => (await names()).length).toBe(204);
    const { longest, frames } = await scrolled();
    process.stderr.write(`200 machines: ${frames} frames of a scroll, the longest ${longest.toFixed(0)} ms\n`);
    expect(frames).toBeGreaterThan(20);
    expect(longest).toBeLessThan(100);
    const answers = await clicked();
    process.stderr.write(`200 machines: a click answers in ${answers.map((ms) => ms.toFixed(0)).join(', ')} ms\n`);
    expect(Math.max(...answers)).toBeLessThan(100);
  }, 90_000);

  /** Scrolls the list from top to bottom and measures every frame on the way. */
  const scrolled = (): Promise<{ longest: number; frames: number }> =>
    page.evaluate(async () => {
      const list = document.querySelector('#library-list')!;
      const frame = (): Promise<number> => new Promise(requestAnimationFrame);
      let before = await frame();
      let longest = 0;
      let frames = 0;
      for (let top = 0; top < list.scrollHeight - list.clientHeight; top += 150) {
        list.scrollTop = top;
        const now = await frame();
        longest = Math.max(longest, now - before);
        before = now;
        frames++;
      }
      return { longest, frames };
    });

  /** Milliseconds from the press on a row to the painted page of its machine, for some rows. */
  const clicked = (): Promise<number[]> =>
    page.evaluate(async () => {
      const rows = [...document.querySelectorAll<HTMLElement>('#library-list [role=option]')];
      const times: number[] = [];
      for (const index of [200, 100, 0, 150, 50]) {
        const start = performance.now();
        rows[index].click();
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));
        times.push(performance.now() - start);
        const name = rows[index].querySelector('.name')!.textContent;
        if (document.querySelector('h1')?.textContent !== name) throw new Error(`${name} is not shown`);
      }
      return times;
    });
});
