// SPDX-License-Identifier: MIT
// The gate: every command refuses what its schema does not allow, and what is no command at all is refused and counted.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ManagerFixture, TestSession } from '../../tests/support/manager.ts';
import { commandNames } from '../contract/commands.ts';
import { MESSAGE_BYTES_LIMIT } from '../contract/values.ts';
import type { Gate } from './gate.ts';
import type { Manager } from './manager.ts';

let fixture: ManagerFixture;
let manager: Manager;
let gate: Gate;
beforeAll(async () => {
  fixture = new ManagerFixture();
  ({ manager, gate } = await fixture.open());
});
afterAll(() => fixture.dispose());

async function answerTo(text: string): Promise<Record<string, never>> {
  const session = new TestSession(manager, gate);
  await session.raw(text);
  session.session.gone();
  return session.answers[0] as Record<string, never>;
}

const message = (command: string, request: unknown): string => JSON.stringify({ id: 7, command, request });

describe('every command', () => {
  it.each(commandNames)('%s refuses unknown fields by name', async (command) => {
    const before = manager.counters.refusals()['request-invalid'] ?? 0;
    const answer = await answerTo(message(command, { surprise: 1 }));
    expect(answer).toMatchObject({ id: 7, error: { code: 'request-invalid' } });
    expect(JSON.stringify(answer)).toMatch(/there is no field \\"surprise\\"|is missing/);
    expect(manager.counters.refusals()['request-invalid']).toBe(before + 1);
  });

  it.each(commandNames)('%s refuses a request that is no object', async (command) => {
    for (const request of [null, 'text', 5, [], undefined]) {
      const answer = await answerTo(message(command, request));
      expect(answer).toMatchObject({ error: { code: expect.stringMatching(/^(request-invalid|message-malformed)$/) } });
    }
  });
});

describe('values out of bounds', () => {
  const machine = '0a1b2c3d';
  const valid = { name: 'n', kernel: '/k', memoryBytes: 2 ** 26 };
  it.each([
    ['machine:get', { machine: '../../etc' }, /no machine identifier/],
    ['machine:rename', { machine, name: '' }, /must not be empty/],
    ['machine:rename', { machine, name: 'a/b' }, /slash/],
    ['machine:rename', { machine, name: 'x'.repeat(65) }, /64 characters/],
    ['machine:create', { ...valid, memoryBytes: 1 }, /less than 4 MiB/],
    ['machine:create', { ...valid, memoryBytes: 2 ** 26 + 1 }, /multiple of 4 KiB/],
    ['machine:create', { ...valid, memoryBytes: '64M' }, /memoryBytes should be number/],
    ['machine:create', { ...valid, kernel: 'a\0b' }, /NUL/],
    ['machine:create', { ...valid, tags: ['a,b'] }, /tags.0 contains a comma/],
    ['machine:create', { ...valid, vcpus: 2 }, /must be 1/],
    ['machine:stop', { machine, how: 'kindly' }, /how should be/],
    ['machine:sysrq', { machine, key: 'cc' }, /no SysRq key/],
    ['console:input', { machine, bytes: '*' }, /not base64/],
    ['console:input', { machine, bytes: 'AAAA'.repeat(30_000) }, /more than 65536 bytes/],
    ['console:resize', { machine, size: { columns: 0, rows: 1 } }, /columns/],
    ['log:read', { machine, lines: 1e9 }, /lines/],
    ['task:cancel', { task: 'a b' }, /no task identifier/],
    ['settings:set', { changes: { theme: 'pink' } }, /theme/],
  ])('%s %j', async (command, request, text) => {
    const answer = await answerTo(message(command, request));
    expect(answer).toMatchObject({ error: { code: 'request-invalid' } });
    expect((answer.error as { message: string }).message).toMatch(text);
  });
});

describe('what is no command', () => {
  it.each([
    ['not JSON', '{', 'message-malformed'],
    ['an array', '[]', 'message-malformed'],
    ['no identifier', JSON.stringify({ command: 'machine:list', request: {} }), 'message-malformed'],
    [
      'more than an envelope',
      JSON.stringify({ id: 1, command: 'machine:list', request: {}, token: 'x' }),
      'message-malformed',
    ],
    ['an unknown command', message('machine:explode', {}), 'command-unknown'],
    ['a name of Object.prototype', message('constructor', {}), 'command-unknown'],
    ['too much', message('machine:list', { x: 'y'.repeat(MESSAGE_BYTES_LIMIT) }), 'message-too-large'],
  ])('%s', async (_what, text, code) => {
    const before = manager.counters.refusals()[code] ?? 0;
    expect(await answerTo(text)).toMatchObject({ error: { code } });
    expect(manager.counters.refusals()[code]).toBe(before + 1);
  });

  it('too many messages at once are refused, and a session that only sends rubbish is ended', async () => {
    const eager = new TestSession(manager, gate);
    await Promise.all(Array.from({ length: 1500 }, () => eager.raw(message('settings:get', {}))));
    const refused = eager.answers.filter((answer) => (answer.error as { code?: string })?.code === 'message-rate');
    expect(refused.length).toBeGreaterThan(300);
    expect(eager.answers).toHaveLength(1500);
    const noisy = new TestSession(manager, gate);
    for (let i = 0; i < 10; i++) await noisy.raw('rubbish');
    expect(noisy.closedBecause).toBe('too many malformed messages');
  });
});

it('a defect in a handler becomes an error without a stack', async () => {
  manager.settings.get = () => {
    throw new TypeError('broken');
  };
  const answer = await answerTo(message('settings:get', {}));
  expect(answer).toMatchObject({ error: { code: 'manager-failed', message: expect.stringContaining('broken') } });
  expect(JSON.stringify(answer)).not.toContain('gate.test.ts');
  expect(manager.counters.recent().at(-1)?.text).toContain('gate.test.ts');
});
