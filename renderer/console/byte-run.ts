// SPDX-License-Identifier: MIT
// Pieces of a terminal's output put together to an unbroken run of bytes: what is known twice is shown once, and a jump is noticed.

export interface NewBytes {
  bytes: Uint8Array<ArrayBuffer>;
  /** They begin a new run, or what came before is lost. */
  fresh: boolean;
}

export class ByteRun {
  /** Offset of the next byte that is wanted; null before the first piece. */
  #next: number | null = null;

  /**
   * What is new in a piece that begins at `offset`; null when nothing is. `whole`: these bytes are all that is known, so an end before ours
   * means that a new run has begun.
   */
  take(offset: number, bytes: Uint8Array<ArrayBuffer>, whole: boolean): NewBytes | null {
    const end = offset + bytes.length;
    const next = this.#next;
    const fresh = next === null || offset > next || (whole ? end < next : end <= next && offset < next);
    this.#next = end;
    if (fresh) return { bytes, fresh };
    return end > next ? { bytes: bytes.subarray(next - offset), fresh } : null;
  }
}
