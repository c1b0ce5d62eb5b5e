// SPDX-License-Identifier: MIT
// The menu bar as data, made from the commands of the window's registry. What only the system can do (edit, hide, quit) is added by role.
import type { MenuItemConstructorOptions } from 'electron';
import type { MenuCommand } from '../contract/shell.ts';

/** Keys of the registry (as in KeyboardEvent.key) that Electron calls otherwise. */
const KEY_NAMES: Readonly<Record<string, string>> = {
  ArrowUp: 'Up',
  ArrowDown: 'Down',
  ArrowLeft: 'Left',
  ArrowRight: 'Right',
  ' ': 'Space',
};

/** A chord of the registry as an Electron accelerator; undefined when Electron has no word for it. */
export function acceleratorOf(keys: string | null): string | undefined {
  if (keys === null) return undefined;
  const parts = keys.split('+');
  const key = parts.pop() ?? '';
  const name = KEY_NAMES[key] ?? key;
  const known =
    /^([A-Z0-9]|[!-*,-/:-@[-`{-~]|F\d{1,2}|Up|Down|Left|Right|Space|Enter|Delete|Escape|Home|End|Tab|PageUp|PageDown)$/;
  if (!known.test(name) || parts.some((part) => !/^(Mod|Shift|Alt)$/.test(part))) return undefined;
  return [...parts.map((part) => (part === 'Mod' ? 'CommandOrControl' : part)), name].join('+');
}

const separator: MenuItemConstructorOptions = { type: 'separator' };

/** `click` is told the identifier of the command that was chosen. */
export function menuTemplate(
  commands: readonly MenuCommand[],
  platform: NodeJS.Platform,
  click: (id: string) => void,
): MenuItemConstructorOptions[] {
  const mac = platform === 'darwin';
  const groups = [...new Set(commands.map(({ group }) => group))];
  const item = ({ id, label, keys, enabled }: MenuCommand): MenuItemConstructorOptions => ({
    id,
    // An ampersand would mark a letter.
    label: label.replaceAll('&', '&&'),
    enabled,
    accelerator: acceleratorOf(keys),
    // Keys are the page's: only it knows whether they belong to a guest just now. The menu shows them.
    registerAccelerator: false,
    click: () => click(id),
  });
  const edit: MenuItemConstructorOptions = {
    label: 'Edit',
    submenu: [{ role: 'cut' }, { role: 'copy' }, { role: 'paste' }, { role: 'selectAll' }],
  };
  const system: MenuItemConstructorOptions[] = mac
    ? [{ role: 'minimize' }, { role: 'zoom' }, { role: 'togglefullscreen' }, { role: 'close' }]
    : [{ role: 'minimize' }, { role: 'togglefullscreen' }, { role: 'close' }, { role: 'quit' }];
  const of = (group: string): MenuItemConstructorOptions[] =>
    commands.filter((command) => command.group === group).map(item);
  const [first = 'Window', ...others] = groups;
  return [
    ...(mac ? [{ role: 'appMenu' } as MenuItemConstructorOptions] : []),
    { label: first, submenu: [...of(first), separator, ...system] },
    edit,
    ...others.map((group) => ({ label: group, submenu: of(group) })),
  ];
}
