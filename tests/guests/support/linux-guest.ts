// SPDX-License-Identifier: MIT
// Boots Debian's kernels with busybox through the command line, as a user does, and gives back what the console showed.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { buildInitramfs } from '../../../main/welcome/initramfs.ts';
import { CommandLine } from '../../support/paravane.ts';
import type { FinishedCommand, RunningCommand } from '../../support/paravane.ts';
import { debianFile, debianKernel } from '../../support/requirements.ts';

export type KernelFlavour = 'cloud' | 'generic';

/** A crash has to end the run instead of waiting for a key; boot messages are read with dmesg where they matter. */
const COMMAND_LINE = 'console=hvc0 quiet panic=-1';

export interface LinuxGuestOptions {
  readonly flavour: KernelFlavour;
  /** Shell script that the guest runs instead of a shell. */
  readonly script?: string;
  /** Further files by absolute path. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
  readonly append?: string;
  readonly memory?: string;
  readonly mfnOrder?: 'offset' | 'permuted';
  readonly stats?: boolean;
}

/** An initramfs as the welcome guest has it. */
export async function busyboxInitramfs(options: Pick<LinuxGuestOptions, 'script' | 'files'>): Promise<Uint8Array> {
  return buildInitramfs({
    busybox: fs.readFileSync(await debianFile('busybox-static', 'bin/busybox')),
    ...(options.script !== undefined && { script: Buffer.from(options.script) }),
    ...(options.files !== undefined && { files: options.files }),
  });
}

/** Guests of one test file; `dispose` ends those that still run and removes their files. */
export class LinuxGuests {
  readonly cli = new CommandLine('engine');
  readonly #directory = fs.mkdtempSync(path.join(os.tmpdir(), 'pv-guest-'));
  #count = 0;

  /** Starts a guest; its console is the command's standard input and output. */
  async start(options: LinuxGuestOptions): Promise<RunningCommand> {
    return this.cli.start(...(await this.arguments(options)));
  }

  /** Runs a guest to its end without input. */
  async run(options: LinuxGuestOptions): Promise<FinishedCommand> {
    return this.cli.run(...(await this.arguments(options)));
  }

  /** Arguments of the command line that starts the guest. */
  async arguments(options: LinuxGuestOptions): Promise<string[]> {
    const initrd = path.join(this.#directory, `initrd-${this.#count++}.cpio`);
    fs.writeFileSync(initrd, await busyboxInitramfs(options));
    const { memory = '256M', mfnOrder = 'offset', append } = options;
    return [
      ...['run', '--kernel', await debianKernel(options.flavour), '--initrd', initrd],
      ...['--append', append === undefined ? COMMAND_LINE : `${COMMAND_LINE} ${append}`],
      ...['--memory', memory, '--mfn-order', mfnOrder],
      ...(options.stats === true ? ['--stats'] : []),
    ];
  }

  dispose(): void {
    this.cli.dispose();
    fs.rmSync(this.#directory, { recursive: true, force: true });
  }
}
