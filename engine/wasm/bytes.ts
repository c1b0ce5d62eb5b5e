// SPDX-License-Identifier: MIT
// A growing byte buffer with WebAssembly's LEB128 integers (core specification, section 5.2.2).

import type { ValType } from './opcodes.ts';

const nothing = new Uint8Array(0);
/** Some sinks hold nothing at all; a region's function fits into this as a rule. */
const firstBytes = 4096;

/** Append-only output; `bytes()` returns a copy of what was written. */
export class ByteSink {
  private buffer = nothing;
  length = 0;

  private room(n: number): void {
    if (this.length + n > this.buffer.length) this.grow(n);
  }

  private grow(n: number): void {
    const bigger = new Uint8Array(Math.max(this.buffer.length * 2, this.length + n, firstBytes));
    bigger.set(this.buffer);
    this.buffer = bigger;
  }

  byte(value: number): void {
    if (this.length === this.buffer.length) this.grow(1);
    this.buffer[this.length++] = value;
  }

  /** An instruction, with or without a prefix (0). */
  opcode(prefix: number, code: number): void {
    if (prefix === 0) this.byte(code);
    else {
      this.byte(prefix);
      this.u32(code);
    }
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

  /** What another sink holds. */
  append(other: ByteSink): void {
    this.raw(other.buffer.subarray(0, other.length));
  }

  name(text: string): void {
    this.u32(text.length);
    for (let i = 0; i < text.length; i++) this.byte(text.charCodeAt(i) & 0x7f);
  }

  bytes(): Uint8Array {
    return this.buffer.slice(0, this.length);
  }

  /** The bytes as characters, for comparing. */
  text(): string {
    return String.fromCharCode.apply(null, this.buffer.subarray(0, this.length) as unknown as number[]);
  }

  /** Forgets what was written. */
  clear(): void {
    this.length = 0;
  }
}
