// SPDX-License-Identifier: MIT
// The output of one terminal (a machine's console, or a shell of this computer) as the manager keeps it: the last of it, and everyone who
// reads it at a pace of their own. Nobody who stops reading stops the guest for long.
import type { Session } from './session.ts';

/** Output kept for those who attach later. */
const KEPT_BYTES = 256 * 1024;
/** Output sent in one event. */
const CHUNK_BYTES = 48 * 1024;
/** A session with more than this under way gets nothing new until some of it has left. */
const SESSION_BACKLOG_BYTES = 256 * 1024;
/** The guest waits when even the fastest reader is this far behind; slower ones lose what drops out of what is kept. */
const HOLD_BYTES = KEPT_BYTES / 2;
/** ... but only this long while nobody reads at all: a frozen tab or a sleeping laptop must not stop a guest. */
const PATIENCE_MS = 2000;

export class ConsoleFeed {
  readonly #machine: string;
  readonly #hold: (hold: boolean) => void;
  readonly #event: 'console:output' | 'terminal:output';
  readonly #patienceMs: number;
  readonly #readers = new Map<Session, { next: number; forget: () => void }>();
  #chunks: Uint8Array[] = [];
  /** Offsets of the first byte kept and of the next byte to come. */
  #start = 0;
  #end = 0;
  #held = false;
  /** Runs while output is held; set anew whenever somebody reads. */
  #patience: NodeJS.Timeout | null = null;
  /** Nobody read for too long: nothing is held until somebody has caught up. */
  #gaveUp = false;
  /** Who typed or was sized last. */
  #leader: Session | null = null;

  /** `hold(true)` asks for the output to be stopped, `hold(false)` to let it flow again. */
  constructor(
    machine: string,
    hold: (hold: boolean) => void,
    event: 'console:output' | 'terminal:output' = 'console:output',
    patienceMs = PATIENCE_MS,
  ) {
    this.#machine = machine;
    this.#hold = hold;
    this.#event = event;
    this.#patienceMs = patienceMs;
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
    if (this.#leader === session) this.#leader = null;
    this.#pace();
  }

  /** This session is the one that is worked in. */
  lead(session: Session): void {
    this.#leader = session;
  }

  /**
   * May these bytes of a session go to the program? What people type always may. What its terminal says by itself (`answer`: to the question
   * where the cursor is, for one) may when the session leads: else each of several windows would answer the same question.
   */
  mayWrite(session: Session, answer: boolean): boolean {
    if (!answer) this.lead(session);
    return session === (this.#leader ?? [...this.#readers.keys()].at(-1));
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
      session.tell(this.#event, { machine: this.#machine, offset: from, bytes, skipped: from - reader.next });
      reader.next = to;
      if (this.#held) this.#waitAnew();
    }
    if (reader.next === this.#end) this.#gaveUp = false;
  }

  #pace(): void {
    let furthest = -1;
    for (const { next } of this.#readers.values()) furthest = Math.max(furthest, next);
    const hold = !this.#gaveUp && furthest >= 0 && this.#end - furthest > HOLD_BYTES;
    if (hold === this.#held) return;
    this.#held = hold;
    if (hold) this.#waitAnew();
    else if (this.#patience !== null) clearTimeout(this.#patience);
    this.#hold(hold);
  }

  #waitAnew(): void {
    if (this.#patience !== null) clearTimeout(this.#patience);
    this.#patience = setTimeout(() => {
      this.#gaveUp = true;
      this.#pace();
    }, this.#patienceMs);
    this.#patience.unref();
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
