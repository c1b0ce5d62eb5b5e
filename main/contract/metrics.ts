// SPDX-License-Identifier: MIT
// What is measured of a running machine: the channels, one sample a second, and history in four tiers.
import * as v from 'valibot';
import { machineId, timestamp } from './values.ts';

/** How a channel's values are to be read. Rates are per second of host time. */
export type ChannelUnit = 'share' | 'perSecond' | 'bytes';

/**
 * Every measured quantity, in the order of history files: new ones are added at the end only.
 * Shares are parts of one host core and may exceed 1 when a VM's helpers work beside its vCPU.
 */
export const CHANNELS = {
  cpu: { unit: 'share', label: 'Host CPU of the VM process' },
  running: { unit: 'share', label: 'Time in guest code' },
  idle: { unit: 'share', label: 'Time the guest had nothing to do' },
  instructions: { unit: 'perSecond', label: 'Guest instructions' },
  interpreted: { unit: 'perSecond', label: 'Instructions interpreted' },
  translated: { unit: 'perSecond', label: 'Instructions in translated code' },
  hypercalls: { unit: 'perSecond', label: 'Hypercalls' },
  hypercallsMmu: { unit: 'perSecond', label: 'Hypercalls on page tables' },
  hypercallsEvents: { unit: 'perSecond', label: 'Hypercalls on event channels' },
  hypercallsSched: { unit: 'perSecond', label: 'Hypercalls on scheduling and timers' },
  hypercallsGrants: { unit: 'perSecond', label: 'Hypercalls on grants' },
  hypercallsOther: { unit: 'perSecond', label: 'Other hypercalls' },
  events: { unit: 'perSecond', label: 'Events delivered to the guest' },
  faults: { unit: 'perSecond', label: 'Faults' },
  pageFaults: { unit: 'perSecond', label: 'Page faults' },
  tlbMisses: { unit: 'perSecond', label: 'TLB misses' },
  memory: { unit: 'bytes', label: 'Host memory of the VM process' },
  translatedTime: { unit: 'share', label: 'Time in translated code' },
  interpretedTime: { unit: 'share', label: 'Time in the interpreter and the hypervisor' },
} as const satisfies Record<string, { unit: ChannelUnit; label: string }>;

export type Channel = keyof typeof CHANNELS;
export const CHANNEL_NAMES = Object.keys(CHANNELS) as Channel[];

/** Tiers of history, finest first: period of a point and how many are kept. */
export const TIERS = [
  { periodMs: 1000, points: 600 },
  { periodMs: 10_000, points: 1080 },
  { periodMs: 300_000, points: 2016 },
  { periodMs: 86_400_000, points: 366 },
] as const;

/** null is "not known" and never the same as 0. */
const value = v.nullable(v.number());
const byChannel = <T extends v.GenericSchema>(schema: T) =>
  v.strictObject(Object.fromEntries(CHANNEL_NAMES.map((name) => [name, schema])) as Record<Channel, T>);

/** One second of one machine. */
export const metricSample = v.strictObject({
  /** End of the second. */
  at: timestamp,
  values: byChannel(value),
});
export type MetricSample = v.InferOutput<typeof metricSample>;

/** Something that happened, for the time axis and for the log. */
export const machineEventKind = v.picklist([
  'created',
  'started',
  'stopped',
  'crashed',
  'paused',
  'resumed',
  'reset',
  'settings',
]);
export const machineEvent = v.strictObject({ at: timestamp, kind: machineEventKind, text: v.string() });
export type MachineEvent = v.InferOutput<typeof machineEvent>;

/**
 * A stretch of history in columns. Point i covers [start + i * periodMs, start + (i + 1) * periodMs). Gaps are null.
 * `average` and `maximum` are the same in the finest tier.
 */
export const metricHistory = v.strictObject({
  machine: machineId,
  periodMs: v.number(),
  start: timestamp,
  length: v.number(),
  average: byChannel(v.array(value)),
  maximum: byChannel(v.array(value)),
  events: v.array(machineEvent),
});
export type MetricHistory = v.InferOutput<typeof metricHistory>;

/** What the list needs of every running machine, once a second. */
export const activitySample = v.strictObject({
  machine: machineId,
  cpu: value,
  instructionsPerSecond: value,
  memory: value,
});
export type ActivitySample = v.InferOutput<typeof activitySample>;

/** Totals since the guest started, by their own names. */
export const machineCounters = v.strictObject({
  at: timestamp,
  instructions: v.number(),
  hypercalls: v.record(v.string(), v.number()),
  faults: v.record(v.string(), v.number()),
  other: v.record(v.string(), v.number()),
});
export type MachineCounters = v.InferOutput<typeof machineCounters>;
