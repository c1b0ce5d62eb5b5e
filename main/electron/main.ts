// SPDX-License-Identifier: MIT
// The desktop application: the manager in Electron's main process, its windows around it. Everything here is windows, menus and dialogs;
// what machines are and do is the manager's.
import { app, BrowserWindow, dialog, Menu, nativeImage, session, shell, Tray } from 'electron';
import * as path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { PvError } from '../../engine/errors.ts';
import { dataDirectory, ensureDirectory } from '../library/directories.ts';
import { Gate } from '../manager/gate.ts';
import { Manager } from '../manager/manager.ts';
import type { Session } from '../manager/session.ts';
import { LocalServer, readManagerEntry } from '../serve/local-socket.ts';
import { useVmLauncher } from '../vm/vm-child.ts';
import { AppMenu, trayMenu } from './app-menu.ts';
import { lockDown } from './lock-down.ts';
import { openedFiles } from './opened-files.ts';
import { declareScheme, servePages } from './page-scheme.ts';
import { PageSessions } from './page-sessions.ts';
import { askBeforeQuitting, endMachines, machinesHere } from './quitting.ts';
import { launchUtilityVm } from './utility-vm.ts';
import { WindowStates } from './window-state.ts';
import { Windows } from './windows.ts';

const ICON = fileURLToPath(new URL('../../assets/icon.png', import.meta.url));
const TRAY_PIXELS = 22;
const TRAY_MS = 3000;

/** The application once its manager is there. */
class Desktop {
  readonly #manager: Manager;
  readonly #sessions: PageSessions;
  readonly #windows: Windows;
  readonly #menu: AppMenu;
  #local: LocalServer | null = null;
  #tray: Tray | null = null;
  #running = -1;
  /** Files that the system wants shown and no page has been told of yet. */
  #files: string[];
  /** Nothing more is asked: the application ends. */
  #quitting = false;
  #deciding = false;
  /** The user chose to keep machines running without a window. */
  #hidden = false;

  constructor(manager: Manager, files: readonly string[]) {
    this.#manager = manager;
    this.#files = [...files];
    const gate = new Gate(manager);
    this.#sessions = new PageSessions(manager, gate);
    this.#menu = new AppMenu((contents, id) => this.#sessions.sessionOf(contents)?.tell('menu:clicked', { id }));
    this.#windows = new Windows(new WindowStates(manager.dataDirectory), {
      opened: ({ webContents }) => {
        this.#sessions.admit(webContents);
        this.#menu.show(webContents);
      },
      focused: ({ webContents }) => this.#menu.show(webContents),
      mayClose: (window) => this.#mayClose(window),
    });
    manager.shell = {
      openWindow: (what) => this.#windows.showDetached(what),
      setMenu: (from, commands) => {
        const contents = this.#sessions.windowOf(from);
        if (contents !== null) this.#menu.set(contents, commands);
        // A page that has a menu listens.
        this.#handOver(from);
      },
      chooseFile: async (from, { title, pick, start }) => {
        const contents = this.#sessions.windowOf(from);
        const window = contents === null ? null : BrowserWindow.fromWebContents(contents);
        const options = {
          title,
          ...(start !== null && { defaultPath: start }),
          properties: [pick === 'file' ? ('openFile' as const) : ('openDirectory' as const)],
        };
        const { canceled, filePaths } = await (window === null
          ? dialog.showOpenDialog(options)
          : dialog.showOpenDialog(window, options));
        return canceled ? null : (filePaths[0] ?? null);
      },
    };
    lockDown(session.defaultSession, (what) => manager.counters.refuse(`${what}-denied`));
    // Commands of the command line find this manager; that they cannot is no reason not to start.
    LocalServer.open(manager, gate, null).then(
      (local) => (this.#local = local),
      (error: unknown) => manager.counters.log('error', `no door for the command line: ${String(error)}`),
    );
    this.#showTray();
  }

  start(): void {
    app.on('second-instance', (_event, _arguments, _directory, data) => this.#opened(filesIn(data)));
    app.on('open-file', (event, file) => {
      event.preventDefault();
      this.#opened([file]);
    });
    app.on('activate', () => this.#windows.showMain());
    app.on('window-all-closed', () => {
      if (process.platform !== 'darwin' && !this.#hidden) app.quit();
    });
    app.on('before-quit', (event) => {
      if (this.#quitting) return;
      event.preventDefault();
      void this.#decide();
    });
    app.on('will-quit', () => this.#close());
    this.#windows.showMain();
  }

  #opened(files: readonly string[]): void {
    this.#files.push(...files);
    this.#hidden = false;
    const main = this.#windows.showMain();
    const listening = this.#sessions.sessionOf(main.webContents);
    if (listening !== null) this.#handOver(listening);
  }

  #handOver(to: Session): void {
    const main = this.#windows.main;
    if (main === null || this.#sessions.sessionOf(main.webContents) !== to) return;
    for (const file of this.#files.splice(0)) to.tell('file:opened', { path: file });
  }

  /** Closing the main window is quitting, except where windows and applications are two things. */
  #mayClose(window: BrowserWindow): boolean {
    if (this.#quitting || process.platform === 'darwin' || machinesHere(this.#manager).length === 0) return true;
    void this.#decide(window);
    return false;
  }

  async #decide(window: BrowserWindow | null = this.#windows.main): Promise<void> {
    if (this.#deciding) return;
    this.#deciding = true;
    try {
      const machines = machinesHere(this.#manager);
      const choice = await askBeforeQuitting(
        machines.map(({ name }) => name),
        window?.isVisible() ? window : null,
      );
      if (choice === 'cancel') return;
      if (choice === 'keep') {
        this.#hidden = true;
        for (const open of BrowserWindow.getAllWindows()) open.hide();
        return;
      }
      await endMachines(machines, choice);
      this.#quitting = true;
      app.quit();
    } finally {
      this.#deciding = false;
    }
  }

  #close(): void {
    this.#tray?.destroy();
    this.#local?.close();
    this.#manager.close();
  }

  /** Some desktops have no tray; then starting Paravane again brings the window back. */
  #showTray(): void {
    const show = (): void => {
      this.#hidden = false;
      this.#windows.showMain();
    };
    try {
      this.#tray = new Tray(nativeImage.createFromPath(ICON).resize({ width: TRAY_PIXELS, height: TRAY_PIXELS }));
      this.#tray.setToolTip('Paravane');
      this.#tray.on('click', show);
    } catch (error) {
      this.#manager.counters.log('info', `no tray: ${String(error)}`);
      return;
    }
    const follow = (): void => {
      const running = this.#manager.controls().filter((control) => control.live).length;
      if (running === this.#running) return;
      this.#running = running;
      this.#tray?.setContextMenu(trayMenu(running, show));
    };
    follow();
    setInterval(follow, TRAY_MS).unref();
  }
}

function filesIn(data: unknown): string[] {
  const { files } = (data ?? {}) as { files?: unknown };
  return Array.isArray(files) ? files.filter((file): file is string => typeof file === 'string') : [];
}

/** Says why there will be no application; another manager of the same library can be looked at instead. */
async function refuseToStart(error: unknown): Promise<void> {
  const { message, action } =
    error instanceof PvError ? error : { message: String(error), action: 'Start Paravane again, or report this.' };
  const url =
    error instanceof PvError && error.code === 'manager-running' ? readManagerEntry(dataDirectory())?.url : null;
  const buttons = url ? ['Open it in the browser', 'Quit'] : ['Quit'];
  const { response } = await dialog.showMessageBox({ type: 'error', message, detail: action, buttons, noLink: true });
  if (url && response === 0) await shell.openExternal(url);
  app.exit(1);
}

async function start(files: readonly string[]): Promise<void> {
  await app.whenReady();
  if (process.platform !== 'darwin') Menu.setApplicationMenu(null);
  servePages(session.defaultSession);
  useVmLauncher(launchUtilityVm);
  try {
    // Tests put their own machine in place of the engine's; what is installed runs nothing but the engine.
    const machineModule = app.isPackaged ? undefined : process.env.PARAVANE_TEST_MACHINE;
    const manager = await Manager.open({
      resident: true,
      ...(machineModule !== undefined && { machineModule: pathToFileURL(machineModule).href }),
    });
    new Desktop(manager, files).start();
  } catch (error) {
    await refuseToStart(error);
  }
}

declareScheme();
// One application for each library: the browser's own files lie beside it, and its lock with them.
app.setPath('userData', ensureDirectory(path.join(dataDirectory(), 'shell')));
app.setAppUserModelId('org.paravane.Paravane');
const files = openedFiles(process.argv.slice(app.isPackaged ? 1 : 2), process.cwd());
if (app.requestSingleInstanceLock({ files })) void start(files);
else app.exit(0);
