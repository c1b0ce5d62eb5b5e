// SPDX-License-Identifier: MIT
// Shared memory between a VM process's main thread and its vCPU worker: wake signal, requests, console input, output flow control.

/** Words of the control area. Which side writes a word is said once here and relied on below. */
const Word = {
  /** Counts signals; the worker sleeps on it. Main thread writes. */
  Signal: 0,
  /** Pending `Request` bits. Main thread sets, worker takes. */
  Requests: 1,
  /** Console size. Main thread writes. */
  Columns: 2,
  Rows: 3,
  /** Bytes ever put into and taken from the input ring, modulo 2^32. Main thread writes the first, worker the second. */
  InputProduced: 4,
  InputConsumed: 5,
  /** Console output bytes posted but not yet delivered. Worker adds, main thread subtracts. */
  OutputPending: 6,
  /** Character code of the SysRq key to send. Main thread writes. */
  SysrqKey: 7,
  /** 1 while guest code runs. Worker writes. */
  Running: 8,
} as const;
const WORDS = 9;

/** Size of the console input ring; a power of two so that the running counts may wrap. */
const INPUT_BYTES = 64 * 1024;

/** Undelivered console output above which the guest has to wait for its readers, like on a serial line. */
const OUTPUT_LIMIT = 1024 * 1024;

/** Things the main thread can ask of the worker; a bit mask. */
export const Request = { PowerOff: 1, Stop: 2, Resize: 4, Pause: 8, Resume: 16, Sample: 32, Sysrq: 64 } as const;

/** Either side's view of the shared area; pass `buffer` to the worker and construct another one there. */
export class SharedControl {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #input: Uint8Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(4 * WORDS + INPUT_BYTES)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer, 0, WORDS);
    this.#input = new Uint8Array(buffer, 4 * WORDS, INPUT_BYTES);
  }

  // Main thread's side.

  /** Sets request bits and wakes the worker. */
  request(bits: number): void {
    Atomics.or(this.#words, Word.Requests, bits);
    this.#signal();
  }

  setConsoleSize(columns: number, rows: number): void {
    Atomics.store(this.#words, Word.Columns, columns);
    Atomics.store(this.#words, Word.Rows, rows);
    this.request(Request.Resize);
  }

  sendSysrq(key: string): void {
    Atomics.store(this.#words, Word.SysrqKey, key.charCodeAt(0));
    this.request(Request.Sysrq);
  }

  /** Puts as many bytes as fit into the input ring, wakes the worker, and returns how many were taken. */
  putInput(bytes: Uint8Array): number {
    const produced = Atomics.load(this.#words, Word.InputProduced);
    const used = (produced - Atomics.load(this.#words, Word.InputConsumed)) | 0;
    const count = Math.min(bytes.length, INPUT_BYTES - used);
    for (let i = 0; i < count; i++) this.#input[(produced + i) & (INPUT_BYTES - 1)] = bytes[i];
    Atomics.store(this.#words, Word.InputProduced, (produced + count) | 0);
    if (count > 0) this.#signal();
    return count;
  }

  /** Bytes put into the input ring that the worker has not passed on yet. */
  inputWaiting(): number {
    return (Atomics.load(this.#words, Word.InputProduced) - Atomics.load(this.#words, Word.InputConsumed)) | 0;
  }

  /** Tells the worker that readers have taken `count` bytes of console output. */
  outputDelivered(count: number): void {
    Atomics.sub(this.#words, Word.OutputPending, count);
    Atomics.notify(this.#words, Word.OutputPending);
  }

  isRunning(): boolean {
    return Atomics.load(this.#words, Word.Running) !== 0;
  }

  /** Settles when guest code runs, at once where it does already, or when this is given up. Keeps no process alive. */
  async untilRunning(): Promise<void> {
    await Atomics.waitAsync(this.#words, Word.Running, 0).value;
  }

  /** Settles what `untilRunning` has promised: this area may never hear of a running guest again. */
  giveUpUntilRunning(): void {
    Atomics.notify(this.#words, Word.Running);
  }

  #signal(): void {
    Atomics.add(this.#words, Word.Signal, 1);
    Atomics.notify(this.#words, Word.Signal);
  }

  // Worker's side.

  setRunning(on: boolean): void {
    Atomics.store(this.#words, Word.Running, on ? 1 : 0);
    if (on) Atomics.notify(this.#words, Word.Running);
  }

  /** The signal count, to be read before looking for work and given to `sleep` after none was found. */
  signalCount(): number {
    return Atomics.load(this.#words, Word.Signal);
  }

  /** Sleeps until a signal newer than `seen` or for `milliseconds` (may be Infinity). */
  sleep(seen: number, milliseconds: number): void {
    Atomics.wait(this.#words, Word.Signal, seen, milliseconds);
  }

  takeRequests(): number {
    return Atomics.exchange(this.#words, Word.Requests, 0);
  }

  consoleSize(): { columns: number; rows: number } {
    return { columns: Atomics.load(this.#words, Word.Columns), rows: Atomics.load(this.#words, Word.Rows) };
  }

  sysrqKey(): string {
    return String.fromCharCode(Atomics.load(this.#words, Word.SysrqKey));
  }

  /** A copy of the waiting input, at most `limit` bytes; it stays in the ring until `consumeInput`. */
  peekInput(limit: number): Uint8Array {
    const consumed = Atomics.load(this.#words, Word.InputConsumed);
    const count = Math.min(limit, (Atomics.load(this.#words, Word.InputProduced) - consumed) | 0);
    const bytes = new Uint8Array(count);
    for (let i = 0; i < count; i++) bytes[i] = this.#input[(consumed + i) & (INPUT_BYTES - 1)];
    return bytes;
  }

  consumeInput(count: number): void {
    Atomics.store(this.#words, Word.InputConsumed, (Atomics.load(this.#words, Word.InputConsumed) + count) | 0);
  }

  outputPosted(count: number): void {
    Atomics.add(this.#words, Word.OutputPending, count);
  }

  /** Sleeps while too much output is undelivered, at most `milliseconds`; true when output may go on. */
  awaitOutputRoom(milliseconds: number): boolean {
    const pending = Atomics.load(this.#words, Word.OutputPending);
    if (pending <= OUTPUT_LIMIT) return true;
    Atomics.wait(this.#words, Word.OutputPending, pending, milliseconds);
    return Atomics.load(this.#words, Word.OutputPending) <= OUTPUT_LIMIT;
  }
}
