// SPDX-License-Identifier: MIT
// The menu of one machine, the same wherever it is opened.
import { registry } from '../commands/registry.svelte.ts';
import { commandLine, verb, type VerbId } from '../commands/verbs.ts';
import type { MachineSummary } from '../../main/contract/machine.ts';
import type { MenuItem } from '../controls/menus.svelte.ts';
import { dialogs } from '../state/dialogs.svelte.ts';
import { library } from '../state/library.svelte.ts';
import { navigation } from '../state/navigation.svelte.ts';
import { openDetached } from '../state/windows.ts';
import { moveInOrder, orderLine } from './order.ts';

const LIFECYCLE: readonly VerbId[] = ['start', 'resume', 'pause', 'shutDown', 'reset', 'forceStop', 'dismiss'];
const EDITING: readonly VerbId[] = ['rename', 'clone', 'move'];

function item(id: VerbId, machine: MachineSummary): MenuItem {
  const { label, icon, danger, reason, run } = verb(id);
  return {
    label,
    icon,
    danger,
    keys: registry.keys(`machine.${id}`),
    reason: reason(machine),
    commandLine: commandLine(verb(id), machine),
    run: () => run(machine),
  };
}

/** What makes sense in the machine's state; the rest is left out of the lifecycle part and shown with its reason elsewhere. */
export function machineMenu(machine: MachineSummary, where: 'library' | 'header'): MenuItem[] {
  const lifecycle = LIFECYCLE.map((id) => item(id, machine)).filter((entry) => !entry.reason);
  const index = library.order.indexOf(machine.id);
  const order: MenuItem[] = [
    {
      label: 'Move up',
      icon: 'up',
      keys: registry.keys('machine.up'),
      reason: index <= 0 ? 'The machine is the first already.' : null,
      commandLine: orderLine(machine.id, -1),
      run: () => moveInOrder(machine.id, -1),
    },
    {
      label: 'Move down',
      icon: 'down',
      keys: registry.keys('machine.down'),
      reason: index >= library.order.length - 1 ? 'The machine is the last already.' : null,
      commandLine: orderLine(machine.id, 1),
      run: () => moveInOrder(machine.id, 1),
    },
  ];
  return [
    ...(where === 'library' ? lifecycle : []),
    { label: 'Console in its own window', icon: 'detach', run: () => openDetached(machine.id, 'console') },
    { label: 'Performance in its own window', icon: 'chart', run: () => openDetached(machine.id, 'performance') },
    ...EDITING.map((id, i) => ({ ...item(id, machine), separated: i === 0 })),
    { label: 'Tags and notes', icon: 'info', run: () => navigation.toMachine(machine.id, 'settings') },
    ...(where === 'library' ? order : []),
    { label: 'Copy as command…', icon: 'terminal', run: () => dialogs.open({ kind: 'commands', machine: machine.id }) },
    { ...item('remove', machine), separated: true },
  ];
}

/** Ways to end a run, below the power button. */
export function powerMenu(machine: MachineSummary): MenuItem[] {
  return (['shutDown', 'reset', 'forceStop'] as const).map((id) => item(id, machine));
}
