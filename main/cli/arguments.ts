// SPDX-License-Identifier: MIT
// The command line's grammar: commands, options, and the checks of their values.
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { pvError } from '../../engine/errors.ts';
import type { MfnOrder, Tier } from '../vm/machine.ts';
import type { OptionDefinition, OptionValues } from './verb-options.ts';
import { parseMemorySize } from './memory-size.ts';
import { isVerb, verbs } from './verbs.ts';
import type { VerbName } from './verbs.ts';

/** Options that every command starting a guest has. */
export interface GuestOptions {
  append: string;
  memoryBytes: number;
  mfnOrder: MfnOrder;
  tier: Tier;
  blockStore: boolean;
  name: string | null;
  onReboot: 'restart' | 'exit';
  stats: boolean;
}

export type Command =
  /** Of everything, or of one verb. */
  | { command: 'help'; verb: VerbName | null }
  | { command: 'version' }
  | { command: 'attach'; name: string; stats: boolean }
  /** A console of a machine of the library. */
  | { command: 'console'; name: string; pty: boolean; print: boolean; json: boolean }
  | { command: 'serve'; port: number | undefined; open: boolean; newToken: boolean; json: boolean }
  /** The window: an application where Electron is, a page otherwise. */
  | { command: 'desktop'; browser: boolean }
  | { command: 'verb'; verb: VerbName; values: OptionValues; positionals: string[]; json: boolean }
  | { command: 'run'; kernel: string; initrd?: string; guest: GuestOptions }
  /** `demo` demands the guest of our own; `script` is run by the guest instead of a shell. */
  | { command: 'welcome'; demo: boolean; script?: string; guest: GuestOptions };

export const HELP = `Usage: paravane COMMAND [OPTIONS]

Commands
  desktop [--browser]   open the window: an application where Electron is or can be fetched, else (or with --browser) a page
  run --kernel FILE     start a guest; this terminal becomes its console
  welcome               start the welcome guest: Debian's cloud kernel with busybox, or a demonstration guest
  attach NAME           attach to a running machine, by name or identifier
  help, version

Machines of the library (NAME is a name or an identifier; --json gives each answer as JSON)
${verbHelp()}
  console NAME          attach to the console of a machine
  console NAME --print  write what the console shows, or showed last, and attach to nothing
  console NAME --pty    offer the console as a pseudo-terminal of this computer and say where, for screen, minicom, ...
  serve [--port N] [--open] [--new-token]
                        stay, and offer the window to browsers on this computer; --open also opens that of one that serves already

paravane VERB --help tells what one of them takes.

Options of run
  --kernel FILE         ELF or bzImage with Xen PV support
  --initrd FILE         initial ramdisk
Options of welcome
  --demo                the demonstration guest, whatever this system offers
  --script FILE         a shell script for the guest to run, after which it powers off
Options of both
  --append TEXT         kernel command line; may be repeated
  --memory SIZE         guest memory, for example 512M (the default) or 1G
  --name NAME           name of the machine
  --on-reboot WHAT      when the guest reboots: exit (the default) or restart
  --mfn-order ORDER     machine frames in order: offset (the default) or permuted (a test of guests)
  --tier WHAT           which code becomes WebAssembly: auto (hot code, the default), interpret (none), translate (all)
  --no-block-store      neither use nor keep translations of other runs
  --stats               print figures at the end (attach has this too)

On a terminal, Ctrl-] d detaches and the machine runs on; Ctrl-] p asks the guest to power off; Ctrl-] q powers off
by force. When the terminal is closed or the command is ended without detaching, the guest is asked to power off.
If standard input is no terminal it is passed to the guest, output is streamed, and the command ends with the guest.

Exit codes
   0  the guest powered off, or you detached      10  the guest asked to be rebooted
   1  Paravane itself failed                      11  the guest crashed
   2  the command line cannot be used             12  the guest suspended itself
   3  a file or setting cannot be used            13  powered off by force
                                                  14  the process of the machine died
                                                  15  the guest did not power off in time
`;

const guestOptions = {
  append: { type: 'string', multiple: true },
  memory: { type: 'string', default: '512M' },
  'mfn-order': { type: 'string', default: 'offset' },
  tier: { type: 'string', default: 'auto' },
  'no-block-store': { type: 'boolean', default: false },
  name: { type: 'string' },
  'on-reboot': { type: 'string', default: 'exit' },
  stats: { type: 'boolean', default: false },
} as const;

/** `value` if it is one of `allowed`, else a usage error. */
function oneOf<T extends string>(option: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw pvError('usage', { detail: `--${option} is ${allowed.join(' or ')}, not "${value}"` });
  return found;
}

interface GuestValues {
  append?: string[];
  memory: string;
  'mfn-order': string;
  tier: string;
  'no-block-store': boolean;
  name?: string;
  'on-reboot': string;
  stats: boolean;
}

function toGuestOptions(values: GuestValues): GuestOptions {
  if (values.name !== undefined && !/^[\w][\w.-]{0,63}$/.test(values.name)) {
    throw pvError('usage', {
      detail: `"${values.name}" is no name; use letters, digits, ".", "_" and "-", at most 64`,
    });
  }
  return {
    append: (values.append ?? []).join(' '),
    memoryBytes: parseMemorySize(values.memory),
    mfnOrder: oneOf('mfn-order', values['mfn-order'], ['offset', 'permuted']),
    tier: oneOf('tier', values.tier, ['auto', 'interpret', 'translate']),
    blockStore: !values['no-block-store'],
    name: values.name ?? null,
    onReboot: oneOf('on-reboot', values['on-reboot'], ['exit', 'restart']),
    stats: values.stats,
  };
}

/** Parses what follows `paravane`; throws PvError with code `usage`. */
export function parseCommand(args: readonly string[]): Command {
  const [command, ...rest] = args;
  switch (command) {
    case undefined:
    case 'help':
    case '--help':
    case '-h':
      return { command: 'help', verb: rest.length > 0 && isVerb(rest[0]) ? rest[0] : null };
    case 'version':
    case '--version':
      return { command: 'version' };
  }
  const options = rest.slice(0, rest.includes('--') ? rest.indexOf('--') : rest.length);
  if (options.includes('--help') || options.includes('-h'))
    return { command: 'help', verb: isVerb(command) ? command : null };
  try {
    if (isVerb(command)) return parseVerb(command, rest);
    switch (command) {
      case 'console': {
        const options = {
          pty: { type: 'boolean', default: false },
          print: { type: 'boolean', default: false },
          json: { type: 'boolean', default: false },
        } as const;
        const { values, positionals } = parseArgs({ args: rest, options, allowPositionals: true });
        if (positionals.length !== 1) throw pvError('usage', { detail: 'console needs the name of one machine' });
        if (values.json && !values.pty && !values.print)
          throw pvError('usage', { detail: 'console has no --json without --print or --pty' });
        return { command: 'console', name: positionals[0], ...values };
      }
      case 'serve':
        return parseServe(rest);
      case 'desktop': {
        const options = { browser: { type: 'boolean', default: false } } as const;
        return { command: 'desktop', ...parseArgs({ args: rest, options }).values };
      }
      case 'attach': {
        const options = { stats: guestOptions.stats };
        const { values, positionals } = parseArgs({ args: rest, options, allowPositionals: true });
        if (positionals.length !== 1) throw pvError('usage', { detail: 'attach needs the name of one machine' });
        return { command: 'attach', name: positionals[0], stats: values.stats };
      }
      case 'run': {
        const options = { ...guestOptions, kernel: { type: 'string' }, initrd: { type: 'string' } } as const;
        const { values } = parseArgs({ args: rest, options });
        if (values.kernel === undefined) throw pvError('usage', { detail: 'run needs --kernel FILE' });
        return {
          command: 'run',
          kernel: path.resolve(values.kernel),
          ...(values.initrd !== undefined && { initrd: path.resolve(values.initrd) }),
          guest: toGuestOptions(values),
        };
      }
      case 'welcome': {
        const options = {
          ...guestOptions,
          demo: { type: 'boolean', default: false },
          script: { type: 'string' },
        } as const;
        const { values } = parseArgs({ args: rest, options });
        if (values.demo && values.script !== undefined) {
          throw pvError('usage', { detail: 'the demonstration guest runs no script' });
        }
        return {
          command: 'welcome',
          demo: values.demo,
          ...(values.script !== undefined && { script: path.resolve(values.script) }),
          guest: toGuestOptions(values),
        };
      }
    }
  } catch (error) {
    if (error instanceof TypeError)
      throw pvError('usage', { detail: error.message.replace(/\.? To specify.*|\.$/s, '') }, error);
    throw error;
  }
  throw pvError('usage', { detail: `there is no command "${command}"` });
}

function parseServe(args: string[]): Command {
  const options = {
    port: { type: 'string' },
    open: { type: 'boolean', default: false },
    'new-token': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  } as const;
  const { values } = parseArgs({ args, options });
  const port = values.port === undefined ? undefined : Number(values.port);
  if (port !== undefined && !(Number.isInteger(port) && port >= 0 && port < 65536))
    throw pvError('usage', { detail: `--port is a number from 0 to 65535, not "${values.port}"` });
  return { command: 'serve', port, open: values.open, newToken: values['new-token'], json: values.json };
}

function parseVerb(verb: VerbName, args: string[]): Command {
  const { options, words, usage } = verbs[verb];
  const { values, positionals } = parseArgs({
    args,
    options: { ...options, json: { type: 'boolean', default: false } },
    allowPositionals: true,
  });
  const whole = `it is "${`paravane ${verb} ${usage}`.trimEnd()}"`;
  if (positionals.length < words[0]) throw pvError('usage', { detail: whole });
  if (positionals.length > words[1])
    throw pvError('usage', { detail: `"${positionals[words[1]]}" is one word too many; ${whole}` });
  const { json, ...rest } = values as OptionValues;
  return { command: 'verb', verb, values: rest, positionals, json: json === true };
}

/** What one verb takes. */
export function helpOf(verb: VerbName): string {
  const { usage, help, options } = verbs[verb];
  const lines = Object.entries<OptionDefinition>({ ...options, json: { type: 'boolean' } }).map(
    ([name, { type, multiple, short }]) =>
      `  ${short === undefined ? '' : `-${short}, `}--${name}${type === 'string' ? ' VALUE' : ''}${multiple ? ' (may be repeated)' : ''}\n`,
  );
  return `Usage: paravane ${`${verb} ${usage}`.trimEnd()}\n\n${help}\n\nOptions\n${lines.join('')}`;
}

/** One line per verb, its usage on a line of its own when it is long. */
function verbHelp(): string {
  const column = 24;
  return Object.entries(verbs)
    .map(([name, { usage, help }]) => {
      const left = `  ${name} ${usage}`.trimEnd();
      return left.length < column ? `${left.padEnd(column)}${help}` : `${left}\n${' '.repeat(column)}${help}`;
    })
    .join('\n');
}
