// SPDX-License-Identifier: MIT
// Which machines this page wants every second's measurements of: the manager is told the union of all wishes.
import { invoke, whenConnected } from './manager.svelte.ts';

const wishes = new Map<string, number>();
let following = false;

function tell(): void {
  invoke('metrics:watch', { machines: [...wishes.keys()].slice(0, 64) }).catch(() => undefined);
}

/** Returns a function that ends the wish. */
export function watchMetrics(machine: string): () => void {
  if (!following) {
    following = true;
    whenConnected(tell);
  }
  wishes.set(machine, (wishes.get(machine) ?? 0) + 1);
  if (wishes.get(machine) === 1) tell();
  return () => {
    const left = (wishes.get(machine) ?? 1) - 1;
    if (left > 0) wishes.set(machine, left);
    else {
      wishes.delete(machine);
      tell();
    }
  };
}
