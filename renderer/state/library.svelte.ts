// SPDX-License-Identifier: MIT
// The machines of the library, live: their order, their state, and the last minutes of what they do.
import { SvelteMap } from 'svelte/reactivity';
import type { ActivitySample } from '../../main/contract/metrics.ts';
import type { MachineSummary } from '../../main/contract/machine.ts';
import { invoke, on, whenConnected } from './manager.svelte.ts';

/** Seconds of CPU history kept per machine for sparklines. */
export const SPARK_SECONDS = 60;

/** Seconds of activity kept for the overview across machines. */
const RECENT_SECONDS = 600;
const CATCH_UP_MS = 4000;

/** CPU and speed per second, newest last; null where nothing is known. */
export interface Activity {
  cpu: (number | null)[];
  speed: (number | null)[];
  latest: ActivitySample | null;
  latestAt: number;
}

class Library {
  /** In the user's order. */
  order = $state<string[]>([]);
  readonly byId = new SvelteMap<string, MachineSummary>();
  readonly activity = new SvelteMap<string, Activity>();
  /** False until the first list has come. */
  loaded = $state(false);

  readonly machines = $derived(
    this.order.map((id) => this.byId.get(id)).filter((machine): machine is MachineSummary => machine !== undefined),
  );
  readonly active = $derived(this.machines.filter((machine) => isActive(machine)));
  readonly tags = $derived([...new Set(this.machines.flatMap((machine) => machine.tags))].sort());
  /** Host memory of all running machines together; null while nothing is known. */
  readonly memory = $derived.by(() => {
    const known = this.active
      .map((machine) => this.activity.get(machine.id)?.latest?.memory ?? null)
      .filter((value) => value !== null);
    return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0);
  });

  follow(): void {
    whenConnected(() => void this.#load());
    on('machine:changed', ({ machine }) => this.put(machine));
    on('machine:removed', ({ machine }) => this.drop(machine));
    on('library:reordered', ({ machines }) => (this.order = machines));
    on('library:sampled', ({ at, machines }) => this.#sampled(at, machines));
  }

  get(id: string | null): MachineSummary | null {
    return id === null ? null : (this.byId.get(id) ?? null);
  }

  /** Names on the command line: by name where that is unique. */
  nameOf = (id: string): string => {
    const name = this.byId.get(id)?.name;
    if (name === undefined) return id;
    return this.machines.filter((machine) => machine.name === name).length === 1 ? name : id;
  };

  put(machine: MachineSummary): void {
    this.byId.set(machine.id, machine);
    if (!this.order.includes(machine.id)) this.order = [...this.order, machine.id];
    if (!isActive(machine)) this.activity.delete(machine.id);
  }

  drop(id: string): void {
    this.byId.delete(id);
    this.activity.delete(id);
    this.order = this.order.filter((other) => other !== id);
  }

  async #load(): Promise<void> {
    const { machines } = await invoke('machine:list', {});
    for (const id of [...this.byId.keys()]) {
      if (!machines.some((machine) => machine.id === id)) this.byId.delete(id);
    }
    for (const machine of machines) this.byId.set(machine.id, machine);
    this.order = machines.map((machine) => machine.id);
    this.loaded = true;
    const running = machines.filter(isActive).map((machine) => machine.id);
    await Promise.all(running.map((id) => this.#loadActivity(id)));
    // History is a moment behind: what it lacked while this page began to listen is there a little later.
    setTimeout(() => void Promise.all(running.map((id) => this.#loadActivity(id))).catch(() => undefined), CATCH_UP_MS);
  }

  /** What a machine did before this page was opened. */
  async #loadActivity(id: string): Promise<void> {
    const to = Date.now();
    const history = await invoke('metrics:history', { machine: id, from: to - RECENT_SECONDS * 1000, to, tier: 0 });
    const cpu = [...history.average.cpu];
    while (cpu.length > 0 && cpu.at(-1) === null) cpu.pop();
    if (cpu.length === 0) return;
    const speed = history.average.instructions.slice(0, cpu.length);
    const latestAt = history.start + cpu.length * 1000;
    const live = this.activity.get(id);
    // Seconds that came live and are newer than the history.
    const newer =
      live === undefined ? 0 : Math.max(0, Math.min(live.cpu.length, Math.round((live.latestAt - latestAt) / 1000)));
    this.activity.set(id, {
      cpu: [...cpu, ...(newer === 0 ? [] : live!.cpu.slice(-newer))],
      speed: [...speed, ...(newer === 0 ? [] : live!.speed.slice(-newer))],
      latest: live?.latest ?? null,
      latestAt: live === undefined ? latestAt : Math.max(latestAt, live.latestAt),
    });
  }

  #sampled(at: number, samples: ActivitySample[]): void {
    for (const sample of samples) {
      const before = this.activity.get(sample.machine);
      const cpu = before === undefined ? [] : before.cpu.slice(-RECENT_SECONDS + 1);
      const speed = before === undefined ? [] : before.speed.slice(-RECENT_SECONDS + 1);
      // Seconds without a sample are gaps, not a shorter past.
      const missing =
        before === undefined ? 0 : Math.min(RECENT_SECONDS, Math.round((at - before.latestAt) / 1000) - 1);
      for (let i = 0; i < missing; i++) {
        cpu.push(null);
        speed.push(null);
      }
      cpu.push(sample.cpu);
      speed.push(sample.instructionsPerSecond);
      this.activity.set(sample.machine, { cpu, speed, latest: sample, latestAt: at });
    }
  }
}

/** True while there is a process that runs the guest. */
export function isActive(machine: MachineSummary): boolean {
  return machine.state === 'running' || machine.state === 'paused' || machine.state === 'starting';
}

export const library = new Library();
