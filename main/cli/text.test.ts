// SPDX-License-Identifier: MIT
// Text for people: nothing that a guest or a file says reaches the terminal as a command, tables line up, progress is one line.
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { describeProgress, ProgressLine } from './progress-line.ts';
import { printable, table } from './tables.ts';

describe('printable', () => {
  it('keeps text and lines, and takes the teeth out of escape sequences', () => {
    expect(printable('häuser\tx\r\ny\n')).toBe('häuser\tx\r\ny\n');
    expect(printable('a\u001b]0;title\u0007b\rc\u009b2Jd\u007f')).toBe('a\ufffd]0;title\ufffdb\ufffdc\ufffd2Jd\ufffd');
  });

  it('leaves no control character, whatever comes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        // eslint-disable-next-line no-control-regex -- control characters are what is looked for
        expect(printable(text)).not.toMatch(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]|\r(?!\n)/);
      }),
    );
  });
});

it('tables have columns as wide as what is in them, and no space at the end of lines', () => {
  expect(table(['A', 'NAME'], [['1', 'x'], ['22', '']])).toBe('A   NAME\n1   x\n22\n'); // prettier-ignore
});

describe('progress', () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());
  const progress = (done: number, total: number | null = 40, unit: 'bytes' | 'seconds' | 'steps' = 'steps') => ({
    task: 't',
    text: 'Doing it',
    done,
    total,
    unit,
  });

  it('is described in its unit', () => {
    expect(describeProgress(progress(10 * 2 ** 20, 40 * 2 ** 20, 'bytes'))).toBe('Doing it: 10 MiB of 40 MiB (25 %)');
    expect(describeProgress(progress(3.7, 60, 'seconds'))).toBe('Doing it: 3 of 60 s');
    expect(describeProgress(progress(0, null))).toBe('Doing it ...');
    expect(describeProgress(progress(0, 0))).toBe('Doing it: 0 of 0 (100 %)');
  });

  it('says nothing of what is over at once, rewrites one line of a terminal, and says each step once elsewhere', () => {
    for (const isTTY of [true, false]) {
      let written = '';
      const line = new ProgressLine({ isTTY, columns: 20, write: (text) => (written += text) });
      line.show(progress(1));
      expect(written).toBe('');
      vi.advanceTimersByTime(1000);
      line.show(progress(2));
      line.show(progress(3));
      line.end();
      expect(written).toBe(
        isTTY ? '\r\u001b[KDoing it: 2 of 40 (\r\u001b[KDoing it: 3 of 40 (\r\u001b[K' : 'Doing it\n',
      );
    }
  });
});
