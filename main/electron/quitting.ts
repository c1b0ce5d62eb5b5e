// SPDX-License-Identifier: MIT
// Quitting with running guests: they would end with the application, so the user decides what becomes of them.
import { dialog } from 'electron';
import type { BrowserWindow, MessageBoxOptions, MessageBoxReturnValue } from 'electron';
import { STOP_SECONDS } from '../contract/machine.ts';
import type { MachineControl } from '../manager/machine-control.ts';
import type { Manager } from '../manager/manager.ts';

/** What the user chose. */
export type Choice = 'shut-down' | 'force' | 'keep' | 'cancel';

/** How long the end by force may take that follows an asked one. */
const FORCE_MS = 5000;

const CHOICES: readonly { choice: Choice; label: string }[] = [
  { choice: 'shut-down', label: 'Shut down and quit' },
  { choice: 'force', label: 'Power off at once and quit' },
  { choice: 'keep', label: 'Keep running in the background' },
  { choice: 'cancel', label: 'Cancel' },
];

/** Machines that would end with the application; one that was started elsewhere has a process that depends on nobody. */
export function machinesHere(manager: Manager): MachineControl[] {
  return manager.controls().filter((control) => control.live && control.startedHere);
}

/** Asks; nobody running needs no question. */
export async function askBeforeQuitting(names: readonly string[], window: BrowserWindow | null): Promise<Choice> {
  if (names.length === 0) return 'shut-down';
  const which = names.length === 1 ? `“${names[0]}” is running` : `${names.length} machines are running`;
  const { response } = await ask(window, {
    type: 'question',
    message: `${which}. What shall become of ${names.length === 1 ? 'it' : 'them'}?`,
    detail:
      'Machines end when Paravane quits. Shutting down asks each guest to power off; one that does not within ' +
      `${STOP_SECONDS} seconds is powered off.`,
    buttons: CHOICES.map(({ label }) => label),
    defaultId: 0,
    cancelId: CHOICES.length - 1,
    noLink: true,
  });
  return CHOICES[response]?.choice ?? 'cancel';
}

function ask(window: BrowserWindow | null, options: MessageBoxOptions): Promise<MessageBoxReturnValue> {
  return window === null ? dialog.showMessageBox(options) : dialog.showMessageBox(window, options);
}

/** Ends these machines and resolves when they are off; those that do not listen are ended by force. */
export async function endMachines(machines: readonly MachineControl[], how: 'shut-down' | 'force'): Promise<void> {
  await Promise.allSettled(machines.map((control) => endMachine(control, how)));
}

async function endMachine(control: MachineControl, how: 'shut-down' | 'force'): Promise<void> {
  const over = (): boolean => !control.live;
  if (how === 'shut-down' && control.state === 'running') {
    try {
      await control.ask(STOP_SECONDS, true);
      await control.until(over, STOP_SECONDS * 1000 + FORCE_MS);
    } catch {
      // Then by force.
    }
  }
  if (!over()) await control.force();
}
