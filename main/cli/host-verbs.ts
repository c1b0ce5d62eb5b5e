// SPDX-License-Identifier: MIT
// The verbs about this computer and the program itself: files, speed, settings, diagnostics.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { precompileVerb } from './precompile-verb.ts';
import { settingsVerb } from './settings-verb.ts';
import * as show from './tables.ts';
import { followed, machineCalled } from './verb.ts';
import type { Verb } from './verb.ts';

export const hostVerbs = {
  inspect: {
    usage: 'FILE',
    help: 'what a file is and whether it can be started',
    options: {},
    words: [1, 1],
    async run(context) {
      const { connection, positionals: [file], answer } = context; // prettier-ignore
      const inspection = await followed(context, (task) =>
        connection.invoke('file:inspect', { path: path.resolve(file), task }),
      );
      answer(inspection, show.showInspection(inspection));
    },
  },
  precompile: precompileVerb,
  host: {
    usage: '[--measure]',
    help: 'this computer, and how fast guests are on it',
    options: { measure: { type: 'boolean' } },
    words: [0, 0],
    async run(context) {
      if (context.values.measure) {
        await followed(context, (task) => context.connection.invoke('host:measure', { task }));
      }
      const host = await context.connection.invoke('host:info', {});
      context.answer(host, show.showHost(host));
    },
  },
  settings: settingsVerb,
  diagnostics: {
    usage: '',
    help: 'counters, refusals and versions, as JSON',
    options: {},
    words: [0, 0],
    async run({ connection, answer }) {
      const diagnostics = await connection.invoke('diagnostics:get', {});
      answer(diagnostics, `${JSON.stringify(diagnostics, null, 2)}\n`);
    },
  },
  report: {
    usage: '[NAME] [--output FILE]',
    help: 'a zip file for a bug report, without personal paths',
    options: { output: { type: 'string' } },
    words: [0, 1],
    async run({ connection, positionals: [name], values, answer }) {
      const machine = name === undefined ? {} : { machine: (await machineCalled(connection, name)).id };
      const { fileName, bytes } = await connection.invoke('diagnostics:report', machine);
      const file = path.resolve((values.output as string | undefined) ?? fileName);
      fs.writeFileSync(file, Buffer.from(bytes, 'base64'));
      answer({ file }, `${file}\n`);
    },
  },
} as const satisfies Record<string, Verb>;
