// SPDX-License-Identifier: MIT
// Appends records to segments that belong to this process alone: each is created by it, and only it ever writes there.
import type { StoreDirectory, StoreFiles } from './directory.ts';
import { RecordType, SEGMENT_HEADER_BYTES, encodeRecord, encodeSegmentHeader } from './format.ts';

interface OpenSegment {
  /** The name it has in the end. */
  name: string;
  fd: number;
  mark: Buffer;
  /** Bytes that are completely written. */
  size: number;
}

export interface SegmentWriterOptions {
  /** A segment is not continued beyond this. */
  segmentBytes: number;
  /** What is written replaces other segments: it gets its name only when it is sealed, and until then nobody reads it. */
  compacting: boolean;
}

/** A stream of records into one segment after another. Errors of the file system are thrown, and leave whole records only. */
export class SegmentWriter {
  readonly #files: StoreFiles;
  readonly #directory: StoreDirectory;
  readonly #options: SegmentWriterOptions;
  #segment: OpenSegment | null = null;

  constructor(files: StoreFiles, directory: StoreDirectory, options: SegmentWriterOptions) {
    this.#files = files;
    this.#directory = directory;
    this.#options = options;
  }

  /** True when a record of this size would not go into the segment that is open. */
  isFull(bytes: number): boolean {
    return this.#segment !== null && this.#segment.size + bytes > this.#options.segmentBytes;
  }

  /** Writes one record; returns the bytes that the store grew by. */
  append(type: RecordType, key: string, value: Uint8Array, time: number): number {
    // Whoever makes room may remove any segment, and on a removed one every further record would be lost.
    if (this.#segment !== null && this.#files.fstatSync(this.#segment.fd).nlink === 0) this.#close();
    const created = this.#segment === null;
    const segment = (this.#segment ??= this.#create());
    const record = encodeRecord(segment.mark, type, key, value, time);
    this.#write(segment, record);
    return record.length + (created ? SEGMENT_HEADER_BYTES : 0);
  }

  /** Ends the open segment, if there is one; returns the bytes it grew by. One made by compacting is on the disk then, under its name. */
  seal(): number {
    const segment = this.#segment;
    if (segment === null) return 0;
    const end = encodeRecord(segment.mark, RecordType.End, '', new Uint8Array(0), 0);
    try {
      this.#write(segment, end);
      // What it replaces is removed next: that must not reach the disk before this does.
      if (this.#options.compacting) this.#files.fdatasyncSync(segment.fd);
    } catch (error) {
      this.abandon();
      throw error;
    }
    this.#close();
    if (this.#options.compacting) {
      const temporary = this.#directory.temporaryName(segment.name);
      try {
        this.#files.renameSync(this.#directory.file(temporary), this.#directory.file(segment.name));
      } catch (error) {
        this.#directory.remove(temporary);
        throw error;
      }
    }
    return end.length;
  }

  /** Gives the open segment up: closes it, and removes it when it is temporary. Never throws. */
  abandon(): void {
    const segment = this.#segment;
    if (segment === null) return;
    try {
      this.#close();
    } catch {
      // The descriptor is gone either way.
    }
    if (this.#options.compacting) this.#directory.remove(this.#directory.temporaryName(segment.name));
  }

  #path(name: string): string {
    return this.#directory.file(this.#options.compacting ? this.#directory.temporaryName(name) : name);
  }

  #create(): OpenSegment {
    const name = this.#directory.newSegmentName();
    const open = (): number => this.#files.openSync(this.#path(name), 'wx', 0o600);
    let fd: number;
    try {
      fd = open();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      this.#directory.create();
      fd = open();
    }
    const { header, mark } = encodeSegmentHeader(this.#directory.tag);
    const segment = { name, fd, mark, size: 0 };
    try {
      this.#write(segment, header);
    } catch (error) {
      this.#files.closeSync(fd);
      this.#directory.remove(this.#options.compacting ? this.#directory.temporaryName(name) : name);
      throw error;
    }
    return segment;
  }

  #write(segment: OpenSegment, bytes: Buffer): void {
    try {
      for (let at = 0; at < bytes.length;) {
        const count = this.#files.writeSync(segment.fd, bytes, at, bytes.length - at, segment.size + at);
        if (count === 0) throw Object.assign(new Error('nothing could be written'), { code: 'ENOSPC' });
        at += count;
      }
      segment.size += bytes.length;
    } catch (error) {
      try {
        this.#files.ftruncateSync(segment.fd, segment.size);
      } catch {
        // A part of a record at the end is recognised as such by every reader.
      }
      throw error;
    }
  }

  #close(): void {
    const segment = this.#segment;
    this.#segment = null;
    if (segment !== null) this.#files.closeSync(segment.fd);
  }
}
