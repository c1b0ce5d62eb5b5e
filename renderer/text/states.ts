// SPDX-License-Identifier: MIT
// One vocabulary for the states of machines: a shape and a word each, so that colour is never alone.
import type { MachineActivity, MachineState } from '../../main/contract/machine.ts';

export const STATE_WORDS: Readonly<Record<MachineState, string>> = {
  off: 'off',
  starting: 'starting',
  running: 'running',
  paused: 'paused',
  crashed: 'crashed',
};

export const ACTIVITY_WORDS: Readonly<Record<MachineActivity, string>> = {
  stopping: 'shutting down',
  resetting: 'resetting',
  moving: 'being moved',
  cloning: 'being cloned',
};
