// SPDX-License-Identifier: MIT
// The xenstore wire protocol: message types, error names, limits, headers (public/io/xs_wire.h, docs/misc/xenstore.txt).

/** Message types. */
export const Xs = {
  control: 0,
  directory: 1,
  read: 2,
  getPerms: 3,
  watch: 4,
  unwatch: 5,
  transactionStart: 6,
  transactionEnd: 7,
  introduce: 8,
  release: 9,
  getDomainPath: 10,
  write: 11,
  mkdir: 12,
  rm: 13,
  setPerms: 14,
  watchEvent: 15,
  error: 16,
  isDomainIntroduced: 17,
  resume: 18,
  setTarget: 19,
  resetWatches: 21,
  directoryPart: 22,
} as const;

const NAMES = new Map<number, string>(Object.entries(Xs).map(([name, type]) => [type, name]));

/** Name of a message type, for counters. */
export function messageName(type: number): string {
  return NAMES.get(type) ?? 'unknown';
}

/** Errors that travel as text in a message of type `error`. */
export type StoreErrorName =
  'EINVAL' | 'EACCES' | 'EEXIST' | 'ENOENT' | 'ENOSPC' | 'ENOSYS' | 'EBUSY' | 'EAGAIN' | 'E2BIG' | 'EPERM';

/** A refused store operation. `name` is what the guest is told. */
export class StoreError extends Error {
  readonly errno: StoreErrorName;
  constructor(errno: StoreErrorName, what: string) {
    super(`${errno}: ${what}`);
    this.name = 'StoreError';
    this.errno = errno;
  }
}

/** Bytes in a message header: type, req_id, tx_id, len, each u32. */
export const HEADER_BYTES = 16;
/** Longest payload of a message. */
export const MAX_PAYLOAD = 4096;
/** Longest absolute path. */
export const MAX_ABSOLUTE_PATH = 3072;
/** Longest relative path. */
export const MAX_RELATIVE_PATH = 2048;

/** A message in either direction. */
export interface Message {
  readonly type: number;
  readonly requestId: number;
  readonly transactionId: number;
  readonly payload: Uint8Array;
}

/** Header and payload as sent. */
export function encodeMessage(message: Message): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + message.payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, message.type, true);
  view.setUint32(4, message.requestId, true);
  view.setUint32(8, message.transactionId, true);
  view.setUint32(12, message.payload.length, true);
  bytes.set(message.payload, HEADER_BYTES);
  return bytes;
}

/** Text to bytes, one byte per character: paths, tokens and values are byte strings (Latin-1 keeps them exact). */
export function toBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Bytes to text, one character per byte. */
export function toText(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return text;
}

/** NUL-terminated strings of a request; -EINVAL when the payload does not end with NUL. */
export function splitStrings(payload: Uint8Array): string[] {
  if (payload.length === 0 || payload[payload.length - 1] !== 0)
    throw new StoreError('EINVAL', 'payload is not NUL terminated');
  return toText(payload.subarray(0, payload.length - 1)).split('\0');
}

/** The strings, each followed by NUL. */
export function joinStrings(strings: readonly string[]): Uint8Array {
  return toBytes(strings.map((s) => `${s}\0`).join(''));
}
