// SPDX-License-Identifier: MIT
// Puts regions into a WebAssembly module: imports of memory and slow paths, one exported function per region.

import { add, i32 } from '../wasm/expr.ts';
import type { Callee } from '../wasm/function.ts';
import { ModuleBuilder } from '../wasm/module.ts';
import { chainParams, chainResults, regionParams, regionResults } from '../cpu/chain.ts';
import { kernelExport } from '../cpu/interpreter.ts';
import { RegionLink } from '../cpu/layout.ts';
import type { Helpers } from '../cpu/stage-base.ts';
import type { Kernel } from '../x86/kernel.ts';
import { emitRegion } from './emit.ts';
import { guardSlots, guardsOf, regionSlots } from './guards.ts';
import { Links, type FunctionTypes } from './links.ts';
import { slotsOf } from './profile.ts';
import type { Region } from './region.ts';
import type { OnMiss } from './region-state.ts';

const linkSlots = RegionLink.bytes / 4;

/** Name under which the n-th region of a module is exported. */
export const regionExport = (n: number): string => `r${n}`;

export interface CompiledRegions {
  readonly bytes: Uint8Array;
  /**
   * First slot (u32) of each region among the module's: those of its guards (guards.ts), then what it counts (`slotsOf`), then its links.
   */
  readonly guardStart: readonly number[];
  readonly guards: number;
}

/** Assembles a module of regions. Its imports: env.memory, env.regions, env.host and functions of the interpreter. */
export function compileRegions(regions: readonly Region[], onMiss: OnMiss = 'leave'): CompiledRegions {
  // Kernels have to be imported before the first function exists: a dry run finds out which, where there can be any.
  const used = new Map<string, Kernel>();
  if (regions.some(usesKernels)) build(regions, onMiss, (k) => used.set(k.name, k), []);
  return build(regions, onMiss, undefined, [...used.values()]);
}

/** Only the x87 escape opcodes call kernels. */
const usesKernels = (region: Region): boolean =>
  region.blocks.some((b) =>
    b.instructions.some(({ entry }) => entry.map === 0 && entry.opcode >= 0xd8 && entry.opcode <= 0xdf),
  );

function build(
  regions: readonly Region[],
  onMiss: OnMiss,
  discover: ((k: Kernel) => void) | undefined,
  kernels: readonly Kernel[],
): CompiledRegions {
  const module = new ModuleBuilder();
  module.importMemory({ module: 'env', name: 'memory', initialPages: 1, maximumPages: 65536, shared: true });
  module.importTable('env', 'regions');
  const imported = (name: string, params: Callee['params'], results: Callee['results']) =>
    module.importFunction('env', name, params, results);
  const callees = new Map(kernels.map((k) => [k.name, imported(kernelExport(k.name), k.params, k.results)]));
  const helpers: Helpers = {
    host: imported('host', ['i32', 'i32'], ['i32']),
    hostPage: imported('hostPage', ['i32', 'i64', 'i32'], ['i32']),
    fillRead: imported('fillRead', ['i32', 'i64', 'i32'], ['i32']),
    fillWrite: imported('fillWrite', ['i32', 'i64', 'i32'], ['i32']),
    store: imported('store', ['i32', 'i64', 'i32', 'i64'], ['i32']),
    store128: imported('store128', ['i32', 'i64'], ['i32']),
    // Only needed outside 64-bit mode, where nothing is translated.
    segment: { index: 0, params: [], results: [] },
    kernel: (k) => {
      discover?.(k);
      const callee = callees.get(k.name);
      if (callee) return callee;
      if (!discover) throw new Error(`kernel ${k.name} appeared late`);
      return { index: 0, params: k.params, results: k.results };
    },
  };
  const types: FunctionTypes = {
    region: module.typeOf(regionParams, regionResults),
    chain: module.typeOf(chainParams, chainResults),
  };
  let guards = 0;
  const guardStart: number[] = [];
  regions.forEach((region, n) => {
    const fn = module.function(regionParams, regionResults, regionExport(n));
    guardStart.push(guards);
    const first = guards;
    const slots = fn.body.permanentLocal('i32');
    const slotAt = (slot: number) => add(slots, i32(4 * slot));
    const pages = guardsOf(region.pages).map(({ delta, slot }) => ({ delta, slot: slotAt(slot) }));
    const counters = slotsOf(region);
    const of = (slot: number) => slotAt(guardSlots(pages.length) + slot);
    guards += guardSlots(pages.length) + counters.total;
    const firstLink = guards;
    const most = Math.floor((regionSlots - (firstLink - first)) / linkSlots);
    const links = new Links(types, most, (n) => slotAt(firstLink - first + linkSlots * n));
    emitRegion(
      fn.body,
      region,
      { slots, stamp: slotAt(0), pages },
      {
        computed: counters.computed.map(of),
        branches: counters.branches.map(of),
        entries: counters.entries === undefined ? undefined : of(counters.entries),
      },
      links,
      helpers,
      onMiss,
    );
    guards += links.total * linkSlots;
  });
  return { bytes: discover ? new Uint8Array(0) : module.encode(), guardStart, guards };
}
