// SPDX-License-Identifier: MIT
// The writing half of a store: appends values and touches, keeps the store below its cap, and stops for good at the first error.
import { StoreDirectory, isSegmentName } from './directory.ts';
import type { StoreEnvironment, StoreIdentity, StoreLog } from './directory.ts';
import {
  MAX_KEY_BYTES,
  MAX_VALUE_BYTES,
  RecordType,
  SEGMENT_OVERHEAD_BYTES,
  encodeTouches,
  keyCrc,
  recordBytes,
} from './format.ts';
import { maintain } from './maintenance.ts';
import { removeOtherVersions } from './other-versions.ts';
import { SegmentWriter } from './segment-writer.ts';

export interface WriterOptions extends StoreIdentity {
  capBytes: number;
}

/** What the writing half has done so far. */
export interface WriterReport {
  /** Values that were written, and their bytes with everything around them. */
  written: number;
  writtenBytes: number;
  /** Values that were not written: the store is not writable, or there was no room. */
  refused: number;
  /** Values removed to make room. */
  evictions: number;
  /** Errors of the file system; there is no further attempt after one. */
  writeErrors: number;
  /** Bytes of the store on disk as last measured, all processes' segments included; null while nothing was measured. */
  bytes: number | null;
}

export const emptyReport = (): WriterReport => ({
  written: 0,
  writtenBytes: 0,
  refused: 0,
  evictions: 0,
  writeErrors: 0,
  bytes: null,
});

const MAX_SEGMENT_BYTES = 16 * 1024 * 1024;
/** A full store has about this many segments: the smaller they are, the less is copied in vain. */
const SEGMENTS_PER_STORE = 16;
/** With more files than this, the small ones are put together. */
const MAX_SEGMENTS = 48;
/** After this share of the cap, the writer looks what other processes have written. */
const MEASURE_SHARE = 1 / 16;
/** A value larger than this share of the cap would push out too much else. */
const MAX_VALUE_SHARE = 1 / 8;
/** Between attempts to make room when one did not help. */
const RETRY_MS = 10_000;

/** Synchronous; runs in the writer thread, or in a thread that may wait for the disk. Its methods never throw. */
export class StoreWriter {
  readonly #directory: StoreDirectory;
  readonly #environment: StoreEnvironment;
  readonly #log: StoreLog;
  readonly #capBytes: number;
  readonly #segmentBytes: number;
  readonly #segments: SegmentWriter;
  readonly #report = emptyReport();
  #bytes = 0;
  #segmentCount = 0;
  #unmeasured = Infinity;
  #lastTime = 0;
  #retryAt = -Infinity;
  #stopped = false;

  constructor(options: WriterOptions, environment: StoreEnvironment, log: StoreLog) {
    const { files } = environment;
    this.#directory = new StoreDirectory(options, files);
    this.#environment = environment;
    this.#log = log;
    this.#capBytes = options.capBytes;
    this.#segmentBytes = Math.min(MAX_SEGMENT_BYTES, Math.floor(options.capBytes / SEGMENTS_PER_STORE));
    this.#segments = new SegmentWriter(files, this.#directory, { segmentBytes: this.#segmentBytes, compacting: false });
  }

  put(key: string, value: Uint8Array): void {
    if (!this.#append(RecordType.Value, key, value)) this.#report.refused++;
  }

  /** Notes the last use of keys, in ms since 1970. */
  touch(uses: ReadonlyMap<string, number>): void {
    const touches = [...uses].map(([key, time]) => ({ keyCrc: keyCrc(key), time }));
    this.#append(RecordType.Touches, '', encodeTouches(touches));
  }

  close(): void {
    if (this.#stopped) return;
    try {
      this.#grow(this.#segments.seal());
      this.#stopped = true;
    } catch (error) {
      this.#stop(error as NodeJS.ErrnoException);
    }
  }

  report(): WriterReport {
    return { ...this.#report };
  }

  /** False when the record was not written. */
  #append(type: RecordType, key: string, value: Uint8Array): boolean {
    const bytes = recordBytes(key.length, value.length);
    if (this.#stopped || key.length > MAX_KEY_BYTES || value.length > MAX_VALUE_BYTES) return false;
    if (bytes > this.#capBytes * MAX_VALUE_SHARE) return false;
    try {
      if (!this.#makeRoom(bytes)) return false;
      if (this.#segments.isFull(bytes)) this.#grow(this.#segments.seal());
      const grown = this.#segments.append(type, key, value, this.#nextTime());
      this.#grow(grown);
      if (type === RecordType.Value) {
        this.#report.written++;
        this.#report.writtenBytes += grown;
      }
      return true;
    } catch (error) {
      this.#stop(error as NodeJS.ErrnoException);
      return false;
    }
  }

  /** Later than everything written before, so that the order of puts within a millisecond is kept. */
  #nextTime(): number {
    this.#lastTime = Math.max(this.#environment.now(), this.#lastTime + 1 / 1024);
    return this.#lastTime;
  }

  #makeRoom(bytes: number): boolean {
    if (this.#unmeasured > this.#capBytes * MEASURE_SHARE) this.#measure();
    const fits = (): boolean => this.#bytes + bytes + SEGMENT_OVERHEAD_BYTES <= this.#capBytes;
    if ((!fits() || this.#segmentCount > MAX_SEGMENTS) && this.#environment.now() >= this.#retryAt) {
      this.#segments.seal();
      const limits = { capBytes: this.#capBytes, segmentBytes: this.#segmentBytes };
      this.#report.evictions += maintain(this.#directory, this.#environment, limits) ?? 0;
      this.#measure();
      const helped = fits() && this.#segmentCount <= MAX_SEGMENTS;
      if (!helped) this.#retryAt = this.#environment.now() + RETRY_MS;
    }
    return fits();
  }

  #grow(bytes: number): void {
    this.#bytes += bytes;
    this.#unmeasured += bytes;
    this.#report.bytes = this.#bytes;
  }

  #measure(): void {
    if (this.#unmeasured === Infinity) {
      this.#directory.create();
      removeOtherVersions(this.#directory, this.#environment, this.#capBytes);
    }
    const listed = this.#directory.list();
    this.#bytes = listed.reduce((sum, { size }) => sum + size, 0);
    this.#segmentCount = listed.filter(({ name }) => isSegmentName(name)).length;
    this.#unmeasured = 0;
    this.#report.bytes = this.#bytes;
  }

  #stop(error: NodeJS.ErrnoException): void {
    this.#stopped = true;
    this.#segments.abandon();
    this.#report.writeErrors++;
    const reason = error.code ?? error.message;
    this.#log('warn', `The block store "${this.#directory.path}" is not written any more (${reason}).`);
  }
}
