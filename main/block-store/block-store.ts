// SPDX-License-Identifier: MIT
// The store of precompiled blocks on disk: what one run of a guest translated is there for the next, on this computer.
//
// A store is a directory of append-only segments. Every process appends to segments of its own, reads everybody's, and may remove
// any: nothing is ever overwritten, so processes cannot harm each other, and a crash costs at most the record being written.
import type { BlockStore } from '../../engine/host.ts';
import { StoreDirectory, defaultLibrary, systemEnvironment } from './directory.ts';
import type { StoreEnvironment, StoreIdentity, StoreLog } from './directory.ts';
import { MAX_KEY_BYTES } from './format.ts';
import { DirectSink, ThreadSink, closedSink } from './record-sink.ts';
import type { RecordSink } from './record-sink.ts';
import { readValue, readValues } from './segment-reader.ts';
import { readIndex } from './store-index.ts';
import type { IndexedSegment, IndexedValue, StoreIndex } from './store-index.ts';

export const DEFAULT_CAP_BYTES = 256 * 1024 * 1024;

export interface BlockStoreOptions extends Omit<StoreIdentity, 'directory'> {
  /** The library: the directory above those of engine versions. By default `blocks` in the user's cache. */
  directory?: string;
  /** What one engine version's store of one kind may take on disk, in bytes; 0 keeps it from being written. */
  capBytes?: number;
  /** Told, once, why the store cannot be read or written. */
  log?: StoreLog;
  /** 'direct' writes during `put`, for programs that have nothing better to do; a vCPU's thread must not wait for the disk. */
  writing?: 'background' | 'direct';
}

export interface BlockStoreStats {
  /** Values found at the start (and not found to be damaged since). */
  entries: number;
  /** Values of these that were of use (`get`, `touch`), each counted once. */
  hits: number;
  /** Values put because the store did not have them. */
  misses: number;
  /** Calls of `put`, and what became of them so far. */
  puts: number;
  written: number;
  writtenBytes: number;
  /** Put again as they are in the store; not written. */
  unchanged: number;
  /** Not written: the store is not writable, the value too large, there was no room, or too much was waiting. */
  refused: number;
  /** Bytes on disk, those of other processes included, as last measured. */
  bytes: number;
  /** Values this process removed to make room. */
  evictions: number;
  /** Damaged records, parts of records and segments met while reading. */
  damaged: number;
  /** Segments of other engine versions or kinds in this store's directory. */
  stale: number;
  /** Errors of the file system while writing. */
  writeErrors: number;
}

/** A use that the disk knows to be no longer ago is not noted again. */
const TOUCH_RESOLUTION_MS = 10 * 60 * 1000;
/** Touches are sent to be written when there are so many, or with the next value after so long: before it makes others go. */
const TOUCH_BATCH = 512;
const TOUCH_DELAY_MS = 10_000;
/** Between readings of the index that were caused by segments which other processes have replaced. */
const REREAD_MS = 60_000;

const HEXADECIMAL = /^[0-9a-fA-F]+$/;

/** Opens a store. Trouble with the disk is never an error: the store is then empty, or not written, and says so in the log. */
export function openBlockStore(options: BlockStoreOptions): DiskBlockStore {
  return openBlockStoreIn(systemEnvironment, options);
}

/** As `openBlockStore`, in another environment than the system's; that one is written directly only. */
export function openBlockStoreIn(environment: StoreEnvironment, options: BlockStoreOptions): DiskBlockStore {
  const { engineVersion, kind, capBytes = DEFAULT_CAP_BYTES, log = () => undefined } = options;
  const identity = { directory: options.directory ?? defaultLibrary(), engineVersion, kind };
  const directory = new StoreDirectory(identity, environment.files);
  const objection = directory.objection();
  if (objection !== null) {
    log('warn', `The block store "${directory.path}" is not used: ${objection}.`);
    return new DiskBlockStore(null, environment, closedSink);
  }
  const writerOptions = { ...identity, capBytes };
  const background = options.writing !== 'direct' && environment === systemEnvironment;
  const sink = background ? new ThreadSink(writerOptions, log) : new DirectSink(writerOptions, environment, log);
  return new DiskBlockStore(directory, environment, sink);
}

const emptyIndex = (): StoreIndex => ({ segments: [], values: new Map(), damaged: 0, stale: 0, bytes: 0 });

/** The values found when the store was opened, and a way to add to them for later runs. Made by `openBlockStore`. */
export class DiskBlockStore implements BlockStore {
  readonly #directory: StoreDirectory | null;
  readonly #environment: StoreEnvironment;
  readonly #sink: RecordSink;
  #index: StoreIndex;
  readonly #used = new Set<string>();
  #touches = new Map<string, number>();
  #touchesSentAt = -Infinity;
  #damagedValues = 0;
  #misses = 0;
  #puts = 0;
  #unchanged = 0;
  #refused = 0;
  #rereadAt: number;
  #closing: Promise<void> | null = null;

  constructor(directory: StoreDirectory | null, environment: StoreEnvironment, sink: RecordSink) {
    this.#directory = directory;
    this.#environment = environment;
    this.#sink = sink;
    this.#index = directory === null ? emptyIndex() : readIndex(directory, environment);
    this.#rereadAt = environment.now() + REREAD_MS;
  }

  /**
   * All intact values, segments with the most recently used ones first, read as the iteration gets there. Small values that are
   * neighbours share memory (128 KiB at most): who keeps few of many should copy them.
   */
  *entries(): Generator<readonly [key: string, value: Uint8Array]> {
    const bySegment = new Map<IndexedSegment, IndexedValue[]>();
    for (const value of this.#index.values.values()) {
      const values = bySegment.get(value.segment);
      if (values === undefined) bySegment.set(value.segment, [value]);
      else values.push(value);
    }
    const groups = [...bySegment].map(([segment, values]) => {
      values.sort((a, b) => a.offset - b.offset);
      return { segment, values, lastUse: values.reduce((latest, value) => Math.max(latest, value.lastUse), 0) };
    });
    groups.sort((a, b) => b.lastUse - a.lastUse);
    for (const { segment, values } of groups) yield* this.#intactValues(segment, values);
  }

  /** The keys for which there is, as far as their headers tell, a value. */
  keys(): Iterable<string> {
    return this.#index.values.keys();
  }

  /** There is, as far as its header tells, a value under the key. */
  has(key: string): boolean {
    return this.#index.values.has(key);
  }

  /** Reads and verifies one value, for those who need not have all of them in memory. Counts as a use. */
  get(key: string): Uint8Array | null {
    const value = this.#read(key);
    if (value !== null) this.touch(key);
    return value;
  }

  /** Throws RangeError when the key is not a hexadecimal string of at most 255 digits. The value is copied. */
  put(key: string, value: Uint8Array): void {
    if (!HEXADECIMAL.test(key) || key.length > MAX_KEY_BYTES) throw new RangeError(`"${key}" is not a key`);
    this.#puts++;
    const stored = this.#index.values.has(key) ? this.#read(key) : null;
    if (stored !== null && Buffer.compare(stored, value) === 0) {
      this.#unchanged++;
      this.touch(key);
      return;
    }
    if (stored === null) this.#misses++;
    if (this.#environment.now() - this.#touchesSentAt >= TOUCH_DELAY_MS) this.#sendTouches();
    if (this.#closing !== null || !this.#sink.put(key, new Uint8Array(value))) this.#refused++;
  }

  touch(key: string): void {
    const value = this.#index.values.get(key);
    if (value === undefined) return;
    this.#used.add(key);
    const now = this.#environment.now();
    if (now - value.lastUse <= TOUCH_RESOLUTION_MS) return;
    value.lastUse = now;
    this.#touches.set(key, now);
    if (this.#touches.size >= TOUCH_BATCH) this.#sendTouches();
  }

  stats(): BlockStoreStats {
    const { refused, bytes, ...written } = this.#sink.report();
    return {
      entries: this.#index.values.size,
      hits: this.#used.size,
      misses: this.#misses,
      puts: this.#puts,
      unchanged: this.#unchanged,
      ...written,
      refused: this.#refused + refused,
      bytes: bytes ?? this.#index.bytes,
      damaged: this.#index.damaged + this.#damagedValues,
      stale: this.#index.stale,
    };
  }

  /** Writes what is waiting. Values put after this are not kept. Never rejects. */
  close(): Promise<void> {
    if (this.#closing === null) {
      this.#sendTouches();
      this.#closing = this.#sink.close();
    }
    return this.#closing;
  }

  #sendTouches(): void {
    if (this.#touches.size === 0 || this.#closing !== null) return;
    this.#sink.touch(this.#touches);
    this.#touches = new Map();
    this.#touchesSentAt = this.#environment.now();
  }

  /** Null when there is no intact value. */
  #read(key: string): Uint8Array | null {
    const value = this.#index.values.get(key);
    if (value === undefined || this.#directory === null) return null;
    const { files } = this.#environment;
    let fd: number;
    try {
      fd = files.openSync(this.#directory.file(value.segment.name), 'r');
    } catch {
      return this.#reread() ? this.#read(key) : null;
    }
    try {
      return this.#verified(fd, value);
    } finally {
      files.closeSync(fd);
    }
  }

  /** Reads the index again: a segment is gone because its values were moved to another one. Not more often than once a minute. */
  #reread(): boolean {
    const now = this.#environment.now();
    if (this.#directory === null || now < this.#rereadAt) return false;
    this.#rereadAt = now + REREAD_MS;
    this.#index = readIndex(this.#directory, this.#environment);
    return true;
  }

  *#intactValues(segment: IndexedSegment, values: readonly IndexedValue[]): Generator<readonly [string, Uint8Array]> {
    if (this.#directory === null) return;
    const { files } = this.#environment;
    let fd: number;
    try {
      fd = files.openSync(this.#directory.file(segment.name), 'r');
    } catch {
      // Another process has moved its values; they are there for the next run.
      return;
    }
    try {
      for (const [value, found] of readValues(files, fd, values)) {
        if (found === null) this.#forget(value);
        else yield [value.key, found];
      }
    } catch (error) {
      // The rest of a segment that the disk does not give is as good as absent.
      if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    } finally {
      files.closeSync(fd);
    }
  }

  /** Reads a value from its segment; one that is damaged, or cannot be read, is forgotten. */
  #verified(fd: number, value: IndexedValue): Uint8Array | null {
    let found: Uint8Array | null = null;
    try {
      found = readValue(this.#environment.files, fd, value);
    } catch {
      // A disk that cannot read a file is no different from one that returns something else.
    }
    if (found === null) this.#forget(value);
    return found;
  }

  #forget({ key }: IndexedValue): void {
    this.#damagedValues++;
    this.#index.values.delete(key);
  }
}
