// SPDX-License-Identifier: MIT
// Commands of the library: what machines there are and what they are made of.
import { PvError } from '../../engine/errors.ts';
import type { MachineChanges } from '../contract/machine.ts';
import type { KernelFacts, MachineSummary, UndoStep } from '../contract/machine.ts';
import { examineKernel } from '../kernel/examine.ts';
import type { CopyOptions } from '../library/copy-files.ts';
import type { LibraryMachine } from '../library/library.ts';
import type { Handlers } from './commands.ts';
import type { Manager } from './manager.ts';

type LibraryCommand =
  | `library:${string}`
  | `trash:${string}`
  | `machine:${'list' | 'get' | 'create' | 'clone' | 'rename' | 'move' | 'set' | 'remove' | 'order'}`;

/** The handlers of these commands for one manager. */
export function libraryCommands(manager: Manager): Pick<Handlers, Extract<keyof Handlers, LibraryCommand>> {
  const { library } = manager;

  const changed = ({
    machine,
    undo,
  }: {
    machine: LibraryMachine;
    undo: UndoStep;
  }): { machine: MachineSummary; undo: UndoStep } => {
    return { machine: manager.announce(machine), undo };
  };

  const withActivity = async <T>(
    id: string,
    activity: 'moving' | 'cloning',
    work: () => T | Promise<T>,
  ): Promise<T> => {
    const control = manager.control(id);
    control.activity = activity;
    manager.announce(control.machine);
    try {
      return await work();
    } finally {
      control.activity = null;
      manager.announce(control.machine);
    }
  };

  /** Runs work that copies files, as a task if it has a name. */
  const copying = <T>(
    task: string | undefined,
    text: string,
    work: (options: CopyOptions) => Promise<T>,
  ): Promise<T> =>
    task === undefined
      ? work({})
      : manager.tasks.run(task, (tell, signal) =>
          work({ signal, tell: (done, total) => tell({ text, done, total, unit: 'bytes' }) }),
        );

  const note = (id: string, text: string): void => {
    manager.happened(manager.control(id), { at: Date.now(), kind: 'settings', text });
  };

  return {
    'machine:list': () => ({ machines: manager.controls().map((control) => manager.summary(control)) }),
    'machine:get': ({ machine }) => manager.details(machine),
    'machine:create': async ({ folder, copyFiles, start, task, ...given }) => {
      const configuration = {
        kind: 'pv' as const,
        initrd: null,
        commandLine: '',
        vcpus: 1,
        onReboot: 'restart' as const,
        mfnOrder: 'offset' as const,
        tags: [],
        notes: '',
        autostart: false,
        consolePty: false,
        ...given,
      };
      const kernelFacts = await factsOf(configuration.kernel);
      const made = changed(
        await copying(task, `Copying the files of "${given.name}"`, (options) =>
          library.create({ configuration, kernelFacts, folder, copyFiles }, options),
        ),
      );
      const control = manager.control(made.machine.id);
      manager.happened(control, { at: Date.now(), kind: 'created', text: 'Created' });
      if (start) await control.start(manager.machineModule);
      return { machine: manager.summary(control), undo: made.undo };
    },
    'machine:clone': async ({ machine, name, folder, task }) =>
      changed(
        await copying(task, `Cloning as "${name}"`, (options) =>
          withActivity(machine, 'cloning', () => library.clone(machine, name, folder, options)),
        ),
      ),
    'machine:rename': ({ machine, name }) => changed(library.set(machine, { name })),
    'machine:set': async ({ machine, changes }) => {
      const facts = changes.kernel === undefined ? undefined : await factsOf(changes.kernel);
      const result = changed(library.set(machine, changes as MachineChanges, facts));
      manager.control(machine).offerConsole();
      note(machine, result.undo.label);
      return result;
    },
    'machine:move': async ({ machine, folder, task }) => {
      manager.letGo(machine);
      const result = await copying(task, `Moving to ${folder}`, (options) =>
        withActivity(machine, 'moving', () => library.move(machine, folder, options)),
      );
      return changed(result);
    },
    'machine:remove': ({ machine }) => {
      manager.letGo(machine);
      const undo = library.remove(machine);
      manager.forget(machine);
      return { undo };
    },
    'machine:order': ({ machines }) => {
      const undo = library.order(machines);
      manager.broadcast('library:reordered', { machines: library.machines().map(({ id }) => id) });
      return { undo };
    },
    'library:add': ({ folder }) => changed(library.add(folder)),
    'library:undo': async ({ undo }) => {
      const before = new Set(library.machines().map(({ id }) => id));
      const undone = await library.undo(undo);
      const after = library.machines();
      for (const id of before) if (!after.some((machine) => machine.id === id)) manager.forget(id);
      for (const machine of after) {
        manager.announce(machine);
        manager.control(machine.id).offerConsole();
      }
      manager.broadcast('library:reordered', { machines: after.map(({ id }) => id) });
      return { undone };
    },
    'trash:list': () => ({ machines: library.trash() }),
    'trash:restore': ({ machine }) => {
      const summary = manager.announce(library.restore(machine));
      manager.broadcast('library:reordered', { machines: library.machines().map(({ id }) => id) });
      return { machine: summary };
    },
    'trash:empty': ({ machine }) => ({ removed: library.emptyTrash(machine) }),
  };
}

/** What is in the kernel file; null when it cannot be read now. Starting it will say why. */
async function factsOf(kernel: string): Promise<KernelFacts | null> {
  try {
    return { ...(await examineKernel(kernel)).description };
  } catch (error) {
    if (error instanceof PvError) return null;
    throw error;
  }
}
