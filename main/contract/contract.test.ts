// SPDX-License-Identifier: MIT
// The contract as types and as data: names, inference, the asking side, error clauses.
import * as v from 'valibot';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { errorTable } from '../../engine/errors.ts';
import { DEFAULT_SETTINGS } from '../settings/settings.ts';
import { commandNames, commands } from './commands.ts';
import type { CheckedRequest, CommandName, Reply, Request } from './commands.ts';
import { MessageConnection } from './connection.ts';
import { eventNames } from './events.ts';
import type { EventPayload } from './events.ts';
import { settings } from './host.ts';
import { describeIssues } from './issues.ts';
import type { MachineState, MachineSummary } from './machine.ts';
import type { Channel, MetricHistory } from './metrics.ts';
import { CommandError } from './wire.ts';
import type { Connection } from './wire.ts';

describe('types', () => {
  it('are inferred from the schemas', () => {
    expectTypeOf<Request<'machine:start'>>().toEqualTypeOf<{ machine: string }>();
    expectTypeOf<Reply<'machine:start'>>().toEqualTypeOf<MachineSummary>();
    expectTypeOf<CheckedRequest<'machine:stop'>['how']>().toEqualTypeOf<'ask' | 'force'>();
    expectTypeOf<Request<'machine:create'>['initrd']>().toEqualTypeOf<string | null | undefined>();
    expectTypeOf<EventPayload<'machine:crashed'>['error']['code']>().toBeString();
    expectTypeOf<MachineState>().toEqualTypeOf<'off' | 'starting' | 'running' | 'paused' | 'crashed'>();
    expectTypeOf<MetricHistory['average'][Channel]>().toEqualTypeOf<(number | null)[]>();
    expectTypeOf<'machine:explode'>().not.toExtend<CommandName>();
    expectTypeOf<MessageConnection>().toExtend<Connection>();
  });
});

describe('names', () => {
  it('are noun and verb, events in the past', () => {
    for (const name of [...commandNames, ...eventNames]) expect(name).toMatch(/^[a-z]+:[a-z]+([A-Z][a-z]+)?$/);
    for (const name of eventNames) expect(name).toMatch(/(ed|output|reset)$/);
    expect(eventNames.filter((name) => (commandNames as string[]).includes(name))).toEqual(['machine:reset']);
  });

  it('have schemas that refuse what is no object', () => {
    for (const name of commandNames) expect(v.safeParse(commands[name].request, null).success, name).toBe(false);
  });
});

it('the default settings are valid', () => expect(v.is(settings, DEFAULT_SETTINGS)).toBe(true));

describe('describeIssues', () => {
  const schema = v.strictObject({ name: v.pipe(v.string(), v.minLength(1, 'must not be empty')), size: v.number() });
  it.each([
    [{ name: '', size: 1 }, 'name must not be empty'],
    [{ name: 'a' }, 'the field "size" is missing'],
    [{ name: 'a', size: '1' }, 'size should be number, not "1"'],
    [{ name: 'a', size: 1, colour: 2 }, 'there is no field "colour"'],
    ['x'.repeat(100), /^it should be Object, not "x{56}\.\.\.$/],
  ])('%j', (input, text) => {
    const result = v.safeParse(schema, input);
    const described = describeIssues(result.issues ?? []);
    if (typeof text === 'string') expect(described).toBe(text);
    else expect(described).toMatch(text);
  });
});

describe('MessageConnection', () => {
  it('matches answers with what was asked, out of order, and hands out events', async () => {
    const sent: { id: number }[] = [];
    const connection = new MessageConnection((text) => sent.push(JSON.parse(text)));
    const seen: unknown[] = [];
    const stop = connection.on('machine:removed', (payload) => seen.push(payload));
    const first = connection.invoke('trash:list', {});
    const second = connection.invoke('settings:get', {});
    connection.receive('rubbish');
    connection.receive(JSON.stringify({ id: 99, reply: {} }));
    connection.receive(JSON.stringify({ event: 'machine:removed', payload: { machine: 'a' } }));
    stop();
    connection.receive(JSON.stringify({ event: 'machine:removed', payload: { machine: 'b' } }));
    const error = { code: 'cancelled', ...errorTable.cancelled };
    connection.receive(JSON.stringify({ id: sent[1].id, error }));
    connection.receive(JSON.stringify({ id: sent[0].id, reply: { machines: [] } }));
    expect(await first).toEqual({ machines: [] });
    await expect(second).rejects.toThrow(CommandError);
    expect(seen).toEqual([{ machine: 'a' }]);
  });

  it('fails everything when its carrier is gone', async () => {
    const connection = new MessageConnection(() => undefined);
    const waiting = connection.invoke('trash:list', {});
    connection.close({ code: 'manager-lost', message: 'lost', action: 'wait' });
    await expect(waiting).rejects.toMatchObject({ report: { code: 'manager-lost' } });
    await expect(connection.invoke('trash:list', {})).rejects.toMatchObject({ report: { code: 'manager-lost' } });
  });
});
