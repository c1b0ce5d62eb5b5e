// SPDX-License-Identifier: MIT
// The console's parts: the unbroken feed, recordings, keys, colours.
import { describe, expect, it } from 'vitest';
import type { Reply } from '../../main/contract/commands.ts';
import { useLink } from '../state/manager.svelte.ts';
import { FakeLink } from '../testing/fake-link.ts';
import { contrast } from '../testing/contrast.ts';
import { toBase64 } from '../text/base64.ts';
import { AsciicastRecorder } from './asciicast.ts';
import { CONSOLE_THEME, paletteColour } from './colours.ts';
import { ByteRun } from './byte-run.ts';
import { ConsoleFeed } from './console-feed.ts';
import { COMBINATIONS, keysText, ordered, parseKeys, used } from './send-keys.ts';

const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

describe('the feed', () => {
  const machine = 'aaaaaaaa';

  async function feed(first: { offset: number; text: string }) {
    let attachment: Reply<'console:attach'> = {
      ...first,
      scrollback: toBase64(encode(first.text)),
      size: null,
      live: true,
    } as never;
    const link = new FakeLink({
      'console:attach': () => ({
        offset: attachment.offset,
        scrollback: attachment.scrollback,
        size: null,
        live: true,
      }),
      'console:detach': () => ({}),
    });
    useLink(link);
    const seen: string[] = [];
    const console = new ConsoleFeed(machine, {
      output: (bytes, fresh) => void seen.push(`${fresh ? '|' : ''}${new TextDecoder().decode(bytes)}`),
      resized: () => undefined,
      restarted: () => undefined,
      live: () => undefined,
      failed: (error) => expect.unreachable(String(error)),
    });
    await Promise.resolve();
    const output = (offset: number, text: string): void =>
      link.emit('console:output', { machine, offset, bytes: toBase64(encode(text)), skipped: 0 });
    return {
      link,
      seen,
      console,
      output,
      next: (offset: number, text: string) =>
        (attachment = { ...attachment, offset, scrollback: toBase64(encode(text)) }),
    };
  }

  const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

  it('begins with what is kept of the past and goes on without a gap', async () => {
    const { seen, output } = await feed({ offset: 100, text: 'past ' });
    output(105, 'live');
    await settled();
    expect(seen).toEqual(['|past ', 'live']);
  });

  it('shows output once that is both in the past and live', async () => {
    const { seen, output } = await feed({ offset: 0, text: 'abcdef' });
    await settled();
    output(4, 'efgh');
    expect(seen).toEqual(['|abcdef', 'gh']);
  });

  it('bridges a lost connection', async () => {
    const { link, seen, next } = await feed({ offset: 0, text: 'one' });
    await settled();
    next(0, 'one two');
    link.become('lost');
    link.become('open');
    await settled();
    expect(seen).toEqual(['|one', ' two']);
  });

  it('begins anew with a new run, and after bytes were lost', async () => {
    const { link, seen, output, next } = await feed({ offset: 0, text: 'long first run' });
    await settled();
    next(0, 'new');
    link.emit('machine:started', { machine, at: 0 });
    await settled();
    output(500, 'later');
    expect(seen).toEqual(['|long first run', '|new', '|later']);
  });
});

describe('a feed that is being attached', () => {
  it('is attached once more when the machine starts meanwhile', async () => {
    // Feeds of other tests may still be there, and ask too.
    const machine = 'bbbbbbbb';
    const answers: ((live: boolean) => void)[] = [];
    const link = new FakeLink({
      'console:attach': ({ machine: asked }) =>
        new Promise((resolve) => {
          if (asked === machine) answers.push((live) => resolve({ offset: 0, scrollback: '', size: null, live }));
        }),
      'console:detach': () => ({}),
    });
    useLink(link);
    const seen: boolean[] = [];
    const feed = new ConsoleFeed(machine, {
      output: () => undefined,
      resized: () => undefined,
      restarted: () => undefined,
      live: (live) => void seen.push(live),
      failed: (error) => expect.unreachable(String(error)),
    });
    const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));
    await settled();
    // What the first question is answered was true before the machine started.
    link.emit('machine:started', { machine, at: 0 });
    link.emit('machine:started', { machine, at: 0 });
    answers.shift()!(false);
    await settled();
    answers.shift()!(true);
    await settled();
    expect(seen).toEqual([false, true]);
    expect(answers).toEqual([]);
    feed.dispose();
  });
});

describe('a run of bytes', () => {
  const taken = (run: ByteRun, offset: number, text: string, whole = false): string | null => {
    const piece = run.take(offset, encode(text), whole);
    return piece && `${piece.fresh ? '|' : ''}${new TextDecoder().decode(piece.bytes)}`;
  };

  it('shows each byte once and notices jumps', () => {
    const run = new ByteRun();
    expect(taken(run, 10, 'abc')).toBe('|abc');
    expect(taken(run, 13, 'd')).toBe('d');
    expect(taken(run, 10, 'abcd', true), 'nothing new').toBeNull();
    expect(taken(run, 12, 'cde', true)).toBe('e');
    expect(taken(run, 100, 'x'), 'bytes are missing').toBe('|x');
    expect(taken(run, 0, 'new', true), 'another run').toBe('|new');
  });
});

describe('a recording', () => {
  it('is an asciicast of version 2 whose characters are whole', () => {
    let now = 5_000;
    const recorder = new AsciicastRecorder('etch', { columns: 80, rows: 24 }, () => now);
    const [first, second] = [encode('é').subarray(0, 1), encode('é!').subarray(1)];
    recorder.output(first);
    now += 250;
    recorder.output(second as Uint8Array<ArrayBuffer>);
    recorder.resized({ columns: 100, rows: 30 });
    expect(recorder.length).toBe('[0.25,"o","é!"]\n[0.25,"r","100x30"]\n'.length);
    expect(
      recorder
        .finish()
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      { version: 2, width: 80, height: 24, timestamp: 5, title: 'etch' },
      [0.25, 'o', 'é!'],
      [0.25, 'r', '100x30'],
    ]);
  });
});

describe('key combinations', () => {
  it('are read with carets and escapes, and written the same way', () => {
    expect(parseKeys('^Bn')).toEqual(Uint8Array.of(2, 110));
    expect(parseKeys('\\e[A\\r\\x7f')).toEqual(Uint8Array.of(27, 91, 65, 13, 127));
    expect(parseKeys('\\q')).toBeNull();
    expect(parseKeys('')).toBeNull();
    for (const text of ['^Bn', '\\e[A', 'plain', '\\\\ \\^']) expect(keysText(parseKeys(text)!)).toBe(text);
  });

  it('come with the latest used first', () => {
    const lastUsed = used(used('', 'F1'), 'Esc');
    expect(
      ordered([{ label: 'Own', bytes: Uint8Array.of(1) }], lastUsed)
        .slice(0, 3)
        .map(({ label }) => label),
    ).toEqual(['Esc', 'F1', 'Own']);
    expect(ordered([], lastUsed)).toHaveLength(COMBINATIONS.length);
  });
});

describe('colours', () => {
  it('of text can be read on the background', () => {
    const { background, black: _, cursorAccent: __, selectionBackground: ___, ...text } = CONSOLE_THEME;
    for (const [name, colour] of Object.entries(text))
      expect(contrast(colour, background), name).toBeGreaterThanOrEqual(4.5);
  });

  it('of the 256 are the named ones, a cube and greys', () => {
    expect([1, 16, 196, 231, 232, 255].map(paletteColour)).toEqual([
      CONSOLE_THEME.red,
      '#000000',
      '#ff0000',
      '#ffffff',
      '#080808',
      '#eeeeee',
    ]);
  });
});
