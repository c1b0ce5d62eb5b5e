// SPDX-License-Identifier: MIT
// Unit tests of the error table: sentences are complete, details are filled in once.
import { describe, expect, it } from 'vitest';
import { errorTable, pvError, PvError } from './errors.ts';

describe('error table', () => {
  it('holds a full sentence and an action for each code', () => {
    for (const [code, texts] of Object.entries(errorTable)) {
      expect(code).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
      expect(texts.message, code).toMatch(/\.$/);
      expect(texts.action, code).toMatch(/^[A-Z].*\.$/s);
    }
  });

  it('fills details into message and action', () => {
    const error = pvError('memory-too-small-for-kernel', { needMiB: 76, haveMiB: 64 });
    expect(error).toBeInstanceOf(PvError);
    expect(error).toBeInstanceOf(Error);
    expect(error.code).toBe('memory-too-small-for-kernel');
    expect(error.message).toBe('The kernel needs at least 76 MiB of memory to start, but the machine has 64 MiB.');
    expect(error.action).toContain('--memory 76M');
  });

  it('does not expand braces that come from a detail', () => {
    const error = pvError('file-missing', { role: 'kernel', path: '{role}' });
    expect(error.message).toBe('The kernel file "{role}" does not exist.');
  });

  it('keeps the cause', () => {
    const cause = new Error('inner');
    expect(pvError('compressed-truncated', { format: 'xz' }, cause).cause).toBe(cause);
    expect('cause' in pvError('compressed-truncated', { format: 'xz' })).toBe(false);
  });
});
