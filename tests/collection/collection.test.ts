// SPDX-License-Identifier: MIT
// V8's optimised code of the translator outlives collections of garbage (engine/specimens.ts).

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

it('leaves the translator optimised', () => {
  // Without TurboFan, as VM processes are.
  const flags = ['--no-turbofan', '--expose-gc', '--trace-opt', '--trace-deopt'];
  const program = fileURLToPath(new URL('program.ts', import.meta.url));
  const output = execFileSync(process.execPath, [...flags, program], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  const [before, integers, all, lost] = output.split('\ncollection ');
  expect(before!.match(/completed compiling/g)?.length).toBeGreaterThan(100);
  const dropped = (trace: string) =>
    [...trace.matchAll(/SharedFunctionInfo ([^>]*)>.*embedded weak objects cleared/g)].map(([, name]) => name);
  expect(dropped(integers!)).toEqual([]);
  expect(dropped(all!)).toEqual([]);
  expect(dropped(lost!).length).toBeGreaterThan(5);
});
