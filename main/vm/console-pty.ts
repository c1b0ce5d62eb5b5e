// SPDX-License-Identifier: MIT
// A VM's console as a pseudo-terminal of this computer, for programs that want a device: screen, minicom, expect, cat.
// Both ends stay open here, so that programs may come and go. Nobody who opened it can stop the guest: what is not read is dropped, oldest
// first, and who comes later finds the last few kilobytes, as on a terminal that was left running.
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import * as tty from 'node:tty';
import { pvError } from '../../engine/errors.ts';
import { loadPtyLibrary } from '../terminal/pty-library.ts';

/** Output that may wait for a reader that is slower than the guest but reads; beyond it the oldest is dropped. */
const QUEUE_BYTES = 1024 * 1024;
/** How much of it is tried when nobody reads. */
const TAIL_BYTES = 32 * 1024;
/** More than the kernel holds for one pseudo-terminal: who has taken it must be a reader. */
const PIPE_BYTES = 80 * 1024;
/** How soon it is tried again: at once for one that reads, more rarely for one that seems not to. */
const RETRY_MS = 2;
const SLOW_RETRY_MS = 25;
/** Without any progress for this long, nobody reads. */
const PATIENCE_MS = 2000;
/** Milliseconds in which the kernel must have moved something. */
const ROOM_TURNS = 100;
const LATER_MS = 250;

export class ConsolePty {
  /** What programs open, for example /dev/pts/7. */
  readonly path: string;
  readonly #master: number;
  readonly #slave: number;
  readonly #stream: tty.ReadStream;
  #queue: Uint8Array[] = [];
  #queued = 0;
  #timer: NodeJS.Timeout | null = null;
  /** When a byte was last accepted. */
  #progressAt = 0;
  /** Nobody reads: room is made by throwing the oldest away. */
  #unread = false;
  #makingRoom = false;
  /** At most this much of what was written is still unread. */
  #inPipe = 0;
  #closed = false;

  /** `input` gets what programs write. Rejects with `pty-missing` or `pty-failed`. */
  static async open(input: (bytes: Buffer) => void): Promise<ConsolePty> {
    const { native } = await loadPtyLibrary();
    if (native === null) throw pvError('pty-failed', { detail: 'this system has none that other programs can open' });
    let ends: ReturnType<typeof native.open>;
    try {
      ends = native.open(80, 25);
    } catch (error) {
      throw pvError('pty-failed', { detail: (error as Error).message }, error);
    }
    try {
      await makeRaw(ends.slave);
      // A child process is given descriptors that block, and blocking is a property of what is open, not of the descriptor: this one is ours alone.
      const { O_RDWR, O_NOCTTY, O_NONBLOCK } = fs.constants;
      const slave = fs.openSync(ends.pty, O_RDWR | O_NOCTTY | O_NONBLOCK);
      return new ConsolePty({ ...ends, slave }, input);
    } catch (error) {
      fs.closeSync(ends.master);
      throw pvError('pty-failed', { detail: (error as Error).message }, error);
    } finally {
      fs.closeSync(ends.slave);
    }
  }

  private constructor(ends: { master: number; slave: number; pty: string }, input: (bytes: Buffer) => void) {
    this.path = ends.pty;
    this.#master = ends.master;
    this.#slave = ends.slave;
    this.#stream = new tty.ReadStream(ends.master);
    this.#stream.on('data', (bytes: Buffer) => {
      this.#unread = false;
      input(bytes);
    });
    // Its end is `close`; nothing else can be done about an error.
    this.#stream.on('error', () => undefined);
  }

  /** The guest takes no more input, or takes it again. */
  setReading(reading: boolean): void {
    if (reading) this.#stream.resume();
    else this.#stream.pause();
  }

  /** Offers output to whoever has the terminal open. */
  output(bytes: Uint8Array): void {
    if (this.#closed) return;
    this.#queue.push(bytes);
    this.#queued += bytes.length;
    this.#forget(this.#unread ? TAIL_BYTES : QUEUE_BYTES);
    if (this.#timer === null && !this.#makingRoom) this.#pump();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    // The near end last: whoever reads the far end then sees that it is over.
    fs.closeSync(this.#slave);
    this.#stream.destroy();
  }

  #pump(): void {
    this.#timer = null;
    if (this.#queue.length === 0) return;
    this.#write();
    if (this.#queue.length === 0) return;
    const idleMs = Date.now() - this.#progressAt;
    if (!this.#unread && idleMs < PATIENCE_MS) {
      this.#timer = setTimeout(() => this.#pump(), idleMs < 50 * RETRY_MS ? RETRY_MS : SLOW_RETRY_MS);
      return;
    }
    this.#unread = true;
    this.#forget(TAIL_BYTES);
    void this.#makeRoom();
  }

  /** Writes until the kernel takes no more. */
  #write(): void {
    while (this.#queue.length > 0) {
      const bytes = this.#queue[0];
      let count: number;
      try {
        count = fs.writeSync(this.#master, bytes);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return;
        throw error;
      }
      if (count === 0) return;
      this.#progressAt = Date.now();
      this.#queued -= count;
      this.#inPipe += count;
      if (this.#inPipe > PIPE_BYTES) {
        this.#unread = false;
        this.#inPipe = PIPE_BYTES;
      }
      if (count < bytes.length) this.#queue[0] = bytes.subarray(count);
      else this.#queue.shift();
    }
  }

  /** Takes the oldest output back from the far end, as much as is needed for what is new. */
  async #makeRoom(): Promise<void> {
    this.#makingRoom = true;
    const bytes = Buffer.alloc(4096);
    for (let quiet = 0; this.#queue.length > 0 && quiet < ROOM_TURNS && !this.#closed;) {
      const count = readNow(this.#slave, bytes);
      this.#inPipe = Math.max(0, this.#inPipe - count);
      this.#write();
      if (count > 0) quiet = 0;
      else {
        // The kernel moves a page at a time to where it can be read, when it gets to it.
        quiet++;
        await sleep(1);
      }
    }
    this.#makingRoom = false;
    // The kernel is busy, or a program has stopped the terminal: what waits is little, and is tried again.
    if (this.#queue.length > 0 && !this.#closed) this.#timer = setTimeout(() => this.#pump(), LATER_MS);
  }

  /** Drops the oldest output above `limit`. */
  #forget(limit: number): void {
    while (this.#queued > limit) {
      const excess = this.#queued - limit;
      const oldest = this.#queue[0];
      if (oldest.length > excess) this.#queue[0] = oldest.subarray(excess);
      else this.#queue.shift();
      this.#queued -= Math.min(excess, oldest.length);
    }
  }
}

/** Bytes that can be read at once; 0 for none. */
function readNow(descriptor: number, into: Buffer): number {
  try {
    return fs.readSync(descriptor, into);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  }
}

/** Bytes pass as they are: no echo (it would go to the guest as input), no line editing, no signals, no flow control. */
function makeRaw(slave: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const stty = spawn('stty', ['raw', '-echo', '-ixon', '-ixoff'], { stdio: [slave, 'ignore', 'ignore'] });
    stty.once('error', reject);
    stty.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`stty ended with ${code}`))));
  });
}
