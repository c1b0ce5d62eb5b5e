// SPDX-License-Identifier: MIT
// The console of one machine as the manager keeps it: the last output, and everyone who reads it at a pace of their own.
import type { Session } from './session.ts';

/** Output kept for those who attach later. */
const KEPT_BYTES = 256 * 1024;
/** Output sent in one event. */
const CHUNK_BYTES = 48 * 1024;
/** A session with more than this under way gets nothing new until some of it has left. */
const SESSION_BACKLOG_BYTES = 256 * 1024;
/** The guest waits when even the fastest reader is this far behind; slower ones lose what drops out of what is kept. */
const HOLD_BYTES = KEPT_BYTES / 2;

export class ConsoleFeed {
  readonly #machine: string;
  readonly #hold: (hold: boolean) => void;
  readonly #readers = new Map<Session, { next: number; forget: () => void }>();
  #chunks: Uint8Array[] = [];
  /** Offsets of the first byte kept and of the next byte to come. */
  #start = 0;
  #end = 0;
  #held = false;

  /** `hold(true)` asks for the guest's output to be stopped, `hold(false)` to let it flow again. */
  constructor(machine: string, hold: (hold: boolean) => void) {
    this.#machine = machine;
    this.#hold = hold;
  }

  /** Begins anew at `offset`: another run, or a VM found again that tells its past. Readers see a jump if there is one. */
  restart(offset: number): void {
    this.#chunks = [];
    this.#start = this.#end = offset;
    for (const reader of this.#readers.values()) reader.next = offset;
  }

  append(bytes: Uint8Array): void {
    // The array is a view of a receive buffer that may be reused.
    this.#chunks.push(bytes.slice());
    this.#end += bytes.length;
    while (this.#end - this.#start - this.#chunks[0].length >= KEPT_BYTES) this.#start += this.#chunks.shift()!.length;
    for (const session of this.#readers.keys()) this.#feed(session);
    this.#pace();
  }

  /** Offset behind the last byte. */
  get end(): number {
    return this.#end;
  }

  /** What is kept, and the offset of its first byte. */
  kept(): { offset: number; bytes: Uint8Array } {
    return { offset: this.#start, bytes: this.#slice(this.#start, this.#end) };
  }

  attach(session: Session): { offset: number; bytes: Uint8Array } {
    this.detach(session);
    const forget = session.onClose(() => this.detach(session));
    this.#readers.set(session, { next: this.#end, forget });
    return this.kept();
  }

  detach(session: Session): void {
    const reader = this.#readers.get(session);
    if (reader === undefined) return;
    reader.forget();
    this.#readers.delete(session);
    this.#pace();
  }

  readers(): Iterable<Session> {
    return this.#readers.keys();
  }

  /** A session has room again. */
  drained(session: Session): void {
    if (!this.#readers.has(session)) return;
    this.#feed(session);
    this.#pace();
  }

  #feed(session: Session): void {
    const reader = this.#readers.get(session)!;
    while (reader.next < this.#end && session.backlog() < SESSION_BACKLOG_BYTES) {
      const from = Math.max(reader.next, this.#start);
      const to = Math.min(this.#end, from + CHUNK_BYTES);
      const bytes = Buffer.from(this.#slice(from, to)).toString('base64');
      session.tell('console:output', { machine: this.#machine, offset: from, bytes, skipped: from - reader.next });
      reader.next = to;
    }
  }

  #pace(): void {
    let furthest = -1;
    for (const { next } of this.#readers.values()) furthest = Math.max(furthest, next);
    const hold = furthest >= 0 && this.#end - furthest > HOLD_BYTES;
    if (hold === this.#held) return;
    this.#held = hold;
    this.#hold(hold);
  }

  #slice(from: number, to: number): Uint8Array {
    const parts: Uint8Array[] = [];
    let at = this.#start;
    for (const chunk of this.#chunks) {
      if (at + chunk.length > from && at < to) parts.push(chunk.subarray(Math.max(0, from - at), to - at));
      at += chunk.length;
    }
    return Buffer.concat(parts);
  }
}
