// SPDX-License-Identifier: MIT
// Reads segments: finds their intact records in one pass over the headers, and single values with verification.
import type { StoreFiles } from './directory.ts';
import {
  MARK_BYTES,
  MAX_KEY_BYTES,
  RECORD_HEADER_BYTES,
  RecordType,
  SEGMENT_HEADER_BYTES,
  decodeTouches,
  keyLengthOf,
  parseRecordHeader,
  parseSegmentHeader,
  recordBytes,
  verifiedValue,
} from './format.ts';
import type { Touch } from './format.ts';

/** A value whose header is intact; the value itself is verified when it is read. */
export interface FoundValue {
  key: string;
  /** Of the record in the segment. */
  offset: number;
  /** Of the whole record. */
  bytes: number;
  time: number;
}

export interface SegmentScan {
  /** What the segment's own header says; only 'intact' ones have records. */
  state: 'intact' | 'stale' | 'damaged';
  /** Bytes when it was scanned; its writer may have appended since. */
  size: number;
  values: FoundValue[];
  touches: Touch[];
  /** Its writer has said that this is all. */
  complete: boolean;
  /** Places where something other than an intact header was found. */
  damaged: number;
}

/** Small records are walked over within a window of this size ... */
const WINDOW_BYTES = 64 * 1024;
/** ... and values larger than this are skipped: only what may be the next header is read. */
const SKIPPED_BYTES = 8 * 1024;
/** Values close to each other are read at once, up to so many bytes. */
const BATCH_BYTES = 128 * 1024;

/** Reads `length` bytes at `offset`, fewer at the end of the file. */
export function readAt(files: StoreFiles, fd: number, into: Buffer, offset: number, length: number): number {
  let count = 0;
  while (count < length) {
    const read = files.readSync(fd, into, count, length - count, offset + count);
    if (read === 0) break;
    count += read;
  }
  return count;
}

/** A file seen through a buffer, for reading forwards in small steps. */
class FileWindow {
  readonly #files: StoreFiles;
  readonly #fd: number;
  readonly #buffer: Buffer;
  #start = 0;
  #length = 0;

  constructor(files: StoreFiles, fd: number, buffer: Buffer) {
    this.#files = files;
    this.#fd = fd;
    this.#buffer = buffer;
  }

  /**
   * A view, valid until the next call, of the bytes from `offset` on: at least `length`, fewer at the end of the file. When they have to
   * be read, `ahead` bytes are read (at most WINDOW_BYTES).
   */
  from(offset: number, length: number, ahead = WINDOW_BYTES): Buffer {
    if (offset < this.#start || offset + length > this.#start + this.#length) {
      this.#start = offset;
      this.#length = readAt(this.#files, this.#fd, this.#buffer, offset, ahead);
    }
    return this.#buffer.subarray(offset - this.#start, this.#length);
  }
}

/** Makes the buffer for `scanSegment`, which may serve many calls. */
export const scanBuffer = (): Buffer => Buffer.allocUnsafeSlow(WINDOW_BYTES);

/** Finds the records of a segment; null when it is gone or cannot be read. */
export function scanSegment(files: StoreFiles, file: string, tag: Buffer, buffer: Buffer): SegmentScan | null {
  let fd: number;
  try {
    fd = files.openSync(file, 'r');
  } catch {
    return null;
  }
  try {
    const { size } = files.fstatSync(fd);
    const window = new FileWindow(files, fd, buffer);
    const scan: SegmentScan = { state: 'intact', size, values: [], touches: [], complete: false, damaged: 0 };
    const mark = parseSegmentHeader(window.from(0, SEGMENT_HEADER_BYTES), tag);
    if (typeof mark === 'string') return { ...scan, state: mark, damaged: mark === 'damaged' ? 1 : 0 };
    for (let offset = SEGMENT_HEADER_BYTES; offset < size;) {
      const end = scanRecord(files, fd, window, offset, mark, scan);
      if (end === null) scan.damaged++;
      offset = end ?? findMark(window, offset + 1, size, mark);
    }
    return scan;
  } catch {
    return null;
  } finally {
    files.closeSync(fd);
  }
}

/** Adds the record at `offset` to the scan and returns where it ends; null when there is no intact header, or not all of the value. */
function scanRecord(
  files: StoreFiles,
  fd: number,
  window: FileWindow,
  offset: number,
  mark: Buffer,
  scan: SegmentScan,
): number | null {
  const ahead = (scan.values.at(-1)?.bytes ?? 0) > SKIPPED_BYTES ? RECORD_HEADER_BYTES + MAX_KEY_BYTES : WINDOW_BYTES;
  let view = window.from(offset, RECORD_HEADER_BYTES, ahead);
  if (view.length < RECORD_HEADER_BYTES) return null;
  const keyLength = keyLengthOf(view, mark);
  if (keyLength < 0) return null;
  view = window.from(offset, RECORD_HEADER_BYTES + keyLength);
  if (view.length < RECORD_HEADER_BYTES + keyLength) return null;
  const header = parseRecordHeader(view, keyLength);
  if (header === null) return null;
  const { type, key, valueLength, time } = header;
  const bytes = recordBytes(keyLength, valueLength);
  if (offset + bytes > scan.size) return null;
  if (type === RecordType.Value) {
    scan.values.push({ key, offset, bytes, time });
  } else {
    const value = readValue(files, fd, { key, offset, bytes });
    if (value === null) scan.damaged++;
    else if (type === RecordType.End) scan.complete = true;
    else for (const touch of decodeTouches(value)) scan.touches.push(touch);
  }
  return offset + bytes;
}

/** The offset of the next mark at or after `offset`, or the end of the segment. */
function findMark(window: FileWindow, offset: number, size: number, mark: Buffer): number {
  while (offset + MARK_BYTES <= size) {
    const view = window.from(offset, MARK_BYTES);
    const found = view.indexOf(mark);
    if (found >= 0) return offset + found;
    if (view.length < MARK_BYTES) break;
    offset += view.length - MARK_BYTES + 1;
  }
  return size;
}

/** Reads one value, into memory of its own, and verifies it; null when it is damaged. Throws the system's error when it cannot be read. */
export function readValue(
  files: StoreFiles,
  fd: number,
  { key, offset, bytes }: Pick<FoundValue, 'key' | 'offset' | 'bytes'>,
): Buffer | null {
  // Memory of its own, not a part of a pool: who keeps the value keeps nothing else.
  const record = Buffer.allocUnsafeSlow(bytes);
  if (readAt(files, fd, record, offset, bytes) < bytes) return null;
  return verifiedValue(record, key);
}

/**
 * Reads and verifies many values, given in the order of their offsets; null for each that is damaged. Small neighbours share memory, at
 * most BATCH_BYTES. Throws the system's error when the file cannot be read.
 */
export function* readValues<Value extends FoundValue>(
  files: StoreFiles,
  fd: number,
  values: readonly Value[],
): Generator<readonly [Value, Buffer | null]> {
  for (let first = 0, next = 0; first < values.length; first = next) {
    const start = values[first].offset;
    let end = start;
    do end = values[next].offset + values[next].bytes;
    while (++next < values.length && values[next].offset + values[next].bytes - start <= BATCH_BYTES);
    const batch = Buffer.allocUnsafeSlow(end - start);
    const count = readAt(files, fd, batch, start, end - start);
    for (const value of values.slice(first, next)) {
      const at = value.offset - start;
      const there = at + value.bytes <= count;
      yield [value, there ? verifiedValue(batch.subarray(at, at + value.bytes), value.key) : null];
    }
  }
}
