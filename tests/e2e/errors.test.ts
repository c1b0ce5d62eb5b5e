// SPDX-License-Identifier: MIT
// What goes wrong on a real computer, seen from the window: files that may not be read, full disks, cancelled downloads, ports that are taken.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestWindow } from './support/window.ts';

const NOBODY = 65534;
const root = process.getuid?.() === 0;

let window: TestWindow;
let page: Page;
let files = '';
let kernel = '';

beforeAll(async () => {
  // Nothing is out of reach for root: then the manager runs as somebody who is not.
  window = await TestWindow.open('engine', root ? { user: NOBODY } : {});
  page = await window.page();
  const { machine } = await window.invoke('welcome:create', { task: 'demo', variant: 'demo', name: 'demo' });
  kernel = (await window.invoke('machine:get', { machine: machine.id })).configuration.kernel;
  files = path.join(window.commandLine.dataDirectory, 'files');
  fs.mkdirSync(files);
}, 60_000);
afterAll(() => window?.close());

const dialog = () => page.getByRole('dialog');
const problem = (code: string) => dialog().getByRole('alert').filter({ hasText: code });

async function open(file: string): Promise<void> {
  await page.keyboard.press('Escape');
  await dialog().waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'New machine' }).click();
  await page.getByLabel('Path of a file').fill(file);
  await page.keyboard.press('Enter');
}

/** A file system of a few kilobytes; null where we may not make one. */
function tinyFileSystem(): string | null {
  if (!root) return null;
  const place = path.join(window.commandLine.dataDirectory, 'tiny');
  fs.mkdirSync(place);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=64k,uid=${NOBODY},mode=755`, 'tmpfs', place], { stdio: 'pipe' });
    return place;
  } catch {
    return null;
  }
}

describe('the window', () => {
  it('says that a file may not be read, why, and what to do', async () => {
    const secret = path.join(files, 'secret-kernel');
    fs.copyFileSync(kernel, secret);
    fs.chmodSync(secret, 0);
    await open(secret);
    await problem('file-unreadable').waitFor();
    expect((await problem('file-unreadable').innerText()).split('\n').length).toBeGreaterThanOrEqual(3);
  });

  it('says that a directory is no file', async () => {
    await open(files);
    await dialog().getByRole('alert').waitFor();
    expect(await dialog().getByRole('alert').innerText()).toMatch(/directory/);
  });

  it('says that the disk is full, makes no half machine, and keeps what was typed', async (context) => {
    const place = tinyFileSystem();
    if (place === null) return context.skip('a small file system can be mounted by root only');
    try {
      const large = path.join(files, 'kernel');
      fs.copyFileSync(kernel, large);
      await open(large);
      await page.getByLabel('Name').fill('too large');
      await page.getByLabel('Place').fill(path.join(place, 'machine'));
      await page.getByText('Advanced').click();
      await page.getByLabel('Copy kernel and initrd').check();
      // The file system is filled up but for a page or two.
      fs.writeFileSync(path.join(place, 'filler'), Buffer.alloc(56 * 1024));
      await page.getByRole('button', { name: 'Create', exact: true }).click();
      const full = dialog().getByRole('alert');
      await full.waitFor();
      expect(await full.innerText()).toMatch(/ENOSPC|no space|full/i);
      expect(await page.getByLabel('Name').inputValue()).toBe('too large');
      expect(fs.readdirSync(place)).toEqual(['filler']);
      expect((await window.invoke('machine:list', {})).machines.map(({ name }) => name)).toEqual(['demo']);
    } finally {
      execFileSync('umount', [place]);
    }
  });

  it('tells how far a file is, and stops when it is told to', async () => {
    // Large enough to be looked at by its beginning first, then copied; small enough for a test.
    await page.keyboard.press('Escape');
    const transfer = await page.evaluateHandle(() => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(120 * 2 ** 20)], 'zeros'));
      return data;
    });
    await page.dispatchEvent('main', 'drop', { dataTransfer: transfer });
    const bar = dialog().getByRole('progressbar');
    const task = dialog().locator('.task', { hasText: / of 120 MB/ });
    await task.waitFor();
    await expect.poll(() => bar.getAttribute('aria-valuenow').then(Number)).toBeGreaterThan(1);
    await task.getByRole('button', { name: 'Cancel' }).click();
    await bar.waitFor({ state: 'detached' });
    expect(await dialog().getByRole('alert').count()).toBe(0);
    await page.keyboard.press('Escape');
  }, 60_000);

  it('knows a disk image without copying it', async () => {
    const transfer = await page.evaluateHandle(() => {
      const data = new DataTransfer();
      const image = new Uint8Array(2 ** 20);
      image.set([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]);
      data.items.add(new File([image, new Uint8Array(40 * 2 ** 20)], 'disk.qcow2'));
      return data;
    });
    await page.dispatchEvent('main', 'drop', { dataTransfer: transfer });
    const refused = dialog().locator('.refused');
    await refused.getByText(/qcow2/i).first().waitFor();
    expect(await refused.innerText()).toMatch(/41 MB/);
    const uploads = execFileSync('find', [window.commandLine.dataDirectory, '-name', 'disk.qcow2', '-size', '+2M']);
    expect(uploads.toString()).toBe('');
    await page.keyboard.press('Escape');
  }, 60_000);

  it('shows the download of the welcome guest and ends it on request', async () => {
    const fresh = await TestWindow.open('engine', {
      environment: { PARAVANE_CACHE: path.join(window.commandLine.dataDirectory, 'empty-cache') },
    });
    try {
      const first = await fresh.page();
      await first.getByText(/are fetched from Debian first/).waitFor();
      await first.locator('.offers button').first().click();
      await first.getByRole('progressbar').waitFor();
      await first.getByRole('button', { name: 'Cancel' }).click();
      await first.getByRole('progressbar').waitFor({ state: 'detached' });
      expect(await first.getByRole('alert').count()).toBe(0);
      expect((await fresh.invoke('machine:list', {})).machines).toEqual([]);
    } finally {
      await fresh.close();
    }
  }, 60_000);
});

describe('the command that serves the window', () => {
  it('says that its port is taken', async () => {
    const port = new URL(window.url).port;
    const other = await TestWindow.open('fake');
    try {
      await other.killManager();
      const { code, stderr } = await other.commandLine.run('serve', '--port', port);
      expect(code).not.toBe(0);
      expect(stderr).toMatch(new RegExp(`port ${port}`, 'i'));
    } finally {
      await other.close();
    }
  });
});
