// SPDX-License-Identifier: MIT
// The table by which translated code goes on from region to region: see `RegionTable` in engine/cpu/layout.ts.

import { RegionTable, setOf } from '../cpu/layout.ts';

/** Words of an entry. */
const fields = RegionTable.entryBytes / 4;

export class RegionEntries {
  private readonly u32: Uint32Array;
  private readonly table: number;

  /** `base`: host address of the vCPU's state block. */
  constructor(u32: Uint32Array, base: number) {
    this.u32 = u32;
    this.table = (base + RegionTable.offset) >>> 2;
  }

  /** The region `index` begins at host address `code`. A set that is full loses its oldest entry, whose region the interpreter still finds. */
  add(code: number, index: number): void {
    const { u32 } = this;
    const first = this.setOf(code);
    let free = first;
    const last = first + fields * (RegionTable.ways - 1);
    while (free < last && u32[free] !== 0) free += fields;
    for (let at = free; at > first; at -= fields) {
      u32[at] = u32[at - fields]!;
      u32[at + 1] = u32[at + 1 - fields]!;
    }
    u32[first] = code;
    u32[first + 1] = index;
  }

  remove(code: number): void {
    const { u32 } = this;
    const first = this.setOf(code);
    for (let way = 0; way < RegionTable.ways; way++)
      if (u32[first + fields * way] === code) u32[first + fields * way] = 0;
  }

  private setOf(code: number): number {
    return this.table + setOf(RegionTable, code) * RegionTable.ways * fields;
  }
}
