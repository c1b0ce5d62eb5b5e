// SPDX-License-Identifier: MIT
// From the running totals of a VM process to values per second.
import type { Channel } from '../contract/metrics.ts';
import type { VmMessage } from '../vm/protocol.ts';
import type { Values } from './ring-file.ts';

export type Totals = Omit<Extract<VmMessage, { type: 'sample' }>, 'type'>;

/** Families of hypercalls (xen/include/public/xen.h); everything else is "other". */
const FAMILIES: Readonly<Record<string, Channel>> = {
  mmu_update: 'hypercallsMmu',
  update_va_mapping: 'hypercallsMmu',
  update_va_mapping_otherdomain: 'hypercallsMmu',
  mmuext_op: 'hypercallsMmu',
  memory_op: 'hypercallsMmu',
  vm_assist: 'hypercallsMmu',
  event_channel_op: 'hypercallsEvents',
  event_channel_op_compat: 'hypercallsEvents',
  sched_op: 'hypercallsSched',
  sched_op_compat: 'hypercallsSched',
  set_timer_op: 'hypercallsSched',
  vcpu_op: 'hypercallsSched',
  grant_table_op: 'hypercallsGrants',
};

const PAGE_FAULT_VECTOR = '14';

/** Longer gaps than this are not averaged over: nothing is known of what happened in them. */
const LONGEST_INTERVAL_MS = 5000;

const sum = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((a, b) => a + b, 0);

function ofFamily(counts: Readonly<Record<string, number>>, family: Channel): number {
  return sum(
    Object.fromEntries(Object.entries(counts).filter(([name]) => (FAMILIES[name] ?? 'hypercallsOther') === family)),
  );
}

/**
 * Values of the time between two totals; null when they are not of the same guest (it was reset) or too far apart.
 * Tiers are told apart only by machines that count them.
 */
export function ratesBetween(before: Totals, after: Totals): Values | null {
  const elapsedMs = after.at - before.at;
  if (before.guest !== after.guest || elapsedMs <= 0 || elapsedMs > LONGEST_INTERVAL_MS) return null;
  const perSecond = (count: (stats: Totals['stats']) => number): number =>
    Math.max(0, ((count(after.stats) - count(before.stats)) / elapsedMs) * 1000);
  const share = (nanoseconds: (stats: Totals['stats']) => number): number => perSecond(nanoseconds) / 1e9;
  const family = (name: Channel): number => perSecond(({ hypercalls }) => ofFamily(hypercalls, name));
  const translated =
    after.stats.translatedInstructions === undefined
      ? null
      : perSecond(({ translatedInstructions }) => translatedInstructions ?? 0);
  const running = share((stats) => stats.runNs);
  const translatedTime = after.stats.translatedNs === undefined ? null : share(({ translatedNs }) => translatedNs ?? 0);
  const instructions = perSecond((stats) => stats.instructions);
  return {
    cpu: share((stats) => stats.hostCpuNs),
    running,
    idle: share((stats) => stats.idleNs),
    instructions,
    interpreted: translated === null ? null : Math.max(0, instructions - translated),
    translated,
    hypercalls: perSecond(({ hypercalls }) => sum(hypercalls)),
    hypercallsMmu: family('hypercallsMmu'),
    hypercallsEvents: family('hypercallsEvents'),
    hypercallsSched: family('hypercallsSched'),
    hypercallsGrants: family('hypercallsGrants'),
    hypercallsOther: family('hypercallsOther'),
    events: after.stats.events === undefined ? null : perSecond((stats) => stats.events ?? 0),
    faults: perSecond(({ faults }) => sum(faults)),
    pageFaults: perSecond(({ faults }) => faults[PAGE_FAULT_VECTOR] ?? 0),
    tlbMisses: perSecond((stats) => stats.tlbMisses),
    memory: after.rssBytes,
    translatedTime,
    interpretedTime: translatedTime === null ? null : Math.max(0, running - translatedTime),
  };
}
