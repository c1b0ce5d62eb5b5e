// SPDX-License-Identifier: MIT
// Which of several faults of one instruction comes first.
import { expect, it } from 'vitest';
import { decode, decoded } from '../x86/decode.ts';
import { unitException } from './fault-precedence.ts';

const pending = 0x80;
const taskSwitched = 8;

function vector(bytes: readonly number[], cr0: number, statusWord: number): number {
  expect(decode(Uint8Array.from([...bytes, ...new Uint8Array(16)]), 0, 16, 32)).toBe('ok');
  return unitException(decoded, cr0, statusWord);
}

it.each([
  ['fist m32', [0xdb, 0x10], 16, 7],
  ['fnsave m', [0xdd, 0x30], 0, 7],
  ['movq mm,m64', [0x0f, 0x6f, 0x00], 16, 7],
  ['movaps xmm,m128', [0x0f, 0x28, 0x00], 0, 7],
  ['fxsave m', [0x0f, 0xae, 0x00], 0, 7],
  ['clflush m', [0x0f, 0xae, 0x38], 0, 0],
  ['mov r,m', [0x8b, 0x00], 0, 0],
])('%s', (_, bytes, whenPending, whenSwitched) => {
  expect(vector(bytes, 0, pending)).toBe(whenPending);
  expect(vector(bytes, taskSwitched, pending)).toBe(whenSwitched);
  expect(vector(bytes, 0, 0)).toBe(0);
});

it('knows emulation mode', () => {
  expect(vector([0xdb, 0x10], 4, 0)).toBe(7);
  expect(vector([0x0f, 0x28, 0x00], 4, 0)).toBe(6);
});
