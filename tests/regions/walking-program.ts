// SPDX-License-Identifier: MIT
// Random programs of nothing but loops that walk through the data.

import type { Random } from '../oracle/random.ts';
import { CODE, DATA_PAGES, makeInput, Writer, type Program } from './program.ts';
import { walking } from './walking.ts';
import { rbx } from './registers.ts';

/** Makes a program; its blocks begin with accesses to all pages, so that the TLB knows them. */
export function makeWalkingProgram(r: Random): Program {
  const w = new Writer();
  const blocks: number[] = [];
  for (let n = 3; n > 0; n--) {
    blocks.push(CODE + w.at);
    for (let page = 0; page < DATA_PAGES; page++) w.modrm([0x8a], 0, { base: rbx, disp: 0x1000 * page });
    for (let page = 0; page < DATA_PAGES - 1; page++) {
      w.modrm([0x80], 1, { base: rbx, disp: 0x1000 * page });
      w.put(0);
    }
    for (let k = 1 + r.below(3); k > 0; k--) walking(w, r);
    w.put(0xcc);
  }
  return { code: w.bytes, blocks, modifiesCode: false, ...makeInput(r, false) };
}
