// SPDX-License-Identifier: MIT
// The verbs of the library and its machines: each is one or two commands of the contract, so that the window can do nothing more.
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import type { CommandName, Reply, Request } from '../contract/commands.ts';
import type { MachineSummary } from '../contract/machine.ts';
import type { Connection } from '../contract/wire.ts';
import { listRunning } from '../vm/runtime-directory.ts';
import { ProgressLine } from './progress-line.ts';
import * as show from './tables.ts';
import { changesOf, configurationOptions, timeOf, wholeNumber } from './verb-options.ts';
import type { OptionDefinition, OptionValues } from './verb-options.ts';

/** What a verb works with. */
export interface VerbContext {
  connection: Connection;
  values: OptionValues;
  positionals: readonly string[];
  json: boolean;
  /** Writes the answer: as JSON, or as text. */
  answer(value: unknown, text: string): void;
}

export interface Verb {
  /** Words after the verb, for the help text. */
  usage: string;
  help: string;
  options: Readonly<Record<string, OptionDefinition>>;
  /** Least and most words that are not options. */
  words: readonly [number, number];
  run(context: VerbContext): Promise<void>;
}

/** A machine by identifier or name. Throws `machine-unknown`. */
async function machineCalled(connection: Connection, name: string): Promise<MachineSummary> {
  const { machines } = await connection.invoke('machine:list', {});
  const wanted = name.toLocaleLowerCase('en');
  const found =
    machines.find((machine) => machine.id === name) ??
    machines.find((machine) => machine.name.toLocaleLowerCase('en') === wanted);
  if (found === undefined) throw pvError('machine-unknown', { name });
  return found;
}

/** A verb for one machine that is one command. */
function simple<Name extends CommandName>(
  command: Name,
  help: string,
  done: string,
  more: { words?: string[]; request?: (words: readonly string[]) => object } = {},
): Verb {
  const { words = [], request = () => ({}) } = more;
  return {
    usage: ['NAME', ...words].join(' '),
    help,
    options: {},
    words: [1 + words.length, 1 + words.length],
    async run({ connection, positionals: [name, ...rest], answer }) {
      const { id, name: fullName } = await machineCalled(connection, name);
      const reply = await connection.invoke(command, { machine: id, ...request(rest) } as unknown as Request<Name>);
      answer(reply, done === '' ? '' : `${done.replace('{}', `"${fullName}"`)}\n`);
    },
  };
}

/** Runs a task, shows its progress, and cancels it on Ctrl-C. */
async function followed<T>({ connection, json }: VerbContext, start: (task: string) => Promise<T>): Promise<T> {
  const task = randomUUID();
  const line = new ProgressLine();
  const stop = connection.on('task:progressed', (progress) => {
    if (progress.task === task && !json) line.show(progress);
  });
  const interrupt = (): void => void connection.invoke('task:cancel', { task });
  process.once('SIGINT', interrupt);
  try {
    return await start(task);
  } finally {
    process.off('SIGINT', interrupt);
    stop();
    line.end();
  }
}

async function create(context: VerbContext): Promise<Reply<'machine:create'>> {
  const { connection, values, positionals } = context;
  const { folder, start, welcome, demo } = values as {
    folder?: string;
    start?: boolean;
    welcome?: boolean;
    demo?: boolean;
  };
  const place = { ...(folder !== undefined && { folder: path.resolve(folder) }), ...(start && { start }) };
  if (welcome || demo) {
    const name = positionals.length > 0 ? { name: positionals[0] } : {};
    return followed(context, (task) =>
      connection.invoke('welcome:create', { task, variant: demo ? 'demo' : 'best', ...name, ...place }),
    );
  }
  const { kernel, ...rest } = changesOf(values);
  if (kernel === undefined || positionals.length === 0)
    throw pvError('usage', { detail: 'create needs a NAME and --kernel FILE, or --welcome' });
  const memoryBytes = rest.memoryBytes ?? 512 * 2 ** 20;
  const copyFiles = values['copy-files'] ? { copyFiles: true } : {};
  const request = { ...rest, name: positionals[0], kernel, memoryBytes, ...place, ...copyFiles };
  return followed(context, (task) => connection.invoke('machine:create', { ...request, task }));
}

export const verbs = {
  list: {
    usage: '',
    help: 'all machines, and those that run without being in the library',
    options: {},
    words: [0, 0],
    async run({ connection, answer }) {
      const { machines } = await connection.invoke('machine:list', {});
      const running = await listRunning();
      const pidOf = (id: string): string => String(running.find((entry) => entry.id === id)?.pid ?? '—');
      const others = running.filter(
        ({ id, folder }) => folder === null || !machines.some((machine) => machine.id === id),
      );
      const rows = [
        ...machines.map((machine) => [
          machine.id,
          machine.name,
          pidOf(machine.id),
          describeStarted(machine.startedAt),
          show.describeState(machine),
        ]),
        ...others.map(({ id, name, pid, startedAt }) => [id, name, String(pid), describeStarted(startedAt), 'running']),
      ];
      if (rows.length === 0) process.stderr.write('No machine is running, and the library is empty.\n');
      const text = rows.length === 0 ? '' : show.table(['ID', 'NAME', 'PROCESS', 'STARTED', 'STATE'], rows);
      answer({ machines, others: others.map(({ token: _, ...entry }) => entry) }, text);
    },
  },
  create: {
    usage: 'NAME --kernel FILE | create [NAME] --welcome',
    help: 'make a machine; the options are those of set, and --folder DIR, --copy-files, --start',
    options: {
      ...configurationOptions,
      folder: { type: 'string' },
      'copy-files': { type: 'boolean' },
      start: { type: 'boolean' },
      welcome: { type: 'boolean' },
      demo: { type: 'boolean' },
    },
    words: [0, 1],
    async run(context) {
      const reply = await create(context);
      context.answer(reply, `Made "${reply.machine.name}" (${reply.machine.id}) in ${reply.machine.folder}\n`);
    },
  },
  show: {
    usage: 'NAME',
    help: 'everything about a machine',
    options: {},
    words: [1, 1],
    async run({ connection, positionals: [name], answer }) {
      const details = await connection.invoke('machine:get', { machine: (await machineCalled(connection, name)).id });
      answer(details, show.showDetails(details));
    },
  },
  set: {
    usage: 'NAME [--memory SIZE] [--append TEXT] [--kernel FILE] [--tag TAG] ...',
    help: 'change a machine: also --initrd, --no-initrd, --on-reboot, --notes, --no-tags, --[no-]autostart, --[no-]console-pty',
    options: configurationOptions,
    words: [1, 1],
    async run({ connection, positionals: [name], values, answer }) {
      const machine = await machineCalled(connection, name);
      const reply = await connection.invoke('machine:set', { machine: machine.id, changes: changesOf(values) });
      const waiting = reply.machine.restartNeeded;
      const note = waiting.length > 0 ? ` (${waiting.join(', ')}: from the next start on)` : '';
      answer(reply, `${reply.undo.label}${note}\n`);
    },
  },
  clone: {
    usage: 'NAME NEWNAME [--folder DIR]',
    help: 'copy a machine',
    options: { folder: { type: 'string' } },
    words: [2, 2],
    async run(context) {
      const { connection, positionals: [name, newName], values, answer } = context; // prettier-ignore
      const { id: machine } = await machineCalled(connection, name);
      const folder = values.folder === undefined ? {} : { folder: path.resolve(values.folder as string) };
      const reply = await followed(context, (task) =>
        connection.invoke('machine:clone', { machine, name: newName, ...folder, task }),
      );
      answer(reply, `${reply.undo.label}\n`);
    },
  },
  rename: simple('machine:rename', 'give a machine another name', 'Renamed {}', {
    words: ['NEWNAME'],
    request: ([name]) => ({ name }),
  }),
  move: {
    usage: 'NAME FOLDER',
    help: 'move a machine to another folder',
    options: {},
    words: [2, 2],
    async run(context) {
      const { connection, positionals: [name, folder], answer } = context; // prettier-ignore
      const { id: machine } = await machineCalled(connection, name);
      const reply = await followed(context, (task) =>
        connection.invoke('machine:move', { machine, folder: path.resolve(folder), task }),
      );
      answer(reply, `${reply.undo.label} to ${reply.machine.folder}\n`);
    },
  },
  rm: simple('machine:remove', 'put a machine into the trash', 'Removed {} (paravane undo brings it back)'),
  add: {
    usage: 'FOLDER',
    help: 'take a machine folder into the library where it is',
    options: {},
    words: [1, 1],
    async run({ connection, positionals: [folder], answer }) {
      const reply = await connection.invoke('library:add', { folder: path.resolve(folder) });
      answer(reply, `${reply.undo.label}\n`);
    },
  },
  order: {
    usage: 'NAME ...',
    help: 'put machines first, in this order',
    options: {},
    words: [1, 10_000],
    async run({ connection, positionals, answer }) {
      const machines = await Promise.all(positionals.map(async (name) => (await machineCalled(connection, name)).id));
      answer(await connection.invoke('machine:order', { machines }), '');
    },
  },
  undo: {
    usage: '[STEP]',
    help: 'take back the latest change of the library',
    options: {},
    words: [0, 1],
    async run({ connection, positionals: [undo], answer }) {
      const reply = await connection.invoke('library:undo', undo === undefined ? {} : { undo });
      answer(reply, `Taken back: ${reply.undone.label}\n`);
    },
  },
  trash: {
    usage: 'list | restore ID | empty [ID]',
    help: 'removed machines',
    options: {},
    words: [1, 2],
    async run({ connection, positionals: [what, id], answer }) {
      if (what === 'list') {
        const reply = await connection.invoke('trash:list', {});
        const rows = reply.machines.map((machine) => [machine.id, machine.name, show.time(machine.removedAt)]);
        answer(reply, show.table(['ID', 'NAME', 'REMOVED'], rows));
      } else if (what === 'restore' && id !== undefined) {
        const reply = await connection.invoke('trash:restore', { machine: id });
        answer(reply, `Restored "${reply.machine.name}"\n`);
      } else if (what === 'empty') {
        const reply = await connection.invoke('trash:empty', id === undefined ? {} : { machine: id });
        answer(reply, `Deleted ${reply.removed.length}\n`);
      } else throw pvError('usage', { detail: 'trash is followed by list, restore ID or empty' });
    },
  },
  start: simple('machine:start', 'start a machine', 'Started {}'),
  stop: {
    usage: 'NAME [--wait] [--timeout SECONDS] [--force]',
    help: 'ask the guest to power off and, with --wait or --timeout, wait for it; --force ends it at once, or after the timeout',
    options: { force: { type: 'boolean' }, wait: { type: 'boolean' }, timeout: { type: 'string' } },
    words: [1, 1],
    async run(context) {
      const { connection, positionals: [name], values, answer } = context; // prettier-ignore
      const { id: machine, name: fullName } = await machineCalled(connection, name);
      const seconds =
        values.timeout === undefined ? {} : { seconds: wholeNumber('timeout', values.timeout as string, 1, 86_400) };
      const waits = values.wait === true || values.timeout !== undefined;
      const thenForce = values.force ? { thenForce: true } : {};
      const reply = !waits
        ? await connection.invoke('machine:stop', { machine, how: values.force ? 'force' : 'ask' })
        : await followed(context, (task) =>
            connection.invoke('machine:stop', { machine, how: 'ask', ...seconds, ...thenForce, task }),
          );
      answer(reply, reply.state === 'off' ? `Stopped "${fullName}"\n` : `Asked "${fullName}" to power off\n`);
    },
  },
  pause: simple('machine:pause', 'let a guest stand still', 'Paused {}'),
  resume: simple('machine:resume', 'let it go on', 'Resumed {}'),
  reset: simple('machine:reset', 'end the guest and start it anew', 'Reset {}'),
  dismiss: simple('machine:dismiss', 'take note of a crash', 'Dismissed the crash of {}'),
  sysrq: simple('machine:sysrq', 'send a magic SysRq key to a Linux guest', '', {
    words: ['KEY'],
    request: ([key]) => ({ key }),
  }),
  type: {
    usage: 'NAME TEXT',
    help: 'type text into the console',
    options: {},
    words: [2, 2],
    async run(context) {
      const { connection, positionals: [name, text], answer } = context; // prettier-ignore
      const { id } = await machineCalled(connection, name);
      const reply = await followed(context, (task) => connection.invoke('console:type', { machine: id, text, task }));
      answer(reply, '');
    },
  },
  stats: {
    usage: 'NAME [--from TIME] [--to TIME] [--csv]',
    help: 'what was measured: the latest values, or a stretch of history (TIME: 2026-11-21T10:00, or 3h ago)',
    options: { from: { type: 'string' }, to: { type: 'string' }, csv: { type: 'boolean' } },
    words: [1, 1],
    async run({ connection, positionals: [name], values, answer }) {
      const { id } = await machineCalled(connection, name);
      const now = Date.now();
      const from = values.from === undefined ? now - 600_000 : timeOf('from', values.from as string, now);
      const to = values.to === undefined ? now : timeOf('to', values.to as string, now);
      const history = await connection.invoke('metrics:history', { machine: id, from, to });
      const asCsv = values.csv || values.from !== undefined;
      answer(history, asCsv ? show.historyCsv(history) : show.showLatest(history));
    },
  },
  log: {
    usage: 'NAME [--lines N]',
    help: "the last lines of a machine's log",
    options: { lines: { type: 'string' } },
    words: [1, 1],
    async run({ connection, positionals: [name], values, answer }) {
      const { id } = await machineCalled(connection, name);
      const lines = wholeNumber('lines', (values.lines as string | undefined) ?? '50', 1, 2000);
      const { entries } = await connection.invoke('log:read', { machine: id, lines });
      const line = ({ at, level, source, text }: (typeof entries)[number]): string =>
        `${show.time(at)} ${level.padEnd(5)} ${source.padEnd(7)} ${text}\n`;
      answer({ entries }, entries.map(line).join(''));
    },
  },
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
  settings: {
    usage: '[--host-terminal on|off]',
    help: 'the settings, as JSON; may windows open a shell on this computer?',
    options: { 'host-terminal': { type: 'string' } },
    words: [0, 0],
    async run({ connection, values, answer }) {
      const wanted = values['host-terminal'];
      if (wanted !== undefined && wanted !== 'on' && wanted !== 'off')
        throw pvError('usage', { detail: `--host-terminal is on or off, not "${String(wanted)}"` });
      const settings =
        wanted === undefined
          ? await connection.invoke('settings:get', {})
          : await connection.invoke('settings:set', { changes: { hostTerminal: wanted === 'on' } });
      answer(settings, `${JSON.stringify(settings, null, 2)}\n`);
    },
  },
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

export type VerbName = keyof typeof verbs;
export const isVerb = (word: string): word is VerbName => Object.hasOwn(verbs, word);

const describeStarted = (at: number | null): string => (at === null ? '—' : show.time(at));
