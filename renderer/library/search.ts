// SPDX-License-Identifier: MIT
// Which machines the library lists: words over name, notes, tags and kind, together with a filter.
import type { MachineSummary } from '../../main/contract/machine.ts';
import { STATE_WORDS } from '../text/states.ts';

export type Filter = { by: 'all' } | { by: 'active' } | { by: 'tag'; tag: string };

/** The kind in words, as shown and as searched. */
export function kindText(machine: Pick<MachineSummary, 'kind' | 'bits'>): string {
  return machine.bits === null ? 'Xen PV' : `Xen PV ${machine.bits}-bit`;
}

/** Every word must occur somewhere; case does not matter. */
export function found(machine: MachineSummary, words: string): boolean {
  const text = [machine.name, machine.notes, kindText(machine), STATE_WORDS[machine.state], ...machine.tags]
    .join('\n')
    .toLowerCase();
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

export function passes(machine: MachineSummary, filter: Filter): boolean {
  switch (filter.by) {
    case 'all':
      return true;
    case 'active':
      return machine.state === 'running' || machine.state === 'paused' || machine.state === 'starting';
    case 'tag':
      return machine.tags.includes(filter.tag);
  }
}
