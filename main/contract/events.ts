// SPDX-License-Identifier: MIT
// Everything the manager tells on its own: name -> schema of the payload. Names are `noun:pastParticiple`.
import * as v from 'valibot';
import { errorReport } from './errors.ts';
import { logEntry, settings } from './host.ts';
import { machineSummary, runOutcome } from './machine.ts';
import { activitySample, machineEvent, metricSample } from './metrics.ts';
import { hostShell } from './terminal.ts';
import { consoleSize, count, hostPath, machineId, taskId, timestamp } from './values.ts';

/** A change of state; `machine:changed` with the whole summary comes just before it. */
const ofMachine = { machine: machineId, at: timestamp };

export const events = {
  /** Whatever the list shows of this machine has changed; also sent for machines that are new to the library. */
  'machine:changed': v.strictObject({ machine: machineSummary }),
  'machine:removed': v.strictObject({ machine: machineId }),
  'library:reordered': v.strictObject({ machines: v.array(machineId) }),

  'machine:started': v.strictObject(ofMachine),
  'machine:paused': v.strictObject(ofMachine),
  'machine:resumed': v.strictObject(ofMachine),
  /** The guest began anew, by `machine:reset` or because it rebooted. */
  'machine:reset': v.strictObject(ofMachine),
  'machine:stopped': v.strictObject({ ...ofMachine, outcome: runOutcome }),
  'machine:crashed': v.strictObject({ ...ofMachine, error: errorReport }),
  /** For the time axis of charts. */
  'machine:happened': v.strictObject({ machine: machineId, event: machineEvent }),
  /** To those who named the machine in `metrics:watch`. */
  'machine:logged': v.strictObject({ machine: machineId, entry: logEntry }),

  /** To those attached. `offset` is that of the first byte; when this page was too slow, `skipped` bytes before it are lost. */
  'console:output': v.strictObject({ machine: machineId, offset: count, bytes: v.string(), skipped: count }),
  'console:resized': v.strictObject({ machine: machineId, size: consoleSize }),

  /** As with consoles. */
  'terminal:output': v.strictObject({ machine: machineId, offset: count, bytes: v.string(), skipped: count }),
  'terminal:resized': v.strictObject({ machine: machineId, size: consoleSize }),
  'terminal:started': v.strictObject({ machine: machineId, shell: hostShell }),
  'terminal:ended': v.strictObject({ machine: machineId, exitCode: v.number(), signal: v.nullable(v.number()) }),

  /** Once a second, of all running machines; not sent while none runs. */
  'library:sampled': v.strictObject({ at: timestamp, machines: v.array(activitySample) }),
  /** Once a second, of machines named in `metrics:watch`. */
  'metrics:sampled': v.strictObject({ machine: machineId, sample: metricSample }),

  /** `total` null: how much there is to do is not known. */
  'task:progressed': v.strictObject({
    task: taskId,
    text: v.string(),
    done: count,
    total: v.nullable(count),
    unit: v.picklist(['bytes', 'characters', 'seconds', 'steps']),
  }),
  'settings:changed': v.strictObject({ settings }),

  /** To a window of the desktop: a command of its registry was chosen in the menu bar. */
  'menu:clicked': v.strictObject({ id: v.string() }),
  /** To a window of the desktop: the system wants this file shown. */
  'file:opened': v.strictObject({ path: hostPath }),
} as const;

export type EventName = keyof typeof events;
export const eventNames = Object.keys(events) as EventName[];
export type EventPayload<Name extends EventName> = v.InferOutput<(typeof events)[Name]>;

/** An event with its payload, as one value that can be switched on. */
export type ContractEvent = { [Name in EventName]: { event: Name; payload: EventPayload<Name> } }[EventName];
