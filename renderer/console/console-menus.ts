// SPDX-License-Identifier: MIT
// Menus and commands of the console.
import { commandLineOf } from '../../main/contract/command-line.ts';
import type { MachineSummary } from '../../main/contract/machine.ts';
import { copyText, saveFile } from '../commands/clipboard.ts';
import { registry } from '../commands/registry.svelte.ts';
import type { AppCommand } from '../commands/registry.svelte.ts';
import { sendUndoable } from '../commands/verbs.ts';
import type { MenuItem } from '../controls/menus.svelte.ts';
import { dialogs } from '../state/dialogs.svelte.ts';
import { library } from '../state/library.svelte.ts';
import { invoke } from '../state/manager.svelte.ts';
import { navigation } from '../state/navigation.svelte.ts';
import { settings } from '../state/settings.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';
import { fromBase64 } from '../text/base64.ts';
import { stamp } from '../text/times.ts';
import type { Size } from './asciicast.ts';
import { ordered, SYSRQ_KEYS, used } from './send-keys.ts';
import type { TerminalSession } from './terminal-session.svelte.ts';

const LAST_USED = 'sendKeysLastUsed';

export function sendKeysMenu(session: TerminalSession): MenuItem[] {
  const own = settings.values.keyCombinations.map(({ label, bytes }) => ({ label, bytes: fromBase64(bytes) }));
  const lastUsed = settings.layout(LAST_USED, '');
  return [
    ...ordered(own, lastUsed).map(({ label, bytes }) => ({
      label,
      run: () => {
        session.send(bytes);
        settings.keepLayout(LAST_USED, used(lastUsed, label));
        session.terminal.focus();
      },
    })),
    {
      label: 'Own combinations…',
      icon: 'settings' as const,
      separated: true,
      run: () => navigation.go({ page: 'settings' }),
    },
  ];
}

export function sysrqMenu(machine: MachineSummary): MenuItem[] {
  return SYSRQ_KEYS.map(({ key, label, harmful }, i) => ({
    label: `${label} (${key})`,
    danger: harmful,
    separated: harmful === true && SYSRQ_KEYS[i - 1]?.harmful !== true,
    commandLine: commandLineOf('machine:sysrq', { machine: machine.id, key }, library.nameOf),
    run: () => {
      const send = (): void => {
        invoke('machine:sysrq', { machine: machine.id, key }).catch((error: unknown) => toasts.failed(error));
      };
      if (harmful !== true) send();
      else
        dialogs.confirm({
          title: `SysRq ${key} to “${machine.name}”?`,
          text: `${label}. The guest does this at once.`,
          verb: 'Send',
          run: send,
        });
    },
  }));
}

/** What every terminal can do. */
interface TerminalActions {
  search(): void;
  copy(): void;
  paste(): void;
  focus(): void;
  /** Why nothing can be typed now. */
  notLive(): string | null;
}

interface ConsoleActions extends TerminalActions {
  type(): void;
  fit(): void;
  screenshot(): void;
  record(): void;
  detach(): void;
  recording(): boolean;
  commandLine(): string | null;
}

const always = (): null => null;

/** What an open terminal adds to palette, help sheet and keys. */
export function terminalCommands(actions: TerminalActions, commandLine?: () => string | null): AppCommand[] {
  return [
    {
      id: 'console.focus',
      group: 'Console',
      label: 'Type into the console',
      icon: 'terminal',
      keys: 'Alt+C',
      reason: always,
      run: actions.focus,
      ...(commandLine && { commandLine }),
    },
    {
      id: 'console.search',
      group: 'Console',
      label: 'Search the console',
      icon: 'search',
      keys: 'Mod+Shift+F',
      inConsole: true,
      reason: always,
      run: actions.search,
    },
    {
      id: 'console.copy',
      group: 'Console',
      label: 'Copy selection or everything',
      icon: 'copy',
      keys: 'Mod+Shift+C',
      inConsole: true,
      reason: always,
      run: actions.copy,
    },
    {
      id: 'console.paste',
      group: 'Console',
      label: 'Paste',
      icon: 'copy',
      keys: 'Mod+Shift+V',
      inConsole: true,
      reason: actions.notLive,
      run: actions.paste,
    },
  ];
}

/** What the open console of a guest adds. */
export function consoleCommands(actions: ConsoleActions): AppCommand[] {
  return [
    ...terminalCommands(actions, actions.commandLine),
    {
      id: 'console.type',
      group: 'Console',
      label: 'Type text…',
      icon: 'edit',
      keys: 'Mod+Shift+Y',
      inConsole: true,
      reason: actions.notLive,
      run: actions.type,
    },
    {
      id: 'console.fit',
      group: 'Console',
      label: 'Fit guest to window: type its size into the shell',
      icon: 'terminal',
      keys: 'Mod+Shift+G',
      inConsole: true,
      reason: actions.notLive,
      run: actions.fit,
    },
    {
      id: 'console.screenshot',
      group: 'Console',
      label: 'Picture of the console',
      icon: 'camera',
      keys: 'Mod+Shift+S',
      inConsole: true,
      reason: always,
      run: actions.screenshot,
    },
    {
      id: 'console.record',
      group: 'Console',
      label: actions.recording() ? 'Stop recording and save' : 'Record as asciicast',
      icon: 'record',
      keys: 'Mod+Shift+E',
      inConsole: true,
      reason: always,
      run: actions.record,
    },
    {
      id: 'console.detach',
      group: 'Console',
      label: 'Console in its own window',
      icon: 'detach',
      keys: 'Mod+Shift+O',
      inConsole: true,
      reason: always,
      run: actions.detach,
    },
  ];
}

/** The line that gives a shell's terminal the size of this window. */
export const fitLine = ({ columns, rows }: Size): string => `stty columns ${columns} rows ${rows}\r`;

/** What the menu at the end of the console's toolbar offers. `device` is the console's pseudo-terminal, null when there is none. */
export function optionsMenu(machine: MachineSummary, session: TerminalSession, wanted: boolean, device: string | null) {
  const notLive = session.live ? null : 'The machine is not running.';
  const setDevice = (consolePty: boolean): void => {
    sendUndoable(invoke('machine:set', { machine: machine.id, changes: { consolePty } })).catch((error: unknown) =>
      toasts.failed(error),
    );
  };
  const items: MenuItem[] = [
    {
      label: 'Copy as command',
      icon: 'terminal',
      run: () =>
        void copyText(commandLineOf('console:attach', { machine: machine.id }, library.nameOf) ?? '', 'the command'),
    },
    {
      label: 'Fit guest to window',
      icon: 'edit',
      keys: registry.keys('console.fit'),
      reason: notLive,
      run: () => fit(session),
    },
    {
      label: 'Save everything as text',
      icon: 'download',
      run: () =>
        saveFile(`${machine.name}-${stamp(Date.now())}.txt`, new Blob([session.text()], { type: 'text/plain' })),
    },
    { label: 'Clear scrollback here', icon: 'close', run: () => session.terminal.clear() },
    {
      label: 'Offer to other programs as a device',
      separated: true,
      checked: wanted,
      commandLine: commandLineOf(
        'machine:set',
        { machine: machine.id, changes: { consolePty: !wanted } },
        library.nameOf,
      ),
      run: () => setDevice(!wanted),
    },
  ];
  if (wanted) {
    items.push({
      label: device === null ? 'Copy the device’s path' : `Copy ${device}`,
      icon: 'copy',
      reason: device === null ? 'There is one while the machine runs.' : null,
      run: () => void copyText(device ?? '', device ?? ''),
    });
  }
  return items;
}

/** Tells the guest's shell how large this window is, by typing it: the console itself has no way to say so. */
export function fit(session: TerminalSession): void {
  session.send(new TextEncoder().encode(fitLine(session.size)));
  session.terminal.focus();
}
