// SPDX-License-Identifier: MIT
// What the control of a machine tells the manager.
import type { RunOutcome } from '../contract/machine.ts';
import type { MachineEvent } from '../contract/metrics.ts';
import type { Values } from '../metrics/ring-file.ts';
import type { LogLine } from '../vm/machine-log.ts';
import type { ConsoleSize } from '../vm/protocol.ts';
import type { MachineControl } from './machine-control.ts';

/** What the manager wants to know. */
export interface ControlEvents {
  /** The summary has changed. */
  changed(control: MachineControl): void;
  started(control: MachineControl): void;
  ended(control: MachineControl, outcome: RunOutcome): void;
  happened(control: MachineControl, event: MachineEvent): void;
  logged(control: MachineControl, line: LogLine): void;
  resized(control: MachineControl, size: ConsoleSize): void;
  /** One second's values, and the totals they come from. */
  sampled(control: MachineControl, at: number, values: Values): void;
}
