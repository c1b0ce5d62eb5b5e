// SPDX-License-Identifier: MIT
// What verbs of the command line are made of: their form, machines by name, verbs that are one command, tasks that are followed.
import { randomUUID } from 'node:crypto';
import { pvError } from '../../engine/errors.ts';
import type { CommandName, Request } from '../contract/commands.ts';
import type { MachineSummary } from '../contract/machine.ts';
import type { Connection } from '../contract/wire.ts';
import { ProgressLine } from './progress-line.ts';
import type { OptionDefinition, OptionValues } from './verb-options.ts';

/** What a verb works with. */
export interface VerbContext {
  connection: Connection;
  values: OptionValues;
  positionals: readonly string[];
  json: boolean;
  /** Writes the answer: as JSON, or as text. */
  answer(value: unknown, text: string): void;
  /** Writes one of many answers that come one by one: as a line of JSON, or as text. */
  next(value: unknown, text: string): void;
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
export async function machineCalled(connection: Connection, name: string): Promise<MachineSummary> {
  const { machines } = await connection.invoke('machine:list', {});
  const wanted = name.toLocaleLowerCase('en');
  const found =
    machines.find((machine) => machine.id === name) ??
    machines.find((machine) => machine.name.toLocaleLowerCase('en') === wanted);
  if (found === undefined) throw pvError('machine-unknown', { name });
  return found;
}

/** A verb for one machine that is one command. */
export function simple<Name extends CommandName>(
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
export async function followed<T>({ connection, json }: VerbContext, start: (task: string) => Promise<T>): Promise<T> {
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

/** How often a manager that says nothing is asked whether it is still there. */
const STILL_THERE_MS = 2000;

/** Resolves when the command is interrupted or nobody reads it any more; rejects when the manager is gone. */
export async function untilInterrupted(connection: Connection): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
    process.stdout.once('error', () => resolve());
    timer = setInterval(() => void connection.invoke('trash:list', {}).catch(reject), STILL_THERE_MS);
  }).finally(() => clearInterval(timer));
}
