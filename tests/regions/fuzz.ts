// SPDX-License-Identifier: MIT
// `npm run fuzz:regions -- [--programs N] [--seed S] [--tier translate|auto] [--floating|--walking]`: random programs (of SSE arithmetic, of loops through data), interpreted and translated, until one differs.

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Tier } from '../../engine/cpu/vcpu.ts';
import { disassemble } from '../oracle/disassemble.ts';
import { Random } from '../oracle/random.ts';
import { makeFloatingInput, makeFloatingProgram } from './floating-program.ts';
import { CODE, makeProgram, withOtherInput } from './program.ts';
import { difference, ProgramRunner } from './runner.ts';
import { makeWalkingProgram } from './walking-program.ts';

const out = (text: string): void => void process.stdout.write(`${text}\n`);
const { values } = parseArgs({
  options: {
    programs: { type: 'string', default: '100000' },
    seed: { type: 'string' },
    tier: { type: 'string', default: 'translate' },
    /** Programs of SSE arithmetic. */
    floating: { type: 'boolean', default: false },
    /** Programs of loops that walk through data. */
    walking: { type: 'boolean', default: false },
    failures: { type: 'string', default: '5' },
    /** Writes the code pages of the first failing program to this file. */
    dump: { type: 'string' },
  },
});
const programs = Number(values.programs);
const seed = values.seed === undefined ? Date.now() >>> 0 : Number(values.seed);
if (!(programs > 0) || Number.isNaN(seed) || !['translate', 'auto', 'interpret'].includes(values.tier)) {
  process.stderr.write(
    'usage: npm run fuzz:regions -- [--programs N] [--seed S] [--tier translate|auto] [--floating|--walking] [--failures N] [--dump FILE]\n',
  );
  process.exit(2);
}

const make = values.floating ? makeFloatingProgram : values.walking ? makeWalkingProgram : makeProgram;
out(`seed ${seed}`);
const plain = new ProgramRunner('interpret');
const other = new ProgramRunner(values.tier as Tier);
const start = performance.now();
let told = start;
let failures = 0;
let gaveUp = 0;
/** Runs of each program. */
const inputs = 4;
let done = 0;
for (; done < programs && failures < Number(values.failures); done++) {
  // Every program has a seed of its own, so that one can be repeated alone: --programs 1 --seed S.
  const own = seed + done;
  const random = new Random(own);
  let program = make(random);
  for (let n = 0; n < inputs; n++) {
    if (n > 0)
      program = values.floating ? { ...program, ...makeFloatingInput(random) } : withOtherInput(program, random);
    const expected = plain.run(program);
    if (expected.gaveUp) gaveUp++;
    const found = difference(expected, other.run(program));
    if (found === undefined) continue;
    failures++;
    out(`\nseed ${own}, input ${n}, budget ${program.budget}: ${found}`);
    if (failures === 1) {
      const first = program.blocks[0]! - CODE;
      const last = Math.max(...program.blocks) - CODE + 200;
      for (const line of disassemble(program.code.subarray(first, last), 64, CODE + first))
        out(`  ${line.address.toString(16)}${program.blocks.includes(line.address) ? '*' : ' '} ${line.text}`);
      if (values.dump !== undefined) writeFileSync(values.dump, program.code);
    }
    break;
  }
  if (performance.now() - told > 10_000) {
    told = performance.now();
    out(`${done} programs, ${Math.round(done / ((told - start) / 1000))} per second`);
  }
}
const { regionInstructions, regionEntries } = other.statistics();
out(
  `\n${done} programs of ${inputs} runs, ${gaveUp} without an end, ${failures} differ; ${regionInstructions} instructions in regions, ${regionEntries} entries; seed ${seed}; ${Math.round((performance.now() - start) / 1000)} s`,
);
process.exitCode = failures > 0 ? 1 : 0;
