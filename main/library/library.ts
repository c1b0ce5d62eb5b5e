// SPDX-License-Identifier: MIT
// The library of machines: every change of what exists, under a lock so that several programs can share one library.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import type {
  KernelFacts,
  MachineChanges,
  MachineConfiguration,
  TrashedMachine,
  UndoStep,
} from '../contract/machine.ts';
import { lockFile } from '../vm/folder-lock.ts';
import type { CopyOptions } from './copy-files.ts';
import { absolutePath, ensureDirectory } from './directories.ts';
import { indexFilePath, readIndex, writeIndex } from './index-file.ts';
import type { LibraryIndex } from './index-file.ts';
import { carryOut, isJournalOpen, recover } from './journal.ts';
import { loadMachine, stampOf } from './library-machine.ts';
import type { LibraryMachine } from './library-machine.ts';
import { machineFilePath, readMachineFile, writeMachineFile } from './machine-file.ts';
import type { MachineFile } from './machine-file.ts';
import {
  copyBeside,
  copyInto,
  copyMachineFiles,
  isOnSameFileSystem,
  lockMachine,
  makeMachineFolder,
  requireNew,
  requireOrdinary,
  requireUnlocked,
  trashPlace,
} from './machine-folder.ts';
import { recordStep, strikeOut } from './undo-steps.ts';
import type { RecordStep } from './undo-steps.ts';

export type { LibraryMachine } from './library-machine.ts';

export interface NewMachine {
  configuration: MachineConfiguration;
  kernelFacts: KernelFacts | null;
  folder?: string | undefined;
  copyFiles?: boolean | undefined;
}

/** What a change of one machine gives. */
export interface Changed {
  machine: LibraryMachine;
  undo: UndoStep;
}

export interface LibraryOptions {
  dataDirectory: string;
  /** Where machines go that are not given a folder. */
  machinesDirectory(): string;
  /** Throws when the machine's state does not allow what `verb` ("be moved") says. */
  guard(machine: LibraryMachine, verb: string): void;
}

const LOCK_WAIT_MS = 3000;

/** What is deleted for good gets this at the end of its name first. */
const DELETING = '.deleting';

/** What an edit of the index asks for beside: that a folder moves with it. */
interface FolderMove {
  from: string;
  to: string;
  copy: string | null;
}
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
    // Somebody may have been interrupted.
    if (isJournalOpen(options.dataDirectory)) this.#transaction(() => ({}));
    this.#index = this.#freshIndex();
    this.#finishEmptying();
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

  async create(
    { configuration, kernelFacts, folder, copyFiles }: NewMachine,
    copying: CopyOptions = {},
  ): Promise<Changed> {
    this.#requireFreeName(configuration.name);
    const place = makeMachineFolder(folder, configuration.name, this.#options.machinesDirectory());
    try {
      const own = { ...configuration };
      own.kernel = absolutePath(own.kernel);
      if (own.initrd !== null) own.initrd = absolutePath(own.initrd);
      if (copyFiles) {
        own.kernel = await copyInto(own.kernel, place, copying);
        if (own.initrd !== null) own.initrd = await copyInto(own.initrd, place, copying);
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

  async clone(id: string, name: string, folder?: string, copying: CopyOptions = {}): Promise<Changed> {
    const original = this.#usable(id);
    this.#requireFreeName(name);
    const place = makeMachineFolder(folder, name, this.#options.machinesDirectory());
    try {
      await copyMachineFiles(original.folder, place, copying);
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
  add(folder: string): Changed {
    const place = absolutePath(folder);
    requireOrdinary(place);
    if (this.machines().some((machine) => machine.folder === place))
      throw pvError('folder-in-library', { path: place });
    const file = readMachineFile(place);
    this.#requireFreeName(file.configuration.name);
    const isKnown =
      this.#index.machines.some(({ id }) => id === file.id) || this.#index.trash.some(({ id }) => id === file.id);
    return this.#admit(isKnown ? { ...file, id: newId() } : file, place, `Added "${file.configuration.name}"`);
  }

  /** Changes the name or any part of the configuration; `facts` are those of a new kernel. */
  set(id: string, changes: MachineChanges & { name?: string }, facts?: KernelFacts | null): Changed {
    return this.#set(id, changes, facts, recordStep);
  }

  #set(
    id: string,
    { name, ...others }: MachineChanges & { name?: string },
    facts: KernelFacts | null | undefined,
    record: RecordStep,
  ): Changed {
    return this.#change((index) => {
      const { file, folder } = this.#usable(id);
      const before = file.configuration;
      if (name !== undefined && name !== before.name) this.#requireFreeName(name, id);
      if (others.kernel !== undefined) others.kernel = absolutePath(others.kernel);
      if (others.initrd !== undefined && others.initrd !== null) others.initrd = absolutePath(others.initrd);
      const configuration = { ...before, ...others, ...(name !== undefined && { name }) };
      const former = Object.fromEntries(Object.keys(others).map((key) => [key, before[key as keyof MachineChanges]]));
      const renamed = name !== undefined && Object.keys(others).length === 0;
      const undo = renamed
        ? record(index, `Renamed "${before.name}" to "${name}"`, {
            command: 'machine:rename',
            request: { machine: id, name: before.name },
          })
        : record(index, `Changed ${Object.keys(others).join(', ')} of "${configuration.name}"`, {
            command: 'machine:set',
            request: {
              machine: id,
              changes: former,
              ...(facts !== undefined && { kernelFacts: file.kernelFacts }),
            },
          });
      writeMachineFile(folder, { ...file, configuration, kernelFacts: facts === undefined ? file.kernelFacts : facts });
      return { id, undo };
    });
  }

  /** Moves the machine's folder; to another file system it is copied first, which can be followed and stopped. */
  move(id: string, folder: string, copying: CopyOptions = {}): Promise<Changed> {
    return this.#move(id, folder, copying, recordStep);
  }

  async #move(id: string, folder: string, copying: CopyOptions, record: RecordStep): Promise<Changed> {
    const machine = this.#usable(id);
    const { name } = machine.file.configuration;
    this.#options.guard(machine, 'be moved');
    requireUnlocked(machine.folder, name);
    const place = absolutePath(folder);
    requireNew(place);
    const commit = (copy: string | null): Changed =>
      this.#change((index) => {
        const entry = index.machines.find((candidate) => candidate.id === id);
        if (entry === undefined) throw pvError('machine-unknown', { name: id });
        // Somebody else may have been faster.
        if (entry.folder !== machine.folder) throw pvError('folder-not-machine', { path: machine.folder });
        this.#options.guard(this.#usable(id), 'be moved');
        requireNew(place);
        entry.folder = place;
        const undo = record(index, `Moved "${name}"`, {
          command: 'machine:move',
          request: { machine: id, folder: machine.folder },
        });
        // Paths inside the folder are relative in the file, so that it is right in its new place as it is.
        return { id, undo, move: { from: machine.folder, to: place, copy } };
      });
    if (isOnSameFileSystem(machine.folder, place)) return commit(null);
    const lock = lockMachine(machine.folder, name);
    try {
      const copy = await copyBeside(machine.folder, place, copying);
      try {
        return commit(copy);
      } catch (error) {
        fs.rmSync(copy, { recursive: true, force: true });
        throw error;
      }
    } finally {
      lock.release();
    }
  }

  /** Puts the machine's folder into the trash. */
  remove(id: string): UndoStep {
    return this.#remove(id, recordStep);
  }

  #remove(id: string, record: RecordStep): UndoStep {
    return this.#transaction((index) => {
      const position = index.machines.findIndex((entry) => entry.id === id);
      if (position < 0) throw pvError('machine-unknown', { name: id });
      const machine = this.#load(id, index.machines[position].folder);
      const { folder } = machine;
      const { name } = machine.file.configuration;
      this.#options.guard(machine, 'be removed');
      const present = fs.existsSync(folder);
      if (present) requireUnlocked(folder, name);
      const removedAt = Date.now();
      const trashFolder = trashPlace(this.#options.dataDirectory, id, folder, removedAt);
      index.machines.splice(position, 1);
      index.trash.push({ id, name, removedAt, folder, trashFolder, position });
      const undo = record(index, `Removed "${name}"`, { command: 'trash:restore', request: { machine: id } });
      return { undo, ...(present && { move: { from: folder, to: trashFolder, copy: null } }) };
    }).undo;
  }

  /** Takes a machine out of the trash, to where it was or, when that place is taken, beside it. */
  restore(id: string): LibraryMachine {
    this.#transaction((index) => {
      const at = index.trash.findLastIndex((entry) => entry.id === id);
      if (at < 0) throw pvError('machine-unknown', { name: id });
      const entry = index.trash[at];
      let { folder } = entry;
      for (let n = 2; fs.existsSync(folder); n++) folder = `${entry.folder}-${n}`;
      // Another machine may have taken the name meanwhile.
      const { file, problem } = loadMachine(id, entry.trashFolder);
      const { name } = file.configuration;
      const taken = (candidate: string): boolean => this.#nameTaken(candidate, id);
      if (problem === null && taken(name)) {
        let n = 2;
        while (taken(`${name} ${n}`)) n++;
        writeMachineFile(entry.trashFolder, {
          ...file,
          configuration: { ...file.configuration, name: `${name} ${n}` },
        });
      }
      index.trash.splice(at, 1);
      index.machines.splice(Math.min(entry.position, index.machines.length), 0, { id, folder });
      index.undo = index.undo.filter(({ command, request }) => command !== 'trash:restore' || request.machine !== id);
      if (!fs.existsSync(entry.trashFolder)) return {};
      fs.mkdirSync(path.dirname(folder), { recursive: true, mode: 0o700 });
      return { move: { from: entry.trashFolder, to: folder, copy: null } };
    });
    return this.get(id);
  }

  /** Deletes for good what lies in the trash, or one machine of it. Returns their identifiers. */
  emptyTrash(id?: string): string[] {
    const { doomed } = this.#transaction((index) => {
      const doomed = index.trash.filter((entry) => id === undefined || entry.id === id);
      if (id !== undefined && doomed.length === 0) throw pvError('machine-unknown', { name: id });
      // From here on there is no way back: what bears this name is deleted, now or after a crash.
      for (const { trashFolder } of doomed)
        if (fs.existsSync(trashFolder)) fs.renameSync(trashFolder, `${trashFolder}${DELETING}`);
      dropFromTrash(index, doomed);
      return { doomed };
    });
    for (const { trashFolder } of doomed) fs.rmSync(`${trashFolder}${DELETING}`, { recursive: true, force: true });
    return doomed.map((entry) => entry.id);
  }

  /** Deletes what an emptying that was interrupted has left. */
  #finishEmptying(): void {
    const left = this.#index.trash.filter(({ trashFolder }) => fs.existsSync(`${trashFolder}${DELETING}`));
    if (left.length > 0) this.#transaction((index) => (dropFromTrash(index, left), {}));
    const trash = path.join(this.#options.dataDirectory, 'trash');
    const names = fs.existsSync(trash) ? fs.readdirSync(trash).filter((name) => name.endsWith(DELETING)) : [];
    for (const place of [
      ...left.map(({ trashFolder }) => trashFolder + DELETING),
      ...names.map((name) => path.join(trash, name)),
    ])
      // prettier-ignore
      fs.rmSync(place, { recursive: true, force: true });
  }

  /** Machines that are not named follow those that are, in the order they had. */
  order(ids: readonly string[]): UndoStep {
    return this.#order(ids, recordStep);
  }

  #order(ids: readonly string[], record: RecordStep): UndoStep {
    return this.#transaction((index) => {
      const former = index.machines.map(({ id }) => id);
      const place = new Map(ids.map((id, i) => [id, i]));
      for (const id of ids) if (!former.includes(id)) throw pvError('machine-unknown', { name: id });
      const rank = ({ id }: { id: string }): number => place.get(id) ?? ids.length + former.indexOf(id);
      index.machines.sort((a, b) => rank(a) - rank(b));
      return { undo: record(index, 'Changed the order', { command: 'machine:order', request: { machines: former } }) };
    }).undo;
  }

  /** Takes back the latest step, or the one with this identifier. Throws `undo-nothing`, `undo-unknown`, and what the step throws. */
  async undo(id?: string): Promise<UndoStep> {
    const steps = this.#freshIndex().undo;
    const entry = id === undefined ? steps.at(-1) : steps.find((step) => step.id === id);
    if (entry === undefined) throw id === undefined ? pvError('undo-nothing', {}) : pvError('undo-unknown', { id });
    const record = strikeOut(entry);
    switch (entry.command) {
      case 'machine:rename':
        this.#set(entry.request.machine, { name: entry.request.name }, undefined, record);
        break;
      case 'machine:set':
        this.#set(entry.request.machine, entry.request.changes, entry.request.kernelFacts, record);
        break;
      case 'machine:move':
        await this.#move(entry.request.machine, entry.request.folder, {}, record);
        break;
      case 'machine:remove':
        this.#remove(entry.request.machine, record);
        break;
      case 'machine:order': {
        const known = new Set(this.#freshIndex().machines.map((machine) => machine.id));
        this.#order(entry.request.machines.filter((machine) => known.has(machine)), record); // prettier-ignore
        break;
      }
      case 'trash:restore':
        this.restore(entry.request.machine);
        break;
    }
    return { id: entry.id, at: entry.at, label: entry.label };
  }

  #admit(file: MachineFile, folder: string, label: string): Changed {
    return this.#change((index) => {
      this.#requireFreeName(file.configuration.name, file.id);
      writeMachineFile(folder, file);
      index.machines.push({ id: file.id, folder });
      const undo = recordStep(index, label, { command: 'machine:remove', request: { machine: file.id } });
      return { id: file.id, undo };
    });
  }

  #change(edit: (index: LibraryIndex) => { id: string; undo: UndoStep; move?: FolderMove }): Changed {
    const { id, undo } = this.#transaction(edit);
    return { machine: this.get(id), undo };
  }

  /**
   * Runs an edit of the index under the library's lock, on what is on disk now, and moves a folder with it if it says so. Nothing is written
   * when it throws.
   */
  #transaction<T extends object>(edit: (index: LibraryIndex) => T & { move?: FolderMove }): T {
    const { dataDirectory } = this.#options;
    const lock = lockFile(path.join(dataDirectory, 'library.lock'), LOCK_WAIT_MS);
    if (lock === null) throw pvError('library-busy', { path: dataDirectory });
    try {
      recover(dataDirectory);
      this.#indexStamp = '';
      const index = structuredClone(this.#freshIndex());
      // What the edit looks up must be what it edits.
      this.#index = index;
      const result = edit(index);
      if (result.move === undefined) writeIndex(dataDirectory, index);
      else carryOut(dataDirectory, { ...result.move, index });
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

function dropFromTrash(index: LibraryIndex, entries: readonly { id: string }[]): void {
  const gone = new Set(entries.map(({ id }) => id));
  index.trash = index.trash.filter(({ id }) => !gone.has(id));
  // Nothing that was done to them can be taken back any more.
  index.undo = index.undo.filter(({ request }) => !('machine' in request) || !gone.has(request.machine));
}
