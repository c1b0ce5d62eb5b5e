// SPDX-License-Identifier: MIT
// The verbs of the library and its machines: each is one or two commands of the contract, so that the window can do nothing more.
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import type { Reply } from '../contract/commands.ts';
import type { LogEntry } from '../contract/host.ts';
import type { MachineSummary } from '../contract/machine.ts';
import { listRunning } from '../vm/runtime-directory.ts';
import { hostVerbs } from './host-verbs.ts';
import * as show from './tables.ts';
import { followed, machineCalled, simple, untilInterrupted } from './verb.ts';
import type { Verb, VerbContext } from './verb.ts';
import { changesOf, configurationOptions, timeOf, wholeNumber } from './verb-options.ts';

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
    usage: '[TEXT]',
    help: 'all machines, and those that run without being in the library; or those with TEXT in name, notes, tags or kind',
    options: {},
    words: [0, 1],
    async run({ connection, positionals: [text], json, answer }) {
      const { machines: all } = await connection.invoke('machine:list', {});
      const machines = text === undefined ? all : all.filter((machine) => speaksOf(machine, text));
      const running = await listRunning();
      const pidOf = (id: string): string => String(running.find((entry) => entry.id === id)?.pid ?? '—');
      const others = running.filter(
        ({ id, name, folder }) =>
          (folder === null || !all.some((machine) => machine.id === id)) && (text === undefined || name.includes(text)),
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
      if (rows.length === 0 && !json)
        process.stderr.write(
          text === undefined ? 'No machine is running, and the library is empty.\n' : 'There is no such machine.\n',
        );
      const shown = rows.length === 0 ? '' : show.table(['ID', 'NAME', 'PROCESS', 'STARTED', 'STATE'], rows);
      answer({ machines, others: others.map(({ token: _, ...entry }) => entry) }, shown);
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
      const changes = changesOf(values);
      if (Object.keys(changes).length === 0)
        throw pvError('usage', { detail: 'set needs an option that says what to change' });
      const machine = await machineCalled(connection, name);
      const reply = await connection.invoke('machine:set', { machine: machine.id, changes });
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
    usage: 'NAME [--counters] [--from TIME] [--to TIME] [--csv]',
    help: 'what was measured: the latest values, totals of this run, or a stretch of history (TIME: 2026-11-21T10:00, or 3h ago)',
    options: {
      counters: { type: 'boolean' },
      from: { type: 'string' },
      to: { type: 'string' },
      csv: { type: 'boolean' },
    },
    words: [1, 1],
    async run({ connection, positionals: [name], values, answer }) {
      const { id } = await machineCalled(connection, name);
      if (values.counters) {
        const counters = await connection.invoke('metrics:counters', { machine: id });
        return answer(counters, show.showCounters(counters));
      }
      const now = Date.now();
      const from = values.from === undefined ? now - 600_000 : timeOf('from', values.from as string, now);
      const to = values.to === undefined ? now : timeOf('to', values.to as string, now);
      const history = await connection.invoke('metrics:history', { machine: id, from, to });
      const asCsv = values.csv || values.from !== undefined;
      answer(history, asCsv ? show.historyCsv(history) : show.showLatest(history));
    },
  },
  log: {
    usage: 'NAME [--lines N] [--follow]',
    help: "the last lines of a machine's log; with --follow also those to come, until Ctrl-C",
    options: { lines: { type: 'string' }, follow: { type: 'boolean', short: 'f' } },
    words: [1, 1],
    async run(context) {
      const { connection, positionals: [name], values, answer, next } = context; // prettier-ignore
      const { id: machine } = await machineCalled(connection, name);
      const lines = wholeNumber('lines', (values.lines as string | undefined) ?? '50', 1, 2000);
      const missed: LogEntry[] = [];
      let tell = (entry: LogEntry): void => void missed.push(entry);
      if (values.follow) {
        connection.on('machine:logged', (logged) => logged.machine === machine && tell(logged.entry));
        await connection.invoke('metrics:watch', { machines: [machine] });
      }
      const { entries } = await connection.invoke('log:read', { machine, lines });
      if (!values.follow) return answer({ entries }, entries.map(show.logLine).join(''));
      tell = (entry) => next(entry, show.logLine(entry));
      entries.forEach(tell);
      // What came while the file was read may be in it already.
      const newest = entries.at(-1)?.at ?? 0;
      missed.filter(({ at }) => at > newest).forEach(tell);
      await untilInterrupted(connection);
    },
  },
  ...hostVerbs,
} as const satisfies Record<string, Verb>;

export type VerbName = keyof typeof verbs;
export const isVerb = (word: string): word is VerbName => Object.hasOwn(verbs, word);

/** Does a search for `text` find the machine? As in the window. */
function speaksOf({ id, name, notes, tags, kind }: MachineSummary, text: string): boolean {
  const wanted = text.toLocaleLowerCase('en');
  return [id, name, notes, kind, ...tags].some((words) => words.toLocaleLowerCase('en').includes(wanted));
}

const describeStarted = (at: number | null): string => (at === null ? '—' : show.time(at));
