// SPDX-License-Identifier: MIT
// Unit tests of the console's own keys.
import { describe, expect, it } from 'vitest';
import { EscapeKeys } from './escape-keys.ts';

/** Feeds chunks; input is shown as text, actions by their name. */
function feed(...chunks: string[]): string[] {
  const keys = new EscapeKeys();
  return chunks.flatMap((chunk) =>
    keys
      .feed(Buffer.from(chunk, 'latin1'))
      .map((action) => (action.type === 'input' ? `"${Buffer.from(action.bytes).toString('latin1')}"` : action.type)),
  );
}

describe('EscapeKeys', () => {
  it('passes everything else on', () => expect(feed('ls\r\u0003\u0000\u00ff')).toEqual(['"ls\r\u0003\u0000\u00ff"']));
  it('knows its letters, in either case', () => {
    expect(feed('\u001dd\u001dD\u001dp\u001dq')).toEqual(['detach', 'detach', 'powerOff', 'force']);
  });
  it('keeps the order of input around an action', () =>
    expect(feed('ab\u001dpcd')).toEqual(['"ab"', 'powerOff', '"cd"']));
  it('recognises a sequence split between reads', () =>
    expect(feed('a\u001d', 'db')).toEqual(['"a"', 'detach', '"b"']));
  it('sends the prefix when typed twice', () => {
    expect(feed('\u001d\u001dd')).toEqual(['"\u001dd"']);
    expect(feed('\u001d', '\u001d', 'd')).toEqual(['"\u001d"', '"d"']);
  });
  it('explains itself for any other key', () => expect(feed('\u001dxy')).toEqual(['help', '"y"']));
});
