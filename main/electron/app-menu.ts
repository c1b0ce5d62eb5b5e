// SPDX-License-Identifier: MIT
// The menu bar of the window in front, and the menu of the tray.
import { app, BrowserWindow, Menu } from 'electron';
import type { WebContents } from 'electron';
import type { MenuCommand } from '../contract/shell.ts';
import { menuTemplate } from './menu-template.ts';

export class AppMenu {
  readonly #commands = new WeakMap<WebContents, readonly MenuCommand[]>();
  readonly #clicked: (contents: WebContents, id: string) => void;

  /** `clicked` hears of each command chosen, with the window that it is for. */
  constructor(clicked: (contents: WebContents, id: string) => void) {
    this.#clicked = clicked;
  }

  set(contents: WebContents, commands: readonly MenuCommand[]): void {
    this.#commands.set(contents, commands);
    this.show(contents);
  }

  /** Call when a window is opened or comes to the front. */
  show(contents: WebContents): void {
    const window = BrowserWindow.fromWebContents(contents);
    if (window === null) return;
    const template = menuTemplate(this.#commands.get(contents) ?? [], process.platform, (id) =>
      this.#clicked(contents, id),
    );
    const menu = Menu.buildFromTemplate(template);
    // macOS has one menu bar, which is that of the window in front; elsewhere each window has its own.
    if (process.platform !== 'darwin') window.setMenu(menu);
    else if (window.isFocused()) Menu.setApplicationMenu(menu);
  }
}

/** What the tray offers: the machines that run are counted, because one may have forgotten them. */
export function trayMenu(running: number, show: () => void): Menu {
  const machines = running === 1 ? '1 machine is running' : `${running} machines are running`;
  return Menu.buildFromTemplate([
    { label: 'Open Paravane', click: show },
    { label: running === 0 ? 'No machine is running' : machines, enabled: false },
    { type: 'separator' },
    { label: 'Quit', click: () => app.quit() },
  ]);
}
