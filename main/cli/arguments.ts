// SPDX-License-Identifier: MIT
// The command line's grammar: commands, options, and the checks of their values.
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { pvError } from '../../engine/errors.ts';
import type { MfnOrder } from '../vm/machine.ts';

/** Options that every command starting a guest has. */
export interface GuestOptions {
  append: string;
  memoryBytes: number;
  mfnOrder: MfnOrder;
  name: string | null;
  onReboot: 'restart' | 'exit';
  stats: boolean;
}

export type Command =
  | { command: 'help' }
  | { command: 'version' }
  | { command: 'list' }
  | { command: 'attach'; name: string; stats: boolean }
  | { command: 'run'; kernel: string; initrd?: string; guest: GuestOptions }
  /** `demo` demands the guest of our own; `script` is run by the guest instead of a shell. */
  | { command: 'welcome'; demo: boolean; script?: string; guest: GuestOptions };

export const HELP = `Usage: paravane COMMAND [OPTIONS]

Commands
  run --kernel FILE     start a guest; this terminal becomes its console
  welcome               start the welcome guest: Debian's cloud kernel with busybox, or a demonstration guest
  attach NAME           attach to a running machine, by name or identifier
  list                  show the running machines
  help, version

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
`;

const UNITS: Readonly<Record<string, number>> = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** Bytes of a size such as 512M or 1.5G; a bare number counts MiB. Throws PvError. */
export function parseMemorySize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmg])i?b?)?$/i.exec(text.trim());
  const bytes = match === null ? NaN : Number(match[1]) * UNITS[(match[2] ?? 'm').toLowerCase()];
  if (!Number.isSafeInteger(bytes) || bytes === 0) {
    throw pvError('usage', { detail: `"${text}" is no size of memory; write for example 512M or 1G` });
  }
  return bytes;
}

const guestOptions = {
  append: { type: 'string', multiple: true },
  memory: { type: 'string', default: '512M' },
  'mfn-order': { type: 'string', default: 'offset' },
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
      return { command: 'help' };
    case 'version':
    case '--version':
      return { command: 'version' };
  }
  if (rest.includes('--help') || rest.includes('-h')) return { command: 'help' };
  try {
    switch (command) {
      case 'list':
        parseArgs({ args: rest, options: {} });
        return { command: 'list' };
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
