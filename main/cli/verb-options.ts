// SPDX-License-Identifier: MIT
// Options of the verbs that make and change machines, and what they mean in a request.
import * as path from 'node:path';
import { pvError } from '../../engine/errors.ts';
import type { MachineChanges } from '../contract/machine.ts';
import { parseMemorySize } from './memory-size.ts';

export type OptionValues = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

export interface OptionDefinition {
  type: 'string' | 'boolean';
  multiple?: boolean;
  short?: string;
}

export const configurationOptions = {
  kernel: { type: 'string' },
  initrd: { type: 'string' },
  'no-initrd': { type: 'boolean' },
  append: { type: 'string', multiple: true },
  memory: { type: 'string' },
  vcpus: { type: 'string' },
  'on-reboot': { type: 'string' },
  'mfn-order': { type: 'string' },
  tag: { type: 'string', multiple: true },
  'no-tags': { type: 'boolean' },
  notes: { type: 'string' },
  autostart: { type: 'boolean' },
  'no-autostart': { type: 'boolean' },
  'console-pty': { type: 'boolean' },
  'no-console-pty': { type: 'boolean' },
} as const satisfies Record<string, OptionDefinition>;

/** The changes that options ask for. What the contract checks anyway is passed on as it is. */
export function changesOf(values: OptionValues): MachineChanges {
  const text = (name: string): string | undefined => values[name] as string | undefined;
  const changes: Record<string, unknown> = {};
  const put = (field: keyof MachineChanges, value: unknown): void => {
    if (value !== undefined) changes[field] = value;
  };
  const file = (name: string): string | undefined => (text(name) === undefined ? undefined : path.resolve(text(name)!));
  put('kernel', file('kernel'));
  put('initrd', values['no-initrd'] ? null : file('initrd'));
  put('commandLine', (values.append as string[] | undefined)?.join(' '));
  put('memoryBytes', text('memory') === undefined ? undefined : parseMemorySize(text('memory')!));
  put('vcpus', text('vcpus') === undefined ? undefined : Number(text('vcpus')));
  put('onReboot', text('on-reboot'));
  put('mfnOrder', text('mfn-order'));
  put('tags', values['no-tags'] ? [] : values.tag);
  put('notes', text('notes'));
  put('autostart', values['no-autostart'] ? false : values.autostart);
  put('consolePty', values['no-console-pty'] ? false : values['console-pty']);
  return changes as MachineChanges;
}

/** A whole number of an option; throws `usage`. */
export function wholeNumber(name: string, value: string, least: number, most: number): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < least || number > most)
    throw pvError('usage', { detail: `--${name} is a number from ${least} to ${most}, not "${value}"` });
  return number;
}

/** A time of an option: ISO 8601, or how long ago ("10m", "3h", "7d"). Milliseconds since 1970; throws `usage`. */
export function timeOf(name: string, value: string, now: number): number {
  const ago = /^(\d+)([smhd])$/.exec(value);
  if (ago !== null)
    return now - Number(ago[1]) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[ago[2] as 's' | 'm' | 'h' | 'd'];
  const at = Date.parse(value);
  if (Number.isNaN(at))
    throw pvError('usage', { detail: `--${name} is a time such as 2026-11-21T10:00 or 3h, not "${value}"` });
  return at;
}
