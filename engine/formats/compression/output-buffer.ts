// SPDX-License-Identifier: MIT
// The growing, bounded output of a decompressor; it is also the dictionary that matches are copied from.
import { pvError } from '../../errors.ts';

/** How much a decompressor may produce. */
export interface DecompressLimits {
  /** Hard limit in bytes; unpacking more is the error `compressed-too-large`. */
  readonly maxOutput: number;
  /** Expected size in bytes, if known: avoids growing. May be wrong, may come from hostile data. */
  readonly sizeHint?: number;
}

const SMALLEST_CAPACITY = 64 * 1024;

/**
 * Decoders write `bytes` directly at `length` and then advance `length`; before writing n bytes they make sure that
 * `length + n <= bytes.length`, calling `grow(n)` if not. `bytes` is replaced by `grow`, so it must be re-read after it.
 */
export class OutputBuffer {
  bytes: Uint8Array;
  length = 0;
  private readonly format: string;
  private readonly maxOutput: number;

  constructor(format: string, limits: DecompressLimits) {
    this.format = format;
    this.maxOutput = limits.maxOutput;
    this.bytes = new Uint8Array(Math.min(limits.maxOutput, Math.max(limits.sizeHint ?? 0, SMALLEST_CAPACITY)));
  }

  /** How many more bytes the limit allows. */
  get room(): number {
    return this.maxOutput - this.length;
  }

  /** Makes room for `extra` more bytes. Throws `compressed-too-large` when that passes the limit. */
  grow(extra: number): void {
    const needed = this.length + extra;
    if (needed <= this.bytes.length) return;
    if (needed > this.maxOutput) throw pvError('compressed-too-large', { format: this.format, limit: this.maxOutput });
    const larger = new Uint8Array(Math.min(this.maxOutput, Math.max(needed, this.bytes.length * 2)));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }

  /** Appends bytes as they are. */
  append(data: Uint8Array): void {
    this.grow(data.length);
    this.bytes.set(data, this.length);
    this.length += data.length;
  }

  /**
   * Appends `count` bytes that start `distance` bytes before the end; source and destination may overlap (then the pattern repeats).
   * The caller has checked 1 <= distance <= length.
   */
  copyMatch(distance: number, count: number): void {
    if (this.length + count > this.bytes.length) this.grow(count);
    const bytes = this.bytes;
    let to = this.length;
    let from = to - distance;
    if (count >= 64) {
      // What was just copied is the source of the next, twice as long piece.
      for (let done = 0; done < count;) {
        const piece = Math.min(distance + done, count - done);
        bytes.copyWithin(to + done, from, from + piece);
        done += piece;
      }
    } else {
      for (let left = count; left > 0; left--) bytes[to++] = bytes[from++]!;
    }
    this.length += count;
  }

  /** The bytes produced so far (a view, not a copy). */
  result(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}
