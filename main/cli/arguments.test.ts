// SPDX-License-Identifier: MIT
// Unit tests of the command line's grammar.
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { PvError } from '../../engine/errors.ts';
import { parseCommand } from './arguments.ts';
import { parseMemorySize } from './memory-size.ts';

function usageError(args: string[]): string {
  try {
    parseCommand(args);
  } catch (error) {
    if (error instanceof PvError && error.code === 'usage') return error.message;
    throw error;
  }
  throw new Error(`accepted: ${args.join(' ')}`);
}

describe('parseMemorySize', () => {
  it.each([
    ['512M', 2 ** 29],
    ['512', 2 ** 29],
    ['1g', 2 ** 30],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['65536K', 2 ** 26],
    ['256MB', 2 ** 28],
  ])('%s', (text, bytes) => expect(parseMemorySize(text)).toBe(bytes));
  it.each(['', '0', '-1M', '1T', 'M', '0.0001K', '1e3M', '99999999999999G'])('refuses "%s"', (text) => {
    expect(() => parseMemorySize(text)).toThrow(PvError);
  });
});

describe('parseCommand', () => {
  it('reads run with everything', () => {
    const text =
      'run --kernel k --initrd i --append a=1 --append b --memory 64M --mfn-order permuted --name n-1 --on-reboot restart --stats';
    expect(parseCommand(text.split(' '))).toEqual({
      command: 'run',
      kernel: path.resolve('k'),
      initrd: path.resolve('i'),
      guest: {
        append: 'a=1 b',
        memoryBytes: 2 ** 26,
        mfnOrder: 'permuted',
        tier: 'auto',
        blockStore: true,
        name: 'n-1',
        onReboot: 'restart',
        stats: true,
      },
    });
  });
  it('has defaults', () => {
    expect(parseCommand(['welcome'])).toEqual({
      command: 'welcome',
      demo: false,
      guest: {
        append: '',
        memoryBytes: 2 ** 29,
        mfnOrder: 'offset',
        tier: 'auto',
        blockStore: true,
        name: null,
        onReboot: 'exit',
        stats: false,
      },
    });
  });
  it.each([[[]], [['help']], [['--help']], [['run', '--help']]])('shows help for %j', (args) => {
    expect(parseCommand(args)).toEqual({ command: 'help', verb: null });
  });
  it.each([
    ['run', /needs --kernel/],
    ['run --kernel', /argument missing/],
    ['run --kernel k extra', /extra/],
    ['run --kernel k --name a/b', /"a\/b" is no name/],
    ['run --kernel k --mfn-order random', /--mfn-order is offset or permuted/],
    ['attach', /name of one machine/],
    ['attach a b', /name of one machine/],
    ['list two words', /"words" is one word too many/],
    ['welcome --demo --script s', /runs no script/],
    ['fly', /no command "fly"/],
  ])('refuses: %s', (line, message) => expect(usageError(line.split(' '))).toMatch(message));
});
