// SPDX-License-Identifier: MIT
// What is known about the computer the manager runs on.
import type { HostInfo } from '../../main/contract/host.ts';
import { invoke, whenConnected } from './manager.svelte.ts';

class Host {
  info = $state<HostInfo | null>(null);

  follow(): void {
    whenConnected(() => void this.refresh());
  }

  async refresh(): Promise<void> {
    this.info = await invoke('host:info', {});
  }
}

export const host = new Host();
