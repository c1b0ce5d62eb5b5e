// SPDX-License-Identifier: MIT
// Everything about one machine, read again when it changes.
import type { MachineDetails } from '../../main/contract/machine.ts';
import { invoke, on, whenConnected } from './manager.svelte.ts';

export class Details {
  value = $state.raw<MachineDetails | null>(null);
  error = $state.raw<unknown>(null);
  readonly #machine: string;
  readonly #endings: (() => void)[];

  constructor(machine: string) {
    this.#machine = machine;
    this.#endings = [
      whenConnected(() => void this.read()),
      on('machine:changed', ({ machine: { id } }) => {
        if (id === machine) void this.read();
      }),
    ];
  }

  async read(): Promise<void> {
    try {
      this.value = await invoke('machine:get', { machine: this.#machine });
      this.error = null;
    } catch (error) {
      this.error = error;
    }
  }

  dispose(): void {
    for (const end of this.#endings) end();
  }
}
