// SPDX-License-Identifier: MIT
// Machines for component tests.
import type { MachineSummary } from '../../main/contract/machine.ts';

export function aMachine(changes: Partial<MachineSummary> = {}): MachineSummary {
  return {
    id: 'aaaaaaaa',
    name: 'etch',
    kind: 'pv',
    state: 'off',
    since: null,
    activity: null,
    stopAsked: null,
    startedAt: null,
    memoryBytes: 256 * 2 ** 20,
    vcpus: 1,
    bits: 64,
    tags: [],
    notes: '',
    autostart: false,
    folder: '/machines/etch',
    problem: null,
    restartNeeded: [],
    available: true,
    ...changes,
  };
}
