// SPDX-License-Identifier: MIT
// What can be done with a machine: one table for header, menus, palette, shortcuts and "copy as command".
import { commandLineOf } from '../../main/contract/command-line.ts';
import type { CommandName, Request } from '../../main/contract/commands.ts';
import type { MachineSummary, UndoStep } from '../../main/contract/machine.ts';
import type { IconName } from '../controls/icons.ts';
import { dialogs } from '../state/dialogs.svelte.ts';
import { isActive, library } from '../state/library.svelte.ts';
import { invoke } from '../state/manager.svelte.ts';
import { settings } from '../state/settings.svelte.ts';
import { toasts } from '../state/toasts.svelte.ts';
import { ACTIVITY_WORDS, STATE_WORDS } from '../text/states.ts';

export type VerbId =
  | 'start'
  | 'pause'
  | 'resume'
  | 'shutDown'
  | 'forceStop'
  | 'reset'
  | 'dismiss'
  | 'rename'
  | 'clone'
  | 'move'
  | 'remove';

export interface Verb {
  id: VerbId;
  label: string;
  icon: IconName;
  /** One line on what it does, for tooltips and the palette. */
  hint: string;
  keys: string | null;
  danger?: boolean;
  /** Why it cannot be done now; null when it can. */
  reason(machine: MachineSummary): string | null;
  /** The command of the contract it comes down to; for those that ask for something first, with a placeholder. */
  command(machine: MachineSummary): { [Name in CommandName]: [Name, Request<Name>] }[CommandName];
  run(machine: MachineSummary): void;
}

/** Gives a lifecycle command; the new state is shown at once from the reply. */
function send<
  Name extends
    'machine:start' | 'machine:pause' | 'machine:resume' | 'machine:reset' | 'machine:stop' | 'machine:dismiss',
>(name: Name, request: Request<Name>): void {
  invoke(name, request).then(
    (machine) => library.put(machine),
    (error: unknown) => toasts.failed(error),
  );
}

/** Gives a command that can be taken back. Rejects with `CommandError`. */
export async function sendUndoable(work: Promise<{ undo: UndoStep; machine?: MachineSummary }>): Promise<void> {
  const { undo, machine } = await work;
  if (machine !== undefined) library.put(machine);
  toasts.undoable(undo);
}

/** What stands in the way of everything. */
function blocked(machine: MachineSummary): string | null {
  if (!machine.available) return 'Another program holds this machine; it can only be looked at.';
  if (machine.activity !== null) return `The machine is ${ACTIVITY_WORDS[machine.activity]}.`;
  return null;
}

const state = (machine: MachineSummary): string => STATE_WORDS[machine.state];

function onlyWhen(allowed: readonly MachineSummary['state'][], otherwise: (machine: MachineSummary) => string) {
  return (machine: MachineSummary): string | null =>
    blocked(machine) ?? (allowed.includes(machine.state) ? null : otherwise(machine));
}

const notActive = (machine: MachineSummary): string | null =>
  blocked(machine) ?? (isActive(machine) ? `The machine is ${state(machine)}; shut it down first.` : null);

export const verbs: readonly Verb[] = [
  {
    id: 'start',
    label: 'Start',
    icon: 'play',
    hint: 'Starts the guest',
    keys: 'Mod+Enter',
    reason: onlyWhen(['off', 'crashed'], (machine) => `The machine is ${state(machine)} already.`),
    command: ({ id }) => ['machine:start', { machine: id }],
    run: ({ id }) => send('machine:start', { machine: id }),
  },
  {
    id: 'pause',
    label: 'Pause',
    icon: 'pause',
    hint: 'Stops the guest’s time; it uses no CPU until it is resumed',
    keys: 'Mod+Shift+Z',
    reason: onlyWhen(['running'], (machine) => `Only a running machine can be paused; this one is ${state(machine)}.`),
    command: ({ id }) => ['machine:pause', { machine: id }],
    run: ({ id }) => send('machine:pause', { machine: id }),
  },
  {
    id: 'resume',
    label: 'Resume',
    icon: 'play',
    hint: 'Lets the guest go on where it was paused',
    keys: 'Mod+Enter',
    reason: onlyWhen(['paused'], (machine) => `The machine is ${state(machine)}, not paused.`),
    command: ({ id }) => ['machine:resume', { machine: id }],
    run: ({ id }) => send('machine:resume', { machine: id }),
  },
  {
    id: 'shutDown',
    label: 'Shut down',
    icon: 'power',
    hint: 'Asks the guest to power off',
    keys: 'Mod+Shift+D',
    reason: onlyWhen(['running'], (machine) =>
      machine.state === 'paused'
        ? 'A paused guest cannot shut down; resume it first.'
        : `The machine is ${state(machine)}.`,
    ),
    command: ({ id }) => ['machine:stop', { machine: id, how: 'ask' }],
    run: ({ id }) => send('machine:stop', { machine: id, how: 'ask' }),
  },
  {
    id: 'forceStop',
    label: 'Force off',
    icon: 'stop',
    hint: 'Ends the guest at once, like pulling the plug',
    keys: null,
    danger: true,
    reason: (machine) =>
      (machine.activity === 'stopping' && machine.available ? null : blocked(machine)) ??
      (isActive(machine) ? null : `The machine is ${state(machine)}.`),
    command: ({ id }) => ['machine:stop', { machine: id, how: 'force' }],
    run: (machine) => {
      const stop = (): void => send('machine:stop', { machine: machine.id, how: 'force' });
      if (settings.values.confirmForceStop) {
        dialogs.confirm({
          title: `Force “${machine.name}” off?`,
          text: 'The guest ends at once and loses what it has not written. “Shut down” asks it to end by itself.',
          verb: 'Force off',
          run: stop,
        });
      } else stop();
    },
  },
  {
    id: 'reset',
    label: 'Reset',
    icon: 'reset',
    hint: 'Ends the guest at once and starts it again',
    keys: null,
    danger: true,
    reason: (machine) =>
      blocked(machine) ?? (isActive(machine) ? null : `The machine is ${state(machine)}; start it instead.`),
    command: ({ id }) => ['machine:reset', { machine: id }],
    run: (machine) => {
      const reset = (): void => send('machine:reset', { machine: machine.id });
      if (settings.values.confirmForceStop) {
        dialogs.confirm({
          title: `Reset “${machine.name}”?`,
          text: 'The guest ends at once, loses what it has not written, and starts again.',
          verb: 'Reset',
          run: reset,
        });
      } else reset();
    },
  },
  {
    id: 'dismiss',
    label: 'Dismiss the crash',
    icon: 'check',
    hint: 'Takes note of the crash; the machine is off then',
    keys: null,
    reason: onlyWhen(['crashed'], () => 'The machine has not crashed.'),
    command: ({ id }) => ['machine:dismiss', { machine: id }],
    run: ({ id }) => send('machine:dismiss', { machine: id }),
  },
  {
    id: 'rename',
    label: 'Rename…',
    icon: 'edit',
    hint: 'Gives the machine another name',
    keys: 'F2',
    reason: blocked,
    command: ({ id }) => ['machine:rename', { machine: id, name: 'NEW NAME' }],
    run: (machine) => dialogs.open({ kind: 'rename', machine: machine.id }),
  },
  {
    id: 'clone',
    label: 'Clone…',
    icon: 'copy',
    hint: 'Makes another machine with the same configuration',
    keys: 'Mod+Shift+K',
    reason: notActive,
    command: ({ id, name }) => ['machine:clone', { machine: id, name: `${name} copy` }],
    run: (machine) => dialogs.open({ kind: 'clone', machine: machine.id }),
  },
  {
    id: 'move',
    label: 'Move folder…',
    icon: 'folder',
    hint: 'Moves the machine’s folder to another place',
    keys: null,
    reason: notActive,
    command: ({ id }) => ['machine:move', { machine: id, folder: 'NEW FOLDER' }],
    run: (machine) => dialogs.open({ kind: 'move', machine: machine.id }),
  },
  {
    id: 'remove',
    label: 'Move to trash',
    icon: 'trash',
    hint: 'Takes the machine out of the library; it can be restored from the trash',
    keys: 'Delete',
    danger: true,
    reason: notActive,
    command: ({ id }) => ['machine:remove', { machine: id }],
    run: ({ id }) => {
      sendUndoable(invoke('machine:remove', { machine: id })).catch((error: unknown) => toasts.failed(error));
    },
  },
];

export function verb(id: VerbId): Verb {
  return verbs.find((candidate) => candidate.id === id)!;
}

/** The one thing most people want to do next with this machine. */
export function primaryVerb(machine: MachineSummary): Verb {
  if (machine.state === 'paused') return verb('resume');
  if (machine.state === 'running' || machine.state === 'starting') return verb('pause');
  return verb('start');
}

/** The command line that does the same; null where there is none. */
export function commandLine(chosen: Verb, machine: MachineSummary): string | null {
  const [name, request] = chosen.command(machine);
  return commandLineOf(name, request as never, library.nameOf);
}
