// SPDX-License-Identifier: MIT
// The gate with messages nobody thought of: each gets exactly one answer, an error of the table or a reply, and nothing is ever thrown.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ManagerFixture, TestSession } from '../../tests/support/manager.ts';
import { errorTable } from '../../engine/errors.ts';
import { commandNames, commands } from '../contract/commands.ts';
import type { CommandName } from '../contract/commands.ts';
import { sampleRequests } from '../contract/testing/sample-requests.ts';
import { LineReader } from '../serve/local-socket.ts';
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

/** Commands that would start a guest or download something if a message happened to be right. */
const COSTLY: ReadonlySet<CommandName> = new Set(['host:measure', 'kernel:precompile', 'welcome:create']);
const names = commandNames.filter((name) => !COSTLY.has(name));

async function expectOneAnswer(text: string): Promise<void> {
  const session = new TestSession(manager, gate);
  await session.raw(text);
  expect(session.answers).toHaveLength(1);
  const [{ error }] = session.answers as [{ error?: { code: string } }];
  if (error !== undefined) {
    expect(Object.keys(errorTable)).toContain(error.code);
    // A message, however odd, must not bring out a defect of ours.
    expect(error.code, JSON.stringify(error)).not.toBe('manager-failed');
  }
  session.session.gone();
}

it('text of any kind', async () => {
  await fc.assert(fc.asyncProperty(fc.oneof(fc.string(), fc.json(), fc.string({ unit: 'binary' })), expectOneAnswer));
});

it('envelopes of any kind', async () => {
  const any = fc.jsonValue();
  const envelope = fc.record(
    { id: fc.oneof(fc.nat(), any), command: fc.oneof(fc.constantFrom(...names), any), request: any, more: any },
    { requiredKeys: [] },
  );
  await fc.assert(
    fc.asyncProperty(envelope, (message) => expectOneAnswer(JSON.stringify(message))),
    { numRuns: 300 },
  );
});

it('requests whose fields may hold anything, right values among them', async () => {
  const request = (name: CommandName): fc.Arbitrary<unknown> => {
    const sample = sampleRequests[name] as Record<string, unknown>;
    const fields = Object.keys((commands[name].request as { entries: object }).entries).map((field) => [
      field,
      fc.oneof(fc.constant(sample[field]), fc.jsonValue(), fc.string(), fc.integer()),
    ]);
    return fc.record(Object.fromEntries(fields) as Record<string, fc.Arbitrary<unknown>>, { requiredKeys: [] });
  };
  const message = fc
    .constantFrom(...names)
    .chain((command) => fc.record({ id: fc.nat(), command: fc.constant(command), request: request(command) }));
  await fc.assert(
    fc.asyncProperty(message, (text) => expectOneAnswer(JSON.stringify(text))),
    { numRuns: 800 },
  );
}, 60_000);

it('lines are cut the same however the stream is cut', () => {
  const line = fc.string().map((text) => text.replaceAll('\n', ''));
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat({ max: 40 })), (lines, cuts) => {
      const stream = Buffer.from(lines.map((text) => `${text}\n`).join(''));
      const reader = new LineReader(1_000_000);
      const got: string[] = [];
      let at = 0;
      for (const cut of cuts) {
        got.push(...reader.push(stream.subarray(at, at + cut)));
        at += cut;
      }
      got.push(...reader.push(stream.subarray(at)));
      expect(got).toEqual(lines.map((text) => Buffer.from(text).toString()));
    }),
  );
});
