// SPDX-License-Identifier: MIT
// Every command of the window in one table: label, key, when it can be done. Palette, help sheet, menus and tooltips read it.
import { commandLineOf } from '../../main/contract/command-line.ts';
import type { IconName } from '../controls/icons.ts';
import { dialogs } from '../state/dialogs.svelte.ts';
import { library } from '../state/library.svelte.ts';
import { MACHINE_TABS, navigation } from '../state/navigation.svelte.ts';
import type { MachineTab } from '../state/navigation.svelte.ts';
import { settings } from '../state/settings.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';
import { moveInOrder, orderLine } from '../library/order.ts';
import { makeWelcomeGuest } from '../wizard/welcome-guest.ts';
import { matches, parseChord } from './keys.ts';
import { saveReport } from './save-report.ts';
import { commandLine, verbs } from './verbs.ts';
import { view } from '../state/view.svelte.ts';

export interface AppCommand {
  id: string;
  group: 'Window' | 'Machine' | 'Console' | 'Performance';
  label: string;
  icon?: IconName;
  /** Chord by default; the user may have another. */
  keys: string | null;
  /** Works while a console has the focus, where most keys belong to the guest. */
  inConsole?: boolean;
  /** Why it cannot be done now; null when it can. */
  reason(): string | null;
  run(): void;
  /** The line for a shell that does the same. */
  commandLine?(): string | null;
}

const always = (): null => null;

const machineNow = () => library.get(navigation.machine);
const needsMachine = (): string | null => (machineNow() === null ? 'Choose a machine first.' : null);

const TAB_LABELS: Readonly<Record<MachineTab, string>> = {
  overview: 'Overview',
  console: 'Console',
  terminal: 'Host terminal',
  performance: 'Performance',
  settings: 'Settings',
  log: 'Log',
};

const windowCommands: AppCommand[] = [
  {
    id: 'palette',
    group: 'Window',
    label: 'Search or run a command',
    icon: 'search',
    keys: 'Mod+K',
    reason: always,
    run: () => dialogs.open({ kind: 'palette' }),
  },
  {
    id: 'paletteAnywhere',
    group: 'Window',
    label: 'Search or run a command, from anywhere',
    icon: 'search',
    keys: 'Mod+Shift+P',
    inConsole: true,
    reason: always,
    run: () => dialogs.open({ kind: 'palette' }),
  },
  {
    id: 'newMachine',
    group: 'Window',
    label: 'New machine…',
    icon: 'plus',
    keys: 'Alt+N',
    reason: always,
    run: () => dialogs.newMachine(),
    commandLine: () => 'paravane create --kernel=FILE NAME',
  },
  {
    id: 'openFile',
    group: 'Window',
    label: 'Open a file…',
    icon: 'file',
    keys: 'Mod+O',
    reason: always,
    run: () => dialogs.newMachine({ file: '' }),
    commandLine: () => 'paravane inspect FILE',
  },
  {
    id: 'welcome',
    group: 'Window',
    label: 'Make and start a welcome guest',
    icon: 'sail',
    keys: null,
    reason: always,
    run: () => void makeWelcomeGuest().catch((error: unknown) => toasts.failed(error)),
    commandLine: () => commandLineOf('welcome:create', { task: '', variant: 'best', start: true }),
  },
  {
    id: 'findMachine',
    group: 'Window',
    label: 'Find in the library',
    icon: 'search',
    keys: 'Mod+F',
    reason: always,
    run: () => view.focusSearch(),
  },
  {
    id: 'focusLibrary',
    group: 'Window',
    label: 'Go to the library (leaves the console)',
    icon: 'list',
    keys: 'Mod+Shift+L',
    inConsole: true,
    reason: always,
    run: () => view.focusLibrary(),
  },
  {
    id: 'toggleLibrary',
    group: 'Window',
    label: 'Show or hide the library',
    icon: 'sidebar',
    keys: 'Mod+B',
    reason: always,
    run: () => view.toggleLibrary(),
  },
  {
    id: 'allMachines',
    group: 'Window',
    label: 'Performance of all machines',
    icon: 'chart',
    keys: 'Alt+0',
    reason: always,
    run: () => navigation.go({ page: 'overview' }),
    commandLine: () => 'paravane list',
  },
  {
    id: 'settings',
    group: 'Window',
    label: 'Settings',
    icon: 'settings',
    keys: 'Mod+,',
    reason: always,
    run: () => navigation.go({ page: 'settings' }),
    commandLine: () => 'paravane settings',
  },
  {
    id: 'diagnostics',
    group: 'Window',
    label: 'Diagnostics',
    icon: 'pulse',
    keys: null,
    reason: always,
    run: () => navigation.go({ page: 'diagnostics' }),
    commandLine: () => 'paravane diagnostics',
  },
  {
    id: 'trash',
    group: 'Window',
    label: 'Trash',
    icon: 'trash',
    keys: null,
    reason: always,
    run: () => navigation.go({ page: 'trash' }),
    commandLine: () => 'paravane trash list',
  },
  {
    id: 'theme',
    group: 'Window',
    label: 'Switch between light and dark',
    icon: 'moon',
    keys: 'Alt+T',
    reason: always,
    run: () => {
      settings
        .set({ theme: settings.theme === 'dark' ? 'light' : 'dark' })
        .catch((error: unknown) => toasts.failed(error));
    },
  },
  {
    id: 'undo',
    group: 'Window',
    label: 'Undo',
    icon: 'undo',
    keys: 'Mod+Z',
    reason: always,
    run: () => void toasts.undo(),
    commandLine: () => 'paravane undo',
  },
  {
    id: 'report',
    group: 'Window',
    label: 'Save a report for a bug',
    icon: 'download',
    keys: null,
    reason: always,
    run: () => void saveReport(),
    commandLine: () => commandLineOf('diagnostics:report', {}),
  },
  {
    id: 'help',
    group: 'Window',
    label: 'Keyboard shortcuts',
    icon: 'keyboard',
    keys: '?',
    reason: always,
    run: () => dialogs.open({ kind: 'help' }),
  },
];

const verbCommands: AppCommand[] = verbs.map((verb) => ({
  id: `machine.${verb.id}`,
  group: 'Machine',
  label: verb.label,
  icon: verb.icon,
  keys: verb.keys,
  reason: () => {
    const machine = machineNow();
    return machine === null ? 'Choose a machine first.' : verb.reason(machine);
  },
  run: () => verb.run(machineNow()!),
  commandLine: () => {
    const machine = machineNow();
    return machine === null ? null : commandLine(verb, machine);
  },
}));

const tabCommands: AppCommand[] = MACHINE_TABS.map((tab, index) => ({
  id: `tab.${tab}`,
  group: 'Machine',
  label: `Show ${TAB_LABELS[tab]}`,
  keys: `Alt+${index + 1}`,
  reason: needsMachine,
  run: () => navigation.toMachine(navigation.machine!, tab),
}));

function step(by: -1 | 1): void {
  const order = view.shown.length > 0 ? view.shown : library.order;
  const next = order[order.indexOf(navigation.machine ?? '') + by];
  if (next !== undefined) navigation.toMachine(next);
}

const orderReason = (by: -1 | 1) => (): string | null => {
  const missing = needsMachine();
  if (missing !== null) return missing;
  const next = library.order.indexOf(navigation.machine!) + by;
  return next < 0 || next >= library.order.length ? `The machine is the ${by < 0 ? 'first' : 'last'} already.` : null;
};

const orderCommands: AppCommand[] = [
  {
    id: 'machine.previous',
    group: 'Machine',
    label: 'Previous machine',
    keys: 'Alt+ArrowUp',
    reason: always,
    run: () => step(-1),
  },
  {
    id: 'machine.next',
    group: 'Machine',
    label: 'Next machine',
    keys: 'Alt+ArrowDown',
    reason: always,
    run: () => step(1),
  },
  {
    id: 'machine.up',
    group: 'Machine',
    label: 'Move up in the library',
    icon: 'up',
    keys: 'Alt+Shift+ArrowUp',
    reason: orderReason(-1),
    run: () => moveInOrder(navigation.machine!, -1),
    commandLine: () => orderLine(navigation.machine!, -1),
  },
  {
    id: 'machine.down',
    group: 'Machine',
    label: 'Move down in the library',
    icon: 'down',
    keys: 'Alt+Shift+ArrowDown',
    reason: orderReason(1),
    run: () => moveInOrder(navigation.machine!, 1),
    commandLine: () => orderLine(navigation.machine!, 1),
  },
  {
    id: 'machine.commands',
    group: 'Machine',
    label: 'Copy as command…',
    icon: 'terminal',
    keys: null,
    reason: needsMachine,
    run: () => dialogs.open({ kind: 'commands', machine: navigation.machine! }),
  },
];

class Registry {
  /** Commands of what is on the page at the moment (a console, a chart), added by it while it is there. */
  #local = $state.raw<AppCommand[]>([]);
  readonly all = $derived([...windowCommands, ...verbCommands, ...tabCommands, ...orderCommands, ...this.#local]);

  /** Returns a function that takes them away again. */
  add(commands: AppCommand[]): () => void {
    this.#local = [...this.#local, ...commands];
    return () => {
      this.#local = this.#local.filter((command) => !commands.includes(command));
    };
  }

  get(id: string): AppCommand | undefined {
    return this.all.find((command) => command.id === id);
  }

  /** The chord that runs a command: the user's own, or the default. */
  keysOf(command: AppCommand): string | null {
    const own = settings.values.shortcuts[command.id];
    return own === undefined ? command.keys : own;
  }

  keys(id: string): string | null {
    const command = this.get(id);
    return command === undefined ? null : this.keysOf(command);
  }

  /** Runs what the key means, if it means something here; true when it was taken. */
  handle(event: KeyboardEvent, where: { inConsole: boolean; inField: boolean }): boolean {
    const candidates = this.all.filter((command) => {
      const keys = this.keysOf(command);
      const chord = keys === null ? null : parseChord(keys);
      if (chord === null || !matches(chord, event)) return false;
      if (where.inConsole) return command.inConsole === true;
      // Keys that edit text stay with the field.
      return !where.inField || ((chord.mod || chord.alt) && !EDITING.has(keys!)) || /^F\d+$/.test(chord.key);
    });
    if (candidates.length === 0) return false;
    // Start and Resume share a key: the one that can be done is meant.
    const command = candidates.find((candidate) => candidate.reason() === null);
    if (command !== undefined) command.run();
    else toasts.say(candidates[0].reason()!);
    return true;
  }
}

const EDITING = new Set(['Mod+Z', 'Mod+Shift+Z', 'Mod+B', 'Mod+Enter']);

export const registry = new Registry();
