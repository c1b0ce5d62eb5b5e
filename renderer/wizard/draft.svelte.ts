// SPDX-License-Identifier: MIT
// The machine that the wizard is about to make: what was understood of the files, and what the user made of the proposal.
import { commandLineOf } from '../../main/contract/command-line.ts';
import type { Request } from '../../main/contract/commands.ts';
import type { FileInspection } from '../../main/contract/inspection.ts';
import { host } from '../state/host.svelte.ts';
import { invoke } from '../state/manager.svelte.ts';

const DEFAULT_MEMORY = 256 * 2 ** 20;

export class Draft {
  kernel = $state.raw<FileInspection | null>(null);
  initrd = $state.raw<FileInspection | null>(null);
  name = $state('');
  /** Empty: a new folder, named after the machine, in the usual place. */
  folder = $state('');
  memoryBytes = $state(DEFAULT_MEMORY);
  commandLine = $state('');
  onReboot = $state<'restart' | 'exit'>('restart');
  mfnOrder = $state<'offset' | 'permuted'>('offset');
  copyFiles = $state(false);
  autostart = $state(false);
  tags = $state<string[]>([]);
  notes = $state('');

  readonly #inspect: (path: string) => Promise<FileInspection>;

  /** `inspect` finds out what a file is; it may show that it takes a while. */
  constructor(inspect = (path: string): Promise<FileInspection> => invoke('file:inspect', { path })) {
    this.#inspect = inspect;
  }

  readonly proposal = $derived(this.kernel?.proposal ?? null);

  /** Where it will be. */
  readonly place = $derived.by(() => {
    if (this.folder !== '') return this.folder;
    const { info } = host;
    return info === null ? '' : `${info.machinesDirectory}${info.pathSeparator}${this.name.trim() || '…'}`;
  });

  /** Why it cannot be made yet; null when it can. */
  readonly reason = $derived.by((): string | null => {
    if (this.kernel === null) return 'A kernel is missing.';
    if (this.kernel.problem !== null) return this.kernel.problem.message;
    if (this.proposal === null) return 'This kernel cannot be started.';
    if (this.initrd !== null && this.initrd.problem !== null) return this.initrd.problem.message;
    if (this.name.trim() === '') return 'The machine needs a name.';
    if (this.memoryBytes < this.proposal.minimumMemoryBytes) return 'This kernel needs more memory to start.';
    return null;
  });

  /** Takes a file by what it turned out to be. Rejects with `CommandError`. */
  async take(path: string): Promise<FileInspection> {
    const file = await this.#inspect(path);
    if (file.what === 'initrd') this.initrd = file;
    else if (file.what === 'kernel') this.#takeKernel(file);
    const { companion } = file;
    if (companion !== null && (file.what === 'kernel' ? this.initrd : this.kernel) === null) {
      // A companion is a guess by name: one that cannot be used is left out without a word.
      const other = await this.#inspect(companion).catch(() => null);
      if (other !== null && other.problem === null && other.what === 'initrd') this.initrd = other;
      if (other !== null && other.problem === null && other.what === 'kernel') this.#takeKernel(other);
    }
    return file;
  }

  request(start: boolean): Request<'machine:create'> {
    return {
      name: this.name.trim(),
      kernel: this.kernel?.path ?? '',
      initrd: this.initrd?.path ?? null,
      commandLine: this.commandLine,
      memoryBytes: this.memoryBytes,
      vcpus: 1,
      onReboot: this.onReboot,
      mfnOrder: this.mfnOrder,
      tags: this.tags,
      notes: this.notes,
      autostart: this.autostart,
      ...(this.folder !== '' && { folder: this.folder }),
      copyFiles: this.copyFiles,
      start,
    };
  }

  commandFor(start: boolean): string {
    const { notes, tags, initrd, onReboot, mfnOrder, autostart, copyFiles, vcpus: _, ...rest } = this.request(start);
    return (
      commandLineOf('machine:create', {
        ...rest,
        // What is the default anyway would only make the line longer.
        ...(initrd !== null && { initrd }),
        ...(onReboot !== 'restart' && { onReboot }),
        ...(mfnOrder !== 'offset' && { mfnOrder }),
        ...(autostart === true && { autostart }),
        ...(copyFiles === true && { copyFiles }),
        ...(tags !== undefined && tags.length > 0 && { tags }),
        ...(notes !== '' && { notes }),
      }) ?? ''
    );
  }

  #takeKernel(file: FileInspection): void {
    const before = this.proposal;
    this.kernel = file;
    const after = file.proposal;
    if (after === null) return;
    // Another kernel brings another proposal, but not over what was typed.
    if (this.name === '' || this.name === before?.name) this.name = after.name;
    if (before === null || this.memoryBytes === before.memoryBytes) this.memoryBytes = after.memoryBytes;
    if (this.commandLine === '' || this.commandLine === before?.commandLine) this.commandLine = after.commandLine;
  }
}
