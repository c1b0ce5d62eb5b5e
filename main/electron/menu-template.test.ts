// SPDX-License-Identifier: MIT
// The menu bar from registry commands: labels, keys, groups, roles of the system.
import type { MenuItemConstructorOptions } from 'electron';
import { describe, expect, it } from 'vitest';
import type { MenuCommand } from '../contract/shell.ts';
import { acceleratorOf, menuTemplate } from './menu-template.ts';

describe('acceleratorOf', () => {
  it.each([
    ['Mod+K', 'CommandOrControl+K'],
    ['Mod+Shift+P', 'CommandOrControl+Shift+P'],
    ['Alt+Shift+ArrowUp', 'Alt+Shift+Up'],
    ['Mod+,', 'CommandOrControl+,'],
    ['?', '?'],
    ['F5', 'F5'],
    ['Delete', 'Delete'],
    ['Hyper+K', undefined],
    ['Mod+Ü', undefined],
    ['', undefined],
    [null, undefined],
  ])('%s is %s', (keys, accelerator) => expect(acceleratorOf(keys)).toBe(accelerator));
});

describe('menuTemplate', () => {
  const command = (id: string, group: string, enabled = true): MenuCommand => ({
    id,
    group,
    label: `Do & ${id}`,
    keys: 'Mod+K',
    enabled,
  });
  const items = (menu: MenuItemConstructorOptions): MenuItemConstructorOptions[] =>
    menu.submenu as MenuItemConstructorOptions[];

  it('has a menu for each group, with every command in it', () => {
    const clicked: string[] = [];
    const commands = [command('a', 'Window'), command('b', 'Machine', false), command('c', 'Machine')];
    const menus = menuTemplate(commands, 'linux', (id) => clicked.push(id));
    expect(menus.map(({ label }) => label)).toEqual(['Window', 'Edit', 'Machine']);
    expect(items(menus[2]).map(({ id, enabled }) => [id, enabled])).toEqual([
      ['b', false],
      ['c', true],
    ]);
    expect(items(menus[2])[0]).toMatchObject({ label: 'Do && b', registerAccelerator: false });
    (items(menus[2])[1].click as () => void)();
    expect(clicked).toEqual(['c']);
  });

  it('can quit before any page has spoken, on every system', () => {
    expect(items(menuTemplate([], 'linux', () => undefined)[0])).toContainEqual({ role: 'quit' });
    expect(menuTemplate([], 'darwin', () => undefined)[0]).toEqual({ role: 'appMenu' });
  });
});
