// SPDX-License-Identifier: MIT
// Where a store sends what is to be written: to a thread of its own, so that the vCPU's thread never waits for the disk, or directly.
import { MessageChannel, Worker, receiveMessageOnPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { systemEnvironment } from './directory.ts';
import type { StoreEnvironment, StoreLog } from './directory.ts';
import { StoreWriter, emptyReport } from './store-writer.ts';
import type { WriterOptions, WriterReport } from './store-writer.ts';

/** The writing half as the reading half sees it. No method throws. */
export interface RecordSink {
  /** Takes the value over. False when it cannot be taken because too much is waiting. */
  put(key: string, value: Uint8Array<ArrayBuffer>): boolean;
  /** Last uses of keys, in ms since 1970. */
  touch(uses: ReadonlyMap<string, number>): void;
  /** What is known to have happened until now. */
  report(): WriterReport;
  /** Resolves when everything taken is written. Nothing may be sent afterwards. */
  close(): Promise<void>;
}

/** Writes in the caller's thread. */
export class DirectSink implements RecordSink {
  readonly #writer: StoreWriter;

  constructor(options: WriterOptions, environment: StoreEnvironment, log: StoreLog) {
    this.#writer = new StoreWriter(options, environment, log);
  }

  put(key: string, value: Uint8Array): boolean {
    this.#writer.put(key, value);
    return true;
  }

  touch(uses: ReadonlyMap<string, number>): void {
    this.#writer.touch(uses);
  }

  report(): WriterReport {
    return this.#writer.report();
  }

  close(): Promise<void> {
    this.#writer.close();
    return Promise.resolve();
  }
}

/** For a store that must not be written. */
export const closedSink: RecordSink = {
  put: () => false,
  touch: () => undefined,
  report: emptyReport,
  close: () => Promise.resolve(),
};

/** Given to the writer thread at its start. */
export interface WriterThreadData {
  options: WriterOptions;
  port: MessagePort;
}

export type ToWriter =
  | { type: 'put'; key: string; value: Uint8Array<ArrayBuffer> }
  | { type: 'touch'; uses: ReadonlyMap<string, number> }
  | { type: 'close' };

export type FromWriter =
  /** `done`: bytes of values dealt with since the last report. */
  | { type: 'report'; done: number; report: WriterReport }
  | { type: 'log'; level: 'info' | 'warn' | 'error'; text: string };

/** Memory that waiting values may take. */
export const MAX_WAITING_BYTES = 16 * 1024 * 1024;
/** What a waiting value costs besides its bytes. */
export const WAITING_OVERHEAD_BYTES = 512;
/** A disk that does not answer must not keep a VM's process. */
const CLOSE_TIMEOUT_MS = 5000;

interface RunningThread {
  worker: Worker;
  port: MessagePort;
  /** Resolves when the thread is gone, for whatever reason. */
  ended: Promise<void>;
}

/**
 * Writes in a thread of its own, which is started by the first value. The caller's event loop may be blocked all the time (the vCPU's
 * thread hardly ever returns to its own): the thread's answers are picked up whenever the sink is called.
 */
export class ThreadSink implements RecordSink {
  readonly #options: WriterOptions;
  readonly #log: StoreLog;
  #thread: RunningThread | null = null;
  #canStart = true;
  #waitingBytes = 0;
  #report = emptyReport();
  readonly #uses = new Map<string, number>();

  constructor(options: WriterOptions, log: StoreLog) {
    this.#options = options;
    this.#log = log;
  }

  put(key: string, value: Uint8Array<ArrayBuffer>): boolean {
    if (!this.#canStart) return false;
    try {
      this.#thread ??= this.#start();
    } catch (error) {
      this.#canStart = false;
      this.#log('warn', `The block store is not written: its thread cannot be started (${String(error)}).`);
      return false;
    }
    this.#receive();
    const cost = value.length + WAITING_OVERHEAD_BYTES;
    if (this.#report.writeErrors > 0 || this.#waitingBytes + cost > MAX_WAITING_BYTES) return false;
    this.#waitingBytes += cost;
    this.#send({ type: 'put', key, value }, [value.buffer]);
    return true;
  }

  /** Touches alone are not worth a thread: without one they are kept until the end. */
  touch(uses: ReadonlyMap<string, number>): void {
    for (const [key, time] of uses) this.#uses.set(key, time);
    if (this.#thread !== null) this.#sendUses();
  }

  report(): WriterReport {
    this.#receive();
    return this.#report;
  }

  async close(): Promise<void> {
    if (this.#thread === null) {
      if (this.#uses.size === 0) return;
      const direct = new StoreWriter(this.#options, systemEnvironment, this.#log);
      direct.touch(this.#uses);
      direct.close();
      this.#report = direct.report();
      return;
    }
    const { worker, ended } = this.#thread;
    if (this.#uses.size > 0) this.#sendUses();
    this.#send({ type: 'close' });
    worker.ref();
    const timer = setTimeout(() => {
      this.#log('warn', 'Writing to the block store took too long and was given up.');
      void worker.terminate();
    }, CLOSE_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
    this.#receive();
    this.#thread.port.close();
  }

  #start(): RunningThread {
    const { port1, port2 } = new MessageChannel();
    const workerData: WriterThreadData = { options: this.#options, port: port2 };
    const worker = new Worker(new URL('./writer-thread.ts', import.meta.url), {
      workerData,
      transferList: [port2],
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 8 },
    });
    worker.on('error', (error) => this.#log('warn', `The block store's writer failed: ${String(error)}`));
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    worker.unref();
    port1.unref();
    return { worker, port: port1, ended };
  }

  #send(message: ToWriter, transfer: ArrayBuffer[] = []): void {
    this.#thread?.port.postMessage(message, transfer);
  }

  #sendUses(): void {
    this.#send({ type: 'touch', uses: new Map(this.#uses) });
    this.#uses.clear();
  }

  #receive(): void {
    if (this.#thread === null) return;
    for (;;) {
      const received = receiveMessageOnPort(this.#thread.port) as { message: FromWriter } | undefined;
      if (received === undefined) return;
      const { message } = received;
      if (message.type === 'log') {
        this.#log(message.level, message.text);
      } else {
        this.#waitingBytes -= message.done;
        this.#report = message.report;
      }
    }
  }
}
