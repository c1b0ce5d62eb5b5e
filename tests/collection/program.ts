// SPDX-License-Identifier: MIT
// Translates until V8 has optimised the translator, and collects garbage: run by collection.test.ts, traced by V8.

import { bytesOf } from '../../engine/cpu/test-machine.ts';
import { compileRegions } from '../../engine/translate/compile.ts';
import { InstructionBounds } from '../../engine/translate/magnitudes.ts';
import { findRegion } from '../../engine/translate/region.ts';
import { RegionStage } from '../../engine/translate/stage-region.ts';
import { keepSpecimen } from '../../engine/specimens.ts';

// 0: add [rdi + 8*rcx], rax; 4: push rcx; 5: pop rdx; 6: cmp rcx, rsi; 9: inc rcx; 12: jb 0; 14: test rax, rax; 17: jz 0
const integers = '480104cf 51 5a 4839f1 48ffc1 72f2 4885c0 74ed';
// addsd xmm0, xmm1
const doubles = 'f20f58c1';

/** Until V8 has optimised what it takes. */
function translate(code: string): void {
  const memory = new Uint8Array(8192);
  // ret
  memory.set(bytesOf(`${code} c3`), 4096);
  for (let i = 0; i < 3000; i++)
    compileRegions([findRegion(memory, 0, 4096, () => 0, { instructions: 120, pages: 4 })!]);
}

/** When no frame is left that may hold what it had. */
function collect(what: string): Promise<void> {
  return new Promise((resolve) =>
    setTimeout(() => {
      process.stdout.write(`collection ${what}\n`);
      gc!();
      resolve();
    }),
  );
}

translate(integers);
await collect('of integer code');
translate(integers + doubles);
await collect('of any code');
for (const { prototype } of [RegionStage, InstructionBounds]) keepSpecimen(Object.create(prototype) as object);
await collect('without those that lead to most others');
