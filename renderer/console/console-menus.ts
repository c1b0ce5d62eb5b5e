// SPDX-License-Identifier: MIT
// Menus and commands of the console.
import { commandLineOf } from '../../main/contract/command-line.ts';
import type { MachineSummary } from '../../main/contract/machine.ts';
import type { AppCommand } from '../commands/registry.svelte.ts';
import type { MenuItem } from '../controls/menus.svelte.ts';
import { dialogs } from '../state/dialogs.svelte.ts';
import { library } from '../state/library.svelte.ts';
import { invoke } from '../state/manager.svelte.ts';
import { navigation } from '../state/navigation.svelte.ts';
import { settings } from '../state/settings.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';
import { fromBase64 } from '../text/base64.ts';
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

interface ConsoleActions {
  search(): void;
  copy(): void;
  paste(): void;
  type(): void;
  screenshot(): void;
  record(): void;
  detach(): void;
  focus(): void;
  recording(): boolean;
  notLive(): string | null;
  commandLine(): string | null;
}

/** What the open console adds to palette, help sheet and keys. */
export function consoleCommands(actions: ConsoleActions): AppCommand[] {
  const always = (): null => null;
  return [
    {
      id: 'console.focus',
      group: 'Console',
      label: 'Type into the console',
      icon: 'terminal',
      keys: 'Alt+C',
      reason: always,
      run: actions.focus,
      commandLine: actions.commandLine,
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
      label: 'Paste into the guest',
      icon: 'copy',
      keys: 'Mod+Shift+V',
      inConsole: true,
      reason: actions.notLive,
      run: actions.paste,
    },
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
