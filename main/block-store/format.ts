// SPDX-License-Identifier: MIT
// The bytes of a segment file: a header that says whose it is, then records, each found and verified on its own.
//
// Segment header (44 bytes):  magic 8 | format version u32 | tag 16 | mark 8 | checksum 8 (of what is before it)
// Record:  mark 8 | checksum 8 (of everything after `crc`) | crc u32 (of everything after it, up to the value)
//          | type u16 | key length u16 | value length u32 | time f64 (ms since 1970) | key (latin1) | value
// Integers are little endian. A checksum is the first 64 bits of SHA-256; the CRC-32 makes it possible to walk over records and
// trust their keys without reading the values. The mark is random for every segment: after damage the next record is found by
// it, and a value, whatever a guest managed to put into it, cannot contain something that passes for a record.
import { hash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

const SEGMENT_MAGIC = Buffer.from('PVBLOCKS', 'latin1');
const FORMAT_VERSION = 1;
const TAG_BYTES = 16;
const CHECKSUM_BYTES = 8;

export const MARK_BYTES = 8;
export const SEGMENT_HEADER_BYTES = 44;
export const RECORD_HEADER_BYTES = 36;
/** What a segment takes besides its values: the header and the record of its end. */
export const SEGMENT_OVERHEAD_BYTES = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES;
export const MAX_KEY_BYTES = 255;
/** No record has a longer value; what claims to be longer is damaged. */
export const MAX_VALUE_BYTES = 16 * 1024 * 1024;

const VERSION_AT = 8;
const TAG_AT = 12;
const SEGMENT_MARK_AT = TAG_AT + TAG_BYTES;
const SEGMENT_CHECKSUM_AT = SEGMENT_MARK_AT + MARK_BYTES;

const CHECKSUM_AT = 8;
const CRC_AT = 16;
const TYPE_AT = 20;
const KEY_LENGTH_AT = 22;
const VALUE_LENGTH_AT = 24;
const TIME_AT = 28;

export const RecordType = {
  /** A key and its value. */
  Value: 1,
  /** No key; the value is a list of touches. */
  Touches: 2,
  /** No key, no value: the segment is complete, nobody appends to it any more. */
  End: 3,
} as const;
export type RecordType = (typeof RecordType)[keyof typeof RecordType];

/** What a record says about itself before its value is read. */
export interface RecordHeader {
  type: RecordType;
  key: string;
  valueLength: number;
  /** When the value was put or last known to be used, in ms since 1970. */
  time: number;
}

/** The last use of a key. The key is only known by its CRC-32: a collision makes a value live longer than it should, no more. */
export interface Touch {
  keyCrc: number;
  time: number;
}

const TOUCH_BYTES = 12;

/** Names what the values of a store depend on; segments with another tag are not read. */
export function storeTag(engineVersion: string, kind: string): Buffer {
  return hash('sha256', `${engineVersion}\0${kind}`, 'buffer').subarray(0, TAG_BYTES);
}

const checksum = (bytes: Uint8Array): Buffer => hash('sha256', bytes, 'buffer').subarray(0, CHECKSUM_BYTES);

/** A header for a new segment, with a mark of its own. */
export function encodeSegmentHeader(tag: Buffer): { header: Buffer; mark: Buffer } {
  const header = Buffer.alloc(SEGMENT_HEADER_BYTES);
  const mark = randomBytes(MARK_BYTES);
  SEGMENT_MAGIC.copy(header);
  header.writeUInt32LE(FORMAT_VERSION, VERSION_AT);
  tag.copy(header, TAG_AT);
  mark.copy(header, SEGMENT_MARK_AT);
  checksum(header.subarray(0, SEGMENT_CHECKSUM_AT)).copy(header, SEGMENT_CHECKSUM_AT);
  return { header, mark };
}

/** The mark of the segment that begins with these bytes; 'stale' when it belongs to another engine, 'damaged' when it is no segment. */
export function parseSegmentHeader(header: Buffer, tag: Buffer): Buffer | 'stale' | 'damaged' {
  if (header.length < SEGMENT_HEADER_BYTES || !header.subarray(0, SEGMENT_MAGIC.length).equals(SEGMENT_MAGIC)) {
    return 'damaged';
  }
  const stored = header.subarray(SEGMENT_CHECKSUM_AT, SEGMENT_HEADER_BYTES);
  if (!checksum(header.subarray(0, SEGMENT_CHECKSUM_AT)).equals(stored)) return 'damaged';
  if (header.readUInt32LE(VERSION_AT) !== FORMAT_VERSION) return 'stale';
  if (!header.subarray(TAG_AT, TAG_AT + TAG_BYTES).equals(tag)) return 'stale';
  return Buffer.from(header.subarray(SEGMENT_MARK_AT, SEGMENT_MARK_AT + MARK_BYTES));
}

/** Bytes a record takes. */
export const recordBytes = (keyLength: number, valueLength: number): number =>
  RECORD_HEADER_BYTES + keyLength + valueLength;

export function encodeRecord(mark: Buffer, type: RecordType, key: string, value: Uint8Array, time: number): Buffer {
  const record = Buffer.allocUnsafe(recordBytes(key.length, value.length));
  const valueAt = RECORD_HEADER_BYTES + key.length;
  mark.copy(record);
  record.writeUInt16LE(type, TYPE_AT);
  record.writeUInt16LE(key.length, KEY_LENGTH_AT);
  record.writeUInt32LE(value.length, VALUE_LENGTH_AT);
  record.writeDoubleLE(time, TIME_AT);
  record.write(key, RECORD_HEADER_BYTES, 'latin1');
  record.set(value, valueAt);
  record.writeUInt32LE(crc32(record.subarray(TYPE_AT, valueAt)), CRC_AT);
  checksum(record.subarray(TYPE_AT)).copy(record, CHECKSUM_AT);
  return record;
}

/** The length of the key of the record that seems to begin here, or -1. Needs RECORD_HEADER_BYTES. */
export function keyLengthOf(record: Buffer, mark: Buffer): number {
  if (mark.compare(record, 0, MARK_BYTES) !== 0) return -1;
  const keyLength = record.readUInt16LE(KEY_LENGTH_AT);
  return keyLength <= MAX_KEY_BYTES ? keyLength : -1;
}

/** The header of a record of which at least the key is there (`keyLengthOf`); null when it is damaged. */
export function parseRecordHeader(record: Buffer, keyLength: number): RecordHeader | null {
  const valueAt = RECORD_HEADER_BYTES + keyLength;
  if (crc32(record.subarray(TYPE_AT, valueAt)) !== record.readUInt32LE(CRC_AT)) return null;
  const type = record.readUInt16LE(TYPE_AT);
  const valueLength = record.readUInt32LE(VALUE_LENGTH_AT);
  const time = record.readDoubleLE(TIME_AT);
  if (type !== RecordType.Value && type !== RecordType.Touches && type !== RecordType.End) return null;
  if (valueLength > MAX_VALUE_BYTES || !Number.isFinite(time)) return null;
  return { type, key: record.toString('latin1', RECORD_HEADER_BYTES, valueAt), valueLength, time };
}

/** The value of a whole record, a view of it; null unless the record is `key`'s and intact. */
export function verifiedValue(record: Buffer, key: string): Buffer | null {
  const stored = record.subarray(CHECKSUM_AT, CHECKSUM_AT + CHECKSUM_BYTES);
  if (!checksum(record.subarray(TYPE_AT)).equals(stored)) return null;
  const valueAt = RECORD_HEADER_BYTES + key.length;
  return record.toString('latin1', RECORD_HEADER_BYTES, valueAt) === key ? record.subarray(valueAt) : null;
}

/** How touches name a key. */
export const keyCrc = (key: string): number => crc32(key);

export function encodeTouches(touches: readonly Touch[]): Buffer {
  const value = Buffer.allocUnsafe(touches.length * TOUCH_BYTES);
  touches.forEach((touch, i) => {
    value.writeUInt32LE(touch.keyCrc, i * TOUCH_BYTES);
    value.writeDoubleLE(touch.time, i * TOUCH_BYTES + 4);
  });
  return value;
}

export function* decodeTouches(value: Buffer): Generator<Touch> {
  for (let at = 0; at + TOUCH_BYTES <= value.length; at += TOUCH_BYTES) {
    const time = value.readDoubleLE(at + 4);
    if (Number.isFinite(time)) yield { keyCrc: value.readUInt32LE(at), time };
  }
}
