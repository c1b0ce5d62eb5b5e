// SPDX-License-Identifier: MIT
// The contract at compile time: what may be asked and what is answered follows from the schemas, and what is none of it does not compile.
import { describe, expect, expectTypeOf, it } from 'vitest';
import type * as v from 'valibot';
import { errorTable, pvError } from '../../engine/errors.ts';
import type { ErrorCode } from '../../engine/errors.ts';
import type { Handlers } from '../manager/commands.ts';
import { commandNames, commands } from './commands.ts';
import type { CheckedRequest, CommandName, Reply, Request } from './commands.ts';
import type { ErrorReport } from './errors.ts';
import { eventNames, events } from './events.ts';
import type { ContractEvent, EventName, EventPayload } from './events.ts';
import type { MachineSummary } from './machine.ts';
import type { sampleRequests } from './testing/sample-requests.ts';
import type { Connection } from './wire.ts';

/** Never runs: what is in it is for the compiler, which `npm test` asks as well. */
function compiles(connection: Connection, handlers: Handlers): void {
  void connection.invoke('machine:start', { machine: 'a' });
  // @ts-expect-error -- no such command
  void connection.invoke('machine:explode', {});
  // @ts-expect-error -- a field is missing
  void connection.invoke('machine:start', {});
  // @ts-expect-error -- a field too many
  void connection.invoke('machine:start', { machine: 'a', force: true });
  // @ts-expect-error -- of the wrong type
  void connection.invoke('machine:start', { machine: 1 });
  // @ts-expect-error -- none of the choices
  void connection.invoke('machine:stop', { machine: 'a', how: 'kindly' });
  // @ts-expect-error -- changes of what cannot be changed
  void connection.invoke('machine:set', { machine: 'a', changes: { name: 'b' } });
  // @ts-expect-error -- no such event
  connection.on('machine:exploded', () => undefined);
  // @ts-expect-error -- an event's payload has no such field
  connection.on('machine:removed', ({ name }) => name);

  // @ts-expect-error -- no such code
  pvError('no-such-code', {});
  // @ts-expect-error -- a detail that its sentence needs is missing
  pvError('machine-unknown', {});
  // @ts-expect-error -- a handler must give what the contract says
  handlers['settings:get'] = () => ({});
  // @ts-expect-error -- and there is one for every command
  const some: Handlers = { 'settings:get': handlers['settings:get'] };
  void some;
}

describe('commands', () => {
  it('compile as the schemas say', () => expect(compiles).toBeTypeOf('function'));

  it('are asked with what their schemas take and answered with what they give', () => {
    type Schemas = typeof commands;
    expectTypeOf<{ [Name in CommandName]: Request<Name> }>().toEqualTypeOf<{
      [Name in CommandName]: v.InferInput<Schemas[Name]['request']>;
    }>();
    expectTypeOf<Reply<'machine:list'>>().toEqualTypeOf<{ machines: MachineSummary[] }>();
    expectTypeOf<Parameters<Handlers['machine:move']>[0]>().toEqualTypeOf<CheckedRequest<'machine:move'>>();
    expectTypeOf<keyof Handlers>().toEqualTypeOf<CommandName>();
    expectTypeOf<keyof typeof sampleRequests>().toEqualTypeOf<CommandName>();
    expectTypeOf<Awaited<ReturnType<Connection['invoke']>>>().not.toBeAny();
  });

  it('take and give objects only, each with all its fields named', () => {
    for (const name of commandNames) {
      for (const schema of [commands[name].request, commands[name].reply])
        expect(schema.type, name).toBe('strict_object');
    }
  });
});

describe('events', () => {
  it('carry what their schemas say', () => {
    expectTypeOf<EventPayload<'machine:crashed'>['error']>().toEqualTypeOf<ErrorReport>();
    expectTypeOf<ContractEvent['event']>().toEqualTypeOf<EventName>();
    for (const name of eventNames) expect(events[name].type, name).toBe('strict_object');
  });
});

describe('errors', () => {
  it('have codes of one table, sentences, and a next step', () => {
    expectTypeOf<keyof typeof errorTable>().toEqualTypeOf<ErrorCode>();
    for (const [code, { message, action }] of Object.entries(errorTable)) {
      expect(code).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
      for (const sentence of [message, action]) expect(sentence, code).toMatch(/^["A-Z{].*[.)]$/s);
    }
  });
});
