// SPDX-License-Identifier: MIT
// Translates until V8 has optimised the translator, and collects garbage: run by collection.test.ts, traced by V8.

import { compileRegions } from '../../engine/translate/compile.ts';
import { InstructionBounds } from '../../engine/translate/magnitudes.ts';
import { findRegion } from '../../engine/translate/region.ts';
import { RegionStage } from '../../engine/translate/stage-region.ts';
import { keepSpecimen } from '../../engine/specimens.ts';

const memory = new Uint8Array(8192);
// 0: add [rdi + 8*rcx], rax; 4: push rcx; 5: pop rdx; 6: cmp rcx, rsi; 9: inc rcx; 12: jb 0; 14: test rax, rax; 17: jz 0; 19: addsd xmm0, xmm1; 23: ret
memory.set(Buffer.from('480104cf515a4839f148ffc172f24885c074edf20f58c1c3', 'hex'), 4096);

function translate(): void {
  compileRegions([findRegion(memory, 0, 4096, () => 0, { instructions: 120, pages: 4 })!]);
}

for (let i = 0; i < 3000; i++) translate();

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

await collect('with specimens');
for (const { prototype } of [RegionStage, InstructionBounds]) keepSpecimen(Object.create(prototype) as object);
await collect('without those that lead to most others');
