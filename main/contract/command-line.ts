// SPDX-License-Identifier: MIT
// "Copy as command": the line for a POSIX shell that does the same as a command of the contract.
import type { CommandName, Request } from './commands.ts';
import { STOP_SECONDS } from './machine.ts';

/** How machines are called on the command line: by name where that is unique, else by identifier. */
export type NameOfMachine = (machine: string) => string;

type Words = (string | number)[];

/** The command line for `request`, or null for what makes sense in a window only (attaching, uploads, watching). */
export function commandLineOf<Name extends CommandName>(
  name: Name,
  request: Request<Name>,
  nameOf: NameOfMachine = (machine) => machine,
): string | null {
  const translate = translations[name] as ((request: Request<Name>, nameOf: NameOfMachine) => Words) | undefined;
  if (translate === undefined) return null;
  return ['paravane', ...translate(request, nameOf)].map((word) => quoted(String(word))).join(' ');
}

/** Quotes a word for sh, bash and zsh where it needs it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** A value that begins with a dash would be read as an option. */
const option = (name: string, value: string | number): string => `--${name}=${value}`;

/** Sizes as the command line reads them, exact to the byte. */
function memory(bytes: number): string {
  if (bytes % 2 ** 30 === 0) return `${bytes / 2 ** 30}G`;
  return bytes % 2 ** 20 === 0 ? `${bytes / 2 ** 20}M` : `${bytes / 1024}K`;
}

type ConfigurationWords = Partial<Omit<Request<'machine:create'>, 'name' | 'kind'>>;

function configuration(values: ConfigurationWords): Words {
  const words: Words = [];
  if (values.kernel !== undefined) words.push(option('kernel', values.kernel));
  if (values.initrd !== undefined) words.push(values.initrd === null ? '--no-initrd' : option('initrd', values.initrd));
  if (values.commandLine !== undefined) words.push(option('append', values.commandLine));
  if (values.memoryBytes !== undefined) words.push(option('memory', memory(values.memoryBytes)));
  if (values.vcpus !== undefined) words.push(option('vcpus', values.vcpus));
  if (values.onReboot !== undefined) words.push(option('on-reboot', values.onReboot));
  if (values.mfnOrder !== undefined) words.push(option('mfn-order', values.mfnOrder));
  if (values.tags !== undefined) {
    words.push(...(values.tags.length === 0 ? ['--no-tags'] : values.tags.map((tag) => option('tag', tag))));
  }
  if (values.notes !== undefined) words.push(option('notes', values.notes));
  if (values.autostart !== undefined) words.push(values.autostart ? '--autostart' : '--no-autostart');
  if (values.consolePty !== undefined) words.push(values.consolePty ? '--console-pty' : '--no-console-pty');
  return words;
}

const inFolder = (folder: string | undefined): Words => (folder === undefined ? [] : [option('folder', folder)]);

/** Names come after `--` when they would be read as options. */
const positional = (...names: string[]): Words =>
  names.some((name) => name.startsWith('-')) ? ['--', ...names] : names;

const verb =
  (word: string) =>
  ({ machine }: { machine: string }, nameOf: NameOfMachine): Words => [word, ...positional(nameOf(machine))];

const translations: { [Name in CommandName]?: (request: Request<Name>, nameOf: NameOfMachine) => Words } = {
  'machine:list': () => ['list'],
  'machine:get': verb('show'),
  'machine:create': ({ name, folder, copyFiles, start, kind: _, ...rest }) => [
    'create',
    ...configuration(rest),
    ...inFolder(folder),
    ...(copyFiles ? ['--copy-files'] : []),
    ...(start ? ['--start'] : []),
    ...positional(name),
  ],
  'machine:clone': ({ machine, name, folder }, nameOf) => [
    'clone',
    ...inFolder(folder),
    ...positional(nameOf(machine), name),
  ],
  'machine:rename': ({ machine, name }, nameOf) => ['rename', ...positional(nameOf(machine), name)],
  'machine:move': ({ machine, folder }, nameOf) => ['move', ...positional(nameOf(machine), folder)],
  'machine:set': ({ machine, changes }, nameOf) => ['set', ...configuration(changes), ...positional(nameOf(machine))],
  'machine:remove': verb('rm'),
  'machine:order': ({ machines }, nameOf) => ['order', ...positional(...machines.map(nameOf))],
  'library:add': ({ folder }) => ['add', ...positional(folder)],
  'library:undo': ({ undo }) => ['undo', ...(undo === undefined ? [] : [undo])],
  'trash:list': () => ['trash', 'list'],
  'trash:restore': ({ machine }) => ['trash', 'restore', machine],
  'trash:empty': ({ machine }) => ['trash', 'empty', ...(machine === undefined ? [] : [machine])],
  'machine:start': verb('start'),
  'machine:pause': verb('pause'),
  'machine:resume': verb('resume'),
  'machine:reset': verb('reset'),
  'machine:stop': ({ machine, how, seconds, thenForce, task }, nameOf) => [
    'stop',
    ...(how === 'force' || thenForce ? ['--force'] : []),
    ...(how === 'ask' && (seconds !== undefined || thenForce) ? [option('timeout', seconds ?? STOP_SECONDS)] : []),
    ...(how === 'ask' && seconds === undefined && !thenForce && task !== undefined ? ['--wait'] : []),
    ...positional(nameOf(machine)),
  ],
  'machine:dismiss': verb('dismiss'),
  'machine:sysrq': ({ machine, key }, nameOf) => ['sysrq', ...positional(nameOf(machine)), key],
  'console:attach': verb('console'),
  'console:scrollback': ({ machine }, nameOf) => ['console', '--print', ...positional(nameOf(machine))],
  'console:type': ({ machine, text }, nameOf) => ['type', ...positional(nameOf(machine), text)],
  'file:inspect': ({ path }) => ['inspect', ...positional(path)],
  'kernel:precompile': ({ kernel, commandLine, rehearse }) => [
    'precompile',
    option('kernel', kernel),
    ...(commandLine === undefined ? [] : [option('append', commandLine)]),
    ...(rehearse === false ? ['--no-rehearsal'] : []),
  ],
  'welcome:create': ({ variant, name, folder, start }) => [
    'create',
    variant === 'demo' ? '--demo' : '--welcome',
    ...inFolder(folder),
    ...(start ? ['--start'] : []),
    ...positional(...(name === undefined ? [] : [name])),
  ],
  'metrics:history': ({ machine, from, to }, nameOf) => [
    'stats',
    option('from', new Date(from).toISOString()),
    option('to', new Date(to).toISOString()),
    ...positional(nameOf(machine)),
  ],
  'metrics:counters': ({ machine }, nameOf) => ['stats', '--counters', ...positional(nameOf(machine))],
  'log:read': ({ machine, lines }, nameOf) => ['log', option('lines', lines), ...positional(nameOf(machine))],
  'host:info': () => ['host'],
  'host:measure': () => ['host', '--measure'],
  'settings:get': () => ['settings'],
  'settings:set': ({ changes }) => {
    const words = Object.entries(changes).flatMap(([name, value]) => [
      name,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]);
    return ['settings', ...positional(...words)];
  },
  'diagnostics:get': () => ['diagnostics'],
  'diagnostics:report': ({ machine }, nameOf) => [
    'report',
    ...(machine === undefined ? [] : positional(nameOf(machine))),
  ],
};
