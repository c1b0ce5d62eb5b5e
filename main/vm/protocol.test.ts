// SPDX-License-Identifier: MIT
// Unit tests of the console protocol: round trips in any cut, and refusal of anything else.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ClientMessageReader,
  encodeClientMessage,
  encodeVmMessage,
  ProtocolError,
  VmMessageReader,
} from './protocol.ts';
import type { ClientMessage, VmMessage } from './protocol.ts';

const clientMessages: ClientMessage[] = [
  { type: 'hello', token: 'abc', size: { columns: 80, rows: 25 } },
  { type: 'hello', token: 'abc', size: null },
  { type: 'input', bytes: Buffer.from('ls\r') },
  { type: 'input', bytes: Buffer.alloc(0) },
  { type: 'resize', size: { columns: 1, rows: 65535 } },
  { type: 'powerOff' },
  { type: 'force' },
  { type: 'detach' },
  { type: 'pause' },
  { type: 'resume' },
  { type: 'reset' },
  { type: 'sysrq', key: 'c' },
  { type: 'watch' },
  { type: 'pty', on: true },
  { type: 'inputMark', id: 7 },
];
const vmMessages: VmMessage[] = [
  { type: 'welcome', id: '1', name: 'n', state: 'paused', guest: 2, offset: 7, past: 1, size: null },
  { type: 'output', bytes: Buffer.from([0, 255, 10]) },
  { type: 'notice', text: 'reboots' },
  { type: 'state', state: 'running', guest: 0 },
  { type: 'log', at: 1, level: 'warn', source: 'guest', text: 't' },
  { type: 'resized', size: { columns: 80, rows: 25 } },
  { type: 'ptyOffered', path: '/dev/pts/7', problem: null },
  { type: 'inputTaken', id: 7 },
  { type: 'ended', outcome: { kind: 'crash', reason: 'oops' }, stats: null },
];

/** A frame with JSON in it. */
function frameOf(type: number, json: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32LE(json.length + 1, 0);
  head[4] = type;
  return Buffer.concat([head, Buffer.from(json)]);
}

/** Sends bytes through a reader in pieces of `size`. */
function inPieces<T>(reader: { push(chunk: Uint8Array): Iterable<T> }, bytes: Buffer, size: number): T[] {
  const messages: T[] = [];
  for (let at = 0; at < bytes.length; at += size)
    messages.push(...reader.push(Buffer.from(bytes.subarray(at, at + size))));
  return messages;
}

describe('console protocol', () => {
  it.each([1, 2, 3, 7, 1000])('survives being cut into pieces of %i bytes', (size) => {
    const toVm = Buffer.concat(clientMessages.map(encodeClientMessage));
    expect(inPieces(new ClientMessageReader(), toVm, size)).toEqual(clientMessages);
    const fromVm = Buffer.concat(vmMessages.map(encodeVmMessage));
    expect(inPieces(new VmMessageReader(), fromVm, size)).toEqual(vmMessages);
  });

  it.each([
    ['a frame without type', [0, 0, 0, 0]],
    ['a huge frame', [255, 255, 255, 255]],
    ['an unknown type', [1, 0, 0, 0, 99]],
    ['a message of the other direction', [...encodeVmMessage(vmMessages[0])]],
    ['hello that is not JSON', [2, 0, 0, 0, 1, 0x7b]],
    ['hello that is null', [5, 0, 0, 0, 1, ...Buffer.from('null')]],
    ['hello without token', [3, 0, 0, 0, 1, ...Buffer.from('{}')]],
    ['a SysRq key that is none', [...frameOf(10, '{"key":"no"}')]],
    ['a size of zero', [...encodeClientMessage({ type: 'resize', size: { columns: 0, rows: 1 } })]],
  ])('refuses %s', (_what, bytes) => {
    expect(() => [...new ClientMessageReader().push(Uint8Array.from(bytes))]).toThrow(ProtocolError);
  });

  it('answers arbitrary bytes with messages or a ProtocolError, nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          for (const message of new ClientMessageReader().push(bytes)) expect(message.type).toBeTypeOf('string');
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
    );
  });
});
