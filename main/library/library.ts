// SPDX-License-Identifier: MIT
// The library of machines: every change of what exists, under a lock so that several programs can share one library.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { PvError, pvError } from '../../engine/errors.ts';
import type {
  KernelFacts,
  MachineChanges,
  MachineConfiguration,
  TrashedMachine,
  UndoStep,
} from '../contract/machine.ts';
import { lockFile } from '../vm/folder-lock.ts';
import { absolutePath, ensureDirectory } from './directories.ts';
import { indexFilePath, readIndex, writeIndex } from './index-file.ts';
import type { LibraryIndex, UndoEntry } from './index-file.ts';
import { machineFilePath, parseMachineFile, readMachineFile, writeMachineFile } from './machine-file.ts';
import type { MachineFile } from './machine-file.ts';
import { copyInto, copyMachineFiles, makeMachineFolder, moveFolder, requireUnlocked } from './machine-folder.ts';

/** A machine of the library. When its file cannot be used, `problem` says why and `file` holds what is known from the copy of it. */
export interface LibraryMachine {
  id: string;
  folder: string;
  file: MachineFile;
  problem: PvError | null;
}

export interface NewMachine {
  configuration: MachineConfiguration;
  kernelFacts: KernelFacts | null;
  folder?: string | undefined;
  copyFiles?: boolean | undefined;
}

export interface LibraryOptions {
  dataDirectory: string;
  /** Where machines go that are not given a folder. */
  machinesDirectory(): string;
  /** Throws when the machine's state does not allow what `verb` ("be moved") says. */
  guard(machine: LibraryMachine, verb: string): void;
}

const LOCK_WAIT_MS = 3000;

type UndoCommand = Pick<UndoEntry, 'command' | 'request'>;

export class Library {
  readonly #options: LibraryOptions;
  /** Parsed machine files; valid as long as the file on disk has the same stamp. */
  readonly #cache = new Map<string, { stamp: string; machine: LibraryMachine }>();
  #index: LibraryIndex;
  #indexStamp = '';

  /** Reads the index. Throws `library-file-invalid`, `folder-unusable`. */
  constructor(options: LibraryOptions) {
    this.#options = options;
    ensureDirectory(options.dataDirectory);
    this.#index = this.#freshIndex();
  }

  /** All machines in the user's order, as they are on disk now. */
  machines(): LibraryMachine[] {
    this.#index = this.#freshIndex();
    return this.#index.machines.map(({ id, folder }) => this.#load(id, folder));
  }

  /** Throws `machine-unknown`. */
  get(id: string): LibraryMachine {
    this.#index = this.#freshIndex();
    const entry = this.#index.machines.find((candidate) => candidate.id === id);
    if (entry === undefined) throw pvError('machine-unknown', { name: id });
    return this.#load(id, entry.folder);
  }

  trash(): TrashedMachine[] {
    this.#index = this.#freshIndex();
    return this.#index.trash.map(({ id, name, removedAt, folder }) => ({ id, name, removedAt, folder }));
  }

  async create({
    configuration,
    kernelFacts,
    folder,
    copyFiles,
  }: NewMachine): Promise<{ machine: LibraryMachine; undo: UndoStep }> {
    this.#requireFreeName(configuration.name);
    const place = makeMachineFolder(folder, configuration.name, this.#options.machinesDirectory());
    try {
      const own = { ...configuration };
      own.kernel = absolutePath(own.kernel);
      if (own.initrd !== null) own.initrd = absolutePath(own.initrd);
      if (copyFiles) {
        own.kernel = await copyInto(own.kernel, place);
        if (own.initrd !== null) own.initrd = await copyInto(own.initrd, place);
      }
      return this.#admit(
        { id: newId(), created: Date.now(), configuration: own, kernelFacts },
        place,
        `Made "${own.name}"`,
      );
    } catch (error) {
      fs.rmSync(place, { recursive: true, force: true });
      throw error;
    }
  }

  async clone(id: string, name: string, folder?: string): Promise<{ machine: LibraryMachine; undo: UndoStep }> {
    const original = this.#usable(id);
    this.#requireFreeName(name);
    const place = makeMachineFolder(folder, name, this.#options.machinesDirectory());
    try {
      await copyMachineFiles(original.folder, place);
      const inCopy = (file: string): string => {
        const relative = path.relative(original.folder, file);
        return relative.startsWith('..') || path.isAbsolute(relative) ? file : path.join(place, relative);
      };
      const { configuration } = original.file;
      const copy: MachineFile = {
        id: newId(),
        created: Date.now(),
        kernelFacts: original.file.kernelFacts,
        configuration: {
          ...configuration,
          name,
          // Two copies that start by themselves are seldom meant.
          autostart: false,
          kernel: inCopy(configuration.kernel),
          initrd: configuration.initrd === null ? null : inCopy(configuration.initrd),
        },
      };
      return this.#admit(copy, place, `Cloned "${configuration.name}" as "${name}"`);
    } catch (error) {
      fs.rmSync(place, { recursive: true, force: true });
      throw error;
    }
  }

  /** Takes a machine folder from elsewhere into the library. One whose identifier is known already gets a new one. */
  add(folder: string): { machine: LibraryMachine; undo: UndoStep } {
    const place = absolutePath(folder);
    if (this.machines().some((machine) => machine.folder === place))
      throw pvError('folder-in-library', { path: place });
    const file = readMachineFile(place);
    this.#requireFreeName(file.configuration.name);
    const isKnown =
      this.#index.machines.some(({ id }) => id === file.id) || this.#index.trash.some(({ id }) => id === file.id);
    return this.#admit(isKnown ? { ...file, id: newId() } : file, place, `Added "${file.configuration.name}"`);
  }

  /** Changes the name or any part of the configuration. */
  set(
    id: string,
    changes: MachineChanges & { name?: string },
    facts?: KernelFacts | null,
  ): { machine: LibraryMachine; undo: UndoStep } {
    const { name, ...others } = changes;
    return this.#change((index) => {
      const { file, folder } = this.#usable(id);
      const before = file.configuration;
      if (name !== undefined && name !== before.name) this.#requireFreeName(name, id);
      if (others.kernel !== undefined) others.kernel = absolutePath(others.kernel);
      if (others.initrd !== undefined && others.initrd !== null) others.initrd = absolutePath(others.initrd);
      const configuration = { ...before, ...others, ...(name !== undefined && { name }) };
      writeMachineFile(folder, { ...file, configuration, kernelFacts: facts === undefined ? file.kernelFacts : facts });
      const former = Object.fromEntries(Object.keys(others).map((key) => [key, before[key as keyof MachineChanges]]));
      const renamed = name !== undefined && Object.keys(others).length === 0;
      const undo = renamed
        ? this.#recordUndo(index, `Renamed "${before.name}" to "${name}"`, {
            command: 'machine:rename',
            request: { machine: id, name: before.name },
          })
        : this.#recordUndo(index, `Changed ${Object.keys(others).join(', ')} of "${configuration.name}"`, {
            command: 'machine:set',
            request: { machine: id, changes: former },
          });
      return { id, undo };
    });
  }

  move(id: string, folder: string): { machine: LibraryMachine; undo: UndoStep } {
    return this.#change((index) => {
      const machine = this.#usable(id);
      this.#options.guard(machine, 'be moved');
      requireUnlocked(machine.folder, machine.file.configuration.name);
      const place = absolutePath(folder);
      // Paths inside the folder are relative in the file, so that it is right in its new place as it is.
      moveFolder(machine.folder, place);
      index.machines.find((entry) => entry.id === id)!.folder = place;
      const label = `Moved "${machine.file.configuration.name}"`;
      const undo = this.#recordUndo(index, label, {
        command: 'machine:move',
        request: { machine: id, folder: machine.folder },
      });
      return { id, undo };
    });
  }

  /** Puts the machine's folder into the trash. */
  remove(id: string): UndoStep {
    return this.#transaction((index) => {
      const position = index.machines.findIndex((entry) => entry.id === id);
      if (position < 0) throw pvError('machine-unknown', { name: id });
      const machine = this.#load(id, index.machines[position].folder);
      const { name } = machine.file.configuration;
      this.#options.guard(machine, 'be removed');
      const present = fs.existsSync(machine.folder);
      if (present) requireUnlocked(machine.folder, name);
      const trashFolder = path.join(this.#options.dataDirectory, 'trash', `${id}-${Date.now()}`);
      if (present) moveToTrash(machine.folder, trashFolder, (place) => record(place));
      else record(trashFolder);
      function record(place: string): void {
        index.machines.splice(position, 1);
        index.trash.push({ id, name, removedAt: Date.now(), folder: machine.folder, trashFolder: place, position });
      }
      return this.#recordUndo(index, `Removed "${name}"`, { command: 'trash:restore', request: { machine: id } });
    });
  }

  /** Takes a machine out of the trash, to where it was or, when that place is taken, beside it. */
  restore(id: string): LibraryMachine {
    this.#transaction((index) => {
      const at = index.trash.findLastIndex((entry) => entry.id === id);
      if (at < 0) throw pvError('machine-unknown', { name: id });
      const entry = index.trash[at];
      let { folder } = entry;
      for (let n = 2; fs.existsSync(folder); n++) folder = `${entry.folder}-${n}`;
      if (fs.existsSync(entry.trashFolder)) moveFolder(entry.trashFolder, folder);
      index.trash.splice(at, 1);
      index.machines.splice(Math.min(entry.position, index.machines.length), 0, { id, folder });
      // Another machine may have taken the name meanwhile.
      const restored = this.#load(id, folder);
      const { name } = restored.file.configuration;
      const taken = (candidate: string): boolean => this.#nameTaken(candidate, id);
      if (restored.problem === null && taken(name)) {
        let n = 2;
        while (taken(`${name} ${n}`)) n++;
        const configuration = { ...restored.file.configuration, name: `${name} ${n}` };
        writeMachineFile(folder, { ...restored.file, configuration });
      }
      index.undo = index.undo.filter(({ command, request }) => command !== 'trash:restore' || request.machine !== id);
    });
    return this.get(id);
  }

  /** Deletes for good what lies in the trash, or one machine of it. Returns their identifiers. */
  emptyTrash(id?: string): string[] {
    return this.#transaction((index) => {
      const doomed = index.trash.filter((entry) => id === undefined || entry.id === id);
      if (id !== undefined && doomed.length === 0) throw pvError('machine-unknown', { name: id });
      for (const { trashFolder } of doomed) fs.rmSync(trashFolder, { recursive: true, force: true });
      index.trash = index.trash.filter((entry) => !doomed.includes(entry));
      const gone = new Set(doomed.map((entry) => entry.id));
      // Nothing that was done to them can be taken back any more.
      index.undo = index.undo.filter(({ request }) => !gone.has(request.machine as string));
      return [...gone];
    });
  }

  /** Machines that are not named follow those that are, in the order they had. */
  order(ids: readonly string[]): UndoStep {
    return this.#transaction((index) => {
      const former = index.machines.map(({ id }) => id);
      const place = new Map(ids.map((id, i) => [id, i]));
      for (const id of ids) if (!former.includes(id)) throw pvError('machine-unknown', { name: id });
      const rank = ({ id }: { id: string }): number => place.get(id) ?? ids.length + former.indexOf(id);
      index.machines.sort((a, b) => rank(a) - rank(b));
      return this.#recordUndo(index, 'Changed the order', { command: 'machine:order', request: { machines: former } });
    });
  }

  /** Takes back the latest step, or the one with this identifier. Throws `undo-nothing`, `undo-unknown`, and what the step throws. */
  undo(id?: string): UndoStep {
    const entry =
      id === undefined ? this.#freshIndex().undo.at(-1) : this.#freshIndex().undo.find((step) => step.id === id);
    if (entry === undefined) throw id === undefined ? pvError('undo-nothing', {}) : pvError('undo-unknown', { id });
    const request = entry.request as {
      machine: string;
      machines: string[];
      name: string;
      folder: string;
      changes: MachineChanges;
    };
    const { machine } = request;
    const before = new Set(this.#freshIndex().undo.map((step) => step.id));
    switch (entry.command) {
      case 'machine:rename':
        this.set(machine, { name: request.name });
        break;
      case 'machine:set':
        this.set(machine, request.changes);
        break;
      case 'machine:move':
        this.move(machine, request.folder);
        break;
      case 'machine:remove':
        this.remove(machine);
        break;
      case 'machine:order':
        this.order(request.machines.filter((known) => this.#index.machines.some((other) => other.id === known)));
        break;
      case 'trash:restore':
        this.restore(machine);
        break;
    }
    // Taking back is not itself a step, or undo would only ever go to and fro.
    this.#transaction((index) => {
      index.undo = index.undo.filter((step) => before.has(step.id) && step.id !== entry.id);
    });
    const { id: stepId, at, label } = entry;
    return { id: stepId, at, label };
  }

  #admit(file: MachineFile, folder: string, label: string): { machine: LibraryMachine; undo: UndoStep } {
    return this.#change((index) => {
      this.#requireFreeName(file.configuration.name, file.id);
      writeMachineFile(folder, file);
      index.machines.push({ id: file.id, folder });
      const undo = this.#recordUndo(index, label, { command: 'machine:remove', request: { machine: file.id } });
      return { id: file.id, undo };
    });
  }

  #change(edit: (index: LibraryIndex) => { id: string; undo: UndoStep }): { machine: LibraryMachine; undo: UndoStep } {
    const { id, undo } = this.#transaction(edit);
    return { machine: this.get(id), undo };
  }

  /** Runs an edit of the index under the library's lock, on what is on disk now. Nothing is written when it throws. */
  #transaction<T>(edit: (index: LibraryIndex) => T): T {
    const { dataDirectory } = this.#options;
    const lock = lockFile(path.join(dataDirectory, 'library.lock'), LOCK_WAIT_MS);
    if (lock === null) throw pvError('library-busy', { path: dataDirectory });
    try {
      const index = structuredClone(this.#freshIndex());
      // What the edit looks up must be what it edits.
      this.#index = index;
      const result = edit(index);
      writeIndex(dataDirectory, index);
      return result;
    } finally {
      this.#indexStamp = '';
      lock.release();
    }
  }

  #freshIndex(): LibraryIndex {
    const stamp = stampOf(indexFilePath(this.#options.dataDirectory));
    if (stamp !== this.#indexStamp || stamp === '') {
      this.#index = readIndex(this.#options.dataDirectory);
      this.#indexStamp = stamp;
    }
    return this.#index;
  }

  #recordUndo(index: LibraryIndex, label: string, command: UndoCommand): UndoStep {
    const step = { id: randomBytes(4).toString('hex'), at: Date.now(), label };
    index.undo.push({ ...step, ...command });
    return step;
  }

  #load(id: string, folder: string): LibraryMachine {
    const stamp = `${folder} ${stampOf(machineFilePath(folder))}`;
    const cached = this.#cache.get(id);
    if (cached?.stamp === stamp) return cached.machine;
    const machine = loadMachine(id, folder);
    this.#cache.set(id, { stamp, machine });
    return machine;
  }

  #usable(id: string): LibraryMachine {
    const machine = this.get(id);
    if (machine.problem !== null) throw machine.problem;
    return machine;
  }

  #nameTaken(name: string, except?: string): boolean {
    const wanted = name.toLocaleLowerCase('en');
    return this.#index.machines.some(
      ({ id, folder }) =>
        id !== except && this.#load(id, folder).file.configuration.name.toLocaleLowerCase('en') === wanted,
    );
  }

  #requireFreeName(name: string, except?: string): void {
    if (this.#nameTaken(name, except)) throw pvError('machine-name-taken', { name });
  }
}

const newId = (): string => randomBytes(4).toString('hex');

/** Changes whenever the file is replaced. */
function stampOf(file: string): string {
  const status = fs.statSync(file, { throwIfNoEntry: false, bigint: true });
  return status === undefined ? '' : `${status.ino} ${status.mtimeNs} ${status.size}`;
}

function loadMachine(id: string, folder: string): LibraryMachine {
  try {
    return { id, folder, file: readMachineFile(folder), problem: null };
  } catch (error) {
    if (!(error instanceof PvError)) throw error;
    return { id, folder, file: fromBackup(id, folder), problem: error };
  }
}

/** What can still be said of a machine whose file is unusable. */
function fromBackup(id: string, folder: string): MachineFile {
  try {
    return parseMachineFile(fs.readFileSync(`${machineFilePath(folder)}.bak`, 'utf8'), folder);
  } catch {
    const configuration: MachineConfiguration = {
      name: path.basename(folder),
      kind: 'pv',
      kernel: folder,
      initrd: null,
      commandLine: '',
      memoryBytes: 512 * 2 ** 20,
      vcpus: 1,
      onReboot: 'restart',
      mfnOrder: 'offset',
      tags: [],
      notes: '',
      autostart: false,
      consolePty: false,
    };
    return { id, created: 0, configuration, kernelFacts: null };
  }
}

/** Into the trash of the data directory; a folder on another file system stays there, under a name that says what it is. */
function moveToTrash(folder: string, trashFolder: string, record: (place: string) => void): void {
  fs.mkdirSync(path.dirname(trashFolder), { recursive: true, mode: 0o700 });
  try {
    fs.renameSync(folder, trashFolder);
    record(trashFolder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error;
    const beside = `${folder}.removed-${Date.now()}`;
    fs.renameSync(folder, beside);
    record(beside);
  }
}
