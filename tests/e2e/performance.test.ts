// SPDX-License-Identifier: MIT
// Performance of a real guest in the window: charts that stop and go on, one cursor for all, events on the axis, exports, and a history
// that survives the manager, with a gap where nobody measured.
import * as fs from 'node:fs';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BOOT_MS, TestWindow, untilState } from './support/window.ts';

let window: TestWindow;
let page: Page;
let machine = '';

beforeAll(async () => {
  window = await TestWindow.open();
  const created = await window.invoke('welcome:create', { task: 'demo', variant: 'demo', name: 'demo', start: true });
  machine = created.machine.id;
  page = await window.page();
  await page.evaluate((id) => (location.hash = `#/machine/${id}/performance`), machine);
  await untilState(page, 'running', BOOT_MS);
  await page.waitForTimeout(6000);
}, BOOT_MS + 60_000);
afterAll(() => window?.close());

const figure = (title: string) =>
  page.locator('figure', { has: page.getByRole('heading', { name: title, exact: true }) });
const legend = (title: string): Promise<string> => figure(title).locator('ul').innerText();
const bar = () => page.locator('.performance .bar');

async function exported(item: string): Promise<Buffer> {
  await bar().getByRole('button', { name: 'Export' }).click();
  const download = page.waitForEvent('download');
  await page.getByRole('menuitem', { name: item }).click();
  return fs.readFileSync(await (await download).path());
}

interface Row {
  at: number;
  cpu: string;
}

async function rows(): Promise<Row[]> {
  const [head, ...lines] = (await exported('Measurements as CSV')).toString().trimEnd().split('\r\n');
  expect(head).toMatch(/^time,cpu,running,idle,/);
  return lines.map((line) => ({ at: Date.parse(line.split(',')[0]), cpu: line.split(',')[1] }));
}

describe('the charts', () => {
  it('move every second, stand still while paused, and lose nothing', async () => {
    await expect.poll(() => legend('CPU')).toMatch(/Process\s*[\d.]+ %/);
    const before = (await rows()).length;
    await bar().getByRole('button', { name: 'Pause' }).click();
    await bar()
      .getByText(/paused at/)
      .waitFor();
    const still = (await rows()).length;
    await page.waitForTimeout(3500);
    expect((await rows()).length).toBe(still);
    await bar().getByRole('button', { name: 'Continue' }).click();
    await expect.poll(async () => (await rows()).length).toBeGreaterThanOrEqual(before + 3);
  }, 60_000);

  it('have one cursor, by pointer and by key', async () => {
    const canvas = (await figure('CPU').locator('canvas').boundingBox())!;
    await page.mouse.move(canvas.x + canvas.width - 60, canvas.y + canvas.height / 2);
    await bar()
      .getByText(/^\d\d:\d\d:\d\d/)
      .waitFor();
    const pixels = (title: string): Promise<string> =>
      figure(title)
        .locator('canvas')
        .evaluate((element) => (element as HTMLCanvasElement).toDataURL());
    await bar().getByRole('button', { name: 'Pause' }).click();
    await page.mouse.move(0, 0);
    const without = await Promise.all(['CPU', 'Host memory', 'Hypercalls and events'].map(pixels));
    await page.getByRole('group', { name: /^Charts/ }).focus();
    for (let i = 0; i < 3; i++) await page.keyboard.press('ArrowLeft');
    await expect.poll(() => bar().getByRole('status').innerText()).toMatch(/^\d\d:\d\d:\d\d/);
    const withCursor = await Promise.all(['CPU', 'Host memory', 'Hypercalls and events'].map(pixels));
    withCursor.forEach((picture, i) => expect(picture).not.toBe(without[i]));
    await page.keyboard.press('Escape');
    await expect.poll(() => bar().getByRole('status').innerText()).toMatch(/paused at/);
    await bar().getByRole('button', { name: 'Continue' }).click();
  }, 40_000);

  it('have what happened on their axis, in words too', async () => {
    await page.locator('header').getByRole('button', { name: 'Pause' }).click();
    await untilState(page, 'paused');
    await page.waitForTimeout(1500);
    await page.locator('header').getByRole('button', { name: 'Resume' }).click();
    await untilState(page, 'running');
    const { events } = await window.invoke('metrics:history', {
      machine,
      ...{ from: Date.now() - 600_000, to: Date.now(), tier: 0 },
    });
    expect(events.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['created', 'started', 'paused', 'resumed']));
    // Walked over by the cursor, an event is named; the cursor begins a second before now.
    await page.waitForTimeout(2500);
    await page.getByRole('group', { name: /^Charts/ }).focus();
    const seen = new Set<string>();
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press('ArrowLeft');
      seen.add((await bar().getByRole('status').innerText()).split(' · ')[1] ?? '');
    }
    expect([...seen].join('\n')).toMatch(/resumed/i);
    await page.keyboard.press('Escape');
  }, 60_000);

  it('are given as picture and as a table', async () => {
    const picture = await exported('Charts as PNG');
    expect(picture.subarray(1, 4).toString()).toBe('PNG');
    const [width, height] = [picture.readUInt32BE(16), picture.readUInt32BE(20)];
    expect(width).toBeGreaterThan(400);
    expect(height).toBeGreaterThan(800);
    await bar().getByRole('button', { name: 'Values' }).click();
    const table = page.getByRole('table', { name: 'Values of the charts' });
    expect(await table.getByRole('columnheader').allInnerTexts()).toEqual([
      ...['Chart', 'Value', 'Latest', 'Least', 'Mean', 'Highest'],
    ]);
    expect(await table.getByRole('row', { name: /Translated/ }).innerText()).toMatch(/MIPS/);
    await bar().getByRole('button', { name: 'Values' }).click();
  }, 40_000);

  it('survive the manager, with a gap where nobody measured', async () => {
    const before = await rows();
    await window.killManager();
    const gone = Date.now();
    await page.waitForTimeout(5000);
    await window.startManager();
    const back = Date.now();
    await page.getByText('The manager does not answer any more').waitFor({ state: 'detached' });
    await expect.poll(async () => (await rows()).some(({ at }) => at > back + 1000), { timeout: 20_000 }).toBe(true);
    await page.reload();
    await expect.poll(() => legend('CPU')).toMatch(/Process\s*[\d.]+ %/);
    await page.waitForTimeout(5000);
    const after = await rows();
    expect(after.map(({ at }) => at)).toEqual(expect.arrayContaining(before.slice(0, -3).map(({ at }) => at)));
    const times = after.map(({ at }) => at).sort((a, b) => a - b);
    const widest = Math.max(...times.slice(1).map((at, i) => at - times[i]));
    expect(widest).toBeGreaterThanOrEqual(3000);
    expect(times.filter((at) => at > gone + 1000 && at < back - 1500)).toEqual([]);
  }, 90_000);

  it.each(['3 h', '1 week', '1 year', '10 min'])('show the range of %s', async (range) => {
    await page.locator('.ranges').getByText(range, { exact: true }).click();
    await expect.poll(() => legend('CPU')).toMatch(/Process\s*[\d.]+ %/);
    await figure('CPU').locator('canvas').waitFor();
  });
});
