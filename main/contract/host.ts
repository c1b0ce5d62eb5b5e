// SPDX-License-Identifier: MIT
// What the manager says about itself and its computer: host facts, settings, log lines, diagnostics.
import * as v from 'valibot';
import { count, hostPath, machineId, timestamp } from './values.ts';

/** The speed of guests on this computer, measured by running one; null parts are not known. */
export const hostSpeed = v.strictObject({
  measuredAt: timestamp,
  guestInstructionsPerSecond: v.number(),
  /** How many times slower than this computer itself. */
  slowdown: v.nullable(v.number()),
  /** In plain words: "about 6 times slower than this computer". */
  text: v.string(),
});
export type HostSpeed = v.InferOutput<typeof hostSpeed>;

export const hostInfo = v.strictObject({
  version: v.string(),
  versions: v.record(v.string(), v.string()),
  platform: v.string(),
  architecture: v.string(),
  cpuModel: v.string(),
  cores: v.number(),
  memoryBytes: count,
  freeMemoryBytes: count,
  /** Where new machines go unless told otherwise, and how much room is there; null when unknown. */
  machinesDirectory: hostPath,
  freeDiskBytes: v.nullable(count),
  dataDirectory: hostPath,
  homeDirectory: hostPath,
  pathSeparator: v.picklist(['/', '\\']),
  speed: v.nullable(hostSpeed),
});
export type HostInfo = v.InferOutput<typeof hostInfo>;

/** A key combination of the user's own in the send-keys menu: bytes as the terminal sends them, in base64. */
const keyCombination = v.strictObject({
  label: v.pipe(v.string(), v.minLength(1), v.maxLength(40)),
  bytes: v.pipe(v.string(), v.maxLength(400), v.base64()),
});

/** Everything that is set once for the whole program. Every field has a default; see `main/settings`. */
export const settings = v.strictObject({
  theme: v.picklist(['system', 'light', 'dark']),
  reducedMotion: v.picklist(['system', 'on', 'off']),
  /** In per cent. */
  zoom: v.pipe(v.number(), v.integer(), v.minValue(50), v.maxValue(300)),
  machinesDirectory: v.nullable(hostPath),
  console: v.strictObject({
    fontSize: v.pipe(v.number(), v.minValue(8), v.maxValue(40)),
    scrollbackLines: v.pipe(v.number(), v.integer(), v.minValue(100), v.maxValue(100_000)),
    copyOnSelect: v.boolean(),
    /** Characters a second for "type text". */
    typingSpeed: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(10_000)),
  }),
  keyCombinations: v.pipe(v.array(keyCombination), v.maxLength(50)),
  /** Command of the shortcut registry to key, where it differs from the default. */
  shortcuts: v.pipe(
    v.record(v.pipe(v.string(), v.maxLength(64)), v.nullable(v.pipe(v.string(), v.maxLength(64)))),
    v.maxEntries(200, 'has more than 200 entries'),
  ),
  confirmForceStop: v.boolean(),
  /** May windows open a shell on this computer? A page in a browser can only switch this off. */
  hostTerminal: v.boolean(),
  /** Sizes and choices of the window that it wants back: pane widths, open tabs, columns. */
  layout: v.pipe(
    v.record(
      v.pipe(v.string(), v.maxLength(64)),
      v.union([v.number(), v.boolean(), v.pipe(v.string(), v.maxLength(200))]),
    ),
    v.maxEntries(200, 'has more than 200 entries'),
  ),
});
export type Settings = v.InferOutput<typeof settings>;

/** Any part of the settings; objects inside are replaced whole. */
export const settingsChanges = v.partial(settings);
export type SettingsChanges = v.InferOutput<typeof settingsChanges>;

export const logLevel = v.picklist(['info', 'warn', 'error']);
export const logEntry = v.strictObject({
  at: timestamp,
  level: logLevel,
  /** Who says it: the manager, the VM's process, or the hypervisor on behalf of the guest. */
  source: v.picklist(['manager', 'process', 'guest']),
  text: v.string(),
});
export type LogEntry = v.InferOutput<typeof logEntry>;

/** The always-on page of facts for those who look for a fault. */
export const diagnostics = v.strictObject({
  at: timestamp,
  versions: v.record(v.string(), v.string()),
  upSinceMs: count,
  /** Counts by name since the manager started: commands served, events sent, failures. */
  counters: v.record(v.string(), v.number()),
  /** Messages that were refused, by reason. */
  refusals: v.record(v.string(), v.number()),
  sessions: v.array(v.strictObject({ id: v.string(), kind: v.string(), since: timestamp, messages: count })),
  processes: v.array(v.strictObject({ machine: machineId, pid: v.number(), startedAt: timestamp })),
  recent: v.array(logEntry),
});
export type Diagnostics = v.InferOutput<typeof diagnostics>;
