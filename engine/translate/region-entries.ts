// SPDX-License-Identifier: MIT
// The table by which translated code goes on from region to region: see `RegionTable` in engine/cpu/layout.ts.

import { RegionTable, setOf } from '../cpu/layout.ts';

export class RegionEntries {
  private readonly u32: Uint32Array;
  private readonly table: number;

  /** `base`: host address of the vCPU's state block. */
  constructor(u32: Uint32Array, base: number) {
    this.u32 = u32;
    this.table = (base + RegionTable.offset) >>> 2;
  }

  /** The region `index` begins at host address `code`. A set that is full loses its older entry, whose region the interpreter still finds. */
  add(code: number, index: number): void {
    const { u32 } = this;
    const at = this.setOf(code);
    if (u32[at] !== 0) u32.copyWithin(at + 2, at, at + 2);
    u32[at] = code;
    u32[at + 1] = index;
  }

  remove(code: number): void {
    const { u32 } = this;
    const at = this.setOf(code);
    for (const way of [at, at + 2]) if (u32[way] === code) u32[way] = 0;
  }

  private setOf(code: number): number {
    return this.table + (setOf(RegionTable, code) << 2);
  }
}
