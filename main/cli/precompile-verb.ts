// SPDX-License-Identifier: MIT
// `paravane precompile`: fills the store of precompiled blocks ahead of a kernel's first boot.
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import type { Precompilation } from '../contract/precompilation.ts';
import { size } from './tables.ts';
import { followed } from './verb.ts';
import type { Verb } from './verb.ts';

const count = (n: number): string => n.toLocaleString('en-US');

const OUTCOMES = {
  ended: 'up to its end, for want of a file system',
  idle: 'until it had nothing to do',
  stopped: 'until time was up',
} as const satisfies Record<NonNullable<Precompilation['rehearsal']>['outcome'], string>;

function describe({ symbols, functions, static: made, rehearsal, storeBytes }: Precompilation): string {
  const where = { elf: 'in the symbol table', kallsyms: 'in the tables of the kernel itself', none: '' }[symbols];
  return [
    symbols === 'none' ? 'The kernel has no symbols.' : `${count(functions)} functions found ${where}.`,
    ...(rehearsal === null
      ? []
      : [
          `One boot ${OUTCOMES[rehearsal.outcome]}: ${rehearsal.seconds.toFixed(1)} s, ` +
            `${count(Math.round(rehearsal.instructions / 1e6))} million instructions, ${count(rehearsal.regions)} regions.`,
        ]),
    `${count(made.regions)} regions from control flow, ${size(made.bytes)}.`,
    `The store has ${size(storeBytes)} now.`,
    '',
  ].join('\n');
}

export const precompileVerb: Verb = {
  usage: '--kernel FILE [--append TEXT] [--no-rehearsal]',
  help: 'translate a kernel ahead of its first boot; --append is what machines will give it',
  options: {
    kernel: { type: 'string' },
    append: { type: 'string', multiple: true },
    'no-rehearsal': { type: 'boolean' },
  },
  words: [0, 0],
  async run(context) {
    const { connection, values, answer } = context;
    if (values.kernel === undefined) throw pvError('usage', { detail: 'precompile needs --kernel FILE' });
    const kernel = path.resolve(values.kernel as string);
    const reply = await followed(context, (task) =>
      connection.invoke('kernel:precompile', {
        kernel,
        ...(values.append !== undefined && { commandLine: (values.append as string[]).join(' ') }),
        ...(values['no-rehearsal'] && { rehearse: false }),
        task,
      }),
    );
    answer(reply, describe(reply));
  },
};
