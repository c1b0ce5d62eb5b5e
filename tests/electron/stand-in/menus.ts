// SPDX-License-Identifier: MIT
// Menus and tray of the stand-in: kept as data, chosen by tests.
import { EventEmitter } from 'node:events';

export interface MenuItem {
  id?: string;
  label?: string;
  role?: string;
  type?: string;
  enabled: boolean;
  accelerator?: string;
  submenu?: Menu;
  click?: () => void;
}

export type Template = (Omit<Partial<MenuItem>, 'submenu'> & { submenu?: Template })[];

export class Menu {
  static application: Menu | null = null;
  readonly items: MenuItem[];

  static buildFromTemplate(template: Template): Menu {
    return new Menu(
      template.map(({ submenu, enabled = true, ...item }) => {
        // Electron refuses an item that is nothing.
        if (item.label === undefined && item.role === undefined && item.type === undefined)
          throw new Error('Invalid template for MenuItem: must have at least one of label, role or type');
        return { ...item, enabled, ...(submenu !== undefined && { submenu: Menu.buildFromTemplate(submenu) }) };
      }),
    );
  }

  static setApplicationMenu(menu: Menu | null): void {
    Menu.application = menu;
  }

  constructor(items: MenuItem[]) {
    this.items = items;
  }

  getMenuItemById(id: string): MenuItem | null {
    for (const item of this.items) {
      const found = item.id === id ? item : (item.submenu?.getMenuItemById(id) ?? null);
      if (found !== null) return found;
    }
    return null;
  }
}

export class Tray extends EventEmitter {
  menu: Menu | null = null;
  toolTip = '';
  #destroyed = false;

  setToolTip(text: string): void {
    this.toolTip = text;
  }

  setContextMenu(menu: Menu): void {
    this.menu = menu;
  }

  destroy(): void {
    this.#destroyed = true;
  }

  isDestroyed(): boolean {
    return this.#destroyed;
  }
}
