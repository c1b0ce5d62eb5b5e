// SPDX-License-Identifier: MIT
// A growing byte buffer with WebAssembly's LEB128 integers (core specification, section 5.2.2).

import type { ValType } from './opcodes.ts';

const nothing = new Uint8Array(0);
/** Most sinks hold a function; some hold nothing at all. */
const firstBytes = 256;

/** Append-only output; `bytes()` returns a copy of what was written. */
export class ByteSink {
  private buffer = nothing;
  length = 0;

  private room(n: number): void {
    if (this.length + n <= this.buffer.length) return;
    const bigger = new Uint8Array(Math.max(this.buffer.length * 2, this.length + n, firstBytes));
    bigger.set(this.buffer);
    this.buffer = bigger;
  }

  byte(value: number): void {
    this.room(1);
    this.buffer[this.length++] = value;
  }

  raw(values: ArrayLike<number>): void {
    this.room(values.length);
    this.buffer.set(values, this.length);
    this.length += values.length;
  }

  /** Unsigned LEB128 of a u32. */
  u32(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  /** Signed LEB128 of an i32. */
  s32(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  /** Signed LEB128 of an i64. */
  s64(value: bigint): void {
    let rest = BigInt.asIntN(64, value);
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  /** `local.get`; a method of its own so that sinks can look at, or replace, the locals that an expression reads. */
  localGet(local: { readonly index: number; readonly type: ValType }): void {
    this.byte(0x20);
    this.u32(local.index);
  }

  name(text: string): void {
    const ascii = Array.from(text, (c) => c.charCodeAt(0) & 0x7f);
    this.u32(ascii.length);
    this.raw(ascii);
  }

  bytes(): Uint8Array {
    return this.buffer.slice(0, this.length);
  }

  /** The bytes as characters, for comparing. */
  text(): string {
    return String.fromCharCode(...this.buffer.subarray(0, this.length));
  }

  /** Forgets what was written. */
  clear(): void {
    this.length = 0;
  }
}
