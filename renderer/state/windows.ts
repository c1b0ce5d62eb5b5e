// SPDX-License-Identifier: MIT
// Windows of their own for a console, a terminal or the charts of one machine.
import { inDesktop } from './desktop.ts';
import { invoke } from './manager.svelte.ts';
import { hashOf } from './navigation.svelte.ts';
import type { DetachedTab } from './navigation.svelte.ts';
import { toasts } from './toasts.svelte.ts';

/** One window per machine and kind: asking again brings it to the front. */
export function openDetached(machine: string, tab: DetachedTab): void {
  if (inDesktop) {
    invoke('window:open', { machine, tab }).catch((error: unknown) => toasts.failed(error));
    return;
  }
  const address = location.pathname + location.search + hashOf({ page: 'detached', machine, tab });
  const opened = window.open(address, `paravane-${tab}-${machine}`, 'popup,width=960,height=640');
  if (opened === null) toasts.say('The browser did not allow a new window; allow pop-ups for this page.');
  else opened.focus();
}
