// SPDX-License-Identifier: MIT
// "Copy as command" and the command line agree: what is copied, parsed and run asks the manager for the very same.
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { parseCommand } from '../cli/arguments.ts';
import { verbs } from '../cli/verbs.ts';
import { commandLineOf } from './command-line.ts';
import { commandNames } from './commands.ts';
import type { CommandName, Request } from './commands.ts';
import { DEFAULT_SETTINGS } from '../settings/settings.ts';
import type { Connection } from './wire.ts';

const machine = '0a1b2c3d';
const NAME = "it's -odd- name";

/** Splits a line as a shell does. */
function words(line: string): string[] {
  const output = execFileSync('sh', ['-c', `printf '%s\\0' ${line}`]).toString();
  return output.split('\0').slice(0, -1);
}

/** The last command that running a line sends, apart from looking names up. */
async function sentBy(line: string): Promise<{ name: CommandName; request: unknown }> {
  const [program, ...args] = words(line);
  expect(program).toBe('paravane');
  const command = parseCommand(args);
  if (command.command !== 'verb') throw new Error(`${line} is no verb`);
  let sent: { name: CommandName; request: unknown } | null = null;
  const connection: Connection = {
    invoke(name, request) {
      if (name === 'settings:get') {
        sent ??= { name, request };
        return Promise.resolve(DEFAULT_SETTINGS as never);
      }
      if (name === 'machine:list') return Promise.resolve({ machines: [{ id: machine, name: NAME }] } as never);
      // Tasks are named at random.
      const { task: _, ...rest } = request as { task?: string };
      sent = { name, request: rest };
      return Promise.reject(new Error('sent'));
    },
    on: () => () => undefined,
  };
  const { verb, values, positionals, json } = command;
  const nothing = (): void => undefined;
  await verbs[verb]
    .run({ connection, values, positionals, json, answer: nothing, next: nothing })
    .catch(() => undefined);
  return sent!;
}

const cases: { [Name in CommandName]?: Request<Name>[] } = {
  'machine:get': [{ machine }],
  'machine:create': [
    { name: 'plain', kernel: '/boot/vmlinuz', memoryBytes: 2 ** 29 },
    {
      name: '-dash $(x)',
      kernel: '/k k',
      initrd: '/i',
      commandLine: '-quiet a="b"',
      memoryBytes: 2 ** 26 + 4096,
      vcpus: 1,
      onReboot: 'exit',
      mfnOrder: 'permuted',
      tags: ['a b', '-c'],
      notes: 'two\nlines',
      autostart: true,
      consolePty: true,
      folder: '/somewhere/else',
      copyFiles: true,
      start: true,
    },
  ],
  'machine:set': [
    { machine, changes: { initrd: null, tags: [], autostart: false } },
    { machine, changes: { memoryBytes: 2 ** 30, notes: '' } },
  ],
  'machine:clone': [
    { machine, name: 'copy' },
    { machine, name: 'copy', folder: '/f' },
  ],
  'machine:rename': [{ machine, name: '--x' }],
  'machine:move': [{ machine, folder: '/new place' }],
  'machine:remove': [{ machine }],
  'machine:order': [{ machines: [machine] }],
  'library:add': [{ folder: '/f' }],
  'library:undo': [{}, { undo: 'abc' }],
  'trash:list': [{}],
  'trash:restore': [{ machine }],
  'trash:empty': [{}, { machine }],
  'machine:start': [{ machine }],
  'machine:pause': [{ machine }],
  'machine:resume': [{ machine }],
  'machine:reset': [{ machine }],
  'machine:stop': [
    { machine, how: 'ask' },
    { machine, how: 'force' },
    { machine, how: 'ask', seconds: 20 },
    { machine, how: 'ask', seconds: 20, thenForce: true },
  ],
  'machine:dismiss': [{ machine }],
  'machine:sysrq': [{ machine, key: 'c' }],
  'file:inspect': [{ path: "/a 'quoted' file" }],
  'kernel:precompile': [
    { kernel: '/k', task: 'any' },
    { kernel: '/k k', commandLine: '-x y', rehearse: false, task: 'any' },
  ],
  'metrics:counters': [{ machine }],
  'metrics:history': [{ machine, from: 1e12, to: 1e12 + 5000 }],
  'log:read': [{ machine, lines: 20 }],
  'host:info': [{}],
  'settings:get': [{}],
  'settings:set': [
    { changes: { theme: 'dark', zoom: 150, machinesDirectory: null, hostTerminal: true } },
    { changes: { machinesDirectory: '/a b', console: { ...DEFAULT_SETTINGS.console, fontSize: 20 } } },
    { changes: { keyCombinations: [{ label: '-x', bytes: 'Gw==' }], layout: {} } },
  ],
  'diagnostics:get': [{}],
  'diagnostics:report': [{}, { machine }],
};

describe('commandLineOf', () => {
  const flat = Object.entries(cases).flatMap(([name, requests]) => requests.map((request) => [name, request] as const));
  it.each(flat)('%s %j', async (name, request) => {
    const line = commandLineOf(name as CommandName, request as never, () => NAME)!;
    const { task: _, ...asked } = request as { task?: string };
    expect(await sentBy(line)).toEqual({ name, request: asked });
  });

  it('has a line for everything but what makes sense in a window only', () => {
    const without = commandNames.filter((name) => commandLineOf(name, { machine, machines: [], changes: {}, from: 0, to: 0, name: 'n', path: '/p', folder: '/f', variant: 'best', lines: 1, text: 't', key: 'c' } as never) === null); // prettier-ignore
    expect(without.sort()).toEqual([
      'console:detach',
      'console:input',
      'console:resize',
      'file:browse',
      'file:uploadBegin',
      'file:uploadCancel',
      'file:uploadChunk',
      'file:uploadEnd',
      'metrics:watch',
      'task:cancel',
      'terminal:attach',
      'terminal:detach',
      'terminal:input',
      'terminal:resize',
      'terminal:start',
      'terminal:stop',
      'welcome:status',
      'window:chooseFile',
      'window:open',
      'window:setMenu',
    ]);
  });
});
