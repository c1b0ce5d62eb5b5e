// SPDX-License-Identifier: MIT
// The desktop's menu bar: shows the registry's commands, and what is chosen there is done here.
import type { MenuCommand } from '../../main/contract/shell.ts';
import { inDesktop } from '../state/desktop.ts';
import { dialogs } from '../state/dialogs.svelte.ts';
import { invoke, on } from '../state/manager.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';
import { registry } from './registry.svelte.ts';

/** Changes come in flocks: a machine's new state touches a dozen commands. */
const MENU_PAUSE_MS = 100;

function menuNow(): MenuCommand[] {
  return registry.all.map((command) => ({
    id: command.id,
    group: command.group,
    label: command.label,
    keys: registry.keysOf(command),
    enabled: command.reason() === null,
  }));
}

/** Keeps the menu bar as the registry is and does what is chosen there. Called once; does nothing in a browser. */
export function followDesktop(): void {
  if (!inDesktop) return;
  let sent = '';
  let timer: ReturnType<typeof setTimeout> | undefined;
  $effect.root(() => {
    $effect(() => {
      const commands = menuNow();
      const text = JSON.stringify(commands);
      clearTimeout(timer);
      if (text === sent) return;
      timer = setTimeout(() => {
        sent = text;
        invoke('window:setMenu', { commands }).catch((error: unknown) => toasts.failed(error));
      }, MENU_PAUSE_MS);
    });
  });
  on('menu:clicked', ({ id }) => {
    const command = registry.get(id);
    const reason = command?.reason() ?? null;
    if (reason !== null) toasts.say(reason);
    else command?.run();
  });
  on('file:opened', ({ path }) => dialogs.newMachine({ file: path }));
}
