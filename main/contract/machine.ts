// SPDX-License-Identifier: MIT
// Machines as the window sees them: what can be configured, what state they are in, how they ended.
import * as v from 'valibot';
import { errorReport } from './errors.ts';
import {
  commandLine,
  count,
  hostPath,
  machineId,
  machineName,
  memoryBytes,
  mfnOrder,
  notes,
  onReboot,
  tags,
  timestamp,
  vcpus,
} from './values.ts';

/** `saved` will join when there are snapshots. */
export const machineState = v.picklist(['off', 'starting', 'running', 'paused', 'crashed']);
export type MachineState = v.InferOutput<typeof machineState>;

/** What a machine is made of; everything here is kept in its machine.json. Paths are absolute. */
export const machineConfiguration = v.strictObject({
  name: machineName,
  /** How the guest is run; full PCs will be `pc`. */
  kind: v.literal('pv'),
  kernel: hostPath,
  initrd: v.nullable(hostPath),
  commandLine,
  memoryBytes,
  vcpus,
  onReboot,
  /** Order of machine frames; `permuted` is a test of guests. */
  mfnOrder,
  tags,
  notes,
  /** Started with the manager. */
  autostart: v.boolean(),
  /** Offer the console as a pseudo-terminal of the manager's computer while the machine runs. */
  consolePty: v.boolean(),
});
export type MachineConfiguration = v.InferOutput<typeof machineConfiguration>;

/** Any part of the configuration that can be changed, by name; `name` and `kind` have no place here. */
export const machineChanges = v.partial(v.omit(machineConfiguration, ['name', 'kind']));
export type MachineChanges = v.InferOutput<typeof machineChanges>;

/** Fields that a running guest does not notice before its next start. All others change at once. */
export const FIELDS_NEEDING_RESTART = [
  'kernel',
  'initrd',
  'commandLine',
  'memoryBytes',
  'vcpus',
  'mfnOrder',
  'onReboot',
] as const satisfies readonly (keyof MachineChanges)[];

/** What a machine is busy with beside its state. */
export const machineActivity = v.picklist(['stopping', 'resetting', 'moving', 'cloning']);
export type MachineActivity = v.InferOutput<typeof machineActivity>;

/** How long a guest that was asked to stop may take before it counts as one that does not listen, unless the request says otherwise. */
export const STOP_SECONDS = 60;

/** A guest was asked to stop and has not stopped yet. */
export const stopAsked = v.strictObject({
  at: timestamp,
  until: timestamp,
  /** The time is over: now force is to be offered. */
  overdue: v.boolean(),
});
export type StopAsked = v.InferOutput<typeof stopAsked>;

/** One line of the library: everything the list shows and searches. */
export const machineSummary = v.strictObject({
  id: machineId,
  name: machineName,
  kind: v.literal('pv'),
  state: machineState,
  /** When the state was entered; null when that is not known (never started). */
  since: v.nullable(timestamp),
  activity: v.nullable(machineActivity),
  stopAsked: v.nullable(stopAsked),
  /** Start of the run that is going on. */
  startedAt: v.nullable(timestamp),
  memoryBytes,
  vcpus,
  bits: v.nullable(v.picklist([32, 64])),
  tags,
  notes,
  autostart: v.boolean(),
  folder: hostPath,
  /** Why the machine crashed or cannot be used; its `action` is the next step. */
  problem: v.nullable(errorReport),
  /** Names of changed fields that wait for the next start. */
  restartNeeded: v.array(v.string()),
  /** False while another program holds the machine: it can be looked at only. */
  available: v.boolean(),
});
export type MachineSummary = v.InferOutput<typeof machineSummary>;

/** How a run ended. */
export const runOutcome = v.strictObject({
  kind: v.picklist(['poweroff', 'reboot', 'suspend', 'crash', 'forced', 'refused', 'failed', 'died']),
  /** One sentence; empty for the ordinary end. */
  text: v.string(),
  error: v.nullable(errorReport),
});
export type RunOutcome = v.InferOutput<typeof runOutcome>;

export const lastRun = v.strictObject({
  startedAt: timestamp,
  endedAt: v.nullable(timestamp),
  outcome: v.nullable(runOutcome),
  /** Guest instructions executed; null when unknown. */
  instructions: v.nullable(count),
});
export type LastRun = v.InferOutput<typeof lastRun>;

/** What was found in the kernel file when the machine was made or its kernel changed. */
export const kernelFacts = v.strictObject({
  container: v.picklist(['elf', 'bzImage']),
  version: v.string(),
  compressor: v.string(),
  bits: v.picklist([32, 64]),
  pv: v.boolean(),
});
export type KernelFacts = v.InferOutput<typeof kernelFacts>;

/** Everything about one machine. */
export const machineDetails = v.strictObject({
  summary: machineSummary,
  configuration: machineConfiguration,
  created: timestamp,
  kernelFacts: v.nullable(kernelFacts),
  lastRun: v.nullable(lastRun),
  /** Bytes of everything in the machine's folder. */
  folderBytes: count,
  /** Paths of files worth opening. */
  logFile: hostPath,
  consoleFile: hostPath,
  /** Pseudo-terminal that is the console at this moment, for other programs; null when there is none, and why, if one is wanted. */
  consolePty: v.nullable(hostPath),
  consolePtyProblem: v.nullable(errorReport),
  /** Process id while it runs. */
  pid: v.nullable(v.number()),
});
export type MachineDetails = v.InferOutput<typeof machineDetails>;

/** A machine in the trash. */
export const trashedMachine = v.strictObject({
  id: machineId,
  name: machineName,
  removedAt: timestamp,
  /** Where it was. */
  folder: hostPath,
});
export type TrashedMachine = v.InferOutput<typeof trashedMachine>;

/** An edit that can be taken back. */
export const undoStep = v.strictObject({
  id: v.string(),
  at: timestamp,
  /** What was done, for a toast: `Removed "web"`. */
  label: v.string(),
});
export type UndoStep = v.InferOutput<typeof undoStep>;
