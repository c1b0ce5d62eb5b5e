// SPDX-License-Identifier: MIT
// New machines from files: named by path, chosen in the browser of files, dropped on the page; and what is said of files that are none.
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BOOT_MS, TestWindow, untilConsole, untilState } from './support/window.ts';

let window: TestWindow;
let page: Page;
let kernel = '';
let directory = '';

beforeAll(async () => {
  window = await TestWindow.open();
  page = await window.page();
  // The demonstration guest is a kernel that needs no download.
  const { machine } = await window.invoke('welcome:create', { task: 'demo', variant: 'demo', name: 'demo' });
  kernel = (await window.invoke('machine:get', { machine: machine.id })).configuration.kernel;
  directory = path.join(window.commandLine.dataDirectory, 'files');
  fs.mkdirSync(directory);
  fs.copyFileSync(kernel, path.join(directory, 'guest-kernel'));
  fs.writeFileSync(
    path.join(directory, 'disk.qcow2'),
    Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(1020)]),
  );
  fs.writeFileSync(path.join(directory, 'letter.txt'), 'Dear reader,\n');
}, 60_000);
afterAll(() => window?.close());

const dialog = () => page.getByRole('dialog');

async function open(file: string): Promise<void> {
  await page.keyboard.press('Escape');
  await dialog().waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'New machine' }).click();
  await page.getByLabel('Path of a file').fill(file);
  await page.keyboard.press('Enter');
}

describe('the wizard', () => {
  it(
    'makes and starts a machine from a path, with everything edited in place',
    async () => {
      await open(path.join(directory, 'guest-kernel'));
      await dialog().getByRole('heading', { name: 'This is what I understood' }).waitFor();
      await page.getByLabel('Name').fill('from a path');
      await page.getByRole('button', { name: 'Twice as much' }).click();
      await page.getByRole('button', { name: 'Copy as command' }).click();
      expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(
        /^paravane create --kernel=\S+guest-kernel .*--start 'from a path'$/,
      );
      await page.getByRole('button', { name: 'Create and start' }).click();
      await untilState(page, 'running', BOOT_MS);
      await untilConsole(page, /\S/, BOOT_MS);
      await page.getByRole('button', { name: 'Undo' }).first().waitFor();
    },
    BOOT_MS + 30_000,
  );

  it('measures what speed to expect by itself, and says it in plain words', async () => {
    await open(path.join(directory, 'guest-kernel'));
    const speed = dialog().locator('#new-speed');
    await speed.getByRole('progressbar').waitFor();
    await speed.getByText(/^about (\d+(\.5)? times slower than|as fast as) this computer/).waitFor({ timeout: 60_000 });
    await speed.getByRole('button', { name: 'Measure again' }).waitFor();
    await page.keyboard.press('Escape');
  }, 90_000);

  it('takes kernel and initrd that are dropped together', async () => {
    const bytes = fs.readFileSync(kernel).toString('base64');
    const transfer = await page.evaluateHandle((base64) => {
      const data = new DataTransfer();
      const header = `070701${'0'.repeat(88)}0000000b00000000TRAILER!!!`;
      data.items.add(new File([`${header}\0`.padEnd(512, '\0')], 'my-initrd'));
      data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], 'my-kernel'));
      return data;
    }, bytes);
    await page.dispatchEvent('main', 'drop', { dataTransfer: transfer });
    await dialog().getByRole('heading', { name: 'This is what I understood' }).waitFor();
    await dialog().getByRole('region', { name: 'Kernel' }).getByText('my-kernel').waitFor();
    await dialog().getByRole('region', { name: 'Initrd' }).getByText('my-initrd').waitFor();
    await page.keyboard.press('Escape');
  }, 60_000);

  it('takes a file that is dropped on the window', async () => {
    const bytes = fs.readFileSync(kernel).toString('base64');
    const transfer = await page.evaluateHandle((base64) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], 'dropped-kernel'));
      return data;
    }, bytes);
    await page.dispatchEvent('main', 'drop', { dataTransfer: transfer });
    await dialog().getByRole('heading', { name: 'This is what I understood' }).waitFor();
    await page.getByLabel('Name').fill('dropped');
    await page.getByRole('button', { name: 'Create', exact: true }).click();
    await untilState(page, 'off');
  }, 60_000);

  it('finds a file in the browser of files, by keyboard', async () => {
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'New machine' }).click();
    await page.getByRole('button', { name: 'Choose on this computer…' }).click();
    const browser = page.getByRole('dialog', { name: 'Open a file' });
    await browser.getByLabel('Directory').fill(directory);
    await page.keyboard.press('Enter');
    await browser.getByRole('option', { name: /guest-kernel/ }).waitFor();
    await page.keyboard.type('g');
    await page.keyboard.press('Enter');
    await dialog().getByRole('heading', { name: 'This is what I understood' }).waitFor();
    await page.keyboard.press('Escape');
  }, 60_000);

  it.each([
    ['disk.qcow2', /qcow2/i],
    ['letter.txt', /./],
  ])(
    'says what %s is, and that nothing can be made of it',
    async (name, title) => {
      await open(path.join(directory, name));
      const refused = dialog().locator('.refused');
      await refused.waitFor();
      expect(await refused.locator('strong').innerText()).toMatch(title);
      expect(await dialog().getByRole('button', { name: 'Create and start' }).count()).toBe(0);
    },
    30_000,
  );

  it('says what is wrong with a path, why, and what to do', async () => {
    await open(path.join(directory, 'missing'));
    const error = dialog().getByRole('alert');
    await error.getByText('file-missing').waitFor();
    expect((await error.innerText()).split('\n').length).toBeGreaterThanOrEqual(3);
    await page.keyboard.press('Escape');
  }, 30_000);

  it('says that a machine cannot be made where there is one', async () => {
    await open(path.join(directory, 'guest-kernel'));
    await page.getByLabel('Name').fill('from a path');
    await page.getByRole('button', { name: 'Create', exact: true }).click();
    await dialog().getByRole('alert').getByText('machine-name-taken').waitFor();
    await page.keyboard.press('Escape');
  }, 30_000);
});
