// SPDX-License-Identifier: MIT
// Windows that are opened before a loop: around registers that it does not write, for accesses that each of its turns makes.

import { add, i64 } from '../wasm/expr.ts';
import type { RegionBlock } from './region.ts';
import type { RegionState } from './region-state.ts';
import { lookUp } from './stage-memory.ts';
import { reachedBy, registersWritten } from './windows.ts';

/** Bits of the general registers that these blocks may write. */
export function writtenIn(blocks: readonly RegionBlock[]): number {
  let bits = 0;
  for (const { instructions } of blocks) for (const i of instructions) bits |= registersWritten(i);
  return bits;
}

/**
 * Opens windows for what the `header` of a loop accesses around registers other than `written`. `leave` emits a way out, to the begin of the header,
 * where the TLB does not know an address: the header would not get further than the access.
 */
export function openAhead(state: RegionState, header: RegionBlock, written: number, leave: () => void): void {
  const { f, places } = state;
  for (const [register, reach] of reachedBy(header, written)) {
    const { anchor, offset } = places.of(register);
    const [low, high] = [reach.low + offset, reach.high + offset];
    if (anchor.windowFor(low, high - low, reach.isWritten ? 'write' : 'read')) continue;
    const host = places.windowLocal();
    f.scope(() => {
      const start = f.let(add(state.gpr(register), i64(reach.low)));
      const found = lookUp(state, start, reach.high - reach.low, reach.isWritten);
      f.ifUnlikely(found.isUnknown, leave);
      f.set(host, found.host);
    });
    anchor.read = { low, high, host };
    if (reach.isWritten) anchor.write = anchor.read;
  }
}
