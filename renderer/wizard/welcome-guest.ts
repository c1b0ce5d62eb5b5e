// SPDX-License-Identifier: MIT
// Makes and starts the welcome guest, then shows its console.
import { library } from '../state/library.svelte.ts';
import { invoke } from '../state/manager.svelte.ts';
import { navigation } from '../state/navigation.svelte.ts';
import { tasks } from '../state/tasks.svelte.ts';

/** `known` gets the identifier of the task, to show its progress. Rejects with `CommandError`. */
export async function makeWelcomeGuest(known?: (task: string) => void): Promise<void> {
  const { machine } = await tasks.run(
    'Making the welcome guest',
    (task) => invoke('welcome:create', { task, variant: 'best', start: true }),
    known,
  );
  library.put(machine);
  navigation.toMachine(machine.id, 'console');
}
