// SPDX-License-Identifier: MIT
// The desktop shell with real guests: windows, menus, dialogs, files, one instance, quitting, and what pages may not do. Runs on the stand-in,
// and a second time on real Electron where its binary is installed.
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { consoleText, typeLine, untilConsole, untilState } from '../e2e/support/window.ts';
import { isAlive } from '../support/paravane.ts';
import { DesktopApp, electronBinary, pageAt, requireApp } from './desktop-app.ts';
import type { RunningDesktop, Runtime } from './desktop-app.ts';

if (electronBinary === null)
  process.stderr.write('Real Electron is not installed: its half of these tests is skipped, not passed.\n');

const BOOT_MS = 120_000;
beforeAll(requireApp, 60_000);

const runtimes: [Runtime][] = [['stand-in'], ['electron']];

describe.each(runtimes)('on %s', (runtime) => {
  const absent = runtime === 'electron' && electronBinary === null;
  describe.skipIf(absent)('the desktop', () => suite(runtime));
});

function suite(runtime: Runtime): void {
  let app: DesktopApp;
  let running: RunningDesktop;
  let page: Page;

  const refusals = async (): Promise<Record<string, number>> => {
    const answer = await page.evaluate(() => window.paravane!.invoke('diagnostics:get', {}));
    return 'reply' in answer ? answer.reply.refusals : {};
  };
  const clickMenu = (id: string): Promise<void> =>
    running.evaluate(({ BrowserWindow }, wanted) => {
      const [window] = BrowserWindow.getAllWindows();
      // The shell keeps the menus it builds in the way `lastMenus` of the first test records them.
      const menus = (globalThis as { lastMenus?: { getMenuItemById(id: string): { click(): void } | null }[] })
        .lastMenus!;
      const item = menus.map((menu) => menu.getMenuItemById(wanted)).findLast((found) => found !== null);
      if (!item) throw new Error(`no menu item ${wanted}`);
      (item.click as (...values: unknown[]) => void)(item, window);
    }, id);

  beforeAll(async () => {
    app = new DesktopApp(runtime, 'engine');
    running = await app.start();
    page = await pageAt(running, /index\.html/);
    page.setDefaultTimeout(20_000);
    await page.getByText('welcome guest').first().waitFor();
    await running.evaluate(({ Menu }) => {
      const menus: unknown[] = [];
      (globalThis as { lastMenus?: unknown[] }).lastMenus = menus;
      const build = Menu.buildFromTemplate.bind(Menu);
      Menu.buildFromTemplate = (template: unknown) => {
        const menu = build(template);
        menus.push(menu);
        return menu;
      };
    });
  }, BOOT_MS);
  afterAll(async () => app?.dispose());

  it('gives pages `invoke` and `on` and nothing of Node or Electron', async () => {
    const seen = await page.evaluate(() => ({
      bridge: Object.keys(window.paravane!),
      strangers: ['require', 'process', 'module', 'Buffer', 'ipcRenderer', 'electron'].filter((name) => name in window),
      isolated: window.crossOriginIsolated,
      secure: window.isSecureContext,
    }));
    expect(seen).toEqual({ bridge: ['invoke', 'on'], strangers: [], isolated: true, secure: true });
  });

  it('opens its windows sandboxed and isolated', async () => {
    const preferences = await running.evaluate(({ BrowserWindow }) => {
      const [window] = BrowserWindow.getAllWindows();
      return window.options?.webPreferences ?? window.webContents.getLastWebPreferences();
    });
    expect(preferences).toMatchObject({
      contextIsolation: true,
      sandbox: true,
      nodeIntegration: false,
      webSecurity: true,
    });
  });

  it('answers with what the gate says: errors with code, message and action', async () => {
    const answer = await page.evaluate(() =>
      window.paravane!.invoke('machine:start', { machine: '00000000', surprise: 1 } as { machine: string }),
    );
    expect(answer).toMatchObject({ error: { code: 'request-invalid', action: expect.any(String) } });
    expect((await refusals())['request-invalid']).toBe(1);
  });

  it('denies navigation, windows and permissions, and counts them', async () => {
    const before = page.url();
    await page.evaluate(() => {
      location.href = 'https://example.com/';
    });
    await page.evaluate(() => window.open('https://example.com/', '_blank'));
    await expect.poll(async () => (await refusals())['navigation-denied'] ?? 0).toBeGreaterThanOrEqual(1);
    await expect.poll(async () => (await refusals())['window-denied'] ?? 0).toBe(1);
    expect(page.url()).toBe(before);
    expect(running.pages()).toHaveLength(1);
    const state = await page.evaluate(async () => (await navigator.permissions.query({ name: 'geolocation' })).state);
    expect(state).not.toBe('granted');
  });

  it('runs no script that is not its own, and talks to nobody else', async () => {
    const outcome = await page.evaluate(async () => {
      const script = document.createElement('script');
      script.textContent = 'window.injected = true';
      document.head.append(script);
      const fetched = await fetch('https://example.com/').then(
        () => 'fetched',
        () => 'refused',
      );
      return { injected: 'injected' in window, fetched };
    });
    expect(outcome).toEqual({ injected: false, fetched: 'refused' });
  });

  it('hears no window that the application did not admit', async () => {
    const refused = (await refusals())['sender-unknown'] ?? 0;
    await running.evaluate(async ({ BrowserWindow }) => {
      const [ours] = BrowserWindow.getAllWindows();
      const preferences = ours.options?.webPreferences ?? ours.webContents.getLastWebPreferences();
      const stranger = new BrowserWindow({ show: false, webPreferences: preferences });
      (globalThis as { stranger?: unknown }).stranger = stranger;
      await stranger.loadURL('paravane://app/index.html#/settings');
    });
    await expect.poll(async () => (await refusals())['sender-unknown'] ?? 0).toBeGreaterThan(refused);
    await running.evaluate(() => (globalThis as { stranger?: { close(): void } }).stranger!.close());
    await expect.poll(() => running.pages().length).toBe(1);
  });

  it('has the registry of the page as its menu, with the page doing what is chosen', async () => {
    await page.keyboard.press('Alt+T');
    await page.evaluate(() => (location.hash = '#/settings'));
    const menus = () => running.evaluate(() => (globalThis as { lastMenus?: unknown[] }).lastMenus!.length);
    await page.getByRole('heading', { name: 'Settings' }).first().waitFor();
    // A window that is opened anew says its menu again; so does one whose page is loaded again, and from then on it hears what is chosen.
    const before = await menus();
    await page.reload();
    await expect.poll(menus, { timeout: 10_000 }).toBeGreaterThan(before);
    await clickMenu('diagnostics');
    await page.waitForURL(/#\/diagnostics$/);
    const sessions = await page.evaluate(async () => {
      const answer = await window.paravane!.invoke('diagnostics:get', {});
      return 'reply' in answer ? answer.reply.sessions.map(({ kind }) => kind) : [];
    });
    expect(sessions, 'the reloaded page has taken the place of the former').toEqual(['window']);
  });

  it('uses the native dialog for files', async () => {
    const kernel = path.join(app.commandLine.dataDirectory, 'letter.txt');
    fs.writeFileSync(kernel, 'Dear reader,\n');
    await running.evaluate(({ dialog }, file) => {
      dialog.showOpenDialog = (_window: unknown, options: unknown) => {
        (globalThis as { asked?: unknown }).asked = options;
        return Promise.resolve({ canceled: false, filePaths: [file] });
      };
    }, kernel);
    await clickMenu('newMachine');
    await page.getByRole('button', { name: 'Choose on this computer…' }).click();
    await page.getByRole('dialog').locator('.refused').waitFor();
    expect(await running.evaluate(() => (globalThis as { asked?: unknown }).asked)).toMatchObject({
      properties: ['openFile'],
    });
    await page.keyboard.press('Escape');
  });

  it(
    'starts the welcome guest in a process of its own, with a console that answers',
    async () => {
      const made = await page.evaluate(() =>
        window.paravane!.invoke('welcome:create', { task: 'w', variant: 'best', start: true }),
      );
      expect(made).toMatchObject({ reply: { machine: { state: 'running' } } });
      const machine = await page.evaluate(async () => {
        const answer = await window.paravane!.invoke('machine:list', {});
        return 'reply' in answer ? answer.reply.machines[0].id : '';
      });
      await page.evaluate((id) => (location.hash = `#/machine/${id}/console`), machine);
      await untilState(page, 'running', BOOT_MS);
      await untilConsole(page, /[#$] $|[#$]$/m, BOOT_MS);
      await typeLine(page, 'echo $((6*7))-answers');
      await untilConsole(page, /^42-answers/m);
      const [{ pid }] = app.commandLine.entries();
      const main = await running.evaluate(() => process.pid);
      expect(pid).not.toBe(main);
    },
    2 * BOOT_MS,
  );

  it('shows a console in a window of its own, in step, once', async () => {
    await page
      .getByRole('button', { name: /own window|Detach/i })
      .first()
      .click();
    const detached = await pageAt(running, /#\/detached\/\w+\/console$/);
    await untilConsole(detached, /42-answers/);
    await typeLine(detached, 'echo from-the-$((1+1))nd-window');
    await untilConsole(page, /from-the-2nd-window/);
    await page
      .getByRole('button', { name: /own window|Detach/i })
      .first()
      .click();
    await page.waitForTimeout(500);
    expect(running.pages()).toHaveLength(2);
    await running.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows().at(-1).close());
    await expect.poll(() => running.pages().length).toBe(1);
    expect(await consoleText(page)).toContain('from-the-2nd-window');
  });

  it('is there once: a second start hands over its file and ends', async () => {
    const file = path.join(app.commandLine.dataDirectory, 'second.txt');
    fs.writeFileSync(file, 'Something else.\n');
    if (runtime === 'stand-in') expect(await (await app.start(file)).ended).toBe(0);
    else
      await running.evaluate(({ app: inside }, files) => inside.emit('second-instance', {}, [], '', { files }), [file]);
    await page.getByRole('dialog').locator('.refused').filter({ hasText: 'second.txt' }).waitFor();
    await page.keyboard.press('Escape');
  }, 60_000);

  it('lets the command line talk to its manager', async () => {
    const { stdout, code } = await app.commandLine.run('list', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ machines: [{ state: 'running' }] });
  });

  it('asks before it quits with running guests, and stays when the answer is no', async () => {
    await running.evaluate(({ dialog }) => {
      dialog.showMessageBox = (...values: unknown[]) => {
        (globalThis as { question?: unknown }).question = values.at(-1);
        return Promise.resolve({ response: 3, checkboxChecked: false });
      };
    });
    await running.evaluate(({ BrowserWindow }) => void BrowserWindow.getAllWindows()[0].close());
    await expect
      .poll(() => running.evaluate(() => (globalThis as { question?: { message: string } }).question?.message))
      .toMatch(/is running/);
    await untilState(page, 'running');
  });

  it('keeps guests running without a window, and shows it again', async () => {
    await running.evaluate(({ dialog, app: inside }) => {
      dialog.showMessageBox = () => Promise.resolve({ response: 2, checkboxChecked: false });
      inside.quit();
    });
    const visible = () => running.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0].isVisible());
    await expect.poll(visible).toBe(false);
    await running.evaluate(({ app: inside }) => inside.emit('activate', {}, false));
    await expect.poll(visible).toBe(true);
    await untilState(page, 'running');
  });

  it('tells of a killed VM process within a second or two, with its signal', async () => {
    const [{ pid }] = app.commandLine.entries();
    process.kill(pid, 'SIGKILL');
    await untilState(page, 'crashed', 5000);
    const problem = await page.evaluate(async () => {
      const answer = await window.paravane!.invoke('machine:list', {});
      return 'reply' in answer ? answer.reply.machines[0].problem : null;
    });
    expect(problem).toMatchObject({ code: 'vm-process-died', message: expect.stringMatching(/kill/i) });
  });

  it(
    'ends guests with itself when it quits, where windows were is kept',
    async () => {
      const machine = await page.evaluate(async () => {
        const answer = await window.paravane!.invoke('machine:list', {});
        const { id } = (answer as { reply: { machines: { id: string }[] } }).reply.machines[0];
        await window.paravane!.invoke('machine:dismiss', { machine: id });
        await window.paravane!.invoke('machine:start', { machine: id });
        return id;
      });
      await untilState(page, 'running', BOOT_MS);
      await running.evaluate(({ BrowserWindow }) =>
        BrowserWindow.getAllWindows()[0].setBounds({ x: 40, y: 60, width: 1000, height: 700 }),
      );
      await running.evaluate(({ dialog }) => {
        dialog.showMessageBox = () => Promise.resolve({ response: 1, checkboxChecked: false });
      });
      const [{ pid }] = app.commandLine.entries();
      await running.evaluate(({ app: inside }) => void setTimeout(() => inside.quit(), 50));
      expect(await running.ended).toBe(0);
      await expect.poll(() => isAlive(pid)).toBe(false);
      running = await app.start();
      page = await pageAt(running, /index\.html/);
      const bounds = await running.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0].getNormalBounds());
      expect(bounds).toMatchObject({ width: 1000, height: 700 });
      const state = await page.evaluate(async (id) => {
        const answer = await window.paravane!.invoke('machine:get', { machine: id });
        return 'reply' in answer ? answer.reply.summary.state : null;
      }, machine);
      expect(state).toBe('off');
    },
    2 * BOOT_MS,
  );

  it('with nothing running, quits without a question', async () => {
    await running.evaluate(({ app: inside }) => void setTimeout(() => inside.quit(), 50));
    expect(await running.ended).toBe(0);
  }, 30_000);
}
