// SPDX-License-Identifier: MIT
// LEB128 and the byte buffer.
import { expect, it } from 'vitest';
import { ByteSink } from './bytes.ts';

const written = (write: (s: ByteSink) => void): number[] => {
  const s = new ByteSink();
  write(s);
  return [...s.bytes()];
};

/** An independent reading of LEB128 (core specification, section 5.2.2). */
function read(bytes: readonly number[], signed: boolean): bigint {
  let value = 0n;
  let shift = 0n;
  for (const b of bytes) {
    value |= BigInt(b & 0x7f) << shift;
    shift += 7n;
  }
  expect(bytes.every((b, i) => b >= 0x80 === i < bytes.length - 1)).toBe(true);
  return signed && bytes[bytes.length - 1]! & 0x40 ? value - (1n << shift) : value;
}

it('writes known LEB128 bytes', () => {
  expect(written((s) => s.u32(624485))).toEqual([0xe5, 0x8e, 0x26]);
  expect(written((s) => s.s32(-123456))).toEqual([0xc0, 0xbb, 0x78]);
  expect(written((s) => s.s32(64))).toEqual([0xc0, 0x00]);
  expect(written((s) => s.s32(-64))).toEqual([0x40]);
  expect(written((s) => s.u32(-1))).toEqual([0xff, 0xff, 0xff, 0xff, 0x0f]);
});

it('writes every edge so that it reads back, as short as can be', () => {
  for (let bit = 0; bit < 64; bit++) {
    for (const near of [-2n, -1n, 0n, 1n]) {
      const v = (1n << BigInt(bit)) + near;
      for (const value of [v, -v]) {
        const s64 = BigInt.asIntN(64, value);
        const bytes = written((s) => s.s64(value));
        expect(read(bytes, true)).toBe(s64);
        const bits = (s64 < 0n ? ~s64 : s64).toString(2).length * Number(s64 !== 0n && s64 !== -1n);
        expect(bytes.length).toBe(Math.max(1, Math.ceil((bits + 1) / 7)));
        const s32 = Number(BigInt.asIntN(32, value));
        expect(
          read(
            written((s) => s.s32(s32)),
            true,
          ),
        ).toBe(BigInt(s32));
        const u32 = Number(BigInt.asUintN(32, value));
        expect(
          read(
            written((s) => s.u32(u32)),
            false,
          ),
        ).toBe(BigInt(u32));
      }
    }
  }
});

it('grows past its first buffer and copies what it gives out', () => {
  const s = new ByteSink();
  for (let i = 0; i < 1000; i++) s.byte(i & 0xff);
  s.raw(new Uint8Array(5000).fill(7));
  const bytes = s.bytes();
  expect(bytes.length).toBe(6000);
  expect(bytes[999]).toBe(999 & 0xff);
  expect(bytes[5999]).toBe(7);
  bytes[0] = 99;
  expect(s.bytes()[0]).toBe(0);
});

it('writes names with their length', () => {
  expect(written((s) => s.name('env'))).toEqual([3, 0x65, 0x6e, 0x76]);
});
