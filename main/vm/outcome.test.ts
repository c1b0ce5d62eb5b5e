// SPDX-License-Identifier: MIT
// Unit tests of outcomes: exit codes are distinct and as documented, errors keep their kind.
import { describe, expect, it } from 'vitest';
import { pvError } from '../../engine/errors.ts';
import { HELP } from '../cli/arguments.ts';
import { ExitCode, outcomeOfError } from './outcome.ts';

describe('exit codes', () => {
  it('are distinct', () => expect(new Set(Object.values(ExitCode)).size).toBe(Object.keys(ExitCode).length));
  it('are all in the help text', () => {
    for (const code of Object.values(ExitCode)) expect(HELP).toMatch(new RegExp(`^.*\\b${code}  \\S`, 'm'));
  });
});

describe('outcomeOfError', () => {
  it('tells bad input from a defect', () => {
    const refused = outcomeOfError(pvError('file-empty', { role: 'kernel', path: 'k' }), 'l');
    expect(refused).toEqual({
      kind: 'refused',
      error: { code: 'file-empty', message: 'The kernel file "k" is empty.', action: 'Copy or download it again.' },
    });
    expect(outcomeOfError(new RangeError('index'), 'l')).toMatchObject({
      kind: 'failed',
      error: { code: 'machine-failed' },
    });
  });
});
