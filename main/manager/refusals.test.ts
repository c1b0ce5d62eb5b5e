// SPDX-License-Identifier: MIT
// A refusal test for every message, made from the contract: each field missing, of a wrong type, too large, out of range; each object with
// more than it may have; each command from somebody who may not send. Nothing of it may reach a handler.
import * as v from 'valibot';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ManagerFixture, TestSession } from '../../tests/support/manager.ts';
import { commandNames, commands } from '../contract/commands.ts';
import type { CommandName } from '../contract/commands.ts';
import { sampleRequests } from '../contract/testing/sample-requests.ts';
import { MESSAGE_BYTES_LIMIT } from '../contract/values.ts';
import type { Gate } from './gate.ts';
import type { Manager } from './manager.ts';
import { Session } from './session.ts';

let fixture: ManagerFixture;
let manager: Manager;
let gate: Gate;
beforeAll(async () => {
  fixture = new ManagerFixture();
  ({ manager, gate } = await fixture.open());
});
afterAll(() => fixture.dispose());

/** What can be wrong with one place of a request. */
interface Mutation {
  what: string;
  request: unknown;
}

type Json = Record<string, unknown>;

/** The schema below `optional`, `nullable` and pipes, where the kind of thing can be seen. */
function bare(schema: v.GenericSchema): v.GenericSchema & Json {
  const { wrapped } = schema as unknown as { wrapped?: v.GenericSchema };
  return wrapped === undefined ? (schema as v.GenericSchema & Json) : bare(wrapped);
}

const WRONG: readonly unknown[] = [null, 5, -1, 0.5, 'no such thing', true, [], {}, [null], { a: 1 }];

/** Every way to spoil `sample`, which `schema` accepts. `whole` puts a spoilt part into the whole request. */
function* mutations(
  schema: v.GenericSchema,
  sample: unknown,
  place: string,
  whole: (part: unknown) => unknown,
): Generator<Mutation> {
  const kind = bare(schema);
  // Of a wrong type.
  const wrong = WRONG.filter((value) => !v.is(schema, value));
  expect(wrong.length, `${place} accepts nearly everything`).toBeGreaterThanOrEqual(3);
  for (const value of wrong) yield { what: `${place} is ${JSON.stringify(value)}`, request: whole(value) };

  if (kind.type === 'string') {
    const long = 'A'.repeat(700_000);
    yield { what: `${place} is a very long string`, request: whole(long) };
  } else if (kind.type === 'number') {
    for (const number of [1e300, -1e300]) yield { what: `${place} is ${number}`, request: whole(number) };
  } else if (kind.type === 'array') {
    const [first] = sample as unknown[];
    yield { what: `${place} has 60000 items`, request: whole(new Array(60_000).fill(first)) };
    yield* mutations(kind.item as v.GenericSchema, first, `${place}[0]`, (part) => whole([part]));
  } else if (kind.type === 'record') {
    const [[key, value]] = Object.entries(sample as Json);
    const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`${key}${i}`, value]));
    yield { what: `${place} has 5000 entries`, request: whole(many) };
    yield { what: `${place} has a very long key`, request: whole({ [key.repeat(1000)]: value }) };
  } else if (kind.type === 'strict_object') {
    const object = sample as Json;
    const entries = kind.entries as Record<string, v.GenericSchema>;
    yield { what: `${place} has one field more`, request: whole({ ...object, surprise: 1 }) };
    for (const [name, entry] of Object.entries(entries)) {
      const field = place === '' ? name : `${place}.${name}`;
      expect(Object.hasOwn(object, name), `the sample has ${field}`).toBe(true);
      const { [name]: value, ...rest } = object;
      if (entry.type !== 'optional') yield { what: `${field} is missing`, request: whole(rest) };
      yield* mutations(entry, value, field, (part) => whole({ ...object, [name]: part }));
    }
  } else {
    expect(['picklist', 'literal', 'boolean', 'union', 'custom'], `${place} is of a kind this test knows`).toContain(
      kind.type,
    );
  }
}

/** A request may be nothing at all; then there is nothing missing in it, and `{}` is what it is. */
function mutationsOf(name: CommandName): Mutation[] {
  const { request } = commands[name];
  return [...mutations(request, sampleRequests[name], '', (part) => part)];
}

describe.each(commandNames)('%s', (command) => {
  it('has a sample that is accepted, with every field', () => {
    expect(v.safeParse(commands[command].request, sampleRequests[command]).issues).toBeUndefined();
  });

  it('is refused and counted, wherever something is wrong', async () => {
    const served = manager.counters.counts()[`command ${command}`];
    for (const { what, request } of mutationsOf(command)) {
      const refused = sum(manager.counters.refusals());
      const session = new TestSession(manager, gate);
      await session.raw(JSON.stringify({ id: 7, command, request }));
      expect(session.answers, what).toMatchObject([
        { error: { code: expect.stringMatching(/^(request-invalid|message-malformed|message-too-large)$/) } },
      ]);
      expect(session.answers[0].id, what).toBe(7);
      expect(sum(manager.counters.refusals()), what).toBe(refused + 1);
      session.session.gone();
    }
    expect(manager.counters.counts()[`command ${command}`]).toBe(served);
  });

  it('is refused when it is larger than any message may be', async () => {
    const session = new TestSession(manager, gate);
    const text = JSON.stringify({ id: 8, command, request: sampleRequests[command] });
    await session.raw(text + ' '.repeat(MESSAGE_BYTES_LIMIT));
    expect(session.answers).toMatchObject([{ id: 8, error: { code: 'message-too-large' } }]);
    session.session.gone();
  });

  it('is refused from a sender that is no session of this manager', async () => {
    const served = manager.counters.counts()[`command ${command}`];
    const refused = manager.counters.refusals()['sender-unknown'] ?? 0;
    const answers: string[] = [];
    let closed = '';
    const stranger = new Session('page', {
      send: (text) => answers.push(text),
      backlog: () => 0,
      close: (reason) => (closed = reason),
    });
    await gate.receive(stranger, JSON.stringify({ id: 9, command, request: sampleRequests[command] }));
    expect(answers.map((text) => JSON.parse(text) as unknown)).toMatchObject([{ error: { code: 'sender-unknown' } }]);
    expect(closed).not.toBe('');
    expect(manager.counters.refusals()['sender-unknown']).toBe(refused + 1);
    expect(manager.counters.counts()[`command ${command}`]).toBe(served);
  });
});

const sum = (counts: Record<string, number>): number => Object.values(counts).reduce((a, b) => a + b, 0);
